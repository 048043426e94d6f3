// Package trouble is a store that fails for a while: it is said once, and once
// that it is over, and tried again after a growing pause.
package trouble

import (
	"log/slog"
	"sync/atomic"
	"time"
)

// Claiming is how claiming runs goes. One goroutine uses Went, any may ask Now.
type Claiming struct {
	pause time.Duration
	now   atomic.Pointer[error]
}

// Went notes how an attempt went and returns the pause before the next one; 0
// after success.
func (c *Claiming) Went(log *slog.Logger, err error) time.Duration {
	if err == nil {
		if c.now.Swap(nil) != nil {
			log.Info("runs can be claimed again")
		}
		c.pause = 0
		return 0
	}
	if c.now.Swap(&err) == nil {
		log.Error("claiming runs", "error", err)
		c.pause = 100 * time.Millisecond
		return c.pause
	}
	c.pause = min(2*c.pause, 5*time.Second)
	return c.pause
}

// Now is why no run can be claimed; nil while all is well.
func (c *Claiming) Now() error {
	if err := c.now.Load(); err != nil {
		return *err
	}
	return nil
}
