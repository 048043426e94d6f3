// Package xml reads the XML that others send: SOAP bodies, stamps, receipts. It
// reads whole documents into a small tree, in bounds: no DOCTYPE, no processing
// instructions, nesting, elements, attributes and bytes capped before anything is
// built, one root, no duplicate attribute, no unbound prefix. What it refuses it
// refuses with a line and a column, never with the text, which may be personal.
package xml

import (
	"bytes"
	stdxml "encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Limits of a document. The zero fields take DefaultLimits.
type Limits struct {
	Bytes      int
	Depth      int // of nested elements
	Elements   int
	Attributes int // of one element, namespace declarations included
}

// DefaultLimits fit every message of the national platforms.
func DefaultLimits() Limits {
	return Limits{Bytes: 1 << 20, Depth: 32, Elements: 10_000, Attributes: 64}
}

// Error says what is wrong with a document and where.
type Error struct {
	Line, Column int
	Message      string // names of elements at most
}

func (e *Error) Error() string {
	return fmt.Sprintf("reading XML at line %d, column %d: %s", e.Line, e.Column, e.Message)
}

// Name is a name with its namespace resolved.
type Name struct{ Space, Local string }

func (n Name) String() string {
	if n.Space == "" {
		return n.Local
	}
	return "{" + n.Space + "}" + n.Local
}

// Attr is an attribute; declarations of namespaces are none.
type Attr struct {
	Name  Name
	Value string
}

// Element is an element with all that is inside.
type Element struct {
	Name     Name
	Attrs    []Attr
	Children []*Element
	Text     string // the characters that stand directly inside, put together
	Line     int
}

// Attr returns an attribute without a namespace, or "".
func (e *Element) Attr(local string) string {
	for _, a := range e.Attrs {
		if a.Name.Space == "" && a.Name.Local == local {
			return a.Value
		}
	}
	return ""
}

// Child returns the first child of that name, or nil; also of a nil element.
func (e *Element) Child(space, local string) *Element {
	if e == nil {
		return nil
	}
	for _, c := range e.Children {
		if c.Name == (Name{space, local}) {
			return c
		}
	}
	return nil
}

// Parse reads a document within the default limits. Its error is an *Error.
func Parse(b []byte) (*Element, error) { return ParseWithin(b, Limits{}) }

const (
	xmlSpace   = "http://www.w3.org/XML/1998/namespace"
	xmlnsSpace = "http://www.w3.org/2000/xmlns/"
)

// open is an element whose end has not come.
type open struct {
	el       *Element
	raw      stdxml.Name
	bindings map[string]string // prefix -> namespace, nil where it declares none
	text     []byte
}

type parser struct {
	dec      *stdxml.Decoder
	limits   Limits
	stack    []open
	root     *Element
	elements int
	begun    bool // something stood before: an XML declaration may not follow
}

// ParseWithin reads a document. Its error is an *Error.
func ParseWithin(b []byte, l Limits) (*Element, error) {
	d := DefaultLimits()
	for _, f := range []struct{ v, def *int }{{&l.Bytes, &d.Bytes}, {&l.Depth, &d.Depth}, {&l.Elements, &d.Elements}, {&l.Attributes, &d.Attributes}} {
		if *f.v == 0 {
			*f.v = *f.def
		}
	}
	if len(b) > l.Bytes {
		return nil, &Error{1, 1, fmt.Sprintf("the document is longer than %d bytes", l.Bytes)}
	}
	if !utf8.Valid(b) {
		return nil, &Error{1, 1, "the document is not UTF-8"}
	}
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
	p := &parser{dec: stdxml.NewDecoder(bytes.NewReader(b)), limits: l}
	for {
		tok, err := p.dec.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, p.syntax(err)
		}
		if err := p.take(tok); err != nil {
			return nil, err
		}
	}
	switch {
	case len(p.stack) > 0:
		return nil, p.bad("the element %s is not closed", p.stack[len(p.stack)-1].el.Name.Local)
	case p.root == nil:
		return nil, p.bad("there is no element")
	}
	return p.root, nil
}

func (p *parser) bad(format string, args ...any) *Error {
	line, column := p.dec.InputPos()
	return &Error{line, column, fmt.Sprintf(format, args...)}
}

// syntax leaves the standard library's words out where they quote the document.
func (p *parser) syntax(err error) *Error {
	var se *stdxml.SyntaxError
	if errors.As(err, &se) && !strings.ContainsAny(se.Msg, "\"<&") {
		return p.bad("%s", se.Msg)
	}
	return p.bad("the document is not well-formed")
}

func (p *parser) take(tok stdxml.Token) error {
	begun := p.begun
	p.begun = true
	switch t := tok.(type) {
	case stdxml.Directive:
		return p.bad("a DOCTYPE or another declaration is refused")
	case stdxml.ProcInst:
		if t.Target != "xml" || begun {
			return p.bad("a processing instruction is refused")
		}
	case stdxml.CharData:
		if len(p.stack) > 0 {
			top := &p.stack[len(p.stack)-1]
			top.text = append(top.text, t...)
		} else if len(bytes.TrimSpace(t)) > 0 {
			return p.bad("text stands outside the root element")
		}
	case stdxml.StartElement:
		return p.start(t)
	case stdxml.EndElement:
		return p.end(t)
	}
	return nil
}

func (p *parser) start(t stdxml.StartElement) error {
	p.elements++
	switch {
	case len(p.stack) == 0 && p.root != nil:
		return p.bad("a second root element follows the first")
	case len(p.stack) >= p.limits.Depth:
		return p.bad("elements are nested deeper than %d", p.limits.Depth)
	case p.elements > p.limits.Elements:
		return p.bad("there are more than %d elements", p.limits.Elements)
	case len(t.Attr) > p.limits.Attributes:
		return p.bad("an element has more than %d attributes", p.limits.Attributes)
	}
	line, _ := p.dec.InputPos()
	o := open{el: &Element{Line: line}, raw: t.Name}
	for _, a := range t.Attr {
		prefix, declares := "", false
		switch {
		case a.Name.Space == "" && a.Name.Local == "xmlns":
			declares = true
		case a.Name.Space == "xmlns":
			prefix, declares = a.Name.Local, true
		}
		if !declares {
			continue
		}
		if o.bindings == nil {
			o.bindings = map[string]string{}
		}
		if _, twice := o.bindings[prefix]; twice {
			return p.bad("a namespace is declared twice")
		}
		if prefix != "" && a.Value == "" || prefix == "xmlns" || a.Value == xmlnsSpace || (prefix == "xml") != (a.Value == xmlSpace) {
			return p.bad("a namespace declaration is not allowed")
		}
		o.bindings[prefix] = a.Value
	}
	p.stack = append(p.stack, o)
	top := &p.stack[len(p.stack)-1]
	var err error
	if top.el.Name, err = p.resolve(t.Name, true); err != nil {
		return err
	}
	for _, a := range t.Attr {
		if a.Name.Space == "xmlns" || a.Name.Space == "" && a.Name.Local == "xmlns" {
			continue
		}
		n, err := p.resolve(a.Name, false)
		if err != nil {
			return err
		}
		for _, other := range top.el.Attrs {
			if other.Name == n {
				return p.bad("an attribute stands there twice")
			}
		}
		top.el.Attrs = append(top.el.Attrs, Attr{n, a.Value})
	}
	if len(p.stack) == 1 {
		p.root = top.el
	} else {
		parent := p.stack[len(p.stack)-2].el
		parent.Children = append(parent.Children, top.el)
	}
	return nil
}

// resolve finds a prefix's namespace. Attributes do not take the default one
// (Namespaces in XML 1.0, 6.2).
func (p *parser) resolve(raw stdxml.Name, element bool) (Name, error) {
	switch {
	case raw.Space == "xml":
		return Name{xmlSpace, raw.Local}, nil
	case raw.Space == "" && !element:
		return Name{"", raw.Local}, nil
	}
	for i := len(p.stack) - 1; i >= 0; i-- {
		if space, ok := p.stack[i].bindings[raw.Space]; ok {
			return Name{space, raw.Local}, nil
		}
	}
	if raw.Space != "" {
		return Name{}, p.bad("a prefix is bound to no namespace")
	}
	return Name{"", raw.Local}, nil
}

func (p *parser) end(t stdxml.EndElement) error {
	if len(p.stack) == 0 {
		return p.bad("an end tag has no beginning")
	}
	top := p.stack[len(p.stack)-1]
	if top.raw != t.Name {
		return p.bad("an end tag closes another element than %s", top.el.Name.Local)
	}
	top.el.Text = string(top.text)
	p.stack = p.stack[:len(p.stack)-1]
	return nil
}
