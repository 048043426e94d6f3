package step

import (
	"context"
	"strconv"

	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/pipeline/language"
)

// maxItems of an each that is not streamed (semantics 5.8).
const maxItems = 10_000

// each runs its steps for every item [splitter, composed message processor]. Its
// value is as long as its input, in input order.
type each struct {
	s     *language.Step
	steps sequence
}

func (e each) run(ctx context.Context, f *Frame, path string, m *Memory) (Outcome, error) {
	if m != nil && m.Joined && !f.Fx.Collecting() {
		return Outcome{Value: m.Value}, nil
	}
	var list []any
	if m != nil {
		list = m.List
	} else {
		v, err := e.s.List.Eval(f.Env)
		if err != nil {
			return failing(fault.From(err)), nil
		}
		if list, _ = v.([]any); list == nil && v != nil {
			return failing(fault.New(fault.Internal, "%q is not a list", e.s.List.Source)), nil
		}
		if len(list) > maxItems {
			return failing(fault.New(fault.Internal, "%d items are more than an each takes (%d)", len(list), maxItems)), nil
		}
		if flt := Fitting(list, "the list of "+path); flt != nil {
			return failing(flt), nil
		}
		f.Fx.Note(Note{Path: path, List: list, HasList: true})
	}
	b := block{s: e.s, path: path, parallel: max(1, e.s.Parallel), need: needed(e.s.Need, len(list)), memory: m}
	for i := range list {
		b.lanes = append(b.lanes, lane{
			marker: path + "[" + strconv.Itoa(i) + "]",
			steps:  e.steps,
			frame: func() *Frame {
				g := f.private(path+"["+strconv.Itoa(i)+"]", 4)
				g.Env.Vars[e.s.Item] = list[i]
				if e.s.Index != "" {
					g.Env.Vars[e.s.Index] = i
				}
				return g
			},
		})
	}
	out, err := b.run(ctx, f)
	if err != nil || out.Kind != Go {
		return out, err
	}
	values := make([]any, len(list))
	for i := range b.lanes {
		values[i] = b.lanes[i].value
	}
	if !f.Fx.Collecting() {
		if flt := Fitting(values, "the value of "+path); flt != nil {
			return failing(flt), nil
		}
		f.Fx.Note(Note{Path: path, Value: values, HasValue: true, Joined: true})
	}
	return Outcome{Value: values}, nil
}

// needed turns the language's need (0 all, -1 any, n) into a number.
func needed(need, n int) int {
	switch {
	case need == 0:
		return n
	case need < 0:
		return min(1, n)
	}
	return need
}
