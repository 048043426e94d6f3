package run

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dime-bus/dime/connectors"
)

// gateway lets one call at a time in, when the test says so.
type gateway chan struct{}

func (g gateway) Enter(ctx context.Context, _ *connectors.Operation, _ time.Duration) (func(error), error) {
	select {
	case <-g:
		return func(error) {}, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// A flood of one route's events: a run that was woken passes before all that are
// new, and another route's first event waits for one turn and not for the flood's end
// (semantics 11.1, 11.2).
func TestAFloodHoldsNobodyUp(t *testing.T) {
	const tail = `
steps:
  - call: sys.%s
    as: x
    with: {id: =req.id}
    undo: {none: x}
`
	route := func(name, op, more string) string {
		return "route: " + name + "\nfrom: {event: thing.other}\n" + more + fmt.Sprintf(tail, op)
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorldBare(t, route("flood", "hold", ""), route("quiet", "pay", ""), route("urgent", "raw", "priority: high\n"), `
route: woken
from: {http: POST /v1/woken}
steps:
  - call: sys.release
    with: {id: a}
    undo: {none: x}
  - reply: 202
  - wait: thing.paid
    where: event.id == req.id
  - call: sys.refund
    with: {id: a}
    undo: {none: x}
`)
		gate := make(gateway, 1)
		w.cfg.Guards = func(string) Guard { return gate }
		w.cfg.BackgroundSlots = 1
		w.boot()
		defer w.e.Stop()
		gate <- struct{}{}
		if a := w.ask(http("woken", map[string]any{"id": "a"})); a.Status != 202 {
			t.Fatalf("%+v", a)
		}
		w.clock.Settle()
		n := 0
		send := func(route string, times int) {
			for range times {
				n++
				id := fmt.Sprint("e", n)
				ch := w.e.Trigger(context.Background(), Request{Route: route, Req: map[string]any{"id": id}, Trigger: "event", Key: id})
				go func() {
					if err := <-ch; err != nil {
						t.Errorf("%s: %v", route, err)
					}
				}()
				synctest.Wait()
			}
		}
		send("flood", 9)
		send("quiet", 2)
		send("urgent", 2)
		if err := w.e.Publish(context.Background(), "thing.paid", "e-1", map[string]any{"id": "a"}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for range 14 {
			gate <- struct{}{}
			synctest.Wait()
		}
		w.mu.Lock()
		got := strings.Join(w.order[1:], " ")
		w.mu.Unlock()
		// The flood had the slot; the woken one is next, then the classes' turns 8:3:1.
		if want := "hold refund raw raw hold pay hold pay hold hold hold hold hold hold"; got != want {
			t.Errorf("called\n%s, want\n%s", got, want)
		}
	})
}
