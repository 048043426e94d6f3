package pagopa_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/connectors/city"
	"github.com/dime-bus/dime/connectors/connectortest"
	"github.com/dime-bus/dime/connectors/pagopa"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/httpclient"
	"github.com/dime-bus/dime/internal/yamldoc"
)

const file = `
pagopa:
  creditor: "00339370272"
  company: Comune di Venezia
  station: 00339370272_01
  segregation: "01"
  iban: IT60X0542811101000000123456
  category: 9/0301109AP/
`

// table is a connector's memory that two connectors share.
type table struct {
	mu   sync.Mutex
	rows map[string][]byte
}

func (m *table) Get(_ context.Context, key string) ([]byte, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.rows[key]
	return b, ok, nil
}

func (m *table) Update(_ context.Context, key string, f func([]byte) ([]byte, error)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, err := f(m.rows[key])
	if err == nil {
		m.rows[key] = b
	}
	if b == nil {
		delete(m.rows, key)
	}
	return err
}

func (m *table) List(_ context.Context, prefix string, each func(string, []byte) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, v := range m.rows {
		if strings.HasPrefix(k, prefix) {
			if err := each(k, v); err != nil {
				return err
			}
		}
	}
	return nil
}

// town is the connector, the city that plays its platform, and the face on which
// the platform calls it back, all over true HTTP.
type town struct {
	connectortest.Setup
	mu     sync.Mutex
	events map[string]map[string]any
	came   chan struct{} // an event, each time one is published
	number atomic.Int64  // tells positions apart
}

func connector(t *testing.T, url string, host connectors.Host, client *httpclient.Client) *pagopa.Connector {
	t.Helper()
	n, ps := yamldoc.Parse("pagopa.yaml", []byte(file))
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	c, ps := pagopa.New(connectors.Spec{Name: "pagopa", File: "pagopa.yaml", Node: n, Client: client, Host: host, City: url})
	if c == nil {
		t.Fatal(ps)
	}
	return c
}

func newTown(t *testing.T) *town {
	t.Helper()
	tn := &town{events: map[string]map[string]any{}, came: make(chan struct{}, 64)}
	client := httpclient.New(httpclient.Config{})
	var soap atomic.Value // the handler, once the connector is there
	face := httptest.NewServer(http.StripPrefix("/pagopa", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		soap.Load().(http.Handler).ServeHTTP(w, r)
	})))
	shared := &table{rows: map[string][]byte{}}
	host := connectors.Host{
		Clock: clock.Real{}, Table: func(string) connectors.Table { return shared },
		URL: func(name string) string {
			return map[string]string{"soap": face.URL, "public": "http://city.example"}[name]
		},
	}
	var at atomic.Value
	c, ps := city.New(city.Config{
		Connectors: map[string]connectors.Connector{"pagopa": connector(t, "", connectors.Host{}, nil)}, Data: t.TempDir(),
		URL: func() string { return at.Load().(string) },
	})
	if c == nil {
		t.Fatal(ps)
	}
	srv := httptest.NewServer(c.Handler())
	at.Store(srv.URL)
	x := connector(t, srv.URL, host, client)
	mux := http.NewServeMux()
	for _, e := range x.Receive(tn.publish) {
		mux.Handle(e.Pattern, e.Handler)
	}
	soap.Store(http.Handler(mux))
	t.Cleanup(func() {
		client.Close()
		srv.CloseClientConnections()
		srv.Close()
		face.Close()
		_ = c.Close()
	})
	tn.Setup = connectortest.Setup{Connector: x, City: c, Nowhere: connector(t, connectortest.NobodysURL, host, client), Args: tn.args}
	return tn
}

func (tn *town) publish(_ context.Context, _, id string, data any) error {
	tn.mu.Lock()
	defer tn.mu.Unlock()
	if tn.events[id] == nil {
		tn.events[id] = data.(map[string]any)
	}
	tn.came <- struct{}{}
	return nil
}

func (tn *town) call(t *testing.T, op, key string, args map[string]any) map[string]any {
	t.Helper()
	for _, o := range tn.Connector.Describe().Operations {
		if o.Name == op {
			v, err := o.Do(t.Context(), connectors.Call{Key: key, Args: args, Attempt: 1, GiveUp: time.Now().Add(time.Minute)})
			if err != nil {
				t.Fatalf("%s: %v", op, err)
			}
			return v.(map[string]any)
		}
	}
	t.Fatalf("no operation %s", op)
	return nil
}

func (tn *town) open(t *testing.T, further map[string]any) map[string]any {
	t.Helper()
	args := tn.args(t, "open_position")
	for k, v := range further {
		args[k] = v
	}
	return tn.call(t, "open_position", fmt.Sprint("arg-", args["description"]), args)
}

func (tn *town) args(t *testing.T, op string) map[string]any {
	t.Helper()
	n := tn.number.Add(1)
	switch op {
	case "open_position":
		return map[string]any{"payer": "RSSMRA77L18H501W", "amount": 520, "description": fmt.Sprint("Diritti ", n)}
	case "receipt":
		v := tn.open(t, nil)
		pay(t, v["checkout_url"].(string))
		return map[string]any{"iuv": v["iuv"]}
	}
	return map[string]any{"iuv": tn.open(t, nil)["iuv"]}
}

var (
	form  = regexp.MustCompile(`(?s)<form[^>]*method="post"[^>]*>.*?</form>`)
	acts  = regexp.MustCompile(`action="([^"]*)"`)
	input = regexp.MustCompile(`<(?:input|button)[^>]*>`)
	named = regexp.MustCompile(`name="([^"]*)"`)
	value = regexp.MustCompile(`value="([^"]*)"`)
)

// pay does what a person does on the page: presses "Paga".
func pay(t *testing.T, page string) {
	t.Helper()
	browser := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := browser.Get(page)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	for _, f := range form.FindAllString(string(b), -1) {
		if !strings.Contains(f, "Paga") {
			continue
		}
		fields := url.Values{}
		for _, in := range input.FindAllString(f, -1) {
			if n := named.FindStringSubmatch(in); n != nil && !strings.Contains(in, "annulla") {
				v := ""
				if m := value.FindStringSubmatch(in); m != nil {
					v = m[1]
				}
				fields.Set(n[1], v)
			}
		}
		to, err := url.Parse(page)
		if err != nil {
			t.Fatal(err)
		}
		if m := acts.FindStringSubmatch(f); m != nil && m[1] != "" {
			if to, err = to.Parse(strings.ReplaceAll(m[1], "&amp;", "&")); err != nil {
				t.Fatal(err)
			}
		}
		done, err := browser.PostForm(to.String(), fields)
		if err != nil {
			t.Fatal(err)
		}
		_ = done.Body.Close()
		if done.StatusCode >= 400 {
			t.Fatalf("pressing Paga answered %d", done.StatusCode)
		}
		return
	}
	t.Fatalf("the page has no form with a button Paga: %d %s", resp.StatusCode, b)
}

func TestConnector(t *testing.T) {
	connectortest.Run(t, func(t *testing.T) connectortest.Setup { return newTown(t).Setup })
}

// TestPaidInTheCity: a person buys a stamp on the page of Checkout; the node calls
// our station, the event comes once and holds a stamp on the document.
func TestPaidInTheCity(t *testing.T) {
	tn := newTown(t)
	v := tn.open(t, map[string]any{"stamp": map[string]any{"document_hash": strings.Repeat("5a", 32), "province": "VE"}})
	pay(t, v["checkout_url"].(string))
	select {
	case <-tn.came:
	case <-time.After(20 * time.Second):
		t.Fatal("no receipt came")
	}
	tn.mu.Lock()
	defer tn.mu.Unlock()
	if len(tn.events) != 1 {
		t.Fatalf("%d events", len(tn.events))
	}
	for _, e := range tn.events {
		if e["iuv"] != v["iuv"] || e["amount"] != v["amount"] || e["stamp"] == nil {
			t.Errorf("%v", e)
		}
	}
}
