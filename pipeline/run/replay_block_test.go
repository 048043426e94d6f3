package run

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/store"
)

const itemSteps = `
      - call: sys.hold
        as: held
        with: {id: =one}
        undo: {call: sys.release, with: {id: =held.v}}
      - call: sys.pay
        as: paid
        with: {id: =one}
        undo: {call: sys.refund, with: {id: =paid.v}}
      - set: {v: =paid.v}
`

func eachOf(head, opts string) string {
	return "\nroute: r\nfrom: {http: POST /v1/r}\n" + head + "steps:\n  - each: '=req.list ?? []'\n    as: got\n    item: one\n" + opts +
		"    steps:" + itemSteps + "  - reply: 200\n    with: {n: =len(got)}\n"
}

func branch(name string) string {
	return "        " + name + ":\n          - call: sys.hold\n            as: held\n            with: {id: " + name +
		"}\n            undo: {call: sys.release, with: {id: =held.v}}\n          - call: sys.pay\n            as: paid\n            with: {id: " + name +
		"}\n            undo: {call: sys.refund, with: {id: =paid.v}}\n"
}

func allOf(head, need string) string {
	return "\nroute: r\nfrom: {http: POST /v1/r}\n" + head + "steps:\n  - all:\n      need: " + need + "\n      steps:\n" +
		branch("one") + branch("two") + branch("three") + "    as: got\n  - reply: 200\n"
}

// Several items of a block failed and its need is out of reach: a replay runs all
// of them again, not the first alone (semantics 5.8, 10.2).
func TestReplayBehindSeveralFailedItems(t *testing.T) {
	const ordered = "order_by: ='k'\n"
	for _, c := range []struct {
		name, route, from, state       string
		pay                            []any
		held, released, paid, refunded int
	}{
		{"each, need 2", eachOf(ordered, "    need: 2\n"), "", "parked", []any{map[string]any{"v": "p"}, "full"}, 4, 0, 4, 0},
		{"each in parallel, need 3", eachOf(ordered, "    need: 3\n    parallel: 4\n"), "", "parked", []any{"full"}, 4, 0, 4, 0},
		{"each in parallel, all needed", eachOf(ordered, "    parallel: 4\n"), "", "parked", []any{"full"}, 4, 0, 4, 0},
		{"all, need 2", allOf(ordered, "2"), "", "parked", []any{"full"}, 3, 0, 2, 0},
		{"all, every branch", allOf(ordered, "all"), "", "parked", []any{"full"}, 3, 0, 3, 0},
		{"failed: each, need 2", eachOf("", "    need: 2\n"), "", "failed", []any{map[string]any{"v": "p"}, "full"}, 8, 4, 5, 1},
		{"failed: all, need 2", allOf("", "2"), "", "failed", []any{"full"}, 6, 3, 2, 0},
		{"failed: from an item", eachOf("", "    need: 2\n"), "got[2]/paid", "failed", []any{map[string]any{"v": "p"}, "full"}, 0, 0, 0, 0},
		{"failed: from the block", eachOf("", "    need: 2\n"), "got", "failed", []any{map[string]any{"v": "p"}, "full"}, 8, 4, 5, 1},
	} {
		for _, reboots := range []bool{false, true} {
			t.Run(fmt.Sprint(c.name, " reboot=", reboots), func(t *testing.T) {
				w := newWorld(t, c.route)
				w.script["pay"] = c.pay
				w.ask(http("r", map[string]any{"list": []any{"a", "b", "c", "d"}}))
				w.pass(time.Minute)
				if w.states() != c.state {
					t.Fatalf("%s, want %s\n%s", w.states(), c.state, w.kinds(w.newest().ID))
				}
				if reboots {
					w.reboot()
				}
				w.script["pay"] = nil
				act := clerk
				act.From = c.from
				if _, err := w.e.Replay(context.Background(), w.disk.PublicID(w.newest().ID), act); err != nil {
					t.Fatal(err)
				}
				w.pass(time.Minute)
				if w.states() != "done" {
					t.Fatalf("%s\n%s", w.states(), w.kinds(w.newest().ID))
				}
				if got := fmt.Sprint(w.effects("hold"), w.effects("release"), w.effects("pay"), w.effects("refund")); c.held > 0 && !strings.Contains(c.name, "all, need 2") &&
					got != fmt.Sprint(c.held, c.released, c.paid, c.refunded) {
					t.Errorf("held, released, paid, refunded %s, want %d %d %d %d\n%s", got, c.held, c.released, c.paid, c.refunded, w.kinds(w.newest().ID))
				}
				stands := w.effects("hold") - w.effects("release")
				if paid := w.effects("pay") - w.effects("refund"); stands != paid {
					t.Errorf("%d holds stand beside %d payments\n%s", stands, paid, w.kinds(w.newest().ID))
				}
			})
		}
	}
}

// The same where the process dies behind every commit of the replay.
func TestReplayBehindSeveralFailedItemsCrash(t *testing.T) {
	for at := 1; at < 40; at++ {
		w := newWorld(t, eachOf("order_by: ='k'\n", "    need: 2\n"))
		w.script["pay"] = []any{map[string]any{"v": "p"}, "full"}
		w.ask(http("r", map[string]any{"list": []any{"a", "b", "c", "d"}}))
		w.pass(time.Minute)
		w.script["pay"] = nil
		n := 0
		w.refuse = func(string, store.State, []store.Record) error {
			if n++; n >= at {
				return store.ErrClosed
			}
			return nil
		}
		pub := w.disk.PublicID(w.newest().ID)
		_, _ = w.e.Replay(context.Background(), pub, clerk)
		w.clock.Settle()
		w.refuse = nil
		w.reboot()
		w.pass(time.Minute)
		if w.states() == "parked" { // the replay itself did not reach the disk
			if _, err := w.e.Replay(context.Background(), pub, clerk); err != nil {
				t.Fatal(at, err)
			}
			w.pass(time.Minute)
		}
		if w.states() != "done" || w.effects("hold") != 4 || w.effects("pay") != 4 || w.effects("release") != 0 {
			t.Errorf("crash %d: %s, held %d, paid %d, released %d\n%s", at, w.states(), w.effects("hold"), w.effects("pay"), w.effects("release"), w.kinds(w.newest().ID))
		}
		if n < at {
			return
		}
	}
	t.Error("40 commits were not enough")
}
