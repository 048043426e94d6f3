package gateway

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/schema"
)

// Audited is an act of the admin face as it is written into the audit: once before
// it is done, and once more with Of when it was done or refused.
type Audited struct {
	Who, Reason string
	Action      string // the pattern's fixed words: "POST /runs/{run}/replay" is runs.replay
	Target      string // the pattern's wildcards
	Person      string // the body's `subject`: a codice fiscale
	Detail      map[string]any
}

// handle serves a pattern. What is not asked with GET is an act: whoever adds one
// can't forget the audit, for it is written here.
func (a *admin) handle(pattern string, do http.HandlerFunc) {
	a.patterns = append(a.patterns, pattern)
	if strings.HasPrefix(pattern, "GET ") {
		a.mux.HandleFunc(pattern, do)
		return
	}
	a.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { a.audited(w, r, pattern, do) })
}

// kept are the fields of an act's body that the audit takes over: words and numbers
// that say what is done, nothing that a person may have written about another.
var kept = [...]string{"dry_run", "from", "happened", "path", "queue", "rate", "say", "to", "until"}

// audited writes who acts and why, does it, and writes how it went. What can't be
// written down is not done.
func (a *admin) audited(w http.ResponseWriter, r *http.Request, pattern string, do http.HandlerFunc) {
	x, body, err := auditedOf(r, pattern, http.MaxBytesReader(w, r.Body, maxAct))
	if err != nil {
		a.refuse(w, err)
		return
	}
	row, err := a.cfg.Audit(r.Context(), x)
	if err != nil {
		a.cfg.Log.Error("writing the audit: the act is refused", "action", x.Action, "error", err)
		a.refuse(w, fault.New(fault.Unavailable, "the audit can't be written, and without it nothing is done"))
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
	finished := false
	defer func() {
		x.Detail = map[string]any{"of": row, "status": seen.status}
		if !finished { // it panicked; the server answers
			x.Detail["status"] = http.StatusInternalServerError
		}
		x.Reason = ""
		// The caller may be gone; what was done was done.
		if _, err := a.cfg.Audit(context.WithoutCancel(r.Context()), x); err != nil {
			a.cfg.Log.Error("writing the audit: how an act went is not in it", "action", x.Action, "row", row, "error", err)
		}
	}()
	do(seen, r)
	finished = true
}

func auditedOf(r *http.Request, pattern string, in io.Reader) (x Audited, body []byte, err error) {
	if body, err = io.ReadAll(in); err != nil {
		return x, nil, fault.New(fault.Invalid, "the body can't be read, or is longer than %d bytes", maxAct)
	}
	v, err := schema.DecodeJSON(body)
	if err != nil {
		return x, nil, fault.New(fault.Invalid, "the body is not JSON: %v", err)
	}
	m, ok := v.(map[string]any)
	if !ok {
		return x, nil, fault.New(fault.Invalid, "the body must be an object with `as` and `reason`")
	}
	x.Who, _ = m["as"].(string)
	x.Reason, _ = m["reason"].(string)
	x.Person, _ = m["subject"].(string)
	if strings.TrimSpace(x.Who) == "" {
		return x, nil, &fault.Error{Kind: fault.Invalid, Pointer: "/as", Detail: "say who acts in `as`"}
	}
	x.Action, x.Target = actOf(r, pattern)
	x.Detail = map[string]any{}
	for _, k := range kept {
		switch v := m[k].(type) {
		case string, bool, int, int64, float64:
			x.Detail[k] = v
		}
	}
	return x, body, nil
}

// actOf says what a request does to what.
func actOf(r *http.Request, pattern string) (action, target string) {
	var words, to []string
	_, path, _ := strings.Cut(pattern, " ")
	for part := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			to = append(to, r.PathValue(strings.TrimRight(name, ".}")))
			continue
		}
		words = append(words, part)
	}
	return strings.Join(words, "."), strings.Join(slices.DeleteFunc(to, func(s string) bool { return s == "" }), "/")
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the writer below.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
