package step

import (
	"context"

	"github.com/dime-bus/dime/pipeline/language"
)

// wait rests durably until an event matches, or its time is over [correlation
// identifier].
type wait struct{ s *language.Step }

func (w wait) run(ctx context.Context, f *Frame, path string, m *Memory) (Outcome, error) {
	if m != nil && m.Done {
		if f.Fx.Collecting() && w.s.Undo != nil {
			f.Fx.Arm(f, w.s, path, m)
		}
		return Outcome{Value: m.Value}, nil
	}
	if f.Fx.Collecting() {
		return Outcome{Kind: Rest}, nil
	}
	out, err := f.Fx.Wait(ctx, f, w.s, path, m)
	if err != nil || out.Kind != End || out.Ending != nil {
		return out, err
	}
	// The time is over: an End without an Ending asks for `else`.
	if w.s.Else == nil {
		return Outcome{Kind: End, Ending: &Ending{End: language.Cancel, Reason: "nothing came in time", Path: path}}, nil
	}
	return (&node{s: w.s}).apply(ctx, f, path, w.s.Else)
}
