package step

import (
	"context"

	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/pipeline/language"
)

// switchStep runs the first case that holds [content-based router]. Its names
// are visible after it, so its blocks share the frame's.
type switchStep struct {
	s         *language.Step
	cases     []sequence
	otherwise sequence
}

func (w switchStep) run(ctx context.Context, f *Frame, path string, m *Memory) (Outcome, error) {
	which := -1
	if m != nil {
		which = m.Case
	} else {
		for i := range w.s.Cases {
			ok, err := truth(w.s.Cases[i].If, f.Env)
			if err != nil {
				return failing(fault.From(err)), nil
			}
			if ok {
				which = i
				break
			}
		}
		f.Fx.Note(Note{Path: path, Case: which, HasCase: true})
	}
	steps := w.otherwise
	if which >= 0 && which < len(w.cases) {
		steps = w.cases[which]
	}
	return steps.run(ctx, f.below(path))
}
