package run

import (
	"context"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/fault"
)

// Trigger begins a run that has no caller, as a message or the clock does:
// r.Trigger is "event", "queue", "cron" or "every" and r.Key the message's id or the
// scheduled instant, under which a repetition finds the same run. What comes is
// nil once the run is durable or has ended; after an error the message must come
// again. Like Ask it is counted on the clock from here on. The route test runner
// uses it; in service the feeds and timers do.
func (e *Engine) Trigger(ctx context.Context, r Request) <-chan error {
	ch := make(chan error, 1)
	clock.Enter(e.clock)
	go func() {
		defer clock.Leave(e.clock)
		ch <- e.trigger(ctx, r)
	}()
	return ch
}

func (e *Engine) trigger(ctx context.Context, r Request) error {
	p := e.city.Load().progs[r.Route]
	if p == nil {
		return fault.New(fault.Unavailable, "route %s is not loaded", r.Route)
	}
	if err := e.background.Enter(ctx, p.route.Priority, p.route.Name); err != nil {
		return err
	}
	defer e.background.Leave()
	return e.runBackground(ctx, p, r)
}
