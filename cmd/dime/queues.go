package main

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/dime-bus/dime/config"
	"github.com/dime-bus/dime/internal/bus"
	"github.com/dime-bus/dime/internal/bus/amqp"
	"github.com/dime-bus/dime/pipeline/run/intake"
)

// brokers are the RabbitMQs of others that routes are fed from. Each is connected
// to when a route first takes from it.
type brokers struct {
	named map[string]config.Broker
	log   *slog.Logger
	drain time.Duration

	mu   sync.Mutex
	open map[string]*amqp.Bus
}

func newBrokers(cfg config.Config, log *slog.Logger) *brokers {
	b := &brokers{named: make(map[string]config.Broker), log: log, drain: cfg.Engine.Drain, open: make(map[string]*amqp.Bus)}
	for _, n := range cfg.Brokers {
		b.named[n.Name] = n
	}
	return b
}

func (b *brokers) broker(name string) (*amqp.Bus, error) {
	n, ok := b.named[name]
	if !ok {
		return nil, fmt.Errorf("config/dime.yaml named no broker %q when this process began; restart it", name)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open == nil {
		return nil, amqp.ErrClosed
	}
	if b.open[name] == nil {
		b.open[name] = amqp.New(amqp.Options{URLs: nodes(n.Backend), Guest: true, Log: b.log.With("broker", name), DrainFor: b.drain})
	}
	return b.open[name], nil
}

// inHand is how many messages of a route are unacked at a time.
const inHand = 64

// Receive implements intake.Brokers.
func (b *brokers) Receive(ctx context.Context, f intake.From, handle func(context.Context, intake.Message) error) error {
	broker, err := b.broker(f.Broker)
	if err != nil {
		return err
	}
	from := amqp.Source{Queue: f.Queue, Exchange: f.Exchange, Keys: f.Keys, InOrder: f.InOrder}
	if f.Exchange != "" {
		from.Queue = f.Route
	}
	// Nothing is parked at others' brokers: what never fits is a dead letter of ours,
	// and what can't be accepted now comes again, however long that is.
	in, err := broker.Foreign(ctx, from, bus.GroupOptions{Prefetch: inHand, DeliveryLimit: math.MaxInt32})
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	for m := range in {
		all.Go(func() {
			id := m.UUID
			if bus.Nameless(m) {
				id = ""
			}
			if handle(m.Context(), intake.Message{ID: id, Body: m.Payload, Lost: bus.Lost(m)}) != nil {
				m.Nack()
				return
			}
			m.Ack()
		})
	}
	all.Wait()
	return nil
}

func (b *brokers) close() error {
	b.mu.Lock()
	open := b.open
	b.open = nil
	b.mu.Unlock()
	var all sync.WaitGroup
	for _, o := range open {
		all.Go(func() { _ = o.Close() })
	}
	all.Wait()
	return nil
}
