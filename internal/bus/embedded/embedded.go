// Package embedded is the bus of a single process, over the store's own tables:
// Publish returns after the commit, what was committed is dispatched from
// memory, and acks ride in the next commit.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/dime-bus/dime/internal/bus"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/store"
)

// Options of NewWith; zero values give the defaults.
type Options struct {
	Clock         clock.Clock
	Log           *slog.Logger
	Prefetch      int                              // unacked messages a group; 256
	DeliveryLimit int                              // 20
	Backoff       func(attempts int) time.Duration // after the attempts-th failed delivery, from 1; 1 s doubling to 5 min
	DrainFor      time.Duration                    // how long Close waits for acks; 10 s, negative: not at all
}

// Bus implements bus.Bus.
type Bus struct {
	q store.Queues
	o Options

	mu     sync.Mutex
	closed bool
	ds     map[string]*dispatcher
}

var _ bus.Bus = (*Bus)(nil)

// New returns a bus over a store's queues with the default options. Close it
// before the store.
func New(q store.Queues, clk clock.Clock, log *slog.Logger) *Bus {
	return NewWith(q, Options{Clock: clk, Log: log})
}

// NewWith is New with options.
func NewWith(q store.Queues, o Options) *Bus {
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Prefetch <= 0 {
		o.Prefetch = 256
	}
	if o.DeliveryLimit <= 0 {
		o.DeliveryLimit = 20
	}
	if o.Backoff == nil {
		o.Backoff = func(attempts int) time.Duration {
			return min(time.Second<<min(attempts-1, 16), 5*time.Minute)
		}
	}
	if o.DrainFor == 0 {
		o.DrainFor = 10 * time.Second
	}
	return &Bus{q: q, o: o, ds: make(map[string]*dispatcher)}
}

// ErrClosed is what a closed bus answers.
var ErrClosed = errors.New("the bus is closed")

// Publish implements message.Publisher: all messages are durable when it
// returns, in one commit, or none is. The payload must not be changed after it.
func (b *Bus) Publish(topic string, msgs ...*message.Message) error {
	if len(msgs) == 0 {
		return nil
	}
	b.mu.Lock()
	closed := b.closed
	b.mu.Unlock()
	if closed {
		return fmt.Errorf("publishing to %s: %w", topic, ErrClosed)
	}
	ms := make([]store.Message, len(msgs))
	for i, m := range msgs {
		id := m.UUID
		if id == "" {
			id = watermill.NewUUID()
		}
		ms[i] = store.Message{ID: id, Topic: topic, Body: m.Payload, Meta: m.Metadata}
	}
	return b.q.Publish(msgs[0].Context(), ms...)
}

// Subscribe implements message.Subscriber: it joins the group named as the topic.
func (b *Bus) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	return b.Group(topic, bus.GroupOptions{}).Subscribe(ctx, topic)
}

// Group implements bus.Bus. The options of the first subscription to a queue
// hold for all of it.
func (b *Bus) Group(name string, o bus.GroupOptions) bus.Group {
	if o.Prefetch <= 0 {
		o.Prefetch = b.o.Prefetch
	}
	if o.DeliveryLimit <= 0 {
		o.DeliveryLimit = b.o.DeliveryLimit
	}
	return &group{b, name, o}
}

// Log implements bus.Bus.
func (b *Bus) Log(ctx context.Context, topic string, after int64, max int) ([]*message.Message, int64, error) {
	ms, err := b.q.Log(ctx, topic, after, max)
	if err != nil {
		return nil, after, err
	}
	out := make([]*message.Message, len(ms))
	for i := range ms {
		out[i] = wire(&ms[i])
		after = ms[i].Seq
		out[i].SetContext(bus.WithDelivery(out[i].Context(), &bus.Delivery{Cursor: after}))
	}
	return out, after, nil
}

// wire makes the message that a receiver gets; what it does to the metadata is
// its own.
func wire(m *store.Message) *message.Message {
	out := message.NewMessage(m.ID, m.Body)
	for k, v := range m.Meta {
		out.Metadata[k] = v
	}
	if out.Metadata[bus.MetaType] == "" {
		out.Metadata[bus.MetaType] = m.Topic
	}
	if out.Metadata[bus.MetaTime] == "" {
		out.Metadata[bus.MetaTime] = m.At.Format(time.RFC3339Nano)
	}
	return out
}

// Close implements message.Publisher and message.Subscriber; see the promise of
// package bus.
func (b *Bus) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	ds := make([]*dispatcher, 0, len(b.ds))
	for _, d := range b.ds {
		ds = append(ds, d)
	}
	b.mu.Unlock()
	ctx := context.Background()
	if b.o.DrainFor > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, b.o.DrainFor)
		defer cancel()
	}
	for _, d := range ds {
		d.stopReceiving()
	}
	var errs []error
	for _, d := range ds {
		errs = append(errs, d.drain(ctx, b.o.DrainFor > 0))
	}
	return errors.Join(errs...)
}

type group struct {
	b    *Bus
	name string
	o    bus.GroupOptions
}

func (g *group) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	queue := g.name + "/" + topic
	if g.name == topic {
		queue = topic
	}
	return g.b.subscribe(ctx, queue, g.o, topic)
}

func (g *group) SubscribeTopics(ctx context.Context, topics ...string) (<-chan *message.Message, error) {
	return g.b.subscribe(ctx, g.name, g.o, topics...)
}

func (g *group) Close() error { return nil }

func (b *Bus) subscribe(ctx context.Context, queue string, o bus.GroupOptions, topics ...string) (<-chan *message.Message, error) {
	if err := b.q.Bind(ctx, queue, topics...); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, fmt.Errorf("subscribing to %s: %w", queue, ErrClosed)
	}
	d := b.ds[queue]
	if d == nil {
		d = newDispatcher(b, queue, o)
		b.ds[queue] = d
	}
	return d.join(ctx), nil
}
