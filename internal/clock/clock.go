// Package clock is how the engine asks for time, so that tests and the route
// test runner can hold it still and move it.
package clock

import (
	"context"
	"sync/atomic"
	"time"
)

// Clock tells the time and calls back at an instant. Virtual (in this package)
// and Real implement it.
type Clock interface {
	Now() time.Time
	// At calls f in its own goroutine once Now is not before t. stop cancels it
	// and is safe to call more than once, also after f has begun.
	At(t time.Time, f func()) (stop func())
}

// Real is the machine's clock.
type Real struct{}

func (Real) Now() time.Time { return time.Now() }

func (Real) At(t time.Time, f func()) func() {
	timer := time.AfterFunc(time.Until(t), f)
	return func() { timer.Stop() }
}

// Busy is implemented by a clock that must know when all work rests (Virtual).
type Busy interface{ Busy(delta int) }

// Enter tells a virtual clock that one more piece of work is running; call Leave
// when it ends or begins to rest.
func Enter(c Clock) {
	if b, ok := c.(Busy); ok {
		b.Busy(1)
	}
}

// Leave is the opposite of Enter.
func Leave(c Clock) {
	if b, ok := c.(Busy); ok {
		b.Busy(-1)
	}
}

// Sleep waits for d on c, or until ctx ends. A caller counted by Enter is not
// counted while it sleeps.
func Sleep(ctx context.Context, c Clock, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	done := make(chan struct{})
	var woken atomic.Bool // who wakes the sleeper counts it again: the alarm or ctx, never both
	stop := c.At(c.Now().Add(d), func() {
		if woken.CompareAndSwap(false, true) {
			Enter(c) // the sleeper counts again before the alarm's own count ends
			close(done)
		}
	})
	defer stop()
	Leave(c)
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		if woken.CompareAndSwap(false, true) {
			Enter(c)
		} else {
			<-done
		}
		return ctx.Err()
	}
}
