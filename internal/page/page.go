// Package page is what every page that people see has in common: the frame around
// its main part in Bootstrap Italia, the style sheets, the security headers and
// the choice of the language. Pages run no script and load nothing from elsewhere.
package page

import (
	"bytes"
	"compress/gzip"
	"embed"
	"fmt"
	"html/template"
	"io"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strings"

	"golang.org/x/text/language"
)

//go:embed frame.html static/*.gz static/*.css static/*.woff2
var files embed.FS

// Frame is what stands around a page's main part. A page's data embeds it.
type Frame struct {
	Lang    string // it, en, de or fr: Language tells
	Title   string // of the window; the frame adds Name
	Name    string // whose page it is, in Italian
	Tagline string // which of the owner's services it is, in Lang
	Home    string // the address that Name leads to; "" leads nowhere
	Here    string // the page's own address for a GET; the other languages are reached by it
	Static  string // the address below which ServeStatic answers, without a slash at its end
}

// Other is the page in another of its languages.
type Other struct {
	Tag, Name, Address string
	Current            bool
}

// Languages are those of every page.
func (f Frame) Languages() []Other {
	all := []Other{{Tag: "it", Name: "Italiano"}, {Tag: "en", Name: "English"}, {Tag: "de", Name: "Deutsch"}, {Tag: "fr", Name: "Français"}}
	for i := range all {
		all[i].Address, all[i].Current = In(all[i].Tag, f.Here), all[i].Tag == f.Lang
	}
	return all
}

// In is an address of ours that is shown in lang.
func In(lang, address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	q := u.Query()
	q.Set("lang", lang)
	u.RawQuery = q.Encode()
	return u.String()
}

// Own are the frame's words.
func (f Frame) Own() struct{ Skip, Languages, Foot string } {
	w := struct{ Skip, Languages, Foot string }{"Vai al contenuto principale", "Lingua della pagina", "software libero, licenza EUPL 1.2"}
	switch f.Lang {
	case "en":
		w.Skip, w.Languages, w.Foot = "Skip to the main content", "Language of the page", "free software, EUPL 1.2 licence"
	case "de":
		w.Skip, w.Languages, w.Foot = "Zum Hauptinhalt springen", "Sprache der Seite", "freie Software, Lizenz EUPL 1.2"
	case "fr":
		w.Skip, w.Languages, w.Foot = "Aller au contenu principal", "Langue de la page", "logiciel libre, licence EUPL 1.2"
	}
	return w
}

// Language is the request's: what its parameter lang says, else what its browser
// prefers, else Italian.
func Language(r *http.Request) string {
	tags := []string{"it", "en", "de", "fr"}
	asked := r.URL.Query().Get("lang")
	for _, t := range tags {
		if t == asked {
			return t
		}
	}
	accepted, _, err := language.ParseAcceptLanguage(r.Header.Get("Accept-Language"))
	if err != nil || len(accepted) == 0 {
		return tags[0]
	}
	_, at, _ := language.NewMatcher([]language.Tag{language.Italian, language.English, language.German, language.French}).Match(accepted...)
	return tags[at]
}

// Parse makes a page of its main part, an HTML template whose data embeds Frame.
func Parse(main string) (*template.Template, error) {
	t, err := template.ParseFS(files, "frame.html")
	if err == nil {
		_, err = t.New("main").Parse(main)
	}
	if err != nil {
		return nil, fmt.Errorf("reading a page: %w", err)
	}
	return t, nil
}

// Render fills a page in.
func Render(t *template.Template, data any) ([]byte, error) {
	var b bytes.Buffer
	if err := t.Execute(&b, data); err != nil {
		return nil, fmt.Errorf("rendering a page: %w", err)
	}
	return b.Bytes(), nil
}

// Write answers with a page in lang. An error comes before anything is written.
func Write(w http.ResponseWriter, status int, t *template.Template, lang string, data any) error {
	b, err := Render(t, data)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", lang)
	h.Set("Vary", "Accept-Language")
	w.WriteHeader(status)
	_, _ = w.Write(b) // the client may be gone
	return nil
}

// Secure lets a page load its own style sheets and fonts and nothing else: no
// script, no frame. Bootstrap Italia carries its icons as data: URLs. A form may
// lead to the sources named, 'self' or an origin; with none there is no form.
func Secure(h http.Header, forms ...string) {
	to := "'none'"
	if len(forms) > 0 {
		to = strings.Join(forms, " ")
	}
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; font-src 'self' data:; img-src 'self' data:; base-uri 'none'; form-action "+to+"; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
}

// ServeStatic answers with a style sheet or font; where there is none of this name
// it answers nothing and says false.
func ServeStatic(w http.ResponseWriter, r *http.Request, name string) bool {
	h := w.Header()
	b, err := files.ReadFile("static/" + name)
	if err == nil && strings.HasSuffix(name, ".gz") {
		return false
	}
	if err != nil {
		packed, missing := files.ReadFile("static/" + name + ".gz")
		if missing != nil {
			return false
		}
		h.Set("Vary", "Accept-Encoding")
		if b = packed; strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			h.Set("Content-Encoding", "gzip")
		} else if b, err = unpack(packed); err != nil {
			return false
		}
	}
	kind := mime.TypeByExtension(path.Ext(name))
	if path.Ext(name) == ".woff2" { // not in every system's table
		kind = "font/woff2"
	}
	Secure(h)
	h.Set("Content-Type", kind)
	h.Set("Cache-Control", "public, max-age=3600")
	_, _ = w.Write(b) // the client may be gone
	return true
}

func unpack(b []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("unpacking a static file: %w", err)
	}
	return io.ReadAll(z)
}
