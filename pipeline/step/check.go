package step

import (
	"context"

	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/pipeline/language"
)

// check is a condition that must hold, else an outcome [message filter, validate].
// That it held is recorded: it may read the clock or the live configuration.
type check struct{ s *language.Step }

func (c check) run(ctx context.Context, f *Frame, path string, m *Memory) (Outcome, error) {
	if m != nil {
		return Outcome{Value: m.Value}, nil
	}
	ok, err := truth(c.s.Cond, f.Env)
	if err != nil {
		return failing(fault.From(err)), nil
	}
	if ok {
		f.Fx.Note(Note{Path: path})
		return Outcome{}, nil
	}
	if c.s.Else == nil {
		return failing(fault.New(fault.Rejected, "a condition of the request does not hold")), nil
	}
	return (&node{s: c.s}).apply(ctx, f, path, c.s.Else)
}
