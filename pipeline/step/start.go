package step

import (
	"context"
	"errors"

	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/pipeline/language"
)

// start begins another route as a run of its own, not awaited (semantics 12.2);
// the result is its run's id.
type start struct{ s *language.Step }

func (t start) run(ctx context.Context, f *Frame, path string, m *Memory) (Outcome, error) {
	if m != nil {
		return Outcome{Value: m.Value}, nil
	}
	v, err := t.s.With.Eval(f.Env)
	if err != nil {
		return failing(fault.From(err)), nil
	}
	if v == nil {
		v = map[string]any{}
	}
	if flt := Fitting(v, "the request of "+path); flt != nil {
		return failing(flt), nil
	}
	id, err := f.Fx.Start(ctx, path, t.s.Target, v)
	if flt := (*fault.Error)(nil); errors.As(err, &flt) {
		return failing(flt), nil
	}
	return Outcome{Value: id}, err
}
