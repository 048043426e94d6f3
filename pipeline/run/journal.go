package run

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/pipeline/run/codec"
	"github.com/dime-bus/dime/pipeline/step"
)

// entry is one record of a run, before and after it is in the journal. Values
// are kept as they are: they are encoded only if the run ever commits.
type entry struct {
	kind     store.Kind
	path     string
	round    int
	at       time.Time
	fault    string
	value    any
	hasValue bool
	in       any
	attempts int
	took     time.Duration
	flt      *fault.Error
	x        map[string]any // what only some kinds have

	wait   *store.Wait
	unwait bool
	outbox []store.Outbox
	taken  int64
}

// body is the record's canonical JSON.
func (n *entry) body() ([]byte, error) {
	m := make(map[string]any, len(n.x)+4)
	for k, v := range n.x {
		m[k] = v
	}
	if n.hasValue {
		m["v"] = n.value
	}
	if n.in != nil {
		m["in"] = n.in
	}
	if n.attempts > 0 {
		m["n"] = n.attempts
	}
	if n.took > 0 {
		m["took"] = int(n.took)
	}
	if n.flt != nil {
		m["flt"] = codec.Fault(n.flt)
	}
	if len(m) == 0 {
		return nil, nil
	}
	return codec.Append(nil, m)
}

func (n *entry) record() (store.Record, error) {
	b, err := n.body()
	if err != nil {
		return store.Record{}, err
	}
	return store.Record{Kind: n.kind, Path: n.path, Round: n.round, At: n.at, Fault: n.fault, Body: b,
		Wait: n.wait, Unwait: n.unwait, Outbox: n.outbox, Taken: n.taken}, nil
}

// entryOf reads a record back.
func entryOf(r store.Record) (*entry, error) {
	n := &entry{kind: r.Kind, path: r.Path, round: r.Round, at: r.At, fault: r.Fault, x: map[string]any{}}
	v, err := codec.Decode(r.Body)
	if err != nil {
		return nil, fmt.Errorf("reading record %s of %q: %w", r.Kind, r.Path, err)
	}
	m, _ := v.(map[string]any)
	for k, v := range m {
		switch k {
		case "v":
			n.value, n.hasValue = v, true
		case "in":
			n.in = v
		case "n":
			n.attempts, _ = v.(int)
		case "took":
			d, _ := v.(int)
			n.took = time.Duration(d)
		case "flt":
			n.flt = codec.FaultOf(v)
		default:
			n.x[k] = v
		}
	}
	return n, nil
}

func (n *entry) str(k string) string { s, _ := n.x[k].(string); return s }
func (n *entry) num(k string) int    { i, _ := n.x[k].(int); return i }

// words is a list of strings, as kept in memory or read back.
func (n *entry) words(k string) ([]string, bool) {
	switch l := n.x[k].(type) {
	case []string:
		return l, true
	case []any:
		out := make([]string, 0, len(l))
		for _, v := range l {
			if s, ok := v.(string); ok {
				out = append(out, s)
			}
		}
		return out, true
	}
	return nil, false
}

func (n *entry) flag(k string) bool { b, _ := n.x[k].(bool); return b }

func faultWord(f *fault.Error) string {
	switch {
	case f == nil:
		return ""
	case f.Name != "":
		return f.Name
	}
	return string(f.Kind)
}

// Control errors pass through all blocks of a walk; none of them is a fault.
var (
	errStopped   = errors.New("the engine stopped")
	errDropped   = errors.New("the caller left before the first commit")
	errCancelled = errors.New("a person cancelled the run")
	errQueued    = errors.New("an earlier run of the order key is alive")
	errHandBack  = errors.New("the process drains")
	errLease     = errors.New("renewing the lease")
	errLong      = errors.New("the run has too many records")
)

// errJournal wraps a commit that failed: the run is dropped from memory, and
// claimed again when its lease is over.
type errJournal struct{ err error }

func (e *errJournal) Error() string { return "committing to the journal: " + e.err.Error() }
func (e *errJournal) Unwrap() error { return e.err }

// add keeps records in memory.
func (x *exec) add(ns ...*entry) {
	x.mu.Lock()
	x.log = append(x.log, ns...)
	x.mu.Unlock()
}

// Note implements step.Effects.
func (x *exec) Note(n step.Note) {
	e := &entry{kind: store.Result, path: n.Path, at: x.now(), value: n.Value, hasValue: n.HasValue,
		in: n.In, attempts: n.Attempts, took: n.Took}
	if n.Joined {
		e.kind = store.Joined
	}
	if n.Failed != nil {
		e.flt, e.fault = n.Failed, faultWord(n.Failed)
	}
	switch {
	case n.Skip:
		e.x = map[string]any{"skip": true}
	case n.HasCase:
		e.x = map[string]any{"case": n.Case}
	case n.HasList:
		e.x = map[string]any{"list": n.List}
	case n.Winners != nil:
		e.x = map[string]any{"winners": n.Winners}
	case len(n.At) > 0:
		e.x = map[string]any{"at": n.At}
	}
	x.add(e)
}

// commit makes everything in memory durable, with the state. The first commit
// accepts the run. With state Running it returns early if another branch's
// commit carried the records already.
func (x *exec) commit(s store.State, reason string, wake time.Time, ns ...*entry) error {
	x.mu.Lock()
	x.log = append(x.log, ns...)
	target := len(x.log)
	x.mu.Unlock()
	x.commitMu.Lock()
	defer x.commitMu.Unlock()
	x.mu.Lock()
	stored := s == store.Running && wake.IsZero() && x.committed >= target
	x.mu.Unlock()
	if stored {
		return nil
	}
	return x.commitHeld(s, reason, wake)
}

// commitHeld is commit of all that is pending; x.commitMu is held.
func (x *exec) commitHeld(s store.State, reason string, wake time.Time) error {
	x.mu.Lock()
	pend := x.log[x.committed:len(x.log):len(x.log)]
	target := len(x.log)
	if !x.durable && x.dropped {
		x.mu.Unlock()
		return errDropped
	}
	x.accepting = true // from here on the caller's leaving drops nothing
	first := !x.durable
	lease := x.lease
	if s == store.Waiting && x.act.Load() != nil && !x.passed.Load() {
		wake = x.now() // a cancel came behind the run's last look: it takes effect although the process ends here
	}
	x.mu.Unlock()
	if x.fenced.Load() {
		return store.ErrFenced
	}

	rs, err := records(pend)
	if err != nil {
		return &errJournal{err}
	}
	kind := store.Accepted
	if len(pend) > 0 {
		kind = pend[len(pend)-1].kind
	}
	begin := x.e.clock.Now()
	x.e.probe("before", first, pend...)
	ctx := context.WithoutCancel(x.ctx)
	if first {
		err = x.accept(ctx, s, reason, wake, rs)
	} else {
		err = x.e.store.Append(ctx, lease, s, reason, wake, rs...)
	}
	if err != nil && !errors.Is(err, errQueued) {
		var dup *store.Duplicate
		if errors.As(err, &dup) || errors.Is(err, store.ErrFenced) || errors.Is(err, store.ErrQueueFull) {
			return err
		}
		return &errJournal{err}
	}
	x.e.probe("after", first, pend...)
	x.e.cfg.Observer.Commit(string(kind), x.e.clock.Now().Sub(begin))
	x.mu.Lock()
	x.committed = target
	x.state, x.reason = s, reason
	x.mu.Unlock()
	return err
}

func records(ns []*entry) ([]store.Record, error) {
	rs := make([]store.Record, 0, len(ns))
	for _, n := range ns {
		r, err := n.record()
		if err != nil {
			return nil, err
		}
		rs = append(rs, r)
	}
	return rs, nil
}

// keep has a run that was never durable stored behind its answer: without its
// `once` key, for a repeat runs again.
func (x *exec) keep(v verdict) *atomic.Bool {
	rs, err := records(append(slices.Clone(x.log), x.endEntry(v)))
	if err != nil {
		return nil
	}
	head, err := x.head.Encode()
	if err != nil {
		return nil
	}
	return x.e.behind.Put(store.Run{ID: x.id, Version: x.p.route.Digest, Route: x.p.route.Name, State: v.state, Reason: v.reason,
		Priority: x.p.route.Priority, Subjects: x.subjects, Head: head, Ended: x.now()}, rs)
}

// accept is the run's first commit.
func (x *exec) accept(ctx context.Context, s store.State, reason string, wake time.Time, rs []store.Record) error {
	head, err := x.head.Encode()
	if err != nil {
		return err
	}
	r := store.Run{ID: x.id, Version: x.p.route.Digest, Route: x.p.route.Name, State: s, Reason: reason,
		Priority: x.p.route.Priority, OrderKey: x.orderKey, Subjects: x.subjects, Due: wake, Head: head, Ack: x.ack}
	if x.onceKey != "" {
		r.Once = &store.Once{Scope: x.onceScope, Key: x.onceKey, BodyHash: x.bodyHash, Until: x.now().AddDate(0, 0, 7)}
	}
	if s.Ended() {
		r.Ended = x.now()
	}
	stored, lease, err := x.e.store.Accept(ctx, r, rs...)
	if err != nil {
		return err
	}
	x.mu.Lock()
	x.durable, x.lease, x.started = true, lease, stored.Started
	x.mu.Unlock()
	x.e.live.own(x)
	if stored.State == store.Queued && s == store.Running {
		return errQueued
	}
	return nil
}

// Accept implements step.Effects: reading run.accepted_at makes the run durable.
func (x *exec) Accept(_ context.Context, f *step.Frame) error {
	if !x.isDurable() {
		if err := x.commit(store.Running, "", time.Time{}, &entry{kind: store.Accepted, at: x.now()}); err != nil {
			return err
		}
	}
	f.Env.Vars["run"] = x.runVar()
	return nil
}

// flush commits an outcome that is owed before something slow begins (semantics
// 6: "the outcome rides with the next intent or end if that follows at once").
func (x *exec) flush() error {
	x.mu.Lock()
	owed := x.durable && x.owed > x.committed
	x.mu.Unlock()
	if !owed {
		return nil
	}
	return x.commit(store.Running, "", time.Time{})
}

func (x *exec) isDurable() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.durable
}
