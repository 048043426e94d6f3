// Package waiting is who waits for what in this process: callers for a run's
// answer, second requests for the first one's, work for a free slot. A goroutine
// that waits is not counted on the clock, and whoever ends its waiting counts it
// again.
package waiting

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/store"
)

// Place is one who waits. won says who ends the waiting: the answer, the deadline
// or the waiter's own leaving; the winner counts it on the clock again.
type Place[A any] struct {
	ch       chan A
	deadline time.Time
	won      atomic.Bool
	waited   bool // the waiter's own: Wait was called
}

func newPlace[A any](deadline time.Time) *Place[A] {
	return &Place[A]{ch: make(chan A, 1), deadline: deadline}
}

// tell answers, unless the waiter left before.
func (p *Place[A]) tell(c clock.Clock, a A) {
	if p.won.CompareAndSwap(false, true) {
		clock.Enter(c)
		p.ch <- a
	}
}

// Leave gives up a place. An answer that came before anybody waited for it had
// counted the waiter, who never rested, a second time.
func (p *Place[A]) Leave(c clock.Clock) {
	if !p.waited && !p.won.CompareAndSwap(false, true) {
		<-p.ch
		clock.Leave(c)
	}
}

// Wait blocks a counted goroutine, uncounted, until the answer, the deadline, the
// caller's leaving, or stopped: nothing answers any more.
func (p *Place[A]) Wait(ctx context.Context, c clock.Clock, stopped <-chan struct{}) (none A, ok bool) {
	p.waited = true
	late := make(chan struct{})
	stop := c.At(p.deadline, func() {
		if p.won.CompareAndSwap(false, true) {
			clock.Enter(c)
			close(late)
		}
	})
	defer stop()
	clock.Leave(c)
	select {
	case a := <-p.ch:
		return a, true
	case <-late:
		return none, false
	case <-ctx.Done():
	case <-stopped:
	}
	if p.won.CompareAndSwap(false, true) {
		clock.Enter(c)
		return none, false
	}
	select {
	case a := <-p.ch:
		return a, true
	case <-late:
		return none, false
	}
}

// Room is who waits for which run.
type Room[A any] struct {
	mu sync.Mutex
	by map[store.RunID][]*Place[A]
}

// Enter takes a place.
func (r *Room[A]) Enter(id store.RunID, deadline time.Time) *Place[A] {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.by == nil {
		r.by = map[store.RunID][]*Place[A]{}
	}
	p := newPlace[A](deadline)
	r.by[id] = append(r.by[id], p)
	return p
}

// Leave takes a waiter out, whether it was answered or not.
func (r *Room[A]) Leave(c clock.Clock, id store.RunID, p *Place[A]) {
	r.mu.Lock()
	l := r.by[id]
	if i := slices.Index(l, p); i >= 0 {
		l = append(l[:i:i], l[i+1:]...)
	}
	if len(l) == 0 {
		delete(r.by, id)
	} else {
		r.by[id] = l
	}
	r.mu.Unlock()
	p.Leave(c)
}

// Waiting says whether anybody waits for a run.
func (r *Room[A]) Waiting(id store.RunID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.by[id]) > 0
}

// Deadline is the latest of those who wait.
func (r *Room[A]) Deadline(id store.RunID) (t time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.by[id] {
		if p.deadline.After(t) {
			t = p.deadline
		}
	}
	return t
}

// Notify answers all who wait for a run.
func (r *Room[A]) Notify(c clock.Clock, id store.RunID, a A) {
	r.mu.Lock()
	l := r.by[id]
	delete(r.by, id)
	r.mu.Unlock()
	for _, p := range l {
		p.tell(c, a)
	}
}

// Flights are the once keys of runs in this process that may never commit: a
// second request with the same key waits for the first one's answer.
type Flights[A any] struct {
	mu sync.Mutex
	by map[[2]string]*Flight[A]
}

// Flight is the first request of a key.
type Flight[A any] struct {
	Hash    string // of its body
	ID      store.RunID
	waiters []*Place[A]
}

// Join returns the flight of a key; the caller leads it if the place is nil, and
// else waits there.
func (f *Flights[A]) Join(scope, key, hash string, id store.RunID, deadline time.Time) (*Flight[A], *Place[A]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.by == nil {
		f.by = map[[2]string]*Flight[A]{}
	}
	k := [2]string{scope, key}
	if g := f.by[k]; g != nil {
		p := newPlace[A](deadline)
		g.waiters = append(g.waiters, p)
		return g, p
	}
	g := &Flight[A]{Hash: hash, ID: id}
	f.by[k] = g
	return g, nil
}

// Land ends a flight and answers all who joined it.
func (f *Flights[A]) Land(c clock.Clock, scope, key string, g *Flight[A], a A) {
	f.mu.Lock()
	delete(f.by, [2]string{scope, key})
	l := g.waiters
	f.mu.Unlock()
	for _, p := range l {
		p.tell(c, a)
	}
}
