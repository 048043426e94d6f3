// Package hasty is the bus of a program that does not wait: for the broker's
// confirms, or with its acks until a run is accepted. It exists for the controls of
// the chaos test, which must see that messages are lost with it.
package hasty

import (
	"context"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/dime-bus/dime/internal/bus"
)

// Bus is another bus in a hurry.
type Bus struct {
	bus.Bus
	Confirms, Acks bool // what it does not wait for
}

// Publish returns before anything is confirmed, if it is hasty with that.
func (h Bus) Publish(topic string, ms ...*message.Message) error {
	if !h.Confirms {
		return h.Bus.Publish(topic, ms...)
	}
	for _, m := range ms {
		m.SetContext(context.WithoutCancel(m.Context()))
	}
	go func() { _ = h.Bus.Publish(topic, ms...) }()
	return nil
}

// Group acks what its receivers have not handled yet, if it is hasty with that.
func (h Bus) Group(name string, o bus.GroupOptions) bus.Group {
	if !h.Acks {
		return h.Bus.Group(name, o)
	}
	return group{h.Bus.Group(name, o)}
}

type group struct{ bus.Group }

func (g group) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	return ackAtOnce(g.Group.Subscribe(ctx, topic))
}

func (g group) SubscribeTopics(ctx context.Context, topics ...string) (<-chan *message.Message, error) {
	return ackAtOnce(g.Group.SubscribeTopics(ctx, topics...))
}

func ackAtOnce(in <-chan *message.Message, err error) (<-chan *message.Message, error) {
	if err != nil {
		return nil, err
	}
	out := make(chan *message.Message)
	go func() {
		defer close(out)
		for m := range in {
			c := m.Copy()
			c.SetContext(m.Context())
			m.Ack()
			out <- c
		}
	}()
	return out, nil
}
