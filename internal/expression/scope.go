package expression

import (
	"maps"
	"slices"

	"github.com/dime-bus/dime/internal/schema"
)

// Scope is what an expression may name and the type of each name.
// A Scope is immutable; With and Narrow return new ones.
type Scope struct {
	names  map[string]*schema.Type
	parent *Scope
}

// NewScope makes a scope of names; it keeps its own copy of the map.
func NewScope(names map[string]*schema.Type) *Scope {
	s := &Scope{names: make(map[string]*schema.Type, len(names))}
	for n, t := range names {
		s.names[n] = t.Widen()
	}
	return s
}

// With returns a scope that has one more name (or another type for it). The
// literals that inference knew of t are forgotten: `set: {n: 0}` makes an integer.
func (s *Scope) With(name string, t *schema.Type) *Scope {
	return &Scope{names: map[string]*schema.Type{name: t.Widen()}, parent: s}
}

// Lookup returns the type of a name, nil if there is none.
func (s *Scope) Lookup(name string) *schema.Type {
	for ; s != nil; s = s.parent {
		if t, ok := s.names[name]; ok {
			return t
		}
	}
	return nil
}

// Names returns all names, sorted.
func (s *Scope) Names() []string {
	all := map[string]bool{}
	for ; s != nil; s = s.parent {
		for n := range s.names {
			all[n] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// Narrow returns a scope in which the dotted paths (Expr.TrueFacts and
// FalseFacts) are not nil, and neither is anything on the way to them. Paths
// that do not exist are ignored.
func (s *Scope) Narrow(facts []string) *Scope {
	for _, f := range facts {
		s = s.narrow(f)
	}
	return s
}
