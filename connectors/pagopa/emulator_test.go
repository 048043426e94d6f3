package pagopa

import (
	"bytes"
	"context"
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
	lint(t, string(b), "pagopa-soap/xsd-common/MarcaDaBollo.xsd")
}
