package run

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/pipeline/step"
)

// person checks an act's head and makes its record: every act has a person and a
// reason (semantics 10.2).
func (a Act) person(e *Engine, act string) (*entry, error) {
	if a.As == "" || a.Reason == "" {
		return nil, fault.New(fault.Invalid, "a person's act needs who (`as`) and why (`reason`)")
	}
	return &entry{kind: store.Person, at: e.clock.Now(), x: map[string]any{"act": act, "as": a.As, "reason": a.Reason}}, nil
}

// hold loads a run for a person's act. Without dry it takes the lease, which
// release gives back if nothing was committed.
func (e *Engine) hold(ctx context.Context, pub string, dry bool) (x *exec, release func(), err error) {
	id, err := e.store.ParseID(pub)
	if err != nil {
		return nil, nil, noRun(pub)
	}
	var l store.Lease
	if !dry {
		if _, l, err = e.store.ClaimOne(ctx, e.cfg.Worker, id); err != nil {
			if errors.Is(err, store.ErrFenced) {
				return nil, nil, fault.New(fault.Conflict, "run %s is at work now; try again when it rests", pub)
			}
			return nil, nil, unread(pub, err)
		}
	}
	x, err = e.load(ctx, id, l)
	if err != nil {
		if !dry {
			err = errors.Join(err, e.store.Release(ctx, l))
		}
		if errors.Is(err, store.ErrNoRun) {
			return nil, nil, noRun(pub)
		}
		return nil, nil, err
	}
	if dry {
		return x, func() { x.cancel(nil) }, nil
	}
	before := x.committed
	e.live.own(x)
	return x, func() {
		e.live.drop(x)
		x.cancel(nil)
		if x.committed == before {
			if err := e.store.Release(context.WithoutCancel(ctx), l); err != nil {
				e.log.Warn("giving a lease back", "run", pub, "error", err)
			}
		}
	}, nil
}

func paths(as []*armed) []string {
	out := make([]string, 0, len(as))
	for _, a := range as {
		out = append(out, a.path)
	}
	return out
}

// Cancel ends a living run between two steps: what it did is undone.
func (e *Engine) Cancel(ctx context.Context, pub string, a Act) (Report, error) {
	n, err := a.person(e, "cancel")
	if err != nil {
		return Report{}, err
	}
	clock.Enter(e.clock)
	defer clock.Leave(e.clock)
	id, err := e.store.ParseID(pub)
	if err != nil {
		return Report{}, noRun(pub)
	}
	if x := e.live.get(id); x != nil && !a.DryRun {
		asked, err := x.ask(n)
		if err != nil {
			return Report{}, cancelling(pub, err)
		}
		if asked {
			r := Report{Run: pub, State: string(store.Running), Note: "takes effect between two steps"}
			if x.p.holds {
				r.Note += "; if the step under way is a `commit` and succeeds, it is too late, and the timeline says so"
			}
			return r, nil
		}
	}
	x, release, err := e.hold(ctx, pub, a.DryRun)
	if f := (*fault.Error)(nil); e.cfg.Shared && errors.As(err, &f) && f.Kind == fault.Conflict {
		return e.cancelElsewhere(ctx, pub, id, a)
	}
	if err != nil {
		return Report{}, err
	}
	defer release()
	if a.DryRun {
		n = nil
	}
	return x.cancelNow(n)
}

// cancelNow cancels a run that this goroutine holds; without an act it only says
// what that would do.
func (x *exec) cancelNow(n *entry) (Report, error) {
	pub := x.publicID()
	switch {
	case x.state.Ended():
		return Report{}, hasEnded(pub, x.state)
	case x.mem.undoing != "":
		return Report{Run: pub, State: string(x.state), Note: "it is being undone already"}, nil
	}
	as, c, err := x.collect()
	if err != nil {
		return Report{}, err
	}
	if c.pass {
		return Report{}, passedCommit(pub)
	}
	r := Report{Run: pub, State: string(store.Cancelled), DryRun: n == nil, Undo: paths(as)}
	if n == nil {
		return r, nil
	}
	x.act.Store(n)
	if err := x.cancelled(); err != nil {
		return Report{}, err
	}
	r.State = string(x.state)
	return r, nil
}

// cancelling tells where a fault came from, but for one that says so itself.
func cancelling(pub string, err error) error {
	var f *fault.Error
	if errors.As(err, &f) {
		return err
	}
	return fmt.Errorf("cancelling run %s: %w", pub, err)
}

func hasEnded(pub string, s store.State) error {
	return fault.New(fault.Conflict, "run %s has ended: %s", pub, s)
}

func passedCommit(pub string) error {
	return fault.New(fault.Conflict, "run %s has passed a `commit`: from there it only goes forward", pub)
}

// Replay lets a parked run go on where it rests and starts a failed one anew;
// with From it keeps what is before that step and undoes the effects from it on.
func (e *Engine) Replay(ctx context.Context, pub string, a Act) (Report, error) {
	act := "replay"
	if a.From != "" {
		act = "from"
	}
	n, err := a.person(e, act)
	if err != nil {
		return Report{}, err
	}
	clock.Enter(e.clock)
	defer clock.Leave(e.clock)
	dry, done, err := e.hold(ctx, pub, true)
	if err != nil {
		return Report{}, err
	}
	defer done()
	r := Report{Run: pub, DryRun: a.DryRun, State: string(store.Running)}
	if dry.state != store.Parked && dry.state != store.Failed {
		return Report{}, fault.New(fault.Conflict, "run %s is %s: only parked and failed runs are replayed", pub, dry.state)
	}
	seq := 0
	if a.From != "" {
		if dry.p.steps.ByPath[step.Plain(a.From)] == nil {
			return Report{}, fault.New(fault.Invalid, "route %s has no step %q%s", dry.p.route.Name, a.From,
				schema.DidYouMean(a.From, sortedKeys(dry.p.steps.ByPath)))
		}
		if dry.passed.Load() && dry.firstOf(a.From) <= dry.commitAt() {
			return Report{}, fault.New(fault.Conflict, "run %s has passed a `commit`: nothing before it is undone; replay it from a step behind it, or without a path", pub)
		}
		if dry.mem.undoing != "" && dry.state == store.Parked {
			return Report{}, fault.New(fault.Conflict, "run %s stands in its undo: replay it without a path, or resolve it", pub)
		}
		seq = dry.firstOf(a.From)
		n.path, n.x["seq"] = a.From, seq
	}
	if err := dry.plan(&r, a.From, seq); err != nil || a.DryRun {
		return r, err
	}
	if dry.state == store.Failed {
		if a.From == "" {
			n.x["act"] = "restart"
		}
		if err := e.restart(ctx, dry.id, n); err != nil {
			return Report{}, err
		}
		return r, nil
	}
	return r, e.goOn(ctx, pub, n)
}

// goOn commits a person's records and lets the run go on in its own goroutine.
func (e *Engine) goOn(ctx context.Context, pub string, ns ...*entry) error {
	x, release, err := e.hold(ctx, pub, false)
	if err != nil {
		return err
	}
	state := store.Running
	if x.mem.undoing != "" {
		state = store.Undoing
	}
	if err := x.commit(state, "", time.Time{}, ns...); err != nil {
		release()
		return err
	}
	x.mem = remember(slices.Clone(x.log))
	e.start(func() {
		defer e.loop.Kick()
		x.drive()
	})
	return nil
}

// firstOf is the index of a path's first record, or of what is below it.
func (x *exec) firstOf(path string) int {
	for i, n := range x.log {
		if n.path == path || strings.HasPrefix(n.path, path+"/") || strings.HasPrefix(n.path, path+"[") {
			return i
		}
	}
	return len(x.log)
}

// commitAt is the index of the first record of the run's latest commit.
func (x *exec) commitAt() int {
	at := -1
	for path, m := range x.mem.byPath {
		if s := x.p.steps.ByPath[step.Plain(path)]; s != nil && s.Commit && m.done {
			at = max(at, m.first)
		}
	}
	return at
}

// plan lists what a replay undoes, keeps and does anew.
func (x *exec) plan(r *Report, from string, seq int) error {
	as, c, err := x.collect()
	if err != nil {
		return err
	}
	for _, a := range as {
		if from != "" && a.seq >= seq {
			r.Undo = append(r.Undo, a.path)
		}
	}
	for path, m := range c.ix.byPath {
		switch {
		case !m.begun:
		case !m.done && m.failed != nil && m.failed.Kind == fault.Contract:
			r.Note = brokenAnswer(r.Run, path)
		case m.undone:
			r.Again = append(r.Again, path)
		case m.done && !slices.Contains(r.Undo, path):
			r.Keep = append(r.Keep, path)
		}
	}
	slices.Sort(r.Again)
	slices.Sort(r.Keep)
	return nil
}

// brokenAnswer: the effect happened, and its result is not known to the run (3.5).
func brokenAnswer(pub, path string) string {
	return fmt.Sprintf("the answer of %[2]q broke its contract: first state its result, dime runs resolve %[1]s --path '%[2]s' --happened yes --result JSON; without it neither the next steps nor its undo know it", pub, path)
}

// byPerson carries out an act on a run that it holds meanwhile; n is the act's record.
func (e *Engine) byPerson(ctx context.Context, pub, act string, a Act, do func(x *exec, n *entry) (Report, error)) (Report, error) {
	n, err := a.person(e, act)
	if err != nil {
		return Report{}, err
	}
	clock.Enter(e.clock)
	defer clock.Leave(e.clock)
	x, release, err := e.hold(ctx, pub, a.DryRun)
	if err != nil {
		return Report{}, err
	}
	defer release()
	return do(x, n)
}

// Skip gives up a parked run: undo, `failed`, and its order key moves on.
func (e *Engine) Skip(ctx context.Context, pub string, a Act) (Report, error) {
	return e.byPerson(ctx, pub, "skip", a, func(x *exec, n *entry) (Report, error) { return x.skip(pub, a, n) })
}

func (x *exec) skip(pub string, a Act, n *entry) (Report, error) {
	switch {
	case x.state != store.Parked:
		return Report{}, fault.New(fault.Conflict, "run %s is %s: only parked runs are skipped", pub, x.state)
	case x.mem.undoing != "":
		return Report{}, fault.New(fault.Conflict, "run %s stands in its undo: resolve it", pub)
	}
	as, c, err := x.collect()
	if err != nil {
		return Report{}, err
	}
	if c.pass {
		as = nil // behind a commit nothing is undone
	}
	r := Report{Run: pub, DryRun: a.DryRun, State: string(store.Failed), Undo: paths(as)}
	if a.DryRun {
		return r, nil
	}
	x.add(n)
	if err := x.end(verdict{state: store.Failed, reason: "skipped by " + a.As, undo: !c.pass,
		answer: problem(500, "failed", "The request failed", "").of(pub)}); err != nil {
		return Report{}, err
	}
	r.State = string(x.state)
	return r, nil
}

// Settle is a person's word that nothing is left to do about a failed run: it is no
// dead letter any more, and goes when the runs of its route do (semantics 10.6).
func (e *Engine) Settle(ctx context.Context, pub string, a Act) (Report, error) {
	return e.byPerson(ctx, pub, "settle", a, func(x *exec, n *entry) (Report, error) { return x.settled(pub, a, n) })
}

func (x *exec) settled(pub string, a Act, n *entry) (Report, error) {
	switch x.state {
	case store.Failed:
	case store.Parked:
		return Report{}, fault.New(fault.Conflict, "run %s is parked: replay, resolve or skip it; what fails then can be settled", pub)
	default:
		return Report{}, fault.New(fault.Conflict, "run %s is %s: only failed runs are settled", pub, x.state)
	}
	r := Report{Run: pub, DryRun: a.DryRun, State: string(store.Settled), Note: "no replay and no retry of its request starts it again"}
	if a.DryRun {
		return r, nil
	}
	return r, x.commit(store.Settled, x.reason, time.Time{}, n)
}

// Resolve states what became of an effect in doubt (Path, Happened, Result), or
// lets a stuck undo be as it is.
func (e *Engine) Resolve(ctx context.Context, pub string, a Act) (Report, error) {
	n, err := a.person(e, "resolve")
	if err != nil {
		return Report{}, err
	}
	clock.Enter(e.clock)
	defer clock.Leave(e.clock)
	x, done, err := e.hold(ctx, pub, true)
	if err != nil {
		return Report{}, err
	}
	defer done()
	if x.state != store.Parked {
		return Report{}, fault.New(fault.Conflict, "run %s is %s: only parked runs are resolved", pub, x.state)
	}
	path := a.Path
	if path == "" && x.mem.lastEnd != nil {
		path = x.mem.lastEnd.path
	}
	m := x.mem.byPath[path]
	if m == nil {
		return Report{}, fault.New(fault.Invalid, "run %s has no record of a step %q%s", pub, path, schema.DidYouMean(path, sortedKeys(x.mem.byPath)))
	}
	n.path = path
	r := Report{Run: pub, DryRun: a.DryRun, State: string(store.Running)}
	var outcome *entry
	switch inDoubt := m.begun && !m.done && (m.failed == nil || m.failed.Kind == fault.Contract); {
	case inDoubt:
		if outcome, err = x.stated(path, m, a); err != nil {
			return Report{}, err
		}
	case x.stuckAt(path) && !m.undone:
		outcome = &entry{kind: store.UndoOutcome, path: path, round: m.round, at: e.clock.Now(), x: map[string]any{"resolved": true}}
		r.Note = "the undo of this step is left as it is"
		if x.mem.undoing != "" {
			r.State = string(store.Undoing)
		}
	default:
		return Report{}, fault.New(fault.Conflict, "step %q of run %s is not in doubt", path, pub)
	}
	if a.DryRun {
		return r, nil
	}
	return r, e.goOn(ctx, pub, n, outcome)
}

// stuckAt says whether an undo waits for a person at a path: of the whole run, of
// a block's failed item, or of a replay from a path.
func (x *exec) stuckAt(path string) bool {
	if x.mem.undoing != "" {
		return true
	}
	e := x.mem.lastEnd
	return e != nil && e.path == path && (e.flag("stuck") || e.str("reason") == "undoing")
}

// stated is a person's word on an effect in doubt: it happened, with its result,
// or it did not; then it is ready to be done again.
func (x *exec) stated(path string, m *memory, a Act) (*entry, error) {
	if a.Happened == nil {
		return nil, fault.New(fault.Invalid, "say whether %q happened", path)
	}
	n := &entry{kind: store.OutcomeRec, path: path, round: m.round, at: x.now(), x: map[string]any{"stated": true}}
	if !*a.Happened {
		n.flt = &fault.Error{Kind: fault.Unavailable, Detail: "a person stated that it did not happen"}
		n.fault = faultWord(n.flt)
		return n, nil
	}
	s := x.p.steps.ByPath[step.Plain(path)]
	if s != nil && s.Operation != nil {
		if flt := step.Fits(s.Operation.Out, a.Result, "the result"); flt != nil {
			return nil, flt
		}
	}
	n.value, n.hasValue = a.Result, true
	return n, nil
}
