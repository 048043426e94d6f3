package run

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dime-bus/dime/internal/identity"
	"github.com/dime-bus/dime/pipeline/language"
)

// Schedule is a cron pattern of five fields in wall time (semantics 5.6).
type Schedule struct {
	minute, hour, day, month, weekday uint64
	anyDay, anyWeekday                bool
	elapsed                           bool // `*` or a step in the hour field: fires at every elapsed match
}

// ParseCron reads "minute hour day month weekday" with numbers, lists, ranges,
// steps and `*`. Sunday is 0 or 7.
func ParseCron(s string) (Schedule, error) {
	f := strings.Fields(s)
	if len(f) != 5 {
		return Schedule{}, fmt.Errorf("reading cron pattern %q: it needs five fields: minute hour day month weekday", s)
	}
	var c Schedule
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
		return Schedule{}, err
	}
	if c.weekday&(1<<7) != 0 {
		c.weekday |= 1
	}
	c.anyDay, c.anyWeekday = f[2] == "*", f[4] == "*"
	c.elapsed = strings.ContainsAny(f[1], "*/")
	return c, nil
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

func (c Schedule) dayMatches(t time.Time) bool {
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
// zero time if there is none within five years.
func (c Schedule) Next(t time.Time, zone *time.Location) time.Time {
	l := t.In(zone)
	for d := range 5 * 366 {
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

func (c Schedule) nextOn(day, after time.Time, zone *time.Location) (best time.Time) {
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
			first, second, gap := wall(day.Year(), day.Month(), day.Day(), h, m, 0, 0, zone)
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

// wall is the instant, or both, at which the zone's clocks show a wall time. In
// the spring gap both are the first instant after it, and gap is true.
func wall(y int, mo time.Month, d, h, m, s, ns int, zone *time.Location) (first, second time.Time, gap bool) {
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

// addSpan adds calendar days in the zone, then elapsed time (semantics 5.5): the
// same wall time; in the spring gap the first instant after it; in the autumn
// overlap the second.
func addSpan(t time.Time, s language.Span, zone *time.Location) time.Time {
	if s.Days != 0 {
		if zone == nil {
			zone = time.UTC
		}
		l := t.In(zone)
		_, t, _ = wall(l.Year(), l.Month(), l.Day()+s.Days, l.Hour(), l.Minute(), l.Second(), l.Nanosecond(), zone)
	}
	return t.Add(s.Elapsed).UTC()
}

// timers are the alarms of cron and every.
type timers struct {
	mu    sync.Mutex
	stops []func()
	gen   int
	off   bool
}

func (t *timers) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.off = true
	for _, s := range t.stops {
		s()
	}
	t.stops = nil
}

// schedule sets the alarms of a city's routes. After downtime the latest missed
// occurrence fires once.
func (e *Engine) schedule(cs *cityState) {
	if e.cfg.NoSchedule || !e.started.Load() {
		return
	}
	t := &e.timers
	t.mu.Lock()
	for _, s := range t.stops {
		s()
	}
	t.stops = nil
	t.gen++
	gen := t.gen
	t.mu.Unlock()
	for _, name := range sortedKeys(cs.progs) {
		p := cs.progs[name]
		for i, tr := range p.route.From {
			if tr.Kind != language.Cron && tr.Kind != language.Every {
				continue
			}
			next, err := occurrences(tr, p.route.Zone)
			if err != nil {
				e.log.Error("scheduling", "route", name, "error", err)
				continue
			}
			key := name
			if i > 0 {
				key = name + "#" + strconv.Itoa(i+1)
			}
			now := e.clock.Now()
			last, ok, err := e.store.LastFired(e.ctx, key)
			if err != nil {
				e.log.Error("scheduling", "route", name, "error", err)
				continue
			}
			at := next(now)
			if ok {
				if missed := latest(next, last, now); !missed.IsZero() {
					at = missed
				}
				if tr.Kind == language.Every {
					at = last.Add(tr.Every)
					if at.Before(now) {
						at = last.Add(now.Sub(last) / tr.Every * tr.Every)
					}
				}
			}
			e.arm(gen, p, key, tr, next, at)
		}
	}
}

// occurrences gives the first firing after an instant.
func occurrences(tr language.Trigger, zone *time.Location) (func(time.Time) time.Time, error) {
	if tr.Kind == language.Every {
		if tr.Every <= 0 {
			return nil, fmt.Errorf("`every` needs a positive duration")
		}
		return func(t time.Time) time.Time { return t.Add(tr.Every) }, nil
	}
	c, err := ParseCron(tr.Cron)
	if err != nil {
		return nil, err
	}
	if zone == nil {
		zone = time.UTC
	}
	return func(t time.Time) time.Time { return c.Next(t, zone) }, nil
}

// latest is the last occurrence in (after, now]; zero if none.
func latest(next func(time.Time) time.Time, after, now time.Time) (at time.Time) {
	// Years of downtime at a minute's pattern are not walked: two days suffice to
	// find the latest one of any pattern that fires daily.
	if from := now.Add(-49 * time.Hour); from.After(after) && !next(from).After(now) {
		after = from
	}
	for {
		t := next(after)
		if t.IsZero() || t.After(now) {
			return at
		}
		at, after = t, t
	}
}

func (e *Engine) arm(gen int, p *program, key string, tr language.Trigger, next func(time.Time) time.Time, at time.Time) {
	if at.IsZero() {
		return
	}
	t := &e.timers
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.off || t.gen != gen {
		return
	}
	t.stops = append(t.stops, e.clock.At(at, func() {
		e.fire(p, key, tr, at)
		e.arm(gen, p, key, tr, next, next(at))
	}))
	if len(t.stops) > 4096 { // stops of alarms that rang are harmless; forget the oldest
		t.stops = append([]func(){}, t.stops[2048:]...)
	}
}

// fire begins the run of one occurrence; one row per (route, instant) makes it
// single across workers.
func (e *Engine) fire(p *program, key string, tr language.Trigger, at time.Time) {
	mine, err := e.store.Fire(e.ctx, key, at)
	if err != nil {
		e.log.Error("firing", "route", key, "at", at, "error", err)
		return
	}
	if !mine {
		return
	}
	e.start(func() {
		if e.background.enter(e.ctx) != nil {
			return
		}
		defer func() { e.background.leave(); e.loop.kick() }()
		stamp := at.UTC().Format(time.RFC3339)
		err := e.runBackground(context.WithoutCancel(e.ctx), p, Request{Route: p.route.Name, Req: map[string]any{"at": stamp},
			Trigger: string(tr.Kind), Key: "at:" + stamp, Caller: &identity.Caller{Kind: "timer", Subject: key}})
		if err != nil {
			e.log.Error("a scheduled run was not accepted", "route", key, "at", at, "error", err)
		}
	})
}
