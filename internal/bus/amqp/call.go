package amqp

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"
)

// replyTo is the queue of direct replies, and begins what the broker makes of it
// (RabbitMQ's guide "Direct Reply-to").
const replyTo = "amq.rabbitmq.reply-to"

// ErrDenied: the broker lets this user not call there.
var ErrDenied = errors.New("the broker does not let this user call there")

// deskName is the exchange that a program calls through, and the queue behind it.
// Whoever may write to the exchange is that program: the broker's permissions are
// its credential (deploy/rabbitmq/README.md).
func (b *Bus) deskName(program string) string { return b.o.Name + ".group.client." + program }

// caller asks over one channel of its own, which is made again when it is lost.
type caller struct {
	b     *Bus
	last  atomic.Uint64
	mu    sync.Mutex
	asked *asking
}

// asking is a caller's channel while it lives.
type asking struct {
	ch   *amqp091.Channel
	dead chan struct{}

	mu      sync.Mutex
	why     error // of its end
	waiting map[string]chan reply
}

type reply struct {
	body []byte
	err  error
}

// Call asks what the other end answers with Answer, and waits until ctx ends.
// After an error other than ErrDenied and ErrReturned it may have been heard.
func (b *Bus) Call(ctx context.Context, program, kind string, body []byte) ([]byte, error) {
	a, err := b.calls.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("calling the city: %w", err)
	}
	if b.out.isBlocked() {
		return nil, fmt.Errorf("calling the city: %w", ErrBlocked)
	}
	id := strconv.FormatUint(b.calls.last.Add(1), 10)
	heard := make(chan reply, 1)
	a.mu.Lock()
	a.waiting[id] = heard
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		delete(a.waiting, id)
		a.mu.Unlock()
	}()
	p := amqp091.Publishing{Type: kind, CorrelationId: id, ReplyTo: replyTo, ContentType: "application/json", Body: body}
	if until, ok := ctx.Deadline(); ok { // what nobody waits for any more is not carried out
		p.Expiration = strconv.FormatInt(max(until.Sub(b.o.Clock.Now()).Milliseconds(), 0), 10)
	}
	if err := a.ch.PublishWithContext(ctx, b.deskName(program), "", true, false, p); err != nil {
		return nil, fmt.Errorf("calling the city: %w", failed(err))
	}
	select {
	case r := <-heard:
		if r.err != nil {
			return nil, fmt.Errorf("calling the city: %w", r.err)
		}
		return r.body, nil
	case <-a.dead:
		return nil, fmt.Errorf("calling the city: %w", a.why)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c *caller) open(ctx context.Context) (*asking, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked != nil {
		select {
		case <-c.asked.dead:
		default:
			return c.asked, nil
		}
	}
	conn, err := c.b.out.await(ctx)
	if err != nil {
		return nil, err
	}
	ch, err := conn.Channel()
	if err != nil {
		return nil, err
	}
	a := &asking{ch: ch, dead: make(chan struct{}), waiting: make(map[string]chan reply)}
	lost := ch.NotifyClose(make(chan *amqp091.Error, 1))
	returned := ch.NotifyReturn(make(chan amqp091.Return, 64))
	replies, err := ch.ConsumeWithContext(context.WithoutCancel(ctx), replyTo, "", true, false, false, false, nil)
	if err != nil {
		return nil, err
	}
	c.asked = a
	go a.listen(replies, returned, lost)
	return a, nil
}

func (a *asking) listen(replies <-chan amqp091.Delivery, returned <-chan amqp091.Return, lost <-chan *amqp091.Error) {
	tell := func(id string, r reply) {
		a.mu.Lock()
		defer a.mu.Unlock()
		if heard := a.waiting[id]; heard != nil {
			delete(a.waiting, id)
			heard <- r
		}
	}
	for {
		select {
		case dv, ok := <-replies:
			if !ok {
				replies = nil
				continue
			}
			tell(dv.CorrelationId, reply{body: dv.Body})
		case r, ok := <-returned:
			if !ok {
				returned = nil
				continue
			}
			tell(r.CorrelationId, reply{err: ErrReturned})
		case err := <-lost:
			a.why = errLost
			if err != nil && err.Code == amqp091.AccessRefused {
				a.why = ErrDenied
			}
			close(a.dead)
			return
		}
	}
}

// callsAtOnce bounds how many calls of a program are carried out at a time.
const callsAtOnce = 64

// Answer takes a program's calls until ctx ends or the bus is closed, together
// with the other processes that do, and answers what it took before it returns. A
// call is taken once: one whose process dies is not answered, and its caller
// decides.
func (b *Bus) Answer(ctx context.Context, program string, handle func(ctx context.Context, kind string, body []byte) []byte) {
	b.mu.Lock()
	if b.closing {
		b.mu.Unlock()
		return
	}
	b.logs.Add(1)
	b.mu.Unlock()
	defer b.logs.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(b.ctx, cancel)()
	for ctx.Err() == nil {
		if err := b.answer(ctx, program, handle); err != nil && ctx.Err() == nil {
			if code(err) != 0 && !b.in.down() {
				b.o.Log.Warn("answering a program's calls", "program", program, "error", err)
			}
			_ = b.pause(ctx)
		}
	}
}

func (b *Bus) answer(ctx context.Context, program string, handle func(context.Context, string, []byte) []byte) error {
	conn, err := b.in.await(ctx)
	if err != nil {
		return err
	}
	name := b.deskName(program)
	d := &declarer{conn: conn}
	defer d.close()
	if err := d.exchange(name, amqp091.ExchangeFanout, false, nil); err != nil {
		return err
	}
	if err := d.queue(name, quorum("", amqp091.Table{"x-message-ttl": callLife.Milliseconds()})); err != nil {
		return err
	}
	if err := d.bind(name, "", name, nil); err != nil {
		return err
	}
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	defer func() { _ = ch.Close() }()
	if err := ch.Qos(callsAtOnce, 0, false); err != nil {
		return err
	}
	// Not with the context: at its end the library would cancel the consumer while
	// the channel is closed here, and one of the two would wait for ever for the
	// other's answer.
	in, err := ch.Consume(name, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	defer all.Wait()
	places := make(chan struct{}, callsAtOnce)
	for {
		var dv amqp091.Delivery
		var open bool
		select {
		case dv, open = <-in:
		case <-ctx.Done():
			return nil
		}
		if !open {
			return nil
		}
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return nil // unacked, another process takes it
		}
		if err := dv.Ack(false); err != nil {
			return err
		}
		if dv.Exchange != name { // the right to call is the right to write to that exchange
			b.o.Log.Warn("a call came past a program's exchange and is dropped", "program", program)
			<-places
			continue
		}
		all.Go(func() {
			defer func() { <-places }()
			b.reply(program, dv, handle(b.ctx, dv.Type, dv.Body)) // also when ctx has ended
		})
	}
}

// callLife is how long a call waits in the broker for somebody to take it, where
// its caller says nothing.
const callLife = 30 * time.Second

func (b *Bus) reply(program string, dv amqp091.Delivery, body []byte) {
	// Nothing but direct replies: the default exchange leads into every queue.
	if !strings.HasPrefix(dv.ReplyTo, replyTo+".") {
		return
	}
	p := amqp091.Publishing{CorrelationId: dv.CorrelationId, ContentType: "application/json", Body: body}
	ctx, cancel := context.WithTimeout(b.ctx, b.o.PublishTimeout)
	defer cancel()
	err := b.pub.all(ctx, []job{{key: dv.ReplyTo, p: p}})
	if err != nil && !errors.Is(err, ErrReturned) { // returned: its caller has gone
		b.o.Log.Warn("answering a program's call", "program", program, "error", err)
	}
}
