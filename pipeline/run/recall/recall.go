// Package recall is what the engine keeps in this process alone: the latest runs
// that changed nothing, and run ids that the store set aside.
package recall

import (
	"context"
	"sync"

	"github.com/dime-bus/dime/internal/store"
)

// Ring keeps the latest Max values.
type Ring[T any] struct {
	Max int

	mu   sync.Mutex
	all  []T
	next int
}

// Put forgets the oldest value where there is no room; with Max below 1 it keeps
// nothing.
func (r *Ring[T]) Put(v T) {
	if r.Max <= 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.all) < r.Max {
		r.all = append(r.all, v)
		return
	}
	r.all[r.next] = v
	r.next = (r.next + 1) % r.Max
}

// List gives up to max values that keep wants, newest first.
func (r *Ring[T]) List(keep func(*T) bool, max int) []T {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []T
	for i := range r.all {
		v := &r.all[(r.next+len(r.all)-1-i)%len(r.all)]
		if keep(v) {
			if out = append(out, *v); len(out) == max {
				break
			}
		}
	}
	return out
}

// IDs hands out run ids from blocks that the store set aside, so that run.id
// exists before any commit (semantics 4.7).
type IDs struct {
	mu        sync.Mutex
	next, end store.RunID
}

const idsAtOnce = 1024

// Next asks reserve for another block where one is used up.
func (b *IDs) Next(ctx context.Context, reserve func(context.Context, int) (store.RunID, error)) (store.RunID, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next >= b.end {
		first, err := reserve(context.WithoutCancel(ctx), idsAtOnce)
		if err != nil {
			return 0, err
		}
		b.next, b.end = first, first+idsAtOnce
	}
	id := b.next
	b.next++
	return id, nil
}
