package gateway

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/dime-bus/dime/internal/fault"
)

func TestAdminWithdraws(t *testing.T) {
	var calls []string
	cfg := AdminConfig{
		Audit: noAudit, Runs: &runs{}, City: func() City { return testCity(t) }, Ready: func(context.Context) error { return nil }, Log: slog.New(slog.DiscardHandler),
		Withdraw: func(_ context.Context, code, reason, by string) (any, error) {
			if code != "C1" {
				return nil, fault.New(fault.NotFound, "no document has this code")
			}
			calls = append(calls, reason+" by "+by)
			return map[string]string{"protocol": "VE-1"}, nil
		},
	}
	h, err := NewAdmin(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for body, status := range map[string]int{
		`{"as":"anna","reason":"errore"}`:                http.StatusOK,
		`{"as":"anna"}`:                                  http.StatusBadRequest,
		`{"reason":"errore"}`:                            http.StatusBadRequest,
		`{"as":"anna","reason":"errore","dry_run":true}`: http.StatusBadRequest,
		`{"as":"anna","reason":"errore","from":"x"}`:     http.StatusBadRequest,
		`nonsense`: http.StatusBadRequest,
	} {
		if w := ask(h, http.MethodPost, "/documents/C1/withdraw", body); w.Code != status {
			t.Errorf("%s: %d, want %d: %s", body, w.Code, status, w.Body)
		}
	}
	if strings.Join(calls, ";") != "errore by anna" {
		t.Errorf("withdrew %q", calls)
	}
	if w := ask(h, http.MethodPost, "/documents/C2/withdraw", `{"as":"anna","reason":"errore"}`); w.Code != http.StatusNotFound {
		t.Errorf("an unknown code: %d", w.Code)
	}
	cfg.Withdraw = nil
	if h, err = NewAdmin(cfg); err != nil {
		t.Fatal(err)
	}
	if w := ask(h, http.MethodPost, "/documents/C1/withdraw", `{"as":"anna","reason":"errore"}`); w.Code != http.StatusNotFound {
		t.Errorf("without an archive: %d", w.Code)
	}
}
