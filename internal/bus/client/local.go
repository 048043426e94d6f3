package client

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/identity"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/store"
)

// Engine is what the client needs of the engine in the same process.
type Engine interface {
	Request(ctx context.Context, r Request) (Answer, error)
	// Publish validates data against the event type's schema and stores it.
	Publish(ctx context.Context, eventType, id string, data any) error
}

// Log reads the topics; store.Queues has it.
type Log interface {
	Log(ctx context.Context, topic string, after int64, max int) ([]store.Message, error)
}

// Local is a Client inside the bus's own process.
type Local struct {
	who    *identity.Client
	engine Engine
	log    Log
	hub    *Hub
	types  Types
	clock  clock.Clock
}

// Types tells whether an event type exists, and the version of its schema.
type Types func(eventType string) (version int, ok bool)

// NewLocal makes the client of one program. hub says when there is something
// new; types may be nil if every type is accepted as it comes.
func NewLocal(who *identity.Client, e Engine, l Log, hub *Hub, types Types, c clock.Clock) *Local {
	return &Local{who: who, engine: e, log: l, hub: hub, types: types, clock: c}
}

var _ Client = (*Local)(nil)

// Request implements Client.
func (l *Local) Request(ctx context.Context, r Request) (Answer, error) {
	if !l.who.Rights.MayRequest(r.Route) {
		return Answer{}, l.denied("request the route", r.Route)
	}
	if len(r.Key) > 200 {
		return Answer{}, fault.New(fault.Invalid, "the idempotency key is %d bytes, more than 200", len(r.Key))
	}
	if r.Caller == nil {
		r.Caller = l.who.Caller()
	}
	return l.engine.Request(ctx, r)
}

// Publish implements Client.
func (l *Local) Publish(ctx context.Context, eventType, id string, data any) error {
	if !l.who.Rights.MayPublish(eventType) {
		return l.denied("publish the event", eventType)
	}
	if id == "" || len(id) > 200 {
		return fault.New(fault.Invalid, "an event needs an id of 1 to 200 bytes, so that publishing it again is safe")
	}
	if _, err := l.version(eventType); err != nil {
		return err
	}
	if err := l.engine.Publish(ctx, eventType, id, data); err != nil {
		return err
	}
	l.hub.Notify(eventType)
	return nil
}

func (l *Local) version(eventType string) (int, error) {
	if l.types == nil {
		return 1, nil
	}
	v, ok := l.types(eventType)
	if !ok {
		return 0, fault.New(fault.NotFound, "there is no event type %q; event types are the files of schemas/events", eventType)
	}
	return max(v, 1), nil
}

// page is how many events are read at once.
const page = 100

// lookAgain is how long a subscriber may miss an event of another process that
// shares the store; in this process the hub tells at once.
const lookAgain = time.Second

// Subscribe implements Client.
func (l *Local) Subscribe(ctx context.Context, eventType string, after Cursor, handle func(context.Context, Event) error) error {
	return Follow(ctx, l, eventType, after, handle)
}

// Follow is Subscribe for those that read by pages.
func Follow(ctx context.Context, r interface {
	Read(ctx context.Context, eventType string, after Cursor) ([]Event, error)
}, eventType string, after Cursor, handle func(context.Context, Event) error) error {
	for {
		es, err := r.Read(ctx, eventType, after)
		if err != nil {
			return err
		}
		for _, e := range es {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := handle(ctx, e); err != nil {
				return err
			}
			after = e.Cursor
		}
	}
}

// Read gives the events behind the cursor, some at a time, and waits for the next
// one where there is none.
func (l *Local) Read(ctx context.Context, eventType string, after Cursor) ([]Event, error) {
	if !l.who.Rights.MaySubscribe(eventType) {
		return nil, l.denied("subscribe to the event", eventType)
	}
	if _, err := l.version(eventType); err != nil {
		return nil, err
	}
	for {
		changed := l.hub.changed(eventType) // before reading: nothing falls between
		ms, err := l.log.Log(ctx, eventType, int64(after), page)
		if err != nil {
			return nil, subscribing(ctx, eventType, err)
		}
		out := make([]Event, len(ms))
		for i, m := range ms {
			if out[i], err = l.event(eventType, m); err != nil {
				if i == 0 {
					return nil, err
				}
				return out[:i], nil // who reads on from there is told
			}
		}
		if len(out) > 0 {
			return out, nil
		}
		if err := l.rest(ctx, changed); err != nil {
			return nil, err
		}
	}
}

func subscribing(ctx context.Context, eventType string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var f *fault.Error
	if errors.As(err, &f) {
		return err
	}
	return &fault.Error{Kind: fault.Unavailable, Detail: "the bus can't be read now",
		Err: fmt.Errorf("reading the log of %q: %w", eventType, err)}
}

func (l *Local) rest(ctx context.Context, changed <-chan struct{}) error {
	due := make(chan struct{})
	stop := l.clock.At(l.clock.Now().Add(lookAgain), func() { close(due) })
	defer stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-changed:
	case <-due:
	}
	return nil
}

func (l *Local) event(eventType string, m store.Message) (Event, error) {
	data, err := schema.DecodeJSON(m.Body)
	if err != nil {
		return Event{}, &fault.Error{Kind: fault.Internal, Err: fmt.Errorf("reading event %q of %q: %w", m.ID, eventType, err)}
	}
	v, err := strconv.Atoi(m.Meta["version"])
	if err != nil || v < 1 {
		v = 1
		if l.types != nil {
			if known, ok := l.types(eventType); ok {
				v = max(known, 1)
			}
		}
	}
	return Event{Cursor: Cursor(m.Seq), ID: m.ID, Type: eventType, Version: v, At: m.At, Data: data}, nil
}

func (l *Local) denied(what, name string) error {
	return fault.New(fault.Denied, "client %q may not %s %q; name it under clients.%s in config/dime.yaml", l.who.Name, what, name, l.who.Name)
}
