package run

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/store"
)

// A call begins only under a lease (11.4): where it could not be renewed nothing
// is sent, an effect, a read, an attempt anew and an undo alike, and whoever owns
// the run next goes on.
func TestNoCallWithoutLease(t *testing.T) {
	const head = "route: r\nfrom: {http: POST /v1/r}\nwithin: 1m\n"
	const hold = "  - call: sys.raw\n    as: first\n    with: {id: a}\n    undo: {none: x}\n  - call: sys.hold\n    as: held\n    with: {id: a}\n    undo: {call: sys.release, with: {id: a}}\n"
	for _, c := range []struct {
		name, route, then string
		script            map[string][]any
		begun, calls      int // of then, without the lease and in the end
		state             string
	}{
		{"an effect", head + "steps:\n" + hold + "  - call: sys.pay\n    as: paid\n    with: {id: a}\n    undo: {none: x}\n", "pay",
			map[string][]any{"hold": {4500 * time.Millisecond, map[string]any{"v": "x"}}}, 0, 1, "done"},
		{"a read", head + "steps:\n" + hold + "  - call: sys.read\n    as: got\n    with: {id: a}\n", "read",
			map[string][]any{"hold": {4500 * time.Millisecond, map[string]any{"v": "x"}}}, 0, 1, "done"},
		{"another attempt", head + "steps:\n" + hold, "hold",
			map[string][]any{"hold": {4500 * time.Millisecond, "unavailable", map[string]any{"v": "x"}}}, 1, 2, "done"},
		{"an undo", head + "steps:\n" + hold + "  - check: held.v == \"y\"\n    else: {cancel: no}\n", "release",
			map[string][]any{"hold": {4500 * time.Millisecond, map[string]any{"v": "x"}}}, 0, 1, "cancelled"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorldBare(t, c.route)
			lost := true
			w.refuse = func(op string, _ store.State, _ []store.Record) error {
				if lost && op == "renew" {
					return errors.New("the store can't be reached")
				}
				return nil
			}
			w.boot()
			w.script = c.script
			w.script["raw"] = []any{4500 * time.Millisecond, map[string]any{"v": "x"}}
			ch := w.e.Ask(context.Background(), http("r", map[string]any{}))
			w.clock.Settle()
			w.pass(9500 * time.Millisecond) // the lease ends at 10 s
			if n := w.calls(c.then); n != c.begun {
				t.Errorf("%s was called %d times with half a second of lease, want %d", c.then, n, c.begun)
			}
			lost = false
			w.pass(time.Minute)
			if got := w.states(); got != c.state || w.calls(c.then) != c.calls || w.effects("hold") != 1 {
				t.Errorf("%q, %s called %d times, want %q and %d; %d held\n%s", got, c.then, w.calls(c.then), c.state, c.calls, w.effects("hold"), w.kinds(w.newest().ID))
			}
			<-ch
		})
	}
}

// A call that is under way when the lease ends is cut off, and whoever owns the run
// next asks what became of it.
func TestACallEndsWithItsLease(t *testing.T) {
	w := newWorld(t, "route: r\nfrom: {http: POST /v1/r}\nwithin: 1m\nsteps:\n  - call: sys.both\n    as: booked\n    with: {id: a}\n    undo: {none: x}\n")
	ended := make(chan error, 10)
	do := w.e.cfg.Do
	w.e.cfg.Do = func(ctx context.Context, full string, op *connectors.Operation, c connectors.Call) (any, error) {
		v, err := do(ctx, full, op, c)
		if full == "sys.both" {
			ended <- context.Cause(ctx)
		}
		return v, err
	}
	w.script = map[string][]any{"both": {time.Minute, map[string]any{"v": "y"}}, "look": {map[string]any{"v": "y"}}}
	ch := w.e.Ask(context.Background(), http("r", map[string]any{}))
	w.clock.Settle()
	w.e.cut()
	if len(ended) > 0 {
		t.Fatal("the call ended while the lease was good")
	}
	x := w.e.live.get(w.newest().ID)
	x.mu.Lock()
	x.lease.Until = w.clock.Now()
	x.mu.Unlock()
	w.e.cut()
	select {
	case err := <-ended:
		if !errors.Is(err, errLease) {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the call goes on beyond the lease")
	}
	w.pass(time.Minute)
	<-ch
	if got := w.states(); got != "done" || w.effects("both") != 0 {
		t.Errorf("%s, %d effects of a call that was cut off and found\n%s", got, w.effects("both"), w.kinds(w.newest().ID))
	}
}
