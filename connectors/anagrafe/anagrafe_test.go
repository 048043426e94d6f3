package anagrafe

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/citizens"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/httpclient"
	"github.com/dime-bus/dime/internal/yamldoc"
)

const settings = `
anagrafe:
  client_id: 7d1f1b1e-6f0a-4a53-9c43-0e5d6a1f2b3c
  municipality: "027042"
  officer: {surname: Verdi, name: Giuseppe}
  purposes:
    C015: 11111111-1111-4111-8111-111111111111
    C020: 22222222-2222-4222-8222-222222222222
    C021: 33333333-3333-4333-8333-333333333333
    C030: 44444444-4444-4444-8444-444444444444
`

// town is a connector and its far side over HTTP.
type town struct {
	t      *testing.T
	c      *Connector
	e      *Emulator
	url    string
	docs   *Archive
	faults sync.Map
	mu     sync.Mutex
	seen   []string // status of each request but those of the back office
	deaf   bool     // ANPR's requests for data tell of no certificate
	watch  func(r *http.Request, body []byte)
}

// cityKeys are of the connector and of PDND in the virtual city, made once.
var cityKeys = sync.OnceValue(func() (ks [2]*rsa.PrivateKey) {
	for i := range ks {
		ks[i], _ = rsa.GenerateKey(rand.Reader, 2048)
	}
	return ks
})

// watching has every request shown to f before it is answered.
func (w *town) watching(f func(*http.Request, []byte)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watch = f
}

func newTown(t *testing.T) *town {
	t.Helper()
	w := &town{t: t, docs: NewArchive()}
	far := httptest.NewServer(http.HandlerFunc(w.answer))
	w.url = far.URL
	w.c = w.connector(&counter{last: map[string]int64{}, turn: map[string]*sync.Mutex{}}, &memory{rows: map[string][]byte{keyRow: x509.MarshalPKCS1PrivateKey(cityKeys()[0])}})
	e, err := w.c.Emulator(connectors.EmulatorConfig{On: func(f string) bool { _, on := w.faults.Load(f); return on }})
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(cityKeys()[1])
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.e = e.(*Emulator)
	w.e.past = []emLine{{Signer: der}}
	t.Cleanup(func() { far.Close(); _ = w.e.Close() })
	return w
}

func (w *town) answer(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	w.mu.Lock()
	watch, deaf, far := w.watch, w.deaf, w.e
	w.mu.Unlock()
	if watch != nil {
		watch(r, body)
	}
	path := r.URL.Path
	if deaf && emLookUp.Match(body) {
		rec := httptest.NewRecorder()
		http.StripPrefix("/anagrafe", far).ServeHTTP(rec, r)
		rw.Header().Set("Content-Type", "text/xml")
		_, _ = rw.Write(regexp.MustCompile("<protocolloANPR>.*</protocolloANPR>").ReplaceAll(rec.Body.Bytes(), nil))
		return
	}
	rec := &status{ResponseWriter: rw}
	http.StripPrefix("/anagrafe", far).ServeHTTP(rec, r)
	w.mu.Lock()
	w.seen = append(w.seen, fmt.Sprint(rec.code, " ", path))
	w.mu.Unlock()
}

type status struct {
	http.ResponseWriter
	code int
}

func (s *status) WriteHeader(code int) { s.code = code; s.ResponseWriter.WriteHeader(code) }

// Unwrap lets the faults cut the connection.
func (s *status) Unwrap() http.ResponseWriter { return s.ResponseWriter }

func (s *status) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(s.ResponseWriter).Hijack()
}

// connector is another process of the same municipality.
func (w *town) connector(numbers connectors.Numbers, table connectors.Table) *Connector {
	w.t.Helper()
	n, ps := yamldoc.Parse("anagrafe.yaml", []byte(settings))
	if len(ps) > 0 {
		w.t.Fatal(ps)
	}
	client := httpclient.New(httpclient.Config{})
	w.t.Cleanup(client.Close)
	c, ps := New(connectors.Spec{Name: "anagrafe", File: "anagrafe.yaml", Node: n, Client: client, City: w.url,
		Host: connectors.Host{Clock: clock.Real{}, Numbers: numbers, Documents: w.docs, Table: func(string) connectors.Table { return table }}})
	if c == nil {
		w.t.Fatal(ps)
	}
	return c
}

func do(t *testing.T, c *Connector, op, key string, args map[string]any) (map[string]any, error) {
	t.Helper()
	for _, o := range c.desc.Operations {
		if o.Name != op {
			continue
		}
		if o.In != nil && args != nil {
			if bad := o.In.Validate(args); len(bad) > 0 {
				t.Fatalf("%s takes no %v: %v", op, args, bad)
			}
		}
		v, err := o.Do(t.Context(), connectors.Call{Key: key, Args: args, Attempt: 1, Run: "run-1", GiveUp: time.Now().Add(10 * time.Second)})
		if err == nil {
			if bad := o.Out.Validate(v); len(bad) > 0 {
				t.Errorf("%s answers %v: %v", op, v, bad)
			}
		}
		m, _ := v.(map[string]any)
		return m, err
	}
	t.Fatalf("no operation %s", op)
	return nil, nil
}

func kind(err error) fault.Kind {
	var f *fault.Error
	if !errors.As(err, &f) {
		return ""
	}
	return f.Kind
}

const mario = "RSSMRA80A01L736U"

// TestConsultation: each e-service over PDND and ModI, refused by nobody.
func TestConsultation(t *testing.T) {
	w := newTown(t)
	r, err := do(t, w.c, "residence", "", map[string]any{"tax_code": mario})
	if err != nil || r["status"] != "active" || r["name"] != "MARIO ROSSI" || r["born"] != "1980-01-01" || r["address"] != "SAN MARCO 4136, Riva del Carbon, 30124 VENEZIA" {
		t.Fatalf("%v, %v", r, err)
	}
	p, err := do(t, w.c, "person", "", map[string]any{"tax_code": mario})
	if err != nil || p["civil_status"] != "coniugato" || p["birth_place"] != "VENEZIA (VE)" {
		t.Errorf("%v, %v", p, err)
	}
	f, err := do(t, w.c, "family", "", map[string]any{"tax_code": mario})
	members, _ := f["members"].([]any)
	if err != nil || len(members) != 4 {
		t.Errorf("%v, %v", f, err)
	}
	if _, err := do(t, w.c, "residence", "", map[string]any{"tax_code": "TSTCTD80A01L736B"}); kind(err) != fault.NotFound {
		t.Errorf("somebody whom nobody knows: %v", err)
	}
	for _, x := range citizens.New("").All() {
		if x.Status != citizens.Active {
			r, err := do(t, w.c, "residence", "", map[string]any{"tax_code": x.TaxCode})
			if err != nil || r["status"] != string(x.Status) {
				t.Errorf("%s: %v, %v", x.Status, r, err)
			}
			break
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.seen {
		if !strings.HasPrefix(s, "200") && !strings.HasPrefix(s, "201") && !strings.HasPrefix(s, "204") && !strings.HasPrefix(s, "404 /MinInternoPortaANPR-PDND/C030") && !strings.HasPrefix(s, "404 /anagrafe/MinInternoPortaANPR-PDND/C030") {
			t.Errorf("the far side refused what we sent: %s", s)
		}
	}
}

// TestNumbersLeaveInOrder: sixty-four callers in two processes, and none is
// refused for a number that comes behind a higher one.
func TestNumbersLeaveInOrder(t *testing.T) {
	w := newTown(t)
	numbers := &counter{last: map[string]int64{}, turn: map[string]*sync.Mutex{}} // what internal/store/serial is for processes
	table := &memory{rows: map[string][]byte{}}
	two := []*Connector{w.connector(numbers, table), w.connector(numbers, table)}
	people := citizens.New("").All()
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			if _, err := do(t, two[i%2], "residence", "", map[string]any{"tax_code": people[i].TaxCode}); err != nil {
				t.Errorf("caller %d: %v", i, err)
			}
		})
	}
	wg.Wait()
}

// TestCertificate: prepared, issued once however often it is asked for, found.
func TestCertificate(t *testing.T) {
	w := newTown(t)
	r, err := do(t, w.c, "residence", "", map[string]any{"tax_code": mario})
	if err != nil {
		t.Fatal(err)
	}
	prepare := map[string]any{"kind": "residence", "resident": any(r), "exemption": "art-16-tab-b"}
	if _, err := do(t, w.c, "draft", "k-1", prepare); kind(err) != fault.NotFound {
		t.Errorf("a draft before it was prepared: %v", err)
	}
	d, err := do(t, w.c, "prepare_certificate", "k-1", prepare)
	if err != nil || d["sha256"] != hex.EncodeToString([]byte{1, 2})+strings.Repeat("00", 30) {
		t.Fatalf("%v, %v", d, err)
	}
	if again, err := do(t, w.c, "draft", "k-1", prepare); err != nil || again["id"] != d["id"] {
		t.Errorf("%v, %v", again, err)
	}
	issue := map[string]any{"draft": d["id"]}
	for range 3 {
		c, err := do(t, w.c, "issue_certificate", "i-1", issue)
		if err != nil || c["protocol"] != "VE-2026-0000001" {
			t.Fatalf("%v, %v", c, err)
		}
	}
	if c, err := do(t, w.c, "certificate", "i-1", issue); err != nil || c["verify_url"] != "/verifica/C" {
		t.Errorf("%v, %v", c, err)
	}
	es, err := w.e.Effects()
	if err != nil || len(es) != 1 || es[0].Operation != "issue_certificate" || es[0].Key != "i-1" {
		t.Errorf("%v, %v", es, err)
	}
	if _, err := do(t, w.c, "issue_certificate", "i-2", map[string]any{"draft": "none"}); kind(err) != fault.NotFound {
		t.Errorf("no such draft: %v", err)
	}
}
