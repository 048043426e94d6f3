// Package client is how modules and other programs use the bus: they request a
// route for a caller, publish events and subscribe to them. It grants what the
// program's rights name and nothing else. This package holds the contract and
// the client inside the bus's own process; clienttest judges every
// implementation of the contract.
package client

import (
	"context"
	"time"

	"github.com/dime-bus/dime/internal/identity"
)

// Client is a program's connection to the city. All methods are safe for
// concurrent use. Errors are *fault.Error: Denied where the program's rights do
// not name the route or event type, Invalid for what does not fit its schema,
// NotFound for a route or event type that is not there, Unavailable when the bus
// can't take it now; ctx's own error when ctx ends.
type Client interface {
	// Request runs a route and returns its answer, whatever its status. An error
	// means that there is no answer: the run may or may not have begun, unless the
	// kind is Denied, Invalid or NotFound; asking again with the same Key is safe.
	Request(ctx context.Context, r Request) (Answer, error)

	// Publish makes an event known to the city. It returns once the event is
	// stored. A repeated id is the same event: repeating a Publish that failed is
	// safe. id must not be empty.
	Publish(ctx context.Context, eventType, id string, data any) error

	// Subscribe calls handle with each event of the type behind the cursor, in
	// the order in which they were stored, one at a time, and goes on with new
	// ones until ctx ends or handle fails; it returns that error. Keep an event's
	// Cursor together with what you did about it, and give it after a pause: what
	// happened meanwhile (7 days at most) comes first. An event may come twice.
	Subscribe(ctx context.Context, eventType string, after Cursor, handle func(context.Context, Event) error) error
}

// Request of a route.
type Request struct {
	Route string
	Req   any // nil, bool, int, float64, string, []any, map[string]any
	// Caller is the person for whom the program asks, passed on as it is; nil
	// means that the program asks for itself.
	Caller *identity.Caller
	// Key makes the request safe to repeat where the route has no `once` of its
	// own; at most 200 bytes.
	Key string
}

// Answer of a route.
type Answer struct {
	Status  int
	Body    any
	Problem *Problem          // set for 4xx and 5xx
	Header  map[string]string // Location, Retry-After, Idempotent-Replayed
	Run     string            // public id; "" if no run existed
}

// Problem says what went wrong (RFC 9457).
type Problem struct {
	Type   string
	Title  string
	Status int
	Detail string
	Say    string // message key
	URL    string // of the run
	Errors []FieldError
}

// FieldError names a wrong field.
type FieldError struct {
	Pointer string `json:"pointer"`
	Message string `json:"message"`
}

// Cursor is a place in the log of an event type. Zero is its beginning; it grows.
type Cursor int64

// Event of the city.
type Event struct {
	Cursor  Cursor
	ID      string
	Type    string
	Version int // of its schema (`x-version`), 1 if it says none
	At      time.Time
	Data    any
}
