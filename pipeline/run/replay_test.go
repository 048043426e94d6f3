package run

import (
	"context"
	"strings"
	"testing"
	"time"
)

const parking = `
route: parking
from: {http: POST /v1/parking}
steps:
  - call: sys.hold
    as: held
    with: {id: a}
    undo: {call: sys.release, with: {id: =held.v}}
  - call: sys.pay
    as: paid
    with: {id: a}
    undo: {call: sys.refund, with: {id: =paid.v}}
  - check: paid.v == "right"
    else: {OUTCOME: look}
  - set: {result: {v: =paid.v}}
`

// Replay from a path: what is before it stays, what happened from it on is undone
// first and gets the next round (semantics 10.2).
func TestReplayFromUndoesFirst(t *testing.T) {
	for _, c := range []struct {
		outcome, from     string
		dry               string
		held, released    int
		paid, refunded    int
		state, afterwards string
	}{
		{"park", "paid", "undo [paid] keep [held] again []", 1, 0, 2, 1, "parked", "done"},
		{"park", "held", "undo [paid held] keep [] again []", 2, 1, 2, 1, "parked", "done"},
		{"fail", "", "undo [] keep [] again [held paid]", 2, 1, 2, 1, "failed", "done"},
		{"fail", "paid", "undo [] keep [] again [held paid]", 2, 1, 2, 1, "failed", "done"},
	} {
		t.Run(c.outcome+" from="+c.from, func(t *testing.T) {
			w := newWorld(t, strings.Replace(parking, "OUTCOME", c.outcome, 1))
			w.script["pay"] = []any{map[string]any{"v": "wrong"}, map[string]any{"v": "right"}}
			w.ask(http("parking", map[string]any{}))
			w.clock.Settle()
			if got := w.states(); got != c.state {
				t.Fatalf("%s, want %s", got, c.state)
			}
			pub := w.disk.PublicID(w.newest().ID)
			act := clerk
			act.From, act.DryRun = c.from, true
			rep, err := w.e.Replay(context.Background(), pub, act)
			list := func(l []string) string { return "[" + strings.Join(l, " ") + "]" }
			if got := "undo " + list(rep.Undo) + " keep " + list(rep.Keep) + " again " + list(rep.Again); err != nil || got != c.dry {
				t.Errorf("dry: %s (%v), want %s", got, err, c.dry)
			}
			if w.states() != c.state || w.calls("pay") != 1 {
				t.Error("the dry replay did something")
			}
			act.DryRun = false
			if _, err := w.e.Replay(context.Background(), pub, act); err != nil {
				t.Fatal(err)
			}
			w.clock.Settle()
			if w.states() != c.afterwards || w.effects("hold") != c.held || w.effects("release") != c.released ||
				w.effects("pay") != c.paid || w.effects("refund") != c.refunded {
				t.Errorf("%s: held %d, released %d, paid %d, refunded %d\n%s", w.states(), w.effects("hold"), w.effects("release"),
					w.effects("pay"), w.effects("refund"), w.kinds(w.newest().ID))
			}
		})
	}
	w := newWorld(t, strings.Replace(parking, "OUTCOME", "park", 1))
	w.ask(http("parking", map[string]any{}))
	act := clerk
	act.From = "payd"
	if _, err := w.e.Replay(context.Background(), w.disk.PublicID(w.newest().ID), act); err == nil || !strings.Contains(err.Error(), "paid") {
		t.Errorf("a wrong path: %v", err)
	}
}

// Waits in parallel branches: the run rests when every branch rests, each takes
// its own event, across crashes.
func TestParallelWaits(t *testing.T) {
	w := newWorld(t, `
route: r
from: {http: POST /v1/r}
steps:
  - reply: 202
  - each: '=req.list ?? []'
    as: got
    item: one
    parallel: 5
    steps:
      - wait: thing.paid
        as: ev
        where: event.id == one
        for: 1d
        else: skip
      - call: sys.hold
        as: held
        with: {id: =one}
        undo: {none: it expires}
  - emit: thing.done
    with: {id: '=got[0].v'}
`)
	w.ask(http("r", map[string]any{"list": []any{"a", "b", "c"}}))
	w.clock.Settle()
	if got := w.states(); got != "waiting" {
		t.Fatal(got)
	}
	w.publish("thing.paid", "e-2", map[string]any{"id": "b"})
	if got := w.states(); got != "waiting" || w.effects("hold") != 1 {
		t.Fatalf("%s, held %d", got, w.effects("hold"))
	}
	w.reboot()
	w.publish("thing.paid", "e-2", map[string]any{"id": "b"})
	w.publish("thing.paid", "e-1", map[string]any{"id": "a"})
	if got := w.states(); got != "waiting" || w.effects("hold") != 2 {
		t.Fatalf("%s, held %d\n%s", got, w.effects("hold"), w.kinds(w.newest().ID))
	}
	w.pass(25 * time.Hour)
	if got := w.states(); got != "done" || w.effects("hold") != 3 {
		t.Errorf("%s, held %d\n%s", got, w.effects("hold"), w.kinds(w.newest().ID))
	}
}

// A frozen process that lost its lease writes nothing more.
func TestFencedRunIsDropped(t *testing.T) {
	w := newWorld(t, strings.Replace(slow, "  - delay: 2h\n", "", 1))
	w.script["pay"] = []any{time.Second, map[string]any{"v": "p"}}
	w.ask(http("slow", map[string]any{}))
	w.clock.Settle()
	x := w.e.live.get(w.newest().ID)
	if x == nil {
		t.Fatal("no live run")
	}
	x.fenced.Store(true)
	before := w.kinds(x.id)
	w.pass(2 * time.Second)
	if after := w.kinds(x.id); after != before {
		t.Errorf("it wrote after it was fenced:\n%s", after)
	}
}
