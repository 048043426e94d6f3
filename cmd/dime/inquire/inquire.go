// Package inquire calls an operation that the house itself needs, outside any run.
package inquire

import (
	"context"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/pipeline/run"
)

// Field calls an operation, safe or keyed, under its backend's policy, and reads one field of the answer.
func Field[T any](ctx context.Context, g run.Guard, op *connectors.Operation, key, field string, args map[string]any) (T, error) {
	p := op.Policy.Or(connectors.DefaultPolicy())
	pause := p.Backoff
	for attempt := 1; ; attempt++ {
		v, err := once(ctx, g, op, p.Timeout, connectors.Call{Key: key, Args: args, Attempt: attempt})
		if err == nil {
			m, _ := v.(map[string]any)
			answer, ok := m[field].(T)
			if !ok {
				return answer, &fault.Error{Kind: fault.Contract, Sent: true, Detail: "the answer has no `" + field + "`"}
			}
			return answer, nil
		}
		f := fault.From(err)
		again := f.Kind.Row().Transient || f.Kind == fault.Unknown && op.Keyed
		if !again || attempt >= p.Attempts || clock.Sleep(ctx, clock.Real{}, pause) != nil {
			var none T
			return none, f
		}
		pause *= 2
	}
}

func once(ctx context.Context, g run.Guard, op *connectors.Operation, timeout time.Duration, call connectors.Call) (v any, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	call.GiveUp, _ = ctx.Deadline()
	if g != nil {
		leave, err := g.Enter(ctx, op, 0)
		if err != nil {
			return nil, err
		}
		defer func() { leave(err) }()
	}
	return op.Do(ctx, call)
}
