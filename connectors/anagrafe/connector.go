// Package anagrafe connects the city to the national register of the population
// (ANPR): PDND vouchers, ModI's integrity and audit, the consultation e-services,
// and the SOAP service 6001 that issues certificates. README.md says which norms
// it rests on.
package anagrafe

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/httpclient"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/yamldoc"
)

// Field is what marks a file of config/connectors as this kind.
const Field = "anagrafe"

// Connector asks ANPR and issues certificates.
type Connector struct {
	desc     connectors.Description
	cfg      Config
	settings connectors.Settings
	client   *httpclient.Client
	host     connectors.Host
	clock    clock.Clock
	zone     *time.Location
	base     *url.URL // what e-services' addresses and audiences begin with
	city     bool     // the far side is the virtual city's
	table    connectors.Table
	numbers  connectors.Numbers

	keys     keys
	vouchers vouchers
	ids      ids
	sweeps   sweeps
}

// Describe implements connectors.Connector.
func (c *Connector) Describe() connectors.Description { return c.desc }

// New builds the connector of a file; it is nil where a problem is no warning.
func New(src connectors.Spec) (*Connector, []yamldoc.Problem) {
	settings, ps := connectors.ReadSettings(src.Node, Field)
	cfg, cps := readConfig(src.Node.Get(Field))
	ps = append(ps, cps...)
	c := &Connector{cfg: cfg, settings: settings, client: src.Client, host: src.Host, clock: src.Host.Clock, zone: rome(), numbers: turns{src.Host.Numbers}}
	if c.clock == nil {
		c.clock = clock.Real{}
	}
	if src.Host.Numbers == nil {
		c.numbers = turns{&counter{last: map[string]int64{}, turn: map[string]*sync.Mutex{}}}
	}
	if src.Host.Table != nil {
		c.table = src.Host.Table(src.Name)
	} else {
		c.table = &memory{rows: map[string][]byte{}}
	}
	c.desc = connectors.Description{Name: src.Name, Summary: settings.About, Policy: settings.Policy.Or(connectors.DefaultPolicy())}
	if c.desc.Summary == "" {
		c.desc.Summary = "The national register of the population: who lives where and with whom, and certificates of it."
	}
	raw, city := settings.BaseURL, src.City != "" && src.City != connectors.CityOff && settings.Emulate
	if city {
		raw = strings.TrimSuffix(src.City, "/") + "/" + src.Name
	}
	u, err := url.Parse(raw)
	if src.City != "" && (err != nil || u.Host == "") {
		ps = append(ps, yamldoc.Problem{Pos: settings.BasePos, Rule: "value",
			Message: "`base_url` must say where ANPR's e-services are, https://modipa.anpr.interno.it/govway/rest/in"})
	}
	if u == nil {
		u = &url.URL{}
	}
	c.base, c.city = u, city
	if err := c.describe(); err != nil {
		ps = append(ps, src.Node.Problem("connector", err.Error()))
	}
	for _, p := range ps {
		if !p.Warning {
			return nil, ps
		}
	}
	return c, ps
}

func rome() *time.Location {
	if l, err := time.LoadLocation("Europe/Rome"); err == nil {
		return l
	}
	return time.FixedZone("CET", 3600)
}

// Emulator implements connectors.Emulated.
func (c *Connector) Emulator(cfg connectors.EmulatorConfig) (connectors.Emulator, error) {
	of := map[string]string{}
	for code, purpose := range c.cfg.Purposes {
		of[purpose] = code
	}
	return NewEmulator(FarSide{Name: c.desc.Name, Operations: c.desc.Operations, Purposes: of, Municipality: c.cfg.Municipality}, cfg), nil
}

// uuid is a random identifier of a token.
func uuid() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	s := hex.EncodeToString(b[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

func unavailable(detail string, err error) *fault.Error {
	return &fault.Error{Kind: fault.Unavailable, Detail: detail, Err: err}
}

// gone is what a call ends with whose caller left before anything was sent.
func gone(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return unavailable("the caller was gone before anything was asked", err)
	}
	return nil
}

// turns are Numbers whose failures are faults: what keeps a request from its turn
// sent nothing. Who waited for it in vain met a bound of ours, which says nothing of
// the register: it must not open the breaker (semantics 11.1).
type turns struct{ of connectors.Numbers }

// Next implements connectors.Numbers.
func (t turns) Next(ctx context.Context, series string, floor int64, f func(context.Context, int64) error) error {
	began := false
	err := t.of.Next(ctx, series, floor, func(ctx context.Context, n int64) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		began = true
		return f(ctx, n)
	})
	switch {
	case err == nil || began:
		return err
	case ctx.Err() != nil:
		return &fault.Error{Kind: fault.Throttled, Detail: "too many calls wait for their turn at the register, which takes one at a time", Err: err}
	}
	return unavailable("no number of the series can be had", err)
}

// counter is Numbers without a host: in tests.
type counter struct {
	mu   sync.Mutex
	last map[string]int64
	turn map[string]*sync.Mutex
}

// Next implements connectors.Numbers.
func (n *counter) Next(ctx context.Context, series string, floor int64, f func(context.Context, int64) error) error {
	n.mu.Lock()
	turn := n.turn[series]
	if turn == nil {
		turn = &sync.Mutex{}
		n.turn[series] = turn
	}
	n.mu.Unlock()
	turn.Lock()
	defer turn.Unlock()
	n.mu.Lock()
	n.last[series] = max(n.last[series]+1, floor)
	number := n.last[series]
	n.mu.Unlock()
	return f(ctx, number)
}

// memory is a Table without a host.
type memory struct {
	mu   sync.Mutex
	rows map[string][]byte
}

// Get implements connectors.Table.
func (m *memory) Get(_ context.Context, key string) ([]byte, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.rows[key]
	return b, ok, nil
}

// Update implements connectors.Table.
func (m *memory) Update(_ context.Context, key string, f func([]byte) ([]byte, error)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, err := f(m.rows[key])
	if err != nil {
		return err
	}
	if m.rows[key] = b; b == nil {
		delete(m.rows, key)
	}
	return nil
}

// List implements connectors.Table.
func (m *memory) List(_ context.Context, prefix string, each func(string, []byte) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, v := range m.rows {
		if strings.HasPrefix(k, prefix) {
			if err := each(k, v); err != nil {
				return err
			}
		}
	}
	return nil
}

// compile makes a schema of one of ours.
func (c *Connector) compile(name, text string, failed *error) *schema.Schema {
	s, err := schema.CompileBytes(c.desc.Name+"."+name, []byte(text))
	if err != nil && *failed == nil {
		*failed = fmt.Errorf("compiling the schema of %s: %w", name, err)
	}
	return s
}
