package run

import (
	"context"
	"strings"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/pipeline/language"
	"github.com/dime-bus/dime/pipeline/run/codec"
	"github.com/dime-bus/dime/pipeline/step"
)

// doubtOf says what becomes of an effect without an answer: it rests until it can
// be resolved, or parks where nothing can resolve it (semantics 7).
func (x *exec) doubtOf(s *language.Step, path string) func(*fault.Error) (step.Outcome, error) {
	return func(flt *fault.Error) (step.Outcome, error) {
		return x.inDoubt(s.Operation, path, "doubt", x.patience(), flt)
	}
}

func (x *exec) patience() time.Duration {
	if p := x.p.route.Patience; p > 0 {
		return p
	}
	return 24 * time.Hour
}

// inDoubt lets the run rest on the ladder over an unanswered effect. word is
// "doubt", or "undo" while undoing.
func (x *exec) inDoubt(op *connectors.Operation, path, word string, patience time.Duration, flt *fault.Error) (step.Outcome, error) {
	x.doubt.Store(true)
	if !op.Keyed && op.FoundBy == "" {
		x.add(&entry{kind: store.Rest, path: path, at: x.now(), flt: flt, fault: faultWord(flt),
			x: map[string]any{"why": word, "rung": 0, "since": codec.Millis(x.now())}})
		e := parked("unknown", path)
		e.Ending.Doubt = true
		return e, nil
	}
	if out, ok := x.heldBack(path, word, flt); ok {
		return out, nil
	}
	n, since := x.rungs(path, word)
	wake := x.rung(n)
	if op.FoundBy != "" && n == 0 {
		// A frozen sender may still be sending until the give-up instant.
		if at := x.lastGiveUp(path, word).Add(x.e.cfg.FoundBySlack); at.After(x.now()) {
			wake = at
		}
	}
	wake, over := x.within(wake, since, patience)
	if over {
		e := parked("unknown", path)
		e.Ending.Doubt = true
		return e, nil
	}
	x.add(&entry{kind: store.Rest, path: path, at: x.now(), flt: flt, fault: faultWord(flt),
		x: map[string]any{"why": word, "rung": n + 1, "since": codec.Millis(since), "wake": codec.Millis(wake)}})
	return step.Outcome{Kind: step.Rest, Wake: wake}, nil
}

// lastGiveUp is the give-up instant of the path's latest intent.
func (x *exec) lastGiveUp(path, word string) time.Time {
	kind := store.Intent
	if word == "undo" {
		kind = store.UndoIntent
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := len(x.log) - 1; i >= 0; i-- {
		if n := x.log[i]; n.path == path && n.kind == kind {
			return codec.Instant(n.x["until"])
		}
	}
	return time.Time{}
}

// rungs counts the rests of a path on the ladder since its last other record.
func (x *exec) rungs(path, word string) (n int, since time.Time) {
	since = x.now()
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := len(x.log) - 1; i >= 0; i-- {
		e := x.log[i]
		if act := e.str("act"); e.kind == store.Person && act != "" && act != "cancel" {
			break // a person began it anew
		}
		if e.kind == store.Rest && e.path == path && e.str("why") == word {
			return e.num("rung"), codec.Instant(e.x["since"])
		}
	}
	return 0, since
}

// rung is the instant of the ladder's n-th wait, jittered by a tenth.
func (x *exec) rung(n int) time.Time {
	l := x.e.cfg.Ladder
	d := l[min(n, len(l)-1)]
	return x.now().Add(d + time.Duration(x.e.cfg.Random()*float64(d)/10))
}

// within brings a rung before the end of patience: the last try is made there.
func (x *exec) within(wake, since time.Time, patience time.Duration) (time.Time, bool) {
	end := since.Add(patience)
	if !x.now().Before(end) {
		return wake, true
	}
	if wake.After(end) {
		wake = end
	}
	return wake, false
}

// resolveDoubt settles an intent without outcome (semantics 7): found_by is
// asked, a keyed effect is sent again, anything else parks.
func (x *exec) resolveDoubt(ctx context.Context, full string, op *connectors.Operation, path string, m *memory, doubt func(*fault.Error) (step.Outcome, error)) (step.Outcome, error) {
	in := m.intent
	args, _ := in.in.(map[string]any)
	if args == nil {
		args = map[string]any{}
	}
	if op.FoundBy != "" {
		at := codec.Instant(in.x["until"]).Add(x.e.cfg.FoundBySlack)
		if at.After(x.now()) {
			x.doubt.Store(true)
			return step.Outcome{Kind: step.Rest, Wake: at}, nil
		}
		v, flt := x.find(ctx, full, op, in.str("key"), args)
		switch {
		case flt == nil:
			x.owe(&entry{kind: store.OutcomeRec, path: path, round: in.round, at: x.now(), value: v, hasValue: true,
				x: map[string]any{"found": true}})
			return step.Outcome{Value: v}, nil
		case flt.Kind != fault.NotFound:
			return doubt(flt)
		}
		return x.resend(ctx, full, op, path, in, args, doubt, true)
	}
	if op.Keyed {
		return x.resend(ctx, full, op, path, in, args, doubt, false)
	}
	x.doubt.Store(true)
	e := parked("unknown", path)
	e.Ending.Doubt = true
	return e, nil
}

// find asks the operation that tells whether the effect happened.
func (x *exec) find(ctx context.Context, full string, op *connectors.Operation, key string, args map[string]any) (any, *fault.Error) {
	conn, _, _ := strings.Cut(full, ".")
	by := x.operation(conn, op.FoundBy)
	if by == nil {
		return nil, fault.New(fault.Internal, "%s names %s as found_by, which does not exist", full, op.FoundBy)
	}
	t := x.trip(conn+"."+by.Name, by, 0, 0, args)
	t.call.Key = key
	leave, flt := x.guard(ctx, t)
	var v any
	if flt == nil {
		v, flt = x.attempt(ctx, t, leave)
	}
	if flt == nil && op.Out != nil {
		if vs := op.Out.Validate(v); len(vs) > 0 {
			return nil, &fault.Error{Kind: fault.Contract, Pointer: vs[0].Pointer,
				Detail: t.full + " does not answer the result of " + full + ": at " + quote(vs[0].Pointer) + " " + vs[0].Message}
		}
	}
	return v, flt
}

func (x *exec) operation(conn, name string) *connectors.Operation {
	for _, c := range []*language.City{x.e.City(), x.p.city} {
		if c == nil {
			continue
		}
		for _, op := range c.Connectors[conn].Operations {
			if op.Name == name {
				return op
			}
		}
	}
	return nil
}

// resend sends the journaled arguments again under the same key. surely says
// that the effect surely did not happen; then it is a fresh attempt with an
// intent of its own. Otherwise only an answer is an outcome: a refusal to take
// the request says nothing about the first sending.
func (x *exec) resend(ctx context.Context, full string, op *connectors.Operation, path string, in *entry, args map[string]any, doubt func(*fault.Error) (step.Outcome, error), surely bool) (step.Outcome, error) {
	t := x.trip(full, op, 0, 0, args)
	t.call.Key = in.str("key")
	leave, refused := x.guard(ctx, t)
	if refused != nil {
		return doubt(refused)
	}
	t.call.GiveUp = x.giveUp(t)
	if surely {
		n := x.intent(in.kind, path, t)
		n.round = in.round
		if err := x.commit(x.running(), "", time.Time{}, n); err != nil {
			leave(nil)
			return step.Outcome{}, err
		}
	}
	v, flt := x.attempt(ctx, t, leave)
	if err := x.torn(flt); err != nil {
		return step.Outcome{}, err
	}
	if flt != nil && (flt.Kind == fault.Unknown || !surely && flt.Kind.Row().Transient) {
		return doubt(flt)
	}
	n := &entry{kind: store.OutcomeRec, path: path, round: in.round, at: x.now(), attempts: t.n, took: t.took}
	if in.kind == store.UndoIntent {
		n.kind = store.UndoOutcome
	}
	if flt != nil {
		n.flt, n.fault = flt, faultWord(flt)
		x.owe(n)
		if flt.Kind == fault.Contract && n.kind == store.OutcomeRec {
			return parked("contract", path), nil
		}
		return failing(flt), nil
	}
	n.value, n.hasValue = v, true
	x.owe(n)
	return step.Outcome{Value: v}, nil
}

// running is the state of a commit that keeps the run with its owner.
func (x *exec) running() store.State {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.state == store.Undoing {
		return store.Undoing
	}
	return store.Running
}

// Defer implements step.Effects: the step runs again after 5 s, 30 s, 5 min, then
// hourly, for `patience` (semantics 3).
func (x *exec) Defer(_ context.Context, s *language.Step, path string, flt *fault.Error) (step.Outcome, error) {
	if x.e.ctx.Err() != nil {
		return step.Outcome{}, errStopped
	}
	if out, ok := x.heldBack(path, "defer", flt); ok {
		return out, nil
	}
	n, since := x.rungs(path, "defer")
	wake := x.rung(n)
	if flt.RetryAfter > 0 {
		if at := x.now().Add(flt.RetryAfter); at.After(wake) {
			wake = at
		}
	}
	wake, over := x.within(wake, since, x.patience())
	if over {
		e := failing(flt)
		e.Ending.Path = path
		return e, nil
	}
	x.e.cfg.Observer.Deferred(x.p.route.Name, s.Target)
	x.add(&entry{kind: store.Rest, path: path, at: x.now(), flt: flt, fault: faultWord(flt),
		x: map[string]any{"why": "defer", "rung": n + 1, "since": codec.Millis(since), "wake": codec.Millis(wake)}})
	return step.Outcome{Kind: step.Rest, Wake: wake}, nil
}
