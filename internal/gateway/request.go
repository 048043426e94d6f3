package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/dime-bus/dime/internal/schema"
)

// buffers for bodies on their way in and out. What grew beyond a usual body is
// dropped, so that one large request does not hold its memory.
type buffers struct{ pool sync.Pool }

const keptBuffer = 64 << 10

func (b *buffers) get() *[]byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return p
	}
	p := make([]byte, 0, 4<<10)
	return &p
}

func (b *buffers) put(p *[]byte) {
	if cap(*p) <= keptBuffer {
		*p = (*p)[:0]
		b.pool.Put(p)
	}
}

// build makes the route's `req` from path, query, listed headers and body.
func (g *Gateway) build(w http.ResponseWriter, r *http.Request, e *endpoint, values []string) (any, *Problem) {
	body, problem := g.body(w, r, e)
	if problem != nil {
		return nil, problem
	}
	if e.build.bare && r.URL.RawQuery == "" {
		if body == nil && e.build.typ != nil && e.build.typ.Kind == schema.Object {
			return map[string]any{}, nil
		}
		return e.build.req.Coerce(body), nil
	}
	into, ok := body.(map[string]any)
	if !ok {
		if body != nil {
			return nil, fieldProblem("", "the body must be a JSON object, for values of the path, query or headers are added to it")
		}
		into = make(map[string]any, len(values)+4)
	}
	for i, name := range e.build.params {
		if problem := e.build.put(into, name, values[i], "path"); problem != nil {
			return nil, problem
		}
	}
	for _, h := range e.build.headers {
		got := r.Header.Values(h.name)
		if len(got) == 0 {
			continue
		}
		if problem := e.build.put(into, h.field, strings.Join(got, ", "), "header "+h.name); problem != nil {
			return nil, problem
		}
	}
	if r.URL.RawQuery != "" {
		if problem := e.build.query(into, r.URL.RawQuery); problem != nil {
			return nil, problem
		}
	}
	return e.build.req.Coerce(into), nil
}

func (b *builder) field(name string) *schema.Type {
	if b.typ == nil {
		return nil
	}
	if f := b.typ.Fields[name]; f != nil {
		return f.Type
	}
	return nil
}

func (b *builder) put(into map[string]any, name, text, where string) *Problem {
	if _, twice := into[name]; twice {
		return fieldProblem(pointer(name), "it is given in the "+where+" and elsewhere; give it once")
	}
	if !utf8.ValidString(text) {
		return fieldProblem(pointer(name), "it is not UTF-8")
	}
	into[name] = typed(b.field(name), text)
	return nil
}

func (b *builder) query(into map[string]any, raw string) *Problem {
	if strings.Count(raw, "&") >= 256 {
		return fieldProblem("", "the query has more than 256 parameters")
	}
	q, err := url.ParseQuery(raw)
	if err != nil {
		return fieldProblem("", "the query can't be read: percent-encode it, and separate parameters by &")
	}
	for name, texts := range q {
		t := b.field(name)
		if t != nil && t.Kind == schema.Array {
			list := make([]any, len(texts))
			for i, s := range texts {
				if !utf8.ValidString(s) {
					return fieldProblem(pointer(name), "it is not UTF-8")
				}
				list[i] = typed(t.Items, s)
			}
			if _, twice := into[name]; twice {
				return fieldProblem(pointer(name), "it is given in the query and elsewhere; give it once")
			}
			into[name] = list
			continue
		}
		if len(texts) > 1 {
			return fieldProblem(pointer(name), "it is given more than once in the query")
		}
		if problem := b.put(into, name, texts[0], "query"); problem != nil {
			return problem
		}
	}
	return nil
}

// typed reads text as the schema's type says. What does not fit stays a string:
// validation then names the field and what is expected of it.
func typed(t *schema.Type, text string) any {
	if t == nil {
		return text
	}
	switch t.Kind {
	case schema.Int:
		if plainNumber(text, false) {
			if n, err := strconv.Atoi(text); err == nil {
				return n
			}
		}
	case schema.Number:
		if plainNumber(text, true) {
			if f, err := strconv.ParseFloat(text, 64); err == nil && !math.IsInf(f, 0) {
				return f
			}
		}
	case schema.Bool:
		switch text {
		case "true":
			return true
		case "false":
			return false
		}
	}
	return text
}

// plainNumber holds for what JSON calls a number (RFC 8259 §6), so that `0x10`,
// `1_000` and `+3` are no numbers in a query either.
func plainNumber(s string, fraction bool) bool {
	s = strings.TrimPrefix(s, "-")
	digits := func() int {
		n := 0
		for n < len(s) && s[n] >= '0' && s[n] <= '9' {
			n++
		}
		return n
	}
	n := digits()
	if n == 0 || n > 1 && s[0] == '0' {
		return false
	}
	s = s[n:]
	if !fraction {
		return s == ""
	}
	if strings.HasPrefix(s, ".") {
		s = s[1:]
		if n = digits(); n == 0 {
			return false
		}
		s = s[n:]
	}
	if s != "" && (s[0] == 'e' || s[0] == 'E') {
		s = s[1:]
		if s != "" && (s[0] == '+' || s[0] == '-') {
			s = s[1:]
		}
		if n = digits(); n == 0 {
			return false
		}
		s = s[n:]
	}
	return s == ""
}

func pointer(name string) string {
	if strings.ContainsAny(name, "~/") {
		name = strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
	}
	return "/" + name
}

func fieldProblem(pointer, message string) *Problem {
	p := edgeProblem(http.StatusBadRequest, "request")
	p.Errors = []FieldError{{pointer, message}}
	return p
}

// body reads and decodes the request's body; nil if there is none.
func (g *Gateway) body(w http.ResponseWriter, r *http.Request, e *endpoint) (any, *Problem) {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return nil, nil
	}
	if ce := r.Header["Content-Encoding"]; len(ce) > 0 && !strings.EqualFold(ce[0], "identity") {
		return nil, edgeProblem(http.StatusUnsupportedMediaType, "encoding")
	}
	ct := r.Header["Content-Type"]
	if len(ct) != 1 {
		return nil, edgeProblem(http.StatusUnsupportedMediaType, "media-type")
	}
	if ct[0] != "application/json" {
		kind, params, err := mime.ParseMediaType(ct[0])
		switch {
		case err != nil:
			return nil, edgeProblem(http.StatusUnsupportedMediaType, "media-type")
		case kind == "multipart/form-data":
			return g.multipart(w, r, e, params["boundary"])
		case kind != "application/json" && !strings.HasSuffix(kind, "+json"):
			return nil, edgeProblem(http.StatusUnsupportedMediaType, "media-type")
		case params["charset"] != "" && !strings.EqualFold(params["charset"], "utf-8"):
			return nil, edgeProblem(http.StatusUnsupportedMediaType, "media-type")
		}
	}
	buf := g.buffers.get()
	defer g.buffers.put(buf)
	b, problem := g.read(w, r, *buf, g.cfg.Limits.Body)
	*buf = b
	if problem != nil {
		return nil, problem
	}
	if len(bytes.TrimLeft(b, " \t\r\n")) == 0 {
		return nil, nil
	}
	v, err := schema.DecodeJSON(b)
	if err != nil {
		p := edgeProblem(http.StatusBadRequest, "json")
		p.Errors = []FieldError{{"", err.Error()}}
		var at *schema.SyntaxError
		if errors.As(err, &at) {
			p.Errors[0].Pointer = at.Pointer
		}
		return nil, p
	}
	return v, nil
}

// read takes at most limit bytes of the body.
func (g *Gateway) read(w http.ResponseWriter, r *http.Request, b []byte, limit int64) ([]byte, *Problem) {
	if r.ContentLength > limit {
		w.Header().Set("Connection", "close") // what was announced is not read
		return b, tooLarge(limit)
	}
	if n := r.ContentLength; n > 0 {
		if int64(cap(b)) < n {
			b = make([]byte, 0, n)
		}
		b = b[:n]
		if _, err := io.ReadFull(r.Body, b); err != nil {
			return b[:0], unreadable(err)
		}
		return b, nil
	}
	body := http.MaxBytesReader(w, r.Body, limit)
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := body.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if errors.Is(err, io.EOF) {
			return b, nil
		}
		if err != nil {
			return b, unreadable(err)
		}
	}
}

func tooLarge(limit int64) *Problem {
	p := edgeProblem(http.StatusRequestEntityTooLarge, "too-large")
	p.Errors = []FieldError{{"", fmt.Sprintf("at most %d bytes are accepted", limit)}}
	return p
}

func unreadable(err error) *Problem {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return tooLarge(large.Limit)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return edgeProblem(http.StatusRequestTimeout, "slow")
	}
	return edgeProblem(http.StatusBadRequest, "cut-off")
}

const (
	maxParts    = 64
	maxPartText = 64 << 10
	maxFileName = 200
)

// file of a multipart body, before it is stored.
type file struct {
	bytes []byte
	ref   map[string]any
}

// multipart puts the text fields of a form into req and its files into the blob
// store (claim check): req gets `{blob, name, type, size}` in a file's place.
// Nothing is stored until the rest of the request fits the route's schema.
func (g *Gateway) multipart(w http.ResponseWriter, r *http.Request, e *endpoint, boundary string) (any, *Problem) {
	if g.cfg.Blobs == nil || boundary == "" {
		return nil, edgeProblem(http.StatusUnsupportedMediaType, "media-type")
	}
	limit := g.cfg.Limits.Upload
	if r.ContentLength > limit {
		w.Header().Set("Connection", "close")
		return nil, tooLarge(limit)
	}
	form := multipart.NewReader(http.MaxBytesReader(w, r.Body, limit), boundary)
	req := map[string]any{}
	var files []file
	for n := 0; ; n++ {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, formError(err)
		}
		if n == maxParts {
			return nil, fieldProblem("", fmt.Sprintf("the form has more than %d parts", maxParts))
		}
		name := part.FormName()
		if name == "" || !utf8.ValidString(name) {
			return nil, fieldProblem("", "a part of the form has no name")
		}
		b, err := io.ReadAll(part)
		if err != nil {
			return nil, formError(err)
		}
		var v any
		t := e.build.field(name)
		item := t
		if t != nil && t.Kind == schema.Array {
			item = t.Items
		}
		if _, isFile := dispositionFile(part); isFile {
			f := newFile(part.FileName(), b)
			files = append(files, f)
			v = f.ref
		} else {
			if len(b) > maxPartText || !utf8.Valid(b) {
				return nil, fieldProblem(pointer(name), fmt.Sprintf("it is not a text of at most %d bytes in UTF-8", maxPartText))
			}
			v = formValue(item, string(b))
		}
		if t != item {
			list, _ := req[name].([]any)
			req[name] = append(list, v)
			continue
		}
		if _, twice := req[name]; twice {
			return nil, fieldProblem(pointer(name), "the form gives it twice")
		}
		req[name] = v
	}
	return g.store(r.Context(), e, req, files)
}

// formValue reads a text part; an object or list is written as JSON.
func formValue(t *schema.Type, text string) any {
	if t != nil && (t.Kind == schema.Object || t.Kind == schema.Array) {
		if v, err := schema.DecodeJSON([]byte(text)); err == nil {
			return v
		}
	}
	return typed(t, text)
}

func dispositionFile(p *multipart.Part) (string, bool) {
	_, params, err := mime.ParseMediaType(p.Header.Get("Content-Disposition"))
	if err != nil {
		return "", false
	}
	name, ok := params["filename"]
	return name, ok
}

func formError(err error) *Problem {
	var large *http.MaxBytesError
	if errors.As(err, &large) || errors.Is(err, os.ErrDeadlineExceeded) {
		return unreadable(err)
	}
	return fieldProblem("", "the form can't be read as multipart/form-data (RFC 7578)")
}

// pending stands for a digest while the request is judged.
const pending = "sha256:0000000000000000000000000000000000000000000000000000000000000000"

// newFile describes a file. Its type is what its bytes say, never what the
// sender says; its name is for people only, so no path and no control character
// stays in it.
func newFile(name string, b []byte) file {
	name = path.Base(strings.ReplaceAll(name, `\`, "/"))
	name = strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) || c == '"' || c == '<' || c == '>' {
			return -1
		}
		return c
	}, strings.ToValidUTF8(name, ""))
	if runes := []rune(name); len(runes) > maxFileName {
		name = string(runes[:maxFileName])
	}
	if name == "" || name == "." || name == ".." || name == "/" {
		name = "file"
	}
	return file{b, map[string]any{"blob": pending, "name": name, "type": http.DetectContentType(b), "size": len(b)}}
}

func (g *Gateway) store(ctx context.Context, e *endpoint, req map[string]any, files []file) (any, *Problem) {
	if len(files) == 0 {
		return req, nil
	}
	if e.build.req == nil {
		return nil, fieldProblem("", "this route takes no files")
	}
	// With values of the path or headers still to come, what is missing can't be
	// told from what is wrong; the engine judges the whole anyway.
	if e.build.bare {
		if vs := e.build.req.Validate(e.build.req.Coerce(req)); len(vs) > 0 {
			p := edgeProblem(http.StatusBadRequest, "request")
			for _, v := range vs {
				p.Errors = append(p.Errors, FieldError{v.Pointer, v.Message})
			}
			return nil, p
		}
	}
	for _, f := range files {
		digest, err := g.cfg.Blobs.PutBlob(ctx, f.bytes)
		if err != nil {
			g.cfg.Log.Error("storing an attachment", "error", err, "size", len(f.bytes))
			return nil, edgeProblem(http.StatusServiceUnavailable, "store")
		}
		if !strings.HasPrefix(digest, "sha256:") {
			digest = "sha256:" + digest
		}
		f.ref["blob"] = digest
	}
	return req, nil
}
