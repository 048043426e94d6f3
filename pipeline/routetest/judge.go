package routetest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/dime-bus/dime/internal/yamldoc"
	"github.com/dime-bus/dime/pipeline/run"
)

// observed is what one variant of a case came to.
type observed struct {
	asked     bool // somebody waited for an answer
	answers   []answered
	runs      []run.Detail // of the tested route, oldest first
	results   []any        // of each run: what its owner sees
	undone    []string
	world     *world
	crashed   bool // some attempts may have been made twice (semantics 7.8)
	complaint []string
}

// answered is the answer to one of the requests; cut is a connection that a
// crash cut and whose caller had no key to ask again with.
type answered struct {
	run.Answer
	cut bool
}

// judge compares what happened with `then`; failures carry no variant yet.
func judge(e *expect, o *observed) []Failure {
	j := &judgement{e: e, o: o}
	for _, c := range o.complaint {
		j.fail(j.e.node.Pos, "the test", "", c)
	}
	j.reply()
	j.counts("called", e.called, o.world.called, o.crashed)
	j.counts("effects", e.effects, o.world.happened, false)
	j.emitted()
	j.undone()
	j.ended()
	j.result()
	if e.runs != nil && *e.runs != len(o.runs) {
		j.fail(j.place("runs"), "runs", fmt.Sprint(*e.runs), fmt.Sprint(len(o.runs)))
	}
	slices.SortStableFunc(j.failures, func(a, b Failure) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return j.failures
}

type judgement struct {
	e        *expect
	o        *observed
	failures []Failure
}

func (j *judgement) fail(p yamldoc.Pos, what, want, got string) {
	j.failures = append(j.failures, Failure{File: p.File, Line: p.Line, Column: p.Column, What: what, Want: want, Got: got})
}

// place is that of a part of `then`, by its keys.
func (j *judgement) place(keys ...string) yamldoc.Pos {
	p := ""
	for _, k := range keys {
		p += "/" + escape(k)
	}
	return keyAt(j.e.node, p)
}

func (j *judgement) reply() {
	if j.e.status == nil && j.e.body == nil && j.e.say == "" {
		return
	}
	if !j.o.asked {
		j.fail(j.place("reply"), "reply", "an answer", "nobody waits for one: the trigger has no caller")
		return
	}
	for i, a := range j.o.answers {
		if a.cut || j.o.crashed && a.Status == 504 && a.Problem != nil && a.Problem.URL != "" {
			continue // the run went on without its caller (semantics 4.2)
		}
		name := "reply"
		if len(j.o.answers) > 1 {
			name = fmt.Sprintf("reply %d", i+1)
		}
		body := bodyOf(a.Answer)
		if j.e.status != nil && a.Status != *j.e.status {
			got := fmt.Sprint(a.Status)
			if body != nil {
				got += " " + show(body)
			}
			j.fail(j.place("reply", "status"), name+" status", fmt.Sprint(*j.e.status), got)
		}
		if j.e.say != "" && a.Say != j.e.say {
			j.fail(j.place("reply", "say"), name+" say", j.e.say, show(a.Say))
		}
		for _, m := range match(asAny(j.e.body), body, "") {
			if len(j.e.body) == 0 {
				break // only `status` was said
			}
			j.fail(keyAt(j.e.node.Get("reply"), m.path), name+pathWords(m.path), m.want, m.got)
		}
	}
}

func asAny(m map[string]any) any {
	if m == nil {
		return map[string]any{}
	}
	return m
}

// bodyOf is the answer's body; a problem's members are those of RFC 9457.
func bodyOf(a run.Answer) any {
	p := a.Problem
	if p == nil {
		return plainValue(a.Body)
	}
	m := map[string]any{"type": p.Type, "title": p.Title, "status": p.Status}
	for k, v := range map[string]string{"detail": p.Detail, "run": p.Run, "run_url": p.URL, "say": p.Say} {
		if v != "" {
			m[k] = v
		}
	}
	if len(p.Errors) > 0 {
		var es []any
		for _, e := range p.Errors {
			es = append(es, map[string]any{"pointer": e.Pointer, "message": e.Message})
		}
		m["errors"] = es
	}
	return m
}

// pathWords turns a pointer into words for a message: "/a/0/b" is " a[0].b".
func pathWords(pointer string) string {
	if pointer == "" {
		return ""
	}
	b := &strings.Builder{}
	for i, p := range strings.Split(strings.TrimPrefix(pointer, "/"), "/") {
		p = unescape(p)
		switch {
		case p != "" && strings.Trim(p, "0123456789") == "" && i > 0:
			b.WriteString("[" + p + "]")
		case i == 0:
			b.WriteString(" " + p)
		default:
			b.WriteString("." + p)
		}
	}
	return b.String()
}

// counts compares numbers. Under a crash attempts are at least what was wanted:
// calls and published events are at least once (semantics 7.8), effects never.
func (j *judgement) counts(word string, want *counts, got map[string]int, atLeast bool) {
	if want == nil {
		return
	}
	for _, name := range sortedKeys(want.of) {
		w, g := want.of[name], got[name]
		if g == w || atLeast && w > 0 && g > w {
			continue
		}
		j.fail(j.place(word, name), word+" "+name, fmt.Sprint(w), fmt.Sprint(g))
	}
	if !want.exact {
		return
	}
	var more []string
	for _, name := range sortedKeys(got) {
		if got[name] > 0 && !slices.Contains(engineEvents[:], name) {
			more = append(more, fmt.Sprintf("%s: %d", name, got[name]))
		}
	}
	if len(more) > 0 {
		j.fail(j.place(word), word, nothing, strings.Join(more, ", "))
	}
}

func (j *judgement) emitted() {
	e := j.e.emitted
	if e == nil {
		return
	}
	var order []string
	data := map[string][]any{}
	for _, p := range j.o.world.order {
		data[p.event] = append(data[p.event], p.data)
		if !slices.Contains(engineEvents[:], p.event) {
			order = append(order, p.event)
		}
	}
	if (e.none || e.order != nil) && !slices.Equal(e.order, order) && len(e.order)+len(order) > 0 {
		j.fail(j.place("emitted"), "emitted", list(e.order), list(order))
	}
	for _, name := range sortedKeys(e.of) {
		want, got := e.of[name], data[name]
		place, what := j.place("emitted", name), "emitted "+name
		switch {
		case want.count >= 0:
			if len(got) != want.count {
				j.fail(place, what, fmt.Sprint(want.count), fmt.Sprint(len(got)))
			}
		case want.list:
			if len(got) != len(want.all) {
				j.fail(place, what, fmt.Sprintf("%d: %s", len(want.all), show(want.all)), fmt.Sprintf("%d: %s", len(got), show(plainValue(anys(got)))))
				continue
			}
			for i := range want.all {
				j.differences(match(want.all[i], plainValue(got[i]), ""), fmt.Sprintf("%s[%d]", what, i), "emitted", name, fmt.Sprint(i))
			}
		case len(got) == 0:
			j.fail(place, what, show(want.one), nothing)
		default:
			// One of them must fit; the differences of the nearest one are shown.
			var best []mismatch
			for i, g := range got {
				ms := match(want.one, plainValue(g), "")
				if i == 0 || len(ms) < len(best) {
					best = ms
				}
			}
			j.differences(best, what, "emitted", name)
		}
	}
}

func (j *judgement) differences(ms []mismatch, what string, keys ...string) {
	for _, m := range ms {
		p := ""
		for _, k := range keys {
			p += "/" + escape(k)
		}
		j.fail(keyAt(j.e.node, p+m.path), what+pathWords(m.path), m.want, m.got)
	}
}

func anys(l []any) any { return append([]any{}, l...) }

func list(ns []string) string {
	if len(ns) == 0 {
		return "[]"
	}
	return "[" + strings.Join(ns, ", ") + "]"
}

func (j *judgement) undone() {
	u := j.e.undone
	if u == nil {
		return
	}
	if u.list {
		if len(u.order)+len(j.o.undone) > 0 && !slices.Equal(u.order, j.o.undone) {
			j.fail(j.place("undone"), "undone", list(u.order), list(j.o.undone))
		}
		return
	}
	got := map[string]int{}
	for _, n := range j.o.undone {
		got[n]++
	}
	for _, n := range sortedKeys(u.of) {
		if got[n] != u.of[n] {
			j.fail(j.place("undone", n), "undone "+n, fmt.Sprint(u.of[n]), fmt.Sprint(got[n]))
		}
	}
}

func (j *judgement) ended() {
	want := j.e.ended
	if want == "" {
		return
	}
	if len(j.o.runs) == 0 {
		j.fail(j.place("ended"), "ended", want, "no run existed")
	}
	for i, r := range j.o.runs {
		if r.State == want || r.State == "done" && r.Reason == want {
			continue
		}
		got := r.State
		if r.Reason != "" {
			got += " (" + r.Reason + ")"
		}
		what := "ended"
		if len(j.o.runs) > 1 {
			what = fmt.Sprintf("ended, run %d", i+1)
		}
		j.fail(j.place("ended"), what, want, got)
	}
}

func (j *judgement) result() {
	if j.e.result == nil {
		return
	}
	if len(j.o.results) == 0 {
		j.fail(j.place("result"), "result", show(*j.e.result), "no run existed")
	}
	for _, r := range j.o.results {
		j.differences(match(*j.e.result, plainValue(r), ""), "result", "result")
	}
}
