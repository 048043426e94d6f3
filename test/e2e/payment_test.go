package e2e

import (
	"net/http"
	"testing"
)

// TestPayments: what a citizen pays is paid on the payment page, as a person pays,
// and recorded where it is due; over HTTP alone.
func TestPayments(t *testing.T) {
	s := start(t)
	owner := s.token(t, citizen)
	var a struct {
		Amount       int
		PayAt        string `json:"pay_at"`
		FollowAt     string `json:"follow_at"`
		NoticeNumber string `json:"notice_number"`
		Notice       struct{ PDF string }
	}
	pay := func() {
		t.Helper()
		b := newBrowser(t)
		page := b.get(a.PayAt)
		for range 2 { // who presses twice pays once
			if p := b.press(page, "Paga"); p.status != http.StatusOK {
				t.Fatalf("paying ended on %s with %d", p.url, p.status)
			}
		}
	}

	t.Run("a fine", func(t *testing.T) {
		ask := map[string]any{"request_id": "e2e-fine", "tax_code": citizen}
		if status := s.json(t, http.MethodPost, s.public+"/v1/fines/V-2026-00101/payment", owner, ask, &a); status != http.StatusAccepted || a.Amount == 0 {
			t.Fatalf("%d %+v", status, a)
		}
		pay()
		v := s.ended(t, a.FollowAt, owner)
		if v.Result["settled"] != true || v.Result["fine"] != "V-2026-00101" {
			t.Errorf("%+v", v)
		}
		ask["request_id"] = "e2e-fine-again"
		if status := s.json(t, http.MethodPost, s.public+"/v1/fines/V-2026-00101/payment", owner, ask, nil); status != http.StatusConflict {
			t.Errorf("a paid fine is paid again: %d", status)
		}
	})

	t.Run("a notice", func(t *testing.T) {
		ask := map[string]any{"request_id": "e2e-notice", "tax_code": citizen, "service": "library-fee", "amount": 550}
		if status := s.json(t, http.MethodPost, s.public+"/v1/payments/notices", owner, ask, &a); status != http.StatusAccepted || len(a.NoticeNumber) != 18 || a.Notice.PDF[:5] != "JVBER" {
			t.Fatalf("%d %+v", status, a)
		}
		pay()
		if v := s.ended(t, a.FollowAt, owner); v.Result["paid"] != 550.0 {
			t.Errorf("%+v", v)
		}
	})

	var effects []struct{ Connector, Operation string }
	s.json(t, http.MethodGet, s.city+"/effects?connector=pagopa", "", nil, &effects)
	count := map[string]int{}
	for _, e := range effects {
		count[e.Operation]++
	}
	if count["payment"] != 2 || count["open_position"] != 2 || count["close_position"] != 0 {
		t.Errorf("the far side's ledger: %v", count)
	}
}
