package amqp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"

	amqp091 "github.com/rabbitmq/amqp091-go"
)

// publisher shares a few channels among all that publish. Confirms are awaited
// by each for itself, so that one connection carries a whole window of messages.
type publisher struct {
	b      *Bus
	window chan struct{} // a place for each unconfirmed message
	slots  []*slot
	next   atomic.Uint32
	wg     sync.WaitGroup
}

// slot is one channel, made again when it is lost. Its goroutine alone writes to
// it: a write may block as long as a dead peer is not found out.
type slot struct {
	p  *publisher
	in chan *job
}

// session is a slot's channel while it lives.
type session struct {
	ch *amqp091.Channel
	// returns has room for the whole window: amqp091's reader puts a return here
	// before it reads the confirm that follows it (RabbitMQ's guide "Consumer
	// Acknowledgements and Publisher Confirms", when will published messages be confirmed).
	returns chan amqp091.Return

	mu       sync.Mutex
	returned map[address]string
}

// address tells returns apart; two in flight with one address share their fate.
type address struct{ id, exchange, key string }

type job struct {
	exchange, key string
	p             amqp091.Publishing
	sent          chan sent
}

type sent struct {
	s   *session
	dc  *amqp091.DeferredConfirmation
	err error
}

// errLost is what a job gets whose channel was lost; it is tried again.
var errLost = errors.New("the connection was lost")

func newPublisher(b *Bus) *publisher {
	p := &publisher{b: b, window: make(chan struct{}, b.o.Window)}
	for range b.o.Channels {
		s := &slot{p, make(chan *job, 64)}
		p.slots = append(p.slots, s)
		p.wg.Add(1)
		go s.run()
	}
	return p
}

// all publishes the jobs in their order, on one channel, and returns when all are
// confirmed. What a lost connection cut off is published again.
func (p *publisher) all(ctx context.Context, jobs []job) error {
	if p.b.out.isBlocked() {
		return ErrBlocked
	}
	s := p.slots[int(p.next.Add(1))%len(p.slots)]
	for first := 0; first < len(jobs); {
		// A batch larger than the window would wait for itself.
		batch := jobs[first:min(first+max(1, cap(p.window)/4), len(jobs))]
		n, err := p.some(ctx, s, batch)
		first += n
		if err != nil && !errors.Is(err, errLost) {
			return err
		}
	}
	return nil
}

// some publishes a batch and says how many of its first are confirmed.
func (p *publisher) some(ctx context.Context, s *slot, batch []job) (confirmed int, err error) {
	started := 0
	for i := range batch {
		if err = p.start(ctx, s, &batch[i]); err != nil {
			break
		}
		started++
	}
	var first error
	for i := range batch[:started] {
		werr := p.wait(ctx, &batch[i])
		if first == nil {
			if first = werr; werr == nil {
				confirmed++
			}
		}
	}
	if first != nil {
		err = first
	}
	return confirmed, err
}

func (p *publisher) start(ctx context.Context, s *slot, j *job) error {
	select {
	case p.window <- struct{}{}:
	default:
		select {
		case p.window <- struct{}{}:
		case <-ctx.Done():
			return p.late(ctx, "all places for unconfirmed messages were taken")
		}
	}
	j.sent = make(chan sent, 1)
	select {
	case s.in <- j:
		return nil
	case <-ctx.Done():
		<-p.window
		return p.late(ctx, "nothing was sent")
	case <-p.b.ctx.Done():
		<-p.window
		return ErrClosed
	}
}

// late is the error of a job whose time is over.
func (p *publisher) late(ctx context.Context, why string) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	if err := p.b.out.ready(); err != nil {
		return fmt.Errorf("%w: %w", ErrUnconfirmed, err)
	}
	return fmt.Errorf("%w: %s", ErrUnconfirmed, why)
}

func (p *publisher) wait(ctx context.Context, j *job) error {
	var x sent
	select {
	case x = <-j.sent:
	case <-ctx.Done():
		go func() { _ = p.settle(<-j.sent, j) }() // its place is free when its fate is known
		return p.late(ctx, "the connection takes nothing")
	}
	if x.err != nil {
		<-p.window
		return x.err
	}
	select {
	case <-x.dc.Done():
		return p.settle(x, j)
	case <-ctx.Done():
		go func() { _ = p.settle(x, j) }()
		return p.late(ctx, "it was sent")
	}
}

// settle frees a job's place when its fate is known, and says which it was.
func (p *publisher) settle(x sent, j *job) error {
	defer func() { <-p.window }()
	if x.err != nil {
		return x.err
	}
	<-x.dc.Done()
	reason, returned := x.s.take(address{j.p.MessageId, j.exchange, j.key})
	switch {
	case returned:
		return fmt.Errorf("%w: %s", ErrReturned, reason)
	case x.dc.Acked():
		return nil
	case x.s.ch.IsClosed():
		return errLost
	default: // basic.nack: a queue with reject-publish has no room
		return ErrFull
	}
}

// take looks for a message among the returned.
func (s *session) take(a address) (reason string, returned bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		select {
		case r, ok := <-s.returns:
			if !ok {
				s.returns = nil
				continue
			}
			s.returned[address{r.MessageId, r.Exchange, r.RoutingKey}] = fmt.Sprintf("%s (%d)", r.ReplyText, r.ReplyCode)
			continue
		default:
		}
		break
	}
	reason, returned = s.returned[a]
	delete(s.returned, a)
	return reason, returned
}

func (s *slot) run() {
	defer s.p.wg.Done()
	for s.p.b.ctx.Err() == nil {
		conn, err := s.p.b.out.await(s.p.b.ctx)
		if err != nil {
			break
		}
		x, err := s.open(conn)
		if err != nil {
			s.p.b.o.Log.Debug("opening a channel to publish", "error", err) // its link says why
			if s.p.b.pause(s.p.b.ctx) != nil {
				break
			}
			continue
		}
		s.serve(x)
	}
	for { // nobody is left behind
		select {
		case j := <-s.in:
			j.sent <- sent{err: ErrClosed}
		default:
			return
		}
	}
}

func (s *slot) open(conn *amqp091.Connection) (*session, error) {
	ch, err := conn.Channel()
	if err != nil {
		return nil, err
	}
	x := &session{ch: ch, returned: make(map[address]string)}
	x.returns = ch.NotifyReturn(make(chan amqp091.Return, cap(s.p.window)))
	if err := ch.Confirm(false); err != nil {
		_ = ch.Close()
		return nil, err
	}
	return x, nil
}

func (s *slot) serve(x *session) {
	lost := x.ch.NotifyClose(make(chan *amqp091.Error, 1))
	for {
		select {
		case j := <-s.in:
			dc, err := x.ch.PublishWithDeferredConfirm(j.exchange, j.key, true, false, j.p)
			if err == nil {
				j.sent <- sent{s: x, dc: dc}
				continue
			}
			err = failed(err)
			j.sent <- sent{err: err}
			if x.ch.IsClosed() || errors.Is(err, errLost) { // amqp091 closes it soon after a failed write
				return
			}
		case err := <-lost:
			s.p.b.lostChannel("publish", err)
			return
		case <-s.p.b.ctx.Done():
			_ = x.ch.Close()
			return
		}
	}
}

// failed tells a lost connection from a message that can't be written.
func failed(err error) error {
	var e *amqp091.Error
	var n net.Error
	if errors.As(err, &e) || errors.As(err, &n) || errors.Is(err, amqp091.ErrClosed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) {
		return errLost
	}
	return err
}
