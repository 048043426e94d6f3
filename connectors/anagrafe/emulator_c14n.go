package anagrafe

import (
	"bytes"
	stdxml "encoding/xml"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
)

// emNode is an element as it was written, with its prefixes, for the canonical
// form; what may be read at all was decided by internal/xml before.
type emNode struct {
	prefix, local string
	bindings      map[string]string // declared here
	attrs         []stdxml.Attr     // none that declares
	children      []any             // *emNode, string
	parent        *emNode
}

// emTree reads a document that internal/xml has let through.
func emTree(b []byte) (*emNode, error) {
	dec := stdxml.NewDecoder(bytes.NewReader(b))
	var root, at *emNode
	for {
		tok, err := dec.RawToken()
		if errors.Is(err, io.EOF) {
			if root == nil || at != nil {
				return nil, errors.New("the document is not whole")
			}
			return root, nil
		}
		if err != nil {
			return nil, errors.New("the document is not well-formed")
		}
		switch t := tok.(type) {
		case stdxml.StartElement:
			n := &emNode{prefix: t.Name.Space, local: t.Name.Local, parent: at}
			if strings.Contains(n.local, ":") {
				return nil, errors.New("a name holds two colons")
			}
			for _, a := range t.Attr {
				// Normalised and escaped white space can't be told apart any more.
				if strings.ContainsAny(a.Value, "\t\n\r") || strings.Contains(a.Name.Local, ":") {
					return nil, errors.New("an attribute holds a line end or a tab")
				}
				switch {
				case a.Name.Space == "" && a.Name.Local == "xmlns":
					n.bind("", a.Value)
				case a.Name.Space == "xmlns":
					n.bind(a.Name.Local, a.Value)
				default:
					n.attrs = append(n.attrs, a)
				}
			}
			if at == nil {
				root = n
			} else {
				at.children = append(at.children, n)
			}
			at = n
		case stdxml.EndElement:
			if at == nil {
				return nil, errors.New("an element ends that did not begin")
			}
			at = at.parent
		case stdxml.CharData:
			if at != nil {
				at.children = append(at.children, string(t))
			}
		}
	}
}

func (n *emNode) bind(prefix, space string) {
	if n.bindings == nil {
		n.bindings = map[string]string{}
	}
	n.bindings[prefix] = space
}

// space resolves a prefix at n.
func (n *emNode) space(prefix string) string {
	if prefix == "xml" {
		return "http://www.w3.org/XML/1998/namespace"
	}
	for at := n; at != nil; at = at.parent {
		if s, ok := at.bindings[prefix]; ok {
			return s
		}
	}
	return ""
}

// child is the only child element of that name, or nil.
func (n *emNode) child(space, local string) *emNode {
	var one *emNode
	if n == nil {
		return nil
	}
	for _, c := range n.children {
		if e, ok := c.(*emNode); ok && e.local == local && e.space(e.prefix) == space {
			if one != nil {
				return nil
			}
			one = e
		}
	}
	return one
}

// all lists the child elements of that name.
func (n *emNode) all(space, local string) (es []*emNode) {
	if n == nil {
		return nil
	}
	for _, c := range n.children {
		if e, ok := c.(*emNode); ok && e.local == local && e.space(e.prefix) == space {
			es = append(es, e)
		}
	}
	return es
}

func (n *emNode) attr(space, local string) string {
	if n == nil {
		return ""
	}
	for _, a := range n.attrs {
		of := ""
		if a.Name.Space != "" {
			of = n.space(a.Name.Space)
		}
		if a.Name.Local == local && of == space {
			return a.Value
		}
	}
	return ""
}

func (n *emNode) text() string {
	if n == nil {
		return ""
	}
	var b strings.Builder
	for _, c := range n.children {
		if s, ok := c.(string); ok {
			b.WriteString(s)
		}
	}
	return strings.TrimSpace(b.String())
}

// count tells how many elements bear a wsu:Id.
func (n *emNode) count(id string) int {
	k := 0
	if n.attr(emWSU, "Id") == id || n.attr("", "Id") == id || n.attr("", "ID") == id {
		k++
	}
	for _, c := range n.children {
		if e, ok := c.(*emNode); ok {
			k += e.count(id)
		}
	}
	return k
}

// canonical is Exclusive XML Canonicalization 1.0, without comments and without
// an InclusiveNamespaces list.
func (n *emNode) canonical() []byte {
	var b bytes.Buffer
	n.write(&b, map[string]string{})
	return b.Bytes()
}

func (n *emNode) write(b *bytes.Buffer, rendered map[string]string) {
	used := []string{n.prefix}
	for _, a := range n.attrs {
		if p := a.Name.Space; p != "" && p != "xml" && !slices.Contains(used, p) {
			used = append(used, p)
		}
	}
	slices.Sort(used)
	name := n.local
	if n.prefix != "" {
		name = n.prefix + ":" + n.local
	}
	b.WriteString("<" + name)
	inside, copied := rendered, false
	for _, p := range used {
		space := n.space(p)
		if p == "xml" || inside[p] == space {
			continue // also xmlns="" where nothing was rendered
		}
		if !copied {
			inside, copied = maps.Clone(rendered), true
		}
		inside[p] = space
		if p == "" {
			b.WriteString(` xmlns="`)
		} else {
			b.WriteString(" xmlns:" + p + `="`)
		}
		emEscape(b, space, true)
		b.WriteByte('"')
	}
	attrs := slices.Clone(n.attrs)
	slices.SortFunc(attrs, func(x, y stdxml.Attr) int {
		sx, sy := "", ""
		if x.Name.Space != "" {
			sx = n.space(x.Name.Space)
		}
		if y.Name.Space != "" {
			sy = n.space(y.Name.Space)
		}
		if c := strings.Compare(sx, sy); c != 0 {
			return c
		}
		return strings.Compare(x.Name.Local, y.Name.Local)
	})
	for _, a := range attrs {
		b.WriteByte(' ')
		if a.Name.Space != "" {
			b.WriteString(a.Name.Space + ":")
		}
		b.WriteString(a.Name.Local + `="`)
		emEscape(b, a.Value, true)
		b.WriteByte('"')
	}
	b.WriteByte('>')
	for _, c := range n.children {
		switch c := c.(type) {
		case *emNode:
			c.write(b, inside)
		case string:
			emEscape(b, c, false)
		}
	}
	b.WriteString("</" + name + ">")
}

func emEscape(b *bytes.Buffer, s string, attribute bool) {
	for _, r := range s {
		switch {
		case r == '&':
			b.WriteString("&amp;")
		case r == '<':
			b.WriteString("&lt;")
		case r == '>' && !attribute:
			b.WriteString("&gt;")
		case r == '"' && attribute:
			b.WriteString("&quot;")
		case r == '\r':
			b.WriteString("&#xD;")
		default:
			b.WriteRune(r)
		}
	}
}
