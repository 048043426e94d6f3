package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// noAudit is for tests of other things.
func noAudit(context.Context, Audited) (int64, error) { return 1, nil }

func auditedAdmin(t *testing.T, write func(Audited) (int64, error), done *int) *admin {
	t.Helper()
	something := func(context.Context, int64, string, string) (any, error) { *done++; return "ok", nil }
	list := func(context.Context, int64) (any, error) { return nil, nil }
	cfg := AdminConfig{
		Runs: &runs{}, City: func() City { return City{} }, Ready: func(context.Context) error { return nil }, Log: slog.New(slog.DiscardHandler),
		Audit:     func(_ context.Context, a Audited) (int64, error) { return write(a) },
		Withdraw:  func(context.Context, string, string, string) (any, error) { *done++; return "ok", nil },
		Unmatched: list, Settled: list, Settle: something,
		Tasks: map[string]AdminTask{
			"POST /things/{thing}/turn": func(context.Context, func(string) string, []byte) (any, error) { *done++; return "ok", nil },
			"PUT /things/{thing}":       func(context.Context, func(string) string, []byte) (any, error) { *done++; return "ok", nil },
			"GET /things":               func(context.Context, func(string) string, []byte) (any, error) { return "ok", nil },
		},
	}
	return newAdmin(cfg)
}

func TestEveryActOfTheAdminFaceIsAudited(t *testing.T) {
	var rows []Audited
	done := 0
	a := auditedAdmin(t, func(x Audited) (int64, error) { rows = append(rows, x); return int64(len(rows)), nil }, &done)
	acts := 0
	for _, p := range a.patterns {
		method, path, _ := strings.Cut(p, " ")
		path = regexp.MustCompile(`\{[a-z]+\}`).ReplaceAllString(path, "7")
		rows = nil
		send := func(body string) int {
			r := httptest.NewRequest(method, path, strings.NewReader(body))
			w := httptest.NewRecorder()
			a.mux.ServeHTTP(w, r)
			return w.Code
		}
		if method == http.MethodGet {
			send("")
			if len(rows) != 0 {
				t.Errorf("%s is no act, and is audited: %v", p, rows)
			}
			continue
		}
		acts++
		for _, body := range []string{"", "[]", `{"reason": "r"}`, `{"as": " ", "reason": "r"}`, `{"as": "a", "as": "b"}`} {
			if code := send(body); code != http.StatusBadRequest || len(rows) != 0 {
				t.Errorf("%s %s: %d, %v", p, body, code, rows)
			}
		}
		send(`{"as": "anna", "reason": "r"}`)
		if len(rows) != 2 || rows[0].Who != "anna" || rows[0].Reason != "r" || rows[0].Action == "" || rows[1].Action != rows[0].Action ||
			rows[1].Detail["of"] != int64(1) || rows[1].Detail["status"] == nil {
			t.Errorf("%s: the audit is %+v", p, rows)
		}
	}
	if acts != 9 {
		t.Errorf("%d acts were tried; adapt the number to the face", acts)
	}
}

func TestTheAuditSaysWhatWasDone(t *testing.T) {
	var rows []Audited
	done := 0
	a := auditedAdmin(t, func(x Audited) (int64, error) { rows = append(rows, x); return int64(len(rows)), nil }, &done)
	body := `{"as": "anna", "reason": "why", "subject": "RSSMRA80A01L736U", "to": "3", "dry_run": true, "result": {"a": 1}, "other": "x"}`
	w := httptest.NewRecorder()
	a.mux.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/things/agenda/turn", strings.NewReader(body)))
	want := []Audited{
		{Who: "anna", Reason: "why", Action: "things.turn", Target: "agenda", Person: "RSSMRA80A01L736U", Detail: map[string]any{"to": "3", "dry_run": true}},
		{Who: "anna", Action: "things.turn", Target: "agenda", Person: "RSSMRA80A01L736U", Detail: map[string]any{"of": int64(1), "status": 200}},
	}
	if d := cmp.Diff(want, rows); d != "" {
		t.Error(d)
	}
}

func TestWhatCannotBeAuditedIsNotDone(t *testing.T) {
	done := 0
	a := auditedAdmin(t, func(Audited) (int64, error) { return 0, errors.New("the disk is full") }, &done)
	for _, path := range []string{"/things/agenda/turn", "/documents/7/withdraw", "/events/7/settle"} {
		w := httptest.NewRecorder()
		a.mux.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, strings.NewReader(`{"as": "anna", "reason": "r"}`)))
		if w.Code != http.StatusServiceUnavailable || done != 0 {
			t.Errorf("%s: %d, and %d acts were done", path, w.Code, done)
		}
	}
}
