package language

import (
	"strings"
	"testing"
	"time"
)

func TestParseSpan(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want Span
		bad  string
	}{
		{"3d", Span{Days: 3}, ""},
		{"2w", Span{Days: 14}, ""},
		{"72h", Span{Elapsed: 72 * time.Hour}, ""},
		{"1h30m", Span{Elapsed: 90 * time.Minute}, ""},
		{"1w2d3h4m5s6ms", Span{Days: 9, Elapsed: 3*time.Hour + 4*time.Minute + 5*time.Second + 6*time.Millisecond}, ""},
		{"500ms", Span{Elapsed: 500 * time.Millisecond}, ""},
		{"", Span{}, "missing"},
		{"30", Span{}, "units are"},
		{"30 days", Span{}, "write 30d"},
		{"3M", Span{}, "units are"},
		{"1m1h", Span{}, "largest first"},
		{"1h1h", Span{}, "each unit once"},
		{"-1h", Span{}, "not a period"},
		{"1.5h", Span{}, "not a period"},
		{"99999999h", Span{}, "not a period"},
	} {
		got, err := ParseSpan(tt.in)
		if tt.bad == "" && (err != nil || got != tt.want) {
			t.Errorf("%q: got %+v, %v", tt.in, got, err)
		}
		if tt.bad != "" && (err == nil || !strings.Contains(err.Error(), tt.bad)) {
			t.Errorf("%q: got %v, want %q", tt.in, err, tt.bad)
		}
	}
	if _, err := ParseElapsed("3d"); err == nil {
		t.Error("days are no elapsed time")
	}
}

// Semantics 5.5: calendar days keep the wall time; in the spring gap the first
// instant after it, in the autumn overlap the second.
func TestSpanAfter(t *testing.T) {
	rome, err := time.LoadLocation("Europe/Rome")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ from, span, want string }{
		{"2026-03-27T02:30:00+01:00", "1d", "2026-03-28T02:30:00+01:00"},
		{"2026-03-28T02:30:00+01:00", "1d", "2026-03-29T03:00:00+02:00"}, // the gap
		{"2026-03-28T02:30:00+01:00", "24h", "2026-03-29T03:30:00+02:00"},
		{"2026-03-28T12:00:00+01:00", "1d", "2026-03-29T12:00:00+02:00"}, // 23 hours
		{"2026-10-24T02:30:00+02:00", "1d", "2026-10-25T02:30:00+01:00"}, // the second
		{"2026-10-24T12:00:00+02:00", "1d", "2026-10-25T12:00:00+01:00"}, // 25 hours
		{"2026-01-31T09:00:00+01:00", "1w", "2026-02-07T09:00:00+01:00"},
		{"2026-11-23T09:00:00+01:00", "2d3h", "2026-11-25T12:00:00+01:00"},
	} {
		from, _ := time.Parse(time.RFC3339, tt.from)
		sp, err := ParseSpan(tt.span)
		if err != nil {
			t.Fatal(err)
		}
		if got := sp.After(from, rome).Format(time.RFC3339); got != tt.want {
			t.Errorf("%s + %s: got %s, want %s", tt.from, tt.span, got, tt.want)
		}
	}
}

func FuzzParseSpan(f *testing.F) {
	for _, s := range []string{"3d", "1h30m", "500ms", "", "x", "1w1w", "9999999999999999999h", "è1d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		sp, err := ParseSpan(s)
		if err == nil && (sp.Days < 0 || sp.Elapsed < 0) {
			t.Fatalf("%q: %+v", s, sp)
		}
	})
}

func TestConflict(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"/v1/{a}/b", "/v1/x/{c}", true},
		{"/v1/{a}/b", "/v1/x/b", false},
		{"/v1/{a}/{b}", "/v1/x/{c}", false},
		{"/v1/x/b", "/v1/y/{c}", false},
	} {
		if got := conflict(segments(tt.a), segments(tt.b)); got != tt.want {
			t.Errorf("%s and %s: got %v", tt.a, tt.b, got)
		}
	}
}
