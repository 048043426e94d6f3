package page

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

func TestLanguage(t *testing.T) {
	for _, c := range []struct{ target, accept, want string }{
		{"/", "", "it"}, {"/", "de-AT, en;q=0.5", "de"}, {"/", "ja", "it"}, {"/", "ja, fr;q=0.1", "fr"}, {"/", ";;;", "it"},
		{"/?lang=fr", "de", "fr"}, {"/?lang=%3Cscript%3E", "en", "en"}, {"/?lang=", "en-GB", "en"},
	} {
		r := httptest.NewRequest(http.MethodGet, c.target, nil)
		r.Header.Set("Accept-Language", c.accept)
		if got := Language(r); got != c.want {
			t.Errorf("%s %q: %s, want %s", c.target, c.accept, got, c.want)
		}
	}
}

func TestFrame(t *testing.T) {
	p, err := Parse(`<h1>{{.Title}}</h1>`)
	if err != nil {
		t.Fatal(err)
	}
	for lang, skip := range map[string]string{"it": "Vai al", "en": "Skip to", "de": "Zum Hauptinhalt", "fr": "Aller au"} {
		w := httptest.NewRecorder()
		f := Frame{Lang: lang, Title: "<b>", Name: "Comune", Tagline: "t", Home: "/", Here: "/a?esito=ok", Static: "/static"}
		if err := Write(w, 404, p, lang, f); err != nil || w.Code != 404 || w.Header().Get("Content-Language") != lang {
			t.Fatal(err, w.Code)
		}
		for _, want := range []string{`<html lang="` + lang + `">`, skip, "<title>&lt;b&gt; – Comune</title>", "<h1>&lt;b&gt;</h1>", `href="/a?esito=ok&amp;lang=de" lang="de"`, `href="/static/dime.css"`} {
			if !strings.Contains(w.Body.String(), want) {
				t.Errorf("%s lacks %s", lang, want)
			}
		}
		if n := strings.Count(w.Body.String(), "aria-current"); n != 1 {
			t.Errorf("%d languages are the current one", n)
		}
	}
	if err := Write(httptest.NewRecorder(), 200, p, "it", 5); err == nil {
		t.Error("a page without a frame was written")
	}
}

func TestSecure(t *testing.T) {
	for want, forms := range map[string][]string{"form-action 'none';": nil, "form-action 'self' https://a.example;": {"'self'", "https://a.example"}} {
		h := http.Header{}
		Secure(h, forms...)
		if csp := h.Get("Content-Security-Policy"); !strings.Contains(csp, want) || !strings.HasPrefix(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("policy %q, want %q", csp, want)
		}
	}
}

func TestServeStatic(t *testing.T) {
	get := func(name, encoding string) (*httptest.ResponseRecorder, bool) {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Accept-Encoding", encoding)
		return w, ServeStatic(w, r, name)
	}
	for name, want := range map[string]string{"dime.css": "text/css; charset=utf-8", "bootstrap-italia.min.css": "text/css; charset=utf-8", "titillium-web-700.woff2": "font/woff2"} {
		if w, ok := get(name, ""); !ok || w.Header().Get("Content-Type") != want {
			t.Errorf("%s: %v %s", name, ok, w.Header())
		}
	}
	for _, name := range []string{"none.css", "bootstrap-italia.min.css.gz", "README.md", "../frame.html", ""} {
		if w, ok := get(name, ""); ok || w.Body.Len() > 0 {
			t.Errorf("%q is served", name)
		}
	}
	plain, _ := get("bootstrap-italia.min.css", "")
	packed, _ := get("bootstrap-italia.min.css", "br, gzip")
	z, err := gzip.NewReader(packed.Body)
	if err != nil || packed.Header().Get("Content-Encoding") != "gzip" {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(z); err != nil || !bytes.Equal(plain.Body.Bytes(), b) {
		t.Error("packed and plain differ", err)
	}
	readme, err := os.ReadFile("static/README.md")
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(plain.Body.Bytes()); !strings.Contains(string(readme), hex.EncodeToString(sum[:])) {
		t.Error("the style sheet is not the one that static/README.md names")
	}
}
