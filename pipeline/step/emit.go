package step

import (
	"context"
	"errors"

	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/pipeline/language"
)

// emit publishes an event through the outbox [publish-subscribe channel].
type emit struct{ s *language.Step }

func (e emit) run(ctx context.Context, f *Frame, path string, m *Memory) (Outcome, error) {
	if m != nil {
		if f.Fx.Collecting() {
			f.Fx.Arm(f, e.s, path, m)
		}
		return Outcome{Value: m.Value}, nil
	}
	v, err := e.s.With.Eval(f.Env)
	if err != nil {
		return failing(fault.From(err)), nil
	}
	if v == nil {
		v = map[string]any{}
	}
	if flt := Fitting(v, "the event of "+path); flt != nil {
		return failing(flt), nil
	}
	err = f.Fx.Emit(ctx, path, e.s.EventType, v)
	if flt := (*fault.Error)(nil); errors.As(err, &flt) {
		return failing(flt), nil
	}
	return Outcome{}, err
}
