package gateway

import (
	"github.com/dime-bus/dime/internal/schema"
)

// fieldDepth is how many objects deep the fields of an operation are listed; a
// recursive schema has no end of its own.
const fieldDepth = 4

// FieldsOf lists what a schema holds, in its own order, as the paths that an
// expression would write.
func FieldsOf(s *schema.Schema) []Field {
	if s == nil {
		return nil
	}
	t := s.Type()
	if t == nil || t.Kind != schema.Object {
		return appendFields([]Field{{Type: t.String(), Required: true, Personal: t != nil && t.Personal}}, "", t, fieldDepth)
	}
	return appendFields(nil, "", t, fieldDepth)
}

func appendFields(fs []Field, at string, t *schema.Type, depth int) []Field {
	for t != nil && t.Kind == schema.Array {
		at, t = at+"[]", t.Items
	}
	if t == nil || t.Kind != schema.Object || depth == 0 {
		return fs
	}
	if at != "" {
		at += "."
	}
	for _, name := range t.Order {
		f := t.Fields[name]
		fs = append(fs, Field{Name: at + name, Type: f.Type.NonNil().String(), Required: f.Required, Personal: f.Type != nil && f.Type.Personal})
		fs = appendFields(fs, at+name, f.Type, depth-1)
	}
	return fs
}
