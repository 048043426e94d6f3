package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/document/archive"
	"github.com/dime-bus/dime/internal/document/certificate"
	"github.com/dime-bus/dime/internal/fault"
)

const (
	code   = "ABCDEFGHIJKLMNOPQRSTUVWXY2"
	holder = "RSSMRA77L18H501W"
	file   = "%PDF-1.3 the document"
)

// register is one document; err breaks it.
type register struct {
	withdrawn bool
	err       error
}

func (r *register) Entry(_ context.Context, c string) (archive.Entry, error) {
	if r.err != nil {
		return archive.Entry{}, r.err
	}
	if c != code {
		return archive.Entry{}, fault.New(fault.NotFound, "none")
	}
	return archive.Entry{Kind: "residence", Issued: time.Date(2026, 11, 23, 23, 30, 0, 0, time.UTC), Protocol: "VE-2026-1", Withdrawn: r.withdrawn, SHA256: sha256.Sum256([]byte(file))}, nil
}

func (r *register) Holder(_ context.Context, _, taxCode string) (archive.Holder, error) {
	switch taxCode {
	case holder:
		return archive.Holder{Rows: []certificate.Row{{Label: "Nome e cognome", Value: "Niccolò <D'Angiò>"}}}, nil
	case "again":
		return archive.Holder{}, &fault.Error{Kind: fault.Throttled, RetryAfter: time.Minute}
	}
	return archive.Holder{}, fault.New(fault.Denied, "other")
}

func (r *register) Get(_ context.Context, c string, may func(string) bool) ([]byte, error) {
	if c != code || !may(holder) {
		return nil, fault.New(fault.NotFound, "none")
	}
	return []byte(file), nil
}

func serve(t *testing.T, r Register) http.Handler {
	t.Helper()
	hs, err := Handlers(Config{
		Register: r, City: "Comune di Venezia", Zone: time.FixedZone("CET", 3600), Log: slog.New(slog.DiscardHandler),
		May: func(r *http.Request, holder string) bool { return r.Header.Get("Test-Owner") == holder },
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	for p, h := range hs {
		mux.Handle(p, h)
	}
	return mux
}

func do(t *testing.T, h http.Handler, r *http.Request) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if csp := w.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(w.Body.String(), "<script") {
		t.Errorf("%s %s: policy %q", r.Method, r.URL, csp)
	}
	if w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%s is cached", r.URL)
	}
	return w.Code, w.Body.String()
}

func TestPage(t *testing.T) {
	reg := &register{}
	h := serve(t, reg)
	for _, c := range []struct {
		path, accept string
		withdrawn    bool
		status       int
		want         []string
	}{
		{"/verifica/" + code, "", false, 200, []string{`lang="it"`, "valido", "Certificato di residenza", "24/11/2026", "Comune di Venezia", "VE-2026-1"}},
		{"/verifica/" + strings.ToLower(code), "en-GB,en;q=0.9", false, 200, []string{`lang="en"`, "valid", "Certificate of residence", "24 November 2026"}},
		{"/verifica/" + code, "ja, de;q=0.5", false, 200, []string{"gültig", "Wohnsitzbescheinigung", "24.11.2026"}},
		{"/verifica/" + code + "?lang=fr", "de", true, 200, []string{"retiré", "Certificat de résidence"}},
		{"/verifica/" + code, "", true, 200, []string{"ritirato", "dime-bad"}},
		{"/verifica/WRONG", "", false, 404, []string{"Documento non trovato"}},
	} {
		reg.withdrawn = c.withdrawn
		r := httptest.NewRequest(http.MethodGet, c.path, nil)
		r.Header.Set("Accept-Language", c.accept)
		status, body := do(t, h, r)
		if status != c.status {
			t.Errorf("%s: %d", c.path, status)
		}
		for _, want := range c.want {
			if !strings.Contains(body, want) {
				t.Errorf("%s (%s) lacks %q", c.path, c.accept, want)
			}
		}
		if strings.Contains(body, holder) || strings.Contains(body, "Niccol") {
			t.Errorf("%s shows personal data", c.path)
		}
	}
	reg.err = errors.New("disk")
	if status, body := do(t, h, httptest.NewRequest(http.MethodGet, "/verifica/"+code, nil)); status != 503 || strings.Contains(body, "disk") {
		t.Errorf("%d", status)
	}
}

func TestHolder(t *testing.T) {
	h := serve(t, &register{})
	for typed, c := range map[string]struct {
		status int
		want   string
	}{
		holder:  {200, "Niccolò &lt;D&#39;Angiò&gt;"},
		"WRONG": {422, "aria-invalid"},
		"":      {422, "aria-invalid"},
		"again": {429, "Troppi tentativi"},
	} {
		r := httptest.NewRequest(http.MethodPost, "/verifica/"+code, strings.NewReader(url.Values{"tax_code": {typed}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if status, body := do(t, h, r); status != c.status || !strings.Contains(body, c.want) {
			t.Errorf("%q: %d", typed, status)
		}
	}
}

func TestCompare(t *testing.T) {
	h := serve(t, &register{})
	for content, c := range map[string]struct {
		status int
		want   string
	}{
		file:                           {200, "è identico"},
		file + " ":                     {200, "non è il documento"},
		"":                             {400, "Non è arrivato"},
		strings.Repeat("x", maxUpload): {413, "Non è arrivato"},
	} {
		var b bytes.Buffer
		m := multipart.NewWriter(&b)
		part, err := m.CreateFormFile("file", "c.pdf")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(part, content); err != nil {
			t.Fatal(err)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodPost, "/verifica/"+code+"/confronto", &b)
		r.Header.Set("Content-Type", m.FormDataContentType())
		if status, body := do(t, h, r); status != c.status || !strings.Contains(body, c.want) {
			t.Errorf("%d bytes: %d", len(content), status)
		}
	}
	if status, _ := do(t, h, httptest.NewRequest(http.MethodPost, "/verifica/"+code+"/confronto", strings.NewReader("x"))); status != 400 {
		t.Errorf("no form: %d", status)
	}
}

func TestDocument(t *testing.T) {
	h := serve(t, &register{})
	for _, c := range []struct {
		path, owner string
		status      int
	}{
		{"/documents/" + code + ".pdf", holder, 200},
		{"/documents/" + code + ".pdf", "VRDLGU80A01H501X", 404},
		{"/documents/" + code + ".pdf", "", 404},
		{"/documents/" + code, holder, 404},
		{"/documents/OTHER.pdf", holder, 404},
	} {
		r := httptest.NewRequest(http.MethodGet, c.path, nil)
		r.Header.Set("Test-Owner", c.owner)
		if status, body := do(t, h, r); status != c.status || (status == 200) != strings.HasPrefix(body, "%PDF") {
			t.Errorf("%s for %q: %d", c.path, c.owner, status)
		}
	}
}

// TestPagesToLookAt writes the pages, with their style sheets beside them, where
// DIME_PAGES says.
func TestPagesToLookAt(t *testing.T) {
	dir := os.Getenv("DIME_PAGES")
	if dir == "" {
		t.Log("not written: DIME_PAGES names no folder")
		return
	}
	_, body := do(t, serve(t, &register{}), httptest.NewRequest(http.MethodGet, "/verifica/"+code, nil))
	if err := os.WriteFile(filepath.Join(dir, "verifica.html"), []byte(strings.ReplaceAll(body, "/static/", "static/")), 0o600); err != nil {
		t.Fatal(err)
	}
}
