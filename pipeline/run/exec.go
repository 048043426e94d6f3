package run

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/expression"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/pipeline/language"
	"github.com/dime-bus/dime/pipeline/run/head"
	"github.com/dime-bus/dime/pipeline/step"
)

// maxRecords of a run (semantics 6.3); its undo may write beyond them.
const maxRecords = 100_000

// program is a route ready to run.
type program struct {
	route *language.Route
	steps *step.Program
	city  *language.City // its connectors' descriptions: found_by is looked up there
	holds bool           // some step is a `commit`
	reply map[string]follow
}

// follow says what may come behind a reply.
type follow uint8

const (
	effects follow = iota
	onlySafe
	nothing
)

func newProgram(r *language.Route, c *language.City) *program {
	p := &program{route: r, steps: step.Build(r), city: c, reply: map[string]follow{}}
	for _, s := range p.steps.ByPath {
		p.holds = p.holds || s.Commit
	}
	rest := nothing
	for i := len(r.Steps) - 1; i >= 0; i-- {
		s := r.Steps[i]
		if s.Word == language.ReplyW {
			p.reply[s.Path] = rest
		}
		switch s.Word {
		case language.Check, language.SetW, language.ReplyW:
			if rest == nothing {
				rest = onlySafe
			}
		case language.Call:
			if s.Operation != nil && s.Operation.Effect == connectors.Safe {
				if rest == nothing {
					rest = onlySafe
				}
				continue
			}
			rest = effects
		default:
			rest = effects
		}
	}
	return p
}

// after says what follows a reply; one inside a block counts as followed by effects.
func (p *program) after(path string) follow { return p.reply[path] }

// exec is one run while it is in memory. It implements step.Effects.
type exec struct {
	e    *Engine
	p    *program
	id   store.RunID
	head head.Head
	pub  string

	ctx    context.Context
	cancel context.CancelCauseFunc

	onceScope, onceKey string
	bodyHash           []byte
	orderKey           string
	subjects           []string
	ack                *store.Ack
	pipe               bool // held and published at the end, never journaled (semantics 4.3)

	began    time.Time
	caller   map[string]any
	mem      *memories // nil for a fresh run
	restarts int

	inline   bool            // a safe run in its caller's goroutine
	first    *expression.Env // what `allow` and the keys saw: the first scope of an inline run
	deadline time.Time

	mu        sync.Mutex
	log       []*entry
	committed int
	owed      int // length of log that a slow step should find committed
	durable   bool
	accepting bool
	dropped   bool
	mandates  map[string]bool // what the register said, by principal
	lease     store.Lease
	started   time.Time
	state     store.State
	reason    string
	answered  bool
	held      *Answer // a reply that rides with the end
	left      bool    // it is at work no more
	acted     bool    // the person's cancel has begun
	taken     map[int64]bool

	commitMu sync.Mutex
	passed   atomic.Bool // a step with commit: true succeeded
	doubt    atomic.Bool // rests because an effect's outcome is not known
	fenced   atomic.Bool
	act      atomic.Pointer[entry] // a person's cancel
	broke    error                 // why the run was dropped before it was durable or ended
}

var _ step.Effects = (*exec)(nil)

func (x *exec) now() time.Time { return x.e.clock.Now() }

func (x *exec) publicID() string { return x.pub }

func (e *Engine) runURL(pub string) string { return e.cfg.BaseURL() + "/v1/runs/" + pub }

// runVar is `run` as expressions see it; it is never changed once made.
func (x *exec) runVar() map[string]any {
	m := map[string]any{"id": x.publicID(), "url": x.e.runURL(x.publicID()), "route": x.p.route.Name,
		"version": x.p.route.Label, "attempt": x.restarts + 1}
	x.mu.Lock()
	if !x.started.IsZero() {
		m["accepted_at"] = x.started
	}
	x.mu.Unlock()
	return m
}

// Vars implements step.Effects.
func (x *exec) Vars(r *language.Route, req any) map[string]any {
	vars := make(map[string]any, 4+len(r.Steps)) // those below, and each step's name
	vars["req"] = req
	if x.caller != nil {
		vars["caller"] = x.caller
	}
	vars["cfg"] = x.e.City().Cfg
	vars["run"] = x.runVar()
	return vars
}

func (x *exec) env(vars map[string]any) *expression.Env {
	zone := x.p.route.Zone
	if zone == nil {
		zone = x.e.City().Zone
	}
	return &expression.Env{Vars: vars, Now: x.e.clock.Now, Zone: zone, MayActFor: x.mayActFor,
		Random: x.e.cfg.Random, UUID: x.e.cfg.UUID}
}

func (x *exec) frame(fx step.Effects) *step.Frame {
	env := x.first
	if x.first = nil; env == nil || !x.inline {
		env = x.env(x.Vars(x.p.route, x.head.Req))
	}
	return &step.Frame{Fx: fx, Env: env}
}

// Between implements step.Effects.
func (x *exec) Between(ctx context.Context) error {
	if x.fenced.Load() {
		return store.ErrFenced
	}
	if x.act.Load() != nil && !x.passed.Load() { // behind a commit a run only goes forward (7.7)
		return errCancelled
	}
	x.mu.Lock()
	n := len(x.log)
	x.mu.Unlock()
	if n >= maxRecords {
		return errLong
	}
	if x.ctx.Err() != nil {
		return x.gone()
	}
	if x.e.draining.Load() && !x.inline && !x.CallerWaits() && x.isDurable() {
		return errHandBack
	}
	return nil
}

// gone says why the run's context ended.
func (x *exec) gone() error {
	err := context.Cause(x.ctx)
	switch {
	case errors.Is(err, errDropped), errors.Is(err, errStopped), errors.Is(err, store.ErrFenced), errors.Is(err, errLease):
		return err
	case x.inline:
		return errDropped
	}
	return errStopped
}

// Collecting implements step.Effects.
func (x *exec) Collecting() bool { return false }

// Recall implements step.Effects.
func (x *exec) Recall(path string) *step.Memory {
	if x.mem == nil {
		return nil
	}
	return x.mem.recall(path)
}

// Arm implements step.Effects: only a collector gathers.
func (x *exec) Arm(*step.Frame, *language.Step, string, *step.Memory) {}

// Passed implements step.Effects. A cancel that was accepted while the step was
// under way has come too late: the journal says so (semantics 7.7).
func (x *exec) Passed(string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.passed.CompareAndSwap(false, true) {
		return
	}
	if act := x.act.Swap(nil); act != nil {
		x.log = append(x.log, tooLate(act, x.now()))
	}
}

func tooLate(cancel *entry, now time.Time) *entry {
	return &entry{kind: store.Person, at: now, x: map[string]any{"act": "too-late", "as": cancel.str("as"),
		"reason": "the cancel met a `commit`, which succeeded: from there the run only goes forward"}}
}

// CallerWaits says whether somebody still waits for this run's answer.
func (x *exec) CallerWaits() bool {
	if x.inline {
		return true
	}
	x.mu.Lock()
	answered := x.answered
	x.mu.Unlock()
	return !answered && x.e.answers.Waiting(x.id)
}

// timeLeft is what a call may take while a caller waits (semantics 4.1); ok is
// false if nobody does.
func (x *exec) timeLeft() (d time.Duration, ok bool) {
	if !x.CallerWaits() {
		return 0, false
	}
	at := x.deadline
	if !x.inline {
		if at = x.e.answers.Deadline(x.id); at.IsZero() {
			return 0, false
		}
	}
	return at.Sub(x.now()) - 100*time.Millisecond, true
}

// Fork implements step.Effects. The caller's goroutine works as one of the n; it
// is not counted on the clock while it waits for the others, and the last of
// them hands its count over.
func (x *exec) Fork(n int, fn func(i int)) {
	var mu sync.Mutex
	left, parked := n-1, false
	done := make(chan struct{})
	for i := 1; i < n; i++ {
		clock.Enter(x.e.clock)
		go func() {
			defer func() {
				mu.Lock()
				left--
				over := left == 0 && parked
				mu.Unlock()
				if over {
					close(done) // the waiting parent takes this goroutine's count
				} else {
					clock.Leave(x.e.clock)
				}
			}()
			defer x.rescue()
			fn(i)
		}()
	}
	fn(0)
	mu.Lock()
	if left == 0 {
		mu.Unlock()
		return
	}
	parked = true
	mu.Unlock()
	clock.Leave(x.e.clock)
	<-done
}

// rescue turns a panic of a branch into the run's failure.
func (x *exec) rescue() {
	if r := recover(); r != nil {
		x.e.log.Error("a step panicked", "route", x.p.route.Name, "run", x.publicID(), "panic", fmt.Sprintf("%T", r), "stack", string(debug.Stack()))
		x.cancel(fault.New(fault.Internal, "a step broke"))
	}
}

// walk runs the steps and returns how they came out.
func (x *exec) walk() (out step.Outcome, err error) {
	defer func() {
		if r := recover(); r != nil {
			x.e.log.Error("a step panicked", "route", x.p.route.Name, "run", x.publicID(), "panic", fmt.Sprintf("%T", r), "stack", string(debug.Stack()))
			out, err = step.Outcome{Kind: step.End, Ending: &step.Ending{Fault: fault.New(fault.Internal, "a step broke")}}, nil
		}
	}()
	f := x.frame(x)
	out, err = x.p.steps.Run(x.ctx, f)
	if err == nil && out.Kind == step.Go {
		out.Value = f.Env.Vars["result"]
	}
	if err != nil {
		var flt *fault.Error
		if cause := context.Cause(x.ctx); errors.As(cause, &flt) {
			return step.Outcome{Kind: step.End, Ending: &step.Ending{Fault: flt}}, nil
		}
	}
	return out, err
}

// drive walks and settles; it is the body of a run's goroutine.
func (x *exec) drive() {
	defer x.cancel(nil)
	defer x.leave()
	if x.mem != nil && x.mem.undoing != "" {
		x.settleErr(x.undoAll())
		return
	}
	if x.mem != nil && x.mem.fromPath != "" && x.act.Load() == nil {
		if again, err := x.undoFrom(); err != nil || again {
			x.settleErr(err)
			return
		}
	}
	out, err := x.walk()
	if errors.Is(err, errLong) {
		out, err = failing(fault.New(fault.Internal, "a run has at most %d records (semantics 6.3): start other routes for parts of it", maxRecords)), nil
	}
	if errors.Is(err, errCancelled) && x.passed.Load() { // one branch saw the cancel, another's commit was faster
		x.mu.Lock()
		x.mem = remember(slices.Clone(x.log))
		x.mu.Unlock()
		out, err = x.walk()
	}
	if errors.Is(err, errCancelled) || err == nil && out.Kind == step.Rest && x.act.Load() != nil && !x.passed.Load() {
		x.settleErr(x.cancelled())
		return
	}
	if err == nil {
		err = x.settle(out)
	}
	x.settleErr(err)
}

// leave lets go of a run.
func (x *exec) leave() {
	x.e.live.drop(x)
	x.mu.Lock()
	x.left = true
	x.mu.Unlock()
}

// ask leaves a person's cancel with a run at work, and returns when it is durable;
// false if the run has come to rest without it.
func (x *exec) ask(n *entry) (bool, error) {
	x.mu.Lock()
	if x.left {
		x.mu.Unlock()
		return false, nil
	}
	if x.passed.Load() {
		x.mu.Unlock()
		return true, passedCommit(x.publicID())
	}
	x.act.Store(n)
	// Where nothing of the run is durable it and its cancel come and go together;
	// an undo under way is what a cancel asks for.
	if !x.durable || x.state == store.Undoing {
		x.mu.Unlock()
		return true, nil
	}
	x.log = append(x.log, n)
	at := len(x.log)
	x.mu.Unlock()
	x.commitMu.Lock()
	defer x.commitMu.Unlock()
	x.mu.Lock()
	stored, state, acted := x.committed >= at, x.state, x.acted
	x.mu.Unlock()
	switch {
	case state.Ended() && !acted: // its end was on the way to the disk
		return true, hasEnded(x.publicID(), state)
	case state == store.Parked, state == store.Waiting && !stored: // so was its rest
		return false, nil
	case stored, state != store.Running:
		return true, nil
	}
	return true, x.commitHeld(state, "", time.Time{})
}

// settleErr handles control errors.
func (x *exec) settleErr(err error) {
	var dup *store.Duplicate
	var broken *errJournal
	x.broke = err
	switch {
	case err == nil, errors.Is(err, errDropped), errors.Is(err, errQueued):
	case errors.As(err, &dup):
		x.e.answers.Notify(x.e.clock, x.id, answer{dup: dup})
	case errors.Is(err, store.ErrQueueFull):
		x.respond(problem(429, "queue-full", "Too many requests wait in the same order", "").with("Retry-After", "30"))
	case errors.Is(err, errHandBack), errors.Is(err, errStopped):
		if errors.Is(err, errHandBack) {
			if err := x.handBack(); err != nil {
				x.e.log.Warn("giving a run back", "run", x.publicID(), "error", err)
			}
		}
	case errors.Is(err, store.ErrFenced):
		x.e.log.Warn("dropping a run that another worker owns", "run", x.publicID(), "route", x.p.route.Name)
	case errors.Is(err, store.ErrTooLarge):
		x.tooLarge(err)
	case errors.As(err, &broken):
		x.reclaim()
		x.e.log.Error("journal", "run", x.publicID(), "route", x.p.route.Name, "error", err)
		a := problem(503, string(fault.Unavailable), "The journal cannot be written now", "").with("Retry-After", "5")
		if x.isDurable() {
			a = x.e.lateAnswer(x.publicID())
		}
		x.respond(a)
	default:
		x.reclaim()
		x.e.log.Error("run", "run", x.publicID(), "route", x.p.route.Name, "error", err)
		x.respond(problem(500, string(fault.Internal), "Internal error", ""))
	}
}

// reclaim has a durable run that was dropped from memory looked for when its
// lease is over: nothing else may happen in the city that wakes the claim loop.
func (x *exec) reclaim() {
	x.mu.Lock()
	durable, until := x.durable, x.lease.Until
	x.mu.Unlock()
	if durable {
		x.e.clock.At(until, x.e.loop.Kick)
	}
}

// tooLarge is for what no bound before the journal caught (semantics 6.3): to try
// again would fail again, so a durable run parks behind its last good commit.
func (x *exec) tooLarge(err error) {
	x.e.log.Error("a run does not fit the journal", "run", x.publicID(), "route", x.p.route.Name, "error", err)
	if !x.isDurable() {
		x.respond(problem(413, "too-large", "The request is too large", "").of(x.publicID()))
		return
	}
	x.mu.Lock()
	x.log = x.log[:x.committed:x.committed]
	x.mu.Unlock()
	v := verdict{state: store.Parked, reason: "too-large", flt: &fault.Error{Kind: fault.Internal, Detail: err.Error()},
		answer: x.e.parkedAnswer(x.publicID())}
	if err := x.end(v); err != nil {
		x.reclaim()
		x.e.log.Error("parking a run", "run", x.publicID(), "error", err)
		x.respond(x.e.lateAnswer(x.publicID()))
	}
}

// handBack stops a durable run at its next commit (SIGTERM).
func (x *exec) handBack() error {
	if err := x.commit(store.Running, "", x.now()); err != nil && !errors.Is(err, store.ErrFenced) {
		return err
	}
	return nil
}

// respond answers the caller once.
func (x *exec) respond(a Answer) {
	x.mu.Lock()
	x.answered = true
	x.mu.Unlock()
	x.e.answers.Notify(x.e.clock, x.id, answer{a: a})
}
