package http

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/httpclient"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/yamldoc"
)

func load(t *testing.T, file string) (*Connector, []yamldoc.Problem) {
	t.Helper()
	set, ps := schema.Load(fstest.MapFS{
		"schemas/water/order-request.json": {Data: []byte(`{"type":"object","required":["meter","day"],"additionalProperties":false,"properties":{"meter":{"type":"string"},"day":{"type":"string"},"office":{"type":"string"}}}`)},
		"schemas/water/order.json":         {Data: []byte(`{"type":"object","required":["number"],"properties":{"number":{"type":"integer"}}}`)},
	}, "schemas")
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	n, ps := yamldoc.Parse("config/connectors/water.yaml", []byte(file))
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	return New(connectors.Spec{Name: "water", File: "config/connectors/water.yaml", Node: n, Schemas: set, Client: httpclient.New(httpclient.Config{})})
}

const water = `
timeout: 2s
http:
  readings: {about: Reads., method: GET, path: "/meters/{meter}/readings", query: [from]}
  order:
    about: Orders a reading.
    method: POST
    path: /meters/{meter}/orders
    headers: {X-Office: office}
    in: water/order-request
    out: water/order
    keyed: contract, 7
    found_by: order_by_key
    faults: {taken: {status: 409, code: taken}}
  order_by_key: {about: Finds an order., method: GET, path: "/orders/{key}", out: water/order}
`

func TestCalls(t *testing.T) {
	var seen, body string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		seen, body = r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get("X-Office")+" "+r.Header.Get("Idempotency-Key"), string(b)
		switch {
		case strings.Contains(r.URL.Path, "taken"):
			w.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(w, `{"code":"taken"}`)
		case strings.Contains(r.URL.Path, "broken"):
			_, _ = io.WriteString(w, `{"number":"x"}`)
		default:
			_, _ = io.WriteString(w, `{"number":7}`)
		}
	}))
	defer srv.Close()
	c, ps := load(t, "base_url: "+srv.URL+"/api"+water)
	if c == nil {
		t.Fatal(ps)
	}
	ops := map[string]*connectors.Operation{}
	for _, op := range c.Describe().Operations {
		ops[op.Name] = op
	}
	if op := ops["order"]; op.Effect != connectors.Writes || !op.Keyed || op.Basis != "contract, 7" || op.Policy.Timeout.Seconds() != 2 {
		t.Errorf("described as %+v", op)
	}
	for _, x := range []struct {
		op, key    string
		args       map[string]any
		seen, body string
		want       any
		kind       fault.Kind
		name       string
	}{
		{"readings", "", map[string]any{"meter": "a/b", "from": "x y"}, "GET /api/meters/a%2Fb/readings?from=x+y  ", "", nil, "", ""},
		{"order", "k", map[string]any{"meter": "m", "day": "d", "office": "o"}, "POST /api/meters/m/orders o k", `{"day":"d"}`, map[string]any{"number": 7}, "", ""},
		{"order_by_key", "k", map[string]any{"meter": "m"}, "GET /api/orders/k  ", "", map[string]any{"number": 7}, "", ""},
		{"order", "k", map[string]any{"meter": "taken", "day": "d"}, "POST /api/meters/taken/orders  k", `{"day":"d"}`, nil, fault.Conflict, "taken"},
		{"order", "k", map[string]any{"meter": "broken", "day": "d"}, "POST /api/meters/broken/orders  k", `{"day":"d"}`, nil, fault.Contract, ""},
	} {
		if !ops[x.op].Checked {
			t.Errorf("%s does not say that it validates its answers", x.op)
		}
		v, err := ops[x.op].Do(context.Background(), connectors.Call{Key: x.key, Args: x.args})
		if x.kind == "" && err != nil {
			t.Errorf("%s: %v", x.op, err)
			continue
		}
		var f *fault.Error
		if x.kind != "" && (!errors.As(err, &f) || f.Kind != x.kind || f.Name != x.name) {
			t.Errorf("%s: %v, want %s (%s)", x.op, err, x.name, x.kind)
		}
		if seen != x.seen || body != x.body {
			t.Errorf("%s sent %q %q, want %q %q", x.op, seen, body, x.seen, x.body)
		}
		if d := cmp.Diff(x.want, v); d != "" {
			t.Errorf("%s: %s", x.op, d)
		}
	}
	if _, err := ops["readings"].Do(context.Background(), connectors.Call{Args: map[string]any{"meter": ".."}}); fault.From(err).Kind != fault.Invalid {
		t.Errorf("got %v, want invalid", err)
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct{ file, want string }{
		{"http: {a: {method: GET, path: /a}}\n", "`base_url` must say"},
		{"base_url: https://x\nhttp: {}\n", "2:7: `http` is a map of operations"},
		{"base_url: https://x\nhttp: {a: {metod: GET, path: /a}}\n", `did you mean "method"?`},
		{"base_url: https://x\nhttp: {a: {method: FETCH, path: /a}}\n", "`method` is GET"},
		{"base_url: https://x\nhttp: {a: {method: GET, path: a}}\n", "`path` begins with /"},
		{"base_url: https://x\nhttp: {a: {method: GET, path: /a, out: water/ordr}}\n", `did you mean "water/order"?`},
		{"base_url: https://x\nhttp: {a: {method: GET, path: '/{metr}', in: water/order-request}}\n", `no property "metr"`},
		{"base_url: https://x\nhttp: {a: {method: GET, path: /a, keyed: true}}\n", "a is safe"},
		{"base_url: https://x\nhttp: {a: {method: POST, path: /a, found_by: b}, c: {method: GET, path: /c}}\n", `"b"`},
	} {
		got, ps := load(t, c.file)
		if got != nil {
			t.Errorf("%s was taken", c.file)
		}
		found := false
		for _, p := range ps {
			found = found || strings.Contains(p.String(), c.want)
		}
		if !found {
			t.Errorf("no problem says %q in %v", c.want, ps)
		}
	}
}
