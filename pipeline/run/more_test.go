package run

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/pipeline/language"
)

const slow = `
route: slow
from: {http: POST /v1/slow}
steps:
  - call: sys.hold
    as: held
    with: {id: a}
    undo: {call: sys.release, with: {id: =held.v}}
  - reply: 202
  - delay: 2h
  - call: sys.pay
    as: paid
    with: {id: WHAT}
    undo: {none: it stands}
`

// A run stays on the version it began with, from the store's source.
func TestVersionsArePinned(t *testing.T) {
	w := newWorldBare(t, strings.Replace(slow, "WHAT", "old", 1))
	old := w.city.Routes["slow"]
	w.boot()
	w.ask(http("slow", map[string]any{}))
	w.clock.Settle()
	next := strings.Replace(slow, "WHAT", "new", 1)
	if err := w.e.Swap(loadCity(t, next)); err == nil || !strings.Contains(err.Error(), "version: 2") {
		t.Errorf("the same label with another file was taken: %v", err)
	}
	w.city = loadCity(t, strings.Replace(next, "from:", "version: 2\nabout: a\nowner: t@example.org\nreq: req\nfrom:", 1))
	compiled := 0
	w.cfg.Recompile = func(src language.Source, _ func(string) (language.Source, error)) (*language.Route, error) {
		compiled++
		if src.Route != old.Source.Route {
			t.Errorf("another source came back")
		}
		return old, nil
	}
	w.reboot()
	w.pass(3 * time.Hour)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ledger["pay"][w.keys["pay"][0]].(map[string]any)["v"] != "pay-old" || compiled == 0 {
		t.Errorf("paid %v, compiled %d times", w.ledger["pay"], compiled)
	}
}

// Without a way to compile its version a run parks at its next step.
func TestVersionThatDoesNotCompile(t *testing.T) {
	w := newWorld(t, strings.Replace(slow, "WHAT", "old", 1))
	w.ask(http("slow", map[string]any{}))
	w.clock.Settle()
	w.city = loadCity(t, lookup)
	w.reboot()
	w.pass(3 * time.Hour)
	if r := w.newest(); r.State != store.Parked || r.Reason != "version-does-not-compile" {
		t.Errorf("%s %s", r.State, r.Reason)
	}
}

// A failing undo waits on the ladder, then parks as undoing; a person resolves it
// and the rest goes on (semantics 7.4).
func TestStuckUndo(t *testing.T) {
	route := `
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
    undo: {call: sys.refund, with: {id: =paid.v}}
  - check: req.n == 1
    else: {cancel: no}
`
	w := newWorld(t, route)
	w.script["refund"] = []any{"unavailable", "unavailable", "unavailable", "unavailable", "full"}
	a := w.ask(http("r", map[string]any{}))
	if a.Status != 409 {
		t.Fatal(show(a))
	}
	if got := w.states(); got != "undoing" {
		t.Errorf("state %s after the first failure", got)
	}
	w.pass(time.Hour)
	r := w.newest()
	if r.State != store.Parked || r.Reason != "undoing" || w.effects("release") != 0 {
		t.Fatalf("%s %s, released %d\n%s", r.State, r.Reason, w.effects("release"), w.kinds(r.ID))
	}
	act := clerk
	act.Path = "paid"
	if _, err := w.e.Resolve(context.Background(), w.disk.PublicID(r.ID), act); err != nil {
		t.Fatal(err)
	}
	w.pass(time.Second)
	if w.states() != "cancelled" || w.effects("release") != 1 {
		t.Errorf("%s, released %d\n%s", w.states(), w.effects("release"), w.kinds(r.ID))
	}
}

// Drain: no new runs, a run at work stops at its next commit and another process
// goes on with it.
func TestDrain(t *testing.T) {
	w := newWorld(t, strings.Replace(slow, "  - delay: 2h\n", "  - call: sys.read\n    as: got\n    with: {id: a}\n    errors: {timeout: skip}\n", 1))
	w.script["read"] = []any{time.Second}
	if a := w.ask(http("slow", map[string]any{})); a.Status != 202 {
		t.Fatal(show(a))
	}
	done := make(chan struct{})
	go func() { w.e.Drain(context.Background()); close(done) }()
	for !w.e.Draining() {
		runtime.Gosched()
	}
	w.pass(2 * time.Second)
	<-done
	if a := w.ask(http("slow", map[string]any{})); a.Status != 503 {
		t.Errorf("a draining engine answered %s", show(a))
	}
	if w.calls("pay") != 0 {
		t.Error("it went on behind its next commit")
	}
	w.reboot()
	w.pass(2 * time.Second)
	if got := w.states(); got != "done" || w.effects("hold") != 1 {
		t.Errorf("%s, held %d", got, w.effects("hold"))
	}
}

// Personal values never reach a timeline, and a run's end is told to the city.
func TestLifeEventsAndTimeline(t *testing.T) {
	w := newWorld(t, booking)
	w.ask(http("booking", map[string]any{}))
	w.clock.Settle()
	w.publish("thing.paid", "e-1", map[string]any{"id": "hold-read-a"})
	d, err := w.e.Show(context.Background(), w.disk.PublicID(w.newest().ID))
	if err != nil || d.State != "done" || d.Volatile {
		t.Fatalf("%+v %v", d, err)
	}
	seen := map[string]bool{}
	for _, l := range d.Lines {
		seen[l.Kind+" "+l.Step] = true
	}
	for _, want := range []string{"result slot", "intent held", "outcome held", "rest paid", "woken paid", "joined both", "joined notes", "end "} {
		if !seen[want] {
			t.Errorf("no line %q in %v", want, d.Lines)
		}
	}
}
