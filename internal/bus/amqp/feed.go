package amqp

import (
	"slices"
	"sync"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/dime-bus/dime/internal/clock"
)

// source is one queue that a group consumes.
type source struct {
	d        *dispatcher
	queue    string
	keyed    bool // with one active consumer in all processes
	prefetch int

	fails int   // attempts in a row
	feed  *feed // d.mu: the one that consumes
}

// feed is a source while its channel lives.
type feed struct {
	s    *source
	ch   *amqp091.Channel
	in   <-chan amqp091.Delivery
	lost chan *amqp091.Error
	ask  chan chan error // write all acks and hear that the broker has them
	dead chan struct{}   // the channel is gone: what is unacked comes again
	die  func()          // closes dead, once
	done chan struct{}   // the acks' goroutine has ended

	acks  acks          // what is answered
	due   chan struct{} // has room for one: an ack is due, or the first waits for others
	hands int           // d.mu: items in receivers' hands
	idle  chan struct{} // d.mu: closed when hands is 0
}

const consumerTag = "dime"

// askAgain is the longest pause between attempts to consume.
const askAgain = 30 * time.Second

// straggler is how long an ack may wait for others that would spare its own: those
// of deliveries before it, and in a quiet hour those behind it.
const straggler = 5 * time.Millisecond

// run consumes whenever somebody subscribes and there is a connection.
func (s *source) run() {
	defer s.d.wg.Done()
	for {
		wanted, closed, changed := s.d.wanted()
		if closed {
			return
		}
		if !wanted {
			<-changed
			continue
		}
		f, err := s.open()
		if err != nil {
			if code(err) != 0 && !s.d.b.in.down() {
				s.d.b.o.Log.Warn("consuming", "queue", s.queue, "error", err)
			}
			// A queue that is broken in the broker answers with an error that takes the
			// whole connection, and all other queues', with it: ask it ever less often.
			_ = clock.Sleep(s.d.ctx, s.d.b.o.Clock, min(pauseFor<<min(s.fails, 10), askAgain))
			if code(err) == amqp091.InternalError || !s.d.b.in.down() {
				s.fails++
			}
			continue
		}
		s.fails = 0
		s.serve(f)
	}
}

func (s *source) open() (*feed, error) {
	conn, err := s.d.b.in.await(s.d.ctx)
	if err != nil {
		return nil, err
	}
	s.d.mu.Lock()
	sp := s.d.spec
	s.d.mu.Unlock()
	// A broker that was restored or a queue that was deleted is mended here.
	if err := s.d.b.declare(conn, sp); err != nil {
		return nil, err
	}
	ch, err := conn.Channel()
	if err != nil {
		return nil, err
	}
	f := &feed{
		s: s, ch: ch, due: make(chan struct{}, 1), ask: make(chan chan error),
		acks: acks{first: 1, open: make(map[uint64]bool), enough: uint64(max(1, s.prefetch/8))}, //nolint:gosec // positive
		dead: make(chan struct{}), done: make(chan struct{}), lost: ch.NotifyClose(make(chan *amqp091.Error, 1)),
	}
	if err := ch.Qos(s.prefetch, 0, false); err != nil {
		return nil, err
	}
	if f.in, err = ch.Consume(s.queue, consumerTag, false, false, false, false, nil); err != nil {
		return nil, err
	}
	f.die = sync.OnceFunc(func() { close(f.dead) })
	go f.write()
	return f, nil
}

func (f *feed) isDead() bool {
	select {
	case <-f.dead:
		return true
	default:
		return false
	}
}

// rested tells who waits that no receiver holds an item. d.mu is held.
func (f *feed) rested() {
	if f.idle != nil {
		close(f.idle)
		f.idle = nil
	}
}

// resting returns a channel that is closed when no receiver holds an item.
func (f *feed) resting() <-chan struct{} {
	f.s.d.mu.Lock()
	defer f.s.d.mu.Unlock()
	idle := make(chan struct{})
	if f.hands == 0 {
		close(idle)
		return idle
	}
	if f.idle == nil {
		f.idle = idle
	}
	return f.idle
}

// serve takes what comes until the channel is lost or nobody receives.
func (s *source) serve(f *feed) {
	s.d.mu.Lock()
	s.feed = f
	s.d.mu.Unlock()
	for {
		wanted, _, changed := s.d.wanted()
		if !wanted {
			if s.keyed {
				// The next active consumer starts when this one goes, so it goes when
				// nothing of a key is in anybody's hands.
				select {
				case <-f.resting():
				case <-f.dead:
				case <-s.d.over:
				case <-changed:
					continue
				}
				f.close()
				return
			}
			f.giveBack()
			s.d.wg.Add(1)
			go func() {
				defer s.d.wg.Done()
				select {
				case <-f.resting():
				case <-f.dead:
				case <-s.d.over:
				}
				f.close()
			}()
			return
		}
		select {
		case dv, ok := <-f.in:
			if !ok { // lost, or its queue was deleted
				f.close()
				return
			}
			s.d.take(f, dv)
		case <-changed:
		}
	}
}

// giveBack stops consuming and returns what nobody holds, at once: others may
// wait for it.
func (f *feed) giveBack() {
	if f.ch.Cancel(consumerTag, false) == nil {
		for dv := range f.in {
			f.s.d.take(f, dv)
		}
	}
	items := f.s.d.purge(f)
	slices.SortFunc(items, func(a, b *item) int { return int(a.dv.DeliveryTag) - int(b.dv.DeliveryTag) })
	for _, it := range items {
		if f.ch.Nack(it.dv.DeliveryTag, false, true) != nil {
			return
		}
	}
}

// close writes the last acks and closes the channel; what is unacked goes back.
func (f *feed) close() {
	f.die()
	<-f.done
	f.s.d.purge(f)
	_ = f.ch.Close()
}

// settle acks a delivery, soon.
func (f *feed) settle(tag uint64) {
	if f.acks.add(tag) {
		select {
		case f.due <- struct{}{}:
		default:
		}
	}
}

// write writes acks: one for the answered deliveries before which none is open,
// and one for each other that has waited for those before it in vain. Each is a
// command that the quorum queue's nodes agree on, so an eighth of the prefetch shares
// one.
func (f *feed) write() {
	defer close(f.done)
	var late <-chan time.Time
	for {
		select {
		case <-f.due:
			f.acks.write(f.ch, false)
			if late == nil {
				late = time.After(straggler)
			}
		case <-late:
			late = nil
			f.acks.write(f.ch, true)
		case reply := <-f.ask:
			f.acks.write(f.ch, true)
			reply <- f.ch.Qos(f.s.prefetch, 0, false) // an answer means that the acks before it are taken
		case err := <-f.lost:
			f.s.d.b.lostChannel(f.s.queue, err)
			f.die()
			return
		case <-f.dead:
			f.acks.write(f.ch, true)
			return
		}
	}
}

// acks are the answers of one channel, whose delivery tags count from 1.
type acks struct {
	mu     sync.Mutex
	enough uint64          // that many share an ack
	first  uint64          // the lowest tag that is not answered
	upTo   uint64          // the highest answered below first
	acked  uint64          // the highest of those that is written
	open   map[uint64]bool // answered above first; true: written
	told   bool            // the writer looks at them soon
}

// add says whether the writer must be told: of the first answer since it looked, and
// when there is enough to write.
func (a *acks) add(tag uint64) (tell bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if tag == a.first {
		a.upTo = tag
		a.first++
	} else {
		a.open[tag] = false
	}
	for len(a.open) > 0 {
		written, ok := a.open[a.first]
		if !ok {
			break
		}
		if !written {
			a.upTo = a.first
		}
		delete(a.open, a.first)
		a.first++
	}
	tell = !a.told || a.upTo >= a.acked+a.enough
	a.told = true
	return tell
}

// write writes what is enough, or all.
func (a *acks) write(ch *amqp091.Channel, all bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	// Errors are those of a lost channel, which shows itself.
	if a.upTo >= a.acked+a.enough || all && a.upTo > a.acked {
		_ = ch.Ack(a.upTo, true)
		a.acked = a.upTo
	}
	if !all {
		return
	}
	a.told = false
	for tag, written := range a.open {
		if !written {
			_ = ch.Ack(tag, false)
			a.open[tag] = true
		}
	}
}
