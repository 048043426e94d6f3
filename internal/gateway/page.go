package gateway

import (
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"

	"github.com/dime-bus/dime/internal/page"
)

//go:embed page.html
var firstPageText string

func secure(h http.Header) { page.Secure(h) }

// otherPages is everything that is not under /v1.
func (g *Gateway) otherPages(extra map[string]http.Handler) (mux *http.ServeMux, err error) {
	first, err := page.Parse(firstPageText)
	if err != nil {
		return nil, fmt.Errorf("making the first page: %w", err)
	}
	mux = http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { g.firstPage(first, w, r) })
	mux.HandleFunc("GET /openapi.json", g.serveOpenAPI)
	mux.HandleFunc("GET /static/{name}", g.serveStatic)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		secure(w.Header())
		a := answer{w: w, g: g, table: g.table.Load(), lang: language(r.Header)}
		switch {
		case r.URL.Path == "/", r.URL.Path == "/openapi.json", strings.HasPrefix(r.URL.Path, "/static/") && r.Method != http.MethodGet:
			g.missing(&a, []string{"GET", "HEAD"})
		default:
			g.missing(&a, nil)
		}
	})
	defer func() {
		if p := recover(); p != nil { // ServeMux says so of patterns in conflict
			err = fmt.Errorf("serving a connector's own address: %v", p)
		}
	}()
	for pattern, h := range extra {
		_, p, ok := strings.Cut(pattern, " ")
		if !ok {
			p = pattern
		}
		if p == "/v1" || strings.HasPrefix(p, "/v1/") {
			return nil, fmt.Errorf("serving a connector's own address: %q lies under /v1, which belongs to the routes", pattern)
		}
		mux.Handle(pattern, h)
	}
	return mux, nil
}

func (g *Gateway) serveOpenAPI(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	t := g.table.Load()
	b, err := t.openapi()
	if err != nil {
		g.cfg.Log.Error("making the OpenAPI document", "error", err)
		a := answer{w: w, g: g, table: t, lang: language(r.Header)}
		a.problem(edgeProblem(http.StatusInternalServerError, "internal"))
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-cache")
	// The document is public and tools in a browser read it.
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	_, _ = w.Write(b) // the client may be gone
}

func (g *Gateway) serveStatic(w http.ResponseWriter, r *http.Request) {
	if !page.ServeStatic(w, r, r.PathValue("name")) {
		secure(w.Header())
		a := answer{w: w, g: g, table: g.table.Load(), lang: language(r.Header)}
		g.missing(&a, nil)
	}
}

type routeRow struct {
	Name, About, Digest string
	Label               int
	Begins              []string
}

// firstView is what the first page shows.
type firstView struct {
	page.Frame
	W             pageWords
	About         About
	AboutLang     string // routes and connectors describe themselves in the files' language
	Back, BackIs  string // to who comes back from paying: the words, and good or note
	Since, Uptime string
	SinceText     string
	Routes        []routeRow
	Connectors    []Connector
}

func (g *Gateway) firstPage(t *template.Template, w http.ResponseWriter, r *http.Request) {
	lang := page.Language(r)
	words := wordsIn(lang)
	city := g.table.Load().city
	about := *g.about.Load()
	rows := make([]routeRow, 0, len(city.Routes))
	for _, rt := range city.Routes {
		rows = append(rows, routeRow{rt.Name, rt.About, shortDigest(rt.Digest), rt.Label, begins(rt)})
	}
	v := firstView{
		Frame: page.Frame{Lang: lang, Title: words.Title, Name: about.Name, Tagline: words.Tagline, Home: page.In(lang, "/"), Here: "/", Static: "/static"},
		W:     words, About: about, AboutLang: "en",
		Since:     about.Started.UTC().Format(time.RFC3339),
		SinceText: about.Started.UTC().Format("02/01/2006, 15:04 UTC"),
		Uptime:    g.cfg.Clock.Now().Sub(about.Started).Truncate(time.Second).String(),
		Routes:    rows, Connectors: city.Connectors,
	}
	// The parameter by which a page of payment tells how it ended. Anybody can write
	// it, so the words claim nothing that only a receipt proves.
	switch end := r.URL.Query().Get("esito"); end {
	case "ok":
		v.Back, v.BackIs = words.PaidBack, "good"
	case "annullato":
		v.Back, v.BackIs = words.CancelledBack, "note"
	case "errore":
		v.Back, v.BackIs = words.FailedBack, "note"
	}
	if v.Back != "" {
		v.Here = "/?esito=" + r.URL.Query().Get("esito")
	}
	h := w.Header()
	secure(h)
	h.Set("Cache-Control", "no-cache")
	if err := page.Write(w, http.StatusOK, t, lang, v); err != nil {
		g.cfg.Log.Error("showing the first page", "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
	}
}

func shortDigest(d string) string {
	if len(d) > 12 {
		return d[:12]
	}
	return d
}

func begins(r Route) []string {
	var out []string
	for _, t := range r.Triggers {
		switch {
		case t.Kind == "http":
			out = append(out, t.Method+" "+t.Path)
		case t.About != "":
			out = append(out, t.Kind+" "+t.About)
		default:
			out = append(out, t.Kind)
		}
	}
	return out
}
