package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/dime-bus/dime/internal/fault"
)

func TestAdminUnmatchedEvents(t *testing.T) {
	var calls []string
	cfg := AdminConfig{
		Audit: noAudit, Runs: &runs{}, City: func() City { return testCity(t) }, Ready: func(context.Context) error { return nil }, Log: slog.New(slog.DiscardHandler),
		Unmatched: func(_ context.Context, after int64) (any, error) { return []int64{after + 1}, nil },
		Settled:   func(_ context.Context, after int64) (any, error) { return []int64{after + 2}, nil },
		Settle: func(_ context.Context, event int64, reason, by string) (any, error) {
			if event != 7 {
				return nil, fault.New(fault.NotFound, "no such event")
			}
			calls = append(calls, fmt.Sprint(event, " ", reason, " by ", by))
			return map[string]int64{"event": event}, nil
		},
	}
	h, err := NewAdmin(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/events/unmatched": "[1]", "/events/unmatched?after=41": "[42]", "/events/settled?after=41": "[43]"} {
		if w := ask(h, http.MethodGet, path, ""); w.Code != 200 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if w := ask(h, http.MethodGet, "/events/unmatched?after=x", ""); w.Code != http.StatusBadRequest {
		t.Errorf("a wrong place: %d", w.Code)
	}
	for _, c := range []struct {
		event, body string
		status      int
	}{
		{"7", `{"as":"anna","reason":"rimborsato"}`, 200},
		{"7", `{"as":"anna"}`, 400},
		{"7", `{"reason":"rimborsato"}`, 400},
		{"7", `{"as":"anna","reason":"x","dry_run":true}`, 400},
		{"8", `{"as":"anna","reason":"x"}`, 404},
		{"x", `{"as":"anna","reason":"x"}`, 400},
	} {
		if w := ask(h, http.MethodPost, "/events/"+c.event+"/settle", c.body); w.Code != c.status {
			t.Errorf("%s %s: %d, want %d: %s", c.event, c.body, w.Code, c.status, w.Body)
		}
	}
	if strings.Join(calls, ";") != "7 rimborsato by anna" {
		t.Errorf("settled %q", calls)
	}
}
