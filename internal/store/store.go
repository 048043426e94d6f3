// Package store is the contract of the engine's memory: the journal with its
// runs, waits, timers, outbox and stored events, the versions that live runs
// need, and the bytes that are too large for a record. package sqlite keeps the
// promise in one file; storetest judges every implementation.
//
// Bodies cross this contract in clear and are sealed inside it (semantics 10.4):
// an implementation encrypts every record body, stored event, answer and outbox
// body under the run's data key, wraps that key for each of the run's subjects,
// and keeps keys of look-up only as HMACs.
package store

import (
	"context"
	"errors"
	"time"
)

// RunID is a run's number; its public form carries a MAC (Store.PublicID).
type RunID int64

// State is a run's state (semantics 8).
type State string

const (
	Queued    State = "queued"
	Running   State = "running"
	Waiting   State = "waiting"
	Undoing   State = "undoing"
	Parked    State = "parked"
	Done      State = "done"
	Cancelled State = "cancelled"
	Failed    State = "failed"
	Settled   State = "settled" // failed, and a person has seen to it: no dead letter any more
)

// Ended says whether nothing more happens by itself and retention may count.
func (s State) Ended() bool { return s == Done || s == Cancelled || s == Failed || s == Settled }

// Run is a row of the run table.
type Run struct {
	ID       RunID
	Version  string // digest of the route version
	Route    string
	State    State
	Reason   string // why it ended or rests, a word of the route's or the engine's
	Priority int    // 0 high, 1 normal, 2 low
	Epoch    int64  // grows at each claim
	OrderKey string // in clear here, an HMAC in the table; "" where the route has no order_by
	Subjects []string
	Due      time.Time // zero: rests until something happens
	Started  time.Time // the instant of Accept's commit: run.accepted_at
	Ended    time.Time // zero while alive

	Once *Once  // nil where neither the route nor the message names a key
	Ack  *Ack   // the embedded bus's delivery that the accepting commit settles; nil otherwise
	Head []byte // canonical JSON of what the run began with: request, caller, trigger (the engine's business)
}

// Once is the idempotency key of an accepted run (semantics 4.6). Scope and Key
// are in clear here and stored as one HMAC.
type Once struct {
	Scope, Key string
	BodyHash   []byte
	Until      time.Time
}

// Ack names a delivery of the embedded bus.
type Ack struct {
	Queue string
	ID    int64
}

// Kind of a record (semantics 6).
type Kind string

const (
	Accepted    Kind = "accepted"
	Result      Kind = "result"
	Intent      Kind = "intent"
	OutcomeRec  Kind = "outcome"
	Reply       Kind = "reply"
	Rest        Kind = "rest"
	Woken       Kind = "woken"
	Expired     Kind = "expired"
	Joined      Kind = "joined"
	UndoIntent  Kind = "undo_intent"
	UndoOutcome Kind = "undo_outcome"
	End         Kind = "end"
	Person      Kind = "person" // cancel, replay, skip, resolve, migrate: who and why in Body
)

// Record is one line of a run's journal. Body is canonical JSON. The pointers
// ask for rows that must be written in the same commit; they are not read back.
type Record struct {
	Kind  Kind
	Path  string
	Round int
	At    time.Time
	Fault string // fault kind or name; "" for success
	Body  []byte

	Wait   *Wait    // registers a wait (Kind Rest)
	Unwait bool     // removes this Path's wait (Kind Woken, Expired, or an end of the block)
	Outbox []Outbox // rows for the outbox (emit, deliver, start, run.* events)
	Taken  int64    // Kind Woken: the stored event that the wait takes
	// Version is the digest that the run is pinned to from this record on (Kind
	// Person); ErrNoVersion if none is stored under it. Append alone heeds it.
	Version string
}

// Wait is a durable wait for an event (semantics 5.1). Key is canonical JSON of
// the values, in clear here and stored as an HMAC.
type Wait struct {
	Type, Shape string
	Key         string
	Until       time.Time // zero: no time-out
	Since       time.Time // events received from this instant on count (the run's acceptance)
}

// Outbox is a message to publish after its commit, at least once.
type Outbox struct {
	ID    string // message id: stable over repetitions
	Topic string // event type, or "start:ROUTE"
	Body  []byte
	Meta  map[string]string
}

// OutboxRow is an outbox message with its place.
type OutboxRow struct {
	Outbox
	Seq      int64
	Run      RunID
	Attempts int
}

// Event arrives from the bus or from a connector.
type Event struct {
	ID   string // message id; a repeated id is stored once
	Type string
	At   time.Time
	Body []byte
	Keys []EventKey // one a known shape of the type, where no part is nil
	// Shapes are all that the sender knows of the type. A store of several processes
	// answers ErrShapes where another process has taught it one more.
	Shapes []string
	Ack    *Ack
	Keep   time.Duration // how long it is kept; 0 means 7 days
	// Hold keeps it longer: until a run takes it or a person settles it.
	Hold bool
}

// EventKey is an event's value under one shape.
type EventKey struct{ Shape, Key string }

// Candidate is a stored event that matches a wait's key.
type Candidate struct {
	Seq  int64
	ID   string
	Type string
	At   time.Time
	Body []byte
}

// Lease is the right to write to a run.
type Lease struct {
	Run   RunID
	Epoch int64
	Until time.Time
}

var (
	// ErrFenced: somebody else owns the run; drop it and write nothing.
	ErrFenced = errors.New("run is owned by another worker")
	ErrNoRun  = errors.New("no such run")
	ErrFull   = errors.New("the store's disk is full")
	ErrErased = errors.New("the person's key was destroyed")
	ErrTopic  = errors.New("not a topic that a message can have")
	// ErrClosed: the store was closed (or, in a test, its process "crashed").
	ErrClosed = errors.New("the store is closed")
	// ErrTooLarge: a value above 8 MiB, or a run of more than 400,000 commits
	// (semantics 6.3).
	ErrTooLarge = errors.New("larger than the journal takes")
	// ErrNoBlob and ErrNoVersion: nothing is stored under that digest.
	ErrNoBlob    = errors.New("no such blob")
	ErrNoVersion = errors.New("no such version")
	// ErrShapes: the event has no key under a shape that another process waits by;
	// learn from Shapes and deliver again.
	ErrShapes = errors.New("another process waits for this event by another shape")
	// ErrResealing: what the old keys sealed is still being sealed anew.
	ErrResealing = errors.New("the keys are still being changed: what the old ones sealed is sealed anew first")
	// ErrQueueFull: 1,000 runs queue behind this order key (semantics 5.4).
	ErrQueueFull = errors.New("too many runs queue behind this order key")
)

// Duplicate is Accept's error when the once key is taken.
type Duplicate struct {
	Run      RunID
	SameBody bool
}

func (d *Duplicate) Error() string { return "the key was used before" }

// Journal is the truth about runs. Every method that writes is one group commit
// and returns after it is durable.
type Journal interface {
	// Reserve sets n run ids aside; ids that are never used are harmless.
	Reserve(ctx context.Context, n int) (first RunID, err error)

	// Accept makes a run durable with its first records. r.ID was reserved. With
	// an OrderKey the commit gives the place, and the run is stored as Queued if
	// an earlier one of (Route, OrderKey) lives, whatever r.State says. It fills
	// and returns the stored run. *Duplicate if the once key is taken. The lease
	// is zero for a run stored as Queued; so it is where r.State is one that rests
	// or has ended.
	Accept(ctx context.Context, r Run, rs ...Record) (Run, Lease, error)

	// Append adds records and sets the state, in one commit that fails with
	// ErrFenced if l's epoch is not the run's. A zero wake means: rest until
	// something happens; with state Running or Undoing the run stays with its
	// owner, else the lease is given back. Running or Undoing with a wake also
	// gives it back: the run rests under that word and is due then (a deferred
	// undo). A run that an event reached since its claim is due at once, whatever
	// wake says, unless it parks or ends. An ended state frees the order key and
	// makes the next run of it due.
	Append(ctx context.Context, l Lease, s State, reason string, wake time.Time, rs ...Record) error

	// Claim takes up to max runs that are due, woken, or whose owner's lease ran
	// out, by priority then due instant, raising each one's epoch. A claimed run
	// that was queued or waiting is Running from here on. The runs come without
	// Head, Subjects and OrderKey, which Load gives. A run may be claimed with
	// nothing new to find (an event that it took already): look and rest again.
	Claim(ctx context.Context, worker string, max int) ([]Run, []Lease, error)
	// ClaimOne takes one run whatever its due instant, for a person's act or a
	// caller's retry; ErrFenced if its owner is alive. It changes no state: until
	// the holder's first Append a crash leaves the run as it was.
	ClaimOne(ctx context.Context, worker string, id RunID) (Run, Lease, error)
	// Renew prolongs leases and returns those that are no longer held; the new
	// instant is now + the store's lease time.
	Renew(ctx context.Context, ls ...Lease) (lost []Lease, err error)
	// Release gives leases back without a word (SIGTERM): a run that was running
	// can be claimed at once.
	Release(ctx context.Context, ls ...Lease) error

	// NextDue is the earliest instant at which Claim may find something more.
	NextDue(ctx context.Context) (time.Time, bool, error)
	// Wake receives a value (never blocking the sender) after each commit that
	// made a run due or put a row in the outbox.
	Wake() <-chan struct{}
	// OnWake calls f where Wake would receive, before the writing method returns;
	// f must not block nor call the store. A loop that is counted on a virtual
	// clock enters the clock in f, so that nothing seems to rest between a commit
	// and the loop that it wakes.
	OnWake(f func()) (stop func())

	// Load gives the run and its records in order. ErrErased comes with the run
	// and the skeletons of its records (no head, no bodies).
	Load(ctx context.Context, id RunID) (Run, []Record, error)
	// Find lists runs without their heads, newest first.
	Find(ctx context.Context, f Filter) ([]Run, error)
	// OnceRun finds the run that holds a once key.
	OnceRun(ctx context.Context, scope, key string) (id RunID, bodyHash []byte, found bool, err error)
	// Rearm makes a failed run startable again under its id, with the person's or
	// caller's record (semantics 4.6, 10.2); state becomes Running.
	Rearm(ctx context.Context, id RunID, worker string, rs ...Record) (Run, Lease, error)

	// Deliver stores an event with its keys and marks every run whose wait has an
	// equal (type, shape, key) due, in one transaction. A repeated id is settled
	// and wakes nobody.
	Deliver(ctx context.Context, e Event) (woken int, err error)
	// Candidates lists stored events equal to a registered wait's key that this
	// run has not taken, earliest first.
	Candidates(ctx context.Context, run RunID, path string) ([]Candidate, error)
	// Held lists events with Hold that no run has taken, without their bodies,
	// oldest first, behind a Seq.
	Held(ctx context.Context, after int64, max int) ([]Candidate, error)
	// SettleEvent holds an event no longer; false if it was not held.
	SettleEvent(ctx context.Context, seq int64) (bool, error)
	// Reindex teaches the store a shape of a type, and adds keys under it for the
	// events that are stored already. Shapes are those that it was taught.
	Reindex(ctx context.Context, eventType, shape string, keys func(body []byte) []EventKey) error
	Shapes(ctx context.Context, eventType string) ([]string, error)

	// Outbox lists rows that are due; Published deletes one, Postpone puts it off.
	Outbox(ctx context.Context, max int) ([]OutboxRow, error)
	Published(ctx context.Context, seqs ...int64) error
	Postpone(ctx context.Context, seq int64, until time.Time) error

	// Fire reports true for the one caller that claims (route, instant).
	Fire(ctx context.Context, route string, at time.Time) (mine bool, err error)
	LastFired(ctx context.Context, route string) (time.Time, bool, error)
}

// Filter of Find; zero fields do not restrict.
type Filter struct {
	Route  string
	States []State
	Before RunID // for paging: ids below
	Limit  int   // 100 if zero
}

// Version is the source that a live run needs to be compiled again.
type Version struct {
	Digest, Route string
	Label         int
	Source        []byte
	First, Last   time.Time
}

// Versions keeps them.
type Versions interface {
	PutVersion(ctx context.Context, v Version) error
	GetVersion(ctx context.Context, digest string) (Version, error)
	ListVersions(ctx context.Context, route string) ([]Version, error)
	// DropVersions deletes those that no stored run needs and keep does not name.
	DropVersions(ctx context.Context, keep map[string]bool) (int, error)
}

// Blobs keeps bytes by their SHA-256 (claim check). They are sealed by a key of
// their own.
type Blobs interface {
	PutBlob(ctx context.Context, b []byte) (digest string, err error)
	GetBlob(ctx context.Context, digest string) ([]byte, error)
}

// Table is a small sealed table of one owner, a connector or the archive of
// documents. Keys are in clear: they hold nothing personal. Values are sealed by
// the city's key.
type Table interface {
	Get(ctx context.Context, key string) (value []byte, found bool, err error)
	// Update replaces a row by what f makes of it (nil: there is none; nil from f:
	// delete it) and returns when that is durable. f runs again when another writer
	// came in between, so it has no effect of its own; its error changes nothing.
	Update(ctx context.Context, key string, f func(old []byte) ([]byte, error)) error
	// List gives rows whose key has the prefix, above the key `after`, in order.
	List(ctx context.Context, prefix, after string, max int) ([]Row, error)
}

// Row of a Table.
type Row struct {
	Key   string
	Value []byte
}

// Tables gives each owner its own.
type Tables interface {
	Table(owner string) Table
}

// Message is a row of the embedded bus.
type Message struct {
	Seq      int64
	ID       string
	Topic    string
	Body     []byte
	Meta     map[string]string
	At       time.Time
	Attempts int    // deliveries before this one
	Reason   string // of a parked message
}

// RepeatWindow is how far back a repeated message is recognised.
const RepeatWindow = 8192

// Queues is the embedded bus's table: a log of messages per topic, and named
// queues bound to topics that each get a copy.
type Queues interface {
	// Bind makes queue receive what is published to the topics from now on; it is
	// durable and idempotent. A topic "a.*" takes every topic with the prefix "a.";
	// "*" takes all.
	Bind(ctx context.Context, queue string, topics ...string) error
	// Publish stores the messages once for the log and once a bound queue. An id
	// that its topic has among the latest RepeatWindow messages of all is the same
	// message: it is stored once, and no error.
	Publish(ctx context.Context, ms ...Message) error
	// Receive takes up to max messages that are due and not in flight.
	Receive(ctx context.Context, queue string, max int) ([]Message, error)
	// Settle deletes a delivery; Again returns it, due at the instant.
	Settle(ctx context.Context, acks ...Ack) error
	Again(ctx context.Context, a Ack, due time.Time) error
	// Unreceive puts deliveries back unhandled, in their old place, with no attempt
	// counted (a subscriber that closes).
	Unreceive(ctx context.Context, acks ...Ack) error
	// ParkMessage moves a delivery to the queue's parked list.
	ParkMessage(ctx context.Context, a Ack, reason string) error
	Parked(ctx context.Context, queue string) ([]Message, error)
	// Unpark gives a parked delivery back to its queue with its attempts forgotten.
	Unpark(ctx context.Context, a Ack) error
	// Ready receives after each commit that made a message of the queue due.
	Ready(queue string) <-chan struct{}
	// OnReady calls f where Ready would receive, before the writing method
	// returns; f must not block nor call the store.
	OnReady(queue string, f func()) (stop func())
	Depth(ctx context.Context, queue string) (int, error)
	// Log reads a topic's messages behind a cursor (Seq), oldest first, for
	// subscribers that were away; messages live 7 days.
	Log(ctx context.Context, topic string, after int64, max int) ([]Message, error)
}

// Keep says which runs have been kept long enough: those of a route that ended
// before its instant, or before Other where the route is not named.
type Keep struct {
	Routes map[string]time.Time
	Other  time.Time
}

// First is the earliest of them.
func (k Keep) First() time.Time {
	first := k.Other
	for _, t := range k.Routes {
		if t.Before(first) {
			first = t
		}
	}
	return first
}

// Store is all of it.
type Store interface {
	Journal
	Versions
	Blobs
	Tables
	Queues
	// PublicID and ParseID turn a run's number into the id that people see (the
	// number and a 64-bit MAC, base32) and back; a wrong MAC is ErrNoRun.
	PublicID(id RunID) string
	ParseID(s string) (RunID, error)
	// Key derives a stable UUID from the store's secret (semantics 7).
	Key(parts ...string) string
	Erase(ctx context.Context, subject string) error
	Expire(ctx context.Context, keep Keep, max int) (int, error) // retention, in batches
	Close() error
}
