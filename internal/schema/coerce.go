package schema

import (
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
)

// Coerce gives every number the Go type that the schema asks for: 3 under
// `number` is 3.0, 3.0 under `integer` is 3. Where the schema says nothing a
// whole float64 stays what it is. What must change is copied: v may be shared
// between steps and is left as it is.
func (s *Schema) Coerce(v any) any {
	if s == nil {
		return v
	}
	return coercer{}.value(v, s.typ)
}

// coercer walks a value beside its type. own says that the value is ours and may
// be changed in place; big is set if an integer is left that no int holds.
type coercer struct {
	own bool
	big *bool
}

func (c coercer) value(v any, t *Type) any {
	if t == nil {
		return v
	}
	switch x := v.(type) {
	case float64:
		if t.Kind == Int && x == math.Trunc(x) {
			if x >= -1<<63 && x < 1<<63 {
				return int(x)
			}
			if c.big != nil {
				*c.big = true
			}
		}
	case int:
		if t.Kind == Number {
			return float64(x)
		}
	case int64:
		return c.value(int(x), t)
	case uint64: // what YAML makes of a large number
		if x <= math.MaxInt64 {
			return c.value(int(x), t)
		}
		return float64(x)
	case map[string]any:
		if t.Kind == Object {
			return c.object(x, t)
		}
	case []any:
		if t.Kind == Array && t.Items != nil {
			return c.list(x, t.Items)
		}
	}
	return v
}

func (c coercer) object(m map[string]any, t *Type) any {
	out := m
	for k, e := range m {
		switch e.(type) {
		case string, bool, nil:
			continue
		}
		ft := t.Extra
		if f, ok := t.Fields[k]; ok {
			ft = f.Type
		}
		if ft == nil {
			ft = &anything
		}
		n := c.value(e, ft)
		if unchanged(n, e) {
			continue
		}
		if !c.own && sameMap(out, m) {
			out = maps.Clone(m)
		}
		out[k] = n
	}
	return out
}

func (c coercer) list(l []any, items *Type) any {
	out := l
	for i, e := range l {
		n := c.value(e, items)
		if unchanged(n, e) {
			continue
		}
		if !c.own && &out[0] == &l[0] {
			out = slices.Clone(l)
		}
		out[i] = n
	}
	return out
}

func sameMap(a, b map[string]any) bool {
	return reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer()
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

// unchanged says that a is b itself, so that a write back can be spared.
func unchanged(a, b any) bool {
	switch x := a.(type) {
	case int:
		_, ok := b.(int)
		return ok
	case float64:
		_, ok := b.(float64)
		return ok
	case map[string]any:
		y, ok := b.(map[string]any)
		return ok && sameMap(x, y)
	case []any:
		y, ok := b.([]any)
		return ok && (len(x) == 0 || &x[0] == &y[0])
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

// Prune returns v without the properties that are nil where t neither requires
// them nor takes null: a nil for a property that is not required is left out,
// for a required nullable one it is null. What must change is copied.
func (t *Type) Prune(v any) any {
	if t == nil {
		return v
	}
	switch x := v.(type) {
	case map[string]any:
		out := x
		for k, e := range x {
			f, ok := t.Fields[k]
			ft := t.Extra
			if ok {
				ft = f.Type
			}
			if e == nil {
				if ok && !f.Required && !f.Type.takesNull() {
					if sameMap(out, x) {
						out = maps.Clone(x)
					}
					delete(out, k)
				}
				continue
			}
			if n := ft.Prune(e); !unchanged(n, e) {
				if sameMap(out, x) {
					out = maps.Clone(x)
				}
				out[k] = n
			}
		}
		return out
	case []any:
		out := x
		for i, e := range x {
			if n := t.Items.Prune(e); !unchanged(n, e) {
				if &out[0] == &x[0] {
					out = slices.Clone(x)
				}
				out[i] = n
			}
		}
		return out
	}
	return v
}

func (t *Type) takesNull() bool { return t == nil || t.Nullable || t.Kind == Any || t.Kind == Null }
