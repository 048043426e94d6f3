package pagopa

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/httpclient"
	"github.com/dime-bus/dime/internal/yamldoc"
)

// town is a connector, its far side and the soap face between them, over HTTP.
type town struct {
	t      *testing.T
	c      *Connector
	e      *Emulator
	far    *httptest.Server
	soap   *httptest.Server
	faults sync.Map
	events chan map[string]any
	mu     sync.Mutex
	deaf   atomic.Bool  // the station answers the node with 503
	side   atomic.Value // the far side's handler
	wire   []exchange   // all that went over the wire, in both directions
}

// exchange is a request and its answer.
type exchange struct {
	path, action string
	request      string
	status       int
	kind, answer string
}

// hear lets h answer and writes down what was said.
func (w *town) hear(rw http.ResponseWriter, r *http.Request, h http.Handler) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		w.t.Error(err)
	}
	r.Body = io.NopCloser(bytes.NewReader(b))
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	w.mu.Lock()
	w.wire = append(w.wire, exchange{r.Method + " " + r.URL.RequestURI(), strings.Trim(r.Header.Get("SOAPAction"), `"`), string(b), rec.Code, rec.Header().Get("Content-Type"), rec.Body.String()})
	w.mu.Unlock()
	for k, v := range rec.Header() {
		rw.Header()[k] = v
	}
	rw.WriteHeader(rec.Code)
	_, _ = rw.Write(rec.Body.Bytes())
}

func (w *town) browser() *http.Client {
	return &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func newTown(t *testing.T, data string) *town {
	t.Helper()
	w := &town{t: t, events: make(chan map[string]any, 64)}
	w.soap = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w.deaf.Load() {
			rw.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.hear(rw, r, http.StripPrefix("/pagopa", w.c.Receive(w.publish)[0].Handler))
	}))
	w.far = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.hear(rw, r, http.StripPrefix("/pagopa", w.side.Load().(http.Handler)))
	}))
	n, ps := yamldoc.Parse("pagopa.yaml", []byte(settings))
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	client := httpclient.New(httpclient.Config{})
	c, ps := New(connectors.Spec{Name: "pagopa", File: "pagopa.yaml", Node: n, Client: client, City: w.far.URL,
		Host: connectors.Host{Clock: clock.Real{}, Table: func(string) connectors.Table { return rows() }, URL: func(string) string { return w.soap.URL }}})
	if c == nil {
		t.Fatal(ps)
	}
	w.c = c
	// The connector puts its name behind the city's address; here the far side is alone.
	far, err := c.Emulator(connectors.EmulatorConfig{Data: data, URL: func() string { return w.far.URL },
		On: func(f string) bool { _, on := w.faults.Load(f); return on }})
	if err != nil {
		t.Fatal(err)
	}
	w.e = far.(*Emulator)
	w.side.Store(http.Handler(w.e))
	w.e.cfg.URL = func() string { return w.far.URL + "/pagopa" }
	t.Cleanup(func() { _ = w.e.Close(); client.Close(); w.far.Close(); w.soap.Close() })
	return w
}

func (w *town) publish(_ context.Context, eventType, id string, data any) error {
	m, _ := data.(map[string]any)
	w.events <- map[string]any{"type": eventType, "id": id, "data": m}
	return nil
}

// do calls an operation.
func (w *town) do(op, key string, args map[string]any) (map[string]any, error) {
	for _, o := range w.c.desc.Operations {
		if o.Name == op {
			v, err := o.Do(w.t.Context(), connectors.Call{Key: key, Args: args, Attempt: 1, GiveUp: time.Now().Add(10 * time.Second)})
			m, _ := v.(map[string]any)
			return m, err
		}
	}
	w.t.Fatalf("no operation %s", op)
	return nil, nil
}

func (w *town) open(key string, args map[string]any) map[string]any {
	w.t.Helper()
	args["payer"] = "RSSMRA80A01L736U"
	p, err := w.do("open_position", key, args)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// browse is a person's browser that follows nothing.
func browse(t *testing.T, method, address string) (int, string, http.Header) {
	t.Helper()
	r, err := http.NewRequest(method, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

func (w *town) event() map[string]any {
	w.t.Helper()
	select {
	case e := <-w.events:
		return e
	case <-time.After(20 * time.Second):
		w.t.Fatal("no receipt came")
		return nil
	}
}

func (w *town) silence() {
	w.t.Helper()
	select {
	case e := <-w.events:
		w.t.Fatalf("another event: %v", e)
	default:
	}
}

// TestPayment: a position with a stamp is opened, shown, paid, and its receipt
// taken: over true envelopes, with nothing pretended between the two.
func TestPayment(t *testing.T) {
	w := newTown(t, t.TempDir())
	hash := strings.Repeat("ab", 32)
	p := w.open("k-1", map[string]any{"stamp": map[string]any{"document_hash": hash, "province": "VE"}, "description": "Bollo <virtuale> & diritti"})
	page := fmt.Sprint(p["checkout_url"])
	status, body, header := browse(t, "GET", page)
	if status != 200 || !strings.Contains(body, "16,00 €") || !strings.Contains(body, "Bollo &lt;virtuale&gt; &amp; diritti") || !strings.Contains(body, "Comune di Venezia") {
		t.Fatalf("%d %s", status, body)
	}
	if csp := header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") {
		t.Errorf("policy %q", csp)
	}
	for range 3 { // pressed again, and again
		if status, _, h := browse(t, "POST", page+"/paga"); status != http.StatusSeeOther || !strings.Contains(h.Get("Location"), "esito=ok") {
			t.Fatalf("%d %v", status, h)
		}
	}
	e := w.event()
	data := e["data"].(map[string]any)
	if data["iuv"] != p["iuv"] || data["amount"] != 1600 || data["stamp"] == nil {
		t.Errorf("%v", data)
	}
	if _, body, _ := browse(t, "GET", page); !strings.Contains(body, "Pagamento eseguito") {
		t.Error(body)
	}
	if s, err := w.do("position", "", map[string]any{"iuv": p["iuv"]}); err != nil || s["state"] != "PAID" {
		t.Errorf("%v, %v", s, err)
	}
	if r, err := w.do("receipt", "", map[string]any{"iuv": p["iuv"]}); err != nil || r["amount"] != 1600 {
		t.Errorf("%v, %v", r, err)
	}
	if _, err := w.do("close_position", "c-1", map[string]any{"iuv": p["iuv"]}); err == nil {
		t.Error("a paid position was closed")
	}
	w.silence()
	es, err := w.e.Effects()
	if err != nil || len(es) != 2 || es[0].Operation != "open_position" || es[0].Key != "k-1" || es[1].Operation != "payment" {
		t.Errorf("%v, %v", es, err)
	}
}

// TestCounter: a notice without a page of Checkout is paid at a counter.
func TestCounter(t *testing.T) {
	w := newTown(t, "")
	p := w.open("k-1", map[string]any{"amount": 2550, "description": "Diritti"})
	counter := w.far.URL + "/pagopa/paga/" + fmt.Sprint(p["notice_number"])
	if status, body, _ := browse(t, "GET", counter); status != 200 || !strings.Contains(body, "25,50 €") {
		t.Fatalf("%d %s", status, body)
	}
	if status, body, _ := browse(t, "POST", counter); status != 200 || !strings.Contains(body, "Pagamento eseguito") {
		t.Fatalf("%d %s", status, body)
	}
	w.event()
	if status, _, _ := browse(t, "GET", w.far.URL+"/pagopa/paga/301011100007347558"); status != http.StatusNotFound {
		t.Errorf("wrong check digits: %d", status)
	}
}

// TestClosedPosition: who comes too late sees why, and pays nothing.
func TestClosedPosition(t *testing.T) {
	w := newTown(t, "")
	p := w.open("k-1", map[string]any{"amount": 100})
	if _, err := w.do("close_position", "c-1", map[string]any{"iuv": p["iuv"]}); err != nil {
		t.Fatal(err)
	}
	page := fmt.Sprint(p["checkout_url"])
	if _, body, _ := browse(t, "GET", page); !strings.Contains(body, "PAA_PAGAMENTO_ANNULLATO") || strings.Contains(body, "Paga</button>") {
		t.Error(body)
	}
	if status, body, _ := browse(t, "POST", page+"/paga"); status != 200 || !strings.Contains(body, "PAA_PAGAMENTO_ANNULLATO") {
		t.Errorf("%d %s", status, body)
	}
	w.silence()
}

// TestNodeFaults: each fault by its name, and the ways of a receipt.
func TestNodeFaults(t *testing.T) {
	w := newTown(t, "")
	p := w.open("k-1", map[string]any{"amount": 100})
	page := fmt.Sprint(p["checkout_url"])
	for _, f := range emNodeFaults() {
		if !strings.HasPrefix(f, "P") {
			continue
		}
		w.faults.Store("node."+f, true)
		if _, body, _ := browse(t, "GET", page); !strings.Contains(body, f) {
			t.Errorf("%s is not shown: %s", f, body)
		}
		if status, body, _ := browse(t, "POST", page+"/paga"); status != 200 || !strings.Contains(body, f) {
			t.Errorf("%s: %d", f, status)
		}
		w.faults.Delete("node." + f)
	}
	w.silence()
	w.faults.Store("node.receipt-twice", true)
	browse(t, "POST", page+"/paga")
	first := w.event()
	if w.e.payment(fmt.Sprint(p["notice_number"])); first == nil {
		t.Error("no receipt")
	}
	w.faults.Delete("node.receipt-twice")

	w.faults.Store("node.forged-receipt", true)
	q := w.open("k-2", map[string]any{"stamp": map[string]any{"document_hash": strings.Repeat("ab", 32), "province": "VE"}})
	browse(t, "POST", fmt.Sprint(q["checkout_url"])+"/paga")
	w.until("the true receipt to be taken", func() bool { return w.e.payment(fmt.Sprint(q["notice_number"])).Delivered })
	ids := map[any]bool{}
	for len(w.events) > 0 {
		e := <-w.events
		if d := e["data"].(map[string]any); d["iuv"] == q["iuv"] {
			ids[e["id"]] = true
			if d["amount"] != 1600 {
				t.Errorf("a forged receipt was believed: %v", e)
			}
		} else if e["id"] != first["id"] {
			t.Errorf("an event of nothing: %v", e)
		}
	}
	if len(ids) != 1 {
		t.Errorf("the true receipt among forged ones made %d events", len(ids))
	}
}

func (e *Emulator) payment(notice string) emPayment {
	org := e.orgOf(notice)
	e.mu.Lock()
	defer e.mu.Unlock()
	if p := e.mem.payments[org+"/"+notice]; p != nil {
		return *p
	}
	return emPayment{}
}

func (w *town) until(what string, ok func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			w.t.Fatalf("waited for %s", what)
		}
		<-tick.C
	}
}

// TestReceiptComesAgain: what is not answered comes again after slot * (2^k - 1),
// also from the node's next life, until it is answered.
func TestReceiptComesAgain(t *testing.T) {
	w := newTown(t, t.TempDir())
	begin := time.Now()
	at := clock.NewVirtual(begin)
	w.e.cfg.Clock = at
	p := w.open("k-1", map[string]any{"amount": 100})
	notice := fmt.Sprint(p["notice_number"])
	w.faults.Store("node.receipt-late", true)
	if status, _, _ := browse(t, "POST", fmt.Sprint(p["checkout_url"])+"/paga"); status != http.StatusSeeOther {
		t.Fatal(status)
	}
	w.deaf.Store(true)
	now := begin.Add(10 * emSlot)
	for k, pause := range []time.Duration{emSlot, 3 * emSlot, 7 * emSlot, 15 * emSlot} {
		if next, ok := at.Next(); !ok || !next.Equal(now) {
			t.Fatalf("try %d is due %v after the payment, want %v", k+1, next.Sub(begin), now.Sub(begin))
		}
		at.Advance(now)
		w.until("the receipt to be sent", func() bool { return w.e.payment(notice).Tries == k+1 })
		now = now.Add(pause)
	}
	w.silence()
	w.deaf.Store(false)
	w.restart(t)
	if next, ok := at.Next(); !ok || !next.Equal(now) {
		t.Errorf("after a restart the receipt is due %v after the payment, want %v", next.Sub(begin), now.Sub(begin))
	}
	at.Advance(now)
	if e := w.event(); e["data"].(map[string]any)["iuv"] != p["iuv"] {
		t.Errorf("%v", e)
	}
	w.until("the answer to be noted", func() bool { return w.e.payment(notice).Delivered })
	if next, ok := at.Next(); ok {
		t.Errorf("an answered receipt is due again at %v", next)
	}
}

// TestReceiptOfALostAnswer: the creditor took it, the node did not hear so.
func TestReceiptOfALostAnswer(t *testing.T) {
	w := newTown(t, "")
	at := clock.NewVirtual(time.Now())
	w.e.cfg.Clock = at
	w.faults.Store("node.receipt-lost-answer", true)
	p := w.open("k-1", map[string]any{"amount": 100})
	browse(t, "POST", fmt.Sprint(p["checkout_url"])+"/paga")
	first := w.event()
	w.until("the first try to end", func() bool { return w.e.payment(fmt.Sprint(p["notice_number"])).Tries == 1 })
	next, ok := at.Next()
	if !ok {
		t.Fatal("the receipt is not sent again")
	}
	at.Advance(next)
	w.until("the answer to be noted", func() bool { return w.e.payment(fmt.Sprint(p["notice_number"])).Delivered })
	for len(w.events) > 0 {
		if e := <-w.events; e["id"] != first["id"] {
			t.Errorf("the repetition made another event: %v", e)
		}
	}
}

// restart ends the far side and lets its next life wake.
func (w *town) restart(t *testing.T) {
	t.Helper()
	if err := w.e.Close(); err != nil {
		t.Fatal(err)
	}
	next, err := w.c.Emulator(w.e.cfg)
	if err != nil {
		t.Fatal(err)
	}
	next.Resume(w.e)
	w.e = next.(*Emulator)
	w.side.Store(http.Handler(w.e))
	if _, err := w.e.Effects(); err != nil { // the first look wakes the memory
		t.Fatal(err)
	}
}

// TestPressedByMany: one notice, many who press at once, one payment.
func TestPressedByMany(t *testing.T) {
	w := newTown(t, "")
	p := w.open("k-1", map[string]any{"amount": 100})
	var all sync.WaitGroup
	for i := range 32 {
		all.Add(1)
		go func() {
			defer all.Done()
			address := fmt.Sprint(p["checkout_url"]) + "/paga"
			if i%2 == 0 {
				address = w.far.URL + "/pagopa/paga/" + fmt.Sprint(p["notice_number"])
			}
			resp, err := w.browser().Post(address, "application/x-www-form-urlencoded", nil)
			if err != nil {
				t.Error(err)
				return
			}
			_ = resp.Body.Close()
			if resp.StatusCode >= 400 {
				t.Errorf("pressing answered %d", resp.StatusCode)
			}
		}()
	}
	all.Wait()
	w.event()
	w.restart(t)
	es, err := w.e.Effects()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, x := range es {
		if x.Operation == "payment" {
			n++
		}
	}
	if n != 1 {
		t.Errorf("paid %d times", n)
	}
	w.silence()
}

// TestStampIsSigned: xmlsec1 holds a stamp to its signature, and refuses it with
// one byte changed.
func TestStampIsSigned(t *testing.T) {
	w := newTown(t, "")
	if err := w.e.ready(); err != nil {
		t.Fatal(err)
	}
	b, err := w.e.stampOf("q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=", 1600, &emPayment{ReceiptID: "r-1", At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	verify := func(b []byte) error {
		file := filepath.Join(t.TempDir(), "stamp.xml")
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("xmlsec1", "--verify", "--enabled-key-data", "x509,rsa", "--insecure", file).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	if err := verify(b); err != nil {
		t.Error(err)
	}
	if verify(bytes.Replace(b, []byte("16.00"), []byte("17.00"), 1)) == nil {
		t.Error("a stamp that was changed is accepted")
	}
	if m, err := w.c.readStamp(b); err != nil || m.amount != 1600 {
		t.Errorf("the connector reads %+v, %v", m, err)
	}
	schemaOf(t, b)
}

// schemaOf holds a stamp against MarcaDaBollo.xsd, where the specifications are at hand.
func schemaOf(t *testing.T, b []byte) {
	t.Helper()
	dir := os.Getenv("DIME_SPECS")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "specs")
	}
	xsd := filepath.Join(dir, "pagopa-soap", "xsd-common", "MarcaDaBollo.xsd")
	if _, err := os.Stat(xsd); err != nil {
		t.Log("not checked: the specifications are not here")
		return
	}
	cmd := exec.Command("xmllint", "--noout", "--nonet", "--schema", xsd, "-")
	cmd.Stdin = bytes.NewReader(b)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// body is a position that GPD takes.
func goodPosition() map[string]any {
	return map[string]any{
		"iupd": "U-1", "type": "F", "fiscalCode": "RSSMRA80A01L736U", "fullName": "Mario Rossi", "companyName": "Comune di Venezia", "switchToExpired": true,
		"paymentOption": []any{map[string]any{
			"nav": "301011100007347557", "iuv": "01011100007347557", "amount": 1700, "description": "Diritti", "isPartialPayment": false,
			"dueDate": time.Now().Add(48 * time.Hour).UTC().Format(time.RFC3339),
			"transfer": []any{
				map[string]any{"idTransfer": "1", "amount": 1600, "organizationFiscalCode": "00339370272", "remittanceInformation": "Bollo", "category": "9/x/",
					"stamp": map[string]any{"hashDocument": "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=", "stampType": "01", "provincialResidence": "VE"}},
				map[string]any{"idTransfer": "2", "amount": 100, "remittanceInformation": "Diritti", "category": "9/y/", "iban": "IT60X0542811101000000123456"},
			},
		}},
	}
}

// wrong is one request that the platform refuses, and why.
type wrong struct {
	name   string
	path   string // below the platform; "" posts a position
	method string
	key    string // "" is the right one, "-" none
	change func(position map[string]any)
	raw    string // instead of a position
	status int
	says   string
}

func option(p map[string]any) map[string]any { return p["paymentOption"].([]any)[0].(map[string]any) }
func transferOf(p map[string]any, i int) map[string]any {
	return option(p)["transfer"].([]any)[i].(map[string]any)
}
func stampIn(p map[string]any) map[string]any { return transferOf(p, 0)["stamp"].(map[string]any) }

const (
	orgPath  = "/gpd/debt-positions-service/v1/organizations/00339370272/debtpositions"
	cartPath = "/checkout/ec/v1/carts"
)

func wrongs() []wrong {
	set := func(name, field string, v any, says string) wrong {
		return wrong{name: name, change: func(p map[string]any) { p[field] = v }, status: 400, says: says}
	}
	opt := func(name, field string, v any, says string) wrong {
		return wrong{name: name, change: func(p map[string]any) { option(p)[field] = v }, status: 400, says: says}
	}
	tr := func(name, field string, v any, says string) wrong {
		return wrong{name: name, change: func(p map[string]any) { transferOf(p, 1)[field] = v }, status: 400, says: says}
	}
	st := func(name, field string, v any, says string) wrong {
		return wrong{name: name, change: func(p map[string]any) { stampIn(p)[field] = v }, status: 400, says: says}
	}
	cart := func(name, body, says string) wrong {
		return wrong{name: name, path: cartPath, raw: body, status: 400, says: says}
	}
	const urls = `,"returnUrls":{"returnOkUrl":"https://a.example/","returnCancelUrl":"https://a.example/","returnErrorUrl":"https://a.example/"}`
	notice := func(number, cf, amount, company string) string {
		return `{"paymentNotices":[{"noticeNumber":"` + number + `","fiscalCode":"` + cf + `","amount":` + amount + `,"companyName":"` + company + `","description":"x"}]` + urls + `}`
	}
	station := func(name, change, says string) wrong {
		fields := map[string]string{"idPA": "00339370272", "idBrokerPA": "00339370272", "idStation": "00339370272_01", "segregation": "01", "soap_url": "http://a.example/", "company": "x"}
		k, v, _ := strings.Cut(change, "=")
		fields[k] = v
		b, _ := json.Marshal(fields)
		return wrong{name: name, path: "/back-office/stations", raw: string(b), status: 400, says: says}
	}
	return []wrong{
		{name: "no key", key: "-", status: 401, says: "missing subscription key"},
		{name: "a wrong key", key: "nobody's", status: 401, says: "invalid subscription key"},
		{name: "another organization", path: strings.Replace(orgPath, "00339370272", "80015010723", 1), status: 403, says: "not this organization"},
		{name: "no JSON", raw: "{", status: 400, says: "contract"},
		{name: "two values", raw: "{} {}", status: 400, says: "more than one value"},
		{name: "a list", raw: "[]", status: 400, says: "contract"},
		{name: "an unknown field", change: func(p map[string]any) { p["colour"] = "red" }, status: 400, says: "unknown field"},
		{name: "a number where a text is due", change: func(p map[string]any) { p["fullName"] = 7 }, status: 400, says: "contract"},
		{name: "an amount with a fraction", change: func(p map[string]any) { option(p)["amount"] = 17.5 }, status: 400, says: "contract"},
		{name: "too long a body", raw: strings.Repeat(" ", 1<<20+1), status: 413, says: "1 MiB"},
		{name: "toPublish of another kind", path: orgPath + "?toPublish=perhaps", status: 400, says: "toPublish"},
		{name: "an unknown address", path: "/gpd/debt-positions-service/v2/x", status: 404, says: "no such address"},
		{name: "a position that is not there", path: orgPath + "/U-404", method: "GET", status: 404, says: "No debt position"},
		{name: "invalidating what is not there", path: orgPath + "/U-404/invalidate", status: 404, says: "No debt position"},
		{name: "a receipt that is not there", path: "/gpd/payments-receipts-service/v1/payments/00339370272/receipts/01011100007347557", method: "GET", status: 404, says: "no receipt"},
		{name: "a receipt without a key", path: "/gpd/payments-receipts-service/v1/payments/00339370272/receipts/01011100007347557", method: "GET", key: "-", status: 401, says: "missing"},
		{name: "a list without a page", path: orgPath, method: "GET", status: 400, says: "page"},
		{name: "too long a list", path: orgPath + "?page=0&limit=51", method: "GET", status: 400, says: "limit"},
		set("no iupd", "iupd", "", "iupd"), set("an iupd with a slash", "iupd", "a/b", "iupd"), set("too long an iupd", "iupd", strings.Repeat("x", 51), "iupd"),
		set("another type", "type", "X", "type"), set("a company that is a person", "type", "G", "fiscalCode"),
		set("a wrong fiscal code", "fiscalCode", "RSSMRA80A01L736X", "fiscalCode"), set("no name", "fullName", "", "fullName"), set("too long a name", "fullName", strings.Repeat("x", 71), "fullName"),
		set("no company", "companyName", "", "companyName"), set("too long an office", "officeName", strings.Repeat("x", 141), "officeName"),
		set("no switchToExpired", "switchToExpired", nil, "switchToExpired"), set("a status", "status", "PAID", "read only"),
		set("a past validity", "validityDate", "2020-01-01T00:00:00Z", "validityDate"), set("an email without an at", "email", "x", "email"), set("no option", "paymentOption", []any{}, "paymentOption"),
		opt("too short an iuv", "iuv", "0101", "iuv"), opt("letters in the iuv", "iuv", "0101110000734755X", "iuv"), opt("another nav", "nav", "301011100007347558", "nav"),
		{name: "another segregation code", change: func(p map[string]any) { option(p)["iuv"], option(p)["nav"] = "02011100007347500", "302011100007347500" }, status: 400, says: "segregation"},
		{name: "wrong check digits", change: func(p map[string]any) { option(p)["iuv"], option(p)["nav"] = "01011100007347558", "301011100007347558" }, status: 400, says: "check digits"},
		opt("nothing to pay", "amount", 0, "amount"), opt("another sum", "amount", 1701, "sum"), opt("no description", "description", "", "description"),
		opt("too long a description", "description", strings.Repeat("x", 141), "description"), opt("no isPartialPayment", "isPartialPayment", nil, "isPartialPayment"),
		opt("partial", "isPartialPayment", true, "not partial"), opt("no due date", "dueDate", "soon", "dueDate"), opt("a past due date", "dueDate", "2020-01-01T00:00:00Z", "past"),
		opt("no transfer", "transfer", []any{}, "1 to 5"),
		{name: "a transfer twice", change: func(p map[string]any) { transferOf(p, 1)["idTransfer"] = "1" }, status: 400, says: "twice"},
		tr("a sixth transfer", "idTransfer", "6", "1 to 5"), tr("a transfer of nothing", "amount", 0, "amount"), tr("a wrong creditor", "organizationFiscalCode", "00339370273", "organizationFiscalCode"),
		tr("no remittance", "remittanceInformation", "", "remittanceInformation"), tr("no category", "category", "", "category"), tr("neither iban nor stamp", "iban", "", "either"),
		tr("a wrong iban", "iban", "IT61X0542811101000000123456", "iban"), tr("both", "stamp", map[string]any{"hashDocument": "x", "stampType": "01", "provincialResidence": "VE"}, "either"),
		st("a digest in hexadecimal", "hashDocument", strings.Repeat("ab", 32), "hashDocument"), st("a short digest", "hashDocument", "q6s=", "hashDocument"),
		st("another stamp", "stampType", "02", "stampType"), st("a small province", "provincialResidence", "ve", "provincialResidence"),
		{name: "another price", change: func(p map[string]any) { transferOf(p, 0)["amount"], option(p)["amount"] = 1500, 1600 }, status: 400, says: "16.00"},
		cart("an empty cart", `{"paymentNotices":[]`+urls+`}`, "1 to 5"), cart("no addresses", `{"paymentNotices":[{"noticeNumber":"301011100007347557","fiscalCode":"00339370272","amount":1,"companyName":"x","description":"x"}]}`, "returnUrls"),
		cart("wrong check digits in a cart", notice("301011100007347558", "00339370272", "1", "x"), "noticeNumber"), cart("a short creditor", notice("301011100007347557", "123", "1", "x"), "fiscalCode"),
		cart("a cart of nothing", notice("301011100007347557", "00339370272", "0", "x"), "amount"), cart("a cart without a company", notice("301011100007347557", "00339370272", "1", ""), "companyName"),
		cart("a stranger's cart", notice("301011100007347557", "80015010723", "1", "x"), "PPT_DOMINIO_SCONOSCIUTO"),
		cart("an address that is none", strings.Replace(notice("301011100007347557", "00339370272", "1", "x"), "https://a.example/", "javascript:alert(1)", 1), "returnUrls"),
		station("a creditor of ten digits", "idPA=0033937027", "idPA"), station("another broker's station", "idStation=80015010723_01", "idStation"), station("a segregation beyond 49", "segregation=50", "segregation"),
		station("no address", "soap_url=ftp://a.example/", "soap_url"), station("a station without a company", "company=", "company"), station("a short broker", "idBrokerPA=1", "idBrokerPA"),
	}
}

func TestPlatformRefuses(t *testing.T) {
	w := newTown(t, "")
	if _, err := w.c.register(t.Context()); err != nil {
		t.Fatal(err)
	}
	key := w.e.stationOf("00339370272").Key
	if n := len(wrongs()); n < 60 {
		t.Errorf("the table has %d rows", n)
	}
	send := func(x wrong) (int, string) {
		t.Helper()
		body := x.raw
		if body == "" && x.method != "GET" {
			p := goodPosition()
			if x.change != nil {
				x.change(p)
			}
			b, err := json.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			body = string(b)
		}
		method, path := x.method, x.path
		if method == "" {
			method = "POST"
		}
		if path == "" {
			path = orgPath
		}
		r, err := http.NewRequest(method, w.far.URL+"/pagopa"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		switch x.key {
		case "":
			r.Header.Set("Ocp-Apim-Subscription-Key", key)
		case "-":
		default:
			r.Header.Set("Ocp-Apim-Subscription-Key", x.key)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	seen := map[string]string{}
	for _, x := range wrongs() {
		status, body := send(x)
		if status != x.status || !strings.Contains(body, x.says) {
			t.Errorf("%s: %d %s; want %d and %q", x.name, status, body, x.status, x.says)
		}
		if seen[x.name] != "" {
			t.Errorf("%s is there twice", x.name)
		}
		seen[x.name] = body
	}
	// And the good one is taken, once, and closed, once.
	if status, body := send(wrong{path: orgPath + "?toPublish=true"}); status != 201 || !strings.Contains(body, `"VALID"`) {
		t.Fatalf("%d %s", status, body)
	}
	if status, _ := send(wrong{path: orgPath + "?toPublish=true"}); status != 409 {
		t.Errorf("the same IUPD again: %d", status)
	}
	if status, _ := send(wrong{change: func(p map[string]any) { p["iupd"] = "U-2" }}); status != 409 {
		t.Errorf("the same IUV again: %d", status)
	}
	for i, want := range []int{200, 409} {
		if status, body := send(wrong{path: orgPath + "/U-1/invalidate", raw: " "}); status != want {
			t.Errorf("closing, %d: %d %s", i, status, body)
		}
	}
	if status, _ := send(wrong{path: orgPath + "/U-1", method: "PUT"}); status != 409 {
		t.Errorf("changing what is no draft: %d", status)
	}
}
