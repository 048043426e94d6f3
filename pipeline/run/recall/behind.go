package recall

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dime-bus/dime/internal/store"
)

const (
	behindRoom   = 64               // runs that wait to be written
	behindWithin = 10 * time.Second // bounds the writing of one
)

// Behind stores a sampled share of the runs that were never durable, behind their
// answers, in one goroutine of its own; nobody waits for it, and what finds no room
// is forgotten (semantics 6.4).
type Behind struct {
	store store.Store
	log   *slog.Logger
	every int64
	seen  atomic.Int64

	mu     sync.Mutex
	queue  chan behind // nil once closed
	worker sync.WaitGroup
}

type behind struct {
	run     store.Run
	records []store.Record
	stored  *atomic.Bool
}

// NewBehind samples one run in every; below 1 it samples none.
func NewBehind(s store.Store, every int, log *slog.Logger) *Behind {
	b := &Behind{store: s, log: log, every: int64(every)}
	if every < 1 {
		return b
	}
	queue := make(chan behind, behindRoom)
	b.queue = queue
	b.worker.Go(func() {
		for r := range queue {
			b.write(r)
		}
	})
	return b
}

func (b *Behind) write(r behind) {
	ctx, cancel := context.WithTimeout(context.Background(), behindWithin)
	defer cancel()
	if _, _, err := b.store.Accept(ctx, r.run, r.records...); err != nil {
		b.log.Warn("the timeline of a sampled run is not kept", "err", err)
		return
	}
	r.stored.Store(true)
}

// Due says whether the run at hand, which ended so, is one to Put: every nth. One
// that failed is none: in the store it would be a dead letter, and there is nothing
// that a person could settle.
func (b *Behind) Due(s store.State) bool {
	return b.every > 0 && (s == store.Done || s == store.Cancelled) && b.seen.Add(1)%b.every == 0
}

// Put has a run that ended written where there is room; stored tells when it is.
func (b *Behind) Put(r store.Run, rs []store.Record) (stored *atomic.Bool) {
	stored = new(atomic.Bool)
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.queue <- behind{r, rs, stored}:
	default: // full, or closed: a nil channel takes nothing
	}
	return stored
}

// Close writes what waits and ends.
func (b *Behind) Close() {
	b.mu.Lock()
	if b.queue != nil {
		close(b.queue)
		b.queue = nil
	}
	b.mu.Unlock()
	b.worker.Wait()
}
