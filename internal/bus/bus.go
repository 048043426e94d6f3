// Package bus is the city's message bus as the engine and the modules see it:
// Watermill's Publisher and Subscriber, with what the city adds to them written
// down here. package embedded keeps the promise over the store's tables, package
// amqp over RabbitMQ; bustest judges every implementation.
//
// The promise:
//   - Publish returns when the messages are durable: all or none over the store's
//     tables; over a broker a call that fails may have published some, and is
//     repeated with the same ids.
//   - A group gets every message published to its topics since it was first
//     subscribed, at least once, each message to one consumer of the group;
//     several groups each get a copy. Topic "a.*" takes all with that prefix, "*" all.
//   - Messages with the same MetaKey are handed to a group in the order of
//     publication, the next when the one before is acked or parked. Messages
//     without one owe each other no order: what comes again may come behind what
//     was published after it.
//   - A nacked message comes again after a back-off; after the delivery limit it
//     is parked with its reason, so that no message can make a hot loop.
//   - At most the group's prefetch is unacked at a time.
//   - Close hands out nothing more, waits a while for what was handed out to be
//     acked, and returns; what is unacked then comes again to the next subscriber.
//
// Under a virtual clock a delivered message counts as one piece of running work
// (clock.Enter) from its commit until Ack or Nack, on behalf of its receiver: a
// receiver that handles it in place, or hands that one duty to another
// goroutine, does not Enter again; one that counts itself calls Took.
package bus

import (
	"context"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/dime-bus/dime/internal/store"
)

// Metadata of a message. Its id is message.UUID.
const (
	MetaType    = "type"    // event type; the topic where absent
	MetaTime    = "time"    // RFC 3339 instant of the event
	MetaSource  = "source"  // who published it
	MetaVersion = "version" // of the event type's schema
	MetaKey     = "key"     // order key; absent: no order asked
)

// Bus publishes and subscribes. Subscribe(ctx, topic) joins the group that is
// named as the topic; Group gives a group a name of its own.
type Bus interface {
	message.Publisher
	message.Subscriber
	Group(name string, o GroupOptions) Group
	// Log reads a topic's messages behind a cursor, oldest first, for those who
	// were away. The cursor of the last one is what to pass next; 0 is the
	// beginning of what is kept (7 days). Acks of these messages mean nothing.
	Log(ctx context.Context, topic string, after int64, max int) (ms []*message.Message, next int64, err error)
}

// Group is a set of consumers that share the messages of its topics. Subscribe
// keeps one queue a topic, named "GROUP/TOPIC" ("TOPIC" where the group is named
// like it), so that a channel only carries what it was asked for.
type Group interface {
	message.Subscriber
	// SubscribeTopics subscribes to several topics in one queue named as the group,
	// so that order and prefetch count across them.
	SubscribeTopics(ctx context.Context, topics ...string) (<-chan *message.Message, error)
}

// GroupOptions bound a group; zero values give the defaults.
type GroupOptions struct {
	Prefetch      int // unacked messages at a time; 256
	DeliveryLimit int // deliveries before a message is parked; 20
}

type deliveryKey struct{}

// Delivery is what an implementation hangs on a message's context: its name in
// the store, and what the receiver asks for.
type Delivery struct {
	Ack      store.Ack
	Attempts int    // deliveries before this one
	Cursor   int64  // of a message of the log
	Lost     int    // of Attempts those that nobody answered
	Nameless bool   // the publisher gave no id: each delivery gets another
	Taken    func() // called by Took; may be nil

	mu     sync.Mutex
	park   bool
	reason string
}

// WithDelivery hangs d on a context; for implementations.
func WithDelivery(ctx context.Context, d *Delivery) context.Context {
	return context.WithValue(ctx, deliveryKey{}, d)
}

func deliveryOf(m *message.Message) *Delivery {
	d, _ := m.Context().Value(deliveryKey{}).(*Delivery)
	return d
}

// Verdict is what the receiver said with Nack: park at once, and why. For
// implementations.
func (d *Delivery) Verdict() (park bool, reason string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.park, d.reason
}

// AckOf gives the embedded bus's name for a received message, to be settled by
// the commit that accepts its run (store.Run.Ack, store.Event.Ack); Ack the
// message after that as usual, which then costs nothing. nil on other buses.
func AckOf(m *message.Message) *store.Ack {
	if d := deliveryOf(m); d != nil && d.Ack.Queue != "" {
		a := d.Ack
		return &a
	}
	return nil
}

// CursorOf gives the cursor behind a message that Log returned: what to pass for
// those that follow it.
func CursorOf(m *message.Message) int64 {
	if d := deliveryOf(m); d != nil {
		return d.Cursor
	}
	return 0
}

// Attempts is how often the message was delivered before.
func Attempts(m *message.Message) int {
	if d := deliveryOf(m); d != nil {
		return d.Attempts
	}
	return 0
}

// Lost is how often the message was delivered before to somebody who never
// answered, as a broker counts it.
func Lost(m *message.Message) int {
	if d := deliveryOf(m); d != nil {
		return d.Lost
	}
	return 0
}

// Nameless says that the publisher gave the message no id, so that the one it has
// tells no repetition.
func Nameless(m *message.Message) bool {
	d := deliveryOf(m)
	return d != nil && d.Nameless
}

// Took tells a virtual clock that the receiver now counts itself; see the
// package comment. Safe to call on any message, more than once.
func Took(m *message.Message) {
	if d := deliveryOf(m); d != nil && d.Taken != nil {
		d.Taken()
	}
}

// Retry nacks a message and says why, for whoever finds it parked in the end.
func Retry(m *message.Message, reason string) bool { return verdict(m, false, reason) }

// Park nacks a message that must not come again: it is parked at once with the
// reason, for a person.
func Park(m *message.Message, reason string) bool { return verdict(m, true, reason) }

func verdict(m *message.Message, park bool, reason string) bool {
	if d := deliveryOf(m); d != nil {
		d.mu.Lock()
		d.park, d.reason = park, reason
		d.mu.Unlock()
	}
	return m.Nack()
}
