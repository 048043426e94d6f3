package run

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/store"
)

// answer is what a waiting caller gets: an Answer, or the news that the once key
// belongs to another run.
type answer struct {
	a   Answer
	dup *store.Duplicate
}

// answers is who waits for which run's answer, in this process.
type answers struct {
	mu sync.Mutex
	by map[store.RunID][]*waiter
}

// waiter is a caller's place. won says who ends its waiting: the answer, its
// deadline or its own leaving; the winner counts it on the clock again.
type waiter struct {
	ch       chan answer
	deadline time.Time
	won      atomic.Bool
}

func newWaiter(deadline time.Time) *waiter {
	return &waiter{ch: make(chan answer, 1), deadline: deadline}
}

// tell answers the waiter, unless it left before.
func (w *waiter) tell(c clock.Clock, a answer) {
	if w.won.CompareAndSwap(false, true) {
		clock.Enter(c)
		w.ch <- a
	}
}

func (w *answers) subscribe(id store.RunID, deadline time.Time) *waiter {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.by == nil {
		w.by = map[store.RunID][]*waiter{}
	}
	x := newWaiter(deadline)
	w.by[id] = append(w.by[id], x)
	return x
}

// leave takes a waiter out; false if it was notified meanwhile.
func (w *answers) leave(id store.RunID, x *waiter) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.by[id]
	for i := range l {
		if l[i] == x {
			l = append(l[:i:i], l[i+1:]...)
			if len(l) == 0 {
				delete(w.by, id)
			} else {
				w.by[id] = l
			}
			return true
		}
	}
	return false
}

func (w *answers) waiting(id store.RunID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.by[id]) > 0
}

// deadline is the latest of those who wait.
func (w *answers) deadline(id store.RunID) (t time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range w.by[id] {
		if x.deadline.After(t) {
			t = x.deadline
		}
	}
	return t
}

// notify answers all who wait.
func (w *answers) notify(c clock.Clock, id store.RunID, a answer) {
	w.mu.Lock()
	l := w.by[id]
	delete(w.by, id)
	w.mu.Unlock()
	for _, x := range l {
		x.tell(c, a)
	}
}

// await blocks a counted goroutine, uncounted, until the answer, the deadline or
// the caller's leaving.
func (e *Engine) await(ctx context.Context, w *waiter) (answer, bool) {
	late := make(chan struct{})
	stop := e.clock.At(w.deadline, func() {
		if w.won.CompareAndSwap(false, true) {
			clock.Enter(e.clock)
			close(late)
		}
	})
	defer stop()
	clock.Leave(e.clock)
	select {
	case a := <-w.ch:
		return a, true
	case <-late:
		return answer{}, false
	case <-ctx.Done():
	case <-e.ctx.Done(): // stopped: nothing answers any more
	}
	if w.won.CompareAndSwap(false, true) {
		clock.Enter(e.clock)
		return answer{}, false
	}
	select {
	case a := <-w.ch:
		return a, true
	case <-late:
		return answer{}, false
	}
}

// inflight is the once keys of runs in this process that may never commit: a
// second request with the same key waits for the first one's answer.
type inflight struct {
	mu sync.Mutex
	by map[[2]string]*flight
}

type flight struct {
	hash    string
	id      store.RunID
	waiters []*waiter
}

// join returns the flight of a key; the caller leads it if w is nil, and else
// waits on w.
func (f *inflight) join(scope, key, hash string, id store.RunID, deadline time.Time) (*flight, *waiter) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.by == nil {
		f.by = map[[2]string]*flight{}
	}
	k := [2]string{scope, key}
	if g := f.by[k]; g != nil {
		w := newWaiter(deadline)
		g.waiters = append(g.waiters, w)
		return g, w
	}
	g := &flight{hash: hash, id: id}
	f.by[k] = g
	return g, nil
}

func (f *inflight) land(c clock.Clock, scope, key string, g *flight, a Answer) {
	f.mu.Lock()
	delete(f.by, [2]string{scope, key})
	ws := g.waiters
	f.mu.Unlock()
	for _, w := range ws {
		w.tell(c, answer{a: a})
	}
}

// slots bound how many runs are at work at once (semantics 11.1).
type slots struct {
	ch chan struct{}
}

func (s *slots) init(n int) { s.ch = make(chan struct{}, n) }

func (s *slots) try() bool {
	select {
	case s.ch <- struct{}{}:
		return true
	default:
		return false
	}
}

func (s *slots) enter(ctx context.Context) error {
	select {
	case s.ch <- struct{}{}:
		return nil
	case <-ctx.Done():
		return errStopped
	}
}

func (s *slots) free() int { return cap(s.ch) - len(s.ch) }

func (s *slots) leave() { <-s.ch }
