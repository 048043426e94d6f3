package run

import (
	"context"
	"fmt"
	"time"

	"github.com/dime-bus/dime/internal/expression"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/pipeline/language"
	"github.com/dime-bus/dime/pipeline/run/codec"
	"github.com/dime-bus/dime/pipeline/run/occurrence"
	"github.com/dime-bus/dime/pipeline/run/shape"
	"github.com/dime-bus/dime/pipeline/step"
)

// Wait implements step.Effects (semantics 5.1-5.3). It returns Go with the event,
// Rest, or an End without Ending when the time is over.
func (x *exec) Wait(ctx context.Context, f *step.Frame, s *language.Step, path string, m *step.Memory) (step.Outcome, error) {
	if m != nil && m.Expired {
		return step.Outcome{Kind: step.End}, nil
	}
	if m == nil || !m.Resting {
		return x.beginWait(f, s, path)
	}
	v, ok, err := x.match(ctx, f, s, path)
	if err != nil || ok {
		return step.Outcome{Value: v}, err
	}
	until := codec.Instant(x.mem.at(path).rest.x["until"])
	if !until.IsZero() && !x.now().Before(until) {
		n := &entry{kind: store.Expired, path: path, at: x.now(), unwait: true}
		if err := x.commit(store.Running, "", time.Time{}, n); err != nil {
			return step.Outcome{}, err
		}
		return step.Outcome{Kind: step.End}, nil
	}
	return step.Outcome{Kind: step.Rest, Wake: until}, nil
}

func (x *exec) beginWait(f *step.Frame, s *language.Step, path string) (step.Outcome, error) {
	key, ok, err := waitKey(s, f.Env)
	if err != nil {
		return failing(fault.From(err)), nil
	}
	// A whole replay comes to a wait whose event it took before: if it waits for
	// the same thing, that event stands.
	if x.mem != nil {
		if old := x.mem.keptWait(path, key); old != nil {
			x.add(&entry{kind: store.Woken, path: path, at: x.now(), value: old.value, hasValue: true})
			return step.Outcome{Value: old.value}, nil
		}
	}
	var until time.Time
	if s.For != (language.Span{}) {
		until = s.For.After(x.now(), f.Env.Zone).UTC()
	}
	n := &entry{kind: store.Rest, path: path, at: x.now(),
		x: map[string]any{"why": "wait", "until": codec.Millis(until), "event": s.EventType, "key": key}}
	if ok { // a nil on either side never matches
		// Since the run began, which may be long before its first commit (5.2).
		n.wait = &store.Wait{Type: s.EventType, Shape: s.Shape, Key: key, Until: until, Since: x.began}
	}
	x.add(n)
	return step.Outcome{Kind: step.Rest, Wake: until}, nil
}

// match takes the earliest stored event that fits the wait.
func (x *exec) match(ctx context.Context, f *step.Frame, s *language.Step, path string) (any, bool, error) {
	cands, err := x.e.store.Candidates(context.WithoutCancel(ctx), x.id, path)
	if err != nil {
		return nil, false, &errJournal{fmt.Errorf("looking for events: %w", err)}
	}
	for _, c := range cands {
		v, err := codec.Decode(c.Body)
		if err != nil {
			x.e.log.Error("reading a stored event", "type", c.Type, "error", err)
			continue
		}
		if et := x.e.City().Events[c.Type]; et != nil && et.Schema != nil {
			v = et.Schema.Coerce(v)
		}
		if s.Rest != nil {
			env := *f.Env
			env.Vars = make(map[string]any, len(f.Env.Vars)+1)
			for k, w := range f.Env.Vars {
				env.Vars[k] = w
			}
			env.Vars["event"] = v
			ok, err := s.Rest.Eval(&env)
			if err != nil || ok != true {
				continue
			}
		}
		if !x.take(c.Seq) {
			continue
		}
		n := &entry{kind: store.Woken, path: path, at: x.now(), value: v, hasValue: true, unwait: true, taken: c.Seq,
			x: map[string]any{"event": c.Type, "id": c.ID}}
		return v, true, x.commit(store.Running, "", time.Time{}, n)
	}
	return nil, false, nil
}

// take: one run takes an event once.
func (x *exec) take(seq int64) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.taken[seq] {
		return false
	}
	if x.taken == nil {
		x.taken = map[int64]bool{}
	}
	x.taken[seq] = true
	return true
}

// waitKey is the canonical JSON of the key's values; ok is false if one is nil.
func waitKey(s *language.Step, env *expression.Env) (string, bool, error) {
	vals := make([]any, len(s.Key))
	ok := true
	for i, k := range s.Key {
		v, err := k.Value.Eval(env)
		if err != nil {
			return "", false, err
		}
		if v == nil {
			ok = false
		}
		vals[i] = shape.Number(v)
	}
	b, err := codec.Append(nil, vals)
	return string(b), ok && len(vals) > 0, err
}

// Delay implements step.Effects.
func (x *exec) Delay(_ context.Context, f *step.Frame, s *language.Step, path string, m *step.Memory) (step.Outcome, error) {
	var due time.Time
	if m != nil && m.Resting {
		due = codec.Instant(x.mem.at(path).rest.x["wake"])
		if !x.now().Before(due) {
			x.add(&entry{kind: store.Woken, path: path, at: x.now()})
			return step.Outcome{}, nil
		}
		return step.Outcome{Kind: step.Rest, Wake: due}, nil
	}
	if s.Until == nil {
		due = s.Span.After(x.now(), f.Env.Zone).UTC()
	} else {
		v, err := s.Until.Eval(f.Env)
		if err != nil {
			return failing(fault.From(err)), nil
		}
		due, err = occurrence.Due(v, x.now(), f.Env.Zone)
		if err != nil {
			return failing(fault.From(err)), nil
		}
	}
	if !due.After(x.now()) {
		x.add(&entry{kind: store.Woken, path: path, at: x.now()})
		return step.Outcome{}, nil
	}
	x.add(&entry{kind: store.Rest, path: path, at: x.now(), x: map[string]any{"why": "delay", "wake": codec.Millis(due)}})
	return step.Outcome{Kind: step.Rest, Wake: due}, nil
}

// Reply implements step.Effects: the answer is sent after the commit that holds
// it; a run that has only safe steps never commits.
func (x *exec) Reply(_ context.Context, path string, status int, body any, say string) error {
	a := Answer{Status: status, Body: body, Run: x.publicID(), Say: say}
	if status == 202 && !x.p.route.Safe {
		a.Header = map[string]string{"Location": x.e.runURL(x.publicID())}
	}
	n := x.replyEntry(a)
	n.path = path
	x.mu.Lock()
	durable, owes := x.durable, x.owesLocked()
	x.mu.Unlock()
	after := x.p.after(path)
	switch {
	case x.inline, after == nothing, x.pipe:
		// It rides with the end, which is the next thing that happens.
		x.add(n)
		x.hold(a)
		return nil
	case after == onlySafe && !durable && !owes:
		x.add(n)
		x.respond(a)
		return nil
	}
	if err := x.commit(store.Running, "", time.Time{}, n); err != nil {
		return err
	}
	x.respond(a)
	return nil
}

func (x *exec) hold(a Answer) {
	x.mu.Lock()
	x.held = &a
	x.answered = true
	x.mu.Unlock()
}
