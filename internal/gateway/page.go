package gateway

import (
	"bytes"
	"compress/gzip"
	"embed"
	"fmt"
	"html/template"
	"io"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed page.html static/*.gz static/*.css static/*.woff2
var files embed.FS

// policy lets the page load its own style sheets and fonts and nothing else: no
// script, no frame, no form. Bootstrap Italia carries its icons as data: URLs.
const policy = "default-src 'none'; style-src 'self'; font-src 'self' data:; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func secure(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	h.Set("Content-Security-Policy", policy)
}

// otherPages is everything that is not under /v1.
func (g *Gateway) otherPages(extra map[string]http.Handler) (mux *http.ServeMux, err error) {
	page, err := template.ParseFS(files, "page.html")
	if err != nil {
		return nil, fmt.Errorf("reading the first page: %w", err)
	}
	mux = http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { g.firstPage(page, w, r) })
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
	name := r.PathValue("name")
	h := w.Header()
	secure(h)
	b, err := files.ReadFile("static/" + name)
	if err != nil {
		var packed []byte
		if packed, err = files.ReadFile("static/" + name + ".gz"); err == nil {
			h.Set("Vary", "Accept-Encoding")
			if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
				h.Set("Content-Encoding", "gzip")
				b = packed
			} else {
				b, err = unpack(packed)
			}
		}
	}
	if err != nil || strings.HasSuffix(name, ".gz") {
		h.Del("Content-Encoding")
		a := answer{w: w, g: g, table: g.table.Load(), lang: language(r.Header)}
		g.missing(&a, nil)
		return
	}
	kind := mime.TypeByExtension(path.Ext(name))
	if path.Ext(name) == ".woff2" { // not in every system's table
		kind = "font/woff2"
	}
	h.Set("Content-Type", kind)
	h.Set("Cache-Control", "public, max-age=3600")
	_, _ = w.Write(b) // the client may be gone
}

func unpack(b []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("unpacking a static file: %w", err)
	}
	return io.ReadAll(z)
}

// pageWords are the page's texts in one language.
type pageWords struct {
	Title, Skip, Languages, Tagline, Lead, Program, Since, City, NoCity, OpenAPI string
	Routes, RoutesCaption, Route, What, Begins, Version, NoRoutes                string
	Connectors, ConnectorsCaption, Connector, Operations, NoConnectors, Foot     string
}

func wordsIn(lang string) pageWords {
	if lang == "it" {
		return pageWords{
			Title: "Che cosa è in funzione", Skip: "Vai al contenuto principale", Languages: "Lingua della pagina",
			Tagline: "Il bus di integrazione della città", Lead: "I servizi della città che questo bus mette in comunicazione, nella versione ora in funzione.",
			Program: "Programma", Since: "In funzione da", City: "Città virtuale", NoCity: "non attiva", OpenAPI: "Documento OpenAPI dei servizi",
			Routes: "Percorsi", RoutesCaption: "I percorsi in funzione, come iniziano e l'impronta della loro versione.",
			Route: "Percorso", What: "Che cosa fa", Begins: "Come inizia", Version: "Versione", NoRoutes: "Nessun percorso è in funzione.",
			Connectors: "Sistemi collegati", ConnectorsCaption: "I sistemi esterni che i percorsi interrogano.",
			Connector: "Sistema", Operations: "Operazioni", NoConnectors: "Nessun sistema è collegato.",
			Foot: "software libero, licenza EUPL 1.2",
		}
	}
	return pageWords{
		Title: "What is running", Skip: "Skip to the main content", Languages: "Language of the page",
		Tagline: "The city's integration bus", Lead: "The city's services that this bus connects, in the version that runs now.",
		Program: "Program", Since: "Running since", City: "Virtual city", NoCity: "off", OpenAPI: "OpenAPI document of the services",
		Routes: "Routes", RoutesCaption: "The routes in force, how they begin, and the digest of their version.",
		Route: "Route", What: "What it does", Begins: "How it begins", Version: "Version", NoRoutes: "No route is in force.",
		Connectors: "Connected systems", ConnectorsCaption: "The outside systems that routes call.",
		Connector: "System", Operations: "Operations", NoConnectors: "No system is connected.",
		Foot: "free software, EUPL 1.2 licence",
	}
}

type routeRow struct {
	Name, About, Digest string
	Label               int
	Begins              []string
}

func (g *Gateway) firstPage(page *template.Template, w http.ResponseWriter, r *http.Request) {
	lang := r.URL.Query().Get("lang")
	if lang != "it" && lang != "en" {
		if lang = language(r.Header); lang != "it" {
			lang = "en"
		}
	}
	city := g.table.Load().city
	about := *g.about.Load()
	rows := make([]routeRow, 0, len(city.Routes))
	for _, rt := range city.Routes {
		rows = append(rows, routeRow{rt.Name, rt.About, shortDigest(rt.Digest), rt.Label, begins(rt)})
	}
	var b bytes.Buffer
	err := page.Execute(&b, map[string]any{
		"Lang": lang, "W": wordsIn(lang), "About": about, "Routes": rows, "Connectors": city.Connectors,
		// Routes and connectors describe themselves in English (the files' language).
		"AboutLang": "en",
		"Since":     about.Started.UTC().Format(time.RFC3339),
		"SinceText": about.Started.UTC().Format("2006-01-02 15:04 UTC"),
		"Uptime":    g.cfg.Clock.Now().Sub(about.Started).Truncate(time.Second).String(),
	})
	if err != nil {
		g.cfg.Log.Error("rendering the first page", "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	secure(h)
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", lang)
	h.Set("Cache-Control", "no-cache")
	h.Set("Vary", "Accept-Language")
	_, _ = w.Write(b.Bytes()) // the client may be gone
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
