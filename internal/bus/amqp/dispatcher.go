package amqp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/dime-bus/dime/internal/bus"
	"github.com/dime-bus/dime/internal/clock"
)

// dispatcher hands one group's messages to its subscribers in this process:
// those without an order key as they come, the others one of a key at a time.
type dispatcher struct {
	b       *Bus
	o       bus.GroupOptions
	sources []*source
	work    chan *item      // to the subscribers; has room for the whole prefetch
	ctx     context.Context // ends with receiving: no more handing out
	stop    context.CancelFunc
	over    chan struct{} // nothing is answered any more
	subsWG  sync.WaitGroup
	wg      sync.WaitGroup

	mu      sync.Mutex
	spec    spec
	subs    int
	closed  bool
	changed chan struct{}      // closed when subs or closed change
	active  int                // in work or in a receiver's hands; at most the prefetch
	held    map[*item]struct{} // in receivers' hands
	lanes   map[string][]*item // by order key; the first has its turn
	backlog []*item            // have their turn, but all places are taken
	idle    chan struct{}      // closed when nothing is held; nil while nobody asks
}

// item is a delivery.
type item struct {
	f        *feed
	dv       amqp091.Delivery
	msg      *message.Message
	d        *bus.Delivery
	key      string
	attempts int
	hand     bool   // in a receiver's hands
	waits    func() // stops its back-off
}

func (it *item) delivery() *bus.Delivery {
	return &bus.Delivery{Attempts: it.attempts, Lost: lost(it.dv.Headers), Nameless: !named(it.dv)}
}

func newDispatcher(b *Bus, s spec, o bus.GroupOptions) *dispatcher {
	d := &dispatcher{
		b: b, o: o, spec: s, work: make(chan *item, o.Prefetch), over: make(chan struct{}),
		changed: make(chan struct{}), lanes: make(map[string][]*item), held: make(map[*item]struct{}),
	}
	d.ctx, d.stop = context.WithCancel(b.ctx)
	open := s.name
	if s.foreign != "" {
		open = s.foreign
	}
	d.sources = append(d.sources, &source{d: d, queue: open, keyed: s.inOrder, prefetch: o.Prefetch})
	if s.foreign == "" {
		// Room for messages that wait behind their key.
		d.sources = append(d.sources, &source{d: d, queue: s.keyed(), keyed: true, prefetch: min(4*o.Prefetch, 2000)})
	}
	for _, s := range d.sources {
		d.wg.Add(1)
		go s.run()
	}
	return d
}

// also adds topics of a later subscription, for the next time that all is declared.
func (d *dispatcher) also(s spec) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.spec.topics = union(slices.Clone(d.spec.topics), s.topics)
}

func (d *dispatcher) tell() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// wanted says whether somebody is there to receive, and when that may change.
func (d *dispatcher) wanted() (wanted, closed bool, changed <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.subs > 0 && !d.closed, d.closed, d.changed
}

// take gives a received message its place.
func (d *dispatcher) take(f *feed, dv amqp091.Delivery) {
	m, _, attempts, err := received(dv)
	it := &item{f: f, dv: dv, msg: m, attempts: attempts}
	if err != nil {
		d.putAside(it, "it can't be read: "+err.Error())
		return
	}
	if attempts >= d.o.DeliveryLimit {
		d.putAside(it, "it was delivered too often, and took the process down with it each time")
		return
	}
	it.d = it.delivery()
	it.key = m.Metadata.Get(bus.MetaKey)
	d.mu.Lock()
	defer d.mu.Unlock()
	if it.key != "" {
		lane := append(d.lanes[it.key], it)
		d.lanes[it.key] = lane
		if len(lane) > 1 {
			return
		}
	}
	d.hand(it)
}

// hand puts an item before the subscribers. d.mu is held.
func (d *dispatcher) hand(it *item) {
	if d.active >= d.o.Prefetch {
		d.backlog = append(d.backlog, it)
		return
	}
	d.active++
	d.work <- it
}

// join adds a subscriber until ctx ends.
func (d *dispatcher) join(ctx context.Context) <-chan *message.Message {
	out := make(chan *message.Message)
	d.mu.Lock()
	d.subs++
	d.tell()
	d.mu.Unlock()
	d.subsWG.Add(1)
	go d.serve(ctx, out)
	return out
}

func (d *dispatcher) serve(ctx context.Context, out chan *message.Message) {
	defer d.subsWG.Done()
	defer close(out)
	defer func() {
		d.mu.Lock()
		d.subs--
		d.tell()
		d.mu.Unlock()
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.ctx.Done():
			return
		case it := <-d.work:
			if !d.give(ctx, out, it) {
				return
			}
		}
	}
}

// give hands an item to a receiver, if one takes it in time.
func (d *dispatcher) give(ctx context.Context, out chan *message.Message, it *item) bool {
	d.mu.Lock()
	if it.f.isDead() { // it comes again, perhaps elsewhere
		d.gone(it)
		d.mu.Unlock()
		return true
	}
	it.hand = true
	d.held[it] = struct{}{}
	it.f.hands++
	d.mu.Unlock()
	it.msg.SetContext(bus.WithDelivery(ctx, it.d))
	msg := it.msg
	select {
	case out <- msg:
		go d.await(it, msg)
		return true
	case <-ctx.Done():
	case <-d.ctx.Done():
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.back(it)
	d.work <- it
	return false
}

// back counts an item as in nobody's hands. d.mu is held.
func (d *dispatcher) back(it *item) {
	it.hand = false
	delete(d.held, it)
	if it.f.hands--; it.f.hands == 0 {
		it.f.rested()
	}
	if len(d.held) == 0 && d.idle != nil {
		close(d.idle)
		d.idle = nil
	}
}

// gone forgets an item that is active and gives others its place and its key's
// turn. d.mu is held.
func (d *dispatcher) gone(it *item) {
	d.active--
	if it.key != "" {
		if lane := d.lanes[it.key]; len(lane) > 0 && lane[0] == it {
			if len(lane) == 1 {
				delete(d.lanes, it.key)
			} else {
				d.lanes[it.key] = lane[1:]
				d.hand(lane[1])
			}
		}
	}
	d.refill()
}

// refill gives free places to those that wait for one. d.mu is held.
func (d *dispatcher) refill() {
	for len(d.backlog) > 0 && d.active < d.o.Prefetch {
		it := d.backlog[0]
		d.backlog = d.backlog[1:]
		d.active++
		d.work <- it
	}
}

// await waits for the receiver's word. It lives as long as the receiver holds the
// message.
func (d *dispatcher) await(it *item, msg *message.Message) {
	select {
	case <-msg.Acked():
		d.settled(it)
	case <-msg.Nacked():
		d.refused(it)
	case <-d.over:
	}
}

// settled acks an item and forgets it.
func (d *dispatcher) settled(it *item) {
	it.f.settle(it.dv.DeliveryTag)
	d.mu.Lock()
	defer d.mu.Unlock()
	if it.hand {
		d.back(it)
	}
	d.gone(it)
}

// refused deals with a nacked item: again after a back-off, or parked.
func (d *dispatcher) refused(it *item) {
	it.attempts++
	park, reason := it.d.Verdict()
	if park || it.attempts >= d.o.DeliveryLimit {
		if reason == "" {
			reason = "refused by its receiver"
		}
		if !park {
			reason = fmt.Sprintf("refused %d times: %s", it.attempts, reason)
		}
		d.putAside(it, reason)
		return
	}
	wait := d.b.rung(it.attempts)
	if it.key != "" || d.spec.foreign != "" {
		// Here, not in the ladder: those of its key would overtake it, and the
		// queues of others are not ours to publish to.
		d.rest(it, wait)
		return
	}
	d.move(it, job{exchange: d.b.rungName(wait), key: d.spec.name, p: again(it.dv, it.attempts, "")})
}

// putAside parks an item for a person.
func (d *dispatcher) putAside(it *item, reason string) {
	d.b.o.Log.Warn("parking a message of the bus", "queue", d.spec.name, "message", it.dv.MessageId, "reason", reason)
	if d.spec.foreign != "" && d.spec.exchange == "" {
		if err := d.b.declareParked(d.spec); err != nil {
			d.b.o.Log.Error("putting a message of others aside", "queue", d.spec.name, "error", err)
			d.b.later(d.b.rung(len(d.b.o.Rungs)), func() { go d.putAside(it, reason) })
			return
		}
	}
	d.move(it, job{key: d.spec.dlq(), p: again(it.dv, it.attempts, reason)})
}

// move publishes an item elsewhere and acks it when that is confirmed: never the
// other way round, and never a requeue, which would be a hot loop.
func (d *dispatcher) move(it *item, j job) {
	ctx, cancel := context.WithTimeout(d.b.ctx, d.b.o.PublishTimeout)
	defer cancel()
	err := d.b.pub.all(ctx, []job{j})
	switch {
	case err == nil && it.d == nil: // it was never handed out
		it.f.settle(it.dv.DeliveryTag)
	case err == nil:
		d.settled(it)
	case it.f.isDead() || errors.Is(err, ErrClosed) || d.b.ctx.Err() != nil: // unacked, it comes again
		d.letGo(it)
	default:
		d.b.o.Log.Error("putting a message of the bus elsewhere", "queue", d.spec.name, "to", j.exchange+" "+j.key, "error", err)
		d.b.later(time.Second, func() { go d.move(it, j) })
	}
}

// letGo forgets an answered item whose answer nobody takes any more.
func (d *dispatcher) letGo(it *item) {
	if it.d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if it.hand {
		d.back(it)
	}
	d.gone(it)
}

// rest keeps an item, and those of its key behind it, for a while.
func (d *dispatcher) rest(it *item, wait time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.back(it)
	d.active--
	d.refill()
	it.d = it.delivery()
	it.msg = it.msg.Copy()
	it.waits = d.b.later(wait, func() { d.again(it) })
	if it.key == "" {
		d.lanes[restKey(it)] = []*item{it}
	}
}

// restKey is the lane of a resting item without a key.
func restKey(it *item) string { return fmt.Sprintf("\x00%p", it) }

// again hands out an item whose back-off is over, if it is still here.
func (d *dispatcher) again(it *item) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if it.waits == nil || d.closed {
		return
	}
	it.waits = nil
	if it.key == "" {
		delete(d.lanes, restKey(it))
	}
	d.hand(it)
}

// purge forgets the items of a feed that are in nobody's hands, and returns them.
func (d *dispatcher) purge(f *feed) []*item {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []*item
	for range len(d.work) { // the subscribers may take some meanwhile
		select {
		case it := <-d.work:
			if it.f != f {
				d.work <- it
				continue
			}
			d.active--
			out = append(out, it)
		default:
		}
	}
	kept := d.backlog[:0]
	for _, it := range d.backlog {
		if it.f == f {
			out = append(out, it)
		} else {
			kept = append(kept, it)
		}
	}
	d.backlog = kept
	for key, lane := range d.lanes {
		first := lane[0]
		var left []*item
		for _, it := range lane {
			switch {
			case it.f != f || it.hand || d.moving(it, out):
				left = append(left, it)
			case it.waits != nil:
				it.waits()
				it.waits = nil
				out = append(out, it)
			case !slices.Contains(out, it):
				out = append(out, it)
			}
		}
		if len(left) == 0 {
			delete(d.lanes, key)
			continue
		}
		d.lanes[key] = left
		if left[0] != first {
			d.hand(left[0])
		}
	}
	d.refill()
	return out
}

// moving says that a lane's first item is neither waiting nor in out: a subscriber
// is just taking it and will find its feed dead. d.mu is held.
func (d *dispatcher) moving(it *item, out []*item) bool {
	lane := d.lanes[it.key]
	return it.key != "" && len(lane) > 0 && lane[0] == it && it.waits == nil && !slices.Contains(out, it)
}

func (d *dispatcher) stopReceiving() {
	d.mu.Lock()
	d.closed = true
	d.tell()
	d.mu.Unlock()
	d.stop()
}

// drain waits until what is in receivers' hands was answered; the rest goes back
// to the broker with its channel.
func (d *dispatcher) drain(ctx context.Context) {
	d.subsWG.Wait()
	d.mu.Lock()
	var idle chan struct{}
	if len(d.held) > 0 {
		idle = make(chan struct{})
		d.idle = idle
	}
	d.mu.Unlock()
	if idle != nil {
		select {
		case <-idle:
		case <-ctx.Done():
			d.mu.Lock()
			n := len(d.held)
			d.mu.Unlock()
			d.b.o.Log.Warn("closing the bus before all messages were answered; they come again", "queue", d.spec.name, "messages", n)
		}
	}
	close(d.over)
	d.wg.Wait()
}

func (b *Bus) later(after time.Duration, f func()) (stop func()) {
	return b.o.Clock.At(b.o.Clock.Now().Add(after), f)
}

// pauseFor is how long what failed waits before it tries again where nothing else
// tells it when.
const pauseFor = 200 * time.Millisecond

func (b *Bus) pause(ctx context.Context) error { return clock.Sleep(ctx, b.o.Clock, pauseFor) }
