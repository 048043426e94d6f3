package run

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/store"
)

// A disk that is full for one commit, whichever: the run ends as it would have,
// every effect once (semantics 6.2, 9).
func TestEachCommitRefusedOnce(t *testing.T) {
	for _, long := range []bool{false, true} {
		for k := int64(1); k <= 20; k++ {
			t.Run(fmt.Sprint(k, " long ", long), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, booking)
				var n atomic.Int64
				var until atomic.Int64
				w.refuse = func(string, store.State, []store.Record) error {
					now := w.clock.Now().UnixMilli()
					if n.Add(1) == k {
						until.Store(now + 1)
						if long {
							until.Store(now + 45_000)
						}
					}
					if now < until.Load() {
						return fmt.Errorf("writing: %w", store.ErrFull)
					}
					return nil
				}
				for range 4 {
					if a := w.ask(http("booking", map[string]any{"key": "k1"})); a.Status == 202 {
						break
					} else if a.Status != 503 && (a.Status != 504 || a.Header["Location"] == "") {
						t.Fatalf("answered %s", show(a))
					}
					w.pass(time.Minute)
				}
				w.pass(time.Minute)
				w.publish("thing.paid", "e-1", map[string]any{"id": "hold-read-a"})
				w.pass(time.Hour)
				if got := w.states(); got != "done" {
					t.Errorf("states %q after %d commits\n%s", got, n.Load(), w.kinds(w.newest().ID))
				}
				for _, op := range []string{"hold", "both", "pay", "book"} {
					if n := w.effects(op); n != 1 {
						t.Errorf("%s: %d effects (keys %v)", op, n, w.keys[op])
					}
				}
				if n := w.effects("release") + w.effects("refund"); n != 0 {
					t.Errorf("%d undone", n)
				}
				if a := w.ask(http("booking", map[string]any{"key": "k1"})); a.Status != 202 || a.Header["Idempotent-Replayed"] != "true" {
					t.Errorf("the retry got %s %v", show(a), a.Header)
				}
			})
		}
	}
}

// One run takes an event once, and one wait one event (5.3).
func TestOneEventOneWait(t *testing.T) {
	wait := func(indent, as string) string {
		return indent + "- wait: thing.paid\n" + indent + "  as: " + as + "\n" + indent + "  where: event.id == held.v\n" + indent +
			"  for: 1h\n" + indent + "  else: {cancel: late}\n"
	}
	head := `
route: r
from: {http: POST /v1/r}
steps:
  - call: sys.hold
    as: held
    with: {id: a}
    undo: {none: it stands}
  - reply: 202
`
	for name, route := range map[string]string{
		"one after the other": head + wait("  ", "one") + wait("  ", "two"),
		"at once":             head + "  - all:\n      steps:\n        a:\n" + wait("          ", "one") + "        b:\n" + wait("          ", "two") + "    as: both\n",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, route)
			w.ask(http("r", map[string]any{}))
			w.clock.Settle()
			for i, want := range []string{"waiting", "done"} {
				for range 2 { // delivered twice: the same id is one event
					w.publish("thing.paid", fmt.Sprint("e-", i), map[string]any{"id": "hold-a", "n": i})
				}
				if got := w.states(); got != want {
					t.Errorf("after event %d: %s\n%s", i, got, w.kinds(w.newest().ID))
				}
			}
		})
	}
}

// Deleting a route stops its triggers; its runs finish (10.3).
func TestDeletedRoute(t *testing.T) {
	w := newWorld(t, strings.Replace(slow, "WHAT", "old", 1), lookup)
	w.ask(http("slow", map[string]any{}))
	w.clock.Settle()
	if err := w.e.Swap(loadCity(t, lookup)); err != nil {
		t.Fatal(err)
	}
	if a := w.ask(http("slow", map[string]any{})); a.Status != 404 {
		t.Errorf("a deleted route answered %s", show(a))
	}
	w.pass(3 * time.Hour)
	if got := w.states(); got != "done" || w.effects("pay") != 1 {
		t.Errorf("%s, paid %d", got, w.effects("pay"))
	}
}

// A client that comes again for a run whose version does not compile any more is
// told where the run stands, and the city learns that it parked.
func TestRetryOfARunThatDoesNotCompile(t *testing.T) {
	route := `
route: r
from: {http: POST /v1/r}
once: '="k"'
steps:
  - call: sys.hold
    as: held
    with: {id: a}
    undo: {call: sys.release, with: {id: =held.v}}
  - set: {result: {v: =held.v}}
`
	w := newWorld(t, route)
	w.script["hold"] = []any{time.Second}
	ch := w.e.Ask(context.Background(), http("r", map[string]any{}))
	w.clock.Settle()
	w.city = loadCity(t, strings.Replace(route, "{id: a}", "{id: b}", 1))
	w.cfg.AllowRelabel = true
	w.reboot()
	<-ch
	if a := w.ask(http("r", map[string]any{})); a.Status != 202 || a.Header["Location"] == "" {
		t.Errorf("%s %v, %s %s", show(a), a.Header, w.newest().State, w.newest().Reason)
	}
	if r := w.newest(); r.State != store.Parked || r.Reason != "version-does-not-compile" {
		t.Errorf("%s %s", r.State, r.Reason)
	}
}

// 7.7: behind a commit nothing is undone; what would undo parks.
func TestBehindACommit(t *testing.T) {
	w := newWorld(t, `
route: r
from: {http: POST /v1/r}
steps:
  - call: sys.hold
    as: held
    with: {id: a}
    undo: {call: sys.release, with: {id: =held.v}}
  - call: sys.pay
    as: paid
    with: {id: a}
    commit: true
  - call: sys.both
    as: got
    with: {id: a}
  - set: {result: {v: =got.v}}
`)
	w.script["both"] = []any{"denied", map[string]any{"v": "ok"}}
	a := w.ask(http("r", map[string]any{}))
	w.pass(time.Hour)
	if w.states() != "parked" || w.effects("release") != 0 || a.Status != 202 {
		t.Fatalf("%s, %s", show(a), w.states())
	}
	if _, err := w.e.Cancel(context.Background(), w.id(), clerk); err == nil {
		t.Error("a cancel behind a commit was taken")
	}
	if _, err := w.e.Replay(context.Background(), w.id(), clerk); err != nil {
		t.Fatal(err)
	}
	w.clock.Settle()
	if w.states() != "done" || w.effects("pay") != 1 {
		t.Errorf("%s, paid %d", w.states(), w.effects("pay"))
	}
}

// Patience ends in failed, with the undo of what was done (the table of 3).
func TestPatienceEndsInFailedWithUndo(t *testing.T) {
	w := newWorld(t, `
route: r
from: {http: POST /v1/r}
patience: 1h
steps:
  - call: sys.hold
    as: held
    with: {id: a}
    undo: {call: sys.release, with: {id: =held.v}}
  - reply: 202
  - call: sys.pay
    as: paid
    with: {id: a}
    undo: {none: x}
`)
	w.script["pay"] = []any{"unavailable"}
	w.ask(http("r", map[string]any{}))
	w.pass(50 * time.Minute)
	if w.states() != "waiting" || w.effects("release") != 0 {
		t.Errorf("within its patience: %s", w.states())
	}
	w.pass(2 * time.Hour)
	if w.states() != "failed" || w.effects("release") != 1 || w.effects("pay") != 0 {
		t.Errorf("%s, released %d", w.states(), w.effects("release"))
	}
}

// `limit` holds for messages too: they wait, and none is lost (11.1).
func TestLimitOfMessages(t *testing.T) {
	w := newWorld(t, `
route: r
from: {event: thing.paid}
req: events/thing.paid
limit: {rate: 1/s}
version: 1
about: a
owner: t@example.org
steps:
  - call: sys.hold
    as: held
    with: {id: =req.id}
    undo: {none: it expires}
`)
	for i := range 4 {
		w.publish("thing.paid", fmt.Sprint("e-", i), map[string]any{"id": fmt.Sprint(i)})
	}
	if n := w.effects("hold"); n != 1 {
		t.Errorf("%d at once, with one a second allowed", n)
	}
	w.pass(10 * time.Second)
	if n := w.effects("hold"); n != 4 {
		t.Errorf("%d of 4 in the end", n)
	}
}
