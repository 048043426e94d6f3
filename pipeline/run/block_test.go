package run

import (
	"context"
	"fmt"
	"testing"
	"time"
)

func TestEachAndAll(t *testing.T) {
	each := func(opts string) string {
		return `
route: r
from: {http: POST /v1/r}
steps:
  - each: '=req.list ?? []'
    as: got
    item: one
` + opts + `
    steps:
      - call: sys.hold
        as: held
        with: {id: =one}
        undo: {call: sys.release, with: {id: =held.v}}
      - call: sys.pay
        as: paid
        with: {id: =one}
        undo: {call: sys.refund, with: {id: =paid.v}}
      - set: {v: =paid.v}
  - reply: 200
    with: {n: =len(got)}
`
	}
	list := []any{"a", "b", "c", "d"}
	for _, c := range []struct {
		name, opts, answer, state string
		pay                       []any
		paid, released            int
	}{
		{"in order", "", `200 {"n":4}`, "done", nil, 4, 0},
		{"in parallel", "    parallel: 3", `200 {"n":4}`, "done", nil, 4, 0},
		{"one fails, all needed", "", `422 "urn:dime:problem:full `, "failed", []any{map[string]any{"v": "p"}, "full"}, 1, 2},
		{"one fails, two needed", "    need: 2", `200 {"n":4}`, "done", []any{map[string]any{"v": "p"}, "full", map[string]any{"v": "q"}}, 3, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, each(c.opts))
			w.script["pay"] = c.pay
			a := w.ask(http("r", map[string]any{"list": list}))
			w.clock.Settle()
			if got := show(a); c.answer[:3] != got[:3] {
				t.Errorf("answered %s, want %s", got, c.answer)
			}
			if w.states() != c.state || w.effects("pay") != c.paid || w.effects("release") != c.released {
				t.Errorf("%s: paid %d, released %d; want %s %d %d\n%s", w.states(), w.effects("pay"), w.effects("release"),
					c.state, c.paid, c.released, w.kinds(w.newest().ID))
			}
		})
	}
}

// The need of an all is met by one branch: the other starts no further step, and
// what it did is undone before the block ends.
func TestAllSurplus(t *testing.T) {
	w := newWorld(t, `
route: r
from: {http: POST /v1/r}
steps:
  - all:
      need: 1
      steps:
        fast:
          - call: sys.read
            as: r
            with: {id: a}
        slow:
          - call: sys.hold
            as: h
            with: {id: a}
            undo: {call: sys.release, with: {id: =h.v}}
          - call: sys.pay
            as: p
            with: {id: a}
            undo: {call: sys.refund, with: {id: =p.v}}
    as: both
  - reply: 200
    with: {fast: '=both.fast?.v', slow: '=both.slow?.v'}
`)
	w.script["read"] = []any{time.Second}
	w.script["hold"] = []any{2 * time.Second}
	a := w.ask(http("r", map[string]any{}))
	w.clock.Settle()
	if got := show(a); got != `200 {"fast":"read-a"}` && got != `200 {"fast":"read-a","slow":null}` {
		t.Errorf("answered %s", got)
	}
	if w.effects("hold") != 1 || w.effects("release") != 1 || w.calls("pay") != 0 {
		t.Errorf("held %d, released %d, pay called %d\n%s", w.effects("hold"), w.effects("release"), w.calls("pay"), w.kinds(w.newest().ID))
	}
}

func TestLimit(t *testing.T) {
	w := newWorld(t, lookup+"limit: {rate: 2/s}\n")
	var got []int
	for range 4 {
		got = append(got, w.ask(http("lookup", map[string]any{"id": "a"})).Status)
	}
	w.pass(time.Second)
	got = append(got, w.ask(http("lookup", map[string]any{"id": "a"})).Status)
	if fmt.Sprint(got) != "[200 200 429 429 200]" {
		t.Errorf("%v", got)
	}
}

// start: a run of its own, with the id that the starter was given; route in a
// route: one journal, its reply is the result.
func TestStartAndSubroute(t *testing.T) {
	child := `
route: child
from: {route: any}
steps:
  - call: sys.hold
    as: held
    with: {id: '=req.id ?? "x"'}
    undo: {none: it expires}
  - reply: 200
    with: {got: =held.v}
`
	w := newWorld(t, child, `
route: r
from: {http: POST /v1/r}
steps:
  - call: route.child
    as: here
    with: {id: in}
  - start: route.child
    as: there
    with: {id: out}
  - reply: 200
    with: {here: =here, there: =there}
`)
	a := w.ask(http("r", map[string]any{}))
	w.pass(time.Second)
	if a.Status != 200 || w.effects("hold") != 2 || w.states() != "done done" {
		t.Fatalf("%s; held %d; %s\n%s", show(a), w.effects("hold"), w.states(), w.kinds(w.newest().ID))
	}
	id, _ := a.Body.(map[string]any)["there"].(string)
	if d, err := w.e.Show(context.Background(), id); err != nil || d.Route != "child" {
		t.Errorf("the started run %q: %+v %v", id, d, err)
	}
}

// Pipe: not durable; published with ids that a repetition gives again.
func TestPipe(t *testing.T) {
	w := newWorld(t, `
route: relay
from: {event: thing.paid}
req: events/thing.paid
version: 1
about: a
owner: t@example.org
steps:
  - call: sys.read
    as: got
    with: {id: =req.id}
  - emit: thing.other
    with: {id: =got.v}
`, `
route: sink
from: {event: thing.other}
req: events/thing.other
version: 1
about: a
owner: t@example.org
steps:
  - call: sys.hold
    as: held
    with: {id: =req.id}
    undo: {none: it expires}
`)
	w.publish("thing.paid", "e-1", map[string]any{"id": "1"})
	w.publish("thing.paid", "e-1", map[string]any{"id": "1"})
	if w.states() != "done" || w.effects("hold") != 1 {
		t.Errorf("%q, held %d: the sink runs once, the pipe is not stored", w.states(), w.effects("hold"))
	}
}
