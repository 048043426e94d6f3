package clock

import (
	"sort"
	"sync"
	"time"
)

// Virtual is a clock that stands still until Advance moves it, and that knows
// whether anything counted by Enter is still running.
type Virtual struct {
	mu     sync.Mutex
	idle   sync.Cond
	now    time.Time
	busy   int
	seq    int
	alarms []*alarm
}

type alarm struct {
	at  time.Time
	seq int
	f   func()
}

// NewVirtual returns a clock that shows t.
func NewVirtual(t time.Time) *Virtual {
	v := &Virtual{now: t}
	v.idle.L = &v.mu
	return v
}

func (v *Virtual) Now() time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.now
}

func (v *Virtual) At(t time.Time, f func()) func() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.seq++
	a := &alarm{t, v.seq, f}
	if !t.After(v.now) {
		v.fire(a)
		return func() {}
	}
	v.alarms = append(v.alarms, a)
	return func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		for i, x := range v.alarms {
			if x == a {
				v.alarms = append(v.alarms[:i], v.alarms[i+1:]...)
				return
			}
		}
	}
}

// fire runs a's callback as counted work. v.mu is held.
func (v *Virtual) fire(a *alarm) {
	v.busy++
	go func() {
		defer v.Busy(-1)
		a.f()
	}()
}

// Busy implements Busy.
func (v *Virtual) Busy(delta int) {
	v.mu.Lock()
	v.busy += delta
	if v.busy == 0 {
		v.idle.Broadcast()
	}
	v.mu.Unlock()
}

// Settle waits until nothing counted is running.
func (v *Virtual) Settle() {
	v.mu.Lock()
	for v.busy > 0 {
		v.idle.Wait()
	}
	v.mu.Unlock()
}

// Next returns the instant of the earliest alarm.
func (v *Virtual) Next() (time.Time, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.alarms) == 0 {
		return time.Time{}, false
	}
	v.sort()
	return v.alarms[0].at, true
}

// Advance moves the clock to t, ringing the alarms on the way one instant at a
// time and letting all work settle between them. A t in the past does nothing.
func (v *Virtual) Advance(t time.Time) {
	for {
		v.Settle()
		v.mu.Lock()
		v.sort()
		if len(v.alarms) == 0 || v.alarms[0].at.After(t) {
			if t.After(v.now) {
				v.now = t
			}
			v.mu.Unlock()
			return
		}
		a := v.alarms[0]
		v.alarms = v.alarms[1:]
		if a.at.After(v.now) {
			v.now = a.at
		}
		v.fire(a)
		v.mu.Unlock()
	}
}

func (v *Virtual) sort() {
	sort.Slice(v.alarms, func(i, j int) bool {
		a, b := v.alarms[i], v.alarms[j]
		if a.at.Equal(b.at) {
			return a.seq < b.seq
		}
		return a.at.Before(b.at)
	})
}
