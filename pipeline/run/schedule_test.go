package run

import (
	"testing"
	"time"
	_ "time/tzdata"
)

func TestCronAndEveryFire(t *testing.T) {
	w := newWorld(t, `
route: tick
from: {every: 5m}
steps:
  - call: sys.hold
    as: held
    with: {id: =req.at}
    undo: {none: it expires}
`)
	w.pass(16 * time.Minute)
	if n := w.effects("hold"); n != 3 {
		t.Errorf("%d runs in 16 minutes, want 3: %s", n, w.states())
	}
	w.crash.Kill()
	w.e.Stop()
	w.clock.Advance(w.clock.Now().Add(time.Hour))
	disk, err := w.disk.Reopen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.disk = disk
	w.boot()
	w.pass(time.Second)
	if n := w.effects("hold"); n != 4 {
		t.Errorf("%d runs after an hour of downtime, want 4: the latest missed one fires once", n)
	}
}
