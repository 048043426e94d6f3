//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/dime-bus/dime/bench/control"
	"github.com/dime-bus/dime/internal/bus/amqp"
)

const (
	rawIn, rawOut = "bench.raw.in", "bench.raw.out"
	ourOut        = "bench.out"
)

// pipeByHand is W2 as a Go programmer would write it on amqp091-go: take, decode,
// check, reshape, publish with a confirm, ack after it; confirms are awaited and
// acks given in order, many at once.
func pipeByHand(url string) error {
	conn, err := amqp091.Dial(url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	out, err := conn.Channel()
	if err != nil {
		return err
	}
	if err := out.Confirm(false); err != nil {
		return err
	}
	in, err := conn.Channel()
	if err != nil {
		return err
	}
	if err := in.Qos(1024, 0, false); err != nil {
		return err
	}
	ds, err := in.Consume(rawIn, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	type sent struct {
		d       amqp091.Delivery
		confirm *amqp091.DeferredConfirmation
	}
	window := make(chan sent, 1024)
	failed := make(chan error, 1)
	go func() {
		for s := range window {
			for more := true; more; {
				if !s.confirm.Wait() {
					failed <- errors.New("not confirmed")
					return
				}
				select {
				case s = <-window: // one ack for all that are confirmed by now
				default:
					more = false
				}
			}
			if err := s.d.Ack(true); err != nil {
				failed <- err
				return
			}
		}
	}()
	for {
		select {
		case err := <-failed:
			return err
		case d, ok := <-ds:
			if !ok {
				return errors.New("the broker closed the channel")
			}
			var o control.Order
			if err := json.Unmarshal(d.Body, &o); err != nil {
				return err
			}
			if o.RequestID == "" || o.Citizen.TaxCode == "" || o.Address.Street == "" || o.Kind == "" {
				return errors.New("missing field")
			}
			b, err := json.Marshal(control.Practice{
				Ref: o.RequestID, Holder: o.Citizen.TaxCode, First: o.Citizen.Name, Last: o.Citizen.Surname, Mail: o.Citizen.Email,
				Street: o.Address.Street, District: o.Address.Sestiere, Type: o.Kind, Cents: o.Amount, Text: o.Notes, Labels: o.Tags,
			})
			if err != nil {
				return err
			}
			c, err := out.PublishWithDeferredConfirm("", rawOut, false, false, amqp091.Publishing{DeliveryMode: amqp091.Persistent, MessageId: d.MessageId, Body: b})
			if err != nil {
				return err
			}
			window <- sent{d, c}
		}
	}
}

// drain says how fast n messages come out of a queue: between the tenth and the
// ninth tenth of them, so that neither start nor end counts.
func drain(ch *amqp091.Channel, queue string, n int, limit time.Duration, start func() error) (perSecond float64, err error) {
	if _, err := ch.QueuePurge(queue, false); err != nil {
		return 0, err
	}
	ds, err := ch.Consume(queue, "drain", true, false, false, false, nil)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, ch.Cancel("drain", false)) }()
	if err := start(); err != nil {
		return 0, err
	}
	var from time.Time
	timeout := time.After(limit)
	for i := 1; i <= n; i++ {
		select {
		case d := <-ds:
			if i == n/2 {
				var p control.Practice
				if err := json.Unmarshal(d.Body, &p); err != nil || p.Cents != 1600 || len(p.Labels) != 4 {
					return 0, fmt.Errorf("wrong message %.300s: %w", d.Body, err)
				}
			}
		case <-timeout:
			return 0, fmt.Errorf("%d of %d messages came out of %s in %s", i-1, n, queue, limit)
		}
		switch i {
		case n / 10:
			from = time.Now()
		case n * 9 / 10:
			perSecond = float64(n*9/10-n/10) / time.Since(from).Seconds()
		}
	}
	return perSecond, nil
}

// feed publishes n orders, each confirmed.
func feed(n int, publish func(i int) error) error {
	var next atomic.Int64
	errs := make([]error, 256)
	var wg sync.WaitGroup
	for c := range errs {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(n) && errs[c] == nil; i = next.Add(1) {
				errs[c] = publish(int(i))
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// way is the broker as the measurement uses it.
type way struct {
	s    *servers
	conn *amqp091.Connection
	ch   *amqp091.Channel
	b    *amqp.Bus
	seq  atomic.Int64
}

// openWay makes the queues on both ends of what is measured.
func openWay(s *servers) (*way, error) {
	url := s.mq.Nodes[0].URL("dime-admin")
	conn, err := amqp091.Dial(url)
	if err != nil {
		return nil, err
	}
	ch, err := conn.Channel()
	if err != nil {
		return nil, err
	}
	for _, q := range []string{rawIn, rawOut, ourOut} {
		if _, err := ch.QueueDeclare(q, true, false, false, false, quorumArgs()); err != nil {
			return nil, err
		}
	}
	if err := ch.QueueBind(ourOut, "bench.filed", "dime.in", false, nil); err != nil {
		return nil, err
	}
	return &way{s: s, conn: conn, ch: ch, b: amqp.New(amqp.Options{URLs: amqp.Nodes(url), Log: slog.New(slog.DiscardHandler)})}, nil
}

func (w *way) close() { _ = w.b.Close(); _ = w.conn.Close() }

// order publishes n orders as events of the city.
func (w *way) order(topic string, n int) error {
	return feed(n, func(int) error {
		i := int(w.seq.Add(1))
		return w.b.Publish(topic, message.NewMessage(fmt.Sprintf("%s-%d", topic, i), control.Sample(i)))
	})
}

// ours has workers carry out n orders that wait for them.
func (w *way) ours(e *env, content, topic string, n, workers int, limit time.Duration) (float64, error) {
	if err := w.order(topic, n); err != nil {
		return 0, err
	}
	var ps []*process
	defer func() {
		for _, p := range ps {
			p.stop()
		}
	}()
	v, err := drain(w.ch, ourOut, n, limit, func() error {
		errs := make([]error, workers)
		ps = make([]*process, workers)
		var wg sync.WaitGroup
		for i := range workers {
			wg.Go(func() { ps[i], errs[i] = w.s.work(e, content, fmt.Sprintf("worker-%d", i)) })
		}
		wg.Wait()
		return errors.Join(errs...)
	})
	if err != nil {
		for _, p := range ps {
			err = fmt.Errorf("%w: %.2000s", err, p.stderr.String())
		}
	}
	return v, err
}

// declared lets a worker make its queues, so that what is published before the
// measured ones start waits there.
func (w *way) declared(e *env, content string) error {
	p, err := w.s.work(e, content, "worker-0")
	if err != nil {
		return err
	}
	p.stop()
	return nil
}

// byHand is ours for the control.
func (w *way) byHand(e *env, n int, limit time.Duration) (float64, error) {
	pub, err := w.conn.Channel()
	if err != nil {
		return 0, err
	}
	if err := pub.Confirm(false); err != nil {
		return 0, err
	}
	err = feed(n, func(i int) error {
		c, err := pub.PublishWithDeferredConfirm("", rawIn, false, false, amqp091.Publishing{DeliveryMode: amqp091.Persistent, Body: control.Sample(i)})
		if err == nil && !c.Wait() {
			err = errors.New("not confirmed")
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	var p *process
	defer func() {
		if p != nil {
			p.stop()
		}
	}()
	return drain(w.ch, rawOut, n, limit, func() error {
		p, err = startControl(e, "pipe", w.s.mq.Nodes[0].URL("dime-admin"))
		return err
	})
}

// w2Content copies bench/w2, points its backend at url, and lets a worker have so
// many runs in flight.
func w2Content(e *env, name, url string, slots int) (string, error) {
	dir := filepath.Join(e.dir, name)
	if err := copyTree(filepath.Join("bench", "w2"), dir); err != nil {
		return "", fmt.Errorf("copying bench/w2: %w", err)
	}
	for file, change := range map[string][2]string{
		"config/connectors/backend.yaml": {"http://127.0.0.1:9/", url},
		"config/dime.yaml":               {"background_slots: 32", fmt.Sprint("background_slots: ", slots)},
	} {
		b, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(dir, file), []byte(strings.Replace(string(b), change[0], change[1], 1)), 0o644); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// openServers is what both measurements over servers begin with.
func openServers(e *env, name, backend string, slots int) (w *way, content string, stop func(), err error) {
	content, err = w2Content(e, name, backend, slots)
	if err != nil {
		return nil, "", nil, err
	}
	s, stopServers, err := startServers(e, name+"-servers")
	if err != nil {
		return nil, "", nil, err
	}
	w, err = openWay(s)
	if err != nil {
		stopServers()
		return nil, "", nil, err
	}
	if err := w.declared(e, content); err != nil {
		w.close()
		stopServers()
		return nil, "", nil, err
	}
	return w, content, func() { w.close(); stopServers() }, nil
}

// benchW2: quorum queue -> reshape ten fields -> quorum queue, confirmed, acked
// after the confirm, against the same by hand on amqp091-go. Validation is on; no
// program may read these events, so the log keeps none of them.
func benchW2(e *env) ([]Row, error) {
	w, content, stop, err := openServers(e, "w2", "http://127.0.0.1:9/", 1024)
	if err != nil {
		return nil, err
	}
	defer stop()
	n := int(e.length.Seconds() * 20000)
	var ours, hand []float64
	for range e.rounds {
		a, err := w.ours(e, content, "bench.ordered", n, 1, time.Minute)
		if err != nil {
			return nil, fmt.Errorf("dime: %w", err)
		}
		b, err := w.byHand(e, n, time.Minute)
		if err != nil {
			return nil, fmt.Errorf("by hand: %w", err)
		}
		ours, hand = append(ours, a), append(hand, b)
	}
	return []Row{rate("w2_pipe_vs_by_hand", "messages/s", median(ours), median(hand), 0.80)}, nil
}

// benchWorkers: runs with one effect on a backend that takes 50 ms, 32 in flight
// each, by one and by two workers on the same broker and database.
func benchWorkers(e *env) ([]Row, error) {
	backend, err := startControl(e, "slow", "50ms")
	if err != nil {
		return nil, err
	}
	defer backend.stop()
	w, content, stop, err := openServers(e, "workers", backend.url, 32)
	if err != nil {
		return nil, err
	}
	defer stop()
	n := int(e.length.Seconds() * 600)
	var one, two []float64
	for range e.rounds {
		a, err := w.ours(e, content, "bench.asked", n, 1, time.Minute)
		if err != nil {
			return nil, fmt.Errorf("one worker: %w", err)
		}
		b, err := w.ours(e, content, "bench.asked", 2*n, 2, time.Minute)
		if err != nil {
			return nil, fmt.Errorf("two workers: %w", err)
		}
		one, two = append(one, a), append(two, b)
	}
	return []Row{rate("workers_2_vs_1", "runs/s", median(two), median(one), 1.7)}, nil
}
