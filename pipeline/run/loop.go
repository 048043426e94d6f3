package run

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dime-bus/dime/internal/store"
)

// liveRuns are the durable runs that this process holds a lease of.
type liveRuns struct {
	mu      sync.Mutex
	by      map[store.RunID]*exec
	renewal func() // stops the next renewal
	end     func() // stops the look at the lease that ends next
	idle    []chan struct{}
}

// own registers a run that has a lease and keeps the leases renewed.
func (l *liveRuns) own(x *exec) {
	x.mu.Lock()
	held := x.lease.Run != 0 || !x.lease.Until.IsZero()
	x.mu.Unlock()
	if !held {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by == nil {
		l.by = map[store.RunID]*exec{}
	}
	l.by[x.id] = x
	if l.renewal == nil {
		l.renewal = x.e.clock.At(x.e.clock.Now().Add(x.e.cfg.RenewEvery), x.e.renewAll)
	}
}

func (l *liveRuns) drop(x *exec) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by[x.id] != x {
		return
	}
	delete(l.by, x.id)
	if len(l.by) > 0 {
		return
	}
	for _, stop := range []*func(){&l.renewal, &l.end} {
		if *stop != nil {
			(*stop)()
			*stop = nil
		}
	}
	for _, ch := range l.idle {
		close(ch)
	}
	l.idle = nil
}

func (l *liveRuns) get(id store.RunID) *exec {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.by[id]
}

// wait returns when no run is held.
func (l *liveRuns) wait(ctx context.Context) {
	l.mu.Lock()
	if len(l.by) == 0 {
		l.mu.Unlock()
		return
	}
	ch := make(chan struct{})
	l.idle = append(l.idle, ch)
	l.mu.Unlock()
	select {
	case <-ch:
	case <-ctx.Done():
	}
}

// renewAll prolongs every lease; a run whose lease is lost is dropped.
func (e *Engine) renewAll() {
	l := &e.live
	l.mu.Lock()
	xs := make([]*exec, 0, len(l.by))
	for _, x := range l.by {
		xs = append(xs, x)
	}
	l.mu.Unlock()
	e.cut() // a renewal may take long to fail
	if err := e.renew(xs); err != nil {
		e.log.Error("renewing leases", "runs", len(xs), "error", err)
	}
	if e.cfg.Shared {
		e.answerAsks()
	}
	e.cut()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.renewal = nil
	if len(l.by) > 0 && e.ctx.Err() == nil {
		l.renewal = e.clock.At(e.clock.Now().Add(e.cfg.RenewEvery), e.renewAll)
	}
}

// cut ends what runs are doing whose lease has ended without a renewal: somebody
// else may own them by now, and what a call comes to is not theirs to use (semantics
// 11.4). It looks again when the next lease ends.
func (e *Engine) cut() {
	var next time.Time
	var over []*exec
	l := &e.live
	l.mu.Lock()
	for _, x := range l.by {
		x.mu.Lock()
		left, until := x.lease.Left(e.clock.Now()), x.lease.Until
		x.mu.Unlock()
		switch {
		case left <= 0:
			over = append(over, x)
		case !until.IsZero() && (next.IsZero() || until.Before(next)):
			next = until
		}
	}
	if l.end != nil {
		l.end()
		l.end = nil
	}
	if !next.IsZero() && e.ctx.Err() == nil {
		l.end = e.clock.At(next, e.cut)
	}
	l.mu.Unlock()
	for _, x := range over {
		x.cancel(&errJournal{fmt.Errorf("%w: it ended", errLease)})
	}
}

// renew prolongs leases, and fences the runs that others own by now.
func (e *Engine) renew(xs []*exec) error {
	ls := make([]store.Lease, 0, len(xs))
	for _, x := range xs {
		x.mu.Lock()
		ls = append(ls, x.lease)
		x.mu.Unlock()
	}
	if len(ls) == 0 {
		return nil
	}
	until := e.clock.Now().Add(e.cfg.LeaseFor)
	lost, err := e.store.Renew(e.ctx, ls...)
	if err != nil {
		return err
	}
	gone := make(map[store.RunID]bool, len(lost))
	for _, l := range lost {
		gone[l.Run] = true
	}
	for _, x := range xs {
		x.mu.Lock()
		if !gone[x.id] {
			x.lease.Until = until
		}
		x.mu.Unlock()
		if gone[x.id] && e.live.get(x.id) == x {
			x.fenced.Store(true)
			x.cancel(store.ErrFenced)
		}
	}
	return nil
}

// claimLoop takes runs that are due, woken or ownerless. It looks when it is
// kicked, never by polling: the store tells of commits, an alarm of due times.
func (e *Engine) claimLoop() {
	stop := e.store.OnWake(func() { e.loop.Kick(); e.pub.Kick() })
	defer func() { stop(); e.background.Yield() }()
	var alarm func()
	for e.loop.Next() {
		if alarm != nil {
			alarm()
			alarm = nil
		}
		crowded, err := e.claim()
		if again := e.claiming.Went(e.log, err); again > 0 {
			alarm = e.clock.At(e.clock.Now().Add(again), e.loop.Kick)
			e.loop.Done()
			continue
		}
		at, ok, err := e.store.NextDue(e.ctx)
		switch {
		case err != nil && e.ctx.Err() == nil && !errors.Is(err, store.ErrClosed):
			alarm = e.clock.At(e.clock.Now().Add(time.Second), e.loop.Kick)
		case err == nil && ok && at.After(e.clock.Now()):
			alarm = e.clock.At(at, func() { e.loop.Kick(); e.pub.Kick() }) // a postponed outbox row may be due too
		case err == nil && ok && !crowded && !e.draining.Load():
			alarm = e.clock.At(e.clock.Now().Add(100*time.Millisecond), e.loop.Kick) // somebody else's, or a lease about to end
		}
		e.loop.Done()
	}
	if alarm != nil {
		alarm()
	}
}

// claim takes what is due, before what is new has its turn (semantics 11.1);
// crowded: there may be more, and the next free slot kicks the loop. The error is
// the store's, nil where the engine stops.
func (e *Engine) claim() (crowded bool, err error) {
	for !e.draining.Load() && e.ctx.Err() == nil {
		n := e.background.Take(64, e.loop.Kick)
		if n == 0 {
			return true, nil
		}
		rs, ls, err := e.store.Claim(e.ctx, e.cfg.Worker, n)
		for range n - len(rs) {
			e.background.Leave()
		}
		for i := range rs {
			e.start(func() {
				defer e.background.Leave()
				e.resume(rs[i], ls[i])
			})
		}
		if err != nil {
			if e.ctx.Err() != nil || errors.Is(err, store.ErrClosed) {
				return false, nil //nolint:nilerr // the engine stops
			}
			return false, err
		}
		if len(rs) == 0 {
			return false, nil
		}
	}
	e.background.Yield()
	return false, nil
}

// outboxLoop publishes what committed runs left to say, at least once.
func (e *Engine) outboxLoop() {
	var o outbox
	for e.pub.Next() {
		e.drainOutbox(&o)
		e.pub.Done()
	}
	o.mu.Lock()
	if o.alarm != nil {
		o.alarm()
	}
	o.mu.Unlock()
}

// outbox remembers the rows that are on their way, so that none is sent twice at once.
type outbox struct {
	mu    sync.Mutex
	going map[int64]bool
	alarm func()
}

const outboxPage = 256

func (e *Engine) drainOutbox(o *outbox) {
	if e.ctx.Err() != nil {
		return
	}
	rows, err := e.store.Outbox(e.ctx, outboxPage)
	if err != nil {
		if e.ctx.Err() == nil && !errors.Is(err, store.ErrClosed) {
			e.log.Error("reading the outbox", "error", err)
		}
		return
	}
	o.mu.Lock()
	if o.going == nil {
		o.going = map[int64]bool{}
	}
	fresh := rows[:0]
	for _, r := range rows {
		if !o.going[r.Seq] {
			o.going[r.Seq] = true
			fresh = append(fresh, r)
		}
	}
	o.mu.Unlock()
	var batch []store.OutboxRow
	for _, r := range fresh {
		if e.cfg.Bus != nil && !isStart(r.Topic) {
			batch = append(batch, r)
			continue
		}
		e.start(func() { e.deliverRow(o, r) })
	}
	if len(batch) == 0 {
		return
	}
	ms := make([]Message, len(batch))
	for i, r := range batch {
		ms[i] = Message{ID: r.ID, Type: r.Topic, At: e.clock.Now(), Body: r.Body, Meta: r.Meta}
	}
	if err := e.cfg.Bus.Publish(e.ctx, ms...); err != nil {
		for _, r := range batch {
			e.postpone(o, r, err)
		}
		return
	}
	seqs := make([]int64, len(batch))
	for i, r := range batch {
		seqs[i] = r.Seq
	}
	e.published(o, seqs...)
	if len(rows) == outboxPage {
		e.pub.Kick()
	}
}

func isStart(topic string) bool {
	return len(topic) > len(startTopic) && topic[:len(startTopic)] == startTopic
}

// deliverRow hands one row to the engine itself: a `start`, or any event where
// there is no bus.
func (e *Engine) deliverRow(o *outbox, r store.OutboxRow) {
	var err error
	if isStart(r.Topic) {
		err = e.begin(e.ctx, r.Topic[len(startTopic):], r)
	} else {
		err = e.loopBack(e.ctx, Message{ID: r.ID, Type: r.Topic, At: e.clock.Now(), Body: r.Body, Meta: r.Meta})
	}
	if err != nil {
		e.postpone(o, r, err)
		return
	}
	e.published(o, r.Seq)
}

func (e *Engine) published(o *outbox, seqs ...int64) {
	if err := e.store.Published(e.ctx, seqs...); err != nil && e.ctx.Err() == nil && !errors.Is(err, store.ErrClosed) {
		e.log.Error("settling the outbox", "error", err)
	}
	o.mu.Lock()
	for _, s := range seqs {
		delete(o.going, s)
	}
	o.mu.Unlock()
}

// postpone puts a row off on the ladder of the deferrals.
func (e *Engine) postpone(o *outbox, r store.OutboxRow, cause error) {
	if e.ctx.Err() == nil && !errors.Is(cause, store.ErrClosed) {
		d := e.cfg.Ladder[min(r.Attempts, len(e.cfg.Ladder)-1)]
		at := e.clock.Now().Add(d)
		e.log.Warn("publishing", "topic", r.Topic, "id", r.ID, "again_at", at, "error", cause)
		if err := e.store.Postpone(e.ctx, r.Seq, at); err != nil {
			e.log.Error("postponing an outbox row", "error", err)
		}
		e.clock.At(at, e.pub.Kick)
	}
	o.mu.Lock()
	delete(o.going, r.Seq)
	o.mu.Unlock()
}

func (e *Engine) probe(when string, first bool, ns ...*entry) {
	if e.cfg.Probe == nil {
		return
	}
	var rs []store.Record
	if first {
		rs = append(rs, store.Record{Kind: store.Accepted})
	}
	for _, n := range ns {
		rs = append(rs, store.Record{Kind: n.kind, Path: n.path})
	}
	e.cfg.Probe(rs, when)
}
