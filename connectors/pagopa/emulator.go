package pagopa

import (
	"bytes"
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/page"
)

// Emulator plays pagoPA: GPD and the receipts' archive, Checkout with a page on
// which a person presses "Paga", and the node, which then calls the creditor's
// station with the true envelopes, judges its answers, and sends a receipt again
// until it is answered. It shares no code with the connector: a mistake of one is
// not repeated by the other.
type Emulator struct {
	name string
	ops  []*connectors.Operation
	cfg  connectors.EmulatorConfig
	mux  *http.ServeMux
	http *http.Client
	look *template.Template // of the page of payment

	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu   sync.Mutex
	mem  *emMemory
	fail error
	past []emLine
	psp  *rsa.PrivateKey // whose stamps the far side sells

	paying sync.Map // notice -> *sync.Mutex: one payment of a notice at once
}

// Emulator implements connectors.Emulated.
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
	if cfg.URL == nil {
		cfg.URL = func() string { return "" }
	}
	look, err := page.Parse(emPageText)
	if err != nil {
		return nil, fmt.Errorf("making the page of Checkout: %w", err)
	}
	e := &Emulator{look: look, name: c.desc.Name, ops: c.desc.Operations, cfg: cfg, mux: http.NewServeMux(),
		http: &http.Client{Transport: &http.Transport{Proxy: nil, MaxIdleConnsPerHost: 16}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	e.ctx, e.stop = context.WithCancel(context.Background())
	const org = "/gpd/debt-positions-service/v1/organizations/{org}/debtpositions"
	for pattern, h := range map[string]struct {
		op string
		f  func(*emCall) emAnswer
	}{
		"POST " + org:                        {"open_position", e.createPosition},
		"GET " + org:                         {"position", e.listPositions},
		"GET " + org + "/{iupd}":             {"position", e.readPosition},
		"PUT " + org + "/{iupd}":             {"", e.updatePosition},
		"DELETE " + org + "/{iupd}":          {"close_position", e.deletePosition},
		"POST " + org + "/{iupd}/publish":    {"open_position", e.publishPosition},
		"POST " + org + "/{iupd}/invalidate": {"close_position", e.invalidatePosition},
		"GET /gpd/payments-receipts-service/v1/payments/{org}/receipts":       {"receipt", e.listReceipts},
		"GET /gpd/payments-receipts-service/v1/payments/{org}/receipts/{iuv}": {"receipt", e.readReceipt},
		"POST /checkout/ec/v1/carts":                                          {"checkout", e.createCart},
		"POST /back-office/stations":                                          {"", e.registerStation},
		"GET /checkout/pay/{cart}":                                            {"", e.payPage},
		"POST /checkout/pay/{cart}/paga":                                      {"", e.pay},
		"POST /checkout/pay/{cart}/annulla":                                   {"", e.cancelPayment},
		"GET /paga/{notice}":                                                  {"", e.counterPage},
		"POST /paga/{notice}":                                                 {"", e.payAtCounter},
	} {
		e.mux.HandleFunc(pattern, e.serve(h.op, h.f))
	}
	e.mux.HandleFunc("GET /static/{name}", e.static)
	e.mux.HandleFunc("/", e.serve("", func(*emCall) emAnswer { return emProblem(http.StatusNotFound, "the platform has no such address") }))
	return e, nil
}

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
	kind   string
	header map[string]string
}

// emProblem is GPD's ProblemJson.
func emProblem(status int, detail string) emAnswer {
	return emAnswer{status: status, body: map[string]any{"title": http.StatusText(status), "status": status, "detail": detail}}
}

func (e *Emulator) ServeHTTP(w http.ResponseWriter, r *http.Request) { e.mux.ServeHTTP(w, r) }

// serve reads, records and disturbs a request before f answers it.
func (e *Emulator) serve(op string, f func(*emCall) emAnswer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			e.write(w, emProblem(http.StatusRequestEntityTooLarge, "the body is longer than 1 MiB"))
			return
		}
		a := connectors.Arrival{Connector: e.name, Operation: op, Method: r.Method, Path: r.URL.RequestURI(), Key: r.Header.Get("X-Request-Id"),
			Subject: emSubject(r, body), Body: string(body), At: e.cfg.Clock.Now().UTC()}
		if e.cfg.Record != nil {
			if err := e.cfg.Record(a); err != nil {
				e.cfg.Log.Error("recording an arrival", "connector", e.name, "error", err)
				e.write(w, emProblem(http.StatusServiceUnavailable, "the request could not be recorded"))
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
			e.write(w, emProblem(http.StatusServiceUnavailable, "the far side's memory can't be opened"))
			return
		}
		answer := f(&emCall{op: op, r: r, body: body})
		switch {
		case op == "" || answer.status >= 400:
		case e.on(op, "late-answer"):
			emDrop(w)
			return
		case e.on(op, "contract"):
			answer = emAnswer{status: answer.status, body: map[string]any{"broken": true}}
		}
		e.write(w, answer)
	}
}

// emSubject is whose position a request is about, for the log of arrivals.
func emSubject(r *http.Request, body []byte) string {
	if s := r.PathValue("iupd"); s != "" {
		return s
	}
	if s := r.PathValue("iuv"); s != "" {
		return s
	}
	var b struct {
		IUPD string `json:"iupd"`
	}
	_ = json.Unmarshal(body, &b) // what is no JSON has no subject
	return b.IUPD
}

func (e *Emulator) write(w http.ResponseWriter, a emAnswer) {
	h := w.Header()
	for k, v := range a.header {
		h.Set(k, v)
	}
	b := a.raw
	if b == nil && a.body != nil {
		var err error
		if b, err = json.Marshal(a.body); err != nil {
			e.cfg.Log.Error("writing an answer", "connector", e.name, "error", err)
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

// emStanding are the faults of every operation that calls the platform.
func emStanding() []string {
	return []string{"timeout", "unavailable", "throttled", "hang", "reset", "contract", "late-answer", "server-error"}
}

// emNodeFaults are what the node and the creditor's side can say (SANP 3.10), and
// the ways in which a receipt goes wrong.
func emNodeFaults() []string {
	return []string{
		"PPT_STAZIONE_INT_PA_TIMEOUT", "PPT_STAZIONE_INT_PA_ERRORE_RESPONSE", "PPT_STAZIONE_INT_PA_SCONOSCIUTA", "PPT_ERRORE_EMESSO_DA_PAA",
		"PPT_DOMINIO_SCONOSCIUTO", "PPT_AUTENTICAZIONE", "PPT_AUTORIZZAZIONE", "PPT_SYSTEM_ERROR",
		"PAA_ID_DOMINIO_ERRATO", "PAA_ID_INTERMEDIARIO_ERRATO", "PAA_STAZIONE_INT_ERRATA", "PAA_PAGAMENTO_SCONOSCIUTO", "PAA_PAGAMENTO_DUPLICATO",
		"PAA_PAGAMENTO_IN_CORSO", "PAA_PAGAMENTO_ANNULLATO", "PAA_PAGAMENTO_SCADUTO", "PAA_ATTIVA_RPT_IMPORTO_NON_VALIDO", "PAA_RT_DUPLICATA",
		"PAA_RECEIPT_DUPLICATA", "PAA_SEMANTICA", "PAA_SINTASSI_XSD", "PAA_SINTASSI_EXTRAXSD", "PAA_SYSTEM_ERROR",
		"receipt-twice", "receipt-late", "receipt-lost-answer", "forged-receipt",
	}
}

// Faults implements connectors.Emulator.
func (e *Emulator) Faults() []string {
	names := []string{"no-dedupe"}
	for _, op := range e.ops {
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
		for _, f := range emStanding() {
			add(f)
		}
		for _, r := range fault.Table() {
			if r.Nameable {
				add(string(r.Kind))
			}
		}
	}
	for _, f := range emNodeFaults() {
		names = append(names, "node."+f)
	}
	return names
}

// on says whether a fault of an operation is switched on. Who prints a notice asks
// for the position as any other: the wire does not tell the two apart.
func (e *Emulator) on(op, name string) bool {
	return e.cfg.On(op+"."+name) || op == "position" && e.cfg.On("notice_pdf."+name)
}

// disturb plays the faults that come before any effect.
func (e *Emulator) disturb(w http.ResponseWriter, r *http.Request, op string) bool {
	const told = "switched on by the operator of the city"
	on := func(f string) bool { return e.on(op, f) }
	switch {
	case on("timeout"):
		<-r.Context().Done()
	case on("hang"):
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "1000")
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write([]byte(`{`))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	case on("reset"):
		emDrop(w)
	case on("server-error"):
		e.write(w, emProblem(http.StatusInternalServerError, told))
	case on("no_position"), on("no_receipt"):
		e.write(w, emProblem(http.StatusNotFound, told))
	case on("already_paid"):
		e.write(w, emProblem(http.StatusConflict, told))
	default:
		for _, row := range fault.Table() {
			if k := row.Kind; row.Nameable && k != fault.Timeout && k != fault.Contract && on(string(k)) {
				a := emProblem(connectors.StatusOf(k), told)
				if k == fault.Unavailable || k == fault.Throttled {
					a.header = map[string]string{"Retry-After": "1"}
				}
				e.write(w, a)
				return true
			}
		}
		return false
	}
	return true
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

// ready opens the memory on first use, and lets the node go on with the receipts
// that it owes.
func (e *Emulator) ready() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mem != nil || e.fail != nil {
		return e.fail
	}
	file := ""
	if e.cfg.Data != "" {
		file = filepath.Join(e.cfg.Data, e.name+".jsonl")
	}
	m, err := openEmMemory(file, e.past)
	if err == nil {
		e.psp, err = m.pspKey()
	}
	if err != nil {
		e.fail = fmt.Errorf("opening the memory of %s: %w", e.name, err)
		e.cfg.Log.Error("opening the emulator", "connector", e.name, "error", err)
		return e.fail
	}
	e.mem = m
	for _, p := range m.payments {
		if !p.Delivered {
			e.later(p.Notice, max(0, p.Next.Sub(e.cfg.Clock.Now())))
		}
	}
	return nil
}

// Effects implements connectors.Emulator.
func (e *Emulator) Effects() ([]connectors.LedgerRow, error) {
	if err := e.ready(); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	rows := make([]connectors.LedgerRow, len(e.mem.effects))
	for i, x := range e.mem.effects {
		rows[i] = connectors.LedgerRow{Connector: e.name, Operation: x.Operation, Subject: x.Subject, Key: x.Key, At: x.At}
	}
	return rows, nil
}

// Close implements connectors.Emulator.
func (e *Emulator) Close() error {
	e.stop()
	e.mu.Lock()
	m := e.mem
	e.mem, e.fail = nil, errEmClosed
	e.mu.Unlock()
	e.wg.Wait()
	e.http.CloseIdleConnections()
	if m == nil {
		return nil
	}
	e.past = m.lines
	return m.close()
}

// Resume implements connectors.Emulator.
func (e *Emulator) Resume(old connectors.Emulator) {
	if o, ok := old.(*Emulator); ok {
		e.past = slices.Clone(o.past)
	}
}

// keep writes lines down, and plays them; e.mu is held.
func (e *Emulator) keep(ls ...emLine) error {
	if e.mem == nil {
		return errEmClosed
	}
	if err := e.mem.write(ls...); err != nil {
		e.cfg.Log.Error("writing the far side's memory", "connector", e.name, "error", err)
		return err
	}
	return nil
}

// emDecode reads JSON strictly: one value, no field that the contract lacks.
func emDecode(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return errors.New("the body is not what the contract says: " + strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("the body holds more than one value")
	}
	return nil
}
