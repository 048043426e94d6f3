package run

import (
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/dime-bus/dime/pipeline/language"
)

func rome(t testing.TB) *time.Location {
	t.Helper()
	z, err := time.LoadLocation("Europe/Rome")
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func TestCronInRome(t *testing.T) {
	z := rome(t)
	for _, c := range []struct{ name, cron, after, want string }{
		{"daily", "0 7 * * *", "2026-01-10T06:00:00Z", "2026-01-11T06:00:00Z"},
		{"weekday by number", "30 8 * * 1-5", "2026-01-09T08:00:00Z", "2026-01-12T07:30:00Z"},
		{"Sunday is 7 too", "0 0 * * 7", "2026-01-09T08:00:00Z", "2026-01-10T23:00:00Z"},
		{"last of a list", "0 6,18 * * *", "2026-01-10T06:00:00Z", "2026-01-10T17:00:00Z"},
		// 2026-03-29 02:00 -> 03:00: a time in the gap fires once, at its end.
		{"in the gap", "30 2 * * *", "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z"},
		{"after the gap", "30 2 * * *", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"},
		{"any hour skips the gap", "30 * * * *", "2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"},
		// 2026-10-25 03:00 -> 02:00: a time in the overlap fires once, at the first.
		{"in the overlap", "30 2 * * *", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z"},
		{"once in the overlap", "30 2 * * *", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"},
		{"any hour fires in both", "30 * * * *", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"},
		{"a step fires in both", "0 */2 * * *", "2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"},
		{"leap day", "0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-28T23:00:00Z"},
		{"never", "0 0 31 2 *", "2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z"},
	} {
		s, err := ParseCron(c.cron)
		if err != nil {
			t.Fatal(err)
		}
		after, _ := time.Parse(time.RFC3339, c.after)
		if got := s.Next(after, z).UTC().Format(time.RFC3339); got != c.want {
			t.Errorf("%s: %q after %s is %s, want %s", c.name, c.cron, c.after, got, c.want)
		}
	}
	for _, bad := range []string{"", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "*/0 * * * *", "5-1 * * * *", "a * * * *", "* * * 13 *", "* * * * 8"} {
		if _, err := ParseCron(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// d and w are calendar days: same wall time; gap: the first instant after it;
// overlap: the second (semantics 5.5).
func TestAddSpan(t *testing.T) {
	z := rome(t)
	for _, c := range []struct {
		from string
		span language.Span
		want string
	}{
		{"2026-03-27T11:00:00Z", language.Span{Days: 3}, "2026-03-30T10:00:00Z"},
		{"2026-03-27T11:00:00Z", language.Span{Elapsed: 72 * time.Hour}, "2026-03-30T11:00:00Z"},
		{"2026-03-28T01:30:00Z", language.Span{Days: 1}, "2026-03-29T01:00:00Z"},
		{"2026-10-24T00:30:00Z", language.Span{Days: 1}, "2026-10-25T01:30:00Z"},
		{"2026-01-01T00:00:00Z", language.Span{Days: 7, Elapsed: time.Hour}, "2026-01-08T01:00:00Z"},
	} {
		from, _ := time.Parse(time.RFC3339, c.from)
		if got := addSpan(from, c.span, z).Format(time.RFC3339); got != c.want {
			t.Errorf("%s + %+v is %s, want %s", c.from, c.span, got, c.want)
		}
	}
}

func FuzzParseCron(f *testing.F) {
	for _, s := range []string{"0 7 * * *", "*/5 1-3,9 1 1-12/2 0,7", "0 0 31 2 *", "a b c d e", "1/2/3 * * * *"} {
		f.Add(s)
	}
	z := rome(f)
	at := time.Date(2026, 3, 28, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseCron(s)
		if err != nil {
			return
		}
		if next := c.Next(at, z); !next.IsZero() && !next.After(at) {
			t.Errorf("%q fires at %s, which is not after %s", s, next, at)
		}
	})
}

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
