package step

import (
	"context"

	"github.com/dime-bus/dime/pipeline/language"
)

// all runs its branches at once; its value is a map by branch name [scatter-gather].
type all struct {
	s        *language.Step
	branches []sequence
}

func (a all) run(ctx context.Context, f *Frame, path string, m *Memory) (Outcome, error) {
	if m != nil && m.Joined && !f.Fx.Collecting() {
		return Outcome{Value: m.Value}, nil
	}
	if m == nil {
		f.Fx.Note(Note{Path: path})
	}
	b := block{s: a.s, path: path, parallel: len(a.branches), need: needed(a.s.Need, len(a.branches)), cut: true, memory: m}
	for i, br := range a.s.Branches {
		b.lanes = append(b.lanes, lane{
			name:   br.Name,
			marker: path + "/" + br.Name,
			steps:  a.branches[i],
			frame:  func() *Frame { return f.private(path+"/"+br.Name, 4) },
		})
	}
	out, err := b.run(ctx, f)
	if err != nil || out.Kind != Go {
		return out, err
	}
	values := make(map[string]any, len(b.lanes))
	for i := range b.lanes {
		values[b.lanes[i].name] = b.lanes[i].value
	}
	if !f.Fx.Collecting() {
		if flt := Fitting(values, "the value of "+path); flt != nil {
			return failing(flt), nil
		}
		f.Fx.Note(Note{Path: path, Value: values, HasValue: true, Joined: true})
	}
	return Outcome{Value: values}, nil
}
