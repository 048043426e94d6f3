package connectors

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/document"
)

// Host is what a connector at work is lent beside its HTTP client. In lint,
// where nothing is called, all of it is nil.
type Host struct {
	Clock     clock.Clock
	Log       *slog.Logger
	Table     func(owner string) Table // sealed rows; a connector asks for the one of its own name
	Numbers   Numbers
	Documents document.Archive
	// URL is where a face of this process is reached from outside: "public", "soap".
	URL func(face string) string
}

// Table is a connector's memory beyond one call. Keys hold nothing personal.
type Table interface {
	Get(ctx context.Context, key string) (value []byte, found bool, err error)
	// Update replaces a row by what f makes of it (nil: none) and returns when that
	// is durable. f may run more than once; its error changes nothing.
	Update(ctx context.Context, key string, f func(old []byte) ([]byte, error)) error
	// List calls each with the rows whose key has the prefix, in order.
	List(ctx context.Context, prefix string, each func(key string, value []byte) error) error
}

// Numbers gives numbers that leave one after the other, also among processes.
type Numbers interface {
	// Next calls f alone of its series with a number above all earlier ones, at
	// least floor.
	Next(ctx context.Context, series string, floor int64, f func(ctx context.Context, number int64) error) error
}

// Publish stores an event; a repeated id is taken once. It returns when the event
// is durable.
type Publish func(ctx context.Context, eventType, id string, data any) error

// Endpoint is where the outside calls a connector.
type Endpoint struct {
	Face    string // "public" or "soap": which listener
	Pattern string // net/http's, below /NAME/ of the connector
	Handler http.Handler
}

// Receiver is a connector that the outside calls by HTTP (SPID's ACS, pagoPA's
// SOAP, webhooks). What it answers with success is durable.
type Receiver interface {
	Receive(Publish) []Endpoint
}

// Source is a connector that works by itself: it polls, subscribes, or makes
// itself known to the far side. Run returns when ctx ends; an error is logged and
// Run called again after a pause.
type Source interface {
	Run(ctx context.Context, publish Publish) error
}
