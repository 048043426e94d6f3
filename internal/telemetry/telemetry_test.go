package telemetry

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func text(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func used(t *testing.T) *Metrics {
	t.Helper()
	m := New(Version{"1.0", "abc"})
	m.Answered("x", 200, time.Millisecond)
	m.Answered("x", 200, time.Millisecond)
	m.RunStarted("x")
	m.RunEnded("x", "done", time.Second)
	m.Attempt("a.b", "timeout", time.Second)
	m.Deferred("x", "a.b")
	m.Event("e.d", 2)
	m.Commit("intent", time.Millisecond)
	m.Reloaded(time.Unix(100, 0), true)
	m.Reloaded(time.Unix(200, 0), false)
	m.Routes([]RouteVersion{{"x", 1, "d1"}})
	m.Routes([]RouteVersion{{"x", 2, "d2"}})
	if err := m.Gauges(Gauge{"outbox_oldest_seconds", "Age.", func() float64 { return 7 }}); err != nil {
		t.Fatal(err)
	}
	if err := m.StateCounts(func() map[string]int { return map[string]int{"waiting": 3} }); err != nil {
		t.Fatal(err)
	}
	return m
}

// Dashboards and alerts hang on these names (what-users-say 30): removing or
// renaming one is a breaking change.
func TestNamesAreAContract(t *testing.T) {
	var got []string
	for line := range strings.SplitSeq(text(t, used(t)), "\n") {
		if f := strings.Fields(line); len(f) == 4 && f[1] == "TYPE" && strings.HasPrefix(f[2], "dime_") {
			got = append(got, f[2]+" "+f[3])
		}
	}
	slices.Sort(got)
	want := []string{
		"dime_build_info gauge", "dime_deferrals_total counter", "dime_events_total counter", "dime_events_woke_runs_total counter",
		"dime_http_request_seconds histogram", "dime_http_requests_total counter",
		"dime_journal_commit_seconds histogram", "dime_journal_commits_total counter",
		"dime_operation_attempt_seconds histogram", "dime_operation_attempts_total counter", "dime_outbox_oldest_seconds gauge",
		"dime_reload_last_ok gauge", "dime_reload_last_success_timestamp_seconds gauge", "dime_reloads_total counter",
		"dime_route_version gauge", "dime_run_seconds histogram", "dime_runs gauge", "dime_runs_ended_total counter", "dime_runs_started_total counter",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestValues(t *testing.T) {
	out := text(t, used(t))
	for _, want := range []string{
		`dime_http_requests_total{route="x",status="200"} 2`,
		`dime_runs_ended_total{route="x",state="done"} 1`,
		`dime_operation_attempts_total{fault="timeout",operation="a.b"} 1`,
		`dime_events_woke_runs_total{type="e.d"} 2`,
		`dime_reload_last_ok 0`,
		`dime_reload_last_success_timestamp_seconds 100`,
		`dime_route_version{digest="d2",route="x"} 2`,
		`dime_runs{state="waiting"} 3`,
		`dime_outbox_oldest_seconds 7`,
	} {
		if !strings.Contains(out, want+"\n") {
			t.Errorf("no line %q", want)
		}
	}
	if strings.Contains(out, `digest="d1"`) {
		t.Error("a version that is no more in force is still shown")
	}
	if !regexp.MustCompile(`dime_build_info\{commit="abc",go="go[^"]+",version="1.0"\} 1`).MatchString(out) {
		t.Error("no build info")
	}
}

func TestGaugeTwice(t *testing.T) {
	m := used(t)
	if err := m.Gauges(Gauge{"outbox_oldest_seconds", "Age.", func() float64 { return 7 }}); err == nil {
		t.Error("the same name twice is accepted")
	}
}

func TestConcurrentUse(t *testing.T) {
	m := New(Version{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				m.Answered("x", 200, time.Millisecond)
				m.Routes([]RouteVersion{{"x", 1, "d"}})
			}
		})
	}
	wg.Wait()
	if out := text(t, m); !strings.Contains(out, `dime_http_requests_total{route="x",status="200"} 800`) {
		t.Error(out)
	}
}

func TestLogStarsPersons(t *testing.T) {
	var b bytes.Buffer
	l := Log(&b, slog.LevelInfo)
	l.Info("hello", "tax_code", "RSSMRA80A01L736U", "run", "r1", slog.Group("g", "subject", "RSSMRA80A01L736U"))
	l.Info("of RSSMRA80A01L736U", "error", fmt.Errorf("for maria.rossi@example.org: %w", errors.New("no RSSMRA80A01L736U")), "what", "x rssmra80a01l736u",
		"data", map[string]any{"free": "RSSMRA_text"}, "list", []string{"RSSMRA80A01L736U"}, "Note", "RSSMRA_note")
	l.Debug("hidden")
	out := b.String()
	if strings.Contains(strings.ToUpper(out), "RSSMRA") || strings.Contains(out, "maria") || !strings.Contains(out, "map[string]interface") || !strings.Contains(out, `"level":"INFO"`) || !strings.Contains(out, `"run":"r1"`) || strings.Contains(out, "hidden") {
		t.Error(out)
	}
}

func TestLevel(t *testing.T) {
	for s, want := range map[string]slog.Level{"debug": slog.LevelDebug, "": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError} {
		if got, err := Level(s); err != nil || got != want {
			t.Errorf("%q: %v %v", s, got, err)
		}
	}
	if _, err := Level("loud"); err == nil {
		t.Error("loud is accepted")
	}
}
