package occurrence

import (
	"testing"
	"time"

	"github.com/dime-bus/dime/pipeline/language"
)

func at(t *testing.T, s string) time.Time {
	t.Helper()
	v, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// After downtime the latest missed occurrence fires, once (semantics 5.6).
func TestMissed(t *testing.T) {
	rome, err := time.LoadLocation("Europe/Rome")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name             string
		tr               language.Trigger
		after, now, want string // want "": none was missed
	}{
		{"none", language.Trigger{Kind: language.Cron, Cron: "0 6 * * *"}, "2026-03-02T06:00:00+01:00", "2026-03-03T05:59:00+01:00", ""},
		{"at the instant itself", language.Trigger{Kind: language.Cron, Cron: "0 6 * * *"}, "2026-03-02T06:00:00+01:00", "2026-03-03T06:00:00+01:00", "2026-03-03T06:00:00+01:00"},
		{"the latest of several", language.Trigger{Kind: language.Cron, Cron: "0 6 * * *"}, "2026-03-02T06:00:00+01:00", "2026-03-09T12:00:00+01:00", "2026-03-09T06:00:00+01:00"},
		{"of two years at every minute", language.Trigger{Kind: language.Cron, Cron: "* * * * *"}, "2024-03-02T06:00:00+01:00", "2026-03-09T12:00:30+01:00", "2026-03-09T12:00:00+01:00"},
		{"monthly, longer ago than two days", language.Trigger{Kind: language.Cron, Cron: "0 6 1 * *"}, "2026-01-15T00:00:00+01:00", "2026-03-20T12:00:00+01:00", "2026-03-01T06:00:00+01:00"},
		{"a time in the spring gap fires at its end", language.Trigger{Kind: language.Cron, Cron: "30 2 * * *"}, "2026-03-28T12:00:00+01:00", "2026-03-29T12:00:00+02:00", "2026-03-29T03:00:00+02:00"},
		{"every", language.Trigger{Kind: language.Every, Every: 10 * time.Minute}, "2026-03-02T06:00:00+01:00", "2026-03-02T06:35:00+01:00", "2026-03-02T06:30:00+01:00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			next, err := After(c.tr, rome)
			if err != nil {
				t.Fatal(err)
			}
			got := Missed(next, at(t, c.after), at(t, c.now))
			if c.want == "" {
				if !got.IsZero() {
					t.Errorf("missed %v, want none", got)
				}
			} else if !got.Equal(at(t, c.want)) {
				t.Errorf("missed %v, want %s", got, c.want)
			}
		})
	}
	for _, tr := range []language.Trigger{{Kind: language.Every}, {Kind: language.Cron, Cron: "nonsense"}} {
		if _, err := After(tr, rome); err == nil {
			t.Errorf("%+v was taken", tr)
		}
	}
}

func TestSet(t *testing.T) {
	var s Set
	one := at(t, "2026-03-02T06:00:00Z")
	two := one.Add(time.Hour)
	if !s.Begin("r", one) || s.Begin("r", one) || !s.Begin("other", one) {
		t.Error("an occurrence is begun once a key")
	}
	if !s.Latest("r", one) || !s.Begin("r", two) || s.Latest("r", one) || !s.Latest("r", two) || !s.Latest("other", one) {
		t.Error("the latest of a key is the last that was begun")
	}
	s.End("r", two)
	if !s.Latest("r", one) {
		t.Error("one that ended still counts")
	}
	s.End("r", one)
	if !s.Begin("r", one) {
		t.Error("one that ended can't be begun again")
	}
}
