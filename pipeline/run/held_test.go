package run

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/store"
)

// gate is a backend that a person pauses.
type gate struct {
	clock clock.Clock
	mu    sync.Mutex
	until time.Time
}

func (g *gate) pause(until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.until = until
}

func (g *gate) Enter(context.Context, *connectors.Operation, time.Duration) (func(error), error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if left := g.until.Sub(g.clock.Now()); left > 0 {
		return nil, &fault.Error{Kind: fault.Unavailable, RetryAfter: left, Until: g.until, Say: "sorry", Detail: "not asked at present"}
	}
	return func(error) {}, nil
}

const heldRoute = `
route: paused
from:
  http: POST /v1/paused
  event: thing.other
subject: ="x"
purpose: service
steps:
  - call: sys.hold
    as: hold
    with: {id: =req.id}
    undo: {call: sys.release, with: {id: =hold.v}}
  - check: req.id != "back"
    else: {cancel: back}
`

func heldWorld(t *testing.T) (*world, *gate) {
	w := newWorldBare(t, heldRoute)
	g := &gate{clock: w.clock}
	w.cfg.Guards = func(string) Guard { return g }
	w.cfg.BackgroundSlots = 1
	w.boot()
	return w, g
}

func (w *world) begin(ids ...string) {
	w.t.Helper()
	for _, id := range ids {
		ch := w.e.Trigger(context.Background(), Request{Route: "paused", Req: map[string]any{"id": id}, Trigger: "event", Key: id})
		w.clock.Settle()
		if err := <-ch; err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) reasons() (out []string) {
	w.t.Helper()
	rs, err := w.disk.Find(context.Background(), store.Filter{})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, r := range rs {
		out = append(out, string(r.State)+" "+r.Reason)
	}
	return out
}

// inOrder compares the calls with the runs' order of acceptance.
func (w *world) inOrder(op, path string, n int) {
	w.t.Helper()
	rs, err := w.disk.Find(context.Background(), store.Filter{})
	if err != nil || len(rs) != n {
		w.t.Fatalf("%d runs, %v", len(rs), err)
	}
	slices.Reverse(rs)
	var want []string
	for _, r := range rs {
		want = append(want, w.disk.Key("run", w.disk.PublicID(r.ID), path, "1"))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(want, w.keys[op]) {
		w.t.Fatalf("%s was called %d times, or out of order", op, len(w.keys[op]))
	}
}

// A pause longer than the route's patience: runs rest, over a restart too, try
// nothing, and go on in order when it ends.
func TestRunsRestInOrderForAPausedConnector(t *testing.T) {
	w, g := heldWorld(t)
	g.pause(epoch.Add(100 * time.Hour))
	w.begin("a", "b", "c")
	for _, r := range w.reasons() {
		if r != "waiting paused: sys" {
			t.Fatal(w.reasons())
		}
	}
	w.clock.Advance(epoch.Add(99 * time.Hour))
	w.reboot()
	w.clock.Settle()
	if w.called["hold"] != 0 {
		t.Fatal("a paused connector was called")
	}
	w.clock.Advance(epoch.Add(101 * time.Hour))
	w.clock.Settle()
	w.inOrder("hold", "hold", 3)
	if got := w.reasons(); slices.ContainsFunc(got, func(s string) bool { return !strings.HasPrefix(s, "done") }) {
		t.Fatal(got)
	}
}

// Resumed early by a person; what still fails then has its whole patience.
func TestAPersonResumesRunsInOrder(t *testing.T) {
	w, g := heldWorld(t)
	g.pause(epoch.Add(100 * time.Hour))
	w.begin("a", "b", "c", "d")
	w.clock.Advance(epoch.Add(50 * time.Hour))
	g.pause(time.Time{})
	if n, err := w.e.Resume(context.Background(), "other"); n != 0 || err != nil {
		t.Fatalf("another connector's runs: %d, %v", n, err)
	}
	n, err := w.e.Resume(context.Background(), "sys")
	if n != 4 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	w.clock.Settle()
	w.inOrder("hold", "hold", 4)
}

// An undo rests too, and is not stuck when the pause was longer than its patience.
func TestAnUndoRestsForAPausedConnector(t *testing.T) {
	w, g := heldWorld(t)
	w.script["hold"] = []any{map[string]any{"v": "h"}}
	until := epoch.Add(200 * time.Hour)
	w.refuse = func(_ string, s store.State, _ []store.Record) error {
		if s == store.Undoing { // from the beginning of the undo on nothing is let through
			g.pause(until)
		}
		return nil
	}
	w.begin("back")
	w.refuse = nil
	if got := w.reasons(); len(got) != 1 || got[0] != "undoing paused: sys" {
		t.Fatal(got)
	}
	w.clock.Advance(until.Add(time.Hour))
	w.clock.Settle()
	if got := w.reasons(); len(got) != 1 || got[0] != "cancelled back" || w.called["release"] != 1 {
		t.Fatal(got, w.called)
	}
}

// Who waits gets 503, when to come again, and the city's own words.
func TestACallerIsToldOfAPause(t *testing.T) {
	w, g := heldWorld(t)
	g.pause(epoch.Add(90 * time.Minute))
	ch := w.e.Ask(context.Background(), Request{Route: "paused", Req: map[string]any{"id": "a"}, Trigger: "http"})
	w.clock.Settle()
	a := <-ch
	if a.Status != 503 || a.Header["Retry-After"] != "5400" || a.Say != "sorry" || a.Problem == nil || a.Problem.Say != "sorry" {
		t.Fatalf("%+v", a)
	}
	if w.called["hold"] != 0 {
		t.Fatal("a paused connector was called")
	}
}
