// Package moving gives runs at rest another version of their route (semantics
// 10.3): every path of the journal must be there, with what was recorded fitting
// its type, for from then on the new version reads the old one's records.
package moving

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/expression"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/pipeline/language"
	"github.com/dime-bus/dime/pipeline/run/codec"
	"github.com/dime-bus/dime/pipeline/run/head"
	"github.com/dime-bus/dime/pipeline/step"
)

// Memory is what is needed of a store.
type Memory interface {
	store.Journal
	ParseID(s string) (store.RunID, error)
	ListVersions(ctx context.Context, route string) ([]store.Version, error)
}

// Mover moves runs.
type Mover struct {
	Store   Memory
	Worker  string
	Now     func() time.Time
	Compile func(ctx context.Context, route, digest string) (*language.Route, error)
}

// Request of a person; To is a version's number, or the beginning of its digest.
type Request struct {
	Run, To, As, Reason string
	DryRun              bool
}

// Report says what came of it.
type Report struct {
	Run    string   `json:"run"`
	Route  string   `json:"route"`
	State  string   `json:"state"`
	From   Version  `json:"from"`
	To     Version  `json:"to"`
	New    []string `json:"new"`   // steps before where the run rests, which it has not done: they are done when it goes on
	Unfit  []string `json:"unfit"` // why it can't be moved
	DryRun bool     `json:"dry_run"`
}

// Version of a route.
type Version struct {
	Label  int    `json:"version"`
	Digest string `json:"digest"`
}

// Move checks, and unless it is a dry run moves.
func (m *Mover) Move(ctx context.Context, q Request) (Report, error) {
	if q.As == "" || q.Reason == "" {
		return Report{}, fault.New(fault.Invalid, "a person's act needs who (`as`) and why (`reason`)")
	}
	id, err := m.Store.ParseID(q.Run)
	if err != nil {
		return Report{}, fault.New(fault.NotFound, "there is no run %s", q.Run)
	}
	var l store.Lease
	if !q.DryRun {
		_, l, err = m.Store.ClaimOne(ctx, m.Worker, id)
		switch {
		case errors.Is(err, store.ErrFenced):
			return Report{}, fault.New(fault.Conflict, "run %s is at work now; try again when it rests", q.Run)
		case errors.Is(err, store.ErrNoRun):
			return Report{}, fault.New(fault.NotFound, "there is no run %s", q.Run)
		case err != nil:
			return Report{}, err
		}
	}
	rep, moved, err := m.move(ctx, id, l, q)
	if !q.DryRun && !moved {
		err = errors.Join(err, m.Store.Release(context.WithoutCancel(ctx), l))
	}
	return rep, err
}

func (m *Mover) move(ctx context.Context, id store.RunID, l store.Lease, q Request) (rep Report, moved bool, err error) {
	r, rs, err := m.Store.Load(ctx, id)
	switch {
	case errors.Is(err, store.ErrNoRun):
		return rep, false, fault.New(fault.NotFound, "there is no run %s", q.Run)
	case errors.Is(err, store.ErrErased):
		return rep, false, fault.New(fault.Conflict, "run %s is erased", q.Run)
	case err != nil:
		return rep, false, err
	case r.State != store.Waiting && r.State != store.Parked:
		return rep, false, fault.New(fault.Conflict, "run %s is %s: only waiting and parked runs are moved", q.Run, r.State)
	}
	vs, err := m.Store.ListVersions(ctx, r.Route)
	if err != nil {
		return rep, false, err
	}
	to, err := pick(vs, q.To, r.Route)
	if err != nil {
		return rep, false, err
	}
	rep = Report{Run: q.Run, Route: r.Route, State: string(r.State), From: Version{Digest: r.Version}, To: to, DryRun: q.DryRun, New: []string{}, Unfit: []string{}}
	for _, v := range vs {
		if v.Digest == r.Version {
			rep.From.Label = v.Label
		}
	}
	if to.Digest == r.Version {
		return rep, false, fault.New(fault.Conflict, "run %s is of version %d already", q.Run, to.Label)
	}
	next, err := m.Compile(ctx, r.Route, to.Digest)
	if err != nil {
		return rep, false, fault.New(fault.Conflict, "version %d of %s can't be compiled: %v", to.Label, r.Route, err)
	}
	was, err := m.Compile(ctx, r.Route, r.Version)
	if err != nil {
		was = nil // the very reason to move it: its records alone are judged
	}
	lines, err := read(rs)
	if err != nil {
		return rep, false, err
	}
	h, err := head.Of(r.Head)
	if err != nil {
		return rep, false, err
	}
	rep.Unfit, rep.New = check(was, next, h.Req, lines)
	if q.DryRun {
		return rep, false, nil
	}
	if len(rep.Unfit) > 0 {
		return rep, false, fault.New(fault.Conflict, "run %s does not fit version %d: %s", q.Run, to.Label, strings.Join(rep.Unfit, "; "))
	}
	body, err := codec.Append(nil, map[string]any{"act": "migrate", "as": q.As, "reason": q.Reason, "from": r.Version, "to": to.Digest})
	if err != nil {
		return rep, false, err
	}
	wake := time.Time{}
	if r.State == store.Waiting {
		wake = m.Now() // it looks at where it rests with the new version's eyes
	}
	err = m.Store.Append(ctx, l, r.State, r.Reason, wake, store.Record{Kind: store.Person, At: m.Now(), Body: body, Version: to.Digest})
	if errors.Is(err, store.ErrNoVersion) { // retention took it after it was listed
		err = gone(q.To, r.Route)
	}
	return rep, err == nil, err
}

// pick finds the version that a person means.
func pick(vs []store.Version, to, route string) (Version, error) {
	var found []Version
	label, lerr := strconv.Atoi(to)
	for _, v := range vs {
		if lerr == nil && v.Label == label || lerr != nil && len(to) >= 6 && strings.HasPrefix(v.Digest, to) {
			found = append(found, Version{v.Label, v.Digest})
		}
	}
	switch len(found) {
	case 0:
		return Version{}, gone(to, route)
	case 1:
		return found[0], nil
	}
	var digests []string
	for _, f := range found {
		digests = append(digests, f.Digest)
	}
	return Version{}, &fault.Error{Kind: fault.Invalid, Pointer: "/to", Detail: fmt.Sprintf("version %s of %s has %d digests, for schemas or operations changed under it: name one of %s", to, route, len(found), strings.Join(digests, ", "))}
}

func gone(to, route string) error {
	return &fault.Error{Kind: fault.NotFound, Pointer: "/to", Detail: fmt.Sprintf("the store knows no version %q of %s; name its number, or six characters or more of its digest", to, route)}
}

// line is what a record says of its path.
type line struct {
	kind     store.Kind
	path     string
	why      string // of a rest
	target   string // of an intent
	which    int    // case of a switch; -1 where it says none
	value    any
	hasValue bool
	skipped  bool // by its `if`
}

func read(rs []store.Record) ([]line, error) {
	var out []line
	for _, r := range rs {
		n := line{kind: r.Kind, path: r.Path}
		v, err := codec.Decode(r.Body)
		if err != nil {
			return nil, fmt.Errorf("reading record %s of %q: %w", r.Kind, r.Path, err)
		}
		m, _ := v.(map[string]any)
		if safe, _ := m["safe"].(bool); safe {
			continue // a failed safe call is on the timeline only
		}
		n.value, n.hasValue = m["v"]
		n.skipped, _ = m["skip"].(bool)
		if n.which = -1; m["case"] != nil {
			n.which, _ = m["case"].(int)
		}
		n.why, _ = m["why"].(string)
		n.target, _ = m["target"].(string)
		out = append(out, n)
	}
	return out, nil
}

// check says why records don't fit a version, and which of its steps the walk
// comes by anew. was is nil where the old version is not to be had.
func check(was, next *language.Route, req any, lines []line) (unfit, fresh []string) {
	unfit = []string{}
	if flt := step.Fits(next.Req, req, "the request"); flt != nil {
		unfit = append(unfit, flt.Detail)
	}
	if was != nil && source(was.OrderBy) != source(next.OrderBy) {
		unfit = append(unfit, "`order_by` changed, and the run has its place under the old key")
	}
	after := places{}
	after.add("", next.Steps)
	before := places{}
	if was != nil {
		before.add("", was.Steps)
	}
	seen := map[string]bool{}
	open := map[string]bool{}
	for _, n := range lines {
		path := step.Plain(n.path)
		if n.path == "" || n.kind == store.Person || n.kind == store.End || n.kind == store.Accepted {
			continue
		}
		for p := path; p != ""; { // a block counts with what is in it
			seen[p] = true
			i := strings.LastIndexByte(p, '/')
			p = p[:max(i, 0)]
		}
		switch n.kind {
		case store.Rest:
			if n.why == "wait" {
				open[path] = true
			}
		case store.Woken, store.Expired:
			delete(open, path)
		}
		if len(after[path]) == 0 {
			unfit = append(unfit, fmt.Sprintf("it has no step %q%s", path, schema.DidYouMean(path, slices.Sorted(maps.Keys(after)))))
			continue
		}
		unfit = append(unfit, after.judge(before, path, func(b, s *language.Step) []string { return kept(b, s, path, n) })...)
	}
	for path := range open {
		unfit = append(unfit, after.judge(before, path, func(b, s *language.Step) []string {
			if b != nil && condition(s) != condition(b) {
				return []string{fmt.Sprintf("%q waits for another event, or on another condition", path)}
			}
			return nil
		})...)
	}
	slices.Sort(unfit)
	return slices.Compact(unfit), passed(next.Steps, "", seen)
}

// places are the steps by their plain paths. Those of a switch's cases may share
// one: the records of a run are of any of them, for which case it was is judged by
// the record of the switch.
type places map[string][]*language.Step

func (p places) add(prefix string, steps []*language.Step) {
	for _, s := range steps {
		path := prefix + s.Path
		p[path] = append(p[path], s)
		for _, c := range s.Cases {
			p.add(path+"/", c.Steps)
		}
		p.add(path+"/", s.Otherwise)
		p.add(path+"/", s.Steps)
		for _, b := range s.Branches {
			p.add(path+"/"+b.Name+"/", b.Steps)
		}
		if s.Route != nil {
			p.add(path+"/", s.Route.Steps)
		}
	}
}

// judge gives what speaks against a path's steps, taking what comes first of those
// that the fewest words speak against.
func (p places) judge(before places, path string, against func(b, s *language.Step) []string) (unfit []string) {
	olds := before[path]
	if len(olds) == 0 {
		olds = []*language.Step{nil}
	}
	first := true
	for _, s := range p[path] {
		for _, b := range olds {
			if found := against(b, s); first || len(found) < len(unfit) {
				unfit, first = found, false
			}
		}
	}
	return unfit
}

// kept judges one record under the step that will read it.
func kept(b, s *language.Step, path string, n line) (unfit []string) {
	bad := func(format string, args ...any) {
		unfit = append(unfit, fmt.Sprintf("%q "+format, append([]any{path}, args...)...))
	}
	if b != nil && b.Word != s.Word {
		bad("is a `%s` and was a `%s`", s.Word, b.Word)
		return unfit
	}
	if n.kind == store.Intent && n.target != "" && n.target != s.Target {
		bad("calls %s, and the run has called %s", s.Target, n.target)
	}
	if b != nil && n.which >= 0 && which(b, n.which) != which(s, n.which) {
		bad("has other cases, and the run took one of the old ones")
	}
	if b != nil && b.Undo != nil && b.Undo.None == "" && (s.Undo == nil || s.Undo.None != "") && n.kind == store.Intent {
		bad("has no `undo`, and the run may have to undo it")
	}
	if b != nil && b.Operation != nil && s.Operation != nil && effect(b) != effect(s) {
		bad("is %s and was %s", s.Operation.Effect, b.Operation.Effect)
	}
	if (n.kind == store.OutcomeRec || n.kind == store.Result && b == nil) && n.hasValue && s.Operation != nil {
		if flt := step.Fits(s.Operation.Out, n.value, "its recorded result"); flt != nil {
			bad("%s", flt.Detail)
		}
	}
	if n.skipped && s.If == nil {
		bad("has no `if`, and the run skipped it")
	}
	if n.hasValue && b != nil && b.Type != nil && s.Type != nil {
		if ms := schema.Assignable(b.Type, s.Type); len(ms) > 0 {
			bad("has another type: %v", ms[0])
		}
	}
	return unfit
}

// which is the condition of a switch's case, by which it is known again: a record
// has but its number.
func which(s *language.Step, i int) string {
	if i < len(s.Cases) {
		return source(s.Cases[i].If)
	}
	return fmt.Sprintf("else of %d", len(s.Cases))
}

func effect(s *language.Step) connectors.Effect { return s.Operation.Effect }

// condition is what a wait's durable key was made of.
func condition(s *language.Step) string {
	parts := []string{s.EventType, s.Shape, source(s.Rest)}
	for _, k := range s.Key {
		parts = append(parts, k.Path+"="+source(k.Value))
	}
	return strings.Join(parts, "\x00")
}

// passed lists the steps of a block that stand before the last one the run has
// been at, and that it has not done.
func passed(steps []*language.Step, prefix string, seen map[string]bool) []string {
	last := -1
	for i, s := range steps {
		if seen[prefix+s.Path] {
			last = i
		}
	}
	out := []string{}
	for i, s := range steps {
		path := prefix + s.Path
		switch {
		case i >= last:
		case !seen[path] && s.Word != language.Check: // a check that held left no record
			out = append(out, path)
		}
		if seen[path] && s.Word == language.Each {
			out = append(out, passed(s.Steps, path+"/", seen)...)
		}
	}
	return out
}

func source(x *expression.Expr) string {
	if x == nil {
		return ""
	}
	return x.Source
}
