package openapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/schema"
)

// Emulator plays the system that a document describes, over its true protocol.
// With a state file beside the document (NAME.state.yaml) it keeps rows and
// follows rules; without one it answers values that fit the schemas, always the
// same for the same request.
type Emulator struct {
	c       *Connector
	cfg     connectors.EmulatorConfig
	state   *stateFile // nil without one
	routes  []pattern
	foundBy map[string][]string // safe operation -> effects it tells of

	mu   sync.Mutex
	mem  *memory // opened by the first request
	fail error   // why it could not be opened
	past []line  // of an emulator before this one, where there is no file
}

type pattern struct {
	re   *regexp.Regexp
	vars int
	call *caller
}

// standing are the faults that every operation has besides its declared ones and
// the kinds of the fault table.
func standing() []string {
	return []string{"timeout", "unavailable", "throttled", "hang", "reset", "contract", "late-answer", "server-error"}
}

// Emulator makes the far side.
func (c *Connector) Emulator(cfg connectors.EmulatorConfig) (connectors.Emulator, error) {
	if cfg.Clock == nil {
		cfg.Clock = clock.Real{}
	}
	if cfg.Zone == nil {
		cfg.Zone = time.UTC
		if rome, err := time.LoadLocation("Europe/Rome"); err == nil {
			cfg.Zone = rome
		}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.On == nil {
		cfg.On = func(string) bool { return false }
	}
	e := &Emulator{c: c, cfg: cfg, foundBy: map[string][]string{}}
	for _, call := range c.ops {
		expr := "^"
		for _, s := range call.segs {
			if s.param == nil {
				expr += regexp.QuoteMeta(s.literal)
			} else {
				expr += "([^/]+)"
			}
		}
		re, err := regexp.Compile(expr + "/?$")
		if err != nil {
			return nil, fmt.Errorf("matching the path %s: %w", call.path, err)
		}
		e.routes = append(e.routes, pattern{re, re.NumSubexp(), call})
		if f := c.byName[call.name].FoundBy; f != "" {
			e.foundBy[f] = append(e.foundBy[f], call.name)
		}
	}
	slices.SortStableFunc(e.routes, func(a, b pattern) int { return a.vars - b.vars })
	e.state = c.state
	return e, nil
}

// Faults lists the names that On may be asked for, without the connector's.
func (e *Emulator) Faults() []string {
	names := []string{"no-dedupe"}
	for _, op := range e.c.desc.Operations {
		seen := map[string]bool{}
		add := func(f string) {
			if !seen[f] {
				seen[f] = true
				names = append(names, op.Name+"."+f)
			}
		}
		for _, f := range op.Faults {
			add(f.Name)
		}
		for _, f := range standing() {
			add(f)
		}
		for _, r := range fault.Table() {
			if r.Nameable {
				add(string(r.Kind))
			}
		}
	}
	return names
}

// Effects is the ledger so far.
func (e *Emulator) Effects() ([]connectors.LedgerRow, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.open(); err != nil {
		return nil, err
	}
	return slices.Clone(e.mem.effects), nil
}

// Close ends the memory's file; what still comes is refused.
func (e *Emulator) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.mem
	e.mem, e.fail = nil, errClosed
	if m == nil {
		return nil
	}
	e.past = m.kept
	return m.close()
}

var errClosed = errors.New("the emulator was closed")

// Resume makes e, which has not been used yet, go on from what a closed emulator
// without a folder of its own had in memory.
func (e *Emulator) Resume(old connectors.Emulator) {
	closed, ok := old.(*Emulator)
	if !ok {
		return
	}
	closed.mu.Lock()
	defer closed.mu.Unlock()
	e.past = closed.past
}

// open brings the memory back; e.mu is held.
func (e *Emulator) open() error {
	if e.mem != nil || e.fail != nil {
		return e.fail
	}
	file := ""
	if e.cfg.Data != "" {
		file = filepath.Join(e.cfg.Data, e.c.desc.Name+".jsonl")
	}
	m, err := openMemory(file)
	if err != nil {
		e.fail = fmt.Errorf("opening the memory of %s: %w", e.c.desc.Name, err)
		return e.fail
	}
	if e.state != nil {
		if err := e.seedRows(m); err != nil {
			e.fail = fmt.Errorf("seeding %s: %w", e.c.desc.Name, err)
			return e.fail
		}
	}
	m.journal = append(m.journal, e.past...)
	m.replay()
	for _, f := range m.journal {
		if f.Effect {
			m.effects = append(m.effects, e.row(f))
		}
	}
	if m.file == nil {
		m.kept = m.journal
	}
	m.journal = nil
	e.mem = m
	return nil
}

func (e *Emulator) row(l line) connectors.LedgerRow {
	return connectors.LedgerRow{Connector: e.c.desc.Name, Operation: l.Op, Subject: l.Subject, Key: l.Key, At: l.At}
}

// reply is an answer in the making.
type reply struct {
	status int
	body   any
	header map[string]string
}

func problem(status int, code, detail string) reply {
	b := map[string]any{"type": "about:blank", "title": http.StatusText(status), "status": status}
	if code != "" {
		b["code"] = code
	}
	if detail != "" {
		b["detail"] = detail
	}
	return reply{status: status, body: b}
}

func (e *Emulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 8<<20))
	if err != nil {
		e.write(w, nil, problem(http.StatusRequestEntityTooLarge, "", "the body is longer than 8 MiB"))
		return
	}
	call, vars, known := e.match(r)
	a := connectors.Arrival{Connector: e.c.desc.Name, Method: r.Method, Path: r.URL.RequestURI(), Body: string(body), At: e.cfg.Clock.Now().UTC()}
	var args map[string]any
	var wrong *reply
	var idem string // the Idempotency-Key alone: an X-Request-ID is for the logs and deduplicates nothing
	if call != nil {
		a.Operation = call.name
		args, idem, wrong = call.parse(r, vars, body)
		a.Key, a.Subject = idem, subject(call, args)
	}
	if a.Key == "" {
		a.Key = r.Header.Get("X-Request-Id")
	}
	if e.cfg.Record != nil {
		if err := e.cfg.Record(a); err != nil {
			e.cfg.Log.Error("recording an arrival", "connector", e.c.desc.Name, "error", err)
			e.write(w, call, problem(http.StatusServiceUnavailable, "", "the request could not be recorded"))
			return
		}
	}
	if e.cfg.Latency != nil {
		if d := e.cfg.Latency(); d > 0 && clock.Sleep(r.Context(), e.cfg.Clock, d) != nil {
			return
		}
	}
	switch {
	case call == nil && known:
		e.write(w, nil, problem(http.StatusMethodNotAllowed, "", "the path has no such method"))
		return
	case call == nil:
		e.write(w, nil, problem(http.StatusNotFound, "", "the document has no such path"))
		return
	}
	if e.disturb(w, r, call) {
		return
	}
	if wrong != nil {
		e.write(w, call, *wrong)
		return
	}
	answer := e.carryOut(call, args, a, idem)
	switch {
	case answer.status >= 300 && !call.answer.redirect:
	case e.on(call, "late-answer"):
		drop(w)
		return
	case e.on(call, "contract"):
		answer.body = map[string]any{"broken": true}
		if call.out == nil {
			answer.status = http.StatusFound
		}
	}
	e.write(w, call, answer)
}

func (e *Emulator) on(call *caller, f string) bool { return e.cfg.On(call.name + "." + f) }

// match finds the operation; known says that only the method is wrong.
func (e *Emulator) match(r *http.Request) (call *caller, vars []string, known bool) {
	p := r.URL.EscapedPath()
	for _, rt := range e.routes {
		m := rt.re.FindStringSubmatch(p)
		if m == nil {
			continue
		}
		if rt.call.method == r.Method {
			return rt.call, m[1:], true
		}
		known = true
	}
	return nil, nil, known
}

// disturb plays the faults that come before any effect, and says that it has
// dealt with the request.
func (e *Emulator) disturb(w http.ResponseWriter, r *http.Request, call *caller) bool {
	for _, f := range call.faults {
		if e.on(call, f.Name) {
			status := f.Status
			if status == 0 {
				status = connectors.StatusOf(f.Kind)
			}
			code := f.Code
			if code == "" {
				code = f.Name
			}
			e.write(w, call, problem(status, code, "switched on by the operator of the city"))
			return true
		}
	}
	switch {
	case e.on(call, "timeout"):
		<-r.Context().Done() // until the caller gives up
	case e.on(call, "hang"):
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "1000")
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write([]byte(`{`))
		if fl, ok := w.(http.Flusher); ok {
			fl.Flush()
		}
		<-r.Context().Done()
	case e.on(call, "reset"):
		drop(w)
	case e.on(call, "server-error"):
		e.write(w, call, problem(http.StatusInternalServerError, "", "switched on by the operator of the city"))
	default:
		for _, row := range fault.Table() {
			if k := row.Kind; row.Nameable && k != fault.Timeout && k != fault.Contract && e.on(call, string(k)) {
				a := problem(connectors.StatusOf(k), string(k), "switched on by the operator of the city")
				if k == fault.Unavailable || k == fault.Throttled {
					a.header = map[string]string{"Retry-After": "1"}
				}
				e.write(w, call, a)
				return true
			}
		}
		return false
	}
	return true
}

// drop cuts the connection without an answer.
func drop(w http.ResponseWriter) {
	h, ok := w.(http.Hijacker)
	if !ok {
		panic(http.ErrAbortHandler) // net/http's own way to cut an HTTP/2 stream
	}
	conn, _, err := h.Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// carryOut does what was asked, once for a key where the operation is keyed.
func (e *Emulator) carryOut(call *caller, args map[string]any, a connectors.Arrival, idem string) reply {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.open(); err != nil {
		e.cfg.Log.Error("opening the emulator", "error", err)
		return problem(http.StatusServiceUnavailable, "", "the emulator's memory can't be opened")
	}
	op := e.c.byName[call.name]
	effect := op.Effect != connectors.Safe
	if effect && op.Keyed && idem != "" && !e.cfg.On("no-dedupe") {
		if old, ok := e.mem.done[call.name+"\x00"+idem]; ok {
			return reply{status: old.Status, body: old.Answer, header: map[string]string{"Idempotent-Replayed": "true"}}
		}
	}
	l := line{Op: call.name, Key: a.Key, Idem: idem, Subject: a.Subject, At: a.At, Effect: effect}
	var r reply
	var err error
	if e.state != nil && e.state.rules[call.name] != nil {
		r, l.Changes, err = e.state.rules[call.name].run(e, call, args, idem)
	} else {
		r = e.stateless(call, args, idem)
		l.Args = args
	}
	if err != nil {
		e.mem.revert(l.Changes)
		e.cfg.Log.Error("playing an operation", "connector", e.c.desc.Name, "operation", call.name, "error", err)
		return problem(http.StatusInternalServerError, "", "the emulator's rule failed: "+err.Error())
	}
	if r.status >= 400 {
		e.mem.revert(l.Changes)
		return r
	}
	if !effect && len(l.Changes) == 0 {
		return r
	}
	l.Status, l.Answer = r.status, r.body
	if err := e.mem.write(l); err != nil {
		e.mem.revert(l.Changes)
		e.cfg.Log.Error("writing the emulator's memory", "connector", e.c.desc.Name, "error", err)
		return problem(http.StatusServiceUnavailable, "", "the emulator's memory can't be written")
	}
	if effect {
		e.mem.effects = append(e.mem.effects, e.row(l))
	}
	return r
}

func (e *Emulator) write(w http.ResponseWriter, call *caller, r reply) {
	for k, v := range r.header {
		w.Header().Set(k, v)
	}
	if r.body == nil || r.status == http.StatusNoContent {
		w.WriteHeader(r.status)
		return
	}
	if call != nil && r.status < 400 {
		switch v := r.body.(type) {
		case string:
			if call.answer.enc == textBody {
				w.Header().Set("Content-Type", "text/plain; charset=utf-8")
				w.WriteHeader(r.status)
				_, _ = io.WriteString(w, v)
				return
			}
		case map[string]any:
			if loc, ok := v["location"].(string); ok && call.answer.redirect {
				w.Header().Set("Location", loc)
				w.WriteHeader(r.status)
				return
			}
			if call.answer.enc == binaryBody {
				w.Header().Set("Content-Type", "application/octet-stream")
				w.WriteHeader(r.status)
				_, _ = io.WriteString(w, "dime")
				return
			}
		}
	}
	b, err := schema.Canonical(r.body)
	if err != nil {
		b, _ = json.Marshal(map[string]any{"title": "the answer can't be written", "status": 500})
		r.status = http.StatusInternalServerError
	}
	ct := "application/json"
	if r.status >= 400 {
		ct = "application/problem+json"
	}
	w.Header().Set("Content-Type", ct)
	w.WriteHeader(r.status)
	_, _ = w.Write(b)
}

// subject is whom or what a request is about: the tax code, else what the path names.
func subject(call *caller, args map[string]any) string {
	if s, ok := args["tax_code"].(string); ok {
		return s
	}
	for _, s := range call.segs {
		if s.param != nil {
			return joined(args[s.param.arg], ",")
		}
	}
	return ""
}

// vars is what rules and seeds see by themselves.
func (e *Emulator) vars(args map[string]any) map[string]any {
	now := e.cfg.Clock.Now()
	if args == nil {
		args = map[string]any{}
	}
	local := now.In(e.cfg.Zone)
	return map[string]any{
		"args": args, "now": now.UTC().Format(time.RFC3339), "today": local.Format(time.DateOnly), "year": local.Format("2006"),
		"yesterday": local.AddDate(0, 0, -1).Format(time.DateOnly),
	}
}
