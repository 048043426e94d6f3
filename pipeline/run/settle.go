package run

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/pipeline/language"
	"github.com/dime-bus/dime/pipeline/run/codec"
	"github.com/dime-bus/dime/pipeline/step"
)

// verdict is how a run ends or parks (the table of semantics 3).
type verdict struct {
	state  store.State
	reason string
	undo   bool
	answer Answer
	end    string // the name of an ordered end in law
	path   string
	also   []string // steps that failed other items of the same blocks
	flt    *fault.Error
}

func problem(status int, word, title, detail string) Answer {
	return Answer{Status: status, Problem: &Problem{Type: fault.ProblemType(word), Title: title, Status: status, Detail: detail}}
}

func (a Answer) with(name, value string) Answer {
	h := make(map[string]string, len(a.Header)+1)
	for k, v := range a.Header {
		h[k] = v
	}
	h[name] = value
	a.Header = h
	return a
}

// of stamps the run's id into an answer.
func (a Answer) of(pub string) Answer {
	a.Run = pub
	if a.Problem != nil {
		p := *a.Problem
		p.Run = pub
		a.Problem = &p
	}
	return a
}

// lateAnswer is 504 with the run's URL: the run goes on without its caller.
func (e *Engine) lateAnswer(pub string) Answer {
	a := problem(504, "late", "No answer in time; the run goes on", "").of(pub)
	a.Problem.URL = e.runURL(pub)
	return a.with("Location", e.runURL(pub))
}

func (e *Engine) parkedAnswer(pub string) Answer {
	return Answer{Status: 202, Run: pub, Body: map[string]any{"run": pub, "run_url": e.runURL(pub), "state": "parked"}}.
		with("Location", e.runURL(pub))
}

// settledAnswer: a retry must not begin what a person has dealt with.
func settledAnswer(pub string) Answer {
	return problem(409, "settled", "The request failed, and somebody has seen to it", "").of(pub)
}

func faultAnswer(f *fault.Error) Answer {
	row := f.Kind.Row()
	a := problem(row.Status, string(f.Kind), row.Title, "")
	a.Say, a.Problem.Say = f.Say, f.Say
	if f.Kind != fault.Internal {
		a.Problem.Detail = f.Detail
	}
	if f.RetryAfter > 0 {
		a = a.with("Retry-After", strconv.Itoa(int((f.RetryAfter+time.Second-1)/time.Second)))
	} else if row.Status == 503 {
		a = a.with("Retry-After", "5")
	}
	return a
}

// judge reads the table of semantics 3 for an outcome of the walk.
func (x *exec) judge(out step.Outcome) verdict {
	v := verdict{state: store.Done}
	e := out.Ending
	if e == nil {
		v.answer = Answer{Status: 204}
		if out.Value != nil {
			v.answer = Answer{Status: 200, Body: out.Value}
		}
		return v
	}
	v.reason, v.path, v.also = e.Reason, e.Path, e.Also
	switch {
	case e.Fault != nil:
		v.state, v.undo, v.flt = store.Failed, true, e.Fault
		v.reason = faultWord(e.Fault)
		v.answer = faultAnswer(e.Fault)
		if x.p.route.OrderBy != nil {
			// An unhandled failure parks before any undo and keeps the key (5.4);
			// the caller learns where it rests, for a person may yet make it good.
			v.state, v.undo = store.Parked, false
			v.answer = x.e.parkedAnswer(x.publicID())
		}
	case e.End == language.Stop:
		v.answer = Answer{Status: 204}
	case e.End == language.ReplyEnd:
		v.answer = Answer{Status: e.Status, Body: e.Body, Say: e.Say}
		switch {
		case e.Status >= 500:
			v.state, v.undo = store.Failed, true
		case e.Status >= 400:
			v.state, v.undo = store.Cancelled, true
		}
		if e.Status >= 400 {
			if v.reason = e.Say; v.reason == "" {
				v.reason = "replied-" + strconv.Itoa(e.Status)
			}
			if e.Body == nil {
				v.answer = problem(e.Status, "reply", title(e.Status), "")
				v.answer.Say, v.answer.Problem.Say = e.Say, e.Say
			}
		}
	case e.End == language.Cancel:
		v.state, v.undo = store.Cancelled, true
		v.answer = problem(409, "cancelled", "The request was cancelled", e.Reason)
	case e.End == language.EndName:
		v.end = e.Reason
		v.answer = Answer{Status: 200, Body: map[string]any{"end": e.Reason}}
	case e.End == language.Fail:
		v.state, v.undo = store.Failed, true
		v.answer = problem(500, "failed", "The request failed", e.Reason)
	case e.End == language.Park:
		v.state = store.Parked
		v.answer = x.e.parkedAnswer(x.publicID())
		if e.Doubt {
			v.answer = x.e.lateAnswer(x.publicID())
		}
	}
	if v.undo && x.passed.Load() {
		// Behind a commit nothing is undone: what would undo parks (7.7).
		v.state, v.undo = store.Parked, false
		v.answer = x.e.parkedAnswer(x.publicID())
	}
	return v
}

func title(status int) string {
	switch status {
	case 400:
		return "The request is not right"
	case 401:
		return "Sign in first"
	case 403:
		return "Not allowed"
	case 404:
		return "Not found"
	case 409:
		return "Conflict with the present state"
	case 422:
		return "The request cannot be carried out"
	}
	if status >= 500 {
		return "The request failed"
	}
	return "The request was refused"
}

// owesLocked: something in memory has to be committed or published. x.mu is held.
func (x *exec) owesLocked() bool {
	for _, n := range x.log[x.committed:] {
		if len(n.outbox) > 0 {
			return true
		}
	}
	return false
}

// settle brings a walk's outcome into the journal and answers.
func (x *exec) settle(out step.Outcome) error {
	if out.Kind == step.Rest {
		return x.rest(out)
	}
	v := x.judge(out)
	x.mu.Lock()
	durable, owes := x.durable, x.owesLocked()
	if x.held != nil && (v.state == store.Done || v.answer.Problem != nil) {
		v.answer = *x.held
	}
	x.mu.Unlock()
	v.answer = v.answer.of(x.publicID())
	switch {
	case durable:
	case v.state == store.Parked:
	case x.pipe && v.state == store.Done:
		return x.publishHeld(v)
	case v.state == store.Done && owes:
	case v.state == store.Failed && !x.hasCaller(): // a dead letter, for a person
	case x.orderKey != "":
	default:
		// Nothing has happened outside: no commit (semantics 4.3). Events that were
		// only in memory are dropped with the run.
		x.volatile(v)
		return nil
	}
	return x.end(v)
}

// hasCaller says whether the run was begun by somebody who gets its answer.
func (x *exec) hasCaller() bool {
	switch x.head.Trigger {
	case "event", "queue", "cron", "every", "start":
		return false
	}
	return true
}

// volatile ends a run that was never durable.
func (x *exec) volatile(v verdict) {
	x.mu.Lock()
	x.state, x.reason = v.state, v.reason
	x.mu.Unlock()
	was := volatileRun{id: x.id, p: x.p, began: x.began, ended: x.now(), state: v.state, reason: v.reason, flt: v.flt, log: x.log}
	if x.e.behind.Due(v.state) {
		was.kept = x.keep(v)
	}
	x.e.ring.Put(was)
	x.e.cfg.Observer.RunEnded(x.p.route.Name, string(v.state), x.now().Sub(x.began))
	x.respond(v.answer)
}

// end commits an end, a park, or the beginning of an undoing, then answers.
func (x *exec) end(v verdict) error {
	var armed []*armed
	if v.undo {
		var err error
		if armed, _, err = x.collect(); err != nil {
			return err
		}
	}
	if v.state != store.Parked {
		x.closeWaits("")
	}
	n := x.endEntry(v)
	ns := []*entry{n}
	if v.state != store.Parked && !x.replied() && v.answer.Status != 0 {
		// What a parked run says is a word on the way, not its reply: that comes when
		// it ends, and is then kept for `once` and the run's URL (semantics 4.2).
		ns = []*entry{x.replyEntry(v.answer), n}
	}
	state := v.state
	if len(armed) > 0 {
		state = store.Undoing
		n.x["state"], n.x["final"] = string(store.Undoing), string(v.state)
	} else {
		n.outbox = x.lifeEvent(v.state, v.reason)
	}
	if err := x.commit(state, v.reason, time.Time{}, ns...); err != nil {
		return err
	}
	x.respond(v.answer)
	if state == store.Undoing {
		return x.undoAll()
	}
	x.finished(state)
	return nil
}

// closeWaits takes the open waits below a prefix out of the store.
func (x *exec) closeWaits(prefix string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	open := map[string]bool{}
	for _, n := range x.log {
		switch {
		case n.kind == store.Rest && n.str("why") == "wait":
			open[n.path] = true
		case n.kind == store.Woken || n.kind == store.Expired:
			delete(open, n.path)
		}
	}
	for _, path := range sortedKeys(open) {
		if strings.HasPrefix(path, prefix) {
			x.log = append(x.log, &entry{kind: store.Expired, path: path, at: x.e.clock.Now(), unwait: true, x: map[string]any{"surplus": true}})
		}
	}
}

func (x *exec) finished(state store.State) {
	x.e.cfg.Observer.RunEnded(x.p.route.Name, string(state), x.now().Sub(x.began))
}

func (x *exec) endEntry(v verdict) *entry {
	n := &entry{kind: store.End, path: v.path, at: x.now(), x: map[string]any{"state": string(v.state), "reason": v.reason}}
	if v.end != "" {
		n.x["end"] = v.end
	}
	if len(v.also) > 0 {
		n.x["also"] = v.also
	}
	if v.flt != nil {
		n.flt, n.fault = v.flt, faultWord(v.flt)
	}
	return n
}

// replied says whether the journal holds an answer of this start.
func (x *exec) replied() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := len(x.log) - 1; i >= 0; i-- {
		switch n := x.log[i]; n.kind {
		case store.Reply:
			return true
		case store.Person:
			if n.str("act") == "restart" {
				return false
			}
		}
	}
	return false
}

func (x *exec) replyEntry(a Answer) *entry {
	n := &entry{kind: store.Reply, at: x.now(), value: a.Body, hasValue: a.Body != nil, x: map[string]any{"status": a.Status}}
	if a.Say != "" {
		n.x["say"] = a.Say
	}
	if p := a.Problem; p != nil {
		n.x["problem"] = map[string]any{"type": p.Type, "title": p.Title, "detail": p.Detail, "say": p.Say, "url": p.URL}
	}
	if len(a.Header) > 0 {
		h := map[string]any{}
		for k, v := range a.Header {
			h[k] = v
		}
		n.x["header"] = h
	}
	return n
}

// answerOf reads a Reply record back.
func answerOf(n *entry, pub string) Answer {
	a := Answer{Status: n.num("status"), Body: n.value, Say: n.str("say")}
	if m, ok := n.x["problem"].(map[string]any); ok {
		str := func(k string) string { s, _ := m[k].(string); return s }
		a.Problem = &Problem{Type: str("type"), Title: str("title"), Status: a.Status, Detail: str("detail"), Say: str("say"), URL: str("url")}
	}
	if m, ok := n.x["header"].(map[string]any); ok {
		for k, v := range m {
			if s, ok := v.(string); ok {
				a = a.with(k, s)
			}
		}
	}
	return a.of(pub)
}

// lifeEvent tells the city of a run's end (semantics 7.5): no personal values.
func (x *exec) lifeEvent(s store.State, reason string) []store.Outbox {
	var word string
	switch s {
	case store.Done:
		word = "run.done"
	case store.Cancelled:
		word = "run.cancelled"
	case store.Failed:
		word = "run.failed"
	case store.Parked:
		word = "run.parked"
	default:
		return nil
	}
	body, err := codec.Append(nil, map[string]any{"run": x.publicID(), "route": x.p.route.Name, "reason": reason})
	if err != nil {
		return nil
	}
	return []store.Outbox{{ID: x.e.store.Key("end", x.publicID(), word, strconv.Itoa(len(x.log))), Topic: word, Body: body,
		Meta: map[string]string{"source": x.p.route.Name}}}
}

// rest commits a resting run and lets go of it.
func (x *exec) rest(out step.Outcome) error {
	x.mu.Lock()
	why := ""
	for i := len(x.log) - 1; i >= 0 && why == ""; i-- {
		if n := x.log[i]; n.kind == store.Rest {
			why = n.str("why")
		}
	}
	x.mu.Unlock()
	if err := x.commit(store.Waiting, x.restReason(restWord(why)), out.Wake); err != nil {
		return err
	}
	if x.CallerWaits() {
		x.respond(x.e.lateAnswer(x.publicID()))
	}
	return nil
}

// cancelled is a person's cancel that took effect between two steps.
func (x *exec) cancelled() error {
	act := x.act.Load()
	if x.passed.Load() {
		return errors.New("cancelling: the run has passed a commit")
	}
	x.mu.Lock()
	x.acted = true
	logged := slices.Contains(x.log, act)
	x.mu.Unlock()
	if !logged {
		x.add(act)
	}
	return x.end(verdict{state: store.Cancelled, reason: "cancelled by " + act.str("as"), undo: true,
		answer: problem(409, "cancelled", "The request was cancelled", "").of(x.publicID())})
}

// publishHeld ends a pipe: its events are published with derived ids and
// confirmed; only then the source message is acked (semantics 4.3).
func (x *exec) publishHeld(v verdict) error {
	x.mu.Lock()
	var out []store.Outbox
	for _, n := range x.log {
		out = append(out, n.outbox...)
	}
	x.mu.Unlock()
	ms := make([]Message, len(out))
	for i, o := range out {
		ms[i] = Message{ID: o.ID, Type: o.Topic, At: x.now(), Body: o.Body, Meta: o.Meta}
	}
	if err := x.e.send(x.ctx, ms); err != nil {
		return fmt.Errorf("publishing what a pipe holds: %w", err)
	}
	x.volatile(v)
	return nil
}
