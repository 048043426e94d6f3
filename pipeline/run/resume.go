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
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/pipeline/run/head"
	"github.com/dime-bus/dime/pipeline/step"
)

// memory is what the records say of one path.
type memory struct {
	step.Memory
	first int // index of its first record
	seq   int // of its latest intent, emit or taken event
	round int

	intent     *entry // latest
	begun      bool
	done       bool
	value      any
	failed     *fault.Error
	undone     bool
	undoIntent *entry // without outcome
	rest       *entry // latest, while open
	wokenKey   string // wait: the key whose event was taken
}

func (m *memory) resting() bool { return m.rest != nil }

// memories is an index over a run's records. It is built in their order, so
// that what a person did in between has its effect, and not changed afterwards.
type memories struct {
	byPath   map[string]*memory
	rounds   map[string]int
	kept     map[string]*memory // taken events of a start before
	restarts int

	undoing  store.State // the state that an undoing in progress ends in
	reason   string      // of it
	lastEnd  *entry
	cancel   *entry // asked for since the last end
	fromPath string // a replay from there has still to undo
	fromSeq  int
	taken    map[int64]bool
}

func (ms *memories) at(path string) *memory {
	m := ms.byPath[path]
	if m == nil {
		m = &memory{round: ms.round(path), first: -1}
		m.Case = -1
		ms.byPath[path] = m
	}
	return m
}

func (ms *memories) round(path string) int { return max(1, ms.rounds[path]) }

func (ms *memories) final() (store.State, string) {
	if ms.undoing == "" {
		return store.Cancelled, ""
	}
	return ms.undoing, ms.reason
}

func (ms *memories) recall(path string) *step.Memory {
	m := ms.byPath[path]
	if m == nil || m.first < 0 {
		return nil
	}
	return &m.Memory
}

// keptWait finds the event that an earlier start took under the same key.
func (ms *memories) keptWait(path, key string) *entry {
	if m := ms.kept[path]; m != nil && m.wokenKey == key {
		return &entry{value: m.value}
	}
	return nil
}

// remember reads records in order.
func remember(log []*entry) *memories {
	ms := &memories{byPath: map[string]*memory{}, rounds: map[string]int{}, kept: map[string]*memory{}, taken: map[int64]bool{}}
	for i, n := range log {
		switch n.kind {
		case store.Person:
			ms.person(n)
			continue
		case store.End:
			ms.lastEnd, ms.cancel = n, nil
			if n.str("state") == string(store.Undoing) {
				ms.undoing, ms.reason = store.State(n.str("final")), n.str("reason")
			}
			continue
		case store.Accepted:
			continue
		case store.Reply:
			if n.path == "" {
				continue
			}
		}
		if n.flag("safe") {
			continue // a failed safe call is on the timeline only
		}
		ms.take(i, n)
	}
	for _, m := range ms.byPath {
		m.settle()
	}
	return ms
}

func (ms *memories) take(i int, n *entry) {
	m := ms.at(n.path)
	switch n.kind {
	case store.Rest:
		m.mark(i)
		if n.str("why") == "undo" {
			return
		}
		m.rest = n
		if n.str("why") == "defer" {
			m.begun, m.intent, m.failed = false, nil, nil // it runs again, under the same key
		}
		return
	case store.UndoIntent:
		m.undoIntent = n
		return
	case store.UndoOutcome:
		m.undoIntent = nil
		if n.flt == nil {
			m.undone = true
		}
		return
	}
	m.mark(i)
	switch n.kind {
	case store.Result, store.Joined:
		if n.flag("skip") {
			m.Skipped = true
		}
		if c, ok := n.x["case"].(int); ok {
			m.Case = c
		}
		if l, ok := n.x["list"].([]any); ok {
			m.List = l
		}
		if w, ok := n.words("winners"); ok {
			m.Winners = w
		}
		m.At, _ = n.words("at")
		if n.flt != nil {
			m.Failed = n.flt
		}
		if n.in != nil {
			m.In = n.in
		}
		if n.hasValue || n.kind == store.Joined {
			m.done, m.value = true, n.value
		}
		m.Joined = m.Joined || n.kind == store.Joined
	case store.Intent:
		m.intent, m.begun, m.seq = n, true, i
		m.done, m.failed, m.undone, m.rest = false, nil, false, nil
	case store.OutcomeRec:
		m.begun, m.rest = true, nil
		if m.intent == nil {
			m.seq = i
		}
		switch {
		case n.flt == nil:
			m.done, m.value, m.failed = true, n.value, nil
		case n.flag("stated"): // a person knows that it did not happen: it is done at once, under the same key
			m.begun, m.intent, m.failed, m.done = false, nil, nil, false
		default:
			m.failed, m.done = n.flt, false
		}
	case store.Woken:
		if m.rest != nil {
			m.wokenKey = m.rest.str("key")
		}
		m.done, m.value, m.rest, m.seq = true, n.value, nil, i
		if n.taken != 0 {
			ms.taken[n.taken] = true
		}
	case store.Expired:
		m.Expired, m.rest = true, nil
	}
}

func (m *memory) mark(i int) {
	if m.first < 0 {
		m.first = i
	}
}

// settle copies into the step's view what the records came to.
func (m *memory) settle() {
	m.Done, m.Value, m.Begun, m.Undone, m.Resting = m.done, m.value, m.begun, m.undone, m.rest != nil
	if m.failed != nil && !m.done {
		m.Failed = m.failed
	}
}

// person applies a person's act or a caller's retry to what came before.
func (ms *memories) person(n *entry) {
	switch n.str("act") {
	case "cancel":
		ms.cancel = n
	case "too-late":
		ms.cancel = nil
	case "restart": // whole: safe steps read anew
		ms.restarts++
		ms.undoing, ms.fromPath = "", ""
		ms.forget(0, func(m *memory) bool { return m.begun && m.done && !m.undone })
	case "replay": // goes on where it rests: the step that parked it runs again
		if e := ms.lastEnd; e != nil && ms.undoing == "" {
			also, _ := e.words("also")
			for _, path := range slices.Concat(also, []string{e.path}) {
				ms.again(path, !e.flag("stuck") && e.str("reason") != "undoing")
			}
		}
	case "from":
		ms.fromPath, ms.fromSeq = n.path, n.num("seq")
		ms.undoing = ""
	case "from-done":
		ms.restarts++
		ms.fromPath = ""
		ms.forget(n.num("seq"), func(*memory) bool { return false })
		// What was undone before that step has to happen anew.
		for path, m := range ms.byPath {
			if m.undone {
				ms.rounds[path] = m.round + 1
				delete(ms.byPath, path)
			} else if m.failed != nil && m.failed.Kind != fault.Contract && !m.done {
				delete(ms.byPath, path)
			}
		}
	}
}

// again makes a step that failed ready to run, and with items the items that it
// failed: not where their undo is what rests.
func (ms *memories) again(path string, items bool) {
	if m := ms.byPath[path]; m != nil && m.failed != nil && m.failed.Kind != fault.Contract {
		m.failed, m.begun, m.intent = nil, false, nil
		m.first = -1
	}
	for i := len(path); items && i > 0; i = strings.LastIndexByte(path[:i], '/') {
		if m := ms.byPath[path[:i]]; m != nil && m.Failed != nil && !m.begun {
			delete(ms.byPath, path[:i])
		}
	}
}

// forget drops what began at or after a record, unless keep says that it stands.
// What was undone gets its next round.
func (ms *memories) forget(from int, keep func(*memory) bool) {
	for path, m := range ms.byPath {
		if m.first < from && from > 0 {
			continue
		}
		if m.undone {
			ms.rounds[path] = m.round + 1
		}
		if m.wokenKey != "" && m.done {
			ms.kept[path] = m
		}
		if keep(m) {
			m.settle()
			continue
		}
		if m.begun && !m.done && m.failed == nil && !m.undone {
			m.Case, m.List, m.Skipped, m.Joined = -1, nil, false, false
			continue // unresolved: it keeps its key and is resolved first
		}
		delete(ms.byPath, path)
	}
}

// load brings a run into memory.
func (e *Engine) load(ctx context.Context, id store.RunID, l store.Lease) (*exec, error) {
	r, rs, err := e.store.Load(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("loading run %s: %w", e.store.PublicID(id), err)
	}
	h, err := head.Of(r.Head)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	p, perr := e.program(ctx, r.Route, r.Version)
	x := e.newExec(p, id, h)
	x.orderKey, x.subjects = r.OrderKey, r.Subjects
	x.durable, x.lease, x.started, x.state, x.reason = true, l, r.Started, r.State, r.Reason
	x.accepting = true
	if !h.Began.IsZero() {
		x.began = h.Began
	}
	for _, rec := range rs {
		n, err := entryOf(rec)
		if err != nil {
			return x, fmt.Errorf("%w: %w", errUnreadable, err)
		}
		x.log = append(x.log, n)
	}
	x.committed = len(x.log)
	x.owed = 0
	x.mem = remember(x.log)
	x.restarts = x.mem.restarts
	if perr == nil && p.holds {
		if _, c, err := x.collect(); err == nil {
			x.passed.Store(c.pass)
		}
	}
	if n := x.mem.cancel; n != nil && perr == nil && !x.state.Ended() { // asked for, and the process ended before it took effect
		if x.passed.Load() {
			x.add(tooLate(n, x.now()))
		} else {
			x.act.Store(n)
		}
	}
	x.answered = x.replied()
	x.pipe = false
	return x, perr
}

// resume continues a claimed run in this goroutine.
func (e *Engine) resume(r store.Run, l store.Lease) {
	x, err := e.load(e.ctx, r.ID, l)
	if err != nil {
		e.unloadable(r, l, x, err)
		return
	}
	e.live.own(x)
	x.drive()
}

// unloadable parks a run that this binary cannot go on with; where the store
// itself cannot be read the lease runs out and the run is claimed again.
func (e *Engine) unloadable(r store.Run, l store.Lease, x *exec, err error) {
	e.log.Error("resuming a run", "run", e.store.PublicID(r.ID), "route", r.Route, "error", err)
	var reason string
	switch {
	case errors.Is(err, store.ErrErased):
		reason = "erased"
	case errors.Is(err, errNoProgram):
		reason = "version-does-not-compile"
	case errors.Is(err, errUnreadable):
		reason = "unreadable"
	default:
		e.clock.At(l.Until, e.loop.Kick)
		return
	}
	n := &entry{kind: store.End, at: e.clock.Now(), x: map[string]any{"state": string(store.Parked), "reason": reason}}
	if x != nil {
		n.outbox = x.lifeEvent(store.Parked, reason)
	}
	rec, rerr := n.record()
	if rerr != nil {
		return
	}
	if err := e.store.Append(e.ctx, l, store.Parked, reason, time.Time{}, rec); err != nil {
		e.log.Error("parking a run", "run", e.store.PublicID(r.ID), "error", err)
		e.clock.At(l.Until, e.loop.Kick)
		return
	}
	pub := e.store.PublicID(r.ID)
	e.answers.Notify(e.clock, r.ID, answer{a: e.parkedAnswer(pub)})
}

// newExec makes a run in memory.
func (e *Engine) newExec(p *program, id store.RunID, h head.Head) *exec {
	x := &exec{e: e, p: p, id: id, head: h, pub: e.store.PublicID(id), began: e.clock.Now(), state: store.Running}
	x.caller = head.CallerMap(h.Caller)
	x.ctx, x.cancel = context.WithCancelCause(e.ctx)
	return x
}

// start runs a run's goroutine, counted on the clock.
func (e *Engine) start(f func()) {
	clock.Enter(e.clock)
	e.spawn(func() {
		defer clock.Leave(e.clock)
		f()
	})
}
