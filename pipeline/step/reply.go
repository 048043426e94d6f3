package step

import (
	"context"

	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/pipeline/language"
)

// reply answers the caller; the run goes on. In a called route it sets the
// call's result.
type reply struct{ s *language.Step }

func (r reply) run(ctx context.Context, f *Frame, path string, m *Memory) (Outcome, error) {
	if m != nil {
		if f.Sub != nil {
			f.Sub.Replied, f.Sub.Value, f.Sub.Status = true, m.Value, m.Case
		}
		return Outcome{}, nil
	}
	var v any
	if r.s.With != nil {
		var err error
		if v, err = r.s.With.Eval(f.Env); err != nil {
			return failing(fault.From(err)), nil
		}
	}
	if flt := Fitting(v, "the answer of "+path); flt != nil {
		return failing(flt), nil
	}
	if f.Sub != nil {
		f.Sub.Replied, f.Sub.Value, f.Sub.Status = true, v, r.s.Status
		f.Fx.Note(Note{Path: path, Value: v, HasValue: true, Case: r.s.Status, HasCase: true})
		return Outcome{}, nil
	}
	return Outcome{}, f.Fx.Reply(ctx, path, r.s.Status, v, r.s.Say)
}
