package schema

import (
	"maps"
	"math"
	"slices"
	"strconv"
)

// Coerce gives every number the Go type that the schema asks for: 3 under
// `number` is 3.0, 3.0 under `integer` is 3. Where the schema says nothing a
// whole float64 stays what it is. It changes v in place and returns it.
func (s *Schema) Coerce(v any) any {
	if s == nil {
		return v
	}
	return coerce(v, s.typ, new(bool))
}

// coerce sets big if an integer is left that no int holds.
func coerce(v any, t *Type, big *bool) any {
	if t == nil {
		return v
	}
	switch x := v.(type) {
	case float64:
		if t.Kind == Int && x == math.Trunc(x) {
			if x >= -1<<63 && x < 1<<63 {
				return int(x)
			}
			*big = true
		}
	case int:
		if t.Kind == Number {
			return float64(x)
		}
	case int64:
		return coerce(int(x), t, big)
	case uint64: // what YAML makes of a large number
		if x <= math.MaxInt64 {
			return coerce(int(x), t, big)
		}
		return float64(x)
	case map[string]any:
		if t.Kind != Object {
			return v
		}
		for k, e := range x {
			ft := t.Extra
			if f, ok := t.Fields[k]; ok {
				ft = f.Type
			}
			switch e.(type) {
			case string, bool, nil:
				continue
			}
			if ft == nil {
				ft = &anything
			}
			if c := coerce(e, ft, big); !sameNumber(c, e) {
				x[k] = c
			}
		}
	case []any:
		if t.Kind != Array || t.Items == nil {
			return v
		}
		for i, e := range x {
			x[i] = coerce(e, t.Items, big)
		}
	}
	return v
}

// tooLarge finds the integers that no int holds.
func tooLarge(v any, t *Type, at string, out *[]Violation) {
	if t == nil {
		return
	}
	switch x := v.(type) {
	case float64:
		if t.Kind == Int {
			*out = append(*out, Violation{at, "must be an integer of at most 64 bits"})
		}
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(x)) {
			ft := t.Extra
			if f, ok := t.Fields[k]; ok {
				ft = f.Type
			}
			tooLarge(x[k], ft, at+"/"+escapePointer(k), out)
		}
	case []any:
		for i, e := range x {
			tooLarge(e, t.Items, at+"/"+strconv.Itoa(i), out)
		}
	}
}

var anything = Type{} // read only

// sameNumber says that a write back can be spared.
func sameNumber(a, b any) bool {
	switch a := a.(type) {
	case int:
		_, ok := b.(int)
		return ok
	case float64:
		_, ok := b.(float64)
		return ok
	case map[string]any, []any:
		_ = a
		return true // changed in place
	}
	return true
}

// masked is what a personal value becomes.
const masked = "***"

// Mask returns a copy of v in which every personal value is "***"; nil stays
// nil. Without a schema nothing is known to be personal and v is returned as it is.
func (s *Schema) Mask(v any) any {
	if s == nil {
		return v
	}
	return s.typ.Mask(v)
}

// Mask is Schema.Mask for a type.
func (t *Type) Mask(v any) any {
	if t == nil || v == nil {
		return v
	}
	if t.Personal {
		return masked
	}
	switch x := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(x))
		for k, e := range x {
			ft := t.Extra
			if f, ok := t.Fields[k]; ok {
				ft = f.Type
			}
			out[k] = ft.Mask(e)
		}
		return out
	case []any:
		out := make([]any, len(x))
		for i, e := range x {
			out[i] = t.Items.Mask(e)
		}
		return out
	}
	return v
}
