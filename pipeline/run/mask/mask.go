// Package mask hides personal data in what operators see of a run.
package mask

import (
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/pipeline/language"
)

// Values gives what went into a step's record and came out of it, with personal
// fields as ***. A value of which no type is known is not shown at all.
func Values(events map[string]*language.EventType, s *language.Step, kind store.Kind, took, gave any) (in, out any) {
	if s == nil {
		return nil, nil
	}
	switch s.Word {
	case language.Call:
		if s.Route != nil {
			if took != nil && s.Route.Req != nil {
				in = marked(s.Route.Req.Mask(took), s.With)
			}
			return in, typed(gave, s.Type)
		}
		op, with := s.Operation, s.With
		if kind == store.UndoIntent || kind == store.UndoOutcome {
			if s.Undo == nil || s.Undo.Operation == nil {
				return nil, nil
			}
			op, with = s.Undo.Operation, s.Undo.With
		}
		if took != nil && op.In != nil {
			in = marked(op.In.Mask(took), with)
		}
		if gave != nil && op.Out != nil {
			out = op.Out.Mask(gave)
		}
		return in, out
	case language.SetW:
		m, _ := gave.(map[string]any)
		masked := make(map[string]any, len(m))
		for _, set := range s.Sets {
			if v, ok := m[set.Name]; ok {
				masked[set.Name] = typed(v, set.Value.Type)
			}
		}
		return nil, masked
	case language.Emit, language.Wait:
		v := gave
		if s.Word == language.Emit {
			v = took
		}
		if et := events[s.EventType]; et != nil && et.Schema != nil && v != nil {
			v = et.Schema.Mask(v)
		} else {
			v = nil
		}
		if s.Word == language.Emit {
			return v, nil
		}
		return nil, v
	case language.Start:
		return nil, gave
	}
	return nil, typed(gave, s.Type)
}

// marked hides what the route knows to be personal in what it sends: the other
// side's schema need not say so of every field.
func marked(v any, with *language.Value) any {
	if with == nil {
		return v
	}
	return with.Type.Hide(v, false)
}

// typed hides what a type marks as personal, and everything of an unknown type.
func typed(v any, t *schema.Type) any { return t.Hide(v, true) }
