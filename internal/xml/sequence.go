package xml

import (
	"fmt"
	"strings"
)

// Sequence reads an element's children in the order in which a schema's
// xsd:sequence names them. The first thing that is wrong stays in Err and makes
// the rest answer nothing, so that a reader asks for the error once.
type Sequence struct {
	of   *Element
	next int
	err  error
}

// In begins to read e's children; a nil element has none.
func In(e *Element) *Sequence {
	if e == nil {
		return &Sequence{of: &Element{}, err: fmt.Errorf("an element is missing")}
	}
	s := &Sequence{of: e}
	if len(e.Children) > 0 && strings.TrimSpace(e.Text) != "" {
		s.Failf("text stands between the elements")
	}
	return s
}

// Failf notes that something is wrong, unless something else was before.
func (s *Sequence) Failf(format string, args ...any) {
	if s.err == nil {
		s.err = fmt.Errorf("in %s: "+format, append([]any{s.of.Name.Local}, args...)...)
	}
}

// Optional takes the next child if it is called so, else answers nil.
func (s *Sequence) Optional(space, local string) *Element {
	if s.err != nil || s.next >= len(s.of.Children) {
		return nil
	}
	if c := s.of.Children[s.next]; c.Name == (Name{space, local}) {
		s.next++
		return c
	}
	return nil
}

// Take takes the next child, which must be called so.
func (s *Sequence) Take(space, local string) *Element {
	c := s.Optional(space, local)
	if c == nil {
		s.Failf("%s is missing or not in its place", local)
	}
	return c
}

// Text takes the next child, which must be called so and hold nothing but
// characters that ok accepts; they are returned without white space around them.
func (s *Sequence) Text(space, local string, ok func(string) bool) string {
	return s.text(s.Take(space, local), ok)
}

// OptionalText is Text for a child that may be absent; absent answers "".
func (s *Sequence) OptionalText(space, local string, ok func(string) bool) string {
	return s.text(s.Optional(space, local), ok)
}

func (s *Sequence) text(e *Element, ok func(string) bool) string {
	if e == nil {
		return ""
	}
	if len(e.Children) > 0 {
		s.Failf("%s holds elements instead of a value", e.Name.Local)
		return ""
	}
	v := strings.TrimSpace(e.Text)
	if ok != nil && !ok(v) {
		s.Failf("the value of %s is not of its type", e.Name.Local)
		return ""
	}
	return v
}

// End says what was wrong, or that something is left over.
func (s *Sequence) End() error {
	if s.err == nil && s.next < len(s.of.Children) {
		s.Failf("%s is not expected there", s.of.Children[s.next].Name.Local)
	}
	return s.err
}

// Err says what was wrong so far.
func (s *Sequence) Err() error { return s.err }
