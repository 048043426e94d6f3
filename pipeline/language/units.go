package language

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dime-bus/dime/internal/clock"
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
		var rank int
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
			if short := unitMeant(rest[i:j]); short != "" {
				return sp, fmt.Errorf("%q is not a period: write %s%d%s%s", s, s[:len(s)-len(rest)], n, short, rest[j:])
			}
			if j == len(rest) && i == j {
				return sp, fmt.Errorf("%q has no unit: write for instance %ss; units are ms, s, m, h, d (calendar days) and w", s, s)
			}
			return sp, fmt.Errorf("%q is not a period: units are ms, s, m, h, d (calendar days) and w, as in 1m30s", s)
		}
		if rank >= last {
			return sp, fmt.Errorf("%q is not a period: write each unit once, the largest first", s)
		}
		rest, last = rest[j:], rank
	}
	return sp, nil
}

// unitMeant is the unit of a word or of one behind a space.
func unitMeant(s string) string {
	if s = strings.TrimSpace(s); len(s) > 1 { // M may be a month
		s = strings.ToLower(s)
	}
	switch s {
	case "ms", "msec", "millisecond", "milliseconds":
		return "ms"
	case "s", "sec", "secs", "second", "seconds":
		return "s"
	case "m", "min", "mins", "minute", "minutes":
		return "m"
	case "h", "hr", "hrs", "hour", "hours":
		return "h"
	case "d", "day", "days":
		return "d"
	case "w", "week", "weeks":
		return "w"
	}
	return ""
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
		_, t, _ = clock.Wall(y, m, d+s.Days, h, mi, sec, l.Nanosecond(), zone)
	}
	return t.Add(s.Elapsed).In(zone)
}
