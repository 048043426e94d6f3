package amqp

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/dime-bus/dime/internal/bus"
	"github.com/dime-bus/dime/internal/store"
)

// logGroup takes every message for the log.
const logGroup = "log"

// logBatch is how many messages one commit of the log takes.
const logBatch = 256

var errUnlogged = errors.New("this bus keeps no log")

// Log implements bus.Bus. A message is there soon after its publication. The log
// lies in the store: a stream of the broker would have to take part in every
// publication, and with its one lost member nothing can be published (decision 0008).
func (b *Bus) Log(ctx context.Context, topic string, after int64, max int) ([]*message.Message, int64, error) {
	if b.o.History == nil {
		return nil, after, fmt.Errorf("reading the log of %s: %w", topic, errUnlogged)
	}
	ms, err := b.o.History.Log(ctx, topic, after, max)
	if err != nil {
		return nil, after, fmt.Errorf("reading the log of %s: %w", topic, err)
	}
	out := make([]*message.Message, len(ms))
	for i := range ms {
		m := message.NewMessage(ms[i].ID, ms[i].Body)
		for k, v := range ms[i].Meta {
			m.Metadata[k] = v
		}
		if m.Metadata[bus.MetaType] == "" {
			m.Metadata[bus.MetaType] = ms[i].Topic
		}
		if m.Metadata[bus.MetaTime] == "" {
			m.Metadata[bus.MetaTime] = ms[i].At.Format(time.RFC3339Nano)
		}
		after = ms[i].Seq
		m.SetContext(bus.WithDelivery(ctx, &bus.Delivery{Cursor: after}))
		out[i] = m
	}
	return out, after, nil
}

// KeepLog writes what is published under the topics into the log from now on,
// together with the other processes that do, until the bus is closed. What a process
// had not written when it died, another writes; an id that is there already is
// written once. It may be called again, with more topics; "*" is all.
func (b *Bus) KeepLog(topics ...string) error {
	if b.o.History == nil {
		return errUnlogged
	}
	g := &group{b, logGroup, b.defaults(bus.GroupOptions{Prefetch: 2 * logBatch})}
	d, err := b.dispatcher(b.ctx, g.spec(topics), g.o)
	if err != nil {
		return fmt.Errorf("keeping the log: %w", err)
	}
	b.logging.Do(func() {
		in := d.join(b.ctx)
		b.logs.Go(func() { b.keep(in) })
	})
	return nil
}

func (b *Bus) keep(in <-chan *message.Message) {
	for m := range in {
		batch := []*message.Message{m}
	more:
		for len(batch) < logBatch {
			select {
			case m, ok := <-in:
				if !ok {
					break more
				}
				batch = append(batch, m)
			default:
				break more
			}
		}
		b.write(batch)
	}
}

func (b *Bus) write(batch []*message.Message) {
	rows := make([]store.Message, len(batch))
	for i, m := range batch {
		rows[i] = store.Message{ID: m.UUID, Topic: m.Metadata.Get(bus.MetaType), Body: m.Payload, Meta: m.Metadata}
	}
	err := b.o.History.Publish(context.WithoutCancel(b.ctx), rows...)
	if errors.Is(err, store.ErrTooLarge) || errors.Is(err, store.ErrTopic) { // it never will be written
		if len(batch) == 1 {
			b.o.Log.Warn("a message does not fit the log", "id", batch[0].UUID, "error", err)
			bus.Park(batch[0], err.Error())
			return
		}
		for i := range batch {
			b.write(batch[i : i+1])
		}
		return
	}
	if err != nil {
		b.o.Log.Warn("writing the log", "messages", len(batch), "error", err)
	}
	for _, m := range batch {
		if err != nil {
			m.Nack()
			continue
		}
		m.Ack()
	}
}
