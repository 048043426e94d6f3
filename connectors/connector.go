// Package connectors is the contract between the engine and the outside
// systems. A connector describes itself: documentation, expression types, mocks,
// consoles and emulators all come from that description. A connector never knows
// the pipeline, the bus, a route or a neighbour.
package connectors

import (
	"context"
	"time"

	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/schema"
)

// Effect says what a call does to the world.
type Effect string

const (
	Safe   Effect = "safe"   // reads only: may be called any number of times
	Writes Effect = "writes" // changes something
	Pays   Effect = "pays"   // moves money or what can't be taken back
)

// Connector is one outside system.
type Connector interface {
	Describe() Description
}

// Description is what a connector says of itself. It does not change while the
// connector is in use; a change makes a new connector.
type Description struct {
	Name       string // the first half of `call: NAME.OPERATION`
	Summary    string // one sentence
	Operations []*Operation
	Warnings   []string // what the connector had to overlook in its source document
	Policy     Policy   // of the backend, shared by all operations: what NewGuard takes
}

// Operation is one thing that can be asked of a connector.
type Operation struct {
	Name    string // the second half of `call: NAME.OPERATION`
	Summary string
	In      *schema.Schema // what `with` must fit: always an object; nil takes nothing
	Out     *schema.Schema // what it answers; nil answers nothing
	// Checked: Do holds its answer to Out itself and refuses what does not fit with
	// a Contract fault; the engine need not do so again.
	Checked bool
	Effect  Effect

	// Keyed: the far side carries out one Call.Key once, however often it comes.
	Keyed bool
	// FoundBy names a safe operation of the same connector that tells whether an
	// effect happened. It is called with the effect's Key and Args; it answers the
	// effect's result, or a NotFound fault when it surely did not happen.
	FoundBy string
	// Basis is the section of the norm or contract that Keyed and FoundBy rest on.
	Basis string

	Faults []Fault
	Policy Policy // what the operation asks for; zero fields take the connector's

	// Do makes one attempt. It returns a *fault.Error whose Sent says whether the
	// request may have reached the far side, and honours ctx at once.
	Do func(ctx context.Context, c Call) (any, error)
}

// Fault is an answer of the far side that has a name of its own.
type Fault struct {
	Name    string // what a route author writes under `errors:`
	Kind    fault.Kind
	Summary string
}

// Call is one attempt of an operation.
type Call struct {
	Key     string         // the effect's key, a UUID; empty for safe operations (but set for FoundBy)
	GiveUp  time.Time      // nobody waits for the answer after this
	Args    map[string]any // fits Operation.In
	Attempt int            // 1 for the first
	Run     string         // public id of the run, for the far side's log; may be empty
}

// Policy bounds the calls to one backend. Zero values take the defaults of
// DefaultPolicy. A route's step may tighten it, never loosen it.
type Policy struct {
	Timeout  time.Duration // of one attempt
	Attempts int           // the first included
	Backoff  time.Duration // before the second attempt; doubles, jittered, at most 5 s
	InFlight int           // concurrent calls to the backend
	Rate     float64       // calls a second to the backend; 0 is unlimited
	// The breaker opens when Failures of the last Window calls failed
	// transiently, and lets one call try again after Pause.
	Failures, Window int
	Pause            time.Duration
}

// DefaultPolicy is what a connector gets that says nothing.
var defaultPolicy = Policy{
	Timeout: 5 * time.Second, Attempts: 3, Backoff: 100 * time.Millisecond,
	InFlight: 64, Failures: 10, Window: 20, Pause: 5 * time.Second,
}

// DefaultPolicy returns it.
func DefaultPolicy() Policy { return defaultPolicy }

// Within is p, or its defaults, where a step allows less; its zeros say nothing
// (semantics 3.1).
func (p Policy) Within(timeout time.Duration, attempts int) Policy {
	p = p.Or(DefaultPolicy())
	if timeout > 0 {
		p.Timeout = min(p.Timeout, timeout)
	}
	if attempts > 0 {
		p.Attempts = min(p.Attempts, attempts)
	}
	p.Attempts = max(p.Attempts, 1)
	return p
}

// Or fills p's zero fields from q.
func (p Policy) Or(q Policy) Policy {
	if p.Timeout == 0 {
		p.Timeout = q.Timeout
	}
	if p.Attempts == 0 {
		p.Attempts = q.Attempts
	}
	if p.Backoff == 0 {
		p.Backoff = q.Backoff
	}
	if p.InFlight == 0 {
		p.InFlight = q.InFlight
	}
	if p.Rate == 0 {
		p.Rate = q.Rate
	}
	if p.Failures == 0 {
		p.Failures, p.Window = q.Failures, q.Window
	}
	if p.Pause == 0 {
		p.Pause = q.Pause
	}
	return p
}

// Checker says whether the far side can be reached.
type Checker interface {
	Check(ctx context.Context) error
}
