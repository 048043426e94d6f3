package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/pipeline/language"
	"github.com/dime-bus/dime/pipeline/run/rate"
	"github.com/dime-bus/dime/pipeline/run/recall"
	"github.com/dime-bus/dime/pipeline/run/shape"
	"github.com/dime-bus/dime/pipeline/run/trouble"
	"github.com/dime-bus/dime/pipeline/run/waiting"
)

// Message is an event on the city's bus. Body is canonical JSON of its data.
type Message struct {
	ID   string
	Type string
	At   time.Time
	Body []byte
	Meta map[string]string
	Ack  *store.Ack // the embedded bus's delivery; settled by the commit that accepts it
}

// Bus is what the engine needs of the city's bus; the wiring adapts internal/bus
// to it. Without one the engine hands what it publishes to itself, which is what
// tests in virtual time want: nothing then happens outside the clock's count.
type Bus interface {
	// Publish returns when all messages are stored or confirmed.
	Publish(ctx context.Context, ms ...Message) error
	// Consume binds the durable queue to the event types and calls handle for each
	// delivery, several at once, until stop. handle returns nil when the message
	// is settled; an error asks for it again later.
	Consume(ctx context.Context, queue string, types []string, handle func(context.Context, Message) error) (stop func(), err error)
}

// Guard is one backend's limiter and breaker. Enter refuses with an
// `unavailable` or `throttled` fault whose Sent is false; leave reports how the
// attempt ended. patience is how long a run with effects behind it may wait for its
// turn, 0 for one that only begins.
type Guard interface {
	Enter(ctx context.Context, op *connectors.Operation, patience time.Duration) (leave func(error), err error)
}

// Observer is told what happens; every method must return at once.
type Observer interface {
	RunStarted(route string)
	// RunEnded: state is a store.State; a run that was never durable ends so too.
	RunEnded(route, state string, took time.Duration)
	// Attempt of an operation; fault is "" for success.
	Attempt(target, fault string, took time.Duration)
	Deferred(route, target string)
	// Event received by the engine; woken counts the runs it woke.
	Event(eventType string, woken int)
	// Commit of the journal; kind is that of its last record.
	Commit(kind string, took time.Duration)
}

// Config is what an Engine is built from. Store is required; every zero value
// else takes the default named beside it.
type Config struct {
	Store  store.Store
	Bus    Bus         // nil: what is published is handed to the engine itself
	Clock  clock.Clock // clock.Real
	Log    *slog.Logger
	Worker string // "worker"

	BaseURL func() string // base of run.url: BaseURL() + "/v1/runs/" + id; empty if nil

	Ladder       []time.Duration // waits of a deferred step: 5 s, 30 s, 5 min, 1 h; the last repeats
	FoundBySlack time.Duration   // 5 s after an effect's give-up instant before it is asked about
	UndoPatience time.Duration   // 72 h
	LeaseFor     time.Duration   // 10 s
	RenewEvery   time.Duration   // 3 s

	SyncSlots       int // 1024 runs at once that have a caller
	BackgroundSlots int // 64 runs at once that have none

	Observer Observer
	Guards   func(connector string) Guard // nil, or a nil Guard: no limit and no breaker
	// Mandates asks the register whether deputy may act for principal in a purpose;
	// an error is a *fault.Error. nil: everybody acts for himself alone.
	Mandates func(ctx context.Context, deputy, principal, purpose string) (bool, error)
	Timeline int // runs that never became durable and are remembered: 10,000; negative for none
	// TimelineSample is of how many of those one is written to the store behind its
	// answer, so that a restart does not lose all: 0 for none.
	TimelineSample int
	// Do replaces the operation's own Do; full is "connector.operation". The route
	// test runner mocks with it.
	Do func(ctx context.Context, full string, op *connectors.Operation, c connectors.Call) (any, error)
	// Recompile makes a route again from the source that the store kept, for runs
	// whose version the current city no longer has. called finds the kept source
	// of a called route by digest. nil: such runs are parked.
	Recompile func(src language.Source, called func(digest string) (language.Source, error)) (*language.Route, error)

	// Shared: other processes work on the same store. NoWork: this one only serves
	// requests; the others claim what rests, publish and consume.
	Shared, NoWork bool
	// Processes counts those that share the routes' limits; nil is this one alone.
	Processes func() int

	AllowRelabel bool // the same label may come with another route file (--city embedded)
	NoSchedule   bool // cron and every do not fire (route tests)
	Random       func() float64
	UUID         func() string

	// UnsafeNoIntent leaves the intent record out. It exists for the control of
	// the kill test, which must then see loss or doubles. Never set it elsewhere.
	UnsafeNoIntent bool
	// Probe is called before and after every commit with the kinds and paths of its
	// records, `accepted` first where it is the run's first one.
	Probe func(rs []store.Record, when string)
}

// Engine runs the routes of one city. All methods are safe for concurrent use.
//
// Time: every goroutine that works for a run is counted on the clock (clock.Enter)
// and is not counted while it sleeps or waits, so that clock.Virtual.Settle
// returns exactly when nothing can happen before the next alarm. A goroutine
// blocked in Request is not counted while it waits for its answer.
type Engine struct {
	cfg   Config
	clock clock.Clock
	store store.Store
	log   *slog.Logger
	real  bool

	city atomic.Pointer[cityState]

	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	ids      recall.IDs
	answers  waiting.Room[answer]
	inflight waiting.Flights[answer]
	live     liveRuns
	limits   rate.Table
	ring     recall.Ring[volatileRun]
	behind   *recall.Behind
	pins     pins
	shapes   shape.Table
	loop     *clock.Kicker // claim loop
	pub      *clock.Kicker // outbox loop
	timers   timers
	feeds    feeds

	sync, background *waiting.Slots
	started          atomic.Bool
	draining         atomic.Bool
	claiming         trouble.Claiming
}

// cityState is what one Swap published.
type cityState struct {
	city  *language.City
	progs map[string]*program
}

// New checks cfg and returns an engine without routes: call Swap, then Start.
func New(cfg Config) (*Engine, error) {
	if cfg.Store == nil {
		return nil, errors.New("building the engine: it needs a store")
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.Real{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Worker == "" {
		cfg.Worker = "worker"
	}
	if cfg.BaseURL == nil {
		cfg.BaseURL = func() string { return "" }
	}
	if len(cfg.Ladder) == 0 {
		cfg.Ladder = []time.Duration{5 * time.Second, 30 * time.Second, 5 * time.Minute, time.Hour}
	}
	or := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	or(&cfg.FoundBySlack, 5*time.Second)
	or(&cfg.UndoPatience, 72*time.Hour)
	or(&cfg.LeaseFor, 10*time.Second)
	or(&cfg.RenewEvery, 3*time.Second)
	if cfg.SyncSlots == 0 {
		cfg.SyncSlots = 1024
	}
	if cfg.BackgroundSlots == 0 {
		cfg.BackgroundSlots = 64
	}
	if cfg.Timeline == 0 {
		cfg.Timeline = 10_000
	}
	if cfg.Observer == nil {
		cfg.Observer = noObserver{}
	}
	if cfg.Random == nil {
		cfg.Random = rand.Float64
	}
	if cfg.UUID == nil {
		cfg.UUID = newUUID
	}
	if cfg.UnsafeNoIntent {
		cfg.Log.Error("UNSAFE: intents are not written; effects will be lost or doubled by a crash")
	}
	e := &Engine{cfg: cfg, clock: cfg.Clock, store: cfg.Store, log: cfg.Log}
	_, e.real = cfg.Clock.(clock.Real)
	e.ctx, e.cancel = context.WithCancelCause(context.Background())
	e.ring.Max, e.limits.Processes = cfg.Timeline, cfg.Processes
	e.behind = recall.NewBehind(cfg.Store, cfg.TimelineSample, cfg.Log)
	e.sync = waiting.NewSlots(cfg.SyncSlots)
	e.background = waiting.NewSlots(cfg.BackgroundSlots)
	e.loop = clock.NewKicker(e.clock)
	e.pub = clock.NewKicker(e.clock)
	e.city.Store(&cityState{city: &language.City{}, progs: map[string]*program{}})
	return e, nil
}

// Swap puts a checked city in force, atomically: requests that began before it
// go on with the routes they began with. It stores every version, and refuses
// the whole city if a route's label was used before for another route file,
// unless AllowRelabel. On an error the old city stays.
func (e *Engine) Swap(c *language.City) error {
	return e.swap(c)
}

// City returns the city in force.
func (e *Engine) City() *language.City { return e.city.Load().city }

// RouteInfo says what is running (what-users-say 13).
type RouteInfo struct {
	Route  *language.Route
	Digest string
}

// Routes lists the routes in force with their running digest, by name.
func (e *Engine) Routes() []RouteInfo {
	cs := e.city.Load()
	out := make([]RouteInfo, 0, len(cs.progs))
	for _, name := range sortedKeys(cs.progs) {
		r := cs.progs[name].route
		out = append(out, RouteInfo{r, r.Digest})
	}
	return out
}

// Start begins to claim runs, publish the outbox, consume events and keep time.
// It returns at once.
func (e *Engine) Start(ctx context.Context) error {
	if !e.started.CompareAndSwap(false, true) {
		return errors.New("starting the engine: it was started before")
	}
	if err := e.loadShapes(ctx); err != nil {
		return fmt.Errorf("starting the engine: %w", err)
	}
	cs := e.city.Load()
	if e.cfg.NoWork {
		e.schedule(cs)
		return nil
	}
	e.spawn(e.claimLoop)
	e.spawn(e.outboxLoop)
	e.loop.Kick()
	e.pub.Kick()
	if err := e.feed(ctx, cs); err != nil {
		return fmt.Errorf("starting the engine: %w", err)
	}
	e.schedule(cs)
	return nil
}

// Drain stops taking new runs, lets those with a caller finish within their
// deadline and the others stop at their next commit and give their lease back
// (semantics 11.4). It returns when none is left or ctx ends.
func (e *Engine) Drain(ctx context.Context) {
	e.draining.Store(true)
	e.timers.stop()
	e.feeds.stop()
	e.live.wait(ctx)
}

// Draining says whether Drain was called: readiness is off then.
func (e *Engine) Draining() bool { return e.draining.Load() }

// Failing says why no run can be claimed, nil while all is well: the store's disk
// is full, or it can't be read.
func (e *Engine) Failing() error { return e.claiming.Now() }

// Stop drops everything at once, as a crash would, and waits for the engine's
// goroutines. Call Drain before it for a graceful end.
func (e *Engine) Stop() {
	e.draining.Store(true)
	e.timers.stop()
	e.feeds.stop()
	e.cancel(errStopped)
	e.loop.Close()
	e.pub.Close()
	e.wg.Wait()
	e.behind.Close()
}

// Request asks for one run and returns its answer: the reply, or the problem, or
// after the deadline 504 with the run's URL if the run became durable.
func (e *Engine) Request(ctx context.Context, r Request) Answer {
	clock.Enter(e.clock)
	defer clock.Leave(e.clock)
	return e.request(ctx, r)
}

// Ask is Request in a goroutine of its own that is counted on the clock from
// here on: with a virtual clock, Settle after Ask returns when the run rests.
func (e *Engine) Ask(ctx context.Context, r Request) <-chan Answer {
	ch := make(chan Answer, 1)
	clock.Enter(e.clock)
	go func() {
		defer clock.Leave(e.clock)
		ch <- e.request(ctx, r)
	}()
	return ch
}

func (e *Engine) spawn(f func()) {
	e.wg.Add(1)
	go func() { defer e.wg.Done(); f() }()
}
