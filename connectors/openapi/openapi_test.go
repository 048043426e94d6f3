package openapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/httpclient"
	"github.com/dime-bus/dime/internal/schema"
)

// doc puts operations under a minimal document.
func doc(version, paths string) string {
	return "openapi: " + version + "\ninfo: {title: X, version: '1'}\npaths:\n" + paths
}

func must(t testing.TB, document, fields string, further ...string) *Connector {
	t.Helper()
	c, ps := load(t, document, fields, further...)
	if c == nil {
		t.Fatalf("refused: %v", ps)
	}
	return c
}

const books = `
  /books:
    post:
      operationId: add_book
      parameters:
        - {name: X-Branch, in: header, schema: {type: string}}
        - {name: idempotency-key, in: header, schema: {type: string}}
      requestBody:
        required: true
        content:
          application/json:
            schema: {$ref: '#/components/schemas/NewBook'}
      responses:
        '201': {description: ok, content: {application/json: {schema: {$ref: '#/components/schemas/Book'}}}}
        '409': {description: taken}
  /books/{id}:
    get:
      parameters: [{name: id, in: path, required: true, schema: {type: integer}}]
      responses:
        '200': {description: ok, content: {application/json: {schema: {$ref: '#/components/schemas/Book'}}}}
    delete:
      operationId: drop_book
      parameters: [{name: id, in: path, required: true, schema: {type: integer}}]
      responses: {'204': {description: gone}}
  /books/by-key/{key}:
    get:
      operationId: book_by_key
      parameters: [{name: key, in: path, required: true, schema: {type: string}}]
      responses:
        '200': {description: ok, content: {application/json: {schema: {$ref: '#/components/schemas/Book'}}}}
components:
  schemas:
    NewBook:
      type: object
      required: [id, title]
      properties:
        id: {type: integer, readOnly: true}
        title: {type: string}
        note: {type: string, nullable: true}
        parts: {type: array, items: {$ref: '#/components/schemas/Part'}}
    Part:
      type: object
      properties:
        name: {type: string}
        parts: {type: array, items: {$ref: '#/components/schemas/Part'}}
    Book:
      allOf:
        - {$ref: '#/components/schemas/NewBook'}
        - type: object
          required: [added]
          properties: {added: {type: string, format: date}}
`

func TestOperationsOfADocument(t *testing.T) {
	c := must(t, doc("3.0.3", books), "")
	d := c.Describe()
	var names []string
	for _, op := range d.Operations {
		names = append(names, op.Name+" "+string(op.Effect))
	}
	if diff := cmp.Diff([]string{"add_book writes", "get_books_by_id safe", "drop_book writes", "book_by_key safe"}, names); diff != "" {
		t.Error(diff)
	}
	in := c.byName["add_book"].In.Type()
	if diff := cmp.Diff([]string{"X-Branch", "id", "note", "parts", "title"}, sortedKeys(in.Fields)); diff != "" {
		t.Errorf("the input has other properties: %s", diff)
	}
	if in.Fields["id"].Required || !in.Fields["title"].Required || !in.Fields["note"].Type.Nullable || in.Open {
		t.Error("readOnly is not required of a request, title is, note is nullable, and nothing else may stand there")
	}
	if out := c.byName["drop_book"].Out; out != nil {
		t.Error("204 answers nothing")
	}
	if out := c.byName["add_book"].Out.Type(); !out.Fields["added"].Required || out.Fields["title"] == nil {
		t.Error("allOf is not merged")
	}
	if vs := c.byName["add_book"].In.Validate(map[string]any{"title": "a", "parts": []any{map[string]any{"parts": []any{map[string]any{"name": 1}}}}}); len(vs) == 0 {
		t.Error("the recursive schema checks nothing")
	}
}

func TestRequestOnTheWire(t *testing.T) {
	var got *http.Request
	var body string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got, body = r, string(b)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"id":7,"title":"Laguna","added":"2026-11-24"}`)
	}))
	defer srv.Close()
	t.Setenv("X_TOKEN", "sesame")
	c := must(t, doc("3.0.3", books+`
`), "base_url: "+srv.URL+"/v1\nheaders: {Authorization: {secret: 'env:X_TOKEN'}, X-Fixed: abc}\noperations:\n  add_book: {keyed: 'contract, 4'}\n")
	call := c.calls["add_book"]
	call.client = httpclient.New(httpclient.Config{})
	v, err := call.do(context.Background(), connectors.Call{Key: "k-1", Args: map[string]any{"title": "Laguna", "X-Branch": "Mestre"}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"id": 7, "title": "Laguna", "added": "2026-11-24"}, v); diff != "" {
		t.Error(diff)
	}
	if got.URL.Path != "/v1/books" || body != `{"title":"Laguna"}` {
		t.Errorf("sent %s with %s", got.URL, body)
	}
	for h, want := range map[string]string{"Idempotency-Key": "k-1", "X-Branch": "Mestre", "Authorization": "sesame", "X-Fixed": "abc", "Content-Type": "application/json", "X-Request-Id": "k-1"} {
		if got.Header.Get(h) != want {
			t.Errorf("%s is %q, want %q", h, got.Header.Get(h), want)
		}
	}
	if s := fmt.Sprintf("%+v", c.settings); strings.Contains(s, "sesame") || strings.Contains(s, "X_TOKEN") {
		t.Errorf("the secret shows: %s", s)
	}
}

func TestParameterStyles(t *testing.T) {
	c := must(t, doc("3.1.0", `
  /a/{p}/{q}:
    get:
      operationId: a
      parameters:
        - {name: p, in: path, required: true, schema: {type: string}}
        - {name: q, in: path, required: true, schema: {type: array, items: {type: integer}}}
        - {name: many, in: query, schema: {type: array, items: {type: string}}}
        - {name: few, in: query, explode: false, schema: {type: array, items: {type: string}}}
        - {name: pipe, in: query, style: pipeDelimited, explode: false, schema: {type: array, items: {type: integer}}}
        - {name: deep, in: query, style: deepObject, schema: {type: object, properties: {x: {type: integer}, y: {type: boolean}}}}
        - {name: js, in: query, content: {application/json: {schema: {type: object}}}}
        - {name: ck, in: cookie, schema: {type: string}}
        - {name: X-N, in: header, schema: {type: number}}
      responses: {'204': {description: ok}}
`), "base_url: https://far.example/b")
	call := c.calls["a"]
	args := map[string]any{"p": "3024/A b", "q": []any{1, 2}, "many": []any{"x y", "z&"}, "few": []any{"a", "b"}, "pipe": []any{3, 4},
		"deep": map[string]any{"x": 1, "y": true}, "js": map[string]any{"k": []any{1}}, "ck": "v;1", "X-N": 1.5}
	req, err := call.build(connectors.Call{Args: args})
	if err != nil {
		t.Fatal(err)
	}
	const want = "https://far.example/b/a/3024%2FA%20b/1%2C2?many=x+y&many=z%26&few=a%2Cb&pipe=3%7C4&deep%5Bx%5D=1&deep%5By%5D=true&js=%7B%22k%22%3A%5B1%5D%7D"
	if req.URL.String() != want {
		t.Errorf("got  %s\nwant %s", req.URL, want)
	}
	// What the one side writes the other must read.
	r := httptest.NewRequest("GET", strings.TrimPrefix(req.URL.String(), "https://far.example/b"), nil)
	r.Header = req.Header
	em, err := c.Emulator(connectors.EmulatorConfig{})
	if err != nil {
		t.Fatal(err)
	}
	found, vars, _ := em.(*Emulator).match(r)
	if found == nil {
		t.Fatal("the path is not recognised")
	}
	back, _, wrong := found.parse(r, vars, nil)
	if wrong != nil {
		t.Fatalf("refused: %v", wrong.body)
	}
	if diff := cmp.Diff(args, back); diff != "" {
		t.Errorf("read otherwise than written (-written +read):\n%s", diff)
	}
	for name, bad := range map[string]map[string]any{
		"empty path":   {"p": "", "q": []any{1}},
		"dot dot":      {"p": "..", "q": []any{1}},
		"header break": {"p": "a", "q": []any{1}, "ck": "x", "X-N": "1\r\nEvil: 1"},
	} {
		if _, err := call.build(connectors.Call{Args: bad}); err == nil || fault.From(err).Kind != fault.Invalid {
			t.Errorf("%s: %v, want invalid", name, err)
		}
	}
}

func TestBodies(t *testing.T) {
	c := must(t, doc("3.1.0", `
  /form:
    post:
      operationId: form
      requestBody: {content: {application/x-www-form-urlencoded: {schema: {type: object, properties: {a: {type: integer}, b: {type: array, items: {type: string}}}}}}}
      responses: {'200': {description: ok, content: {text/plain: {schema: {type: string}}}}}
  /upload:
    post:
      operationId: upload
      requestBody: {content: {multipart/form-data: {schema: {type: object, required: [file], properties: {file: {type: string, format: binary}, meta: {type: object, properties: {n: {type: integer}}}, title: {type: string}}}}}}
      responses: {'200': {description: ok, content: {application/pdf: {}}}}
  /list:
    put:
      operationId: list
      requestBody: {required: true, content: {application/json: {schema: {type: array, items: {type: integer}}}}}
      responses: {'200': {description: ok}}
  /clash/{name}:
    post:
      operationId: clash
      parameters: [{name: name, in: path, required: true, schema: {type: string}}]
      requestBody: {content: {application/json: {schema: {type: object, properties: {name: {type: string}}}}}}
      responses: {'302': {description: away}}
  /xml:
    post:
      operationId: xml
      requestBody: {content: {application/xml: {schema: {type: object}}}}
      responses: {'200': {description: ok}}
`), "base_url: https://far.example")
	if c.byName["xml"] != nil || !slices.ContainsFunc(c.desc.Warnings, func(w string) bool {
		return strings.Contains(w, "the operation xml is left out: its request is application/xml")
	}) {
		t.Errorf("XML must be left out with its reason: %v", c.desc.Warnings)
	}
	em, err := c.Emulator(connectors.EmulatorConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for op, args := range map[string]map[string]any{
		"form":   {"a": 3, "b": []any{"x", "y"}},
		"upload": {"file": "ZGltZQ==", "meta": map[string]any{"n": 1}, "title": "t"},
		"list":   {"body": []any{1, 2}},
		"clash":  {"name": "a", "body": map[string]any{"name": "b"}},
	} {
		call := c.calls[op]
		if vs := call.inSchema.Validate(args); len(vs) > 0 {
			t.Errorf("%s: its own schema refuses %v: %v", op, args, vs)
		}
		req, err := call.build(connectors.Call{Args: args, Key: "k"})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(req.Method, req.URL.RequestURI(), strings.NewReader(string(req.Body)))
		r.Header = req.Header
		found, vars, _ := em.(*Emulator).match(r)
		back, _, wrong := found.parse(r, vars, req.Body)
		if wrong != nil {
			t.Errorf("%s: %v", op, wrong.body)
		} else if diff := cmp.Diff(args, back); diff != "" {
			t.Errorf("%s is read otherwise than written:\n%s", op, diff)
		}
	}
	srv := httptest.NewServer(em)
	defer srv.Close()
	for _, x := range []struct {
		op   string
		args map[string]any
	}{{"form", map[string]any{"a": 1}}, {"upload", map[string]any{"file": "ZGltZQ=="}}, {"list", map[string]any{"body": []any{1}}}, {"clash", map[string]any{"name": "a"}}} {
		call := *c.calls[x.op]
		call.client = httpclient.New(httpclient.Config{})
		call.base, _ = call.base.Parse(srv.URL)
		v, err := call.do(context.Background(), connectors.Call{Args: x.args, Key: "k"})
		if err != nil {
			t.Errorf("%s: %v", x.op, err)
		} else if call.outSchema != nil {
			if vs := call.outSchema.Validate(v); len(vs) > 0 {
				t.Errorf("%s answered %v: %v", x.op, v, vs)
			}
		}
	}
}

func TestWhatIsOverlooked(t *testing.T) {
	c := must(t, doc("3.0.1", `
  /x:
    get:
      operationId: "read x!"
      parameters:
        - {name: f, in: query, schema: {type: string, format: codice-fiscale, pattern: '^(?=a)b', example: 41}}
        - {name: d, in: query, required: yes, schema: {type: date}}
      responses:
        200: {description: ok, content: {application/json: {schema: {type: object, required: true, properties: {n: {type: integer, minimum: many, default: none}, e: {enum: []}}}}}}
  /x/{id}:
    get:
      operationId: "read x!"
      responses: {}
  /y:
    get:
      operationId: y
      responses: {'200': {description: ok, content: {application/json: {schema: {$ref: 'other.yaml#/Y'}}}}}
`), "")
	if c.byName["read_x"] == nil || c.byName["get_x_by_id"] == nil {
		t.Errorf("operations are %v", sortedKeys(c.byName))
	}
	all := strings.Join(c.desc.Warnings, "\n")
	for _, want := range []string{
		`the operationId "read x!" can't stand in a route; it is called read_x`, "the operationId read_x is used twice", "is not RE2", `format "codice-fiscale"`,
		`"date" is not a JSON type`, "required is a list", "a number is expected", "enum must be a list", "the path variable {id}", "declares no", "the operation y is left out: the reference",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no warning says %q in:\n%s", want, all)
		}
	}
	if !strings.Contains(all, "x.openapi.yaml:9:") {
		t.Errorf("warnings carry no place:\n%s", all)
	}
}

func TestRefusals(t *testing.T) {
	good := doc("3.0.3", books)
	for _, c := range []struct{ name, document, fields, want string }{
		{"no OpenAPI", "a: 1\n", "", "x.openapi.yaml:1:1: `openapi: 3.0.x` or `3.1.x` is missing"},
		{"Swagger", "swagger: '2.0'\npaths: {}\n", "", "x.openapi.yaml:1:10: this is a Swagger 2.0 document"},
		{"OpenAPI 4", "openapi: 4.0.0\npaths: {}\n", "", "x.openapi.yaml:1:10: OpenAPI 4.0.0 is not understood"},
		{"no paths", "openapi: 3.0.0\n", "", "`paths` is missing"},
		{"no operation", "openapi: 3.0.0\npaths: {/a: {}}\n", "", "x.openapi.yaml:2:1: the document describes no operation"},
		{"no YAML", "openapi: [3\n", "", "x.openapi.yaml:"},
		{"field", good, "timout: 2s", `x.yaml:2:1: unknown field "timout"; did you mean "timeout"?`},
		{"operation", good, "operations:\n  ad_book: {}", `x.yaml:3:3: config/connectors/x.openapi.yaml has no operation "ad_book"; did you mean "add_book"?`},
		{"effect", good, "operations:\n  add_book: {effect: write}", `x.yaml:3:22: ` + "`effect`" + ` is safe, writes or pays, not "write"; did you mean "writes"?`},
		{"safe and keyed", good, "operations:\n  book_by_key: {keyed: true}", "book_by_key is safe"},
		{"found_by", good, "operations:\n  add_book: {found_by: book_by_kei}", `did you mean "book_by_key"?`},
		{"found_by an effect", good, "operations:\n  add_book: {found_by: drop_book}", "so it must be safe"},
		{"found_by without argument", good, "operations:\n  drop_book: {keyed: c, found_by: book_by_key}\n  add_book: {found_by: get_books_by_id}", ""},
		{"fault", good, "operations:\n  add_book: {faults: {taken: {status: 200}}}", "between 400 and 599"},
		{"fault kind", good, "operations:\n  add_book: {faults: [conflct]}", `did you mean "conflict"?`},
		{"fault unknown", good, "operations:\n  add_book: {faults: {odd: 500}}", "leaves the outcome of an effect unknown"},
		{"when", good, "operations:\n  add_book: {faults: {odd: {status: 409, when: bdy.x == 1}}}", "bdy"},
		{"base_url", good, "base_url: ftp://x", "must be an http or https URL"},
		{"credential", good, "headers: {Authorization: Bearer abc}", "a credential does not belong in the file"},
		{"retry", good, "retry: {attempts: 99}", "1 to 20"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ps := load(t, c.document, c.fields)
			if c.want == "" {
				if got == nil {
					t.Fatalf("refused: %v", ps)
				}
				return
			}
			if got != nil {
				t.Fatal("was taken")
			}
			for _, p := range ps {
				if strings.Contains(p.String(), c.want) {
					return
				}
			}
			t.Errorf("no problem says %q in %v", c.want, ps)
		})
	}
}

func TestNamedFaults(t *testing.T) {
	c := must(t, doc("3.0.3", books), `base_url: https://far.example
operations:
  add_book:
    faults:
      taken: {status: 409, code: taken}
      lost: {status: 409, when: 'body.shelf == "none"'}
      odd: {status: 500, kind: rejected}
      conflict: conflict
`)
	call := c.calls["add_book"]
	for _, x := range []struct {
		status     int
		body, name string
		kind       fault.Kind
	}{
		{409, `{"code":"taken"}`, "taken", fault.Conflict},
		{409, `{"shelf":"none"}`, "lost", fault.Conflict},
		{409, `no json`, "conflict", fault.Conflict},
		{500, `{}`, "odd", fault.Rejected},
		{502, `{}`, "", fault.Unknown},
		{404, `{}`, "", fault.NotFound},
	} {
		_, err := call.result(&httpclient.Response{Status: x.status, Body: []byte(x.body)})
		var f *fault.Error
		if !errors.As(err, &f) || f.Name != x.name || f.Kind != x.kind {
			t.Errorf("%d %s: got %v, want %s (%s)", x.status, x.body, err, x.name, x.kind)
		}
	}
}

// Every value that an emulator without a state file makes must fit its schema,
// for an unseen document is called in just that way.
func TestStatelessEmulator(t *testing.T) {
	c := must(t, doc("3.0.3", books), "operations:\n  add_book: {keyed: c, found_by: book_by_key}\n")
	dir := t.TempDir()
	start := func() (*Emulator, func(method, path, key, body string) (int, any)) {
		em, err := c.Emulator(connectors.EmulatorConfig{Data: dir, Seed: "s"})
		if err != nil {
			t.Fatal(err)
		}
		return em.(*Emulator), func(method, path, key, body string) (int, any) {
			r := httptest.NewRequest(method, path, strings.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Idempotency-Key", key)
			w := httptest.NewRecorder()
			em.ServeHTTP(w, r)
			v, _ := schema.DecodeJSON(w.Body.Bytes())
			return w.Code, v
		}
	}
	em, do := start()
	out := c.byName["add_book"].Out
	for i := range 20 {
		st, v := do("GET", fmt.Sprintf("/books/%d", i), "", "")
		if vs := out.Validate(v); st != 200 || len(vs) > 0 {
			t.Fatalf("%d %v: %v", st, v, vs)
		}
		if _, again := do("GET", fmt.Sprintf("/books/%d", i), "", ""); cmp.Diff(v, again) != "" {
			t.Error("the same request got another answer")
		}
	}
	if st, _ := do("GET", "/books/by-key/k1", "", ""); st != 404 {
		t.Errorf("nothing was added, yet by-key answers %d", st)
	}
	if st, v := do("POST", "/books", "k1", `{"note":"x"}`); st != 400 {
		t.Errorf("a request without title got %d %v", st, v)
	}
	st, first := do("POST", "/books", "k1", `{"title":"Laguna"}`)
	if st != 201 || first.(map[string]any)["title"] != "Laguna" {
		t.Errorf("got %d %v; what the request named must come back", st, first)
	}
	if _, again := do("POST", "/books", "k1", `{"title":"Laguna"}`); cmp.Diff(first, again) != "" {
		t.Error("the repeated key got another answer")
	}
	if err := em.Close(); err != nil {
		t.Fatal(err)
	}
	em, do = start()
	if _, v := do("GET", "/books/by-key/k1", "", ""); cmp.Diff(first, v) != "" {
		t.Errorf("after a restart by-key answers %v, want %v", v, first)
	}
	es, err := em.Effects()
	if err != nil || len(es) != 1 || es[0].Key != "k1" {
		t.Errorf("the ledger is %v, %v", es, err)
	}
}

// Where examples fit the patterns and where they lie, the value must fit.
func TestSamplesFit(t *testing.T) {
	for _, s := range []string{
		`{"type":"string","pattern":"^[A-Z]{6}[0-9]{2}[A-Z][0-9]{2}[A-Z][0-9]{3}[A-Z]$"}`,
		`{"type":"string","pattern":"^[^/]{2,5}(ab|cd)+x?$","examples":["no"]}`,
		`{"type":"string","minLength":40,"maxLength":45}`,
		`{"type":"integer","minimum":5,"exclusiveMaximum":7}`,
		`{"type":"number","exclusiveMinimum":0,"maximum":0.5}`,
		`{"type":"array","minItems":3,"uniqueItems":true,"items":{"type":"integer"}}`,
		`{"type":["string","null"],"format":"uuid"}`,
		`{"oneOf":[{"type":"null"},{"type":"object","required":["a"],"properties":{"a":{"const":"x"}}}]}`,
		`{"allOf":[{"type":"object","required":["a"],"properties":{"a":{"type":"string","format":"date-time"}}},{"required":["b"],"properties":{"b":{"enum":[1,2]}}}]}`,
	} {
		var m map[string]any
		v, err := schema.DecodeJSON([]byte(s))
		if err != nil {
			t.Fatal(err)
		}
		m = v.(map[string]any)
		sch, err := schema.Compile("x", m)
		if err != nil {
			t.Fatal(err)
		}
		for seed := range uint64(50) {
			smp := sampler{root: m, n: seed}
			x := smp.value(m, 0)
			if vs := sch.Validate(sch.Coerce(x)); len(vs) > 0 {
				b, _ := json.Marshal(x)
				t.Errorf("%s gives %s: %v", s, b, vs)
				break
			}
		}
	}
}

func FuzzDocument(f *testing.F) {
	f.Add([]byte(doc("3.0.3", books)))
	f.Add([]byte(doc("3.1.0", "  /a/{b}:\n    get: {responses: {200: {content: {application/json: {schema: {type: [string, 'null']}}}}}}\n")))
	f.Add([]byte(`{"openapi":"3.1.0","paths":{"/x":{"post":{"requestBody":{"$ref":"#/paths"},"responses":{"2XX":{}}}}}}`))
	f.Add([]byte("openapi: 3.0.0\npaths:\n  /a: {$ref: '#/paths/~1a'}\n"))
	f.Add([]byte("openapi: 3.0.0\nx: &x {type: object, properties: {y: {$ref: '#/x'}}}\npaths: {/a: {put: {requestBody: {content: {a/json: {schema: *x}}}, responses: {default: {}}}}}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, ps := load(t, string(b), "")
		if c == nil {
			if len(ps) == 0 {
				t.Fatal("refused without a reason")
			}
			return
		}
		far, err := c.Emulator(connectors.EmulatorConfig{})
		if err != nil {
			t.Fatal(err)
		}
		em := far.(*Emulator)
		for _, call := range c.ops {
			call.base, _ = url.Parse("https://far.example")
			_, _ = call.build(connectors.Call{Args: map[string]any{}, Key: "k"})
			em.mem = &memory{rows: map[string]*collection{}, done: map[string]line{}}
			_ = em.stateless(call, map[string]any{}, "k")
		}
	})
}
