// Package city is the virtual city: the far sides of the city's connectors, all
// together behind one HTTP handler, with a log of every raw arrival, a ledger of
// every effect, and faults that are switched by name. It runs inside `dime
// serve` or as its own process, and goes on where it was when it is started
// again on the same data.
package city

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/connectors/all"
	"github.com/dime-bus/dime/internal/citizens"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/yamldoc"
)

// Config of a City.
type Config struct {
	FS         fs.FS                           // the city's content; read where Connectors is nil
	Data       string                          // folder of its memory, made if missing; "" forgets at the end
	Connectors map[string]connectors.Connector // nil: those of FS
	Clock      clock.Clock                     // nil is the machine's
	Zone       *time.Location                  // nil is Europe/Rome
	Seed       string                          // of made-up values; "" is "venezia"
	Log        *slog.Logger
	URL        func() string // where the city is reached; nil where links to it don't matter
}

// City is the virtual city. It is safe for concurrent use.
type City struct {
	cfg  Config
	mux  *http.ServeMux
	logs *os.File // arrivals; nil keeps them in memory

	sides   atomic.Pointer[map[string]connectors.Emulator]
	mu      sync.Mutex
	faults  map[string]bool
	on      atomic.Pointer[map[string]bool] // a copy of faults, for reading without a lock
	memory  []connectors.Arrival
	logged  sync.Mutex
	changes sync.Mutex // Reload

	citizens func() *citizens.Register
}

// New makes the city. With problems that are no warnings it is nil.
func New(cfg Config) (*City, []yamldoc.Problem) {
	if cfg.Clock == nil {
		cfg.Clock = clock.Real{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Seed == "" {
		cfg.Seed = "venezia"
	}
	c := &City{cfg: cfg, faults: map[string]bool{}}
	c.citizens = sync.OnceValue(c.people)
	c.sides.Store(&map[string]connectors.Emulator{})
	trouble := func(what string, err error) []yamldoc.Problem {
		return []yamldoc.Problem{{Pos: yamldoc.Pos{File: cfg.Data, Line: 1, Column: 1}, Rule: "city", Message: fmt.Sprintf("%s: %v", what, err)}}
	}
	if cfg.Data != "" {
		if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
			return nil, trouble("making the data folder of the virtual city", err)
		}
		if err := c.loadFaults(); err != nil {
			return nil, trouble("reading the switched faults", err)
		}
		f, err := os.OpenFile(filepath.Join(cfg.Data, "arrivals.jsonl"), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return nil, trouble("opening the log of arrivals", err)
		}
		c.logs = f
	}
	c.publish()
	ps := c.Reload(cfg.FS, cfg.Connectors)
	for _, p := range ps {
		if !p.Warning {
			_ = c.Close()
			return nil, ps
		}
	}
	c.mux = http.NewServeMux()
	c.mux.HandleFunc("GET /arrivals", c.getArrivals)
	c.mux.HandleFunc("GET /effects", c.getEffects)
	c.mux.HandleFunc("GET /citizens", c.getCitizens)
	c.mux.HandleFunc("GET /faults", c.getFaults)
	c.mux.HandleFunc("PUT /faults/{name}", c.putFault)
	c.mux.HandleFunc("DELETE /faults/{name}", c.deleteFault)
	c.mux.HandleFunc("DELETE /faults", c.deleteFaults)
	c.mux.HandleFunc("/", c.serveSide)
	return c, ps
}

// Handler serves the city: the far sides at /NAME/, and its own pages.
func (c *City) Handler() http.Handler { return c.mux }

// Close ends the memory's files.
func (c *City) Close() error {
	var errs []error
	for _, e := range *c.sides.Load() {
		errs = append(errs, e.Close())
	}
	if c.logs != nil {
		errs = append(errs, c.logs.Close())
	}
	return errors.Join(errs...)
}

// Reload takes other content: the far sides of connectors that are gone, new or
// changed are exchanged, and their memory goes on. Connectors nil reads those of
// fsys. On any problem that is no warning the city stays as it was.
func (c *City) Reload(fsys fs.FS, cs map[string]connectors.Connector) []yamldoc.Problem {
	c.changes.Lock()
	defer c.changes.Unlock()
	var ps []yamldoc.Problem
	if cs == nil {
		cs, ps = all.Build(fsys, all.Deps{})
	}
	next := map[string]connectors.Emulator{}
	for name, x := range cs {
		em, ok := x.(connectors.Emulated)
		if !ok {
			continue
		}
		switch name {
		case "arrivals", "citizens", "effects", "faults":
			ps = append(ps, yamldoc.Problem{Pos: yamldoc.Pos{File: all.Dir + "/" + name + ".yaml", Line: 1, Column: 1}, Rule: "city", Message: "the virtual city has a page of this name: call the connector otherwise"})
			continue
		}
		e, err := em.Emulator(connectors.EmulatorConfig{
			Data: c.folder(), URL: func() string { return c.url() + "/" + name }, Clock: c.cfg.Clock, Zone: c.cfg.Zone, Seed: c.cfg.Seed, Log: c.cfg.Log, Citizens: c.citizens,
			Record: c.record, On: func(f string) bool { return c.switched(name + "." + f) },
			Latency: func() time.Duration { return c.latency(name) },
		})
		if err != nil {
			ps = append(ps, yamldoc.Problem{Pos: yamldoc.Pos{File: all.Dir + "/" + name + ".yaml", Line: 1, Column: 1}, Rule: "city", Message: err.Error()})
			continue
		}
		next[name] = e
	}
	for _, p := range ps {
		if !p.Warning {
			return yamldoc.Sort(ps)
		}
	}
	// The old ones are closed first: two must never write one memory. What comes
	// in between is refused with 503, which callers know as not carried out.
	for name, e := range *c.sides.Load() {
		if err := e.Close(); err != nil {
			c.cfg.Log.Error("closing an emulator", "error", err)
		}
		if n := next[name]; n != nil {
			n.Resume(e)
		}
	}
	c.sides.Store(&next)
	return yamldoc.Sort(ps)
}

func (c *City) url() string {
	if c.cfg.URL == nil {
		return ""
	}
	return c.cfg.URL()
}

func (c *City) folder() string {
	if c.cfg.Data == "" {
		return ""
	}
	return filepath.Join(c.cfg.Data, "systems")
}

// Names lists the systems that the city plays, sorted.
func (c *City) Names() []string {
	var ns []string
	for n := range *c.sides.Load() {
		ns = append(ns, n)
	}
	sort.Strings(ns)
	return ns
}

func (c *City) serveSide(w http.ResponseWriter, r *http.Request) {
	name, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	e := (*c.sides.Load())[name]
	if e == nil {
		if r.URL.Path == "/" {
			writeJSON(w, http.StatusOK, map[string]any{"systems": c.Names(), "pages": []string{"/arrivals", "/citizens", "/effects", "/faults"}})
			return
		}
		refuse(w, http.StatusNotFound, "the virtual city has no system "+name+"; it has "+strings.Join(c.Names(), ", "))
		return
	}
	http.StripPrefix("/"+name, e).ServeHTTP(w, r)
}

// record appends an arrival to the log, one line in one write, so that neither
// this process's end nor the engine's can lose or tear one that was acted on.
func (c *City) record(a connectors.Arrival) error {
	if c.logs == nil {
		c.logged.Lock()
		c.memory = append(c.memory, a)
		c.logged.Unlock()
		return nil
	}
	b, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("writing an arrival: %w", err)
	}
	c.logged.Lock()
	defer c.logged.Unlock()
	_, err = c.logs.Write(append(b, '\n'))
	return err
}

// Arrivals reads the log, oldest first. A line that a kill tore is left out.
func (c *City) Arrivals() ([]connectors.Arrival, error) {
	c.logged.Lock()
	defer c.logged.Unlock()
	if c.logs == nil {
		return slices.Clone(c.memory), nil
	}
	var as []connectors.Arrival
	r := bufio.NewReaderSize(io.NewSectionReader(c.logs, 0, 1<<62), 64<<10)
	for {
		b, err := r.ReadBytes('\n')
		if len(b) > 0 {
			var a connectors.Arrival
			if json.Unmarshal(b, &a) == nil {
				as = append(as, a)
			}
		}
		if errors.Is(err, io.EOF) {
			return as, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading the log of arrivals: %w", err)
		}
	}
}

// Effects is the ledger of all systems, oldest first.
func (c *City) Effects() ([]connectors.LedgerRow, error) {
	es := []connectors.LedgerRow{}
	for _, e := range *c.sides.Load() {
		x, err := e.Effects()
		if err != nil {
			return nil, err
		}
		es = append(es, x...)
	}
	slices.SortStableFunc(es, func(a, b connectors.LedgerRow) int { return a.At.Compare(b.At) })
	return es, nil
}

func (c *City) getArrivals(w http.ResponseWriter, r *http.Request) {
	as, err := c.Arrivals()
	if err != nil {
		refuse(w, http.StatusInternalServerError, err.Error())
		return
	}
	if only := r.URL.Query().Get("connector"); only != "" {
		as = slices.DeleteFunc(as, func(a connectors.Arrival) bool { return a.Connector != only })
	}
	if as == nil {
		as = []connectors.Arrival{}
	}
	writeJSON(w, http.StatusOK, as)
}

func (c *City) getEffects(w http.ResponseWriter, r *http.Request) {
	es, err := c.Effects()
	if err != nil {
		refuse(w, http.StatusInternalServerError, err.Error())
		return
	}
	if only := r.URL.Query().Get("connector"); only != "" {
		es = slices.DeleteFunc(es, func(e connectors.LedgerRow) bool { return e.Connector != only })
	}
	writeJSON(w, http.StatusOK, es)
}

// people makes the city's citizens, who live at the addresses of its street
// directory as it is now.
func (c *City) people() *citizens.Register {
	as, err := citizens.Addresses(c.cfg.FS)
	if err != nil {
		c.cfg.Log.Error("settling the citizens", "error", err)
	}
	return citizens.New(c.cfg.Seed, as...)
}

// Citizens are the people of the city. They do not change.
func (c *City) Citizens() []citizens.Person { return c.citizens().All() }

func (c *City) getCitizens(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, c.Citizens())
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"title": http.StatusText(status), "status": status, "detail": detail})
}
