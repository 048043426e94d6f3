package anagrafe

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/citizens"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/fault"
)

// FarSide is what the emulator knows of the municipality, as PDND's and ANPR's
// back offices know it before the first call.
type FarSide struct {
	Name       string // the connector's
	Operations []*connectors.Operation
	// Purposes names the e-service (C030, C020 ...) of each purposeId; nil takes any
	// UUID for any e-service.
	Purposes map[string]string
	// Municipality is the ISTAT code that messages to service 6001 come from; ""
	// takes any of six digits.
	Municipality string
}

// Emulator plays PDND's authorization server, ANPR's gateway with its e-services,
// and the SOAP service 6001. It verifies as the real ones must, with the standard
// library's cryptography and its own reading: it shares no code with the
// connector, so that a mistake of one is not repeated by the other.
type Emulator struct {
	far FarSide
	cfg connectors.EmulatorConfig
	mux *http.ServeMux

	people func() *citizens.Register
	found  string // the operation that tells whether a certificate was issued

	mu   sync.Mutex // also one request at once of the e-services, whose order counts
	mem  *emMemory
	fail error
	past []emLine
}

// NewEmulator makes the far side.
func NewEmulator(far FarSide, cfg connectors.EmulatorConfig) *Emulator {
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
	if cfg.URL == nil {
		cfg.URL = func() string { return "" }
	}
	e := &Emulator{far: far, cfg: cfg, mux: http.NewServeMux(), people: cfg.Citizens}
	if e.people == nil {
		e.people = sync.OnceValue(func() *citizens.Register { return citizens.New(cfg.Seed) })
	}
	for _, op := range far.Operations {
		if op.Name == "issue_certificate" {
			e.found = op.FoundBy
		}
	}
	e.mux.HandleFunc("POST /back-office/keys", e.serve("", e.registerKey))
	e.mux.HandleFunc("DELETE /back-office/keys/{kid}", e.serve("", e.removeKey))
	e.mux.HandleFunc("POST /back-office/certificates", e.serve("", e.registerCertificate))
	e.mux.HandleFunc("POST /pdnd/token.oauth2", e.serve("pdnd", e.token))
	e.mux.HandleFunc("GET /pdnd/.well-known/jwks.json", e.serve("", e.jwks))
	e.mux.HandleFunc("POST /soap/5005", e.serve("change_residence", e.soap5005))
	e.mux.HandleFunc("POST /soap/6001", e.serve("issue_certificate", e.soap6001))
	for code, s := range emServices() {
		h := e.serve(s.op, func(c *emCall) emAnswer { return e.gateway(c, code) })
		e.mux.HandleFunc("POST "+emGate+code+"-"+s.name+"/v1/anpr-service-e002", h)
		e.mux.HandleFunc("GET "+emGate+code+"-"+s.name+"/v1/status", e.serve("", func(*emCall) emAnswer {
			return emAnswer{status: http.StatusOK, kind: "application/problem+json", body: map[string]any{"title": "OK", "status": 200}}
		}))
	}
	e.mux.HandleFunc("/", e.serve("", func(c *emCall) emAnswer {
		return emGovway(http.StatusNotFound, "UndefinedOperation", "the gateway has no such address")
	}))
	return e
}

// emGate is where ANPR's e-services lie; the audience of their tokens lacks -PDND.
const emGate = "/MinInternoPortaANPR-PDND/"

// emCall is one request as it came in.
type emCall struct {
	op   string
	r    *http.Request
	body []byte
}

// emAnswer is an answer in the making; body is JSON unless raw is given.
type emAnswer struct {
	status int
	body   any
	raw    []byte
	kind   string // media type
	header map[string]string
}

func (e *Emulator) ServeHTTP(w http.ResponseWriter, r *http.Request) { e.mux.ServeHTTP(w, r) }

// serve reads, records and disturbs a request before f answers it.
func (e *Emulator) serve(op string, f func(*emCall) emAnswer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			e.write(w, emGovway(http.StatusRequestEntityTooLarge, "RequestSizeExceeded", "the body is longer than 1 MiB"))
			return
		}
		op := op
		if op == "issue_certificate" && emLookUp.Match(body) {
			op = e.found
		}
		a := connectors.Arrival{Connector: e.far.Name, Operation: op, Method: r.Method, Path: r.URL.RequestURI(), Key: r.Header.Get("X-Request-Id"), Subject: emSubject(body), Body: string(body), At: e.cfg.Clock.Now().UTC()}
		if e.cfg.Record != nil {
			if err := e.cfg.Record(a); err != nil {
				e.cfg.Log.Error("recording an arrival", "connector", e.far.Name, "error", err)
				e.write(w, emGovway(http.StatusServiceUnavailable, "APIUnavailable", "the request could not be recorded"))
				return
			}
		}
		if e.cfg.Latency != nil {
			if d := e.cfg.Latency(); d > 0 && clock.Sleep(r.Context(), e.cfg.Clock, d) != nil {
				return
			}
		}
		if op != "" && e.disturb(w, r, op) {
			return
		}
		if err := e.ready(); err != nil {
			e.write(w, emGovway(http.StatusServiceUnavailable, "APIUnavailable", "the far side's memory can't be opened"))
			return
		}
		answer := f(&emCall{op: op, r: r, body: body})
		switch {
		case op == "" || answer.status >= 400:
		case e.cfg.On(op + ".late-answer"):
			emDrop(w)
			return
		case e.cfg.On(op + ".contract"):
			answer = emAnswer{status: answer.status, body: map[string]any{"broken": true}}
		}
		e.write(w, answer)
	}
}

func (e *Emulator) write(w http.ResponseWriter, a emAnswer) {
	h := w.Header()
	// ModI RAC_REST_NAME_010 and RAC_ROBUSTEZZA_001: nothing is cached, and every
	// answer says what is left of the quota.
	h.Set("Cache-Control", "no-store")
	h.Set("X-RateLimit-Limit", "1000")
	h.Set("X-RateLimit-Remaining", "999")
	h.Set("X-RateLimit-Reset", "60")
	for k, v := range a.header {
		h.Set(k, v)
	}
	b := a.raw
	if b == nil && a.body != nil {
		var err error
		if b, err = json.Marshal(a.body); err != nil {
			e.cfg.Log.Error("writing an answer", "connector", e.far.Name, "error", err)
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		h.Set("Content-Type", "application/json")
		if a.status >= 400 {
			h.Set("Content-Type", "application/problem+json")
		}
	}
	if a.kind != "" {
		h.Set("Content-Type", a.kind)
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(b)
}

// emStanding are the faults of everything that is asked of the far side.
func emStanding() []string {
	return []string{"timeout", "unavailable", "throttled", "hang", "reset", "contract", "late-answer", "server-error"}
}

// Faults implements connectors.Emulator. Those of c030 and pdnd disturb what
// person, residence and family ask first.
func (e *Emulator) Faults() []string {
	names := []string{"no-dedupe"}
	add := func(op string, declared []connectors.Fault) {
		seen := map[string]bool{}
		one := func(f string) {
			if !seen[f] {
				seen[f] = true
				names = append(names, op+"."+f)
			}
		}
		for _, f := range declared {
			one(f.Name)
		}
		for _, f := range emStanding() {
			one(f)
		}
		for _, r := range fault.Table() {
			if r.Nameable {
				one(string(r.Kind))
			}
		}
	}
	for _, op := range e.far.Operations {
		add(op.Name, op.Faults)
	}
	for _, op := range []string{"pdnd", "c030"} {
		add(op, nil)
	}
	return names
}

// disturb plays the faults that come before any effect.
func (e *Emulator) disturb(w http.ResponseWriter, r *http.Request, op string) bool {
	const told = "switched on by the operator of the city"
	on := func(f string) bool { return e.cfg.On(op + "." + f) }
	switch {
	case on("timeout"):
		<-r.Context().Done()
		return true
	case on("hang"):
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "1000")
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write([]byte(`{`))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		return true
	case on("reset"):
		emDrop(w)
		return true
	case on("server-error"):
		e.write(w, emGovway(http.StatusInternalServerError, "APIInternalError", told))
		return true
	}
	for _, o := range e.far.Operations {
		if o.Name != op {
			continue
		}
		for _, f := range o.Faults {
			if on(f.Name) {
				e.write(w, e.named(op, f, told))
				return true
			}
		}
	}
	for _, row := range fault.Table() {
		if k := row.Kind; row.Nameable && k != fault.Timeout && k != fault.Contract && on(string(k)) {
			e.write(w, e.named(op, connectors.Fault{Name: string(k), Kind: k}, told))
			return true
		}
	}
	return false
}

// named answers as the far side does where it refuses for a reason that has a
// name at the connector.
func (e *Emulator) named(op string, f connectors.Fault, told string) emAnswer {
	if op == "change_residence" {
		if a := emMoveNamed(f, told, e.cfg.Clock.Now()); a != nil {
			return *a
		}
	}
	if op == "issue_certificate" && (f.Kind == fault.NotFound || f.Kind == fault.Rejected || f.Kind == fault.Conflict) {
		code := "EC002"
		if f.Kind == fault.NotFound {
			code = "EC001"
		}
		return emSOAPKO(emHead{}, e.cfg.Clock.Now(), "0", emFault{code, told})
	}
	if f.Kind == fault.NotFound && op != "pdnd" {
		return emKO(http.StatusNotFound, "0", emError{Code: "EN122", Text: told, Object: "criteriRicerca"})
	}
	a := emGovway(connectors.StatusOf(f.Kind), emTitle(f.Kind), told)
	if f.Kind == fault.Unavailable || f.Kind == fault.Throttled {
		a.header["Retry-After"] = "1"
	}
	return a
}

func emTitle(k fault.Kind) string {
	switch k {
	case fault.Unavailable:
		return "APIUnavailable"
	case fault.Throttled:
		return "LimitExceeded"
	case fault.Denied:
		return "AuthorizationDeny"
	}
	return "BadRequest"
}

// emDrop cuts the connection without an answer.
func emDrop(w http.ResponseWriter) {
	h, ok := w.(http.Hijacker)
	if !ok {
		panic(http.ErrAbortHandler)
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

var errEmClosed = errors.New("the emulator was closed")

// ready opens the memory on first use.
func (e *Emulator) ready() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mem != nil || e.fail != nil {
		return e.fail
	}
	file := ""
	if e.cfg.Data != "" {
		file = filepath.Join(e.cfg.Data, e.far.Name+".jsonl")
	}
	m, err := openEmMemory(file, e.past, e.cfg.Clock.Now().Unix())
	if err != nil {
		e.fail = fmt.Errorf("opening the memory of %s: %w", e.far.Name, err)
		e.cfg.Log.Error("opening the emulator", "connector", e.far.Name, "error", err)
		return e.fail
	}
	e.mem = m
	return nil
}

// Effects implements connectors.Emulator.
func (e *Emulator) Effects() ([]connectors.LedgerRow, error) {
	if err := e.ready(); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	rows := make([]connectors.LedgerRow, len(e.mem.issued))
	for i, x := range e.mem.issued {
		key := x.Key
		if key == "" {
			key = strconv.FormatInt(x.ID, 10)
		}
		rows[i] = connectors.LedgerRow{Connector: e.far.Name, Operation: "issue_certificate", Subject: x.Subject, Key: key, At: x.At}
	}
	return append(rows, e.moveRows()...), nil
}

// Close implements connectors.Emulator.
func (e *Emulator) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.mem
	e.mem, e.fail = nil, errEmClosed
	if m == nil {
		return nil
	}
	e.past = m.lines
	return m.close()
}

// Resume implements connectors.Emulator.
func (e *Emulator) Resume(old connectors.Emulator) {
	if o, ok := old.(*Emulator); ok {
		o.mu.Lock()
		defer o.mu.Unlock()
		e.past = slices.Clone(o.past)
	}
}

// keep writes lines down; e.mu is held.
func (e *Emulator) keep(ls ...emLine) error {
	if e.mem == nil {
		return errEmClosed
	}
	if err := e.mem.write(ls...); err != nil {
		e.cfg.Log.Error("writing the far side's memory", "connector", e.far.Name, "error", err)
		return err
	}
	return nil
}
