package run

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"github.com/dime-bus/dime/internal/expression"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/pipeline/language"
	"github.com/dime-bus/dime/pipeline/run/codec"
	"github.com/dime-bus/dime/pipeline/run/head"
	"github.com/dime-bus/dime/pipeline/run/shape"
	"github.com/dime-bus/dime/pipeline/step"
)

func (e *Engine) newID(ctx context.Context) (store.RunID, error) {
	return e.ids.Next(ctx, e.store.Reserve)
}

func (e *Engine) request(ctx context.Context, r Request) Answer {
	p := e.city.Load().progs[r.Route]
	if p == nil {
		return problem(404, string(fault.NotFound), "There is no such route", "")
	}
	x, refusal := e.admit(ctx, p, r)
	if x == nil {
		return refusal
	}
	e.cfg.Observer.RunStarted(p.route.Name)
	if x.onceKey != "" {
		return e.requestOnce(ctx, x)
	}
	a, _ := e.run(ctx, x)
	return a
}

// admit does all that comes before a run exists: `req`, `allow`, the keys.
func (e *Engine) admit(ctx context.Context, p *program, r Request) (*exec, Answer) {
	if e.draining.Load() {
		return nil, problem(503, string(fault.Unavailable), "The bus is stopping", "").with("Retry-After", "5")
	}
	id, err := r.id, error(nil)
	if id == 0 {
		id, err = e.newID(ctx)
	}
	if err != nil {
		e.log.Error("reserving run ids", "error", err)
		return nil, problem(503, string(fault.Unavailable), "The journal cannot be written now", "").with("Retry-After", "5")
	}
	now := e.clock.Now()
	x := e.newExec(p, id, head.Head{Req: r.Req, Caller: r.Caller, Trigger: r.Trigger, Trace: r.Trace, Key: r.Key, Parent: r.parent, Began: now})
	x.ack = r.Ack
	within := p.route.Within
	if within <= 0 {
		within = 10 * time.Second
	}
	x.deadline = now.Add(within)
	if !r.Deadline.IsZero() && r.Deadline.Before(x.deadline) {
		x.deadline = r.Deadline
	}
	x.pipe = p.route.Pipe && (r.Trigger == "event" || r.Trigger == "queue") && r.Key != ""
	env := x.env(x.Vars(p.route, r.Req))
	if a, ok := e.check(p.route, r, env); !ok {
		x.cancel(nil)
		return nil, a
	}
	if err := x.keys(r, env); err != nil {
		x.cancel(nil)
		f := fault.From(err)
		if f.Kind == fault.Invalid {
			return nil, problem(400, "invalid", title(400), f.Detail)
		}
		e.log.Error("evaluating the keys of a request", "route", p.route.Name, "error", err)
		return nil, faultAnswer(f)
	}
	if p.route.Safe {
		x.first = env
	}
	return x, Answer{}
}

// check is `req` and `allow`: bad `req` 400, `allow` false 403, or 401 without a
// caller, before any run exists (semantics 4.5).
func (e *Engine) check(r *language.Route, q Request, env *expression.Env) (Answer, bool) {
	var bad []schema.Violation
	if r.Req != nil {
		bad = r.Req.Validate(q.Req)
	}
	if r.Allow != nil {
		v, err := r.Allow.Eval(env)
		switch {
		case err == nil && v == true:
		case err != nil && len(bad) > 0 && !q.Caller.Anonymous(): // it read what is wrong
		case q.Caller.Anonymous():
			return problem(401, "unauthenticated", title(401), ""), false
		case err != nil:
			e.log.Error("evaluating allow", "route", r.Name, "error", err)
			return faultAnswer(fault.From(err)), false
		default:
			return problem(403, "denied", title(403), ""), false
		}
	}
	if len(bad) == 0 {
		return Answer{}, true
	}
	a := problem(400, "invalid", title(400), "")
	for _, b := range bad {
		a.Problem.Errors = append(a.Problem.Errors, FieldError{Pointer: b.Pointer, Message: b.Message})
	}
	return a, false
}

// keys evaluates `once`, `order_by` and `subject`.
func (x *exec) keys(r Request, env *expression.Env) error {
	route := x.p.route
	if route.Once != nil {
		v, err := route.Once.Eval(env)
		if err != nil {
			return err
		}
		k, ok := v.(string)
		if !ok || k == "" || len(k) > 200 {
			return fault.New(fault.Invalid, "the key of this request (`once: =%s`) must be a text of 1 to 200 bytes", route.Once.Source)
		}
		x.onceKey = k
	} else if r.Key != "" && !x.pipe && (!route.Safe || !x.hasCaller()) {
		x.onceKey = r.Key
	}
	if x.onceKey != "" {
		x.onceScope = route.Name + "\x00" + r.Caller.Owner()
		b, err := schema.Canonical(r.Req)
		if err != nil {
			return fault.New(fault.Invalid, "the request is not plain JSON")
		}
		h := sha256.Sum256(b)
		x.bodyHash = h[:]
	}
	if route.OrderBy != nil {
		v, err := route.OrderBy.Eval(env)
		if err != nil {
			return err
		}
		b, err := codec.Append(nil, shape.Number(v))
		if err != nil {
			return err
		}
		x.orderKey = string(b)
	}
	return x.subjectsOf(env)
}

func (x *exec) subjectsOf(env *expression.Env) error {
	if x.p.route.Safe {
		return nil // never stored
	}
	for _, s := range x.p.route.Subject {
		v, err := s.Eval(env)
		if err != nil {
			return err
		}
		switch v := v.(type) {
		case string:
			x.subjects = append(x.subjects, v)
		case []any:
			for _, e := range v {
				if e, ok := e.(string); ok {
					x.subjects = append(x.subjects, e)
				}
			}
		}
	}
	if len(x.p.route.Subject) == 0 && x.head.Caller != nil && x.head.Caller.TaxCode != "" {
		x.subjects = []string{x.head.Caller.TaxCode}
	}
	return nil
}

// run begins a run that has a caller and waits for its answer. dup tells that
// the once key belongs to another run.
func (e *Engine) run(ctx context.Context, x *exec) (Answer, *store.Duplicate) {
	release, refusal, _ := e.limit(x)
	if release == nil {
		x.cancel(nil)
		return refusal, nil
	}
	if !e.sync.Try() {
		release()
		x.cancel(nil)
		return problem(503, string(fault.Unavailable), "Too many requests at once", "").with("Retry-After", "1"), nil
	}
	done := func() { e.sync.Leave(); release() }
	if x.p.route.Safe {
		defer done()
		return e.runSafe(ctx, x), nil
	}
	w := e.answers.Enter(x.id, x.deadline)
	e.start(func() {
		defer done()
		if x.orderKey != "" {
			// Reception under order_by is what gives the place (4.3).
			if err := x.commit(store.Running, "", time.Time{}, &entry{kind: store.Accepted, at: x.now()}); err != nil {
				x.settleErr(err)
				e.live.drop(x)
				return
			}
		}
		x.drive()
	})
	return e.awaitRun(ctx, x, w)
}

func (e *Engine) awaitRun(ctx context.Context, x *exec, w *waiter) (Answer, *store.Duplicate) {
	stop := e.watch(x.id, x.deadline)
	defer stop()
	if a, ok := e.await(ctx, w); ok {
		return a.a, a.dup
	}
	e.answers.Leave(e.clock, x.id, w)
	x.mu.Lock()
	accepting, durable := x.accepting, x.durable
	x.dropped = !accepting
	x.mu.Unlock()
	switch {
	case durable:
		return e.lateAnswer(x.publicID()), nil
	case accepting: // its commit is on the way, and may fail
		return problem(504, "late", "No answer in time", "It is not known yet whether the request was accepted; ask again with the same Idempotency-Key").of(x.publicID()), nil
	}
	x.cancel(errDropped) // nothing has happened
	return problem(504, "late", "No answer in time", "").of(x.publicID()), nil
}

// runSafe runs a safe route in its caller's goroutine: no commit, no hand-over.
func (e *Engine) runSafe(ctx context.Context, x *exec) Answer {
	x.inline = true
	x.cancel(nil)
	var cancel context.CancelFunc
	if e.real {
		ctx, cancel = context.WithDeadline(ctx, x.deadline)
	} else {
		ctx, cancel = e.within(ctx, x.deadline.Sub(e.clock.Now()))
	}
	defer cancel()
	x.ctx = ctx
	x.cancel = func(error) { cancel() }
	out, err := x.walk()
	if err != nil {
		if x.isDurable() {
			return e.lateAnswer(x.publicID())
		}
		if !errors.Is(err, errDropped) && !errors.Is(err, errStopped) {
			e.log.Error("safe run", "route", x.p.route.Name, "error", err)
		}
		v := verdict{state: store.Failed, reason: "timeout", answer: problem(504, "late", "No answer in time", "").of(x.publicID())}
		x.volatile(v)
		return v.answer
	}
	if out.Kind == step.Rest { // only made by hand: the language refuses it
		out = failing(fault.New(fault.Internal, "a safe route came to rest"))
	}
	v := x.judge(out)
	if x.held != nil {
		v.answer = *x.held
	}
	v.answer = v.answer.of(x.publicID())
	x.volatile(v)
	if v.flt != nil && v.flt.Kind == fault.Internal {
		e.log.Error("safe run", "route", x.p.route.Name, "run", x.publicID(), "step", v.path, "error", v.flt)
	}
	return v.answer
}
