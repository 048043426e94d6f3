// Package rate counts requests by key: so many a second, so many at once
// (semantics 11.3).
package rate

import (
	"container/list"
	"math"
	"sync"
	"time"
)

// MaxKeys is how many keys are remembered; the least recent goes.
const MaxKeys = 100_000

// Table is the buckets; its zero value is ready.
type Table struct {
	// Processes counts those that share the limits: each takes its part, and at
	// least one at once. nil is this one alone.
	Processes func() int

	mu  sync.Mutex
	by  map[string]*list.Element
	lru list.List
}

type bucket struct {
	key    string
	tokens float64
	at     time.Time
	open   int
}

// Enter takes a place under a key; a rate or a number of zero bounds nothing.
// release gives back the place among those at once. A nil release comes with the
// time after which to ask again, and once says that too many are at work.
func (t *Table) Enter(key string, rate float64, inFlight int, now time.Time) (release func(), wait time.Duration, once bool) {
	if t.Processes != nil {
		n := max(t.Processes(), 1)
		rate /= float64(n)
		if inFlight > 0 {
			inFlight = max(inFlight/n, 1)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.bucket(key, rate, now)
	if rate > 0 {
		b.tokens = math.Min(math.Max(1, rate), b.tokens+now.Sub(b.at).Seconds()*rate)
		b.at = now
		if b.tokens < 1 {
			s := max(1, math.Ceil((1-b.tokens)/rate))
			return nil, time.Duration(s) * time.Second, false
		}
	}
	if inFlight > 0 && b.open >= inFlight {
		return nil, time.Second, true
	}
	if rate > 0 {
		b.tokens--
	}
	b.open++
	return func() {
		t.mu.Lock()
		b.open--
		t.mu.Unlock()
	}, 0, false
}

func (t *Table) bucket(key string, rate float64, now time.Time) *bucket {
	if t.by == nil {
		t.by = map[string]*list.Element{}
	}
	if e := t.by[key]; e != nil {
		t.lru.MoveToFront(e)
		return e.Value.(*bucket)
	}
	b := &bucket{key: key, tokens: math.Max(1, rate), at: now}
	t.by[key] = t.lru.PushFront(b)
	if t.lru.Len() > MaxKeys {
		for e := t.lru.Back(); e != nil; e = e.Prev() {
			if old := e.Value.(*bucket); old.open == 0 {
				t.lru.Remove(e)
				delete(t.by, old.key)
				break
			}
		}
	}
	return b
}
