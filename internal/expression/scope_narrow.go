package expression

import (
	"strings"

	"github.com/dime-bus/dime/internal/schema"
)

// narrow returns a scope in which one dotted path is not nil.
func (s *Scope) narrow(path string) *Scope {
	root, rest, _ := strings.Cut(path, ".")
	t := s.Lookup(root)
	if t == nil {
		return s
	}
	narrowed := narrowType(t, rest, 0)
	if narrowed == t {
		return s
	}
	return &Scope{names: map[string]*schema.Type{root: narrowed}, parent: s}
}

func narrowType(t *schema.Type, path string, depth int) *schema.Type {
	if t == nil || depth > MaxNested {
		return t
	}
	t = t.NonNil()
	if path == "" || t.Kind != schema.Object {
		return t
	}
	name, rest, _ := strings.Cut(path, ".")
	f, ok := t.Fields[name]
	switch {
	case ok:
	case t.Open && t.Extra != nil:
		f = &schema.Field{Type: t.Extra}
	default:
		return t
	}
	ft := narrowType(f.Type, rest, depth+1)
	if ft == f.Type && f.Required {
		return t
	}
	c := *t
	c.Fields = make(map[string]*schema.Field, len(t.Fields)+1)
	for n, g := range t.Fields {
		c.Fields[n] = g
	}
	c.Fields[name] = &schema.Field{Type: ft, Required: true, About: f.About}
	if !ok {
		c.Order = append(append([]string(nil), t.Order...), name)
	}
	return &c
}
