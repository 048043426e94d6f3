package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/identity"
)

// ServeHTTP implements http.Handler.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// ServeMux would answer these with a redirect or in plain text.
	if refused := unplain(r); refused != nil {
		secure(w.Header())
		a := answer{w: w, g: g, table: g.table.Load(), lang: language(r.Header)}
		a.problem(refused)
		return
	}
	if strings.HasPrefix(r.URL.Path, "/v1/") {
		g.api(w, r)
		return
	}
	g.other.ServeHTTP(w, r)
}

// unplain refuses a target that two servers may read as two paths: what is no
// path at all (`*`, CONNECT's authority: RFC 9112 §3.2), empty segments, and
// dots, encoded or not (RFC 3986 §5.2.4). Clients resolve those before they ask.
func unplain(r *http.Request) *Problem {
	path := r.URL.EscapedPath()
	if r.Method == http.MethodConnect || !strings.HasPrefix(path, "/") {
		return edgeProblem(http.StatusBadRequest, "request")
	}
	if strings.Contains(path, "//") {
		return edgeProblem(http.StatusNotFound, "not-found")
	}
	if !strings.Contains(path, "/.") && !strings.Contains(path, "/%2") {
		return nil
	}
	for seg := range strings.SplitSeq(path, "/") {
		if text, err := url.PathUnescape(seg); err != nil || text == "." || text == ".." {
			return edgeProblem(http.StatusNotFound, "not-found")
		}
	}
	return nil
}

// maxKey bounds an idempotency key (semantics 4.6).
const maxKey = 200

// api serves what lies under /v1.
func (g *Gateway) api(w http.ResponseWriter, r *http.Request) {
	a := answer{w: w, g: g, table: g.table.Load(), lang: language(r.Header)}
	began := g.cfg.Clock.Now()
	defer func() {
		if p := recover(); p != nil {
			if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(p)
			}
			// The value may quote the request; its type and the place are enough.
			g.cfg.Log.Error("handling a request panicked", "panic", fmt.Sprintf("%T", p), "route", a.route, "stack", string(debug.Stack()))
			if !a.sent {
				a.problem(edgeProblem(http.StatusInternalServerError, "internal"))
			}
		}
		if g.cfg.Observer != nil {
			g.cfg.Observer.Answered(a.route, a.status, g.cfg.Clock.Now().Sub(began))
		}
	}()

	path := r.URL.EscapedPath()
	if run, ok := strings.CutPrefix(path, "/v1/runs/"); ok {
		g.view(&a, r, run)
		return
	}
	e, values, allow := a.table.find(r.Method, path)
	if e == nil {
		g.missing(&a, allow)
		return
	}
	a.route = e.route.Name
	caller, client, problem := g.authenticate(r, a.lang)
	if problem != nil {
		a.unauthorized(problem)
		return
	}
	if client != nil && !client.Rights.MayRequest(a.route) {
		a.problem(edgeProblem(http.StatusForbidden, "client-rights"))
		return
	}
	req, problem := g.build(w, r, e, values)
	if problem != nil {
		a.problem(problem)
		return
	}
	rq := Request{Route: a.route, Req: req, Caller: caller, Trace: traceID(r.Header)}
	if prefer := r.Header["Prefer"]; prefer != nil {
		rq.Deadline = deadline(prefer, began)
	}
	if k := r.Header["Idempotency-Key"]; k != nil {
		// Refused rather than dropped: the client relies on it when it retries.
		if len(k) != 1 || k[0] == "" || len(k[0]) > maxKey {
			a.problem(fieldProblem("", "the header Idempotency-Key must be there once, with 1 to "+strconv.Itoa(maxKey)+" bytes"))
			return
		}
		// A stranger's key would be everybody's: only who is known has keys of his own.
		if !caller.Anonymous() {
			rq.Key = k[0]
		}
	}
	a.write(g.cfg.Engine.Request(r.Context(), rq))
}

func (g *Gateway) missing(a *answer, allow []string) {
	if allow == nil {
		a.problem(edgeProblem(http.StatusNotFound, "not-found"))
		return
	}
	a.w.Header().Set("Allow", strings.Join(allow, ", "))
	a.problem(edgeProblem(http.StatusMethodNotAllowed, "method"))
}

// view answers GET /v1/runs/{run}: 404 to everybody but the owner, so that an id
// tells nothing.
func (g *Gateway) view(a *answer, r *http.Request, run string) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		g.missing(a, []string{"GET", "HEAD"})
		return
	}
	caller, _, problem := g.authenticate(r, a.lang)
	if problem != nil {
		a.unauthorized(problem)
		return
	}
	if len(run) > 64 || strings.ContainsAny(run, "/%") {
		a.problem(edgeProblem(http.StatusNotFound, "not-found"))
		return
	}
	v, err := g.cfg.Engine.View(r.Context(), run, caller)
	switch {
	case err == nil:
	case fault.From(err).Kind == fault.NotFound:
		a.problem(edgeProblem(http.StatusNotFound, "not-found"))
		return
	default:
		g.cfg.Log.Error("showing a run to its owner", "error", err)
		a.problem(edgeProblem(http.StatusServiceUnavailable, "journal"))
		return
	}
	a.json(http.StatusOK, "application/json", map[string]any{
		"run": v.Run, "route": v.Route, "state": v.State, "result": v.Result,
	})
}

// authenticate says who calls. No Authorization is somebody unknown; a bad one
// is refused, never taken for unknown.
func (g *Gateway) authenticate(r *http.Request, lang string) (*identity.Caller, *identity.Client, *Problem) {
	auth := r.Header["Authorization"]
	if len(auth) == 0 {
		return anonymous(lang), nil, nil
	}
	scheme, token, _ := strings.Cut(auth[0], " ")
	if len(auth) > 1 || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return nil, nil, edgeProblem(http.StatusUnauthorized, "credentials")
	}
	if client, ok := g.cfg.Clients.Authenticate(token); ok {
		person := r.Header["Dime-Caller"]
		if len(person) == 0 {
			return withLanguage(client.Caller(), lang), client, nil
		}
		if len(person) > 1 {
			return nil, nil, edgeProblem(http.StatusUnauthorized, "credentials")
		}
		caller, problem := g.person(r.Context(), person[0], lang)
		return caller, client, problem
	}
	caller, problem := g.person(r.Context(), token, lang)
	return caller, nil, problem
}

// Caller is the person or program whose credential r carries, for handlers of
// Config.Extra; nil without a good one.
func (g *Gateway) Caller(r *http.Request) *identity.Caller {
	if c, _, problem := g.authenticate(r, ""); problem == nil && !c.Anonymous() {
		return c
	}
	return nil
}

func (g *Gateway) person(ctx context.Context, token, lang string) (*identity.Caller, *Problem) {
	if g.cfg.Tokens == nil {
		return nil, edgeProblem(http.StatusUnauthorized, "credentials")
	}
	caller, err := g.cfg.Tokens.Verify(ctx, token)
	if err != nil {
		f := fault.From(err)
		if f.Kind == fault.Unavailable {
			g.cfg.Log.Warn("reading the keys of caller tokens", "error", err)
			return nil, edgeProblem(http.StatusServiceUnavailable, "keys")
		}
		p := edgeProblem(http.StatusUnauthorized, "credentials")
		p.Detail = f.Detail
		return nil, p
	}
	return withLanguage(caller, lang), nil
}

// withLanguage gives a caller who has said no language the request's. The
// verified caller is shared, so it is copied.
func withLanguage(c *identity.Caller, lang string) *identity.Caller {
	if c.Language != "" || lang == "" {
		return c
	}
	copied := *c
	copied.Language = lang
	return &copied
}

func anonymous(lang string) *identity.Caller {
	return &identity.Caller{Kind: "citizen", Channel: "web", Language: lang}
}

// traceID is the trace-id of traceparent (W3C Trace Context §3.2), or "".
func traceID(h http.Header) string {
	v := h["Traceparent"]
	if len(v) != 1 || len(v[0]) < 55 || v[0][2] != '-' || v[0][35] != '-' {
		return ""
	}
	id := v[0][3:35]
	zero := true
	for i := range len(id) {
		c := id[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return ""
		}
		zero = zero && c == '0'
	}
	if zero {
		return ""
	}
	return id
}

// deadline is Prefer: wait=N (RFC 7240 §4.3), in seconds.
func deadline(prefer []string, now time.Time) time.Time {
	for _, line := range prefer {
		for p := range strings.SplitSeq(line, ",") {
			if n, ok := strings.CutPrefix(strings.TrimSpace(p), "wait="); ok {
				if s, err := strconv.Atoi(n); err == nil && s > 0 && s <= 3600 {
					return now.Add(time.Duration(s) * time.Second)
				}
			}
		}
	}
	return time.Time{}
}

// language picks the caller's (RFC 9110 §12.5.4) among those that the city
// speaks; Italian where nothing fits.
func language(h http.Header) string {
	lines := h["Accept-Language"]
	best, bestQ := "it", 0.0
	for _, line := range lines {
		if len(line) > 512 {
			continue
		}
		for part := range strings.SplitSeq(line, ",") {
			tag, params, _ := strings.Cut(part, ";")
			primary, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(tag)), "-")
			q := 1.0
			if v, ok := strings.CutPrefix(strings.TrimSpace(params), "q="); ok {
				f, err := strconv.ParseFloat(v, 64)
				if err != nil || f < 0 || f > 1 {
					continue
				}
				q = f
			}
			if q > bestQ && spoken(primary) {
				best, bestQ = primary, q
			}
		}
	}
	return best
}

func spoken(l string) bool { return l == "it" || l == "en" || l == "de" || l == "fr" }
