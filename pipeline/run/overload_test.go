package run

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/fault"
)

// crowd is a backend without a free place for a run that only begins.
type crowd struct {
	mu       sync.Mutex
	full     bool
	patience []time.Duration // of each that asked
}

func (c *crowd) Enter(_ context.Context, _ *connectors.Operation, patience time.Duration) (func(error), error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.patience = append(c.patience, patience)
	if c.full && patience == 0 {
		return nil, &fault.Error{Kind: fault.Unavailable, RetryAfter: time.Second, Detail: "full"}
	}
	return func(error) {}, nil
}

func (c *crowd) set(full bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.full = full
}

// Whoever is refused for want of room is told when to come back, and leaves
// nothing: no run, no effect, and no key that would keep him out (11.1).
func TestRefusedForWantOfRoom(t *testing.T) {
	const route = `
route: r
from: {http: POST /v1/r}
within: 5s
once: =req.key ?? ""
limit: {in_flight: 2}
steps:
  - call: sys.hold
    as: held
    with: {id: a}
    undo: {call: sys.release, with: {id: a}}
  - call: sys.pay
    as: paid
    with: {id: a}
    undo: {none: x}
  - set: {result: {v: =paid.v}}
`
	for _, c := range []struct {
		name   string
		slots  int
		full   bool
		before int // requests that hold the room
		status int
	}{
		{"no run slot", 1, false, 1, 503},
		{"the route's own limit", 10, false, 2, 429},
		{"the backend's places", 10, true, 0, 503},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorldBare(t, route)
			far := &crowd{}
			far.set(c.full)
			w.cfg.SyncSlots = c.slots
			w.cfg.Guards = func(string) Guard { return far }
			w.boot()
			w.script["hold"] = []any{time.Second, time.Second, map[string]any{"v": "x"}}
			var inside []<-chan Answer
			for i := range c.before {
				inside = append(inside, w.e.Ask(context.Background(), http("r", map[string]any{"key": string(rune('a' + i))})))
			}
			w.clock.Settle()
			held, runs := w.calls("hold"), w.states()
			for range 3 {
				a := w.ask(http("r", map[string]any{"key": "late"}))
				if a.Status != c.status || a.Header["Retry-After"] == "" {
					t.Fatalf("%s, headers %v", show(a), a.Header)
				}
			}
			if w.calls("hold") != held || w.states() != runs {
				t.Errorf("refused requests left %q where there was %q, and called %d times", w.states(), runs, w.calls("hold")-held)
			}
			for _, ch := range inside {
				if a := w.until(ch); a.Status != 200 {
					t.Error(show(a))
				}
			}
			far.set(false)
			if a := w.ask(http("r", map[string]any{"key": "late"})); a.Status != 200 || a.Header["Idempotent-Replayed"] != "" {
				t.Errorf("when there was room again: %s %v", show(a), a.Header)
			}
		})
	}
}

// A run with an effect behind it may wait for its turn as long as its caller does:
// it is not undone to make room for others that begin (11.1).
func TestUnderWayPassesFirst(t *testing.T) {
	w := newWorldBare(t, `
route: r
from: {http: POST /v1/r}
within: 5s
steps:
  - call: sys.hold
    as: held
    with: {id: a}
    undo: {call: sys.release, with: {id: a}}
  - call: sys.pay
    as: paid
    with: {id: a}
    undo: {none: x}
  - reply: 202
  - call: sys.book
    as: booked
    with: {id: a}
    undo: {none: x}
`)
	far := &crowd{}
	w.cfg.Guards = func(string) Guard { return far }
	w.boot()
	w.script["hold"] = []any{time.Second, map[string]any{"v": "x"}}
	if a := w.ask(http("r", map[string]any{})); a.Status != 202 {
		t.Fatal(show(a))
	}
	w.pass(time.Minute)
	p := far.patience
	if len(p) != 3 || p[0] != 0 || p[1] != 3900*time.Millisecond || p[2] <= 0 || p[2] > time.Second {
		t.Errorf("the calls were given %v to wait for their turn", p)
	}
}
