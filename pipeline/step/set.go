package step

import (
	"context"

	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/pipeline/language"
)

// set names values from expressions [message translator]. Its own value is the
// map of them.
type set struct{ s *language.Step }

func (t set) run(_ context.Context, f *Frame, path string, m *Memory) (Outcome, error) {
	var vs map[string]any
	if m != nil {
		vs, _ = m.Value.(map[string]any)
	} else {
		vs = make(map[string]any, len(t.s.Sets))
		for i := range t.s.Sets {
			v, err := t.s.Sets[i].Value.Eval(f.Env)
			if err != nil {
				return failing(fault.From(err)), nil
			}
			vs[t.s.Sets[i].Name] = v
		}
		if flt := Fitting(vs, "the value of "+path); flt != nil {
			return failing(flt), nil
		}
		f.Fx.Note(Note{Path: path, Value: vs, HasValue: true})
	}
	for i := range t.s.Sets {
		name := t.s.Sets[i].Name
		f.Env.Vars[name] = vs[name]
	}
	return Outcome{Value: vs}, nil
}
