// Package intake begins runs with what brokers of others send (`from: queue`). A
// message is acked when its run is durable or has ended, and otherwise comes
// again; one that is no JSON document or does not fit the route's `req` becomes a
// dead letter, a failed run that a person finds with its content, and is acked
// then. Its id, where it has one, is the run's key (semantics 4.6).
package intake

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/identity"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/pipeline/language"
	"github.com/dime-bus/dime/pipeline/run"
)

// Engine is run.Engine's part.
type Engine interface {
	Trigger(ctx context.Context, r run.Request) <-chan error
}

// Message of a broker of others.
type Message struct {
	ID   string // "" where its publisher gave none: each repetition is a message of its own
	Body []byte
	Lost int // deliveries before this one that nobody answered
}

// From says where a route's messages come from.
type From struct {
	Route   string
	Broker  string
	Queue   string // theirs; "" with Exchange
	InOrder bool   // one at a time in all processes

	Exchange string
	Keys     []string
}

// Brokers takes messages from the brokers of the configuration.
type Brokers interface {
	// Receive calls handle with each message, several at once unless InOrder, until
	// ctx ends. Where handle fails the message comes again after a while.
	Receive(ctx context.Context, f From, handle func(context.Context, Message) error) error
}

// tries is how often nobody answered for a message before it becomes a dead letter
// unread: the process that had it died, each time.
const tries = 15

// again is the pause before a broker that can't be used is asked again.
const again = 5 * time.Second

// Intake feeds the routes of the city in force.
type Intake struct {
	engine  Engine
	brokers Brokers
	clock   clock.Clock
	log     *slog.Logger
	limit   int64

	mu      sync.Mutex
	stopped bool
	city    *language.City
	feeds   map[string]context.CancelFunc
	wg      sync.WaitGroup
}

// New returns an intake that reads messages of up to limit bytes.
func New(e Engine, b Brokers, c clock.Clock, log *slog.Logger, limit int64) *Intake {
	return &Intake{engine: e, brokers: b, clock: c, log: log, limit: limit, feeds: make(map[string]context.CancelFunc)}
}

// Swap takes from what the routes of a city name, and no longer from the rest.
func (i *Intake) Swap(c *language.City) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.stopped {
		return
	}
	i.city = c
	want := make(map[string]func(context.Context))
	for _, r := range c.Routes {
		for _, t := range r.From {
			if t.Kind != language.Queue {
				continue
			}
			f := From{Route: r.Name, Broker: t.Broker, Queue: t.Queue, Exchange: t.Exchange, Keys: t.Keys, InOrder: r.OrderBy != nil}
			// A feed outlives a new version of its route: to end it gives back what is in
			// hand, and the broker counts that as a delivery.
			key := fmt.Sprintf("%s %s %t", r.Name, t.Source(), f.InOrder)
			want[key] = func(ctx context.Context) { i.keep(ctx, f, t.Source()) }
		}
	}
	for key, stop := range i.feeds {
		if want[key] == nil {
			stop()
			delete(i.feeds, key)
		}
	}
	for key, keep := range want {
		if i.feeds[key] != nil {
			continue
		}
		ctx, stop := context.WithCancel(context.Background())
		i.feeds[key] = stop
		i.wg.Go(func() { keep(ctx) })
	}
}

// Stop takes nothing more and gives back what nobody works on. What is in hand is
// acked as its run is accepted, for which Wait waits.
func (i *Intake) Stop() {
	i.mu.Lock()
	i.stopped = true
	for _, stop := range i.feeds {
		stop()
	}
	clear(i.feeds)
	i.mu.Unlock()
}

// Wait returns when nothing is in hand; after Stop.
func (i *Intake) Wait() { i.wg.Wait() }

// req is the schema of a route's request as it is now.
func (i *Intake) req(route string) *schema.Schema {
	i.mu.Lock()
	defer i.mu.Unlock()
	if r := i.city.Routes[route]; r != nil {
		return r.Req
	}
	return nil
}

// keep receives until ctx ends. A broker that is away, or refuses, holds up
// neither the start nor a reload: it is asked again.
func (i *Intake) keep(ctx context.Context, f From, source string) {
	caller := &identity.Caller{Kind: "event", Subject: source}
	for {
		err := i.brokers.Receive(ctx, f, func(ctx context.Context, m Message) error {
			r := run.Request{Route: f.Route, Trigger: string(language.Queue), Key: m.ID, Caller: caller, Req: i.read(f, source, m)}
			if s := i.req(f.Route); s != nil {
				r.Req = s.Coerce(r.Req)
			}
			err := <-i.engine.Trigger(ctx, r)
			if err != nil && ctx.Err() == nil {
				i.log.Warn("a message of a queue was not accepted; it comes again", "route", f.Route, "queue", source, "message", m.ID, "error", err)
			}
			return err
		})
		if ctx.Err() != nil {
			return
		}
		i.log.Warn("taking from a broker of others", "route", f.Route, "queue", source, "error", err)
		if clock.Sleep(ctx, i.clock, again) != nil {
			return
		}
	}
}

// read decodes a message. What can't be read comes back as text, which fits no
// schema of an object: the engine keeps it as a dead letter.
func (i *Intake) read(f From, source string, m Message) any {
	warn := func(why string) any {
		i.log.Warn("a message of a queue can't be read and becomes a dead letter", "route", f.Route, "queue", source, "message", m.ID, "why", why)
		if utf8.Valid(m.Body) {
			return string(m.Body)
		}
		return "base64:" + base64.StdEncoding.EncodeToString(m.Body)
	}
	switch {
	case m.Lost >= tries:
		return warn("whoever took it before died of it")
	case int64(len(m.Body)) > i.limit:
		return warn("it is longer than limits.body")
	}
	v, err := schema.DecodeJSON(slices.Clone(m.Body))
	if err != nil {
		return warn(err.Error())
	}
	return v
}
