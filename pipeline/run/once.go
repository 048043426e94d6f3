package run

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/pipeline/run/head"
)

// requestOnce is a request whose route names an idempotency key (semantics 4.6).
func (e *Engine) requestOnce(ctx context.Context, x *exec) Answer {
	for {
		g, w := e.inflight.Join(x.onceScope, x.onceKey, string(x.bodyHash), x.id, x.deadline)
		if w == nil {
			a := e.lead(ctx, x)
			e.inflight.Land(e.clock, x.onceScope, x.onceKey, g, answer{a: a})
			return a
		}
		if g.Hash != string(x.bodyHash) {
			w.Leave(e.clock)
			x.cancel(nil)
			return keyReused()
		}
		got, ok := e.await(ctx, w)
		pub := e.store.PublicID(g.ID)
		switch {
		case !ok:
			x.cancel(nil)
			return e.lateAnswer(pub)
		case got.a.Status == 504 && e.clock.Now().Before(x.deadline) && ctx.Err() == nil:
			continue // the first caller gave up; its run may go on
		}
		x.cancel(nil)
		return got.a.with("Idempotent-Replayed", "true")
	}
}

func keyReused() Answer {
	return problem(422, "key-reused", "The key was used before with another request", "")
}

// lead runs the first request of a key in this process.
func (e *Engine) lead(ctx context.Context, x *exec) Answer {
	if !x.p.route.Safe {
		id, hash, found, err := e.store.OnceRun(ctx, x.onceScope, x.onceKey)
		if err != nil {
			x.cancel(nil)
			e.log.Error("looking a key up", "error", err)
			return problem(503, string(fault.Unavailable), "The journal cannot be read now", "").with("Retry-After", "5")
		}
		if found {
			return e.again(ctx, x, id, bytes.Equal(hash, x.bodyHash))
		}
	}
	a, dup := e.run(ctx, x)
	if dup != nil {
		return e.again(ctx, x, dup.Run, dup.SameBody)
	}
	return a
}

// again is the table of semantics 4.6: what a second request with the same key
// gets. x is the second request, which never becomes a run.
func (e *Engine) again(ctx context.Context, x *exec, id store.RunID, sameBody bool) Answer {
	x.cancel(nil)
	if !sameBody {
		return keyReused()
	}
	pub, anew := e.store.PublicID(id), false
	w := e.answers.Enter(id, x.deadline) // before the look: no answer is missed
	defer e.answers.Leave(e.clock, id, w)
	r, rs, err := e.store.Load(ctx, id)
	if err != nil {
		if errors.Is(err, store.ErrErased) {
			return problem(410, "erased", "The data of this request was erased", "").of(pub)
		}
		e.log.Error("loading a run by its key", "run", pub, "error", err)
		return problem(503, string(fault.Unavailable), "The journal cannot be read now", "").with("Retry-After", "5")
	}
	if a, ok := lastAnswer(rs, pub); ok && a.Status < 500 {
		return a.with("Idempotent-Replayed", "true")
	}
	switch r.State {
	case store.Undoing:
		return problem(503, "undoing", "The first request is being undone", "").of(pub).with("Retry-After", "5")
	case store.Parked:
		return e.parkedAnswer(pub)
	case store.Cancelled:
		return problem(409, "cancelled", "The request was cancelled", r.Reason).of(pub)
	case store.Done:
		return Answer{Status: 204, Run: pub}.with("Idempotent-Replayed", "true")
	case store.Settled:
		return settledAnswer(pub)
	case store.Failed:
		anew = true
		if err := e.restart(ctx, id, &entry{kind: store.Person, at: e.clock.Now(), x: map[string]any{"act": "restart", "as": "caller"}}); err != nil &&
			!errors.Is(err, store.ErrFenced) {
			e.log.Error("starting a failed run again", "run", pub, "error", err)
			return problem(503, string(fault.Unavailable), "The journal cannot be written now", "").of(pub).with("Retry-After", "5")
		}
	}
	stop := e.watch(id, x.deadline)
	defer stop()
	if a, ok := e.await(ctx, w); ok && a.dup == nil {
		if anew {
			return a.a
		}
		return a.a.with("Idempotent-Replayed", "true")
	}
	return e.lateAnswer(pub)
}

// lastAnswer is the answer that the journal holds since the run's last start.
func lastAnswer(rs []store.Record, pub string) (Answer, bool) {
	for i := len(rs) - 1; i >= 0; i-- {
		switch rs[i].Kind {
		case store.Reply:
			n, err := entryOf(rs[i])
			if err != nil {
				return Answer{}, false
			}
			return answerOf(n, pub), true
		case store.Person:
			if n, err := entryOf(rs[i]); err == nil && n.str("act") == "restart" {
				return Answer{}, false
			}
		}
	}
	return Answer{}, false
}

// restart begins a failed run anew under its id.
func (e *Engine) restart(ctx context.Context, id store.RunID, n *entry) error {
	rec, err := n.record()
	if err != nil {
		return err
	}
	e.probe("before", false, n)
	r, l, err := e.store.Rearm(ctx, id, e.cfg.Worker, rec)
	if err != nil {
		return err
	}
	e.probe("after", false, n)
	if r.State == store.Queued {
		return nil // behind the living runs of its order key; its turn comes
	}
	e.start(func() { e.resume(r, l) })
	return nil
}

// runBackground runs a request that has no caller in this goroutine. nil means that
// the run is durable or has ended, so that its message is settled.
func (e *Engine) runBackground(ctx context.Context, p *program, r Request) error {
	x, refusal := e.admit(ctx, p, r)
	if x == nil {
		if refusal.Status >= 500 {
			return fault.New(fault.Unavailable, "route %s takes no run now", p.route.Name)
		}
		// A message that can never become a run is not asked for again.
		e.log.Error("a message does not fit its route", "route", p.route.Name, "trigger", r.Trigger,
			"status", refusal.Status, "title", refusal.Problem.Title)
		return e.refused(ctx, p, r, refusal)
	}
	e.cfg.Observer.RunStarted(p.route.Name)
	if x.onceKey != "" && !p.route.Safe {
		if _, _, found, err := e.store.OnceRun(ctx, x.onceScope, x.onceKey); err != nil {
			return err
		} else if found {
			x.cancel(nil)
			return nil
		}
	}
	release, refusal := e.turn(ctx, x)
	if release == nil {
		x.cancel(nil)
		if refusal.Status == 429 {
			return fault.New(fault.Throttled, "route %s is at its limit", p.route.Name)
		}
		return e.refused(ctx, p, r, refusal)
	}
	defer release()
	if x.orderKey != "" {
		if err := x.commit(store.Running, "", time.Time{}, &entry{kind: store.Accepted, at: x.now()}); err != nil {
			x.cancel(nil)
			e.live.drop(x)
			var dup *store.Duplicate
			if errors.Is(err, errQueued) || errors.As(err, &dup) {
				return nil
			}
			return err
		}
	}
	x.drive()
	var dup *store.Duplicate
	if x.broke != nil && !x.isDurable() && !errors.As(x.broke, &dup) {
		return x.broke
	}
	return nil
}

// turn waits for the route's limit: a message is not acked meanwhile, a timer
// comes later, and the slot is free for others (semantics 11.1).
func (e *Engine) turn(ctx context.Context, x *exec) (func(), Answer) {
	for {
		release, refusal, wait := e.limit(x)
		if wait == 0 {
			return release, refusal
		}
		e.background.Leave()
		err := clock.Sleep(ctx, e.clock, wait)
		// Whoever called gives the slot back, so it is taken again in any case.
		_ = e.background.Enter(context.Background(), x.p.route.Priority, x.p.route.Name)
		if err != nil || e.draining.Load() {
			return nil, refusal
		}
	}
}

// refused keeps a message that does not fit as a failed run: a dead letter with
// its cause, for a person (semantics 3).
func (e *Engine) refused(ctx context.Context, p *program, r Request, a Answer) error {
	id, err := e.newID(ctx)
	if err != nil {
		return err
	}
	x := e.newExec(p, id, head.Head{Req: r.Req, Caller: r.Caller, Trigger: r.Trigger, Trace: r.Trace, Key: r.Key, Began: e.clock.Now()})
	defer x.cancel(nil)
	x.ack = r.Ack
	x.onceKey, x.onceScope = r.Key, p.route.Name+"\x00"+r.Caller.Owner()
	detail := a.Problem.Title
	if len(a.Problem.Errors) > 0 {
		detail += ": at " + quote(a.Problem.Errors[0].Pointer) + " " + a.Problem.Errors[0].Message
	}
	err = x.end(verdict{state: store.Failed, reason: "invalid", flt: fault.New(fault.Invalid, "%s", detail), answer: a})
	var dup *store.Duplicate
	if errors.As(err, &dup) {
		return nil
	}
	return err
}
