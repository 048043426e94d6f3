package step

import (
	"context"

	"github.com/dime-bus/dime/pipeline/language"
)

// delay is a durable timer.
type delay struct{ s *language.Step }

func (d delay) run(ctx context.Context, f *Frame, path string, m *Memory) (Outcome, error) {
	if m != nil && m.Done {
		return Outcome{}, nil
	}
	if f.Fx.Collecting() {
		return Outcome{Kind: Rest}, nil
	}
	return f.Fx.Delay(ctx, f, d.s, path, m)
}
