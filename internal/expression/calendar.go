package expression

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dime-bus/dime/internal/clock"
)

// Period is a length of time as people mean it (semantics 5.5): calendar days at
// the same wall time, Italian working days, and elapsed time, added in this order.
type Period struct {
	Days    int
	Working int
	Elapsed time.Duration
}

// String is ISO 8601, with W for working days in a designator of ours: P3D,
// PT2H, P5WD.
func (p Period) String() string {
	var b strings.Builder
	b.WriteByte('P')
	if p.Days != 0 {
		fmt.Fprintf(&b, "%dD", p.Days)
	}
	if p.Working != 0 {
		fmt.Fprintf(&b, "%dWD", p.Working)
	}
	if p.Elapsed != 0 || b.Len() == 1 {
		b.WriteString("T" + strconv.FormatFloat(p.Elapsed.Seconds(), 'f', -1, 64) + "S")
	}
	return b.String()
}

// JSONValue is how a period stands in JSON.
func (p Period) JSONValue() any { return p.String() }

// ParsePeriod reads what String writes.
func ParsePeriod(s string) (Period, error) {
	var p Period
	rest, ok := strings.CutPrefix(s, "P")
	if !ok || rest == "" {
		return p, errNoPeriod
	}
	date, clock, hasTime := strings.Cut(rest, "T")
	for _, part := range []struct {
		unit string
		to   *int
	}{{"D", &p.Days}, {"WD", &p.Working}} {
		i := 0
		for i < len(date) && (date[i] == '-' || date[i] >= '0' && date[i] <= '9') {
			i++
		}
		if i == 0 || !strings.HasPrefix(date[i:], part.unit) {
			continue
		}
		n, err := strconv.Atoi(date[:i])
		if err != nil || n > maxDays || n < -maxDays {
			return Period{}, errNoPeriod
		}
		*part.to = n
		date = date[i+len(part.unit):]
	}
	if date != "" {
		return Period{}, errNoPeriod
	}
	if !hasTime {
		return p, nil
	}
	seconds, ok := strings.CutSuffix(clock, "S")
	if !ok {
		// PT2H30M, as others write it: Go's own reader takes the parts in small letters.
		d, err := time.ParseDuration(strings.ToLower(clock))
		if err != nil {
			return Period{}, errNoPeriod
		}
		p.Elapsed = d
		return p, nil
	}
	d, err := time.ParseDuration(strings.ToLower(seconds) + "s")
	if err != nil {
		return Period{}, errNoPeriod
	}
	p.Elapsed = d
	return p, nil
}

var (
	errNoPeriod  = errors.New("the string is no period such as P3D or PT2H")
	errNoInstant = errors.New("the string is no date or date-time (RFC 3339)")
)

// maxDays bounds calendar arithmetic: 1,000 years.
const maxDays = 366_000

// After is the instant that lies p behind t, in the calendar of loc (nil is UTC).
func (p Period) After(t time.Time, loc *time.Location) time.Time {
	if loc == nil {
		loc = time.UTC
	}
	if p.Days != 0 || p.Working != 0 {
		l := t.In(loc)
		y, m, d := l.Date()
		day := time.Date(y, m, d+p.Days, 0, 0, 0, 0, time.UTC)
		step := 1
		if p.Working < 0 {
			step = -1
		}
		for n := p.Working; n != 0; {
			day = day.AddDate(0, 0, step)
			if WorkingDay(day) {
				n -= step
			}
		}
		y, m, d = day.Date()
		t = wall(y, m, d, l.Hour(), l.Minute(), l.Second(), l.Nanosecond(), loc)
	}
	return t.Add(p.Elapsed)
}

// wall is the instant at which the clocks of loc show that wall time: in the
// spring gap the first instant after it, in the autumn overlap the second
// (semantics 5.5).
func wall(year int, month time.Month, day, hour, minute, sec, nsec int, loc *time.Location) time.Time {
	_, at, _ := clock.Wall(year, month, day, hour, minute, sec, nsec, loc)
	return at.In(loc)
}

// WorkingDay says whether the day of t (in t's own zone) is Monday to Friday and
// no national holiday: law 260/1949 as amended (art. 2), Easter Monday, and Saint
// Francis again from 2026 (law 151/2025).
func WorkingDay(t time.Time) bool {
	if w := t.Weekday(); w == time.Saturday || w == time.Sunday {
		return false
	}
	y, m, d := t.Date()
	switch [2]int{int(m), d} {
	case [2]int{1, 1}, [2]int{1, 6}, [2]int{4, 25}, [2]int{5, 1}, [2]int{6, 2}, [2]int{8, 15},
		[2]int{11, 1}, [2]int{12, 8}, [2]int{12, 25}, [2]int{12, 26}:
		return false
	case [2]int{10, 4}:
		return y < 2026
	}
	em, ed := easter(y)
	monday := time.Date(y, em, ed+1, 0, 0, 0, 0, time.UTC)
	return m != monday.Month() || d != monday.Day()
}

// easter is the Gregorian Easter Sunday (anonymous algorithm, Meeus).
func easter(y int) (time.Month, int) {
	a, b, c := y%19, y/100, y%100
	d, e := b/4, b%4
	g := (8*b + 13) / 25
	h := (19*a + b - d - g + 15) % 30
	i, k := c/4, c%4
	l := (32 + 2*e + 2*i - h - k) % 7
	m := (a + 11*h + 22*l) / 451
	n := h + l - 7*m + 114
	return time.Month(n / 31), n%31 + 1
}

func (f *frame) zone() *time.Location {
	if f.env.Zone == nil {
		return time.UTC
	}
	return f.env.Zone
}

func (f *frame) now() time.Time {
	if f.env.Now == nil {
		return time.Now().In(f.zone())
	}
	return f.env.Now().In(f.zone())
}

// instantOf reads an instant: itself, an RFC 3339 date-time, or a date, which is
// its midnight in the city's zone.
func instantOf(fr *frame, v any) (time.Time, error) {
	switch x := v.(type) {
	case time.Time:
		return x, nil
	case string:
		if t, err := time.Parse(time.RFC3339Nano, x); err == nil {
			return t, nil
		}
		if d, err := time.Parse(time.DateOnly, x); err == nil {
			return wall(d.Year(), d.Month(), d.Day(), 0, 0, 0, 0, fr.zone()), nil
		}
		return time.Time{}, errNoInstant
	}
	return time.Time{}, fmt.Errorf("an instant must stand here, not %s", kindName(v))
}

func toInstant(fr *frame, v any) (any, error) { return boxTime(instantOf(fr, v)) }

func boxTime(t time.Time, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return t, nil
}

func toPeriod(_ *frame, v any) (any, error) {
	switch x := v.(type) {
	case Period:
		return x, nil
	case string:
		p, err := ParsePeriod(x)
		if err != nil {
			return nil, err
		}
		return p, nil
	}
	return nil, fmt.Errorf("a period must stand here, not %s", kindName(v))
}

// parseWall reads "07:00" or "07:00:30".
func parseWall(s string) (hour, minute, second int, ok bool) {
	for _, layout := range []string{"15:04", "15:04:05"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.Hour(), t.Minute(), t.Second(), true
		}
	}
	return 0, 0, 0, false
}

// nextLocal is the first instant after t at which the clocks of loc show the time.
func nextLocal(t time.Time, hour, minute, second int, loc *time.Location) time.Time {
	y, m, d := t.In(loc).Date()
	for i := 0; ; i++ {
		if at := wall(y, m, d+i, hour, minute, second, 0, loc); at.After(t) {
			return at
		}
	}
}
