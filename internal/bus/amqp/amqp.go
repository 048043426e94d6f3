// Package amqp is the city's bus over RabbitMQ: the promise of package bus for
// any number of processes. README.md shows the topology.
//
// What is published is confirmed by every queue it is routed to before Publish
// returns; nothing is acked before its receiver acked it. So a message is
// delivered at least once, and a publication that was cut off by a lost
// connection is repeated with the same id: receivers tell repeats by the id.
package amqp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/dime-bus/dime/internal/bus"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/store"
)

// Options of New; zero values give the defaults, URLs has none.
type Options struct {
	// URLs gives the nodes, with the password, at every dial: a rotated secret
	// counts at once. They are tried in turn.
	URLs func(context.Context) ([]string, error)
	Dial func(network, addr string) (net.Conn, error)

	// Name begins the names of all exchanges and queues; "dime". Cities that share
	// a virtual host differ in it.
	Name string
	// Guest: the broker is others', or this program may declare nothing on it.
	// Foreign and Call are the methods for such a bus.
	Guest bool
	Clock clock.Clock
	Log   *slog.Logger

	Prefetch      int // unacked messages a group and process; 256
	DeliveryLimit int // 20
	// Rungs are the back-offs of a nacked message; 1 s, 5 s, 30 s, 5 min. Messages
	// with an order key wait in the process, others in a queue of the broker.
	Rungs []time.Duration

	PublishTimeout time.Duration // 5 s
	Window         int           // publications that await their confirm; 1,000
	DrainFor       time.Duration // how long Close waits for acks; 10 s, negative: not at all
	// History is where the log lies that KeepLog writes and Log reads; nil for a bus
	// whose topics nobody catches up on.
	History store.Queues
}

// Nodes is Options.URLs for URLs that don't change.
func Nodes(urls ...string) func(context.Context) ([]string, error) {
	return func(context.Context) ([]string, error) { return urls, nil }
}

// What Publish and its like may answer, besides a context's error.
var (
	// ErrClosed is what a closed bus answers.
	ErrClosed = errors.New("the bus is closed")
	// ErrBlocked: the broker takes no messages now, for it is short of memory or disk.
	ErrBlocked = errors.New("the broker takes no messages now: it is short of memory or disk")
	// ErrReturned: no queue takes the message.
	ErrReturned = errors.New("no queue takes the message")
	// ErrFull: a queue that should take it is full.
	ErrFull = errors.New("a queue that the message goes to is full")
	// ErrUnconfirmed: no confirm came in time. The message may be published or
	// not; publishing it again with the same id is safe.
	ErrUnconfirmed = errors.New("the broker did not confirm in time")
)

// Bus implements bus.Bus.
type Bus struct {
	o       Options
	ctx     context.Context // ends with the bus
	stop    context.CancelFunc
	out, in *link // publish, consume: a blocked publisher must not keep acks back
	pub     *publisher
	calls   caller
	logs    sync.WaitGroup
	logging sync.Once

	mu      sync.Mutex
	closing bool // hands out nothing more
	closed  bool
	ds      map[string]*dispatcher
}

var _ bus.Bus = (*Bus)(nil)

// New returns a bus that connects by itself, now and after every loss.
func New(o Options) *Bus {
	if o.Name == "" {
		o.Name = "dime"
	}
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
	if len(o.Rungs) == 0 {
		o.Rungs = []time.Duration{time.Second, 5 * time.Second, 30 * time.Second, 5 * time.Minute}
	}
	if o.PublishTimeout <= 0 {
		o.PublishTimeout = 5 * time.Second
	}
	if o.Window <= 0 {
		o.Window = 1000
	}
	if o.DrainFor == 0 {
		o.DrainFor = 10 * time.Second
	}
	b := &Bus{o: o, ds: make(map[string]*dispatcher)}
	b.ctx, b.stop = context.WithCancel(context.Background())
	base := b.declareBase
	if o.Guest {
		base = func(*amqp091.Connection) error { return nil }
	}
	b.out = newLink(b, "publish", base)
	b.in = newLink(b, "consume", base)
	b.pub = newPublisher(b)
	b.calls.b = b
	return b
}

// rung is the back-off before the delivery that follows attempts ones.
func (b *Bus) rung(attempts int) time.Duration {
	return b.o.Rungs[min(max(attempts, 1), len(b.o.Rungs))-1]
}

// Ready says whether both connections stand and the broker takes messages.
func (b *Bus) Ready() error {
	for _, l := range []*link{b.out, b.in} {
		if err := l.ready(); err != nil {
			return fmt.Errorf("the connection to %s: %w", l.purpose, err)
		}
	}
	return nil
}

// Publish implements message.Publisher: the messages are durable when it
// returns. Of a call that fails, some may be.
func (b *Bus) Publish(topic string, msgs ...*message.Message) error {
	if len(topic) > 255 { // shortstr, AMQP 0-9-1 §4.2.1
		return fmt.Errorf("publishing: a topic has at most 255 bytes, this one has %d", len(topic))
	}
	return b.publish(func(m *message.Message) string {
		if m.Metadata.Get(bus.MetaKey) != "" {
			return b.o.Name + ".keyed"
		}
		return b.o.Name + ".in"
	}, topic, msgs)
}

func (b *Bus) publish(exchange func(*message.Message) string, key string, msgs []*message.Message) error {
	b.mu.Lock()
	closed := b.closed
	b.mu.Unlock()
	if closed {
		return fmt.Errorf("publishing %s: %w", key, ErrClosed)
	}
	if len(msgs) == 0 {
		return nil
	}
	jobs := make([]job, len(msgs))
	for i, m := range msgs {
		if m.UUID == "" {
			m.UUID = watermill.NewUUID()
		}
		p, err := marshal(m, b.o.Clock.Now())
		if err != nil {
			return fmt.Errorf("publishing %s: %w", key, err)
		}
		jobs[i] = job{exchange: exchange(m), key: key, p: p}
	}
	ctx, cancel := context.WithTimeout(msgs[0].Context(), b.o.PublishTimeout)
	defer cancel()
	if err := b.pub.all(ctx, jobs); err != nil {
		return fmt.Errorf("publishing %s: %w", key, err)
	}
	return nil
}

// Subscribe implements message.Subscriber: it joins the group named as the topic.
func (b *Bus) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	return b.Group(topic, bus.GroupOptions{}).Subscribe(ctx, topic)
}

// Group implements bus.Bus. The options of the first subscription to a queue
// hold for all of it.
func (b *Bus) Group(name string, o bus.GroupOptions) bus.Group { return &group{b, name, b.defaults(o)} }

func (b *Bus) defaults(o bus.GroupOptions) bus.GroupOptions {
	if o.Prefetch <= 0 {
		o.Prefetch = b.o.Prefetch
	}
	if o.DeliveryLimit <= 0 {
		o.DeliveryLimit = b.o.DeliveryLimit
	}
	return o
}

// Source is what others send: a queue that they own and declare, or an exchange of
// theirs.
type Source struct {
	// Queue is taken from as it is, nothing is changed about it. With Exchange it is
	// the rest of the name of a queue of ours, NAME.foreign.QUEUE, which is declared
	// and bound to it by Keys.
	Queue    string
	Exchange string
	Keys     []string
	// InOrder: one message at a time in all processes, in the order of the queue of
	// ours; with Exchange only.
	InOrder bool
}

// Foreign subscribes to what others send. A nacked message waits in this process;
// one that is parked goes to a queue of ours beside, NAME.group.foreign.QUEUE.dlq
// (NAME.foreign.QUEUE.dlq), which is declared when it is needed.
func (b *Bus) Foreign(ctx context.Context, from Source, o bus.GroupOptions) (<-chan *message.Message, error) {
	o = b.defaults(o)
	s := spec{name: b.o.Name + ".group.foreign." + from.Queue, foreign: from.Queue, inOrder: from.InOrder}
	if from.Exchange != "" {
		s.name = b.o.Name + ".foreign." + from.Queue
		s.foreign, s.exchange, s.topics = s.name, from.Exchange, from.Keys
	}
	if from.InOrder {
		if from.Exchange == "" {
			return nil, fmt.Errorf("subscribing to %s: only a queue of ours keeps an order over all processes", from.Queue)
		}
		o.Prefetch = 1
	}
	return b.subscribe(ctx, s, o)
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
	return g.b.subscribe(ctx, spec{name: g.b.o.Name + ".group." + queue, topics: []string{topic}}, g.o)
}

func (g *group) SubscribeTopics(ctx context.Context, topics ...string) (<-chan *message.Message, error) {
	return g.b.subscribe(ctx, g.spec(topics), g.o)
}

func (g *group) spec(topics []string) spec {
	return spec{name: g.b.o.Name + ".group." + g.name, topics: topics}
}

func (g *group) Close() error { return nil }

// declareWithin bounds what a subscription waits for the broker.
const declareWithin = 30 * time.Second

func (b *Bus) subscribe(ctx context.Context, s spec, o bus.GroupOptions) (<-chan *message.Message, error) {
	d, err := b.dispatcher(ctx, s, o)
	if err != nil {
		return nil, err
	}
	return d.join(ctx), nil
}

// dispatcher declares what s says and finds or makes what hands it out.
func (b *Bus) dispatcher(ctx context.Context, s spec, o bus.GroupOptions) (*dispatcher, error) {
	if len(s.name) > 240 { // shortstr, AMQP 0-9-1 §4.2.1, with our endings
		return nil, fmt.Errorf("subscribing to %.40q...: a queue's name has at most 240 bytes", s.name)
	}
	s.limit = o.DeliveryLimit
	if b.isClosing() {
		return nil, fmt.Errorf("subscribing to %s: %w", s.name, ErrClosed)
	}
	dctx, cancel := context.WithTimeout(ctx, declareWithin)
	defer cancel()
	conn, err := b.in.await(dctx)
	if err == nil {
		err = b.declare(conn, s)
	}
	if err != nil {
		return nil, fmt.Errorf("subscribing to %s: %w", s.name, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closing {
		return nil, fmt.Errorf("subscribing to %s: %w", s.name, ErrClosed)
	}
	d := b.ds[s.name]
	if d == nil {
		d = newDispatcher(b, s, o)
		b.ds[s.name] = d
	} else {
		d.also(s)
	}
	return d, nil
}

func (b *Bus) isClosing() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closing
}

// Close implements message.Publisher and message.Subscriber; see the promise of
// package bus. Receivers may publish until their messages are answered.
func (b *Bus) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), max(b.o.DrainFor, 0))
	defer cancel()
	return b.end(ctx)
}

// end is Close that waits for acks as long as ctx says.
func (b *Bus) end(ctx context.Context) error {
	b.mu.Lock()
	if b.closing {
		b.mu.Unlock()
		return nil
	}
	b.closing = true
	ds := make([]*dispatcher, 0, len(b.ds))
	for _, d := range b.ds {
		ds = append(ds, d)
	}
	b.mu.Unlock()
	for _, d := range ds {
		d.stopReceiving()
	}
	for _, d := range ds {
		d.drain(ctx)
	}
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.stop()
	b.logs.Wait()
	b.pub.wg.Wait()
	b.out.wg.Wait()
	b.in.wg.Wait()
	return nil
}
