package amqp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	amqp091 "github.com/rabbitmq/amqp091-go"
)

// publisher shares one channel among all that publish. Confirms are awaited by each
// for itself, so that one connection carries a whole window of messages.
type publisher struct {
	b      *Bus
	window chan struct{} // a place for each unconfirmed message
	wg     sync.WaitGroup

	mu      sync.Mutex
	now     *session      // nil while there is none
	changed chan struct{} // closed when now changes
}

// session is the channel while it lives.
type session struct {
	ch   *amqp091.Channel
	conn *wide
	// returns has room for the whole window: amqp091's reader puts a return here
	// before it reads the confirm that follows it (RabbitMQ's guide "Consumer
	// Acknowledgements and Publisher Confirms", when will published messages be confirmed).
	returns chan amqp091.Return
	broken  chan struct{} // it is lost

	mu       sync.Mutex
	returned map[address]returned
}

// address tells returns apart; of several in flight with one address, as many hear
// of a return as there were.
type address struct{ id, exchange, key string }

type returned struct {
	times  int
	reason string
}

type job struct {
	exchange, key string
	p             amqp091.Publishing
	s             *session // where it was sent
	dc            *amqp091.DeferredConfirmation
}

// errLost is what a job gets whose channel was lost; it is tried again.
var errLost = errors.New("the connection was lost")

func newPublisher(b *Bus) *publisher {
	p := &publisher{b: b, window: make(chan struct{}, b.o.Window), changed: make(chan struct{})}
	p.wg.Add(1)
	go p.run()
	return p
}

// all publishes the jobs in their order and returns when all are confirmed. What a
// lost connection cut off is published again.
func (p *publisher) all(ctx context.Context, jobs []job) error {
	if p.b.out.isBlocked() {
		return ErrBlocked
	}
	for first := 0; first < len(jobs); {
		// A batch larger than the window would wait for itself.
		batch := jobs[first:min(first+max(1, cap(p.window)/4), len(jobs))]
		batch[0].s = nil
		n, err := p.some(ctx, batch)
		first += n
		if err != nil && !errors.Is(err, errLost) {
			return err
		}
	}
	return nil
}

// some publishes a batch and says how many of its first are confirmed.
func (p *publisher) some(ctx context.Context, batch []job) (confirmed int, err error) {
	started := 0
	for i := range batch {
		if err = p.start(ctx, &batch[i], batch[0].s); err != nil {
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

// start sends a job, which has a place in the window from then on. It goes by the
// channel of those before it: one of them that was lost with that must not arrive
// behind it.
func (p *publisher) start(ctx context.Context, j *job, before *session) (err error) {
	select {
	case p.window <- struct{}{}:
	default:
		select {
		case p.window <- struct{}{}:
		case <-ctx.Done():
			return p.late(ctx, "all places for unconfirmed messages were taken")
		}
	}
	defer func() {
		if err != nil {
			<-p.window
		}
	}()
	s, err := p.session(ctx)
	if err != nil {
		return err
	}
	if before != nil && before != s {
		return errLost
	}
	if j.dc, err = s.ch.PublishWithDeferredConfirm(j.exchange, j.key, true, false, j.p); err != nil {
		err = failed(err)
		if s.ch.IsClosed() || errors.Is(err, errLost) { // amqp091 closes it soon after a failed write
			p.lose(s)
		}
		return err
	}
	j.s = s
	return nil
}

// session is the channel that lives, once its connection takes more.
func (p *publisher) session(ctx context.Context) (*session, error) {
	for {
		p.mu.Lock()
		s, wait := p.now, p.changed
		p.mu.Unlock()
		if s != nil {
			full := s.conn.full()
			if full == nil {
				return s, nil
			}
			select {
			case <-full:
				continue
			case <-wait:
				continue
			case <-ctx.Done():
				return nil, p.late(ctx, "the connection takes nothing")
			case <-p.b.ctx.Done():
				return nil, ErrClosed
			}
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, p.late(ctx, "nothing was sent")
		case <-p.b.ctx.Done():
			return nil, ErrClosed
		}
	}
}

// change has all use another channel, unless they do so already; nil is none.
func (p *publisher) change(from, to *session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now != from {
		return false
	}
	p.now = to
	close(p.changed)
	p.changed = make(chan struct{})
	return true
}

// lose keeps others from a channel that is lost.
func (p *publisher) lose(s *session) {
	if p.change(s, nil) {
		close(s.broken)
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
	select {
	case <-j.dc.Done():
		return p.settle(j)
	case <-ctx.Done():
		go func() { _ = p.settle(j) }() // its place is free when its fate is known
		return p.late(ctx, "it was sent")
	}
}

// settle frees a job's place when its fate is known, and says which it was.
func (p *publisher) settle(j *job) error {
	defer func() { <-p.window }()
	<-j.dc.Done()
	reason, returned := j.s.take(address{j.p.MessageId, j.exchange, j.key})
	switch {
	case returned:
		return fmt.Errorf("%w: %s", ErrReturned, reason)
	case j.dc.Acked():
		return nil
	case j.s.ch.IsClosed():
		return errLost
	default: // basic.nack: a queue with reject-publish has no room
		return ErrFull
	}
}

// take looks for a message among the returned.
func (s *session) take(a address) (reason string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		select {
		case r, ok := <-s.returns:
			if !ok {
				s.returns = nil
				continue
			}
			at := address{r.MessageId, r.Exchange, r.RoutingKey}
			s.returned[at] = returned{s.returned[at].times + 1, fmt.Sprintf("%s (%d)", r.ReplyText, r.ReplyCode)}
			continue
		default:
		}
		break
	}
	x, ok := s.returned[a]
	if x.times--; x.times > 0 {
		s.returned[a] = x
	} else {
		delete(s.returned, a)
	}
	return x.reason, ok
}

// run makes the channel again whenever it is lost.
func (p *publisher) run() {
	defer p.wg.Done()
	for p.b.ctx.Err() == nil {
		conn, net, err := p.b.out.awaitWide(p.b.ctx)
		if err != nil {
			return
		}
		s, err := p.open(conn, net)
		if err != nil {
			p.b.o.Log.Debug("opening a channel to publish", "error", err) // its link says why
			if p.b.pause(p.b.ctx) != nil {
				return
			}
			continue
		}
		lost := s.ch.NotifyClose(make(chan *amqp091.Error, 1))
		p.change(nil, s)
		select {
		case err := <-lost:
			p.lose(s)
			p.b.lostChannel("publish", err)
		case <-s.broken:
		case <-p.b.ctx.Done():
			_ = s.ch.Close()
		}
	}
}

func (p *publisher) open(conn *amqp091.Connection, net *wide) (*session, error) {
	ch, err := conn.Channel()
	if err != nil {
		return nil, err
	}
	s := &session{ch: ch, conn: net, broken: make(chan struct{}), returned: make(map[address]returned)}
	s.returns = ch.NotifyReturn(make(chan amqp091.Return, cap(p.window)))
	if err := ch.Confirm(false); err != nil {
		_ = ch.Close()
		return nil, err
	}
	return s, nil
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
