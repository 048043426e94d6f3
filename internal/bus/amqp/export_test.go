package amqp

import (
	"context"
	"github.com/ThreeDotsLabs/watermill/message"
	"testing"
	"time"
)

// Kill ends a bus whose connections are cut, and waits for nobody.
func (b *Bus) Kill() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = b.end(ctx)
}

// Settle returns when the broker has all acks given so far.
func (b *Bus) Settle(t *testing.T) {
	t.Helper()
	b.mu.Lock()
	var ds []*dispatcher
	for _, d := range b.ds {
		ds = append(ds, d)
	}
	b.mu.Unlock()
	deadline := time.Now().Add(20 * time.Second)
	for _, d := range ds {
		for d.answering() {
			if time.Now().After(deadline) {
				t.Fatal("an answered message is never settled")
			}
			time.Sleep(time.Millisecond)
		}
		d.mu.Lock()
		var fs []*feed
		for _, s := range d.sources {
			if s.feed != nil {
				fs = append(fs, s.feed)
			}
		}
		d.mu.Unlock()
		for _, f := range fs {
			reply := make(chan error, 1)
			select {
			case f.ask <- reply:
				if err := <-reply; err != nil {
					t.Log(err)
				}
			case <-f.done:
			}
		}
	}
}

// answering says whether a receiver has answered a message that is not settled yet.
func (d *dispatcher) answering() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for it := range d.held {
		select {
		case <-it.msg.Acked():
			return true
		case <-it.msg.Nacked():
			return true
		default:
		}
	}
	return false
}

// Declare declares a group that nobody consumes.
func (b *Bus) Declare(group string, topics ...string) error {
	conn, err := b.in.await(context.Background())
	if err != nil {
		return err
	}
	return b.declare(conn, spec{name: b.o.Name + ".group." + group, topics: topics, limit: b.o.DeliveryLimit})
}

// PublishTo publishes to any exchange; "" with a queue's name as the key is that queue.
func (b *Bus) PublishTo(exchange, key string, msgs ...*message.Message) error {
	return b.publish(func(*message.Message) string { return exchange }, key, msgs)
}
