package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/identity"
	"github.com/dime-bus/dime/internal/schema"
)

// engine answers with what it was asked, or as `answer` says.
type engine struct {
	mu     sync.Mutex
	got    []Request
	answer func(Request) Answer
	blobs  [][]byte
}

func (e *engine) Request(_ context.Context, r Request) Answer {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.got = append(e.got, r)
	if e.answer != nil {
		return e.answer(r)
	}
	return Answer{Status: 200, Body: map[string]any{"route": r.Route, "req": r.Req}, Run: "r1"}
}

func (e *engine) View(_ context.Context, run string, c *identity.Caller) (View, error) {
	if run == "away" {
		return View{}, fault.New(fault.Unavailable, "the journal can't be read now")
	}
	if run != "r1" || c.Owner() != "citizen:s1" {
		return View{}, fault.New(fault.NotFound, "there is no run %q", run)
	}
	return View{"r1", "pets", "waiting", map[string]any{"n": 1}}, nil
}

func (e *engine) PutBlob(_ context.Context, b []byte) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.blobs = append(e.blobs, bytes.Clone(b))
	return fmt.Sprintf("digest%d", len(e.blobs)), nil
}

func compile(t testing.TB, name, text string) *schema.Schema {
	t.Helper()
	s, err := schema.CompileBytes(name, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func petsSchema(t testing.TB) *schema.Schema {
	return compile(t, "pets/request", `{"type":"object","additionalProperties":false,"properties":{
		"id":{"type":"integer"},"limit":{"type":"integer","maximum":100},"big":{"type":"boolean"},"weight":{"type":"number"},
		"name":{"type":"string","x-personal":true},"tags":{"type":"array","items":{"type":"string"}},"nums":{"type":"array","items":{"type":"integer"}},
		"if_match":{"type":"string"},"photo":{"$ref":"#/$defs/file"},"photos":{"type":"array","items":{"$ref":"#/$defs/file"}},"where":{"type":"object"}},
		"$defs":{"file":{"type":"object","required":["blob","size"],"properties":{"blob":{"type":"string"},"name":{"type":"string"},"type":{"type":"string"},"size":{"type":"integer"}}}}}`)
}

func http1(method, path string, headers ...string) []Trigger {
	return []Trigger{{Kind: "http", Method: method, Path: path, Headers: headers}}
}

func testCity(t testing.TB) City {
	req := petsSchema(t)
	return City{
		Routes: []Route{
			{Name: "pets", Label: 2, Digest: strings.Repeat("ab", 32), About: "Lists pets.", Owner: "o", Triggers: http1("GET", "/v1/pets"), Req: req, Safe: true},
			{Name: "pet", Triggers: append(http1("GET", "/v1/pets/{id}", "if_match"), Trigger{Kind: "event", About: "pet.born"}), Req: req, Resp: compile(t, "pets/answer", `{"type":"object"}`)},
			{Name: "newest", Triggers: http1("GET", "/v1/pets/newest"), Req: req},
			{Name: "add", Triggers: http1("POST", "/v1/pets"), Req: req, Allow: true, Replies: []int{202, 409}},
			{Name: "change", Triggers: http1("PUT", "/v1/pets/{id}"), Req: req},
			{Name: "any", Triggers: http1("POST", "/v1/any")},
			{Name: "nightly", Triggers: []Trigger{{Kind: "cron", About: "0 7 * * *"}}},
		},
		Messages:   map[string]map[string]string{"no-pet": {"it": "Nessun animale.", "en": "No such pet.", "de": "Kein Tier.", "fr": "Aucun animal."}},
		Connectors: []Connector{{Name: "zoo", Summary: "The zoo.", Operations: []Operation{{Name: "feed", Effect: "writes", Keyed: true}}}},
	}
}

type fixture struct {
	t       testing.TB
	engine  *engine
	gateway *Gateway
	signer  *identity.Signer
	clock   *clock.Virtual
	log     *bytes.Buffer
}

const crmSecret = "crm-secret-crm-secret-crm-secret"

func open(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{t: t, engine: &engine{}, clock: clock.NewVirtual(time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)), log: &bytes.Buffer{}}
	var err error
	if f.signer, err = identity.NewSigner(identity.EdDSA); err != nil {
		t.Fatal(err)
	}
	keys, err := identity.StaticKeys(f.signer.JWKS())
	if err != nil {
		t.Fatal(err)
	}
	clients, err := identity.NewClients([]identity.Credential{{Name: "crm", Secret: crmSecret, Rights: identity.Rights{Routes: []string{"pets"}}}})
	if err != nil {
		t.Fatal(err)
	}
	f.gateway, err = New(Config{Engine: f.engine, Blobs: f.engine, Tokens: identity.NewVerifier(keys, identity.CityIssuer, 0, f.clock), Clients: clients,
		Clock: f.clock, Log: slog.New(slog.NewTextHandler(f.log, nil)), Limits: Limits{Body: 4096, Upload: 64 << 10},
		About: About{Name: "Comune <di> Prova", Version: "1.2", City: "http://127.0.0.1:9", Started: f.clock.Now()}})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.gateway.Swap(testCity(t)); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) token(c identity.Caller) string {
	f.t.Helper()
	s, err := f.signer.Issue(c, identity.CityIssuer, f.clock.Now(), time.Minute)
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

// do sends a request; headers are "Name: value".
func (f *fixture) do(method, target, body string, headers ...string) *httptest.ResponseRecorder {
	var rd io.Reader
	if body != "" {
		rd = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, target, rd)
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ": ")
		r.Header.Add(k, v)
	}
	w := httptest.NewRecorder()
	f.gateway.ServeHTTP(w, r)
	return w
}

func decode(t testing.TB, w *httptest.ResponseRecorder) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil {
		t.Fatalf("%v: %q", err, w.Body)
	}
	return m
}

const asJSON = "Content-Type: application/json"

func TestRequestBuilding(t *testing.T) {
	tests := []struct {
		name, method, target, body string
		headers                    []string
		route                      string
		want                       any
	}{
		{"nothing", "GET", "/v1/pets", "", nil, "pets", map[string]any{}},
		{"query typed by the schema", "GET", "/v1/pets?limit=3&big=true&weight=2&name=3&tags=a&tags=b&nums=1", "", nil, "pets",
			map[string]any{"limit": 3, "big": true, "weight": 2.0, "name": "3", "tags": []any{"a", "b"}, "nums": []any{1}}},
		{"what does not fit stays text", "GET", "/v1/pets?limit=03&big=yes&weight=0x1p4&nums=x", "", nil, "pets",
			map[string]any{"limit": "03", "big": "yes", "weight": "0x1p4", "nums": []any{"x"}}},
		{"numbers as JSON writes them", "GET", "/v1/pets?limit=-0&weight=-1.5e2", "", nil, "pets", map[string]any{"limit": 0, "weight": -150.0}},
		{"an undeclared one is for the schema to refuse", "GET", "/v1/pets?x=1", "", nil, "pets", map[string]any{"x": "1"}},
		{"path", "GET", "/v1/pets/7", "", nil, "pet", map[string]any{"id": 7}},
		{"path escaped", "GET", "/v1/pets/a%2Fb%20c", "", nil, "pet", map[string]any{"id": "a/b c"}},
		{"text before parameter", "GET", "/v1/pets/newest", "", nil, "newest", map[string]any{}},
		{"parameter where the text has no such method", "PUT", "/v1/pets/newest", "{}", []string{asJSON}, "change", map[string]any{"id": "newest"}},
		{"listed header", "GET", "/v1/pets/7", "", []string{"If-Match: \"x\"", "If-None-Match: y"}, "pet", map[string]any{"id": 7, "if_match": `"x"`}},
		{"body", "POST", "/v1/pets", `{"id":1,"weight":3,"where":{"a":[1,1.5,null,"x"]}}`, []string{asJSON}, "add",
			map[string]any{"id": 1, "weight": 3.0, "where": map[string]any{"a": []any{1, 1.5, nil, "x"}}}},
		{"body of a subtype", "POST", "/v1/pets", `{}`, []string{"Content-Type: application/vnd.x+json; charset=UTF-8"}, "add", map[string]any{}},
		{"all together", "PUT", "/v1/pets/7?limit=1", `{"name":"x"}`, []string{asJSON}, "change", map[string]any{"id": 7, "limit": 1, "name": "x"}},
		{"no object, no schema", "POST", "/v1/any", `[1]`, []string{asJSON}, "any", []any{1}},
		{"blank body", "POST", "/v1/pets", "  \n", []string{asJSON}, "add", map[string]any{}},
		{"HEAD is GET", "HEAD", "/v1/pets", "", nil, "pets", map[string]any{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := open(t)
			w := f.do(tt.method, tt.target, tt.body, tt.headers...)
			if w.Code != 200 || len(f.engine.got) != 1 {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			if got := f.engine.got[0]; got.Route != tt.route {
				t.Errorf("route %q, want %q", got.Route, tt.route)
			}
			if d := cmp.Diff(tt.want, f.engine.got[0].Req); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestBadRequests(t *testing.T) {
	deep := strings.Repeat("[", 70) + strings.Repeat("]", 70)
	tests := []struct {
		name, method, target, body string
		headers                    []string
		status                     int
		kind, pointer              string
	}{
		{"no such path", "GET", "/v1/cats", "", nil, 404, "not-found", ""},
		{"below a route", "GET", "/v1/pets/7/x", "", nil, 404, "not-found", ""},
		{"trailing slash", "GET", "/v1/pets/", "", nil, 404, "not-found", ""},
		{"other page", "GET", "/nowhere", "", nil, 404, "not-found", ""},
		{"v1 itself", "GET", "/v1", "", nil, 404, "not-found", ""},
		{"method", "DELETE", "/v1/pets", "", nil, 405, "method", ""},
		{"method of the first page", "POST", "/", "", nil, 405, "method", ""},
		{"method of a run", "POST", "/v1/runs/r1", "", nil, 405, "method", ""},
		{"no JSON", "POST", "/v1/pets", `{"id":`, []string{asJSON}, 400, "json", ""},
		{"duplicate key", "POST", "/v1/pets", `{"where":{"a":1,"a":2}}`, []string{asJSON}, 400, "json", "/where/a"},
		{"two texts", "POST", "/v1/pets", `{} {}`, []string{asJSON}, 400, "json", ""},
		{"deep", "POST", "/v1/pets", deep, []string{asJSON}, 400, "json", ""},
		{"not UTF-8", "POST", "/v1/pets", "{\"name\":\"\xff\"}", []string{asJSON}, 400, "json", ""},
		{"no media type", "POST", "/v1/pets", `{}`, nil, 415, "media-type", ""},
		{"form", "POST", "/v1/pets", `a=b`, []string{"Content-Type: application/x-www-form-urlencoded"}, 415, "media-type", ""},
		{"charset", "POST", "/v1/pets", `{}`, []string{"Content-Type: application/json; charset=latin1"}, 415, "media-type", ""},
		{"media type twice", "POST", "/v1/pets", `{}`, []string{asJSON, "Content-Type: text/plain"}, 415, "media-type", ""},
		{"encoded", "POST", "/v1/pets", `{}`, []string{asJSON, "Content-Encoding: gzip"}, 415, "encoding", ""},
		{"too large", "POST", "/v1/pets", `"` + strings.Repeat("x", 5000) + `"`, []string{asJSON}, 413, "too-large", ""},
		{"list where parameters are added", "PUT", "/v1/pets/7", `[]`, []string{asJSON}, 400, "request", ""},
		{"in path and body", "PUT", "/v1/pets/7", `{"id":8}`, []string{asJSON}, 400, "request", "/id"},
		{"in query and body", "POST", "/v1/pets?tags=a", `{"tags":["b"]}`, []string{asJSON}, 400, "request", "/tags"},
		{"in the query twice", "GET", "/v1/pets?limit=1&limit=2", "", nil, 400, "request", "/limit"},
		{"query broken", "GET", "/v1/pets?limit=%zz", "", nil, 400, "request", ""},
		{"query with semicolon", "GET", "/v1/pets?a=1;b=2", "", nil, 400, "request", ""},
		{"query not UTF-8", "GET", "/v1/pets?name=%ff", "", nil, 400, "request", "/name"},
		{"path not UTF-8", "GET", "/v1/pets/%ff", "", nil, 400, "request", "/id"},
		{"pointer escaped", "GET", "/v1/pets?a%2fb~=1&a%2fb~=2", "", nil, 400, "request", "/a~1b~0"},
		{"bad token", "GET", "/v1/pets", "", []string{"Authorization: Bearer abc"}, 401, "credentials", ""},
		{"other scheme", "GET", "/v1/pets", "", []string{"Authorization: Basic abc"}, 401, "credentials", ""},
		{"two credentials", "GET", "/v1/pets", "", []string{"Authorization: Bearer a", "Authorization: Bearer b"}, 401, "credentials", ""},
		{"bad token at a run", "GET", "/v1/runs/r1", "", []string{"Authorization: Bearer abc"}, 401, "credentials", ""},
		{"client without the right", "POST", "/v1/any", "", []string{"Authorization: Bearer " + crmSecret}, 403, "client-rights", ""},
		{"client for a bad caller", "GET", "/v1/pets", "", []string{"Authorization: Bearer " + crmSecret, "Dime-Caller: x"}, 401, "credentials", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := open(t)
			w := f.do(tt.method, tt.target, tt.body, tt.headers...)
			if len(f.engine.got) > 0 {
				t.Fatalf("it reached the engine: %+v", f.engine.got)
			}
			p := decode(t, w)
			if w.Code != tt.status || p["status"] != float64(tt.status) || p["type"] != "urn:dime:problem:"+tt.kind || p["title"] == "" || p["detail"] == "" {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			if ct := w.Header().Get("Content-Type"); ct != "application/problem+json" {
				t.Errorf("content type %q", ct)
			}
			if tt.pointer != "" {
				errs, _ := p["errors"].([]any)
				if len(errs) != 1 || errs[0].(map[string]any)["pointer"] != tt.pointer {
					t.Errorf("errors %v, want the pointer %q", errs, tt.pointer)
				}
			}
			switch tt.status {
			case 405:
				if w.Header().Get("Allow") == "" {
					t.Error("no Allow")
				}
			case 401:
				if !strings.HasPrefix(w.Header().Get("Www-Authenticate"), "Bearer") {
					t.Error("no challenge")
				}
			}
		})
	}
}

func TestAllowIsRight(t *testing.T) {
	f := open(t)
	for target, want := range map[string]string{"/v1/pets": "GET, HEAD, POST", "/v1/pets/1": "GET, HEAD, PUT", "/v1/any": "POST"} {
		if got := f.do("PATCH", target, "").Header().Get("Allow"); got != want {
			t.Errorf("%s: %q, want %q", target, got, want)
		}
	}
}

func TestCallers(t *testing.T) {
	f := open(t)
	maria := identity.Caller{Kind: "citizen", Subject: "s1", TaxCode: "RSSMRA80A01L736U", Assurance: 2}
	german := maria
	german.Language = "de"
	tests := []struct {
		name    string
		headers []string
		want    identity.Caller
	}{
		{"nobody", nil, identity.Caller{Kind: "citizen", Channel: "web", Language: "it"}},
		{"nobody in French", []string{"Accept-Language: es, fr;q=0.8, en;q=0.5"}, identity.Caller{Kind: "citizen", Channel: "web", Language: "fr"}},
		{"citizen", []string{"Authorization: bearer " + f.token(maria), "Accept-Language: en-GB"}, identity.Caller{Kind: "citizen", Subject: "s1", TaxCode: "RSSMRA80A01L736U", Assurance: 2, Language: "en"}},
		{"the token's own language", []string{"Authorization: Bearer " + f.token(german), "Accept-Language: en"}, german},
		{"program", []string{"Authorization: Bearer " + crmSecret}, identity.Caller{Kind: "module", Subject: "crm", Organisation: "crm", Channel: "client", Language: "it"}},
		{"program for a citizen", []string{"Authorization: Bearer " + crmSecret, "Dime-Caller: " + f.token(german)}, german},
		{"only a program may pass a caller on", []string{"Dime-Caller: " + f.token(german)}, identity.Caller{Kind: "citizen", Channel: "web", Language: "it"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f.engine.got = nil
			if w := f.do("GET", "/v1/pets", "", tt.headers...); w.Code != 200 {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			if d := cmp.Diff(&tt.want, f.engine.got[0].Caller); d != "" {
				t.Error(d)
			}
		})
	}
	// A verified caller is shared between requests: nobody may change it.
	if w := f.do("GET", "/v1/pets", "", "Authorization: Bearer "+f.token(maria), "Accept-Language: fr"); w.Code != 200 {
		t.Fatal(w.Code)
	}
}

func TestRequestHeaders(t *testing.T) {
	f := open(t)
	trace := "4bf92f3577b34da6a3ce929d0e0e4736"
	who := "Authorization: Bearer " + f.token(identity.Caller{Kind: "citizen", Subject: "s1"})
	f.do("GET", "/v1/pets", "", who, "Idempotency-Key: k", "Prefer: respond-async, wait=5", "Traceparent: 00-"+trace+"-00f067aa0ba902b7-01")
	f.do("GET", "/v1/pets", "", "Idempotency-Key: k", "Prefer: wait=-1", "Traceparent: 00-00000000000000000000000000000000-00f067aa0ba902b7-01")
	a, b := f.engine.got[0], f.engine.got[1]
	if a.Key != "k" || a.Trace != trace || !a.Deadline.Equal(f.clock.Now().Add(5*time.Second)) {
		t.Errorf("%+v", a)
	}
	if b.Key != "" || b.Trace != "" || !b.Deadline.IsZero() {
		t.Errorf("a stranger's key, a zero trace or a negative wait count: %+v", b)
	}
}

func TestAnswers(t *testing.T) {
	tests := []struct {
		name   string
		answer Answer
		lang   string
		status int
		body   string
		header map[string]string
	}{
		{"body", Answer{Status: 202, Body: map[string]any{"b": 1.5, "a": "<é\"\n\x01"}, Run: "r9", Header: map[string]string{"Location": "/v1/runs/r9"}}, "", 202,
			`{"a":"<é\"\n\u0001","b":1.5}`, map[string]string{"Content-Type": "application/json", "Location": "/v1/runs/r9", "Dime-Run": "r9", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}},
		{"nothing", Answer{Status: 204}, "", 204, "", map[string]string{"Content-Type": ""}},
		{"redirect", Answer{Status: 303, Header: map[string]string{"Location": "/x"}}, "", 303, "", map[string]string{"Location": "/x"}},
		{"null", Answer{Status: 200}, "", 200, "null", nil},
		{"said", Answer{Status: 200, Say: "no-pet", Body: map[string]any{"n": 1}}, "de", 200, `{"message":"Kein Tier.","n":1}`, map[string]string{"Content-Language": "de"}},
		{"said alone", Answer{Status: 200, Say: "no-pet"}, "en", 200, `{"message":"No such pet.","say":"no-pet"}`, nil},
		{"refused with a sentence", Answer{Status: 404, Say: "no-pet", Run: "r9"}, "fr", 404,
			`{"detail":"Aucun animal.","run":"r9","say":"no-pet","status":404,"title":"Introuvable","type":"urn:dime:problem:not-found"}`, map[string]string{"Content-Type": "application/problem+json", "Content-Language": "fr"}},
		{"refused with more", Answer{Status: 422, Body: map[string]any{"limit": 3}}, "en", 422,
			`{"limit":3,"status":422,"title":"Request refused","type":"urn:dime:problem:rejected"}`, nil},
		{"a problem", Answer{Status: 503, Run: "r9", Problem: &Problem{Type: "urn:dime:problem:unavailable", Title: "x", Status: 503, Detail: "d", URL: "/v1/runs/r9",
			Errors: []FieldError{{"/a", "m"}}}}, "", 503,
			`{"detail":"Il servizio per ora non è disponibile. Riprova tra poco.","errors":[{"message":"m","pointer":"/a"}],"run":"r9","run_url":"/v1/runs/r9","status":503,"title":"Servizio non disponibile","type":"urn:dime:problem:unavailable"}`,
			map[string]string{"Retry-After": "5"}},
		{"a problem of its own type", Answer{Problem: &Problem{Type: "https://x.example/p", Title: "Mine", Status: 418}}, "", 418, `{"status":418,"title":"Mine","type":"https://x.example/p"}`, nil},
		{"words of the engine", Answer{Problem: &Problem{Type: "urn:dime:problem:denied", Title: "x", Status: 403}}, "en", 403, `{"detail":"You have no right to make this request.","status":403,"title":"Not allowed","type":"urn:dime:problem:denied"}`, nil},
		{"a far side that denied", Answer{Problem: &Problem{Type: "urn:dime:problem:denied", Title: "Denied behind", Status: 502}}, "en", 502, `{"detail":"A connected system gave no answer that can be used. The request was not completed.","status":502,"title":"No usable answer","type":"urn:dime:problem:denied"}`, nil},
		{"the engine's own Retry-After", Answer{Status: 429, Header: map[string]string{"Retry-After": "9"}}, "en", 429,
			`{"status":429,"title":"Too many requests","type":"urn:dime:problem:throttled"}`, map[string]string{"Retry-After": "9"}},
		{"what can't be encoded", Answer{Status: 200, Body: func() {}}, "", 500, `{"status":500,"title":"Internal error","type":"urn:dime:problem:internal"}`, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := open(t)
			f.engine.answer = func(Request) Answer { return tt.answer }
			w := f.do("GET", "/v1/pets", "", "Accept-Language: "+tt.lang)
			if w.Code != tt.status || w.Body.String() != tt.body {
				t.Errorf("%d %s\nwant %d %s", w.Code, w.Body, tt.status, tt.body)
			}
			for k, v := range tt.header {
				if got := w.Header().Get(k); got != v {
					t.Errorf("%s: %q, want %q", k, got, v)
				}
			}
		})
	}
}

func TestPanicIsAProblem(t *testing.T) {
	f := open(t)
	f.engine.answer = func(Request) Answer { panic(errors.New("boom")) }
	w := f.do("GET", "/v1/pets", "")
	if w.Code != 500 || decode(t, w)["type"] != "urn:dime:problem:internal" || strings.Contains(w.Body.String(), "boom") || strings.Contains(f.log.String(), "boom") ||
		!strings.Contains(f.log.String(), "*errors.errorString") || !strings.Contains(f.log.String(), "TestPanicIsAProblem") {
		t.Errorf("%d %s\n%s", w.Code, w.Body, f.log)
	}
}

func TestRunView(t *testing.T) {
	f := open(t)
	mine := "Authorization: Bearer " + f.token(identity.Caller{Kind: "citizen", Subject: "s1"})
	other := "Authorization: Bearer " + f.token(identity.Caller{Kind: "citizen", Subject: "s2"})
	if w := f.do("GET", "/v1/runs/r1", "", mine); w.Code != 200 || w.Body.String() != `{"result":{"n":1},"route":"pets","run":"r1","state":"waiting"}` {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	strip := func(w *httptest.ResponseRecorder) string { return fmt.Sprint(w.Code, w.Body.String(), w.Header()) }
	absent := strip(f.do("GET", "/v1/runs/r2", "", mine))
	if got := strip(f.do("GET", "/v1/runs/r1", "", other)); got != absent || !strings.HasPrefix(got, "404") {
		t.Errorf("another's run looks otherwise than none:\n%s\n%s", got, absent)
	}
	if w := f.do("GET", "/v1/runs/away", "", mine); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("of a journal that can't be read: %d %v", w.Code, w.Header())
	}
	if w := f.do("GET", "/v1/runs/r1", ""); w.Code != 404 {
		t.Errorf("a stranger gets %d", w.Code)
	}
}

func TestSwapRefuses(t *testing.T) {
	f := open(t)
	for name, c := range map[string]City{
		"twice":          {Routes: []Route{{Name: "a", Triggers: http1("GET", "/v1/a")}, {Name: "b", Triggers: http1("GET", "/v1/a")}}},
		"same shape":     {Routes: []Route{{Name: "a", Triggers: http1("GET", "/v1/{x}")}, {Name: "b", Triggers: http1("GET", "/v1/{y}")}}},
		"the bus's own":  {Routes: []Route{{Name: "a", Triggers: http1("GET", "/v1/runs/x")}}},
		"outside":        {Routes: []Route{{Name: "a", Triggers: http1("GET", "/x")}}},
		"parameter used": {Routes: []Route{{Name: "a", Triggers: http1("GET", "/v1/{x}/{x}")}}},
		"half a segment": {Routes: []Route{{Name: "a", Triggers: http1("GET", "/v1/a{x}")}}},
		"empty segment":  {Routes: []Route{{Name: "a", Triggers: http1("GET", "/v1//a")}}},
	} {
		if err := f.gateway.Swap(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if w := f.do("GET", "/v1/pets", ""); w.Code != 200 {
		t.Errorf("after refused swaps the old city is gone: %d", w.Code)
	}
}

// Under load a swap fails no request, and each is answered by one city.
func TestSwapUnderLoad(t *testing.T) {
	f := open(t)
	f.engine.answer = func(r Request) Answer { return Answer{Status: 200, Body: r.Route} }
	srv := httptest.NewServer(f.gateway)
	defer srv.Close()
	cities := []City{{Routes: []Route{{Name: "one", Triggers: http1("GET", "/v1/x")}}}, {Routes: []Route{{Name: "two", Triggers: http1("GET", "/v1/{y}")}}}}
	if err := f.gateway.Swap(cities[0]); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				resp, err := srv.Client().Get(srv.URL + "/v1/x")
				if err != nil {
					t.Error(err)
					return
				}
				b, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if resp.StatusCode != 200 || !slices.Contains([]string{`"one"`, `"two"`}, string(b)) {
					t.Errorf("%d %s", resp.StatusCode, b)
				}
			}
		})
	}
	for i := range 200 {
		if err := f.gateway.Swap(cities[i%2]); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
}

func TestLanguage(t *testing.T) {
	for header, want := range map[string]string{
		"": "it", "*": "it", "es": "it", "de-AT": "de", "EN": "en", "fr;q=0.2, en;q=0.9": "en", "fr;q=x, de;q=0.1": "de", "fr;q=0": "it", "en;q=2": "it",
		strings.Repeat("en,", 400): "it",
	} {
		if got := language(http.Header{"Accept-Language": {header}}); got != want {
			t.Errorf("%q: %s, want %s", header, got, want)
		}
	}
}

// Every problem of the edge speaks all four languages.
func TestWords(t *testing.T) {
	for _, kind := range []string{"not-found", "method", "credentials", "client-rights", "keys", "request", "json", "media-type", "encoding", "too-large", "cut-off", "slow", "store", "journal", "internal"} {
		for _, lang := range []string{"it", "en", "de", "fr"} {
			if edgeWords("edge." + kind)[lang] == "" || title(problemType+kind, 400, lang) == "" {
				t.Errorf("%s has no words in %s", kind, lang)
			}
		}
	}
}
