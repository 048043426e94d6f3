package clock

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata"
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
		{"leap day over a year that is none", "0 0 29 2 *", "2096-03-01T00:00:00Z", "2104-02-28T23:00:00Z"},
		{"no such day, but weekdays", "0 0 31 2 1", "2026-02-01T00:00:00Z", "2026-02-01T23:00:00Z"},
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
	for _, bad := range []string{"", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "*/0 * * * *", "5-1 * * * *", "a * * * *", "* * * 13 *", "* * * * 8", "0 7 31 2 *", "0 7 30-31 2 *", "0 7 31 4,6,9,11 *"} {
		if _, err := ParseCron(bad); err == nil {
			t.Errorf("%q was taken", bad)
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

func TestParseCronMessages(t *testing.T) {
	for _, tt := range []struct{ in, bad string }{
		{"0 7 * * *", ""}, {"*/15 8-18 * * 1-5", ""}, {"0 0 1,15 * *", ""},
		{"0 7 * *", "five fields"}, {"60 7 * * *", "minute"}, {"0 24 * * *", "hour"}, {"0 7 0 * *", "day"},
		{"0 7 * 13 *", "month"}, {"0 7 * * 8", "weekday"}, {"*/0 * * * *", "step"}, {"x * * * *", "minute"}, {"5-1 * * * *", "minute"},
	} {
		got := ""
		if _, err := ParseCron(tt.in); err != nil {
			got = err.Error()
		}
		if (got == "") != (tt.bad == "") || !strings.Contains(got, tt.bad) {
			t.Errorf("%q: got %q, want %q", tt.in, got, tt.bad)
		}
	}
}
