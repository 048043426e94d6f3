package gateway

import (
	"maps"
	"net/http"
	"strconv"
	"strings"

	"github.com/dime-bus/dime/internal/fault"
)

// answer writes one response, in one write.
type answer struct {
	w      http.ResponseWriter
	g      *Gateway
	table  *table
	lang   string
	route  string
	status int
	sent   bool
}

// write sends what the engine answered.
func (a *answer) write(e Answer) {
	h := a.w.Header()
	for k, v := range e.Header {
		h.Set(k, v)
	}
	if e.Run != "" {
		h["Dime-Run"] = []string{e.Run}
	}
	if e.Problem != nil {
		if e.Problem.Run == "" {
			e.Problem.Run = e.Run
		}
		if e.Problem.Say == "" {
			e.Problem.Say = e.Say
		}
		a.extended(e.Problem, e.Body)
		return
	}
	if e.Status >= 400 {
		a.extended(&Problem{Status: e.Status, Run: e.Run, Say: e.Say}, e.Body)
		return
	}
	if e.Status == 0 {
		e.Status = http.StatusOK
	}
	body := e.Body
	if e.Say != "" {
		body = a.said(e.Say, body)
	}
	if e.Status == http.StatusNoContent || e.Status == http.StatusNotModified || body == nil && e.Status != http.StatusOK {
		a.head(e.Status, "", 0)
		return
	}
	a.json(e.Status, "application/json", body)
}

// said adds the sentence of a key to an answer: `message` beside its fields.
func (a *answer) said(key string, body any) any {
	sentence := a.sentence(key)
	if sentence == "" {
		return body
	}
	a.w.Header()["Content-Language"] = []string{a.lang}
	if body == nil {
		return map[string]any{"say": key, "message": sentence}
	}
	m, ok := body.(map[string]any)
	if !ok || m["message"] != nil {
		return body
	}
	m = maps.Clone(m)
	m["message"] = sentence
	return m
}

// sentence is the approved text of a key in the caller's language, else in
// Italian, else "".
func (a *answer) sentence(key string) string {
	texts := a.table.city.Messages[key]
	if texts == nil {
		texts = edgeWords(key)
	}
	if s := texts[a.lang]; s != "" {
		return s
	}
	return texts["it"]
}

// problem sends an RFC 9457 document.
func (a *answer) problem(p *Problem) { a.extended(p, nil) }

// unauthorized sends a 401 with its challenge (RFC 6750 §3), or another problem
// as it is.
func (a *answer) unauthorized(p *Problem) {
	if p.Status == http.StatusUnauthorized {
		a.w.Header().Set("WWW-Authenticate", `Bearer realm="dime", error="invalid_token"`)
	}
	a.problem(p)
}

// extended sends a problem whose further members (RFC 9457 §3.2) come from the
// route's `with`.
func (a *answer) extended(p *Problem, body any) {
	m := map[string]any{}
	if extra, ok := body.(map[string]any); ok {
		maps.Copy(m, extra)
	} else if body != nil {
		m["body"] = body
	}
	if p.Status < 400 || p.Status > 599 {
		p.Status = http.StatusInternalServerError
	}
	kind := p.Type
	if kind == "" {
		kind = fault.ProblemType(kindOfStatus(p.Status))
	}
	m["type"] = kind
	m["status"] = p.Status
	m["title"] = p.Title
	if t := title(kind, p.Status, a.lang); t != "" {
		m["title"] = t
	} else if p.Title == "" {
		m["title"] = http.StatusText(p.Status)
	}
	if s := a.detail(kind, p); s != "" {
		m["detail"] = s
	}
	if p.Say != "" {
		m["say"] = p.Say
	}
	if p.Run != "" {
		m["run"] = p.Run
	}
	if p.URL != "" {
		m["run_url"] = p.URL
	}
	if len(p.Errors) > 0 {
		errs := make([]any, len(p.Errors))
		for i, e := range p.Errors {
			errs[i] = map[string]any{"pointer": e.Pointer, "message": e.Message}
		}
		m["errors"] = errs
	}
	h := a.w.Header()
	if p.Status == http.StatusRequestTimeout {
		h["Connection"] = []string{"close"} // RFC 9110 §15.5.9
	}
	if p.Status == http.StatusUnauthorized && h["Www-Authenticate"] == nil {
		h["Www-Authenticate"] = []string{`Bearer realm="dime"`}
	}
	if (p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests) && h["Retry-After"] == nil {
		h["Retry-After"] = []string{"5"}
	}
	a.json(p.Status, "application/problem+json", m)
}

// detail is what a problem says beyond its title: the sentence of its key, or the
// words of its kind, in the caller's language. What a connector or an operator
// wrote is in the run's timeline and not here; a type that is not ours brings its
// own words.
func (a *answer) detail(kind string, p *Problem) string {
	word, ours := strings.CutPrefix(kind, problemType)
	if ours && p.Say == "" && (word == "cancelled" || word == "failed") && a.table.city.Messages[p.Detail] != nil {
		p.Say = p.Detail // how the route ended the run is a key
	}
	s := ""
	if p.Say != "" {
		s = a.sentence(p.Say)
	}
	switch {
	case s != "":
	case !ours:
		return p.Detail
	case p.Type == "":
		return "" // the route answered by status alone
	default:
		if s = details(word, p.Status, p.URL != "")[a.lang]; s == "" {
			return ""
		}
	}
	a.w.Header()["Content-Language"] = []string{a.lang}
	return s
}

// kindOfStatus names a problem that a route answered by status alone.
func kindOfStatus(status int) string {
	switch status {
	case http.StatusBadRequest:
		return "request"
	case http.StatusUnauthorized:
		return "credentials"
	case http.StatusForbidden:
		return "forbidden"
	case http.StatusNotFound:
		return string(fault.NotFound)
	case http.StatusConflict:
		return string(fault.Conflict)
	case http.StatusUnprocessableEntity:
		return string(fault.Rejected)
	case http.StatusTooManyRequests:
		return string(fault.Throttled)
	case http.StatusServiceUnavailable:
		return string(fault.Unavailable)
	case http.StatusGatewayTimeout:
		return string(fault.Timeout)
	case http.StatusInternalServerError:
		return string(fault.Internal)
	}
	return "status-" + strconv.Itoa(status)
}

// json sends a value.
func (a *answer) json(status int, contentType string, v any) {
	buf := a.g.buffers.get()
	defer a.g.buffers.put(buf)
	b, err := appendJSON(*buf, v)
	*buf = b
	if err != nil {
		a.g.cfg.Log.Error("encoding an answer", "route", a.route, "error", err)
		status, contentType = http.StatusInternalServerError, "application/problem+json"
		b = append(b[:0], `{"status":500,"title":"Internal error","type":"urn:dime:problem:internal"}`...)
	}
	a.head(status, contentType, len(b))
	_, _ = a.w.Write(b) // a client that is gone is told nothing
}

func (a *answer) head(status int, contentType string, length int) {
	h := a.w.Header()
	// Assigned rather than Set: the names are canonical and this is every answer.
	h["X-Content-Type-Options"] = a.g.fixed.nosniff
	h["Cache-Control"] = a.g.fixed.noStore
	switch contentType {
	case "":
	case "application/json":
		h["Content-Type"] = a.g.fixed.json
	default:
		h["Content-Type"] = []string{contentType}
	}
	if length > 2000 { // below, net/http counts by itself
		h["Content-Length"] = []string{strconv.Itoa(length)}
	}
	a.status, a.sent = status, true
	a.w.WriteHeader(status)
}

// fixed are header values shared by all answers; nobody changes them.
type fixed struct{ nosniff, noStore, json []string }

func newFixed() fixed {
	return fixed{nosniff: []string{"nosniff"}, noStore: []string{"no-store"}, json: []string{"application/json"}}
}
