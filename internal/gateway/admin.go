package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/schema"
)

// AdminConfig is what the admin face is made of.
type AdminConfig struct {
	Runs    Runs
	City    func() City                     // the city in force
	Ready   func(ctx context.Context) error // nil: ready; the error says what is missing
	Metrics http.Handler
	Log     *slog.Logger
	// Open serves other names than loopback's in the Host header. Where the
	// listener is on loopback it must be false: a page in the operator's browser
	// could otherwise reach it by a name of its own (DNS rebinding).
	Open bool
	// Withdraw marks an issued document as withdrawn; nil where none are issued.
	Withdraw func(ctx context.Context, code, reason, by string) (any, error)
	// Unmatched lists the events about money that no run took, behind one of them;
	// Settle lets go of one. All three or none.
	Unmatched func(ctx context.Context, after int64) (any, error)
	Settle    func(ctx context.Context, event int64, reason, by string) (any, error)
	// Settled lists those that were let go of, with who and why.
	Settled func(ctx context.Context, after int64) (any, error)
	// Tasks are further acts and questions of people, by net/http pattern.
	Tasks map[string]AdminTask
	// Audit writes down who does what, before it is done and after; see audited.
	Audit func(ctx context.Context, a Audited) (row int64, err error)
	// Status is further facts for /status; may be nil.
	Status func() map[string]any
}

// NewAdmin makes the admin face:
//
//	GET  /livez /readyz /metrics /status
//	GET  /runs?route=&state=&before=&limit=      {"runs": [Run]}
//	GET  /runs/{run}                             Detail
//	POST /runs/{run}/cancel|replay|skip|resolve|settle  Act -> {"run", "act", "dry_run", "report"}
//	POST /documents/{code}/withdraw              {"as", "reason"} -> what is kept of it
//	GET  /events/unmatched?after=                {"events": [Event]}, oldest first
//	GET  /events/settled?after=                  {"events": [Settled]}, oldest event first
//	POST /events/{event}/settle                  {"as", "reason"} -> the event
//	GET  /routes /connectors /connectors/{name}
//
// It has no accounts: whoever reaches it may act, under the name in `as`, which
// the journal keeps. It listens on loopback unless configuration says otherwise.
func NewAdmin(cfg AdminConfig) (http.Handler, error) {
	if cfg.Runs == nil || cfg.City == nil || cfg.Ready == nil || cfg.Log == nil || cfg.Audit == nil {
		return nil, errors.New("making the admin face: Runs, City, Ready, Log and Audit are needed")
	}
	a := newAdmin(cfg)
	sites := http.NewCrossOriginProtection()
	sites.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		a.problem(w, http.StatusForbidden, Problem{Title: "Another site asks", Detail: "a page of another site sent this request; the admin face does nothing for it"})
	}))
	return a.guard(sites.Handler(a.mux)), nil
}

type admin struct {
	cfg      AdminConfig
	mux      *http.ServeMux
	patterns []string // all that were given to handle
}

// newAdmin lays out the face. Every pattern goes through handle.
func newAdmin(cfg AdminConfig) *admin {
	a := &admin{cfg: cfg, mux: http.NewServeMux()}
	a.handle("GET /livez", func(w http.ResponseWriter, _ *http.Request) { a.send(w, 200, map[string]any{"status": "live"}) })
	a.handle("GET /readyz", a.ready)
	if cfg.Metrics != nil {
		a.handle("GET /metrics", cfg.Metrics.ServeHTTP)
	}
	a.handle("GET /status", a.status)
	a.handle("GET /runs", a.list)
	a.handle("GET /runs/{run}", a.show)
	for _, word := range []string{"cancel", "replay", "skip", "resolve", "settle"} {
		a.handle("POST /runs/{run}/"+word, func(w http.ResponseWriter, r *http.Request) { a.act(w, r, word) })
	}
	a.mux.HandleFunc("POST /runs/{run}/{act}", func(w http.ResponseWriter, r *http.Request) {
		a.refuse(w, fault.New(fault.NotFound, "there is no act %q; there are cancel, replay, skip, resolve, settle", r.PathValue("act")))
	})
	if cfg.Withdraw != nil {
		a.handle("POST /documents/{code}/withdraw", a.withdraw)
	}
	if cfg.Unmatched != nil && cfg.Settle != nil && cfg.Settled != nil {
		a.handle("GET /events/unmatched", func(w http.ResponseWriter, r *http.Request) { a.events(w, r, cfg.Unmatched) })
		a.handle("GET /events/settled", func(w http.ResponseWriter, r *http.Request) { a.events(w, r, cfg.Settled) })
		a.handle("POST /events/{event}/settle", a.settle)
	}
	for pattern, do := range cfg.Tasks {
		a.handle(pattern, func(w http.ResponseWriter, r *http.Request) { a.task(w, r, do) })
	}
	a.handle("GET /routes", a.routes)
	a.handle("GET /connectors", func(w http.ResponseWriter, _ *http.Request) {
		list := []Connector{}
		for _, c := range cfg.City().Connectors {
			c.Operations = slices.Clone(c.Operations)
			for i := range c.Operations {
				op := &c.Operations[i]
				op.In, op.Out, op.Faults = nil, nil, nil
			}
			list = append(list, c)
		}
		a.send(w, 200, list)
	})
	a.handle("GET /connectors/{name}", a.connector)
	a.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		a.refuse(w, fault.New(fault.NotFound, "%s %s is nothing here; there are /livez /readyz /metrics /status /runs /routes /connectors", r.Method, r.URL.Path))
	})
	return a
}

func (a *admin) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secure(w.Header())
		w.Header().Set("Cache-Control", "no-store")
		if !a.cfg.Open && !localName(r.Host) {
			a.problem(w, http.StatusMisdirectedRequest, Problem{Title: "Wrong host", Detail: "the admin face answers to localhost and loopback addresses only"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

func localName(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && addr.IsLoopback()
}

func (a *admin) ready(w http.ResponseWriter, r *http.Request) {
	if err := a.cfg.Ready(r.Context()); err != nil {
		a.problem(w, http.StatusServiceUnavailable, Problem{Title: "Not ready", Detail: err.Error()})
		return
	}
	a.send(w, 200, map[string]any{"status": "ready"})
}

func (a *admin) status(w http.ResponseWriter, _ *http.Request) {
	out := map[string]any{}
	if a.cfg.Status != nil {
		out = a.cfg.Status()
	}
	out["routes"] = routeList(a.cfg.City())
	a.send(w, 200, out)
}

type routeInfo struct {
	Route   string   `json:"route"`
	Version int      `json:"version"`
	Digest  string   `json:"digest"`
	About   string   `json:"about"`
	Owner   string   `json:"owner,omitempty"`
	File    string   `json:"file,omitempty"`
	From    []string `json:"from"`
	Safe    bool     `json:"safe"`
}

func routeList(c City) []routeInfo {
	out := make([]routeInfo, 0, len(c.Routes))
	for _, r := range c.Routes {
		out = append(out, routeInfo{r.Name, r.Label, r.Digest, r.About, r.Owner, r.File, begins(r), r.Safe})
	}
	return out
}

func (a *admin) routes(w http.ResponseWriter, _ *http.Request) {
	a.send(w, 200, routeList(a.cfg.City()))
}

func (a *admin) connector(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	var names []string
	for _, c := range a.cfg.City().Connectors {
		if c.Name == name {
			a.send(w, 200, c)
			return
		}
		names = append(names, c.Name)
	}
	a.refuse(w, fault.New(fault.NotFound, "there is no connector %q%s", name, schema.DidYouMean(name, names)))
}

func (a *admin) list(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	f := Filter{Route: q.Get("route"), Before: q.Get("before"), Limit: 100}
	for key := range q {
		switch key {
		case "route", "state", "before", "limit":
		default:
			a.refuse(w, fault.New(fault.Invalid, "there is no filter %q; there are route, state, before, limit", key))
			return
		}
	}
	for _, s := range q["state"] {
		for word := range strings.SplitSeq(s, ",") {
			switch word {
			case "queued", "running", "waiting", "undoing", "parked", "done", "cancelled", "failed", "settled":
				f.States = append(f.States, word)
			default:
				a.refuse(w, fault.New(fault.Invalid, "%q is not a state; they are queued, running, waiting, undoing, parked, done, cancelled, failed, settled", word))
				return
			}
		}
	}
	if s := q.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > 1000 {
			a.refuse(w, fault.New(fault.Invalid, "limit is %q, not 1 to 1000", s))
			return
		}
		f.Limit = n
	}
	runs, err := a.cfg.Runs.List(r.Context(), f)
	if err != nil {
		a.refuse(w, err)
		return
	}
	if runs == nil {
		runs = []Run{}
	}
	a.send(w, 200, map[string]any{"runs": runs})
}

func (a *admin) show(w http.ResponseWriter, r *http.Request) {
	d, err := a.cfg.Runs.Show(r.Context(), r.PathValue("run"))
	if err != nil {
		a.refuse(w, err)
		return
	}
	if d.Lines == nil {
		d.Lines = []Line{}
	}
	a.send(w, 200, d)
}

// maxAct bounds the body of an act; a result that a person states may be large.
const maxAct = 1 << 20

func (a *admin) act(w http.ResponseWriter, r *http.Request, word string) {
	run := r.PathValue("run")
	do := map[string]func(context.Context, string, Act) (any, error){
		"cancel": a.cfg.Runs.Cancel, "replay": a.cfg.Runs.Replay, "skip": a.cfg.Runs.Skip, "resolve": a.cfg.Runs.Resolve, "settle": a.cfg.Runs.Settle,
	}[word]
	act, err := readAct(http.MaxBytesReader(w, r.Body, maxAct))
	if err == nil {
		err = act.check(word)
	}
	if err != nil {
		a.refuse(w, err)
		return
	}
	report, err := do(r.Context(), run, act)
	if err != nil {
		a.refuse(w, err)
		return
	}
	a.cfg.Log.Info("a person acted on a run", "act", word, "run", run, "as", act.As, "dry_run", act.DryRun)
	a.send(w, 200, map[string]any{"run": run, "act": word, "dry_run": act.DryRun, "report": report})
}

// withdraw takes the same body as an act on a run.
func (a *admin) withdraw(w http.ResponseWriter, r *http.Request) {
	act, err := readAct(http.MaxBytesReader(w, r.Body, maxAct))
	if err == nil {
		err = act.check("withdraw")
	}
	if err == nil && act.DryRun {
		err = &fault.Error{Kind: fault.Invalid, Pointer: "/dry_run", Detail: "a withdrawal has no dry run"}
	}
	var kept any
	if err == nil {
		kept, err = a.cfg.Withdraw(r.Context(), r.PathValue("code"), act.Reason, act.As)
	}
	if err != nil {
		a.refuse(w, err)
		return
	}
	a.cfg.Log.Info("a person withdrew a document", "as", act.As)
	a.send(w, 200, kept)
}

// readAct decodes strictly: a misspelt `dry_run` must not act.
func readAct(body io.Reader) (Act, error) {
	var act Act
	b, err := io.ReadAll(body)
	if err != nil {
		return act, fault.New(fault.Invalid, "the body can't be read, or is longer than %d bytes", maxAct)
	}
	v, err := schema.DecodeJSON(b)
	if err != nil {
		return act, fault.New(fault.Invalid, "the body is not JSON: %v", err)
	}
	m, ok := v.(map[string]any)
	if !ok {
		return act, fault.New(fault.Invalid, "the body must be an object with `as` and `reason`")
	}
	result := m["result"]
	delete(m, "result")
	known := []string{"as", "reason", "dry_run", "from", "path", "happened", "result"}
	for k, x := range m {
		var fits bool
		switch k {
		case "as":
			act.As, fits = x.(string)
		case "reason":
			act.Reason, fits = x.(string)
		case "from":
			act.From, fits = x.(string)
		case "path":
			act.Path, fits = x.(string)
		case "dry_run":
			act.DryRun, fits = x.(bool)
		case "happened":
			var yes bool
			yes, fits = x.(bool)
			act.Happened = &yes
		default:
			return act, &fault.Error{Kind: fault.Invalid, Pointer: pointer(k), Detail: fmt.Sprintf("there is no field %q%s", k, schema.DidYouMean(k, known))}
		}
		if !fits {
			return act, &fault.Error{Kind: fault.Invalid, Pointer: pointer(k), Detail: fmt.Sprintf("%s has the wrong type", k)}
		}
	}
	act.Result = result
	return act, nil
}

func (act Act) check(word string) error {
	switch {
	case strings.TrimSpace(act.As) == "":
		return &fault.Error{Kind: fault.Invalid, Pointer: "/as", Detail: "say who acts in `as`"}
	case strings.TrimSpace(act.Reason) == "":
		return &fault.Error{Kind: fault.Invalid, Pointer: "/reason", Detail: "say why in `reason`; it is kept with the run"}
	case len(act.As) > 200 || len(act.Reason) > 2000:
		return fault.New(fault.Invalid, "`as` may have 200 bytes and `reason` 2000")
	case word != "resolve" && (act.Path != "" || act.Happened != nil || act.Result != nil):
		return fault.New(fault.Invalid, "`path`, `happened` and `result` belong to resolve")
	case word != "replay" && act.From != "":
		return &fault.Error{Kind: fault.Invalid, Pointer: "/from", Detail: "`from` belongs to replay"}
	}
	return nil
}

func (a *admin) send(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		a.cfg.Log.Error("encoding an admin answer", "error", err)
		status, b = http.StatusInternalServerError, []byte(`{"type":"about:blank","title":"Internal error","status":500}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // the client may be gone
}

// refuse answers an error. A person's mistake is 4xx here, whatever the kind
// means behind a route.
func (a *admin) refuse(w http.ResponseWriter, err error) {
	f := fault.From(err)
	status := f.Kind.Row().Status
	switch f.Kind {
	case fault.Invalid, fault.Contract:
		status = http.StatusBadRequest
	case fault.Denied:
		status = http.StatusForbidden
	}
	p := Problem{Type: fault.ProblemType(string(f.Kind)), Title: f.Kind.Row().Title, Detail: f.Detail}
	if f.Kind == fault.Invalid {
		p.Title = "The request is not valid"
	}
	if f.Pointer != "" {
		p.Errors = []FieldError{{f.Pointer, f.Detail}}
	}
	if status >= 500 {
		a.cfg.Log.Error("answering on the admin face", "error", err)
	}
	a.problem(w, status, p)
}

func (a *admin) problem(w http.ResponseWriter, status int, p Problem) {
	m := map[string]any{"type": "about:blank", "title": p.Title, "status": status}
	if p.Type != "" {
		m["type"] = p.Type
	}
	if p.Detail != "" {
		m["detail"] = p.Detail
	}
	if len(p.Errors) > 0 {
		m["errors"] = []any{map[string]any{"pointer": p.Errors[0].Pointer, "message": p.Errors[0].Message}}
	}
	b, _ := appendJSON(nil, m) // these kinds always encode
	w.Header().Set("Content-Type", "application/problem+json")
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "5")
	}
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // the client may be gone
}
