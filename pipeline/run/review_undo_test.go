package run

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/store"
)

// undone lists the arguments of the undos, in the order in which they were asked.
func (w *world) undone() string {
	_, rs, err := w.disk.Load(context.Background(), w.newest().ID)
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, r := range rs {
		if r.Kind == store.UndoOutcome && r.Fault == "" {
			out = append(out, r.Path)
		}
	}
	return strings.Join(out, " ")
}

// Semantics 7.3 and 5.8: undo goes in the reverse order of the intents, across
// blocks, and what a failed or surplus item did is undone before its block ends.
func TestUndoOrderAcrossBlocks(t *testing.T) {
	hold := func(indent, as, id string) string {
		return indent + "- call: sys.hold\n" + indent + "  as: " + as + "\n" + indent + "  with: {id: " + id + "}\n" +
			indent + "  undo: {call: sys.release, with: {id: =" + as + ".v}}\n"
	}
	head := "\nroute: r\nfrom: {http: POST /v1/r}\nsteps:\n"
	for _, c := range []struct {
		name, route string
		script      map[string][]any
		state, want string
		result      string
	}{
		{"each, then a failure behind it",
			head + hold("  ", "first", "a") + "  - each: =[\"x\", \"y\"]\n    as: items\n    steps:\n" + hold("      ", "it", "=item") +
				"      - set: {v: =it.v}\n" + hold("  ", "last", "z") + "  - call: sys.both\n    as: got\n    with: {id: a}\n    undo: {none: x}\n",
			map[string][]any{"both": {"denied"}}, "failed", "last items[1]/it items[0]/it first", ""},
		{"a nested each fails in the middle",
			head + hold("  ", "first", "a") + "  - each: =[[\"x\", \"y\"], [\"z\"]]\n    as: items\n    steps:\n" + hold("      ", "outer", "o") +
				"      - each: =item\n        item: leaf\n        as: leaves\n        steps:\n" + hold("          ", "leafed", "=leaf") +
				"          - call: sys.raw\n            as: got\n            with: {id: =leaf}\n            undo: {none: x}\n",
			map[string][]any{"raw": {map[string]any{"v": "1"}, map[string]any{"v": "2"}, "denied"}}, "failed",
			"items[1]/leaves[0]/leafed items[1]/outer items[0]/leaves[1]/leafed items[0]/leaves[0]/leafed items[0]/outer first", ""},
		{"a failed item that leaves the block standing",
			head + hold("  ", "first", "a") + "  - each: =[\"x\", \"y\", \"z\"]\n    as: items\n    need: any\n    steps:\n" + hold("      ", "one", "=item") + hold("      ", "two", "=item") +
				"      - call: sys.raw\n        as: got\n        with: {id: =item}\n        undo: {none: x}\n" +
				"      - set: {v: =got.v}\n  - set: {result: {n: '=len(items)', none: '=items[1] == nil'}}\n",
			map[string][]any{"raw": {map[string]any{"v": "1"}, "denied", map[string]any{"v": "3"}}}, "done", "items[1]/two items[1]/one", `{"n":3,"none":true}`},
		{"a failed item, then the run fails",
			head + hold("  ", "first", "a") + "  - each: =[\"x\", \"y\"]\n    as: items\n    need: any\n    steps:\n" + hold("      ", "one", "=item") +
				"      - call: sys.raw\n        as: got\n        with: {id: =item}\n        undo: {none: x}\n" +
				"  - check: req.n == 1\n    else: {cancel: no}\n",
			map[string][]any{"raw": {"denied", map[string]any{"v": "1"}}}, "cancelled", "items[0]/one items[1]/one first", ""},
	} {
		for _, at := range []int{0, 2, 4, 6, 8, 10, 12} {
			t.Run(fmt.Sprint(c.name, " crash ", at), func(t *testing.T) {
				w := newWorld(t, c.route)
				w.script = map[string][]any{}
				for k, v := range c.script {
					w.script[k] = slices.Clone(v)
				}
				n := 0
				w.refuse = func(string, store.State, []store.Record) error {
					w.mu.Lock()
					defer w.mu.Unlock()
					if n++; n == at {
						return store.ErrFull
					}
					return nil
				}
				a := w.ask(http("r", map[string]any{}))
				w.pass(time.Hour)
				if at > 0 && n >= at && c.name[0] != 'e' {
					// The script answers by its place, which a repetition moves on: only
					// the promise holds that the run ended and nothing stands twice.
					if r := w.newest(); !r.State.Ended() && r.State != store.Parked {
						t.Errorf("%s\n%s", r.State, w.kinds(r.ID))
					}
					return
				}
				if w.states() != c.state || w.undone() != c.want {
					t.Errorf("%s, undone %q, want %s, %q\n%s", w.states(), w.undone(), c.state, c.want, w.kinds(w.newest().ID))
				}
				if c.result != "" && !strings.HasSuffix(show(a), c.result) {
					t.Errorf("answered %s, want %s", show(a), c.result)
				}
			})
		}
	}
}

// Semantics 7.4 inside a block and in a replay from a path: an undo that is stuck
// there is a person's to retry or to resolve, too.
func TestStuckUndoBelowABlock(t *testing.T) {
	route := `
route: r
from: {http: POST /v1/r}
steps:
  - each: =["x", "y"]
    as: items
    need: any
    steps:
      - call: sys.hold
        as: held
        with: {id: =item}
        undo: {call: sys.release, with: {id: =held.v}}
      - call: sys.raw
        as: got
        with: {id: =item}
        undo: {none: x}
      - set: {v: =got.v}
  - set: {result: {ok: true}}
`
	for _, resolve := range []bool{true, false} {
		w := newWorld(t, route)
		w.script["raw"] = []any{"denied", map[string]any{"v": "1"}}
		w.script["release"] = []any{"full", map[string]any{"v": "r"}}
		if a := w.ask(http("r", map[string]any{})); a.Status != 202 || w.states() != "parked" {
			t.Fatalf("%s %s", show(a), w.states())
		}
		act := clerk
		var err error
		if resolve {
			act.Path = "items[0]/held"
			_, err = w.e.Resolve(context.Background(), w.id(), act)
		} else {
			_, err = w.e.Replay(context.Background(), w.id(), act)
		}
		if err != nil {
			t.Fatal(err)
		}
		w.pass(time.Minute)
		released := 1
		if resolve {
			released = 0
		}
		if w.states() != "done" || w.effects("release") != released || w.effects("hold") != 2 {
			t.Errorf("%s, released %d\n%s", w.states(), w.effects("release"), w.kinds(w.newest().ID))
		}
	}
}

// A contract fault of an effect parks with the raw answer; nothing sends it
// again, and the person's word is its result (3.5).
func TestContractParksWithTheRawAnswer(t *testing.T) {
	w := newWorld(t, `
route: r
from: {http: POST /v1/r}
steps:
  - call: sys.hold
    as: held
    with: {id: a}
    undo: {call: sys.release, with: {id: =held.v}}
  - set: {result: {v: =held.v}}
`)
	w.script["hold"] = []any{map[string]any{"wrong": "reçu 12"}}
	if a := w.ask(http("r", map[string]any{})); a.Status != 202 {
		t.Fatal(show(a))
	}
	_, rs, err := w.disk.Load(context.Background(), w.newest().ID)
	if err != nil {
		t.Fatal(err)
	}
	raw := ""
	for _, r := range rs {
		if n, err := entryOf(r); err == nil && n.kind == store.OutcomeRec && n.flt != nil {
			raw = string(n.flt.Raw)
		}
	}
	if raw != `{"wrong":"reçu 12"}` {
		t.Errorf("raw %q", raw)
	}
	if _, err := w.e.Replay(context.Background(), w.id(), clerk); err != nil {
		t.Fatal(err)
	}
	w.clock.Settle()
	if w.states() != "parked" || w.calls("hold") != 1 {
		t.Errorf("replayed: %s, called %d", w.states(), w.calls("hold"))
	}
	yes, act := true, clerk
	act.Path, act.Happened, act.Result = "held", &yes, map[string]any{"v": "12"}
	if _, err := w.e.Resolve(context.Background(), w.id(), act); err != nil {
		t.Fatal(err)
	}
	w.clock.Settle()
	if v, _ := w.e.View(context.Background(), w.id(), citizen()); fmt.Sprint(v.State, v.Result) != "donemap[v:12]" || w.calls("hold") != 1 {
		t.Errorf("%+v, called %d", v, w.calls("hold"))
	}
}

// order_by: a failure parks and keeps the key until a person skips or replays;
// the line goes on in the order of acceptance, a restarted run behind it; the
// line is bounded (5.4).
func TestOrderLine(t *testing.T) {
	route := `
route: r
from: {http: POST /v1/r}
order_by: =req.key ?? ""
once: =req.id ?? "x"
within: 1s
steps:
  - call: sys.hold
    as: held
    with: {id: =req.id}
    undo: {call: sys.release, with: {id: =held.v}}
  - call: sys.pay
    as: paid
    with: {id: =req.id}
    undo: {call: sys.refund, with: {id: =paid.v}}
`
	w := newWorld(t, route)
	w.script["pay"] = []any{"denied", map[string]any{"v": "p"}}
	w.ask(http("r", map[string]any{"key": "k", "id": "1"}))
	first := w.id()
	for i := 2; i <= 4; i++ {
		if a := w.ask(http("r", map[string]any{"key": "k", "id": fmt.Sprint(i)})); a.Status != 504 || a.Header["Location"] == "" {
			t.Fatal(show(a))
		}
	}
	if w.states() != "queued queued queued parked" {
		t.Fatal(w.states())
	}
	// One that waits its turn may be cancelled, and leaves no gap.
	third := w.newest().ID - 1
	if _, err := w.e.Cancel(context.Background(), w.disk.PublicID(third), clerk); err != nil {
		t.Fatal(err)
	}
	w.pass(time.Hour)
	if w.states() != "queued cancelled queued parked" || w.calls("hold") != 1 {
		t.Fatalf("%s: time opened the key", w.states())
	}
	if _, err := w.e.Skip(context.Background(), first, clerk); err != nil {
		t.Fatal(err)
	}
	w.clock.Settle()
	if w.states() != "done cancelled done failed" || w.effects("release") != 1 {
		t.Errorf("%s, released %d", w.states(), w.effects("release"))
	}
	// Skipped is failed: the client's retry starts it again.
	if a := w.ask(http("r", map[string]any{"key": "k", "id": "1"})); a.Status != 204 || w.states() != "done cancelled done done" {
		t.Errorf("%s, %s", show(a), w.states())
	}
}

// A failed run that starts again while others of its key live goes behind them.
func TestRestartQueues(t *testing.T) {
	w := newWorld(t, `
route: r
from: {http: POST /v1/r}
order_by: =req.key ?? ""
within: 1s
steps:
  - call: sys.read
    as: got
    with: {id: =req.id}
  - call: sys.hold
    as: held
    with: {id: =req.id}
    undo: {call: sys.release, with: {id: =held.v}}
    errors: {conflict: {fail: no}, full: {park: full}}
`)
	w.script["hold"] = []any{"conflict", "full", map[string]any{"v": "h"}}
	w.ask(http("r", map[string]any{"key": "k", "id": "1"}))
	first := w.id()
	w.ask(http("r", map[string]any{"key": "k", "id": "2"}))
	if w.states() != "parked failed" {
		t.Fatal(w.states())
	}
	reads := w.calls("read")
	if _, err := w.e.Replay(context.Background(), first, clerk); err != nil {
		t.Fatal(err)
	}
	w.pass(time.Hour)
	if w.states() != "parked queued" || w.calls("read") != reads {
		t.Errorf("%s, read %d times more", w.states(), w.calls("read")-reads)
	}
	if _, err := w.e.Replay(context.Background(), w.id(), clerk); err != nil {
		t.Fatal(err)
	}
	w.pass(time.Minute)
	if w.states() != "done done" || w.effects("hold") != 2 {
		t.Errorf("%s, held %d", w.states(), w.effects("hold"))
	}
}

func TestOrderLineIsBounded(t *testing.T) {
	w := newWorld(t, `
route: r
from: {http: POST /v1/r}
order_by: =req.key ?? ""
within: 1s
steps:
  - call: sys.hold
    as: held
    with: {id: =req.id}
    undo: {none: it stands}
`)
	w.script["hold"] = []any{"denied"}
	var last []<-chan Answer
	for range 1002 {
		last = append(last, w.e.Ask(context.Background(), http("r", map[string]any{"key": "k"})))
	}
	over := 0
	for _, ch := range last {
		if a := w.until(ch); a.Status == 429 && a.Header["Retry-After"] != "" {
			over++
		}
	}
	rs, err := w.disk.Find(context.Background(), store.Filter{States: []store.State{store.Queued}, Limit: 2000})
	if err != nil {
		t.Fatal(err)
	}
	if got := len(rs); over != 1 || got != 1000 {
		t.Errorf("%d refused, %d wait", over, got)
	}
	if a := w.ask(http("r", map[string]any{"key": "other"})); a.Status == 429 {
		t.Error("another key is held up")
	}
}
