package run

import (
	"context"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/pipeline/run/waiting"
)

// answer is what a waiting caller gets: an Answer, or the news that the once key
// belongs to another run.
type answer struct {
	a   Answer
	dup *store.Duplicate
}

type waiter = waiting.Place[answer]

func (e *Engine) await(ctx context.Context, w *waiter) (answer, bool) {
	return w.Wait(ctx, e.clock, e.ctx.Done())
}
