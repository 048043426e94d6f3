package store

import (
	"math"
	"time"
)

// Left is how long a lease still lives, judged by the clock that has gone further:
// the monotonic one stands still while the machine sleeps (CLOCK_MONOTONIC,
// clock_gettime(2)), the wall's may be set back. A zero lease has no end.
func (l Lease) Left(now time.Time) time.Duration {
	if l.Until.IsZero() {
		return math.MaxInt64
	}
	return min(l.Until.Sub(now), l.Until.Round(0).Sub(now.Round(0)))
}
