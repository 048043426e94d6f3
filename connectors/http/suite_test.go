package http_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/connectors/city"
	"github.com/dime-bus/dime/connectors/connectortest"
	plain "github.com/dime-bus/dime/connectors/http"
	"github.com/dime-bus/dime/internal/httpclient"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/yamldoc"
)

const waterworks = `
about: The water utility.
http:
  reading:
    about: Reads a meter.
    method: GET
    path: /meters/{meter}
    query: [day]
    out: water/reading
    faults: {meter_unknown: 404}
  order:
    about: Orders a reading.
    method: POST
    path: /meters/{meter}/orders
    headers: {X-Office: office}
    in: water/order-request
    out: water/order
    effect: writes
    keyed: "contract with the utility, section 7"
    found_by: order_of_key
    faults: {meter_closed: 409}
  replace:
    about: Orders another meter.
    method: PUT
    path: /meters/{meter}
    in: water/order-request
    out: water/order
    effect: writes
    found_by: order_of_key
    basis: "contract with the utility, section 9"
  order_of_key:
    about: The order that a key brought about.
    method: GET
    path: /orders
    query: [key]
    out: water/order
`

func content() fstest.MapFS {
	return fstest.MapFS{
		"schemas/water/reading.json": {Data: []byte(`{"type":"object","required":["litres"],"properties":{"litres":{"type":"integer"}}}`)},
		"schemas/water/order.json":   {Data: []byte(`{"type":"object","required":["order"],"properties":{"order":{"type":"string"}}}`)},
		"schemas/water/order-request.json": {Data: []byte(
			`{"type":"object","required":["meter"],"properties":{"meter":{"type":"string"},"office":{"type":"string"},"day":{"type":"string"}}}`)},
	}
}

// utility is the connector with a far side that the virtual city can mount.
type utility struct{ *plain.Connector }

func connector(t *testing.T, base string, client *httpclient.Client) *utility {
	t.Helper()
	n, ps := yamldoc.Parse("config/connectors/water.yaml", []byte("base_url: "+base+waterworks))
	set, more := schema.Load(content(), "schemas")
	if ps = append(ps, more...); len(ps) > 0 {
		t.Fatal(ps)
	}
	c, ps := plain.New(connectors.Spec{Name: "water", File: "config/connectors/water.yaml", Node: n, Schemas: set, Client: client})
	if c == nil {
		t.Fatal(ps)
	}
	return &utility{c}
}

func (u *utility) Emulator(cfg connectors.EmulatorConfig) (connectors.Emulator, error) {
	return &farSide{cfg: cfg, desc: u.Describe(), orders: map[string]string{}}, nil
}

// farSide is the utility: it takes orders, and the same order once where it keeps
// its word.
type farSide struct {
	cfg  connectors.EmulatorConfig
	desc connectors.Description

	mu     sync.Mutex
	orders map[string]string // by key
	ledger []connectors.LedgerRow
}

func (f *farSide) Faults() []string {
	names := []string{"no-dedupe"}
	for _, op := range f.desc.Operations {
		for _, x := range []string{"unavailable", "throttled", "server-error", "reset", "late-answer", "contract", "denied", "invalid", "timeout", "hang"} {
			names = append(names, op.Name+"."+x)
		}
		for _, x := range op.Faults {
			names = append(names, op.Name+"."+x.Name)
		}
	}
	return names
}

func (f *farSide) Effects() ([]connectors.LedgerRow, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]connectors.LedgerRow{}, f.ledger...), nil
}

func (*farSide) Close() error               { return nil }
func (*farSide) Resume(connectors.Emulator) {}

func (f *farSide) operation(r *http.Request) string {
	switch {
	case r.URL.Path == "/orders":
		return "order_of_key"
	case r.Method == http.MethodGet:
		return "reading"
	case r.Method == http.MethodPut:
		return "replace"
	}
	return "order"
}

func (f *farSide) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	op := f.operation(r)
	key := r.Header.Get("Idempotency-Key")
	err := f.cfg.Record(connectors.Arrival{Connector: f.desc.Name, Operation: op, Method: r.Method, Path: r.URL.Path, Key: key, Body: string(body), At: time.Now()})
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	on := func(name string) bool { return f.cfg.On(op + "." + name) }
	switch {
	case on("unavailable"), on("throttled"):
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(map[bool]int{true: http.StatusServiceUnavailable, false: http.StatusTooManyRequests}[on("unavailable")])
		return
	case on("server-error"):
		w.WriteHeader(http.StatusInternalServerError)
		return
	case on("denied"):
		w.WriteHeader(http.StatusForbidden)
		return
	case on("invalid"), op == "order" && (r.Header.Get("X-Office") == "" || strings.Contains(string(body), "office")):
		w.WriteHeader(http.StatusBadRequest)
		return
	case on("meter_unknown"):
		w.WriteHeader(http.StatusNotFound)
		return
	case on("meter_closed"):
		w.WriteHeader(http.StatusConflict)
		return
	case on("reset"):
		reset(w)
		return
	case on("timeout"):
		<-r.Context().Done()
		return
	}
	answer, status := f.carryOut(op, key, r)
	switch {
	case on("late-answer"):
		reset(w)
	case on("contract"):
		_, _ = io.WriteString(w, `{"order":7,"litres":"many"}`)
	case on("hang"):
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, `{"litres":`)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	default:
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(answer)
	}
}

func (f *farSide) carryOut(op, key string, r *http.Request) (answer any, status int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch op {
	case "reading":
		return map[string]any{"litres": 1000 + len(r.URL.Query().Get("day"))}, http.StatusOK
	case "order_of_key":
		if o, ok := f.orders[r.URL.Query().Get("key")]; ok {
			return map[string]any{"order": o}, http.StatusOK
		}
		return map[string]any{}, http.StatusNotFound
	}
	if o, ok := f.orders[key]; ok && op == "order" && !f.cfg.On("no-dedupe") {
		return map[string]any{"order": o}, http.StatusOK
	}
	o := fmt.Sprintf("O-%d", len(f.ledger)+1)
	f.orders[key] = o
	f.ledger = append(f.ledger, connectors.LedgerRow{Connector: f.desc.Name, Operation: op, Subject: r.URL.Path, Key: key, At: time.Now()})
	return map[string]any{"order": o}, http.StatusOK
}

// reset cuts the connection hard, so that the caller can't tell how far it came.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// A backend that is declared by hand passes the suite that every connector passes.
func TestSuite(t *testing.T) {
	connectortest.Run(t, func(t *testing.T) connectortest.Setup {
		far, ps := city.New(city.Config{Connectors: map[string]connectors.Connector{"water": connector(t, "http://far.example", nil)}, Data: t.TempDir()})
		if far == nil {
			t.Fatal(ps)
		}
		srv := httptest.NewServer(far.Handler())
		client := httpclient.New(httpclient.Config{})
		t.Cleanup(func() {
			client.Close()
			srv.CloseClientConnections()
			srv.Close()
			_ = far.Close()
		})
		s := connectortest.Setup{City: far, Connector: connector(t, srv.URL+"/water", client), Nowhere: connector(t, connectortest.NobodysURL, client)}
		n := 0
		s.Args = func(t *testing.T, op string) map[string]any {
			n++
			args := map[string]any{"meter": fmt.Sprintf("M/%d è", n), "day": "2026-12-01"}
			switch op {
			case "order":
				args["office"] = "Mestre"
			case "order_of_key":
				key := fmt.Sprintf("prepare-%s-%d", t.Name(), n)
				for _, o := range s.Connector.Describe().Operations {
					if o.Name == "replace" {
						if _, err := o.Do(t.Context(), connectors.Call{Key: key, Args: args, Attempt: 1}); err != nil {
							t.Fatal(err)
						}
					}
				}
				return map[string]any{"key": key}
			}
			return args
		}
		return s
	})
}
