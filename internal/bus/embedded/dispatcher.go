package embedded

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/dime-bus/dime/internal/bus"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/store"
)

// heldFor is how many times the prefetch a queue keeps in memory when messages
// wait behind their order key or for their back-off.
const heldFor = 4

// dispatcher hands one queue's messages to its subscribers.
type dispatcher struct {
	b     *Bus
	queue string
	o     bus.GroupOptions
	clk   clock.Clock

	work chan *item // to the subscribers; has room for the whole prefetch
	acks chan *item // answered, to be settled together
	kick chan struct{}
	quit chan struct{} // no more receiving
	over chan struct{} // nothing will be settled any more
	stop func()        // of the store's hook
	wg   sync.WaitGroup

	mu     sync.Mutex
	kicked bool
	subs   int
	active map[*item]struct{} // handed out or about to be, not answered
	held   int                // active, waiting in a lane or for a back-off
	lanes  map[string][]*item // by order key; the first has its turn
	idle   chan struct{}      // closed when nothing is active; nil while nobody asks
	closed bool
}

// item is a delivery.
type item struct {
	m        store.Message
	msg      *message.Message
	d        *bus.Delivery
	key      string
	attempts int
	nacked   bool
	leave    func() // ends its count on a virtual clock; once
}

func newDispatcher(b *Bus, queue string, o bus.GroupOptions) *dispatcher {
	d := &dispatcher{
		b: b, queue: queue, o: o, clk: b.o.Clock,
		work: make(chan *item, 2*o.Prefetch), acks: make(chan *item, o.Prefetch),
		kick: make(chan struct{}, 1), quit: make(chan struct{}), over: make(chan struct{}),
		active: make(map[*item]struct{}), lanes: make(map[string][]*item),
	}
	d.stop = b.q.OnReady(queue, d.look)
	d.wg.Add(2)
	go d.receive()
	go d.settle()
	return d
}

// look asks the receiving loop to look again. It counts on a virtual clock from
// here, so that nothing seems to rest between a commit and its dispatch.
func (d *dispatcher) look() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kicked || d.closed {
		return
	}
	d.kicked = true
	clock.Enter(d.clk)
	d.kick <- struct{}{}
}

func (d *dispatcher) receive() {
	defer d.wg.Done()
	for {
		select {
		case <-d.quit:
			select {
			case <-d.kick:
				clock.Leave(d.clk)
			default:
			}
			return
		case <-d.kick:
		}
		d.mu.Lock()
		d.kicked = false
		d.mu.Unlock()
		d.fill()
		clock.Leave(d.clk)
	}
}

// fill receives as much as the prefetch allows.
func (d *dispatcher) fill() {
	for {
		d.mu.Lock()
		room := min(d.o.Prefetch-len(d.active), heldFor*d.o.Prefetch-d.held)
		if d.subs == 0 || d.closed {
			room = 0
		}
		d.mu.Unlock()
		if room <= 0 {
			return
		}
		ms, err := d.b.q.Receive(context.Background(), d.queue, room)
		if err != nil {
			if !errors.Is(err, store.ErrClosed) {
				d.b.o.Log.Error("receiving from the bus", "queue", d.queue, "error", err)
				d.later(time.Second, d.look)
			}
			return
		}
		if len(ms) == 0 {
			return
		}
		for i := range ms {
			d.take(ms[i])
		}
	}
}

func (d *dispatcher) later(after time.Duration, f func()) {
	d.clk.At(d.clk.Now().Add(after), f)
}

func (d *dispatcher) ack(it *item) store.Ack { return store.Ack{Queue: d.queue, ID: it.m.Seq} }

// take gives a received message its place.
func (d *dispatcher) take(m store.Message) {
	it := &item{m: m, key: m.Meta[bus.MetaKey], attempts: m.Attempts}
	if it.attempts >= d.o.DeliveryLimit {
		d.park(it, "it was delivered too often, and took the process down with it each time")
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.held++
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
	d.active[it] = struct{}{}
	clock.Enter(d.clk)
	it.leave = sync.OnceFunc(func() { clock.Leave(d.clk) })
	it.msg = wire(&it.m)
	it.d = &bus.Delivery{Ack: d.ack(it), Attempts: it.attempts, Taken: it.leave}
	it.nacked = false
	d.work <- it // has room: at most prefetch are active, each here once
}

// join adds a subscriber until ctx ends.
func (d *dispatcher) join(ctx context.Context) <-chan *message.Message {
	out := make(chan *message.Message)
	d.mu.Lock()
	d.subs++
	d.mu.Unlock()
	d.wg.Add(1)
	go d.serve(ctx, out)
	d.look()
	return out
}

func (d *dispatcher) serve(ctx context.Context, out chan *message.Message) {
	defer d.wg.Done()
	defer close(out)
	defer d.part()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.quit:
			return
		case it := <-d.work:
			it.msg.SetContext(bus.WithDelivery(ctx, it.d))
			msg := it.msg
			select {
			case out <- msg:
				go d.await(it, msg)
			case <-ctx.Done():
				d.work <- it
				return
			case <-d.quit:
				d.work <- it
				return
			}
		}
	}
}

// part gives back what nobody is there to take.
func (d *dispatcher) part() {
	d.mu.Lock()
	d.subs--
	last := d.subs == 0
	d.mu.Unlock()
	if last {
		d.giveBack()
	}
}

// giveBack returns all that is in no receiver's hands.
func (d *dispatcher) giveBack() {
	var back []*item
	d.mu.Lock()
	for more := true; more; {
		select {
		case it := <-d.work:
			back = append(back, it)
			delete(d.active, it)
		default:
			more = false
		}
	}
	for key, lane := range d.lanes {
		first := lane[0]
		if _, busy := d.active[first]; busy {
			d.lanes[key] = lane[:1:1]
			back = append(back, lane[1:]...)
			continue
		}
		delete(d.lanes, key)
		for _, it := range lane {
			if it.leave == nil || !containsItem(back, it) {
				back = append(back, it)
			}
		}
	}
	d.held = len(d.active)
	d.rested()
	d.mu.Unlock()
	if len(back) == 0 {
		return
	}
	acks := make([]store.Ack, len(back))
	for i, it := range back {
		acks[i] = d.ack(it)
	}
	if err := d.b.q.Unreceive(context.Background(), acks...); err != nil && !errors.Is(err, store.ErrClosed) {
		d.b.o.Log.Error("giving messages back to the bus", "queue", d.queue, "error", err)
	}
	for _, it := range back {
		if it.leave != nil {
			it.leave()
		}
	}
}

func containsItem(list []*item, it *item) bool {
	for _, x := range list {
		if x == it {
			return true
		}
	}
	return false
}

// await waits for the receiver's word. It lives as long as the receiver holds
// the message.
func (d *dispatcher) await(it *item, msg *message.Message) {
	nacked := false
	select {
	case <-msg.Acked():
	case <-msg.Nacked():
		nacked = true
	case <-d.over:
		it.leave()
		return
	}
	it.nacked = nacked
	select {
	case d.acks <- it:
	case <-d.over:
		it.leave()
	}
}

// settle takes all answers there are into one commit.
func (d *dispatcher) settle() {
	defer d.wg.Done()
	for {
		var its []*item
		select {
		case it := <-d.acks:
			its = append(its, it)
		case <-d.over:
			return
		}
		for more := true; more && len(its) < 512; {
			select {
			case it := <-d.acks:
				its = append(its, it)
			default:
				more = false
			}
		}
		d.answered(its)
	}
}

func (d *dispatcher) answered(its []*item) {
	acked := its[:0:0]
	for _, it := range its {
		if it.nacked {
			d.refused(it)
		} else {
			acked = append(acked, it)
		}
	}
	if len(acked) == 0 {
		return
	}
	acks := make([]store.Ack, len(acked))
	for i, it := range acked {
		acks[i] = d.ack(it)
	}
	if err := d.b.q.Settle(context.Background(), acks...); err != nil {
		d.unsettled(acked, err)
		return
	}
	d.done(acked...)
}

// unsettled keeps the answers until the store takes them; if it has closed they
// are lost, and the messages come again.
func (d *dispatcher) unsettled(its []*item, err error) {
	if !errors.Is(err, store.ErrFull) {
		if !errors.Is(err, store.ErrClosed) {
			d.b.o.Log.Error("settling messages of the bus", "queue", d.queue, "messages", len(its), "error", err)
		}
		d.mu.Lock()
		for _, it := range its {
			delete(d.active, it)
			d.held--
		}
		d.rested()
		d.mu.Unlock()
		for _, it := range its {
			it.leave()
		}
		return
	}
	for _, it := range its {
		d.later(time.Second, func() {
			select {
			case d.acks <- it:
			case <-d.over:
			}
		})
	}
}

// done forgets settled items and gives the next of their keys its turn.
func (d *dispatcher) done(its ...*item) {
	d.mu.Lock()
	for _, it := range its {
		delete(d.active, it)
		d.held--
		if it.key == "" {
			continue
		}
		if lane := d.lanes[it.key]; len(lane) > 0 && lane[0] == it {
			if len(lane) == 1 {
				delete(d.lanes, it.key)
				continue
			}
			d.lanes[it.key] = lane[1:]
			if !d.closed {
				d.hand(lane[1])
			}
		}
	}
	d.rested()
	d.mu.Unlock()
	d.look()
	for _, it := range its {
		if it.leave != nil {
			it.leave()
		}
	}
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
		d.park(it, reason)
		return
	}
	wait := d.b.o.Backoff(it.attempts)
	if it.key == "" {
		if err := d.b.q.Again(context.Background(), d.ack(it), d.clk.Now().Add(wait)); err != nil {
			d.unsettled([]*item{it}, err)
			return
		}
		d.done(it)
		return
	}
	// A message with an order key stays here and keeps those behind it waiting: in
	// the store they would overtake it.
	d.mu.Lock()
	delete(d.active, it)
	d.rested()
	d.mu.Unlock()
	leave := it.leave
	d.later(wait, func() { d.again(it) })
	leave()
}

// again hands out an item whose back-off is over, if it is still here.
func (d *dispatcher) again(it *item) {
	d.mu.Lock()
	defer d.mu.Unlock()
	lane := d.lanes[it.key]
	if d.closed || len(lane) == 0 || lane[0] != it {
		return
	}
	if len(d.active) >= d.o.Prefetch { // all are out; it has its turn soon
		d.later(100*time.Millisecond, func() { d.again(it) })
		return
	}
	d.hand(it)
}

func (d *dispatcher) park(it *item, reason string) {
	d.b.o.Log.Warn("parking a message of the bus", "queue", d.queue, "message", it.m.ID, "reason", reason)
	if err := d.b.q.ParkMessage(context.Background(), d.ack(it), reason); err != nil {
		d.unsettled([]*item{it}, err)
		return
	}
	if it.leave == nil { // never handed out
		return
	}
	d.done(it)
}

// rested tells Close that nothing is out. d.mu is held.
func (d *dispatcher) rested() {
	if d.idle != nil && len(d.active) == 0 {
		close(d.idle)
		d.idle = nil
	}
}

func (d *dispatcher) stopReceiving() {
	d.stop()
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	close(d.quit)
}

// drain waits until what is out was answered, and gives back the rest.
func (d *dispatcher) drain(ctx context.Context, wait bool) error {
	d.mu.Lock()
	n := d.subs
	d.mu.Unlock()
	if n == 0 {
		d.giveBack()
	}
	if wait {
		d.mu.Lock()
		var idle chan struct{}
		if len(d.active) > 0 {
			idle = make(chan struct{})
			d.idle = idle
		}
		d.mu.Unlock()
		if idle != nil {
			select {
			case <-idle:
			case <-ctx.Done():
			}
		}
	}
	close(d.over)
	d.wg.Wait()
	d.mu.Lock()
	var acks []store.Ack
	var its []*item
	for it := range d.active {
		acks = append(acks, d.ack(it))
		its = append(its, it)
		delete(d.active, it)
	}
	d.mu.Unlock()
	for _, it := range its {
		it.leave()
	}
	if len(acks) == 0 {
		return nil
	}
	d.b.o.Log.Warn("closing the bus before all messages were answered; they come again", "queue", d.queue, "messages", len(acks))
	if err := d.b.q.Unreceive(context.Background(), acks...); err != nil && !errors.Is(err, store.ErrClosed) {
		return fmt.Errorf("giving messages back to %s: %w", d.queue, err)
	}
	return nil
}
