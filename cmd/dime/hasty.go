package main

import (
	"context"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/dime-bus/dime/internal/bus"
)

// hasty is the bus of a program that does not wait: for the broker's confirms, or
// with its acks until a run is accepted. It exists for the controls of the chaos
// test, which must see that messages are lost with it.
type hasty struct {
	bus.Bus
	confirms, acks bool // what it does not wait for
}

func (h hasty) Publish(topic string, ms ...*message.Message) error {
	if !h.confirms {
		return h.Bus.Publish(topic, ms...)
	}
	for _, m := range ms {
		m.SetContext(context.WithoutCancel(m.Context()))
	}
	go func() { _ = h.Bus.Publish(topic, ms...) }()
	return nil
}

func (h hasty) Group(name string, o bus.GroupOptions) bus.Group {
	if !h.acks {
		return h.Bus.Group(name, o)
	}
	return hastyGroup{h.Bus.Group(name, o)}
}

type hastyGroup struct{ bus.Group }

func (g hastyGroup) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	return ackAtOnce(g.Group.Subscribe(ctx, topic))
}

func (g hastyGroup) SubscribeTopics(ctx context.Context, topics ...string) (<-chan *message.Message, error) {
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
