package clock

import "time"

// Wall is the instant, or both, at which the zone's clocks show a wall time. In
// the spring gap both are the first instant after it, and gap is true. time.Date
// leaves open which of two offsets it takes.
func Wall(y int, mo time.Month, d, h, m, s, ns int, zone *time.Location) (first, second time.Time, gap bool) {
	u := time.Date(y, mo, d, h, m, s, ns, time.UTC)
	offset := func(t time.Time) time.Duration {
		_, o := t.In(zone).Zone()
		return time.Duration(o) * time.Second
	}
	before, after := offset(u.Add(-26*time.Hour)), offset(u.Add(26*time.Hour))
	a, b := u.Add(-before), u.Add(-after)
	okA, okB := offset(a) == before, offset(b) == after
	switch {
	case okA && okB:
		if b.Before(a) {
			a, b = b, a
		}
		return a, b, false
	case okA:
		return a, a, false
	case okB:
		return b, b, false
	}
	lo, hi := u.Add(-26*time.Hour), u.Add(26*time.Hour)
	for hi.Sub(lo) > time.Second {
		mid := lo.Add(hi.Sub(lo) / 2)
		if offset(mid) == before {
			lo = mid
		} else {
			hi = mid
		}
	}
	at := hi.Truncate(time.Second)
	return at, at, true
}
