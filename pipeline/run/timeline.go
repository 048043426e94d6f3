package run

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/pipeline/language"
	"github.com/dime-bus/dime/pipeline/run/head"
	"github.com/dime-bus/dime/pipeline/run/mask"
	"github.com/dime-bus/dime/pipeline/run/note"
	"github.com/dime-bus/dime/pipeline/step"
)

// volatileRun is a run that changed nothing; a crash forgets it (semantics 6.4).
type volatileRun struct {
	id     store.RunID
	p      *program
	began  time.Time
	ended  time.Time
	state  store.State
	reason string
	flt    *fault.Error
	log    []*entry
	kept   *atomic.Bool // nil unless it is sampled; then whether the store has it too
}

func (v *volatileRun) stored() bool { return v.kept != nil && v.kept.Load() }

func (e *Engine) summary(id store.RunID, route, digest string, s store.State, reason string, started, ended, due time.Time, durable bool) Summary {
	out := Summary{Run: e.store.PublicID(id), Route: route, State: string(s), Reason: reason, Started: started, Durable: durable}
	if !ended.IsZero() {
		out.Ended = &ended
	}
	if !due.IsZero() && !s.Ended() {
		out.Due = &due
	}
	out.Version = e.label(route, digest)
	return out
}

// label is the number in the version's file; 0 if this process does not know it.
func (e *Engine) label(route, digest string) int {
	if p := e.city.Load().progs[route]; p != nil && p.route.Digest == digest {
		return p.route.Label
	}
	e.pins.mu.Lock()
	defer e.pins.mu.Unlock()
	if p := e.pins.old[digest]; p != nil {
		return p.route.Label
	}
	return 0
}

// Runs lists runs, newest first, those kept only in memory included.
func (e *Engine) Runs(ctx context.Context, f Filter) ([]Summary, error) {
	q := store.Filter{Route: f.Route, Limit: f.Limit}
	if q.Limit <= 0 {
		q.Limit = 100
	}
	for _, s := range f.States {
		q.States = append(q.States, store.State(s))
	}
	if f.Before != "" {
		id, err := e.store.ParseID(f.Before)
		if err != nil {
			return nil, fault.New(fault.NotFound, "there is no run %q", f.Before)
		}
		q.Before = id
	}
	// Memory first: what is written behind meanwhile is then in both, and counts once.
	vs := e.ring.List(func(v *volatileRun) bool {
		return !v.stored() && (f.Route == "" || v.p.route.Name == f.Route) && (len(q.States) == 0 || slices.Contains(q.States, v.state)) &&
			(q.Before == 0 || v.id < q.Before)
	}, q.Limit)
	rs, err := e.store.Find(ctx, q)
	if err != nil {
		return nil, unread("", err)
	}
	type numbered struct {
		id store.RunID
		s  Summary
	}
	var all []numbered
	for _, r := range rs {
		all = append(all, numbered{r.ID, e.summary(r.ID, r.Route, r.Version, r.State, r.Reason, r.Started, r.Ended, r.Due, true)})
	}
	for _, v := range vs {
		all = append(all, numbered{v.id, e.summary(v.id, v.p.route.Name, v.p.route.Digest, v.state, v.reason, v.began, v.ended, time.Time{}, false)})
	}
	slices.SortStableFunc(all, func(a, b numbered) int { return int(b.id - a.id) })
	all = slices.CompactFunc(all, func(a, b numbered) bool { return a.id == b.id })
	out := make([]Summary, 0, min(len(all), q.Limit))
	for _, n := range all[:min(len(all), q.Limit)] {
		out = append(out, n.s)
	}
	return out, nil
}

func noRun(pub string) error { return fault.New(fault.NotFound, "there is no run %q", pub) }

// unread is why a run can't be shown or acted on: it is not there, or not to be read
// at the moment.
func unread(pub string, err error) error {
	if errors.Is(err, store.ErrNoRun) || errors.Is(err, store.ErrErased) {
		return noRun(pub)
	}
	return &fault.Error{Kind: fault.Unavailable, Detail: "the journal can't be read now; try again", Err: err}
}

// Show returns one run with its timeline, personal fields masked.
func (e *Engine) Show(ctx context.Context, pub string) (Detail, error) {
	id, err := e.store.ParseID(pub)
	if err != nil {
		return Detail{}, noRun(pub)
	}
	if vs := e.ring.List(func(v *volatileRun) bool { return v.id == id && !v.stored() }, 1); len(vs) > 0 {
		v := vs[0]
		d := Detail{Summary: e.summary(v.id, v.p.route.Name, v.p.route.Digest, v.state, v.reason, v.began, v.ended, time.Time{}, false),
			Digest: v.p.route.Digest, Volatile: true, Lines: e.timeline(v.p, v.log)}
		d.Version = v.p.route.Label
		end := Line{At: v.ended, Kind: string(store.End), Note: string(v.state)}
		if v.reason != "" {
			end.Note += ": " + v.reason
		}
		if v.flt != nil {
			end.Fault = faultWord(v.flt)
		}
		d.Lines = append(d.Lines, end)
		return d, nil
	}
	r, rs, err := e.store.Load(ctx, id)
	if err != nil && !errors.Is(err, store.ErrErased) {
		return Detail{}, unread(pub, err)
	}
	p, perr := e.program(ctx, r.Route, r.Version)
	if perr != nil {
		p = &program{route: &language.Route{Name: r.Route, Digest: r.Version}, steps: &step.Program{}}
	}
	d := Detail{Summary: e.summary(r.ID, r.Route, r.Version, r.State, r.Reason, r.Started, r.Ended, r.Due, true), Digest: r.Version}
	var log []*entry
	for _, rec := range rs {
		n, err := entryOf(rec)
		if err != nil {
			n = &entry{kind: rec.Kind, path: rec.Path, round: rec.Round, at: rec.At, fault: rec.Fault}
		}
		log = append(log, n)
	}
	d.Lines = e.timeline(p, log)
	return d, nil
}

// timeline renders records, personal fields masked.
func (e *Engine) timeline(p *program, log []*entry) []Line {
	out := make([]Line, 0, len(log))
	for _, n := range log {
		l := Line{At: n.at, Step: n.path, Kind: string(n.kind), Attempt: n.attempts, Duration: n.took, Fault: n.fault}
		if n.round > 1 {
			l.Round = n.round
		}
		var s *language.Step
		if p.steps != nil {
			s = p.steps.ByPath[step.Plain(n.path)]
		}
		if n.kind == store.Reply {
			l.Out = map[string]any{"status": n.num("status")}
		} else {
			l.In, l.Out = mask.Values(e.City().Events, s, n.kind, n.in, n.value)
		}
		l.Note = note.Of(n.kind, n.x)
		if l.Note == "" && s != nil && s.Undo != nil && s.Undo.None != "" && n.kind == store.OutcomeRec {
			l.Note = "no undo: " + s.Undo.None
		}
		out = append(out, l)
	}
	return out
}

// View is what the run's owner sees: its state and the top-level `set` named result. The error is a *fault.Error: NotFound for
// everybody else and for runs that do not exist or were never durable.
func (e *Engine) View(ctx context.Context, pub string, caller Owner) (View, error) {
	id, err := e.store.ParseID(pub)
	if err != nil || caller.Anonymous() {
		return View{}, noRun(pub)
	}
	r, rs, err := e.store.Load(ctx, id)
	if err != nil {
		return View{}, unread(pub, err)
	}
	h, err := head.Of(r.Head)
	if err != nil || h.Caller.Anonymous() || h.Caller.Owner() != caller.Owner() {
		return View{}, noRun(pub)
	}
	v := View{Run: pub, Route: r.Route, State: string(r.State)}
	if r.State == store.Settled {
		v.State = string(store.Failed) // that a person has seen to it is the office's affair
	}
	if p, err := e.program(ctx, r.Route, r.Version); err == nil { // else its state can be told all the same
		v.Result = p.resultIn(rs)
	}
	return v, nil
}

// resultIn is the last value of the top-level `set` of result.
func (p *program) resultIn(rs []store.Record) (result any) {
	for _, rec := range rs {
		s := p.steps.ByPath[rec.Path]
		if rec.Kind != store.Result || s == nil || s.Word != language.SetW || !slices.Contains(p.route.Steps, s) {
			continue
		}
		if n, err := entryOf(rec); err == nil {
			if m, ok := n.value.(map[string]any); ok && m["result"] != nil {
				result = m["result"]
			}
		}
	}
	return result
}
