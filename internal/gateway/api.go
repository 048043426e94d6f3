// Package gateway is the city's two HTTP faces: the public one (the routes under
// /v1, a run's page for its owner, the OpenAPI document, the first page) and the
// admin one (health, metrics, runs and what people do to them). It knows neither
// the pipeline nor the connectors: what it serves is handed to it as values and
// small interfaces, and a new city is swapped in behind one pointer.
package gateway

import (
	"context"
	"time"

	"github.com/dime-bus/dime/internal/identity"
	"github.com/dime-bus/dime/internal/schema"
)

// Request asks the engine for one run.
type Request struct {
	Route    string
	Req      any // decoded JSON; the engine validates it against the route's `req`
	Caller   *identity.Caller
	Deadline time.Time // the caller's own (Prefer: wait=N); zero: the route's `within`
	Key      string    // Idempotency-Key of a caller who is known; "" otherwise
	Trace    string    // trace id from traceparent, "" if none
}

// Answer is what the engine gives back. Body and Problem are never both set.
type Answer struct {
	Status  int
	Body    any
	Problem *Problem
	Header  map[string]string // Location, Retry-After, Idempotent-Replayed
	Run     string            // public id; "" if no run existed
	Say     string            // key of the sentence for the caller, "" if none
}

// Problem is RFC 9457's, with the run's id.
type Problem struct {
	Type   string // a URI; "" means about:blank
	Title  string
	Status int
	Detail string
	Run    string
	URL    string // of the run
	Errors []FieldError
	Say    string // key of the sentence that becomes the detail
}

// FieldError names a field that is wrong by its JSON pointer (RFC 6901).
type FieldError struct {
	Pointer string
	Message string
}

// Engine runs routes. Request never panics and always answers.
type Engine interface {
	Request(ctx context.Context, r Request) Answer
	// View is what the owner of a run sees. The error is a *fault.Error: NotFound if
	// there is no such run or it is not the caller's, which must look the same.
	View(ctx context.Context, run string, caller *identity.Caller) (View, error)
}

// View is a run as its owner sees it.
type View struct {
	Run, Route, State string
	Result            any // nil if none yet
}

// Blobs takes the files of a multipart request (claim check).
type Blobs interface {
	PutBlob(ctx context.Context, b []byte) (digest string, err error)
}

// City is what the gateway shows and serves; a new one replaces it whole.
type City struct {
	Routes     []Route
	Messages   map[string]map[string]string // key -> language -> sentence
	Connectors []Connector
}

// Route is a route as the outside sees it.
type Route struct {
	Name     string
	Label    int    // the file's `version`
	Digest   string // of the running version
	About    string
	Owner    string
	File     string
	Triggers []Trigger // all of them, the HTTP ones too
	Req      *schema.Schema
	Resp     *schema.Schema
	Result   *schema.Type // of the answer, where Resp is nil
	Safe     bool         // nothing is changed by it: answers are not durable
	Allow    bool         // it has an `allow`: callers must be somebody
	Once     bool         // repeating the request is harmless
	Replies  []int        // statuses its reply steps and outcomes may give, if known
}

// Trigger is one way in which a run of the route begins.
type Trigger struct {
	Kind    string   // http, event, cron, every, route
	Method  string   // http
	Path    string   // http: /v1/x/{id}
	Headers []string // http: names in req, lower-case with _ for -
	About   string   // event type, cron pattern, period; for display
}

// Connector is an outside system as the first page and the admin face show it.
type Connector struct {
	Name       string      `json:"name"`
	Summary    string      `json:"summary"`
	Operations []Operation `json:"operations"`
	Warnings   []string    `json:"warnings,omitempty"`
}

// Operation of a connector.
type Operation struct {
	Name    string `json:"name"`
	Summary string `json:"summary"`
	Effect  string `json:"effect"`
	Keyed   bool   `json:"keyed"`
	FoundBy string `json:"found_by,omitempty"`
	Basis   string `json:"basis,omitempty"`

	// Of one connector, not of the list:
	In     []Field `json:"in,omitempty"`  // what `with` takes
	Out    []Field `json:"out,omitempty"` // what the result holds
	Faults []Fault `json:"faults,omitempty"`
}

// Field is one value inside what an operation takes or answers.
type Field struct {
	Name     string `json:"name"` // a path: `holder.name`, `slots[].id`; "" is the whole
	Type     string `json:"type"`
	Required bool   `json:"required"`
	Personal bool   `json:"personal,omitempty"`
}

// Fault is an answer that a route may name under `errors`.
type Fault struct {
	Name    string `json:"name"`
	Kind    string `json:"kind"`
	Summary string `json:"summary,omitempty"`
}

// Limits of the public face. Zero fields take DefaultLimits.
type Limits struct {
	Body         int64 // bytes of a JSON body
	Upload       int64 // bytes of a multipart body
	Headers      int   // bytes of the request line and headers
	PerAddress   int   // connections from one address
	Connections  int   // connections in all
	HeaderWithin time.Duration
	BodyWithin   time.Duration // to read the whole request
	Idle         time.Duration
}

// DefaultLimits are trust.md's.
func DefaultLimits() Limits {
	return Limits{Body: 1 << 20, Upload: 20 << 20, Headers: 32 << 10, PerAddress: 1024, Connections: 16384,
		HeaderWithin: 5 * time.Second, BodyWithin: 30 * time.Second, Idle: 2 * time.Minute}
}

// Or fills l's zero fields from m.
func (l Limits) Or(m Limits) Limits {
	or := func(a *int64, b int64) {
		if *a == 0 {
			*a = b
		}
	}
	or(&l.Body, m.Body)
	or(&l.Upload, m.Upload)
	or((*int64)(&l.HeaderWithin), int64(m.HeaderWithin))
	or((*int64)(&l.BodyWithin), int64(m.BodyWithin))
	or((*int64)(&l.Idle), int64(m.Idle))
	if l.Headers == 0 {
		l.Headers = m.Headers
	}
	if l.PerAddress == 0 {
		l.PerAddress = m.PerAddress
	}
	if l.Connections == 0 {
		l.Connections = m.Connections
	}
	return l
}

// Observer sees every answer of a route (RED). Observe must not block.
type Observer interface {
	// Answered: status is what was sent; route is "" for what is not a route.
	Answered(route string, status int, took time.Duration)
}
