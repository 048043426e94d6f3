package language

import (
	"fmt"
	"strconv"
	"time"
)

// ParseSpan reads a period as route files write it: numbers with units, largest
// first ("3d", "1h30m"). ms s m h are elapsed time, d and w calendar days in the
// city's zone (semantics 5.5): 72h is not 3d.
func ParseSpan(s string) (Span, error) {
	var sp Span
	rest, last := s, 7
	if s == "" {
		return sp, fmt.Errorf("a period is missing: write for instance 30s, 15m or 3d")
	}
	for rest != "" {
		i := 0
		for i < len(rest) && rest[i] >= '0' && rest[i] <= '9' {
			i++
		}
		j := i
		for j < len(rest) && (rest[j] < '0' || rest[j] > '9') {
			j++
		}
		n, err := strconv.Atoi(rest[:i])
		if err != nil || n > 1_000_000 {
			return sp, fmt.Errorf("%q is not a period: write for instance 500ms, 30s, 15m, 2h, 3d or 2w", s)
		}
		rank := 0
		switch rest[i:j] {
		case "w":
			sp.Days, rank = sp.Days+7*n, 6
		case "d":
			sp.Days, rank = sp.Days+n, 5
		case "h":
			sp.Elapsed, rank = sp.Elapsed+time.Duration(n)*time.Hour, 4
		case "m":
			sp.Elapsed, rank = sp.Elapsed+time.Duration(n)*time.Minute, 3
		case "s":
			sp.Elapsed, rank = sp.Elapsed+time.Duration(n)*time.Second, 2
		case "ms":
			sp.Elapsed, rank = sp.Elapsed+time.Duration(n)*time.Millisecond, 1
		default:
			return sp, fmt.Errorf("%q is not a period: units are ms, s, m, h, d (calendar days) and w", s)
		}
		if rank >= last {
			return sp, fmt.Errorf("%q is not a period: write each unit once, the largest first", s)
		}
		rest, last = rest[j:], rank
	}
	return sp, nil
}

// ParseElapsed is ParseSpan for places where days have no meaning, such as the
// time-out of a call.
func ParseElapsed(s string) (time.Duration, error) {
	sp, err := ParseSpan(s)
	if err != nil {
		return 0, err
	}
	if sp.Days != 0 {
		return 0, fmt.Errorf("%q counts calendar days; here only elapsed time is meant: use ms, s, m or h", s)
	}
	return sp.Elapsed, nil
}

// Zero says that nothing was written.
func (s Span) Zero() bool { return s.Days == 0 && s.Elapsed == 0 }

// After is the instant s after t: calendar days in zone first, the same wall
// time; in the spring gap the first instant after it, in the autumn overlap the
// second (semantics 5.5).
func (s Span) After(t time.Time, zone *time.Location) time.Time {
	if s.Days != 0 {
		l := t.In(zone)
		y, m, d := l.Date()
		h, mi, sec := l.Clock()
		t = wall(y, m, d+s.Days, h, mi, sec, l.Nanosecond(), zone)
	}
	return t.Add(s.Elapsed).In(zone)
}

// wall resolves a wall time that may not exist or exist twice. time.Date leaves
// open which of two offsets it takes.
func wall(y int, m time.Month, d, h, mi, sec, ns int, zone *time.Location) time.Time {
	noon := time.Date(y, m, d, h, mi, sec, ns, time.UTC)
	_, before := noon.Add(-26 * time.Hour).In(zone).Zone()
	_, after := noon.Add(26 * time.Hour).In(zone).Zone()
	a := noon.Add(-time.Duration(before) * time.Second) // read with the earlier offset
	b := noon.Add(-time.Duration(after) * time.Second)
	same := func(t time.Time) bool {
		l := t.In(zone)
		return l.Hour() == noon.Hour() && l.Minute() == noon.Minute() && l.Day() == noon.Day()
	}
	switch okA, okB := same(a), same(b); {
	case okA && okB:
		if b.After(a) {
			return b.In(zone)
		}
		return a.In(zone)
	case okA:
		return a.In(zone)
	case okB:
		return b.In(zone)
	}
	// In the gap: its end is where the later offset begins.
	lo, hi := b, a
	if hi.Before(lo) {
		lo, hi = hi, lo
	}
	for hi.Sub(lo) > time.Second {
		mid := lo.Add(hi.Sub(lo) / 2)
		if _, o := mid.In(zone).Zone(); o == after {
			hi = mid
		} else {
			lo = mid
		}
	}
	return hi.Truncate(time.Second).In(zone)
}
