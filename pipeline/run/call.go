package run

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/pipeline/language"
	"github.com/dime-bus/dime/pipeline/run/codec"
	"github.com/dime-bus/dime/pipeline/run/paused"
	"github.com/dime-bus/dime/pipeline/step"
)

// trip is one call of an operation with all its attempts.
type trip struct {
	full     string // "connector.operation"
	op       *connectors.Operation
	timeout  time.Duration
	attempts int
	backoff  time.Duration
	call     connectors.Call
	again    func(*fault.Error) bool // another attempt is allowed after this fault

	n    int // attempts made
	took time.Duration
}

func failing(f *fault.Error) step.Outcome {
	return step.Outcome{Kind: step.End, Ending: &step.Ending{Fault: f}}
}

func (x *exec) trip(full string, op *connectors.Operation, timeout time.Duration, retry int, args map[string]any) *trip {
	t := &trip{full: full, op: op, call: connectors.Call{Args: args, Run: x.publicID()}}
	p := op.Policy.Within(timeout, retry)
	t.timeout, t.attempts, t.backoff = p.Timeout, p.Attempts, p.Backoff
	switch {
	case op.Effect == connectors.Safe:
		t.again = func(f *fault.Error) bool { return f.Kind.Row().Transient }
	case op.Keyed && op.FoundBy != "":
		// found_by is asked before any further attempt (semantics 7).
		t.again = func(f *fault.Error) bool { return f.Kind.Row().Transient }
	case op.Keyed:
		t.again = func(f *fault.Error) bool { return f.Kind.Row().Transient || f.Kind == fault.Unknown }
	default:
		t.again = func(*fault.Error) bool { return false }
		t.attempts = 1
	}
	return t
}

// span is the longest that all attempts of t can take.
func (t *trip) span() time.Duration {
	return time.Duration(t.attempts)*t.timeout + time.Duration(t.attempts-1)*5*time.Second
}

// guard enters the backend's limiter and breaker.
func (x *exec) guard(ctx context.Context, t *trip) (func(error), *fault.Error) {
	name, _, _ := strings.Cut(t.full, ".")
	if x.e.cfg.Guards == nil {
		return func(error) {}, nil
	}
	g := x.e.cfg.Guards(name)
	if g == nil {
		return func(error) {}, nil
	}
	patience := time.Duration(0)
	if x.isDurable() {
		patience = time.Millisecond // Enter's least; who has no caller comes again by the ladder
		if left, ok := x.timeLeft(); ok {
			patience = max(left, patience)
		}
	}
	leave, err := g.Enter(ctx, t.op, patience)
	if err != nil {
		f := *fault.From(err)
		f.Sent = false
		if !f.Until.IsZero() {
			f.Err = paused.By(name)
		}
		if f.Kind == fault.Internal {
			f.Kind = fault.Unavailable
		}
		return nil, &f
	}
	return leave, nil
}

// attempt makes t's attempts; leave is of the guard that was entered for the
// first. The fault of an effect that may have reached the far side is unknown.
func (x *exec) attempt(ctx context.Context, t *trip, leave func(error)) (any, *fault.Error) {
	begin := x.now()
	defer func() { t.took = x.now().Sub(begin) }()
	effect := t.op.Effect != connectors.Safe
	var inDoubt *fault.Error // an earlier attempt may have been carried out
	for {
		if err := x.holds(); err != nil {
			leave(context.Canceled) // it tells nothing of the far side
			x.cancel(err)
			return nil, pick(inDoubt, fault.New(fault.Unavailable, "the run was no longer this process's when %s was to be called", t.full))
		}
		timeout := t.timeout
		if left, ok := x.timeLeft(); ok {
			if left <= 0 {
				leave(nil)
				return nil, pick(inDoubt, fault.New(fault.Timeout, "no time was left for %s", t.full))
			}
			timeout = min(timeout, left)
		}
		if !t.call.GiveUp.IsZero() {
			timeout = min(timeout, t.call.GiveUp.Sub(x.now()))
			if timeout <= 0 {
				leave(nil)
				return nil, pick(inDoubt, fault.New(fault.Unavailable, "no time was left for %s", t.full))
			}
		}
		t.n++
		t.call.Attempt = t.n
		v, flt := x.once(ctx, t, timeout, leave)
		if flt == nil {
			return v, nil
		}
		if effect && flt.Kind == fault.Unknown {
			inDoubt = flt
		}
		if inDoubt != nil && flt.Kind.Row().Transient {
			flt = inDoubt // a later refusal says nothing about the earlier attempt
		}
		if t.n >= t.attempts || !t.again(flt) || ctx.Err() != nil {
			return nil, flt
		}
		d := t.backoff << (t.n - 1)
		d = min(d, 5*time.Second)
		d = d/2 + time.Duration(x.e.cfg.Random()*float64(d/2))
		if flt.RetryAfter > 5*time.Second {
			return nil, flt // not now: the ladder or the caller comes again
		}
		d = max(d, flt.RetryAfter)
		if left, ok := x.timeLeft(); ok && left <= d {
			return nil, flt // the deadline leaves no room for another
		}
		if err := clock.Sleep(ctx, x.e.clock, d); err != nil {
			return nil, flt
		}
		next, refused := x.guard(ctx, t)
		if refused != nil {
			return nil, flt // a breaker that opens between attempts ends them
		}
		leave = next
	}
}

func pick(a, b *fault.Error) *fault.Error {
	if a != nil {
		return a
	}
	return b
}

// once makes one attempt and brings its error into the engine's words.
func (x *exec) once(ctx context.Context, t *trip, timeout time.Duration, leave func(error)) (v any, flt *fault.Error) {
	begin := x.now()
	actx, cancel := x.e.within(ctx, timeout)
	defer func() {
		cancel()
		if r := recover(); r != nil {
			x.e.log.Error("a connector panicked", "operation", t.full, "panic", fmt.Sprintf("%T", r), "stack", string(debug.Stack()))
			flt = &fault.Error{Kind: fault.Internal, Sent: true}
			if t.op.Effect != connectors.Safe {
				flt.Kind = fault.Unknown
			}
		}
		if flt != nil {
			leave(flt)
		} else {
			leave(nil)
		}
		x.e.cfg.Observer.Attempt(t.full, faultWord(flt), x.now().Sub(begin))
	}()
	var err error
	switch {
	case x.e.cfg.Do != nil:
		v, err = x.e.cfg.Do(actx, t.full, t.op, t.call)
	case t.op.Do == nil:
		return nil, fault.New(fault.Unavailable, "%s is not connected", t.full)
	default:
		v, err = t.op.Do(actx, t.call)
	}
	if err == nil {
		return v, x.contract(t, v)
	}
	return nil, normal(t.op, err, actx.Err() != nil)
}

// normal: an effect that was sent and got no answer ends as unknown, never as
// timeout; one that was surely not sent is unavailable (semantics 3.2, 3.3).
func normal(op *connectors.Operation, err error, late bool) *fault.Error {
	effect := op.Effect != connectors.Safe
	var f *fault.Error
	if !errors.As(err, &f) {
		f = &fault.Error{Kind: fault.Internal, Sent: true, Err: err}
		if late || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			f.Kind = fault.Timeout
		}
		if effect {
			f.Kind = fault.Unknown
		}
		return f
	}
	if effect && f.Kind == fault.Timeout {
		g := *f
		g.Kind = fault.Unavailable
		if f.Sent {
			g.Kind = fault.Unknown
		}
		return &g
	}
	return f
}

// contract checks an answer against the output schema (semantics 3.5).
func (x *exec) contract(t *trip, v any) *fault.Error {
	if flt := step.Fitting(v, "the answer of "+t.full); flt != nil {
		return &fault.Error{Kind: fault.Contract, Sent: true, Detail: flt.Detail}
	}
	if t.op.Out == nil || t.op.Checked && x.e.cfg.Do == nil { // a stand-in for Do checks nothing
		return nil
	}
	vs := t.op.Out.Validate(v)
	if len(vs) == 0 {
		return nil
	}
	raw, _ := codec.Append(nil, v)
	return &fault.Error{Kind: fault.Contract, Sent: true, Pointer: vs[0].Pointer, Raw: raw,
		Detail: t.full + " answered what its description does not allow: at " + quote(vs[0].Pointer) + " " + vs[0].Message}
}

func quote(s string) string { return `"` + s + `"` }

// Call implements step.Effects.
func (x *exec) Call(ctx context.Context, f *step.Frame, s *language.Step, path string, args map[string]any, m *step.Memory) (step.Outcome, error) {
	if s.Operation.Effect == connectors.Safe {
		return x.safeCall(ctx, s, path, args)
	}
	if m != nil && m.Failed != nil {
		if m.Failed.Kind == fault.Contract {
			return parked("contract", path), nil
		}
		return failing(m.Failed), nil
	}
	if m != nil && m.Begun {
		return x.resolveDoubt(x.ctx, s.Target, s.Operation, path, x.mem.at(path), x.doubtOf(s, path))
	}
	t := x.trip(s.Target, s.Operation, s.Timeout, s.Retry, args)
	leave, refused := x.guard(ctx, t)
	if refused != nil {
		return failing(refused), nil // no attempt, no intent
	}
	t.call.Key = x.key(path)
	t.call.GiveUp = x.giveUp(t)
	if !x.e.cfg.UnsafeNoIntent {
		if err := x.commit(store.Running, "", time.Time{}, x.intent(store.Intent, path, t)); err != nil {
			leave(nil)
			return step.Outcome{}, err
		}
	} else if err := x.commit(store.Running, "", time.Time{}, &entry{kind: store.Accepted, at: x.now()}); err != nil {
		leave(nil)
		return step.Outcome{}, err
	}
	return x.send(s.Target, path, t, leave, x.doubtOf(s, path))
}

func (x *exec) safeCall(ctx context.Context, s *language.Step, path string, args map[string]any) (step.Outcome, error) {
	if err := x.flush(); err != nil {
		return step.Outcome{}, err
	}
	t := x.trip(s.Target, s.Operation, s.Timeout, s.Retry, args)
	leave, flt := x.guard(ctx, t)
	var v any
	if flt == nil {
		v, flt = x.attempt(ctx, t, leave)
	}
	if err := x.ctx.Err(); err != nil && flt != nil {
		return step.Outcome{}, x.gone()
	}
	if flt != nil {
		x.lines(path, t, args, flt)
		return failing(flt), nil
	}
	in := any(args)
	if step.Fitting([]any{v, args}, "") != nil {
		in = nil // both in one record are too much; the timeline can do without them
	}
	x.Note(step.Note{Path: path, Value: v, HasValue: true, In: in, Attempts: t.n, Took: t.took})
	return step.Outcome{Value: v}, nil
}

// lines keeps a failed safe call for the timeline; it is not a result.
func (x *exec) lines(path string, t *trip, args map[string]any, flt *fault.Error) {
	x.add(&entry{kind: store.OutcomeRec, path: path, at: x.now(), fault: faultWord(flt), flt: flt, in: args,
		attempts: t.n, took: t.took, x: map[string]any{"safe": true}})
}

// key is the effect's key of this round: stable over crashes and attempts.
func (x *exec) key(path string) string {
	return x.e.store.Key("run", x.publicID(), path, itoa(x.round(path)))
}

func (x *exec) round(path string) int {
	if x.mem == nil {
		return 1
	}
	return x.mem.round(path)
}

// giveUp is the instant after which nobody waits for the effect's answer.
func (x *exec) giveUp(t *trip) time.Time {
	d := t.span()
	if left, ok := x.timeLeft(); ok {
		d = min(d, max(left, 0))
	}
	return x.now().Add(d)
}

func (x *exec) intent(kind store.Kind, path string, t *trip) *entry {
	return &entry{kind: kind, path: path, round: x.round(path), at: x.now(), in: t.call.Args,
		x: map[string]any{"key": t.call.Key, "until": codec.Millis(t.call.GiveUp), "target": t.full}}
}

// holds makes sure of 2 s of lease right before a request leaves, or of half a
// lease where that is less (semantics 11.4). A process that was frozen may own
// nothing any more when it goes on; what it can't renew it must not use.
func (x *exec) holds() (err error) {
	left := func() time.Duration {
		x.mu.Lock()
		defer x.mu.Unlock()
		return x.lease.Left(x.now())
	}
	least := min(2*time.Second, x.e.cfg.LeaseFor/2)
	if !x.fenced.Load() && left() < least {
		if err = x.e.renew([]*exec{x}); err == nil && left() < least {
			err = errors.New("it ended meanwhile")
		}
	}
	switch {
	case x.fenced.Load():
		return store.ErrFenced
	case err != nil:
		return &errJournal{fmt.Errorf("%w: %w", errLease, err)}
	}
	return nil
}

// torn says why a run may not use what a call came to, nil if it may: another
// process owns it, its lease could not be renewed, or the engine stops.
func (x *exec) torn(flt *fault.Error) error {
	switch cause := context.Cause(x.ctx); {
	case x.fenced.Load():
		return store.ErrFenced
	case errors.Is(cause, errLease):
		return cause
	case x.e.ctx.Err() != nil && flt != nil:
		return errStopped
	}
	return nil
}

// send makes an effect's attempts and records the outcome.
func (x *exec) send(full, path string, t *trip, leave func(error), doubt func(*fault.Error) (step.Outcome, error)) (step.Outcome, error) {
	// Effects are awaited whatever becomes of a branch: only the run's own context
	// ends them.
	v, flt := x.attempt(x.ctx, t, leave)
	if err := x.torn(flt); err != nil {
		return step.Outcome{}, err
	}
	n := &entry{kind: store.OutcomeRec, path: path, round: x.round(path), at: x.now(), attempts: t.n, took: t.took}
	switch {
	case flt == nil:
		n.value, n.hasValue = v, true
		x.owe(n)
		return step.Outcome{Value: v}, nil
	case flt.Kind == fault.Unknown:
		return doubt(flt)
	case flt.Kind == fault.Contract:
		n.flt, n.fault = flt, faultWord(flt)
		x.owe(n)
		return parked("contract", path), nil
	}
	n.flt, n.fault = flt, faultWord(flt)
	x.owe(n)
	return failing(flt), nil
}

// owe keeps an outcome that should not wait for something slow.
func (x *exec) owe(n *entry) {
	x.mu.Lock()
	x.log = append(x.log, n)
	x.owed = len(x.log)
	x.mu.Unlock()
}

func parked(reason, path string) step.Outcome {
	return step.Outcome{Kind: step.End, Ending: &step.Ending{End: language.Park, Reason: reason, Path: path}}
}

// within bounds ctx by the engine's clock.
func (e *Engine) within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if e.real {
		return context.WithTimeout(ctx, d)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	stop := e.clock.At(e.clock.Now().Add(d), func() {
		cancel(context.DeadlineExceeded)
		<-ended // the alarm counts until whoever was cut off is counted again
	})
	return ctx, sync.OnceFunc(func() { stop(); cancel(nil); close(ended) })
}
