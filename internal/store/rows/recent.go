package rows

import (
	"container/list"
	"sync"
)

// maxRecent bounds what a Recent keeps.
const maxRecent = 10_000

// Recent keeps what belongs to persons, by their tokens; what was used longest ago
// is forgotten first. The zero Recent is ready.
type Recent[V any] struct {
	mu   sync.Mutex
	m    map[[TokenSize]byte]*list.Element
	list list.List
}

type recent[V any] struct {
	token [TokenSize]byte
	value *V
}

// Get finds what a token has; nil if nothing is kept.
func (r *Recent[V]) Get(t [TokenSize]byte) *V {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.m[t]
	if e == nil {
		return nil
	}
	r.list.MoveToFront(e)
	return e.Value.(recent[V]).value
}

// Add keeps v, or returns the one that came first.
func (r *Recent[V]) Add(t [TokenSize]byte, v *V) *V {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.m[t]; e != nil {
		return e.Value.(recent[V]).value
	}
	if r.m == nil {
		r.m = make(map[[TokenSize]byte]*list.Element)
	}
	r.m[t] = r.list.PushFront(recent[V]{t, v})
	if r.list.Len() > maxRecent {
		e := r.list.Back()
		delete(r.m, e.Value.(recent[V]).token)
		r.list.Remove(e)
	}
	return v
}

// Drop forgets v, but nothing that has taken its place.
func (r *Recent[V]) Drop(t [TokenSize]byte, v *V) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.m[t]; e != nil && e.Value.(recent[V]).value == v {
		delete(r.m, t)
		r.list.Remove(e)
	}
}
