package clock

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Cron is a cron pattern of five fields in wall time (semantics 5.6).
type Cron struct {
	minute, hour, day, month, weekday uint64
	anyDay, anyWeekday                bool
	elapsed                           bool // `*` or a step in the hour field: fires at every elapsed match
}

// ParseCron reads "minute hour day month weekday" with numbers, lists, ranges,
// steps and `*`. Sunday is 0 or 7.
func ParseCron(s string) (Cron, error) {
	f := strings.Fields(s)
	if len(f) != 5 {
		return Cron{}, fmt.Errorf("reading cron pattern %q: five fields are expected: minute hour day month weekday, such as \"0 7 * * *\"", s)
	}
	var c Cron
	var err error
	read := func(i int, name string, lo, hi int) uint64 {
		if err != nil {
			return 0
		}
		var bits uint64
		if bits, err = cronField(f[i], lo, hi); err != nil {
			err = fmt.Errorf("reading cron pattern %q: %s: %w", s, name, err)
		}
		return bits
	}
	c.minute = read(0, "minute", 0, 59)
	c.hour = read(1, "hour", 0, 23)
	c.day = read(2, "day", 1, 31)
	c.month = read(3, "month", 1, 12)
	c.weekday = read(4, "weekday", 0, 7)
	if err != nil {
		return Cron{}, err
	}
	if c.weekday&(1<<7) != 0 {
		c.weekday |= 1
	}
	c.anyDay, c.anyWeekday = f[2] == "*", f[4] == "*"
	if c.anyWeekday && !c.dated() {
		return Cron{}, fmt.Errorf("reading cron pattern %q: it never fires, for no month of field 4 has a day of field 3", s)
	}
	c.elapsed = strings.ContainsAny(f[1], "*/")
	return c, nil
}

// dated says whether some year has a day of the pattern in a month of it.
func (c Cron) dated() bool {
	for m := time.January; m <= time.December; m++ {
		const leap = 2028
		last := time.Date(leap, m+1, 0, 0, 0, 0, 0, time.UTC).Day()
		if c.month&(1<<int(m)) != 0 && c.day&(1<<(last+1)-1) != 0 {
			return true
		}
	}
	return false
}

func cronField(s string, lo, hi int) (bits uint64, err error) {
	for _, part := range strings.Split(s, ",") {
		rng, stepText, stepped := strings.Cut(part, "/")
		step := 1
		if stepped {
			if step, err = strconv.Atoi(stepText); err != nil || step < 1 || step > hi {
				return 0, fmt.Errorf("%q is not a step from 1 to %d", stepText, hi)
			}
		}
		from, to := lo, hi
		if rng != "*" {
			a, b, ranged := strings.Cut(rng, "-")
			if from, err = strconv.Atoi(a); err != nil || from < lo || from > hi {
				return 0, fmt.Errorf("%q is not a number from %d to %d", a, lo, hi)
			}
			switch {
			case ranged:
				if to, err = strconv.Atoi(b); err != nil || to < from || to > hi {
					return 0, fmt.Errorf("%q is not a number from %d to %d", b, from, hi)
				}
			case !stepped:
				to = from
			}
		}
		for i := from; i <= to; i += step {
			bits |= 1 << i
		}
	}
	return bits, nil
}

func (c Cron) dayMatches(t time.Time) bool {
	if c.month&(1<<int(t.Month())) == 0 {
		return false
	}
	day, week := c.day&(1<<t.Day()) != 0, c.weekday&(1<<int(t.Weekday())) != 0
	switch {
	case c.anyDay:
		return week
	case c.anyWeekday:
		return day
	}
	return day || week // both given: either, as cron has it
}

// Next is the first instant after t at which the pattern fires in the zone; the
// zero time if there is none within nine years: a leap day may be eight away.
func (c Cron) Next(t time.Time, zone *time.Location) time.Time {
	l := t.In(zone)
	for d := range 9 * 366 {
		day := time.Date(l.Year(), l.Month(), l.Day()+d, 12, 0, 0, 0, time.UTC)
		if !c.dayMatches(day) {
			continue
		}
		if at := c.nextOn(day, t, zone); !at.IsZero() {
			return at
		}
	}
	return time.Time{}
}

func (c Cron) nextOn(day, after time.Time, zone *time.Location) (best time.Time) {
	better := func(at time.Time) {
		if at.After(after) && (best.IsZero() || at.Before(best)) {
			best = at
		}
	}
	for h := range 24 {
		if c.hour&(1<<h) == 0 {
			continue
		}
		for m := range 60 {
			if c.minute&(1<<m) == 0 {
				continue
			}
			first, second, gap := Wall(day.Year(), day.Month(), day.Day(), h, m, 0, 0, zone)
			if gap && c.elapsed {
				continue // no such wall time elapses
			}
			better(first) // in the gap: once, at its end; in the overlap: at the first
			if c.elapsed {
				better(second)
			}
		}
	}
	return best
}
