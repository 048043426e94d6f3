package gateway

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dime-bus/dime/internal/fault"
)

func TestFirstPage(t *testing.T) {
	f := open(t)
	for _, tt := range []struct{ target, accept, lang, want string }{
		{"/", "", "it", "Che cosa è in funzione"}, {"/", "de", "de", "Was in Betrieb ist"}, {"/", "fr-CA", "fr", "Ce qui est en service"}, {"/", "it;q=0.5, en", "en", "What is running"},
		{"/?lang=it", "en", "it", "Vai al contenuto"}, {"/?lang=en", "it", "en", "Skip to"}, {"/?lang=%3Cscript%3E", "", "it", "Percorsi (7)"},
	} {
		w := f.do("GET", tt.target, "", "Accept-Language: "+tt.accept)
		body := w.Body.String()
		if w.Code != 200 || !strings.Contains(body, `<html lang="`+tt.lang+`">`) || !strings.Contains(body, tt.want) || w.Header().Get("Content-Language") != tt.lang {
			t.Errorf("%s %q: %d, lacks %s %q\n%s", tt.target, tt.accept, w.Code, tt.lang, tt.want, body)
		}
		for _, want := range []string{"GET /v1/pets", "cron 0 7 * * *", "event pet.born", strings.Repeat("ab", 6), "zoo", "feed", "Comune &lt;di&gt; Prova", "http://127.0.0.1:9", "dime 1.2"} {
			if !strings.Contains(body, want) {
				t.Errorf("it does not show %q", want)
			}
		}
		howlers(t, body)
		for _, h := range []string{"Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy"} {
			if w.Header().Get(h) == "" {
				t.Errorf("no %s", h)
			}
		}
		if csp := w.Header().Get("Content-Security-Policy"); strings.Contains(csp, "unsafe") || !strings.HasPrefix(csp, "default-src 'none'") {
			t.Errorf("policy %q", csp)
		}
	}
	if err := f.gateway.Swap(City{}); err != nil {
		t.Fatal(err)
	}
	if body := f.do("GET", "/", "").Body.String(); !strings.Contains(body, "Nessun percorso") {
		t.Error("an empty city shows no word of it")
	}
}

// howlers are accessibility mistakes that need no browser to see (WCAG 2.2
// 1.3.1, 2.4.1, 2.4.2, 2.4.6, 3.1.1, 4.1.2).
func howlers(t *testing.T, body string) {
	t.Helper()
	count := func(re string) int { return len(regexp.MustCompile(re).FindAllString(body, -1)) }
	for what, ok := range map[string]bool{
		"a language":               count(`<html lang="(it|en|de|fr)">`) == 1,
		"a title":                  count(`<title>[^<]{5,}</title>`) == 1,
		"one h1":                   count(`<h1>`) == 1,
		"no heading level skipped": count(`<h[3-6]`) == 0,
		"one main":                 count(`<main `) == 1 && strings.Contains(body, `<main id="main"`),
		"one header and footer":    count(`<header`) == 1 && count(`<footer`) == 1,
		"named navigation":         count(`<nav `) == count(`<nav [^>]*aria-label="[^"]+`),
		"a skip link first":        strings.Index(body, `href="#main"`) < strings.Index(body, "<header"),
		"captions":                 count(`<table`) == count(`<caption>[^<]+`),
		"scoped headers":           count(`<th[ >]`) == count(`<th scope="(col|row)" `),
		"images with text":         count(`<img `) == count(`<img [^>]*alt="`),
		"no script":                count(`(?i)<script|javascript:| on[a-z]+="`) == 0,
		"no inline style":          count(`(?i)<style| style="`) == 0,
		"links with text":          count(`<a [^>]*>\s*</a>`) == 0,
	} {
		if !ok {
			t.Errorf("the page has not: %s", what)
		}
	}
	ids := regexp.MustCompile(` id="([^"]+)"`).FindAllStringSubmatch(body, -1)
	seen := map[string]bool{}
	for _, m := range ids {
		if seen[m[1]] {
			t.Errorf("the id %q is there twice", m[1])
		}
		seen[m[1]] = true
	}
	for _, m := range regexp.MustCompile(`aria-labelledby="([^"]+)"`).FindAllStringSubmatch(body, -1) {
		if !seen[m[1]] {
			t.Errorf("nothing has the id %q that labels a region", m[1])
		}
	}
}

func TestStatic(t *testing.T) {
	f := open(t)
	page := f.do("GET", "/", "").Body.String()
	for _, m := range regexp.MustCompile(`href="(/static/[^"]+)"`).FindAllStringSubmatch(page, -1) {
		if w := f.do("GET", m[1], ""); w.Code != 200 || w.Header().Get("Content-Type") != "text/css; charset=utf-8" {
			t.Errorf("%s: %d %s", m[1], w.Code, w.Header())
		}
	}
	for target, want := range map[string]int{"/static/titillium-web-700.woff2": 200, "/static/none.css": 404, "/static/bootstrap-italia.min.css.gz": 404,
		"/static/README.md": 404, "/static/%2e%2e%2fpage.html": 404} {
		if w := f.do("GET", target, ""); w.Code != want {
			t.Errorf("%s: %d, want %d", target, w.Code, want)
		}
	}
}

// TestBackFromPaying: who comes back from the page of payment is told what now, and
// nothing that the address alone could not know.
func TestBackFromPaying(t *testing.T) {
	f := open(t)
	for end, want := range map[string]string{"ok": "non devi fare altro", "annullato": "Hai lasciato", "errore": "non è riuscito"} {
		body := f.do("GET", "/?esito="+end, "").Body.String()
		if !strings.Contains(body, want) || !strings.Contains(body, `href="/?esito=`+end+`&amp;lang=fr"`) {
			t.Errorf("%s: it lacks %q, or forgets it in another language", end, want)
		}
		howlers(t, body)
	}
	for _, target := range []string{"/", "/?esito=", "/?esito=%3Cb%3E"} {
		if body := f.do("GET", target, "").Body.String(); strings.Contains(body, "pagina di pagamento") || strings.Contains(body, "<b>") {
			t.Errorf("%s tells of a payment", target)
		}
	}
}

func TestOpenAPI(t *testing.T) {
	f := open(t)
	w := f.do("GET", "/openapi.json", "")
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			OperationID string `json:"operationId"`
			Parameters  []struct {
				Name, In string
				Required bool
				Schema   map[string]any
			}
			RequestBody struct{ Content map[string]any }
			Responses   map[string]any
			Security    []map[string]any
		}
		Components struct{ Schemas map[string]any }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || w.Code != 200 || doc.OpenAPI != "3.1.0" {
		t.Fatalf("%d %v %s", w.Code, err, w.Body)
	}
	var ops []string
	for p, item := range doc.Paths {
		for m, op := range item {
			ops = append(ops, m+" "+p+" "+op.OperationID)
		}
	}
	slices.Sort(ops)
	want := []string{"get /v1/pets pets", "get /v1/pets/newest newest", "get /v1/pets/{id} pet", "get /v1/runs/{run} dime-run",
		"post /v1/any any", "post /v1/pets add", "put /v1/pets/{id} change"}
	if d := cmp.Diff(want, ops); d != "" {
		t.Error(d)
	}
	pet := doc.Paths["/v1/pets/{id}"]["get"]
	if len(pet.Parameters) < 3 || pet.Parameters[0].Name != "id" || pet.Parameters[0].In != "path" || !pet.Parameters[0].Required ||
		pet.Parameters[0].Schema["type"] != "integer" || pet.Parameters[1].In != "header" || pet.Parameters[1].Name != "If-Match" {
		t.Errorf("%+v", pet.Parameters)
	}
	add := doc.Paths["/v1/pets"]["post"]
	if add.RequestBody.Content["multipart/form-data"] == nil || add.Responses["202"] == nil || add.Responses["409"] == nil || len(add.Security) != 1 {
		t.Errorf("%+v", add)
	}
	if open := doc.Paths["/v1/pets"]["get"]; len(open.Security) != 2 {
		t.Errorf("a route without allow asks for credentials: %+v", open.Security)
	}
	// Every reference of the document leads somewhere in it.
	var whole any
	if err := json.Unmarshal(w.Body.Bytes(), &whole); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, m := range regexp.MustCompile(`"\$ref":"#/([^"]+)"`).FindAllStringSubmatch(w.Body.String(), -1) {
		at := whole
		for seg := range strings.SplitSeq(m[1], "/") {
			o, _ := at.(map[string]any)
			at = o[seg]
		}
		if at == nil {
			t.Errorf("#/%s leads nowhere", m[1])
		}
		n++
	}
	if n < 5 {
		t.Errorf("only %d references", n)
	}
}

// runs is an engine's admin side that remembers what it was asked.
type runs struct {
	filter Filter
	act    string
	acted  Act
	err    error
}

func (r *runs) List(_ context.Context, f Filter) ([]Run, error) { r.filter = f; return nil, r.err }
func (r *runs) Show(_ context.Context, id string) (Detail, error) {
	if id != "r1" {
		return Detail{}, fault.New(fault.NotFound, "there is no run %q", id)
	}
	return Detail{Run: Run{Run: "r1", Route: "pets", State: "done"}}, nil
}
func (r *runs) note(word string, a Act) (any, error) {
	r.act, r.acted = word, a
	return map[string]any{"state": "done"}, r.err
}
func (r *runs) Cancel(_ context.Context, _ string, a Act) (any, error)  { return r.note("cancel", a) }
func (r *runs) Replay(_ context.Context, _ string, a Act) (any, error)  { return r.note("replay", a) }
func (r *runs) Skip(_ context.Context, _ string, a Act) (any, error)    { return r.note("skip", a) }
func (r *runs) Settle(_ context.Context, _ string, a Act) (any, error)  { return r.note("settle", a) }
func (r *runs) Resolve(_ context.Context, _ string, a Act) (any, error) { return r.note("resolve", a) }

func admin1(t *testing.T, r *runs, ready error) http.Handler {
	t.Helper()
	h, err := NewAdmin(AdminConfig{Audit: noAudit, Runs: r, City: func() City { return testCity(t) }, Ready: func(context.Context) error { return ready },
		Log: slog.New(slog.DiscardHandler), Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "metrics") })})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func ask(h http.Handler, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Host = "127.0.0.1:8081"
	for _, hd := range headers {
		k, v, _ := strings.Cut(hd, ": ")
		if k == "Host" {
			r.Host = v
		}
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestAdmin(t *testing.T) {
	who := `"as":"anna","reason":"r"`
	tests := []struct {
		name, method, target, body string
		headers                    []string
		status                     int
		want                       string
	}{
		{"live", "GET", "/livez", "", nil, 200, `"live"`},
		{"ready", "GET", "/readyz", "", nil, 200, `"ready"`},
		{"metrics", "GET", "/metrics", "", nil, 200, "metrics"},
		{"status", "GET", "/status", "", nil, 200, `"digest":"abab`},
		{"routes", "GET", "/routes", "", nil, 200, `"route":"nightly"`},
		{"connectors", "GET", "/connectors", "", nil, 200, `[{"name":"zoo"`},
		{"connector", "GET", "/connectors/zoo", "", nil, 200, `"keyed":true`},
		{"no connector", "GET", "/connectors/zo", "", nil, 404, `zoo`},
		{"runs", "GET", "/runs?state=parked,failed&route=x&limit=5&before=r9", "", nil, 200, `{"runs":[]}`},
		{"bad state", "GET", "/runs?state=parkd", "", nil, 400, "not a state"},
		{"bad limit", "GET", "/runs?limit=0", "", nil, 400, "1 to 1000"},
		{"bad filter", "GET", "/runs?stat=x", "", nil, 400, "no filter"},
		{"run", "GET", "/runs/r1", "", nil, 200, `"timeline":[]`},
		{"no run", "GET", "/runs/r2", "", nil, 404, "urn:dime:problem:not-found"},
		{"cancel", "POST", "/runs/r1/cancel", `{` + who + `}`, nil, 200, `"report":{"state":"done"}`},
		{"dry replay", "POST", "/runs/r1/replay", `{` + who + `,"dry_run":true,"from":"x"}`, nil, 200, `"dry_run":true`},
		{"resolve", "POST", "/runs/r1/resolve", `{` + who + `,"path":"p","happened":true,"result":{"n":1}}`, nil, 200, `"act":"resolve"`},
		{"nobody", "POST", "/runs/r1/cancel", `{"reason":"r"}`, nil, 400, `"/as"`},
		{"no reason", "POST", "/runs/r1/cancel", `{"as":"a","reason":" "}`, nil, 400, `"/reason"`},
		{"misspelt", "POST", "/runs/r1/replay", `{` + who + `,"dryrun":true}`, nil, 400, `dry_run`},
		{"in another case", "POST", "/runs/r1/replay", `{` + who + `,"DRY_RUN":true}`, nil, 400, `DRY_RUN`},
		{"twice", "POST", "/runs/r1/replay", `{` + who + `,"as":"b"}`, nil, 400, `not JSON`},
		{"wrong type", "POST", "/runs/r1/replay", `{` + who + `,"dry_run":"yes"}`, nil, 400, `/dry_run`},
		{"no body", "POST", "/runs/r1/replay", ``, nil, 400, `not JSON`},
		{"list", "POST", "/runs/r1/replay", `[]`, nil, 400, `object`},
		{"resolve where it rests", "POST", "/runs/r1/resolve", `{` + who + `,"happened":true}`, nil, 200, `"act":"resolve"`},
		{"resolve a stuck undo", "POST", "/runs/r1/resolve", `{` + who + `,"path":"p"}`, nil, 200, `"act":"resolve"`},
		{"result of a cancel", "POST", "/runs/r1/cancel", `{` + who + `,"result":1}`, nil, 400, `belong to resolve`},
		{"no such act", "POST", "/runs/r1/kill", `{` + who + `}`, nil, 404, `no act`},
		{"nothing", "GET", "/x", "", nil, 404, "/readyz"},
		{"rebinding", "GET", "/runs", "", []string{"Host: evil.example"}, 421, "loopback"},
		{"localhost", "GET", "/livez", "", []string{"Host: localhost:1"}, 200, ""},
		{"IPv6", "GET", "/livez", "", []string{"Host: [::1]:1"}, 200, ""},
		{"from another site", "POST", "/runs/r1/cancel", `{` + who + `}`, []string{"Sec-Fetch-Site: cross-site"}, 403, ""},
		{"from another origin", "POST", "/runs/r1/cancel", `{` + who + `}`, []string{"Origin: https://evil.example"}, 403, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &runs{}
			w := ask(admin1(t, r, nil), tt.method, tt.target, tt.body, tt.headers...)
			if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.want) {
				t.Errorf("%d %s, want %d %q", w.Code, w.Body, tt.status, tt.want)
			}
			if tt.status >= 400 && r.act != "" {
				t.Error("it acted")
			}
			if got := w.Header().Get("Content-Type"); tt.status >= 400 && got != "application/problem+json" {
				t.Errorf("it refuses with %s", got)
			}
		})
	}
}

func TestAdminPassesOn(t *testing.T) {
	r := &runs{}
	h := admin1(t, r, nil)
	ask(h, "GET", "/runs?state=parked,failed&state=done&route=x&limit=5&before=r9", "")
	if d := cmp.Diff(Filter{"x", []string{"parked", "failed", "done"}, "r9", 5}, r.filter); d != "" {
		t.Error(d)
	}
	ask(h, "POST", "/runs/r1/resolve", `{"as":"anna","reason":"r","path":"p","happened":false,"result":{"n":1}}`)
	no := false
	if d := cmp.Diff(Act{As: "anna", Reason: "r", Path: "p", Happened: &no, Result: map[string]any{"n": 1}}, r.acted); d != "" || r.act != "resolve" {
		t.Error(r.act, d)
	}
	for kind, want := range map[fault.Kind]int{fault.Conflict: 409, fault.Invalid: 400, fault.Denied: 403, fault.Unavailable: 503, fault.Internal: 500} {
		r.err = &fault.Error{Kind: kind, Detail: "d", Err: io.ErrClosedPipe}
		w := ask(h, "POST", "/runs/r1/skip", `{"as":"anna","reason":"r"}`)
		if w.Code != want || strings.Contains(w.Body.String(), "pipe") {
			t.Errorf("%s: %d %s", kind, w.Code, w.Body)
		}
	}
	if w := ask(admin1(t, r, io.ErrClosedPipe), "GET", "/readyz", ""); w.Code != 503 || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("not ready: %d %s", w.Code, w.Body)
	}
}
