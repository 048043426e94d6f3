package amqp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"
)

// spec names a group's queues.
type spec struct {
	name     string
	topics   []string
	foreign  string // the queue to take from, where it isn't a group's
	exchange string // theirs, to which foreign is bound by topics; "": foreign is theirs
	inOrder  bool   // one active consumer
	limit    int
}

func (s spec) dlq() string { return s.name + ".dlq" }

// keyed is the queue of messages with an order key: one, for a hash of the key over
// several does not stay where it is when the broker restarts (decision 0009).
func (s spec) keyed() string { return s.name + ".key" }

// declarer declares over one channel, which the broker closes at each refusal.
type declarer struct {
	conn *amqp091.Connection
	ch   *amqp091.Channel
}

func (d *declarer) do(f func(*amqp091.Channel) error) error {
	if d.ch == nil || d.ch.IsClosed() {
		ch, err := d.conn.Channel()
		if err != nil {
			return err
		}
		d.ch = ch
	}
	return f(d.ch)
}

func (d *declarer) close() {
	if d.ch != nil && !d.ch.IsClosed() {
		_ = d.ch.Close()
	}
}

func code(err error) int {
	var e *amqp091.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

func (d *declarer) exchange(name, kind string, internal bool, args amqp091.Table) error {
	if err := d.do(func(ch *amqp091.Channel) error {
		return ch.ExchangeDeclare(name, kind, true, false, internal, false, args)
	}); err != nil {
		return fmt.Errorf("declaring exchange %s: %w", name, err)
	}
	return nil
}

func (d *declarer) queue(name string, args amqp091.Table) error {
	err := d.do(func(ch *amqp091.Channel) error {
		_, err := ch.QueueDeclare(name, true, false, false, false, args)
		return err
	})
	// A queue of an earlier version, or of a policy of the operator's, serves as it is.
	if c := code(err); c == amqp091.PreconditionFailed || c == amqp091.AccessRefused {
		if d.do(func(ch *amqp091.Channel) error {
			_, err := ch.QueueDeclarePassive(name, true, false, false, false, nil)
			return err
		}) == nil {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("declaring queue %s: %w", name, err)
	}
	return nil
}

func (d *declarer) bind(queue, key, exchange string, args amqp091.Table) error {
	if err := d.do(func(ch *amqp091.Channel) error { return ch.QueueBind(queue, key, exchange, false, args) }); err != nil {
		return fmt.Errorf("binding queue %s: %w", queue, err)
	}
	return nil
}

// quorum are the arguments of every queue that holds messages for somebody. Both
// reject-publish and at-least-once are needed for the other to lose nothing
// (RabbitMQ's guide "Quorum Queues", at-least-once dead lettering).
func quorum(deadTo string, more amqp091.Table) amqp091.Table {
	t := amqp091.Table{"x-queue-type": "quorum", "x-overflow": "reject-publish"}
	if deadTo != "" {
		t["x-dead-letter-routing-key"] = deadTo
		t["x-dead-letter-exchange"] = ""
		t["x-dead-letter-strategy"] = "at-least-once"
	}
	for k, v := range more {
		t[k] = v
	}
	return t
}

// rungName is the exchange and the queue in which messages wait for d.
func (b *Bus) rungName(d time.Duration) string {
	s := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(s, zero) {
			s = s[:len(s)-2]
		}
	}
	return b.o.Name + ".again." + s
}

// declareBase declares what all roles share, where it is missing: most roles may
// not, and find it as deploy/rabbitmq/definitions.json made it.
func (b *Bus) declareBase(conn *amqp091.Connection) error {
	d := &declarer{conn: conn}
	defer d.close()
	n := b.o.Name
	missing := false
	names := []string{n + ".in", n + ".keyed", n + ".alt"}
	for _, r := range b.o.Rungs {
		names = append(names, b.rungName(r))
	}
	for _, x := range names {
		err := d.do(func(ch *amqp091.Channel) error {
			return ch.ExchangeDeclarePassive(x, amqp091.ExchangeTopic, true, false, false, false, nil)
		})
		if code(err) == amqp091.NotFound {
			missing = true
			break
		}
		if err != nil {
			return fmt.Errorf("looking for exchange %s: %w", x, err)
		}
	}
	if !missing {
		return nil
	}
	steps := []func() error{
		func() error { return d.exchange(n+".alt", amqp091.ExchangeFanout, false, nil) },
		func() error { return d.queue(n+".alt", quorum("", nil)) },
		func() error { return d.bind(n+".alt", "", n+".alt", nil) },
		func() error {
			return d.exchange(n+".in", amqp091.ExchangeTopic, false, amqp091.Table{"alternate-exchange": n + ".alt"})
		},
		func() error {
			return d.exchange(n+".keyed", amqp091.ExchangeTopic, false, amqp091.Table{"alternate-exchange": n + ".alt"})
		},
	}
	for _, r := range b.o.Rungs {
		name := b.rungName(r)
		// The routing key is the queue to go back to: the rung names no other, so
		// the default exchange gets the message with the key that it came with.
		args := quorum("", amqp091.Table{"x-message-ttl": r.Milliseconds(), "x-dead-letter-exchange": "", "x-dead-letter-strategy": "at-least-once"})
		steps = append(steps,
			func() error { return d.queue(name, args) },
			func() error { return d.exchange(name, amqp091.ExchangeFanout, false, nil) },
			func() error { return d.bind(name, "", name, nil) })
	}
	for _, f := range steps {
		if err := f(); err != nil {
			return fmt.Errorf("%w (an administrator may load deploy/rabbitmq/definitions.json)", err)
		}
	}
	return nil
}

// declare declares a group: its messages with an order key go to a queue with one
// active consumer, the others to a queue for all. They come by exchanges of their
// own, so that none is needed between that tells them apart by their headers.
func (b *Bus) declare(conn *amqp091.Connection, s spec) error {
	d := &declarer{conn: conn}
	defer d.close()
	if s.foreign != "" && s.exchange == "" {
		return nil // theirs; what is parked gets its queue when there is something
	}
	if err := d.queue(s.dlq(), quorum("", nil)); err != nil {
		return err
	}
	if s.exchange != "" {
		return d.bound(s, min(s.limit, b.o.DeliveryLimit))
	}
	args := quorum(s.dlq(), amqp091.Table{"x-delivery-limit": int64(s.limit)})
	single := quorum(s.dlq(), amqp091.Table{"x-delivery-limit": int64(s.limit), "x-single-active-consumer": true})
	steps := []func() error{
		func() error { return d.queue(s.name, args) },
		func() error { return d.queue(s.keyed(), single) },
	}
	for _, t := range s.topics {
		for _, pattern := range patterns(t) {
			steps = append(steps,
				func() error { return d.bind(s.name, pattern, b.o.Name+".in", nil) },
				func() error { return d.bind(s.keyed(), pattern, b.o.Name+".keyed", nil) })
		}
	}
	for _, f := range steps {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// declareParked declares where messages of others' queues are parked.
func (b *Bus) declareParked(s spec) error {
	ctx, cancel := context.WithTimeout(b.ctx, declareWithin)
	defer cancel()
	conn, err := b.in.await(ctx)
	if err != nil {
		return err
	}
	d := &declarer{conn: conn}
	defer d.close()
	return d.queue(s.dlq(), quorum("", nil))
}

// bound declares a queue of ours and binds it to an exchange of others. The
// broker's limit counts what nobody answered, whatever the receiver's is.
func (d *declarer) bound(s spec, limit int) error {
	args := amqp091.Table{"x-delivery-limit": int64(limit)}
	if s.inOrder {
		args["x-single-active-consumer"] = true
	}
	if err := d.queue(s.foreign, quorum(s.dlq(), args)); err != nil {
		return err
	}
	for _, key := range s.topics {
		if err := d.bind(s.foreign, key, s.exchange, nil); err != nil {
			return err
		}
	}
	return nil
}

// patterns are the topic exchange's for a topic of package bus.
func patterns(topic string) []string {
	if topic == "*" {
		return []string{"#"}
	}
	if prefix, ok := strings.CutSuffix(topic, ".*"); ok {
		return []string{prefix + ".*.#"}
	}
	return []string{topic}
}

// union adds what is new of more.
func union(to, more []string) []string {
	for _, s := range more {
		if !slices.Contains(to, s) {
			to = append(to, s)
		}
	}
	return to
}
