package pagopa

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/schema"
)

// gpd is the least of a platform that answers as a test says. The city's emulator
// is the platform that judges us; this one only misbehaves.
type gpd struct {
	t    testing.TB
	url  string
	mu   sync.Mutex
	has  map[string]map[string]any // by IUPD
	says map[string]func(w http.ResponseWriter) bool
	seen []string
	keys []string
}

// newGPD starts it. says answers instead of it, by "METHOD last-word"; false lets
// it answer itself.
func newGPD(t testing.TB) *gpd {
	g := &gpd{t: t, has: map[string]map[string]any{}, says: map[string]func(http.ResponseWriter) bool{}}
	srv := httptest.NewServer(g)
	t.Cleanup(srv.Close)
	g.url = srv.URL
	return g
}

func (g *gpd) answer(on string, status int, body string) {
	g.say(on, func(w http.ResponseWriter) bool {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
		return true
	})
}

func (g *gpd) say(on string, f func(http.ResponseWriter) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.says[on] = f
}

func (g *gpd) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/pagopa")
	words := strings.Split(path, "/")
	on := r.Method + " " + words[len(words)-1]
	if strings.HasPrefix(words[len(words)-1], "DIME-") {
		on = r.Method + " position"
	}
	if strings.HasPrefix(path, receiptsPath) {
		on = r.Method + " receipt"
	}
	g.seen = append(g.seen, on)
	if k := r.Header.Get("X-Request-Id"); k != "" {
		g.keys = append(g.keys, k)
	}
	body, _ := io.ReadAll(r.Body)
	if r.Header.Get("Idempotency-Key") != "" {
		g.t.Error("GPD knows no Idempotency-Key")
	}
	if on != "POST stations" && r.Header.Get(keyHeader) != "s3cret" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	switch on {
	case "POST debtpositions":
		official(g.t, "gpd.json", "PaymentPositionModel", body)
	case "POST carts":
		official(g.t, "checkout_v1.json", "CartRequest", body)
	}
	if f := g.says[on]; f != nil && f(w) {
		return
	}
	reply := func(status int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}
	problem := func(status int) {
		reply(status, map[string]any{"title": http.StatusText(status), "status": status})
	}
	iupd := ""
	for _, x := range words {
		if strings.HasPrefix(x, "DIME-") {
			iupd = x
		}
	}
	p := g.has[iupd]
	switch {
	case on == "POST stations":
		reply(200, map[string]any{"subscription_key": "s3cret"})
	case on == "POST debtpositions":
		var sent map[string]any
		_ = json.Unmarshal(body, &sent)
		id, _ := sent["iupd"].(string)
		if g.has[id] != nil {
			problem(409)
			return
		}
		sent["status"] = "VALID"
		g.has[id] = sent
		reply(201, sent)
	case on == "POST carts":
		w.Header().Set("Location", fmt.Sprintf("%s/checkout/%d", g.url, len(g.seen)))
		w.WriteHeader(http.StatusFound)
	case p == nil:
		problem(404)
	case on == "POST invalidate" && p["status"] != "VALID":
		problem(409)
	case on == "POST invalidate":
		p["status"] = "INVALID"
		reply(200, p)
	default:
		reply(200, p)
	}
}

// official holds JSON against a schema of an official OpenAPI document.
func official(t testing.TB, file, name string, b []byte) {
	t.Helper()
	if specs() == "" {
		t.Logf("not checked: the official files are absent, so nothing is validated against %s", file)
		return
	}
	raw, err := os.ReadFile(filepath.Join(specs(), "pagopa-openapi", file))
	if err != nil {
		t.Error(err)
		return
	}
	doc, err := schema.DecodeJSON(raw)
	if err != nil {
		t.Error(err)
		return
	}
	s, err := schema.Compile(name, map[string]any{"$ref": "#/components/schemas/" + name, "components": doc.(map[string]any)["components"]})
	if err != nil {
		t.Error(err)
		return
	}
	if _, wrong := s.Decode(b); len(wrong) > 0 {
		t.Errorf("%s of %s: %v\n%s", name, file, wrong, b)
	}
}

type bench struct {
	*Connector
	*gpd
	table *memory
	at    *still
}

func newBench(t testing.TB) *bench {
	b := &bench{gpd: newGPD(t), table: rows(), at: noon()}
	b.Connector = build(t, b.url, b.table, b.at, "")
	return b
}

func (b *bench) do(op, key string, args map[string]any) (map[string]any, *fault.Error) {
	for _, o := range b.desc.Operations {
		if o.Name != op {
			continue
		}
		if wrong := o.In.Validate(args); len(wrong) > 0 && key == "" {
			b.t.Errorf("%s: the arguments do not fit: %v", op, wrong)
		}
		v, err := o.Do(b.t.Context(), connectors.Call{Key: key, Args: args, Attempt: 1})
		if err != nil {
			var f *fault.Error
			if !errors.As(err, &f) {
				b.t.Fatalf("%v is no fault", err)
			}
			return nil, f
		}
		if wrong := o.Out.Validate(v); len(wrong) > 0 {
			b.t.Errorf("%s: the answer does not fit: %v", op, wrong)
		}
		return v.(map[string]any), nil
	}
	b.t.Fatalf("no operation %s", op)
	return nil, nil
}

func (b *bench) open(key string, args map[string]any) map[string]any {
	b.t.Helper()
	args["payer"] = "RSSMRA77L18H501W"
	v, f := b.do("open_position", key, args)
	if f != nil {
		b.t.Fatal(f)
	}
	return v
}

// want checks a fault.
func want(t *testing.T, f *fault.Error, kind fault.Kind, name string, sent bool) {
	t.Helper()
	if f == nil || f.Kind != kind || f.Name != name || f.Sent != sent {
		t.Errorf("got %v, want %s %q, sent %v", f, kind, name, sent)
	}
}

func iuv(v map[string]any) map[string]any { return map[string]any{"iuv": v["iuv"]} }

func TestPositionsLife(t *testing.T) {
	b := newBench(t)
	v := b.open("k-1", map[string]any{
		"stamp": stamped()["stamp"], "description": "Certificato", "payer_name": "Mario Rossi",
		"transfers": []any{
			map[string]any{"amount": 100},
			map[string]any{"amount": 50, "organisation": "77777777777", "company": "Città Metropolitana", "iban": "IT12A0000000000000000000001", "category": "9/0101101IM/", "description": "TEFA"},
		},
	})
	if v["amount"] != 1750 || v["state"] != "VALID" || v["notice_number"] != "3"+v["iuv"].(string) || !strings.HasPrefix(v["checkout_url"].(string), b.url+"/checkout/") || !schema.IUVValid(v["iuv"].(string)) {
		t.Errorf("%v", v)
	}
	again := b.open("k-1", map[string]any{"stamp": stamped()["stamp"], "description": "Certificato"})
	if d := cmp.Diff(v, again); d != "" {
		t.Errorf("the same key gave another position: %s", d)
	}
	if len(b.has) != 1 {
		t.Errorf("%d positions", len(b.has))
	}
	if got, f := b.do("position", "", iuv(v)); f != nil || cmp.Diff(v, got) != "" {
		t.Errorf("%v, %v", got, f)
	}
	if got, f := b.do("position", "k-1", map[string]any{"payer": "x"}); f != nil || cmp.Diff(v, got) != "" {
		t.Errorf("found_by: %v, %v", got, f)
	}
	if _, f := b.do("position", "k-2", map[string]any{}); f == nil || f.Kind != fault.NotFound {
		t.Errorf("found_by of what did not happen: %v", f)
	}
	if got, f := b.do("checkout", "", iuv(v)); f != nil || got["checkout_url"] == v["checkout_url"] {
		t.Errorf("%v, %v: a new page", got, f)
	}
	if _, f := b.do("notice_pdf", "", iuv(v)); f == nil || f.Kind != fault.Rejected {
		t.Errorf("a stamp by a printed notice: %v", f)
	}
	plain := b.open("k-3", of(520))
	got, f := b.do("notice_pdf", "", iuv(plain))
	if pdf, err := base64.StdEncoding.DecodeString(fmt.Sprint(got["pdf"])); f != nil || err != nil || !bytes.HasPrefix(pdf, []byte("%PDF")) {
		t.Errorf("%v, %v, %v", got["file_name"], f, err)
	}
	closedOne, f := b.do("close_position", "c-1", iuv(v))
	if f != nil || closedOne["state"] != "INVALID" {
		t.Fatal(closedOne, f)
	}
	if again, f := b.do("close_position", "c-1", iuv(v)); f != nil || cmp.Diff(closedOne, again) != "" {
		t.Errorf("closing again: %v, %v", again, f)
	}
	if _, f := b.do("checkout", "", iuv(v)); f == nil || f.Kind != fault.Conflict {
		t.Errorf("a page for a closed position: %v", f)
	}
	if row, err := b.load(t.Context(), v["iuv"].(string)); err != nil || row.Debtor != nil {
		t.Errorf("%v: who owed is not forgotten", err)
	}
	_, f = b.do("close_position", "c-2", map[string]any{"iuv": "01011100007347557"})
	want(t, f, fault.NotFound, "no_position", false)
	if b.gpd.keys[0] != "k-1" {
		t.Errorf("X-Request-Id carries %v, not the effect's key", b.gpd.keys)
	}
}

func TestPaidPositionsAreNotClosed(t *testing.T) {
	b := newBench(t)
	face := b.Receive(func(context.Context, string, string, any) error { return nil })[0].Handler
	send := func(request string) string {
		r := httptest.NewRequest(http.MethodPost, stationPath, strings.NewReader(request))
		r.Header.Set("Content-Type", "text/xml")
		w := httptest.NewRecorder()
		face.ServeHTTP(w, r)
		_, after, _ := strings.Cut(w.Body.String(), "<faultCode>")
		got, _, _ := strings.Cut(after, "<")
		return got
	}
	v := b.open("k-1", of(520))
	row, err := b.load(t.Context(), v["iuv"].(string))
	if err != nil {
		t.Fatal(err)
	}
	if got := send(getReq(row.notice(), "")); got != "" {
		t.Fatal(got)
	}
	_, f := b.do("close_position", "c-1", iuv(v))
	want(t, f, fault.Unavailable, "", false)
	if f != nil && f.RetryAfter != busy {
		t.Errorf("while somebody pays, again in %v", f.RetryAfter)
	}
	b.at.pass(busy)
	// The PSP has the money, GPD knows it, the receipt is on its way.
	b.has[row.IUPD]["status"] = "PAID"
	_, f = b.do("close_position", "c-1", iuv(v))
	want(t, f, fault.Conflict, "already_paid", true)
	if got := send(sendRT(receiptOf(row, "rt-1", nil))); got != "" {
		t.Errorf("the receipt of a position that was not closed: %s", got)
	}
	_, f = b.do("close_position", "c-1", iuv(v))
	want(t, f, fault.Conflict, "already_paid", false)

	// The answer to an invalidation is lost: until it is known, nobody can pay, and
	// a receipt is left with the node.
	v = b.open("k-2", of(520))
	row, err = b.load(t.Context(), v["iuv"].(string))
	if err != nil {
		t.Fatal(err)
	}
	b.say("POST invalidate", func(http.ResponseWriter) bool { panic(http.ErrAbortHandler) })
	_, f = b.do("close_position", "c-2", iuv(v))
	want(t, f, fault.Unknown, "", true)
	if got := send(verifyReq(row.notice())); got != "PAA_PAGAMENTO_ANNULLATO" {
		t.Error(got)
	}
	if got := send(sendRT(receiptOf(row, "rt-2", nil))); got != "PAA_SYSTEM_ERROR" {
		t.Error(got)
	}
	b.say("POST invalidate", nil)
	if got, f := b.do("close_position", "c-2", iuv(v)); f != nil || got["state"] != "INVALID" {
		t.Errorf("%v, %v", got, f)
	}
	// Surely not carried out: it is payable as before.
	v = b.open("k-3", of(520))
	b.answer("POST invalidate", 429, "")
	_, f = b.do("close_position", "c-3", iuv(v))
	want(t, f, fault.Throttled, "", false)
	if got := send(verifyReq(v["notice_number"].(string))); got != "" {
		t.Error(got)
	}
}

func TestOpeningInTrouble(t *testing.T) {
	b := newBench(t)
	args := map[string]any{"payer": "RSSMRA77L18H501W", "amount": 520}
	// Checkout is down: the position is open, so the outcome is in doubt, not failed.
	b.answer("POST carts", 503, "")
	_, f := b.do("open_position", "k-1", args)
	want(t, f, fault.Unknown, "", true)
	if _, f = b.do("position", "k-1", args); f == nil || f.Kind != fault.Unknown {
		t.Errorf("asked while Checkout is down: %v", f)
	}
	b.say("POST carts", nil)
	if v, f := b.do("position", "k-1", args); f != nil || !strings.Contains(v["checkout_url"].(string), "/checkout/") {
		t.Errorf("%v, %v", v, f)
	}
	// Checkout refuses for good: no debt may stay that nobody knows of.
	b.answer("POST carts", 400, "{}")
	_, f = b.do("open_position", "k-2", args)
	want(t, f, fault.Invalid, "", true)
	if got := b.has[iupdOf("k-2")]["status"]; got != "INVALID" {
		t.Errorf("the position stays %v", got)
	}
	b.say("POST carts", nil)
	// GPD knows the number from before this store was lost: another one is taken.
	first := true
	b.say("POST debtpositions", func(w http.ResponseWriter) bool {
		was := first
		if first = false; was {
			w.WriteHeader(http.StatusConflict)
		}
		return was
	})
	if v, f := b.do("open_position", "k-3", args); f != nil || v["state"] != "VALID" {
		t.Errorf("%v, %v", v, f)
	}
	b.answer("POST debtpositions", 409, "")
	_, f = b.do("open_position", "k-4", args)
	want(t, f, fault.Conflict, "", true)
	b.answer("POST debtpositions", 500, "")
	_, f = b.do("open_position", "k-5", args)
	want(t, f, fault.Unknown, "", true)
	b.answer("POST debtpositions", 201, `{"iupd":"x","status":"VALID","paymentOption":[{"iuv":"1","amount":520}]}`)
	_, f = b.do("open_position", "k-6", args)
	want(t, f, fault.Contract, "", true)
}

// One effect that is sent twice at once is one position: a sender that was frozen
// and the one that took over.
func TestSameKeyAtOnce(t *testing.T) {
	b := newBench(t)
	got := make([]map[string]any, 16)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			got[i], _ = b.do("open_position", "k", map[string]any{"payer": "RSSMRA77L18H501W", "amount": 520})
		})
	}
	wg.Wait()
	for i := range got {
		if got[i] == nil || got[i]["iuv"] != got[0]["iuv"] {
			t.Errorf("%d: %v, the first %v", i, got[i], got[0])
		}
	}
	if len(b.has) != 1 {
		t.Errorf("%d positions", len(b.has))
	}
}

func TestArguments(t *testing.T) {
	b := newBench(t)
	parts := func(n int) []any {
		var l []any
		for range n {
			l = append(l, map[string]any{"amount": 100})
		}
		return l
	}
	for name, c := range map[string]struct {
		args map[string]any
		at   string
	}{
		"nothing to pay":   {map[string]any{}, "/amount"},
		"wrong code":       {map[string]any{"payer": "RSSMRA77L18H501X", "amount": 1}, "/payer"},
		"sum":              {map[string]any{"amount": 301, "transfers": parts(3)}, "/amount"},
		"six with a stamp": {map[string]any{"transfers": parts(5), "stamp": stamped()["stamp"]}, "/transfers"},
		"no account":       {map[string]any{"transfers": []any{map[string]any{"amount": 1, "organisation": "77777777777"}}}, "/transfers"},
		"past":             {map[string]any{"amount": 1, "due": "2026-11-23"}, "/due"},
		"short digest":     {map[string]any{"stamp": map[string]any{"document_hash": "9f86d081", "province": "VE"}}, "/stamp/document_hash"},
		"beyond":           {map[string]any{"transfers": []any{map[string]any{"amount": maxCents}, map[string]any{"amount": 1}}}, "/amount"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.args["payer"] == nil {
				c.args["payer"] = "RSSMRA77L18H501W"
			}
			_, f := b.do("open_position", "k", c.args)
			want(t, f, fault.Invalid, "", false)
			if f != nil && f.Pointer != c.at {
				t.Errorf("at %q, want %q", f.Pointer, c.at)
			}
			if len(b.has) != 0 {
				t.Error("something was sent")
			}
		})
	}
	if v := b.open("k", map[string]any{"amount": 1, "due": "2026-11-24"}); v["amount"] != 1 {
		t.Errorf("%v: the last day counts", v)
	}
}

func FuzzAnswers(f *testing.F) {
	f.Add(201, `{"iupd":"x","status":"VALID","paymentOption":[{"iuv":"1","amount":520}]}`)
	f.Add(200, `{"iupd":"x","status":"PAID","paymentOption":[]}`)
	f.Add(302, `<html>`)
	f.Add(409, `{"title":"Conflict","status":409}`)
	f.Add(200, `<paSendRTV2Request xmlns="`+nodeSpace+`"/>`)
	b := newBench(f)
	v := b.open("k", of(520))
	f.Fuzz(func(t *testing.T, status int, body string) {
		if status < 200 || status > 599 || status == 204 || status == 304 {
			return
		}
		b.gpd.mu.Lock()
		b.gpd.t = t
		b.gpd.mu.Unlock()
		for _, on := range []string{"POST debtpositions", "GET position", "POST carts", "POST invalidate", "GET receipt"} {
			b.answer(on, status, body)
		}
		for _, o := range b.desc.Operations {
			args := iuv(v)
			if o.Name == "open_position" {
				args = map[string]any{"payer": "RSSMRA77L18H501W", "amount": 520}
			}
			got, err := o.Do(t.Context(), connectors.Call{Key: map[bool]string{true: "k"}[o.Effect != connectors.Safe], Args: args, Attempt: 1})
			var flt *fault.Error
			switch {
			case err == nil && len(o.Out.Validate(got)) > 0:
				t.Fatalf("%s took %d %q for %v", o.Name, status, body, got)
			case err != nil && (!errors.As(err, &flt) || flt.Kind == fault.Internal):
				t.Fatalf("%s: %v", o.Name, err)
			}
		}
	})
}
