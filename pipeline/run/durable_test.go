package run

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/crash"
)

const booking = `
route: booking
from: {http: POST /v1/booking}
once: '=req.key ?? "k"'
steps:
  - call: sys.read
    as: slot
    with: {id: a}
  - call: sys.hold
    as: held
    with: {id: =slot.v}
    undo: {call: sys.release, with: {id: =held.v}}
  - call: sys.both
    as: booked
    with: {id: b}
    undo: {call: sys.release, with: {id: =booked.v}}
  - reply: 202
    with: {follow_at: =run.url}
  - wait: thing.paid
    as: paid
    where: event.id == held.v
    for: 3d
    else: {cancel: not-paid}
  - all:
      steps:
        one:
          - call: sys.pay
            as: p
            with: {id: one}
            undo: {call: sys.refund, with: {id: =p.v}}
        two:
          - call: sys.book
            as: q
            with: {id: two}
            undo: {call: sys.release, with: {id: =q.v}}
    as: both
  - each: =["x", "y"]
    as: notes
    steps:
      - emit: thing.other
        with: {id: =item}
      - set: {said: =item}
  - set: {result: {v: =held.v, paid: =paid.id}}
  - emit: thing.done
    with: {id: =held.v}
`

func (w *world) book1(t *testing.T) {
	t.Helper()
	for range 3 { // the caller tries again as long as its connection is cut
		a := w.ask(http("booking", map[string]any{"key": "k1"}))
		if w.crash.Dead() {
			w.reboot()
			continue
		}
		if a.Status == 202 || a.Status == 504 {
			break
		}
		t.Fatalf("answered %s", show(a))
	}
	for range 3 {
		w.clock.Settle()
		if w.crash.Dead() {
			w.reboot()
			w.clock.Settle()
		}
		for range 5 {
			if strings.Contains(w.states(), "waiting") && w.newest().Reason != "in doubt" {
				break
			}
			w.pass(2 * time.Minute)
			if w.crash.Dead() {
				w.reboot()
			}
		}
		err := w.e.Publish(context.Background(), "thing.paid", "e-1", map[string]any{"id": "hold-read-a"})
		w.clock.Settle()
		if err == nil && !w.crash.Dead() {
			break
		}
		if w.crash.Dead() {
			w.reboot()
		}
	}
	for range 10 {
		w.clock.Settle()
		if w.crash.Dead() {
			w.reboot()
		}
		w.pass(2 * time.Minute)
	}
}

// Semantics 9: a crash just before and just after every commit, and the run ends
// the same, every effect once.
func TestCrashAroundEachCommit(t *testing.T) {
	var commits []crash.Commit
	w := newWorldPlan(t, crash.Plan{Seen: recording(&commits)}, booking)
	w.book1(t)
	check := func(t *testing.T, w *world) {
		t.Helper()
		if got := w.states(); got != "done" {
			t.Errorf("states %q, want done\n%s", got, w.kinds(w.newest().ID))
		}
		for _, op := range []string{"hold", "both", "pay", "book"} {
			if n := w.effects(op); n != 1 {
				t.Errorf("%s: %d effects, want 1 (keys %v)", op, n, w.keys[op])
			}
		}
		if n := w.effects("release") + w.effects("refund"); n != 0 {
			t.Errorf("%d undone", n)
		}
		v, err := w.e.View(context.Background(), w.e.store.PublicID(w.newest().ID), citizen())
		if want := "map[paid:hold-read-a v:hold-read-a]"; err != nil || fmt.Sprint(v.Result) != want {
			t.Errorf("view %+v, want result %s", v, want)
		}
	}
	check(t, w)
	if len(commits) < 10 {
		t.Fatalf("only %d commits", len(commits))
	}
	for _, c := range commits {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d %s %v after=%v", c.N, c.Op, c.Kinds, after), func(t *testing.T) {
				t.Parallel()
				w := newWorldPlan(t, crash.Plan{At: c.N, After: after}, booking)
				w.book1(t)
				check(t, w)
			})
		}
	}
}

// recording lists the commits of a run, of which several may come at once.
func recording(to *[]crash.Commit) func(crash.Commit) {
	var mu sync.Mutex
	return func(c crash.Commit) {
		mu.Lock()
		defer mu.Unlock()
		*to = append(*to, c)
	}
}

func newWorldPlan(t testing.TB, p crash.Plan, routes ...string) *world {
	w := newWorldBare(t, routes...)
	w.plan = p
	w.boot()
	return w
}

// Undo goes in reverse order of the intents, also after a crash around each of
// its records.
func TestUndoInReverse(t *testing.T) {
	route := strings.Replace(booking, "    as: both\n", "    as: both\n  - check: req.n == 1\n    else: {cancel: changed-mind}\n", 1)
	play := func(t *testing.T, p crash.Plan) *world {
		w := newWorldPlan(t, p, route)
		w.book1(t)
		return w
	}
	var commits []crash.Commit
	w := play(t, crash.Plan{Seen: recording(&commits)})
	check := func(t *testing.T, w *world) {
		t.Helper()
		if got := w.states(); got != "cancelled" {
			t.Errorf("states %q\n%s", got, w.kinds(w.newest().ID))
		}
		if w.effects("release") != 3 || w.effects("refund") != 1 {
			t.Errorf("undone %d+%d, want 3+1\n%s", w.effects("release"), w.effects("refund"), w.kinds(w.newest().ID))
		}
	}
	check(t, w)
	var order []string
	for _, o := range w.order {
		if o == "release" || o == "refund" {
			order = append(order, o)
		}
	}
	if got := strings.Join(order[len(order)-2:], " "); got != "release release" {
		t.Errorf("undone in order %v: hold and both come last", order)
	}
	for _, c := range commits {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d %s %v after=%v", c.N, c.Op, c.Kinds, after), func(t *testing.T) {
				t.Parallel()
				check(t, play(t, crash.Plan{At: c.N, After: after}))
			})
		}
	}
}

func TestWaitTimesOut(t *testing.T) {
	w := newWorld(t, booking)
	w.ask(http("booking", map[string]any{"key": "k1"}))
	w.pass(4 * 24 * time.Hour)
	if got := w.states(); got != "cancelled" {
		t.Errorf("states %q\n%s", got, w.kinds(w.newest().ID))
	}
	if n := w.effects("release"); n != 2 {
		t.Errorf("%d released, want 2", n)
	}
}

// An event that comes before the wait is found by it; a wrong one wakes nobody.
func TestEventBeforeWait(t *testing.T) {
	w := newWorld(t, booking)
	w.script["both"] = []any{time.Second}
	ch := w.e.Ask(context.Background(), http("booking", map[string]any{"key": "k1"}))
	w.clock.Settle()
	w.publish("thing.paid", "e-0", map[string]any{"id": "other"})
	w.publish("thing.paid", "e-1", map[string]any{"id": "hold-read-a"})
	if a := w.until(ch); a.Status != 202 {
		t.Fatal(show(a))
	}
	w.clock.Settle()
	if got := w.states(); got != "done" {
		t.Errorf("states %q\n%s", got, w.kinds(w.newest().ID))
	}
}

// Nothing written, a transient fault, nobody waiting: 5 s, 30 s, 5 min, hourly,
// until patience is over.
func TestDeferral(t *testing.T) {
	route := `
route: r
from: {event: thing.paid}
req: events/thing.paid
patience: 3h
version: 1
about: a
owner: t@example.org
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
	t.Run("comes back", func(t *testing.T) {
		w := newWorld(t, route)
		w.script["pay"] = []any{"unavailable", "unavailable", "unavailable", "unavailable", "unavailable", "unavailable", map[string]any{"v": "p"}}
		w.publish("thing.paid", "e-1", map[string]any{"id": "1"})
		w.pass(time.Second)
		if r := w.newest(); r.State != store.Waiting || r.Reason != "deferred" {
			t.Fatalf("state %s %q\n%s", r.State, r.Reason, w.kinds(r.ID))
		}
		w.pass(10 * time.Minute)
		if got := w.states(); got != "done" || w.effects("pay") != 1 || w.effects("hold") != 1 {
			t.Errorf("state %s, %d paid, %d held\n%s", got, w.effects("pay"), w.effects("hold"), w.kinds(w.newest().ID))
		}
	})
	t.Run("patience is over", func(t *testing.T) {
		w := newWorld(t, route)
		w.script["pay"] = []any{"unavailable"}
		w.publish("thing.paid", "e-1", map[string]any{"id": "1"})
		w.publish("thing.paid", "e-1", map[string]any{"id": "1"})
		// Each try makes three attempts, 50 and 100 ms apart.
		for i, d := range []time.Duration{5 * time.Second, 30 * time.Second, 5 * time.Minute, time.Hour, time.Hour} {
			w.pass(time.Second)
			if n := w.calls("pay"); n != 3*(i+1) {
				t.Fatalf("%d attempts before rung %d, want %d", n, i, 3*(i+1))
			}
			r := w.newest()
			if left := r.Due.Sub(w.clock.Now()); left <= d-2*time.Second || left > d {
				t.Fatalf("rung %d is due in %s, want about %s", i, left, d)
			}
			w.clock.Advance(r.Due)
		}
		w.pass(4 * time.Hour)
		if got := w.states(); got != "failed" || w.effects("release") != 1 {
			t.Errorf("state %s, %d released\n%s", got, w.effects("release"), w.kinds(w.newest().ID))
		}
	})
}
