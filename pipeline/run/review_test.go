package run

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/store"
)

func (w *world) id() string { w.t.Helper(); return w.disk.PublicID(w.newest().ID) }

// Semantics 4.2: the answer that a run in doubt gave is not its reply; what it
// replies later is kept for `once`.
func TestLaterReplyIsKeptForOnce(t *testing.T) {
	for _, c := range []struct {
		name, script, first string
		act                 func(w *world) error
	}{
		{"in doubt", "done:unknown", "504", func(w *world) error {
			yes, a := true, clerk
			a.Happened, a.Result, a.Path = &yes, map[string]any{"v": "said"}, "got"
			_, err := w.e.Resolve(context.Background(), w.id(), a)
			return err
		}},
		{"parked", "conflict", "202", func(w *world) error {
			w.script["raw"] = []any{map[string]any{"v": "said"}}
			_, err := w.e.Replay(context.Background(), w.id(), clerk)
			return err
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, `
route: r
from: {http: POST /v1/r}
once: '="k"'
steps:
  - call: sys.raw
    as: got
    with: {id: a}
    undo: {none: it stands}
    errors: {conflict: {park: look}}
  - set: {result: {v: =got.v}}
`)
			w.script["raw"] = []any{c.script}
			if a := w.ask(http("r", map[string]any{})); !strings.HasPrefix(show(a), c.first) || a.Header["Location"] == "" {
				t.Fatalf("first: %s %v", show(a), a.Header)
			}
			w.clock.Settle()
			if a := w.ask(http("r", map[string]any{})); a.Status != 202 {
				t.Errorf("while it is parked: %s", show(a))
			}
			if err := c.act(w); err != nil {
				t.Fatal(err)
			}
			w.clock.Settle()
			if a := w.ask(http("r", map[string]any{})); show(a) != `200 {"v":"said"}` {
				t.Errorf("after it ended: %s\n%s", show(a), w.kinds(w.newest().ID))
			}
		})
	}
}

// The table of semantics 4.6, where the first request is being undone or did not
// outlive its process.
func TestOnceWhileUndoingAndAfterACrash(t *testing.T) {
	route := `
route: r
from: {http: POST /v1/r}
once: '="k"'
steps:
  - call: sys.hold
    as: held
    with: {id: a}
    undo: {call: sys.release, with: {id: =held.v}}
  - call: sys.both
    as: got
    with: {id: a}
    undo: {none: it stands}
  - set: {result: {v: =got.v}}
`
	t.Run("being undone", func(t *testing.T) {
		w := newWorld(t, route)
		w.script["both"] = []any{"denied", map[string]any{"v": "ok"}}
		w.script["release"] = []any{"unavailable", "unavailable", "unavailable", map[string]any{"v": "r"}}
		if a := w.ask(http("r", map[string]any{})); a.Status != 502 {
			t.Fatal(show(a))
		}
		w.clock.Settle()
		if a := w.ask(http("r", map[string]any{})); a.Status != 503 || a.Header["Retry-After"] == "" || a.Run != w.id() {
			t.Errorf("%s %v", show(a), a.Header)
		}
		w.pass(time.Minute)
		if a := w.ask(http("r", map[string]any{})); show(a) != `200 {"v":"ok"}` || a.Header["Idempotent-Replayed"] != "" {
			t.Errorf("once it was undone: %s %v", show(a), a.Header)
		}
		if w.effects("hold") != 2 || w.effects("release") != 1 {
			t.Errorf("held %d, released %d", w.effects("hold"), w.effects("release"))
		}
	})
	t.Run("two at once after a crash", func(t *testing.T) {
		w := newWorld(t, route)
		w.script["both"] = []any{time.Second}
		ch := w.e.Ask(context.Background(), http("r", map[string]any{}))
		w.clock.Settle() // in the second effect
		w.reboot()
		<-ch
		w.mu.Lock()
		w.script["both"] = nil
		w.mu.Unlock()
		a, b := w.e.Ask(context.Background(), http("r", map[string]any{})), w.e.Ask(context.Background(), http("r", map[string]any{}))
		x, y := w.until(a), w.until(b)
		w.pass(time.Hour)
		for _, got := range []Answer{x, y, w.ask(http("r", map[string]any{}))} {
			if show(got) != `200 {"v":"both-a"}` && (got.Status != 504 || got.Header["Location"] == "") {
				t.Errorf("%s %v", show(got), got.Header)
			}
		}
		if w.effects("hold") != 1 || w.effects("both") != 1 || w.states() != "done" {
			t.Errorf("%s, %d and %d effects", w.states(), w.effects("hold"), w.effects("both"))
		}
	})
}

// A disk that fills at any commit: the caller learns it, nothing is lost, and the
// run goes on when there is room, though nothing else stirs (semantics 6.2).
func TestFullDisk(t *testing.T) {
	route := `
route: r
from: {http: POST /v1/r}
once: '="k"'
steps:
  - call: sys.hold
    as: held
    with: {id: a}
    undo: {call: sys.release, with: {id: =held.v}}
  - call: sys.book
    as: got
    with: {id: a}
    undo: {none: it stands}
  - reply: 202
  - wait: thing.paid
    as: paid
    where: event.id == held.v
    for: 1h
    else: {cancel: late}
`
	for full := 1; full <= 8; full++ {
		t.Run(fmt.Sprint(full), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, route)
			n, room := 0, false
			w.refuse = func(string, store.State, []store.Record) error {
				w.mu.Lock()
				defer w.mu.Unlock()
				if n++; n >= full && !room {
					return store.ErrFull
				}
				return nil
			}
			a := w.ask(http("r", map[string]any{}))
			switch {
			case full == 1 && a.Status != 503:
				t.Errorf("nothing was durable, and the answer is %s", show(a))
			case full > 1 && a.Status != 202 && (a.Status != 504 || a.Header["Location"] == ""):
				t.Errorf("answered %s", show(a))
			}
			w.pass(30 * time.Second)
			w.mu.Lock()
			room = true
			w.mu.Unlock()
			if full == 1 {
				if a := w.ask(http("r", map[string]any{})); a.Status != 202 {
					t.Fatal(show(a))
				}
			}
			w.pass(2 * time.Minute)
			if got := w.states(); got != "waiting" {
				t.Fatalf("%s\n%s", got, w.kinds(w.newest().ID))
			}
			w.pass(2 * time.Hour)
			if got := w.states(); got != "cancelled" || w.effects("hold") != 1 || w.effects("book") != 1 || w.effects("release") != 1 {
				t.Errorf("%s: held %d, booked %d, released %d\n%s", got, w.effects("hold"), w.effects("book"), w.effects("release"), w.kinds(w.newest().ID))
			}
		})
	}
}

// A timer's run that the store did not take, or whose process died between the
// timer and the run, is a missed occurrence: it fires once, later (5.6).
func TestScheduledRunIsNotLost(t *testing.T) {
	route := `
route: tick
from: {every: 1h}
steps:
  - call: sys.hold
    as: held
    with: {id: =req.at}
    undo: {none: it expires}
`
	for _, op := range []string{"accept", "fire"} {
		for _, crash := range []bool{false, true} {
			t.Run(fmt.Sprint(op, " crash ", crash), func(t *testing.T) {
				w := newWorld(t, route)
				w.refuse = func(at string, _ store.State, _ []store.Record) error {
					if at == op {
						return store.ErrFull
					}
					return nil
				}
				w.pass(time.Hour + time.Second)
				w.refuse = nil
				if crash {
					w.reboot()
				}
				w.pass(30 * time.Minute)
				if n := w.effects("hold"); n != 1 || w.states() != "done" {
					t.Errorf("%d runs for one occurrence: %s", n, w.states())
				}
				w.pass(time.Hour)
				if n := w.effects("hold"); n != 2 {
					t.Errorf("%d runs for two occurrences", n)
				}
			})
		}
	}
}

// A cancel that comes while an effect is in flight waits for it, and is not
// forgotten where the effect's step comes to rest (semantics 10.1).
func TestCancelInFlight(t *testing.T) {
	for _, c := range []struct {
		name   string
		script []any
		hold   int
	}{
		{"answers", []any{time.Second, map[string]any{"v": "h"}}, 1},
		{"is deferred", []any{time.Second, "unavailable", "unavailable", "unavailable", "unavailable", map[string]any{"v": "h"}}, 0},
		{"in doubt", []any{time.Second, "done:unknown", map[string]any{"v": "h"}}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, `
route: r
from: {http: POST /v1/r}
steps:
  - reply: 202
  - call: sys.both
    as: held
    with: {id: a}
    undo: {call: sys.release, with: {id: =held.v}}
  - call: sys.pay
    as: paid
    with: {id: a}
    undo: {none: it stands}
`)
			w.script["both"] = c.script
			w.ask(http("r", map[string]any{}))
			w.clock.Settle()
			if _, err := w.e.Cancel(context.Background(), w.id(), clerk); err != nil {
				t.Fatal(err)
			}
			w.pass(2 * time.Hour)
			if w.states() != "cancelled" || w.effects("pay") != 0 || w.effects("release") != c.hold {
				t.Errorf("%s, paid %d, released %d\n%s", w.states(), w.effects("pay"), w.effects("release"), w.kinds(w.newest().ID))
			}
		})
	}
}

// A cancel that meets a run just past its `commit` changes nothing (7.7).
func TestCancelBehindCommit(t *testing.T) {
	w := newWorld(t, `
route: r
from: {http: POST /v1/r}
steps:
  - call: sys.pay
    as: paid
    with: {id: a}
    commit: true
  - call: sys.hold
    as: held
    with: {id: a}
  - set: {result: {v: =held.v}}
`)
	w.script["pay"] = []any{time.Second, map[string]any{"v": "p"}}
	ch := w.e.Ask(context.Background(), http("r", map[string]any{}))
	w.clock.Settle()
	if _, err := w.e.Cancel(context.Background(), w.id(), clerk); err != nil {
		t.Fatal(err)
	}
	if a := w.until(ch); a.Status != 200 || w.states() != "done" {
		t.Errorf("%s, %s", show(a), w.states())
	}
}

// Events: received since the run began, not since its first commit; one wakes
// several runs; the remainder of `where` is judged; the earliest fits (5.1-5.3).
func TestEvents(t *testing.T) {
	route := `
route: r
from: {http: POST /v1/r}
steps:
  - call: sys.read
    as: got
    with: {id: a}
  - call: sys.hold
    as: held
    with: {id: a}
    undo: {call: sys.release, with: {id: =held.v}}
  - reply: 202
  - wait: thing.paid
    as: paid
    where: event.id == req.id and (event.n ?? 0) > 1
    for: 1h
    else: {cancel: late}
  - set: {result: {n: =paid.n}}
`
	result := func(w *world, id store.RunID) string {
		v, _ := w.e.View(context.Background(), w.disk.PublicID(id), citizen())
		return v.State + " " + fmt.Sprint(v.Result)
	}
	t.Run("before the first commit", func(t *testing.T) {
		w := newWorld(t, route)
		w.script["read"] = []any{time.Second, map[string]any{"v": "x"}}
		ch := w.e.Ask(context.Background(), http("r", map[string]any{"id": "7"}))
		w.clock.Settle()
		w.clock.Advance(w.clock.Now().Add(100 * time.Millisecond))
		w.publish("thing.paid", "e-1", map[string]any{"id": "7", "n": 2})
		w.until(ch)
		w.clock.Settle()
		if got := result(w, w.newest().ID); got != "done map[n:2]" {
			t.Error(got)
		}
	})
	t.Run("one wakes several", func(t *testing.T) {
		w := newWorld(t, route)
		for range 3 {
			w.ask(http("r", map[string]any{"id": "7"}))
		}
		w.ask(http("r", map[string]any{"id": "8"}))
		w.clock.Settle()
		w.publish("thing.paid", "e-0", map[string]any{"id": "7", "n": 1}) // the remainder says no
		if got := w.states(); got != "waiting waiting waiting waiting" {
			t.Error(got)
		}
		w.publish("thing.paid", "e-1", map[string]any{"id": "7", "n": 2})
		w.publish("thing.paid", "e-2", map[string]any{"id": "7", "n": 3})
		if got := w.states(); got != "waiting done done done" {
			t.Error(got)
		}
		w.pass(2 * time.Hour)
		if got := w.states(); got != "cancelled done done done" {
			t.Error(got)
		}
	})
	t.Run("event against time-out", func(t *testing.T) {
		w := newWorld(t, route)
		w.ask(http("r", map[string]any{"id": "7"}))
		w.clock.Settle()
		w.pass(time.Hour)
		w.publish("thing.paid", "e-1", map[string]any{"id": "7", "n": 2})
		if got := w.states(); got != "cancelled" || w.effects("release") != 1 {
			t.Error(got)
		}
	})
}
