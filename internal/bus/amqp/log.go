package amqp

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/dime-bus/dime/internal/bus"
)

const (
	recentMessages = 10_000   // that the follower keeps
	recentBytes    = 16 << 20 // of their bodies
	firstLook      = time.Second
	readAhead      = 500
)

// follower keeps the log's newest messages. A stream does not say where it ends,
// so that a reader could not know when it has caught up: what a follower has seen
// is committed, and whatever came before it too. A cursor is a stream's offset + 1.
type follower struct {
	b  *Bus
	wg sync.WaitGroup

	mu      sync.Mutex
	started bool
	seen    chan struct{} // closed with the first message
	next    int64         // offset of the message after the newest
	recent  []amqp091.Delivery
	bytes   int
}

func newFollower(b *Bus) *follower { return &follower{b: b, seen: make(chan struct{})} }

// Log implements bus.Bus. A message is there soon after its publication.
func (b *Bus) Log(ctx context.Context, topic string, after int64, max int) ([]*message.Message, int64, error) {
	if b.o.Unlogged {
		return nil, after, fmt.Errorf("reading the log of %s: this bus keeps none", topic)
	}
	if max < 1 {
		return nil, after, nil
	}
	ms, next, err := b.log.read(ctx, topic, after, max)
	if err != nil {
		return nil, after, fmt.Errorf("reading the log of %s: %w", topic, err)
	}
	return ms, next, nil
}

func (f *follower) read(ctx context.Context, topic string, after int64, max int) ([]*message.Message, int64, error) {
	if f.b.isClosing() {
		return nil, after, ErrClosed
	}
	f.mu.Lock()
	if !f.started {
		f.started = true
		f.wg.Add(1)
		go f.follow()
	}
	f.mu.Unlock()
	look := time.NewTimer(firstLook)
	defer look.Stop()
	select {
	case <-f.seen:
	case <-look.C: // empty, or out of reach
		return nil, after, f.b.in.ready()
	case <-ctx.Done():
		return nil, after, ctx.Err()
	}
	f.mu.Lock()
	recent := f.recent // grows behind, is cut at the front: this part stays as it is
	f.mu.Unlock()
	found := &catch{topic: topic, max: max, after: after}
	if start := offset(recent[0]); after < start {
		if err := f.older(ctx, after, start, found); err != nil {
			return nil, after, err
		}
	}
	for i := range recent {
		if offset(recent[i]) >= after && !found.take(recent[i]) {
			break
		}
	}
	return found.ms, found.after, nil
}

// catch collects a topic's messages.
type catch struct {
	topic string
	max   int
	after int64
	ms    []*message.Message
}

// take says whether there is room for more.
func (c *catch) take(dv amqp091.Delivery) bool {
	if len(c.ms) == c.max {
		return false
	}
	if !matches(c.topic, dv.RoutingKey) {
		return true
	}
	m, _, _, err := received(dv)
	if err != nil { // nobody's event
		return true
	}
	c.after = offset(dv) + 1
	m.SetContext(bus.WithDelivery(m.Context(), &bus.Delivery{Cursor: c.after}))
	c.ms = append(c.ms, m)
	return len(c.ms) < c.max
}

func offset(dv amqp091.Delivery) int64 {
	n, _ := dv.Headers["x-stream-offset"].(int64)
	return n
}

// older reads from the broker what lies in [from, to).
func (f *follower) older(ctx context.Context, from, to int64, found *catch) error {
	conn, err := f.b.in.await(ctx)
	if err != nil {
		return err
	}
	ch, in, err := f.consume(conn, from)
	if err != nil {
		return err
	}
	defer ch.Close()
	for n := 1; ; n++ {
		select {
		case dv, ok := <-in:
			if !ok {
				return errLost
			}
			at := offset(dv)
			if at >= from && at < to && !found.take(dv) || at >= to-1 {
				return nil
			}
			if n%(readAhead/4) == 0 {
				_ = dv.Ack(true) // asks for more
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// consume reads the log from an offset, or from "last", the newest messages.
func (f *follower) consume(conn *amqp091.Connection, from any) (*amqp091.Channel, <-chan amqp091.Delivery, error) {
	ch, err := conn.Channel()
	if err != nil {
		return nil, nil, err
	}
	if err := ch.Qos(readAhead, 0, false); err != nil {
		return nil, nil, err
	}
	in, err := ch.Consume(f.b.o.Name+".log", "", false, false, false, false, amqp091.Table{"x-stream-offset": from})
	if err != nil {
		return nil, nil, err
	}
	return ch, in, nil
}

func (f *follower) follow() {
	defer f.wg.Done()
	for f.b.ctx.Err() == nil {
		conn, err := f.b.in.await(f.b.ctx)
		if err != nil {
			return
		}
		f.mu.Lock()
		var from any = "last"
		if len(f.recent) > 0 {
			from = f.next
		}
		f.mu.Unlock()
		ch, in, err := f.consume(conn, from)
		if err == nil {
			f.keep(in)
			_ = ch.Close()
		} else {
			f.b.o.Log.Warn("following the log", "error", err)
		}
		if f.b.pause(f.b.ctx) != nil {
			return
		}
	}
}

func (f *follower) keep(in <-chan amqp091.Delivery) {
	for n := 1; ; n++ {
		var dv amqp091.Delivery
		var ok bool
		select {
		case dv, ok = <-in:
		case <-f.b.ctx.Done():
		}
		if !ok {
			return
		}
		if n%(readAhead/4) == 0 {
			_ = dv.Ack(true)
		}
		f.mu.Lock()
		if at := offset(dv); at >= f.next {
			if len(f.recent) == 0 {
				close(f.seen)
			}
			f.next = at + 1
			f.recent = append(f.recent, dv)
			f.bytes += len(dv.Body)
			drop := 0
			for len(f.recent)-drop > recentMessages || f.bytes > recentBytes && len(f.recent)-drop > 1 {
				f.bytes -= len(f.recent[drop].Body)
				drop++
			}
			f.recent = f.recent[drop:]
		}
		f.mu.Unlock()
	}
}
