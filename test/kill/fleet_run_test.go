package kill

import (
	"testing"
	"time"
)

// TestFleet: a city on two gateways and two workers serves what one process does.
func TestFleet(t *testing.T) {
	rnd := seeded(t)
	f := newFleet(t, "content", "RSSMRA80A01L736U", 1, 2, 2)
	f.startAll()
	l := startLoad(f.rig, 8, true, rnd)
	f.until(60*time.Second, "200 jobs", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return len(l.jobs) >= 200 })
	l.stop.Store(true)
	f.settled(l)
	f.complain(f.judge(l))
	t.Logf("%d jobs", len(l.jobs))
}
