package run

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/pipeline/language"
	"github.com/dime-bus/dime/pipeline/run/codec"
	"github.com/dime-bus/dime/pipeline/step"
)

// armed is an effect that may have to be undone, with what its undo sees.
type armed struct {
	f    *step.Frame
	s    *language.Step
	path string
	m    *memory
	seq  int // of its intent: undo goes in reverse order of the intents (7.3)
}

// collector walks a run's records for what must be undone; it executes nothing.
type collector struct {
	*exec
	ix    *memories
	armed []*armed
	root  *step.Frame
	pass  bool
}

func (c *collector) Between(context.Context) error             { return nil }
func (c *collector) Recall(path string) *step.Memory           { return c.ix.recall(path) }
func (c *collector) Collecting() bool                          { return true }
func (c *collector) Note(step.Note)                            {}
func (c *collector) Accept(context.Context, *step.Frame) error { return nil }
func (c *collector) Passed(string)                             { c.pass = true }
func (c *collector) Fork(n int, fn func(int))                  { fn(0) }

func (c *collector) Call(_ context.Context, _ *step.Frame, _ *language.Step, path string, _ map[string]any, m *step.Memory) (step.Outcome, error) {
	if m != nil && m.Failed != nil {
		if m.Failed.Kind == fault.Contract {
			return parked("contract", path), nil
		}
		return failing(m.Failed), nil
	}
	return step.Outcome{Kind: step.Rest}, nil
}

func (c *collector) Arm(f *step.Frame, s *language.Step, path string, _ *step.Memory) {
	m := c.ix.at(path)
	c.armed = append(c.armed, &armed{f, s, path, m, m.seq})
}

// collect gathers what the run did, latest first, and whether it passed a commit.
func (x *exec) collect() ([]*armed, *collector, error) {
	x.mu.Lock()
	log := slices.Clone(x.log)
	x.mu.Unlock()
	c := &collector{exec: x, ix: remember(log)}
	c.root = x.frame(c)
	c.root.Fx = c
	if _, err := x.p.steps.Run(x.ctx, c.root); err != nil {
		return nil, nil, err
	}
	slices.SortStableFunc(c.armed, func(a, b *armed) int { return cmp.Compare(b.seq, a.seq) })
	c.armed = slices.DeleteFunc(c.armed, func(a *armed) bool {
		return a.m.undone || a.s.Undo == nil || a.s.Undo.None != "" ||
			a.m.failed != nil && a.m.failed.Kind != fault.Contract
	})
	return c.armed, c, nil
}

// undoAll undoes everything, then ends the run as its undoing began.
func (x *exec) undoAll() error {
	x.mu.Lock()
	x.state = store.Undoing
	x.mu.Unlock()
	as, c, err := x.collect()
	if err != nil {
		return err
	}
	for _, a := range as {
		out, err := x.undoOne(c, a)
		if err != nil {
			return err
		}
		switch out.Kind {
		case step.Rest:
			return x.commit(store.Undoing, x.restReason("undo deferred"), out.Wake)
		case step.End:
			return x.stuck(a.path, out.Ending)
		}
	}
	final, reason := c.ix.final()
	n := &entry{kind: store.End, at: x.now(), x: map[string]any{"state": string(final), "reason": reason}}
	n.outbox = x.lifeEvent(final, reason)
	if err := x.commit(final, reason, time.Time{}, n); err != nil {
		return err
	}
	x.finished(final)
	return nil
}

// stuck parks a run whose undo cannot go on: what was done earlier waits behind
// it (semantics 7.4).
func (x *exec) stuck(path string, e *step.Ending) error {
	reason := "undoing"
	if e != nil && e.Doubt {
		reason = "unknown"
	}
	n := &entry{kind: store.End, path: path, at: x.now(), x: map[string]any{"state": string(store.Parked), "reason": reason, "stuck": true}}
	if e != nil && e.Fault != nil {
		n.flt, n.fault = e.Fault, faultWord(e.Fault)
	}
	n.outbox = x.lifeEvent(store.Parked, reason)
	if err := x.commit(store.Parked, reason, time.Time{}, n); err != nil {
		return err
	}
	x.finished(store.Parked)
	return nil
}

// undoOne undoes one effect. Go means that it is settled, Rest that it waits on
// the ladder, End that a person must look.
func (x *exec) undoOne(c *collector, a *armed) (step.Outcome, error) {
	own := a.m.value
	if a.m.begun && !a.m.done && a.m.failed == nil {
		// Unknown is resolved first: only what happened is undone.
		out, err := x.resolveDoubt(x.ctx, a.s.Target, a.s.Operation, a.path, a.m, x.doubtOf(a.s, a.path))
		if err != nil || out.Kind == step.Rest {
			return out, err
		}
		if out.Kind == step.End {
			if out.Ending.Fault != nil {
				return step.Outcome{}, nil //nolint:nilerr // it surely did not happen: there is nothing to undo
			}
			return out, nil
		}
		own = out.Value
	}
	if in := a.m.undoIntent; in != nil {
		// A crash or a time-out left an undo without outcome.
		out, err := x.resolveDoubt(x.ctx, a.s.Undo.Target, a.s.Undo.Operation, a.path, &memory{intent: in}, x.undoDoubt(a))
		return x.undoEnded(a, out, err)
	}
	env := *a.f.Env
	env.Vars = make(map[string]any, len(c.root.Env.Vars)+len(a.f.Env.Vars)+1)
	for k, v := range c.root.Env.Vars {
		env.Vars[k] = v // `if` sees every name of the run, as optional
	}
	for k, v := range a.f.Env.Vars {
		env.Vars[k] = v
	}
	if a.s.As != "" {
		env.Vars[a.s.As] = own
	}
	u := a.s.Undo
	if u.If != nil {
		v, err := u.If.Eval(&env)
		if err != nil {
			return failing(fault.From(err)), nil
		}
		if v != true {
			x.add(&entry{kind: store.UndoOutcome, path: a.path, round: a.m.round, at: x.now(), x: map[string]any{"skip": true}})
			return step.Outcome{}, nil
		}
	}
	w, err := u.With.Eval(&env)
	if err != nil {
		return failing(fault.From(err)), nil
	}
	args, _ := w.(map[string]any)
	if args == nil {
		args = map[string]any{}
	}
	if u.EventType != "" {
		return x.unsay(a, u, args)
	}
	if flt := step.Fits(u.Operation.In, args, "`undo` of "+a.path); flt != nil {
		return failing(flt), nil
	}
	return x.undoCall(a, u, args)
}

// unsay publishes the opposite of what was said (semantics 7.6).
func (x *exec) unsay(a *armed, u *language.Undo, args map[string]any) (step.Outcome, error) {
	body, err := codec.Append(nil, args)
	if err != nil {
		return step.Outcome{}, err
	}
	n := &entry{kind: store.UndoOutcome, path: a.path, round: a.m.round, at: x.now(), in: args, x: map[string]any{"target": u.EventType}}
	n.outbox = []store.Outbox{{ID: x.e.store.Key("undo", x.publicID(), a.path, itoa(a.m.round)), Topic: u.EventType, Body: body,
		Meta: map[string]string{"source": x.p.route.Name}}}
	x.add(n)
	return step.Outcome{}, nil
}

func (x *exec) undoCall(a *armed, u *language.Undo, args map[string]any) (step.Outcome, error) {
	t := x.trip(u.Target, u.Operation, 0, 0, args)
	leave, refused := x.guard(x.ctx, t)
	if refused != nil {
		return x.undoDefer(a, refused)
	}
	t.call.Key = x.e.store.Key("undo", x.publicID(), a.path, itoa(a.m.round))
	t.call.GiveUp = x.giveUp(t)
	n := x.intent(store.UndoIntent, a.path, t)
	n.round = a.m.round
	if u.Operation.Effect != connectors.Safe {
		if err := x.commit(x.running(), "", time.Time{}, n); err != nil {
			leave(nil)
			return step.Outcome{}, err
		}
	}
	v, flt := x.attempt(x.ctx, t, leave)
	if err := x.torn(flt); err != nil {
		return step.Outcome{}, err
	}
	if flt != nil && flt.Kind == fault.Unknown {
		return x.undoDoubt(a)(flt)
	}
	r := &entry{kind: store.UndoOutcome, path: a.path, round: a.m.round, at: x.now(), attempts: t.n, took: t.took,
		x: map[string]any{"target": t.full}}
	if flt != nil {
		r.flt, r.fault = flt, faultWord(flt)
		x.owe(r)
		return x.undoEnded(a, failing(flt), nil)
	}
	r.value, r.hasValue = v, true
	x.owe(r)
	return step.Outcome{}, nil
}

// undoEnded: a transient failure waits on the ladder, any other needs a person.
func (x *exec) undoEnded(a *armed, out step.Outcome, err error) (step.Outcome, error) {
	if err != nil || out.Kind != step.End || out.Ending.Fault == nil {
		return out, err
	}
	if out.Ending.Fault.Kind.Row().Transient {
		return x.undoDefer(a, out.Ending.Fault)
	}
	return out, nil
}

func (x *exec) undoDoubt(a *armed) func(*fault.Error) (step.Outcome, error) {
	return func(flt *fault.Error) (step.Outcome, error) {
		return x.inDoubt(a.s.Undo.Operation, a.path, "undo", x.e.cfg.UndoPatience, flt)
	}
}

func (x *exec) undoDefer(a *armed, flt *fault.Error) (step.Outcome, error) {
	if out, ok := x.heldBack(a.path, "undo", flt); ok {
		return out, nil
	}
	n, since := x.rungs(a.path, "undo")
	wake := x.rung(n)
	wake, over := x.within(wake, since, x.e.cfg.UndoPatience)
	if over {
		return failing(flt), nil
	}
	x.e.cfg.Observer.Deferred(x.p.route.Name, a.s.Undo.Target)
	x.add(&entry{kind: store.Rest, path: a.path, at: x.now(), flt: flt, fault: faultWord(flt),
		x: map[string]any{"why": "undo", "rung": n + 1, "since": codec.Millis(since), "wake": codec.Millis(wake)}})
	return step.Outcome{Kind: step.Rest, Wake: wake}, nil
}

// UndoBelow implements step.Effects: a failed or surplus item leaves nothing
// behind (semantics 5.8).
func (x *exec) UndoBelow(_ context.Context, prefix string) (step.Outcome, error) {
	as, c, err := x.collect()
	if err != nil {
		return step.Outcome{}, err
	}
	for _, a := range as {
		if !strings.HasPrefix(a.path, prefix) {
			continue
		}
		out, err := x.undoOne(c, a)
		if err != nil {
			return out, err
		}
		switch out.Kind {
		case step.Rest:
			return out, nil
		case step.End:
			e := *out.Ending
			e.Path, e.End, e.Reason, e.Fault = a.path, language.Park, "undoing", nil
			return step.Outcome{Kind: step.End, Ending: &e}, nil
		}
	}
	x.closeWaits(prefix)
	return step.Outcome{}, nil
}

// undoFrom is the first half of a replay from a path: the effects from it on are
// undone; then the walk begins there. again says that the run rests meanwhile.
func (x *exec) undoFrom() (again bool, err error) {
	as, c, err := x.collect()
	if err != nil {
		return false, err
	}
	for _, a := range as {
		if a.seq < x.mem.fromSeq {
			continue
		}
		out, err := x.undoOne(c, a)
		if err != nil {
			return false, err
		}
		switch out.Kind {
		case step.Rest:
			return true, x.commit(store.Waiting, x.restReason("undo deferred"), out.Wake)
		case step.End:
			return true, x.stuck(a.path, out.Ending)
		}
	}
	n := &entry{kind: store.Person, path: x.mem.fromPath, at: x.now(), x: map[string]any{"act": "from-done", "seq": x.mem.fromSeq}}
	for path, m := range c.ix.byPath {
		if m.first >= x.mem.fromSeq && m.resting() && m.rest.str("why") == "wait" {
			x.add(&entry{kind: store.Expired, path: path, at: x.now(), unwait: true, x: map[string]any{"surplus": true}})
		}
	}
	if err := x.commit(store.Running, "", time.Time{}, n); err != nil {
		return false, err
	}
	x.mu.Lock()
	x.mem = remember(slices.Clone(x.log))
	x.mu.Unlock()
	return false, nil
}

func itoa(n int) string { return fmt.Sprint(n) }
