package gateway

import (
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/identity"
)

// Config is what a Gateway is made of. Engine, Clock and Log are required.
type Config struct {
	Engine   Engine
	Blobs    Blobs              // nil: multipart bodies are refused
	Tokens   *identity.Verifier // nil: no caller tokens are accepted
	Clients  *identity.Clients  // nil: no client credentials
	Clock    clock.Clock
	Log      *slog.Logger
	Observer Observer // nil: nobody counts
	Limits   Limits
	About    About
	// Extra are further public handlers by net/http pattern, such as a connector's
	// Receiver; they may not lie under /v1.
	Extra map[string]http.Handler
}

// About is what the first page and the OpenAPI document say of the installation.
type About struct {
	Name    string // the city's or body's, for the title
	Version string // of the program
	Commit  string
	City    string // URL of the virtual city, "" when off
	Public  string // base URL of the public face
	Started time.Time
}

// Gateway is the public face: an http.Handler. It is safe for concurrent use.
type Gateway struct {
	cfg   Config
	table atomic.Pointer[table]
	other *http.ServeMux // what is not under /v1
	fixed fixed

	buffers buffers
	about   atomic.Pointer[About]
}

// New makes a gateway that serves an empty city until Swap.
func New(cfg Config) (*Gateway, error) {
	switch {
	case cfg.Engine == nil:
		return nil, errors.New("making the gateway: it has no engine")
	case cfg.Clock == nil:
		return nil, errors.New("making the gateway: it has no clock")
	case cfg.Log == nil:
		return nil, errors.New("making the gateway: it has no log")
	}
	cfg.Limits = cfg.Limits.Or(DefaultLimits())
	g := &Gateway{cfg: cfg, fixed: newFixed()}
	g.about.Store(&cfg.About)
	empty, err := newTable(City{})
	if err != nil {
		return nil, err
	}
	g.table.Store(empty)
	mux, err := g.otherPages(cfg.Extra)
	if err != nil {
		return nil, err
	}
	g.other = mux
	return g, nil
}

// Swap serves c from the next request on; requests under way finish on the city
// they began with. On an error the present city stays.
func (g *Gateway) Swap(c City) error {
	t, err := newTable(c)
	if err != nil {
		return err
	}
	g.table.Store(t)
	return nil
}

// SetAbout corrects what is known only once the listeners are open.
func (g *Gateway) SetAbout(a About) { g.about.Store(&a) }
