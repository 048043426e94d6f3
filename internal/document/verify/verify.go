// Package verify serves the public register of documents: the page to which the
// QR code of every document leads (D.Lgs. 82/2005, art. 23, par. 2-bis), and the
// document itself to its holder.
package verify

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/dime-bus/dime/internal/document/archive"
	"github.com/dime-bus/dime/internal/document/certificate"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/page"
)

// maxUpload bounds a file that somebody compares.
const maxUpload = 4 << 20

// Register is the archive as the pages see it.
type Register interface {
	Entry(ctx context.Context, code string) (archive.Entry, error)
	Holder(ctx context.Context, code, taxCode string) (archive.Holder, error)
	Get(ctx context.Context, code string, may func(holder string) bool) ([]byte, error)
}

// Config is what the handlers are made of.
type Config struct {
	Register Register
	City     string // the issuer's name
	Zone     *time.Location
	Log      *slog.Logger
	// May says whether the request's caller may have a document of this holder.
	May func(r *http.Request, holder string) bool
}

type pages struct {
	Config
	page *template.Template
}

//go:embed page.html
var source string

// Handlers are the public handlers by net/http pattern.
func Handlers(cfg Config) (map[string]http.Handler, error) {
	t, err := page.Parse(source)
	if err != nil {
		return nil, fmt.Errorf("making the verification page: %w", err)
	}
	if cfg.Zone == nil {
		cfg.Zone = time.UTC
	}
	p := &pages{cfg, t}
	return map[string]http.Handler{
		"GET /verifica/{code}":            http.HandlerFunc(p.show),
		"POST /verifica/{code}":           http.HandlerFunc(p.holder),
		"POST /verifica/{code}/confronto": http.HandlerFunc(p.compare),
		"GET /documents/{file}":           http.HandlerFunc(p.document),
	}, nil
}

// view is what the page shows.
type view struct {
	page.Frame
	Code           string
	Self, Compare  string // where the forms lead
	W              words
	Found, English bool
	Document       string // its kind
	Issued         string
	Day            string
	Protocol       string
	Withdrawn      bool
	SHA256         string
	Holder         *archive.Holder
	HolderError    string
	Same, Other    bool
	UploadError    string
	Problem        string
}

func (p *pages) view(r *http.Request) *view {
	lang, code := page.Language(r), archive.Code(r.PathValue("code"))
	w, here := wordsIn(lang), "/verifica/"+url.PathEscape(code)
	return &view{
		Frame: page.Frame{Lang: lang, Name: p.City, Tagline: w.Service, Home: page.In(lang, "/"), Here: here, Static: "/static"},
		Code:  code, Self: page.In(lang, here), Compare: page.In(lang, here+"/confronto"), W: w, English: lang == "en",
	}
}

// title is the window's: an error first, then the state.
func (v *view) title() string {
	state := v.W.Valid
	switch {
	case v.Problem != "":
		return v.W.Title
	case !v.Found:
		return v.W.Missing
	case v.Withdrawn:
		state = v.W.Withdrawn
	}
	if v.HolderError != "" || v.UploadError != "" {
		state = v.W.Error + " – " + state
	}
	return state + " – " + v.Document
}

// entry fills in the public entry, or answers and says false.
func (p *pages) entry(w http.ResponseWriter, r *http.Request, v *view) bool {
	e, err := p.Register.Entry(r.Context(), v.Code)
	if err != nil {
		if f := fault.From(err); f.Kind == fault.NotFound {
			p.write(w, http.StatusNotFound, v)
			return false
		}
		p.Log.ErrorContext(r.Context(), "verifying a document", "error", err)
		v.Problem = v.W.Broken
		p.write(w, http.StatusServiceUnavailable, v)
		return false
	}
	at := e.Issued.In(p.Zone)
	v.Found, v.Document, v.Withdrawn, v.Protocol = true, certificate.Title(e.Kind, v.Lang), e.Withdrawn, e.Protocol
	v.Issued, v.Day, v.SHA256 = day(v.Lang, at), at.Format(time.DateOnly), fmt.Sprintf("%x", e.SHA256)
	return true
}

func (p *pages) show(w http.ResponseWriter, r *http.Request) {
	if v := p.view(r); p.entry(w, r, v) {
		p.write(w, http.StatusOK, v)
	}
}

// holder answers the form in which somebody types the holder's codice fiscale.
func (p *pages) holder(w http.ResponseWriter, r *http.Request) {
	v := p.view(r)
	if !p.entry(w, r, v) {
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 4096)
	if err := r.ParseForm(); err != nil {
		v.HolderError = v.W.Wrong
		p.write(w, http.StatusBadRequest, v)
		return
	}
	h, err := p.Register.Holder(r.Context(), v.Code, r.PostForm.Get("tax_code"))
	switch f := fault.From(err); {
	case err == nil:
		v.Holder = &h
		p.write(w, http.StatusOK, v)
	case f.Kind == fault.Denied:
		v.HolderError = v.W.Wrong
		p.write(w, http.StatusUnprocessableEntity, v)
	case f.Kind == fault.Throttled:
		v.HolderError = v.W.TooMany
		w.Header().Set("Retry-After", strconv.Itoa(int(f.RetryAfter/time.Second)+1))
		p.write(w, http.StatusTooManyRequests, v)
	default:
		p.Log.ErrorContext(r.Context(), "showing a document's holder", "error", err)
		v.HolderError = v.W.Broken
		p.write(w, http.StatusServiceUnavailable, v)
	}
}

// compare tells whether an uploaded file is the document, byte for byte. The file
// is not kept.
func (p *pages) compare(w http.ResponseWriter, r *http.Request) {
	v := p.view(r)
	if !p.entry(w, r, v) {
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxUpload)
	sum, err := fileSum(r)
	if err != nil {
		v.UploadError = v.W.NoFile
		status := http.StatusBadRequest
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		p.write(w, status, v)
		return
	}
	v.Same = sum == v.SHA256
	v.Other = !v.Same
	p.write(w, http.StatusOK, v)
}

func fileSum(r *http.Request) (string, error) {
	parts, err := r.MultipartReader()
	if err != nil {
		return "", fmt.Errorf("reading an upload: %w", err)
	}
	for {
		part, err := parts.NextPart()
		if err != nil {
			return "", fmt.Errorf("reading an upload: %w", err)
		}
		if part.FormName() != "file" {
			continue
		}
		h := sha256.New()
		n, err := io.Copy(h, part)
		if err == nil && n == 0 {
			err = errors.New("no file")
		}
		return fmt.Sprintf("%x", h.Sum(nil)), err
	}
}

func secure(h http.Header) {
	page.Secure(h, "'self'")
	h.Set("X-Robots-Tag", "noindex")
	h.Set("Cache-Control", "no-store")
}

func (p *pages) write(w http.ResponseWriter, status int, v *view) {
	v.Title = v.title()
	secure(w.Header())
	if err := page.Write(w, status, p.page, v.Lang, v); err != nil {
		p.Log.Error("showing the verification page", "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
	}
}

// document gives the PDF to its holder; to others it does not exist.
func (p *pages) document(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	code, pdf := strings.CutSuffix(r.PathValue("file"), ".pdf")
	var b []byte
	err := error(fault.New(fault.NotFound, ""))
	if pdf {
		b, err = p.Register.Get(r.Context(), code, func(holder string) bool { return p.May(r, holder) })
	}
	if err != nil {
		status, title := http.StatusNotFound, "Not found"
		if fault.From(err).Kind != fault.NotFound {
			p.Log.ErrorContext(r.Context(), "giving out a document", "error", err)
			status, title = http.StatusServiceUnavailable, "The document can't be read now"
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"title":%q,"status":%d}`, title, status)
		return
	}
	w.Header().Set("Content-Type", "application/pdf")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.Header().Set("Content-Disposition", `inline; filename="certificato.pdf"`)
	_, _ = w.Write(b) // the client may be gone
}
