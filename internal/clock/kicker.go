package clock

import "sync"

// Kicker wakes a loop. A kick is counted on the clock until the loop has dealt
// with it, so that nothing seems to rest between a commit and its consequence.
type Kicker struct {
	mu      sync.Mutex
	clock   Clock
	pending bool
	closed  bool
	ch      chan struct{}
}

// NewKicker returns one that nobody has kicked.
func NewKicker(c Clock) *Kicker { return &Kicker{clock: c, ch: make(chan struct{}, 1)} }

// Kick wakes the loop; kicks that come before it looks are one.
func (k *Kicker) Kick() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.pending || k.closed {
		return
	}
	k.pending = true
	Enter(k.clock)
	k.ch <- struct{}{}
}

// Next waits for a kick; the loop calls Done after it dealt with it. false: closed.
func (k *Kicker) Next() bool {
	_, ok := <-k.ch
	if ok {
		k.mu.Lock()
		k.pending = false
		k.mu.Unlock()
	}
	return ok
}

// Done ends what Next began.
func (k *Kicker) Done() { Leave(k.clock) }

// Close ends the loop; safe to call more than once.
func (k *Kicker) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return
	}
	k.closed = true
	close(k.ch)
}
