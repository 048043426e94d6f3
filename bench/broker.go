//go:build linux

package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	watermillamqp "github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp"
	"github.com/ThreeDotsLabs/watermill/message"
	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/dime-bus/dime/bench/control"
	"github.com/dime-bus/dime/internal/bus"
	"github.com/dime-bus/dime/internal/bus/amqp"
	"github.com/dime-bus/dime/test/cluster"
)

// brokerCallers publish at a time, each waiting for its confirm.
const brokerCallers = 256

// path is one way through the broker: send returns when a message is confirmed;
// the done group is told of each that was delivered and acked.
type path struct {
	name  string
	send  func(caller, i int) error
	done  *sync.WaitGroup
	close func()
}

// quorumArgs are those of our groups' queues, for all that are compared.
func quorumArgs() amqp091.Table {
	return amqp091.Table{"x-queue-type": "quorum", "x-overflow": "reject-publish", "x-delivery-limit": int64(20)}
}

// benchBroker: durable quorum queues, 1 KiB, confirmed, end to end: our driver
// against amqp091-go by hand and against watermill-amqp tuned.
func benchBroker(e *env) ([]Row, error) {
	r, err := cluster.StartRabbit(context.Background(), cluster.RabbitOptions{Nodes: 1})
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	url := r.Nodes[0].URL("dime-admin")
	payload := control.Sample(1)
	speeds := make(map[string][]float64)
	for range e.rounds {
		for _, open := range []func(string, []byte) (*path, error){rawPath, ownPath, watermillPath} {
			p, err := open(url, payload)
			if err != nil {
				return nil, err
			}
			start := time.Now()
			v, err := callers(brokerCallers, e.length/2, func(caller, i int) error {
				p.done.Add(1)
				return p.send(caller, i)
			})
			if err != nil {
				p.close()
				return nil, fmt.Errorf("%s: %w", p.name, err)
			}
			published := time.Since(start)
			p.done.Wait()
			speeds[p.name] = append(speeds[p.name], v*published.Seconds()/time.Since(start).Seconds())
			p.close()
		}
	}
	m := func(name string) float64 { return median(speeds[name]) }
	return []Row{
		rate("amqp_256_callers_vs_raw", "messages/s", m("own"), m("raw"), 0.85),
		rate("amqp_256_callers_vs_watermill", "messages/s", m("own"), m("watermill"), 1.7),
	}, nil
}

// rawPath is amqp091-go by hand: one channel to publish with deferred confirms,
// one to consume with acks for as many deliveries as are there.
func rawPath(url string, payload []byte) (*path, error) {
	out, err := amqp091.Dial(url)
	if err != nil {
		return nil, err
	}
	in, err := amqp091.Dial(url)
	if err != nil {
		return nil, err
	}
	pub, err := out.Channel()
	if err != nil {
		return nil, err
	}
	if err := pub.Confirm(false); err != nil {
		return nil, err
	}
	sub, err := in.Channel()
	if err != nil {
		return nil, err
	}
	if err := sub.Qos(1024, 0, false); err != nil {
		return nil, err
	}
	queue := "bench.raw." + watermill.NewULID() // what a round leaves is no other's
	if _, err := sub.QueueDeclare(queue, true, false, false, false, quorumArgs()); err != nil {
		return nil, err
	}
	ds, err := sub.Consume(queue, "", false, false, false, false, nil)
	if err != nil {
		return nil, err
	}
	done := new(sync.WaitGroup)
	go func() {
		for d := range ds {
			n := 1
			for more := true; more; {
				select {
				case next, ok := <-ds:
					if !ok {
						return
					}
					d = next
					n++
				default:
					more = false
				}
			}
			if d.Ack(true) != nil {
				return
			}
			done.Add(-n)
		}
	}()
	return &path{
		name: "raw", done: done,
		send: func(int, int) error {
			c, err := pub.PublishWithDeferredConfirm("", queue, false, false, amqp091.Publishing{DeliveryMode: amqp091.Persistent, Body: payload})
			if err != nil {
				return err
			}
			if !c.Wait() {
				return fmt.Errorf("not confirmed")
			}
			return nil
		},
		close: func() { _, _ = pub.QueueDelete(queue, false, false, false); _ = out.Close(); _ = in.Close() },
	}, nil
}

func ownPath(url string, payload []byte) (*path, error) {
	b := amqp.New(amqp.Options{URLs: amqp.Nodes(url), Name: "bench", Log: slog.New(slog.DiscardHandler)})
	topic := "bench." + watermill.NewULID()
	in, err := b.Group(topic, bus.GroupOptions{Prefetch: 1024}).SubscribeTopics(context.Background(), topic)
	if err != nil {
		_ = b.Close()
		return nil, err
	}
	done := new(sync.WaitGroup)
	go func() {
		for m := range in {
			m.Ack()
			done.Done()
		}
	}()
	return &path{
		name: "own", done: done,
		send: func(int, int) error {
			return b.Publish(topic, message.NewMessage(watermill.NewULID(), payload))
		},
		close: func() { _ = b.Close() },
	}, nil
}

// watermillPath is watermill-amqp with what makes it fastest: a pool of channels,
// prefetch and several Subscribes.
func watermillPath(url string, payload []byte) (*path, error) {
	config := watermillamqp.NewDurableQueueConfig(url)
	config.Queue.Arguments = quorumArgs()
	config.Publish.ConfirmDelivery = true
	config.Publish.ChannelPoolSize = 64
	config.Consume.Qos.PrefetchCount = 100
	pub, err := watermillamqp.NewPublisher(config, watermill.NopLogger{})
	if err != nil {
		return nil, err
	}
	sub, err := watermillamqp.NewSubscriber(config, watermill.NopLogger{})
	if err != nil {
		return nil, err
	}
	queue := "bench.watermill." + watermill.NewULID()
	done := new(sync.WaitGroup)
	for range 4 {
		in, err := sub.Subscribe(context.Background(), queue)
		if err != nil {
			return nil, err
		}
		go func() {
			for m := range in {
				m.Ack()
				done.Done()
			}
		}()
	}
	return &path{
		name: "watermill", done: done,
		send:  func(int, int) error { return pub.Publish(queue, message.NewMessage(watermill.NewULID(), payload)) },
		close: func() { _ = pub.Close(); _ = sub.Close() },
	}, nil
}

// benchBrokerLatency: from before Publish to the receiver's ack, where the
// receiver takes 5 ms and 300 messages come a second: more than one at a time
// can handle.
func benchBrokerLatency(e *env) ([]Row, error) {
	const handler, perSecond = 5 * time.Millisecond, 300
	r, err := cluster.StartRabbit(context.Background(), cluster.RabbitOptions{Nodes: 1})
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	b := amqp.New(amqp.Options{URLs: amqp.Nodes(r.Nodes[0].URL("dime-admin")), Name: "bench-latency", Log: slog.New(slog.DiscardHandler)})
	defer func() { _ = b.Close() }()
	in, err := b.Group("bench", bus.GroupOptions{}).SubscribeTopics(context.Background(), "bench.published")
	if err != nil {
		return nil, err
	}
	n := int(e.length.Seconds() * perSecond)
	sent := make([]time.Time, n)
	took := make(chan time.Duration, n)
	go func() {
		for m := range in {
			go func() {
				time.Sleep(handler)
				i, err := strconv.Atoi(m.UUID)
				m.Ack()
				if err == nil && i < n {
					took <- time.Since(sent[i])
				}
			}()
		}
	}()
	payload := control.Sample(1)
	tick := time.NewTicker(time.Second / perSecond)
	defer tick.Stop()
	errs := make(chan error, n)
	for i := range n {
		<-tick.C
		sent[i] = time.Now()
		go func() { errs <- b.Publish("bench.published", message.NewMessage(strconv.Itoa(i), payload)) }()
	}
	var all []time.Duration
	for range n {
		if err := <-errs; err != nil {
			return nil, err
		}
		all = append(all, <-took)
	}
	slices.Sort(all)
	ms := func(d time.Duration) float64 { return d.Seconds() * 1000 }
	return []Row{
		cost("amqp_p50_of_a_5_ms_handler", "ms", ms(all[n/2]), ms(handler), 1.5),
		cost("amqp_p99_of_a_5_ms_handler", "ms", ms(all[n*99/100]), ms(handler), 4),
	}, nil
}
