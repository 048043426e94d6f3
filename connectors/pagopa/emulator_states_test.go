package pagopa

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/clock"
)

// TestStates: which states GPD goes through, and what each refuses.
func TestStates(t *testing.T) {
	w := newTown(t, "")
	at := clock.NewVirtual(time.Now())
	w.e.cfg.Clock = at
	if _, err := w.c.register(t.Context()); err != nil {
		t.Fatal(err)
	}
	key := w.e.stationOf("00339370272").Key
	call := func(method, path, body string) (int, string) {
		r := httptest.NewRequest(method, orgPath+path, strings.NewReader(body))
		r.Header.Set("Ocp-Apim-Subscription-Key", key)
		r.Header.Set("Content-Type", "application/json")
		rec := httptest.NewRecorder()
		w.e.ServeHTTP(rec, r)
		var m struct {
			Status any `json:"status"`
		}
		_ = json.Unmarshal(rec.Body.Bytes(), &m) // "deleted" has none
		return rec.Code, fmt.Sprint(m.Status)
	}
	n := 0
	position := func(id string, change func(map[string]any)) string {
		n++
		p := goodPosition()
		p["iupd"] = id
		first := fmt.Sprintf("301%013d", n)
		var rest int
		for _, c := range first {
			rest = (rest*10 + int(c-'0')) % 93
		}
		option(p)["nav"], option(p)["iuv"] = fmt.Sprintf("%s%02d", first, rest), fmt.Sprintf("%s%02d", first[1:], rest)
		if change != nil {
			change(p)
		}
		b, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	want := func(method, path, body string, status int, state string) {
		t.Helper()
		if code, is := call(method, path, body); code != status || state != "" && is != state {
			t.Errorf("%s %s: %d %s, want %d %s", method, path, code, is, status, state)
		}
	}
	want("POST", "", position("draft", nil), 201, "DRAFT")
	want("POST", "/draft/invalidate", "", 409, "")
	want("PUT", "/draft", position("draft", nil), 200, "DRAFT")
	want("PUT", "/draft", position("other", nil), 400, "")
	want("POST", "/draft/publish", "", 200, "VALID")
	want("POST", "/draft/publish", "", 409, "")
	want("PUT", "/draft", position("draft", nil), 409, "")
	want("POST", "/draft/invalidate", "", 200, "INVALID")
	want("POST", "/draft/publish", "", 409, "")
	want("DELETE", "/draft", "", 200, "")
	want("GET", "/draft", "", 404, "")

	later := func(p map[string]any) { p["validityDate"] = at.Now().Add(time.Hour).UTC().Format(time.RFC3339) }
	want("POST", "?toPublish=true", position("later", later), 201, "PUBLISHED")
	want("POST", "?toPublish=true", position("expires", nil), 201, "VALID")
	want("POST", "?toPublish=true", position("stays", func(p map[string]any) { p["switchToExpired"] = false }), 201, "VALID")
	want("POST", "?toPublish=true", position("paid", nil), 201, "VALID")
	w.e.mu.Lock()
	now, p := at.Now(), *w.e.mem.positions["00339370272/paid"]
	p.Status, p.Paid = "PAID", &now
	err := w.e.keep(emLine{Position: &p})
	w.e.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	at.Advance(at.Now().Add(2 * time.Hour))
	want("GET", "/later", "", 200, "VALID")
	at.Advance(at.Now().Add(72 * time.Hour))
	want("GET", "/later", "", 200, "EXPIRED")
	want("GET", "/expires", "", 200, "EXPIRED")
	want("POST", "/expires/invalidate", "", 409, "")
	want("GET", "/stays", "", 200, "VALID")
	want("GET", "/paid", "", 200, "PAID")
	for _, x := range [][2]string{{"POST", "/paid/invalidate"}, {"POST", "/paid/publish"}, {"DELETE", "/paid"}} {
		want(x[0], x[1], "", 409, "")
	}
	want("PUT", "/paid", position("paid", func(p map[string]any) { option(p)["dueDate"] = at.Now().Add(time.Hour).UTC().Format(time.RFC3339) }), 409, "")
}

// TestCartOfMany: a cart of several notices is one page; each is paid for itself,
// once, and one that can't be paid does not undo the others.
func TestCartOfMany(t *testing.T) {
	w := newTown(t, "")
	var cart []any
	var ps []map[string]any
	for i, amount := range []int{100, 250, 1234567} {
		p := w.open(fmt.Sprint("k-", i), map[string]any{"amount": amount})
		ps = append(ps, p)
		cart = append(cart, map[string]any{"noticeNumber": p["notice_number"], "fiscalCode": "00339370272", "amount": amount, "companyName": "x", "description": "x"})
	}
	b, err := json.Marshal(map[string]any{"paymentNotices": cart,
		"returnUrls": map[string]any{"returnOkUrl": "https://a.example/ok", "returnCancelUrl": "https://a.example/no", "returnErrorUrl": "https://a.example/error"}})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := w.browser().Post(w.far.URL+"/pagopa"+cartPath, "application/json", strings.NewReader(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	page := resp.Header.Get("Location")
	if _, body, _ := browse(t, "GET", page); !strings.Contains(body, "12.349,17 €") || strings.Count(body, "Numero avviso") != 3 {
		t.Fatal(body)
	}
	if _, _, h := browse(t, "POST", page+"/annulla"); h.Get("Location") != "https://a.example/no" {
		t.Errorf("given up: %v", h)
	}
	if _, err := w.do("close_position", "c-1", map[string]any{"iuv": ps[1]["iuv"]}); err != nil {
		t.Fatal(err)
	}
	if status, body, _ := browse(t, "POST", page+"/paga"); status != http.StatusOK || !strings.Contains(body, "PAA_PAGAMENTO_ANNULLATO") || !strings.Contains(body, fmt.Sprint(ps[1]["notice_number"])) {
		t.Errorf("%d %s", status, body)
	}
	if e := w.event(); e["data"].(map[string]any)["iuv"] != ps[0]["iuv"] {
		t.Errorf("%v", e)
	}
	browse(t, "POST", page+"/paga") // the first is not paid again
	browse(t, "POST", w.far.URL+"/pagopa/paga/"+fmt.Sprint(ps[2]["notice_number"]))
	if e := w.event(); e["data"].(map[string]any)["iuv"] != ps[2]["iuv"] {
		t.Errorf("%v", e)
	}
	w.silence()
}

// TestMemoryIsTornWhole: a kill in the middle of a line leaves the payment with all
// that belongs to it, or nothing of it.
func TestMemoryIsTornWhole(t *testing.T) {
	dir := t.TempDir()
	w := newTown(t, dir)
	w.e.cfg.Clock = clock.NewVirtual(time.Now())
	w.faults.Store("node.receipt-late", true)
	p := w.open("k-1", map[string]any{"amount": 100})
	browse(t, "POST", fmt.Sprint(p["checkout_url"])+"/paga")
	if err := w.e.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "pagopa.jsonl")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	begin := strings.LastIndexByte(strings.TrimSuffix(string(whole), "\n"), '\n') + 1
	for _, cut := range []int{begin, begin + 1, (begin + len(whole)) / 2, len(whole) - 1, len(whole)} {
		if err := os.WriteFile(file, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		w.restart(t)
		es, err := w.e.Effects()
		if err != nil {
			t.Fatal(err)
		}
		paid, state := w.e.payment(fmt.Sprint(p["notice_number"])).Notice != "", w.e.mem.notices["00339370272/"+fmt.Sprint(p["notice_number"])].Status
		if want := cut == len(whole); paid != want || (state == "PAID") != want || (len(es) == 2) != want {
			t.Errorf("cut at %d of %d: paid %v, %s, %d effects", cut, len(whole), paid, state, len(es))
		}
	}
}
