package expression

import (
	"cmp"
	"slices"
	"strings"

	"github.com/expr-lang/expr/ast"

	"github.com/dime-bus/dime/internal/schema"
)

// Where is a `where` split for correlation (semantics 5.1).
type Where struct {
	Whole *Expr      // all of it
	Key   []Equality // `event.PATH == X`, sorted by path
	Shape string     // the sorted paths, joined by ","
	Rest  *Expr      // what is not in the key; nil if nothing
}

// Equality is one part of a wait's key.
type Equality struct {
	Path   string // "event.iuv" is "iuv"
	Value  *Expr  // free of event
	Offset int    // of the equality in the source, in bytes
}

// CompileWhere checks a `where`: joined by `and` at top level, one or more
// `event.PATH == X` with X free of event, of which at least one depends on the
// run (semantics 5.1). sc must hold the name event. Problems have rule "where"
// where the key is at fault.
func CompileWhere(src string, sc *Scope) (*Where, []Problem) {
	c := newCompiler(src)
	node := c.parse()
	if node == nil {
		return nil, c.problems
	}
	whole := c.expr(node, src, sc, Options{Want: boolean})
	if whole == nil {
		return nil, c.sorted()
	}
	w := &Where{Whole: whole}
	var rest ast.Node
	depends := false
	at := sc // what stands left of an `and` holds for what stands right of it
	for _, part := range conjuncts(node) {
		here := at
		if e := c.piece(part, here, boolean); e != nil {
			at = at.Narrow(e.trueFacts)
		}
		path, x, ok := c.equalityOfEvent(part, sc)
		if !ok {
			if rest == nil {
				rest = part
			} else {
				rest = join2(rest, part)
			}
			continue
		}
		value := c.piece(x, here, nil)
		if value == nil {
			continue
		}
		offset := c.at(part)
		if i := slices.IndexFunc(w.Key, func(e Equality) bool { return e.Path == path }); i >= 0 {
			c.fail(offset, "where", "event.%s stands twice in the key", path)
			continue
		}
		et := eventType(sc, path)
		if !sameKey(et, value.Type) {
			c.failAt(x, "where", "event.%s is %s and this is %s: the two sides of a key must have one type", path, et.Article(), value.Type.Article())
		}
		for _, r := range value.refs {
			depends = depends || r != "cfg"
		}
		w.Key = append(w.Key, Equality{Path: path, Value: value, Offset: offset})
	}
	switch {
	case len(c.problems) > 0:
	case len(w.Key) == 0:
		c.fail(c.at(node), "where", "no `event.PATH == X` with X of this run joins it at top level by `and`: a wait finds its run by such an equality")
	case !depends:
		c.fail(c.at(node), "where", "every run would wait for the same event: compare a field of event with something of this run, not only with literals or cfg")
	}
	if len(c.problems) > 0 {
		return nil, c.sorted()
	}
	slices.SortFunc(w.Key, func(a, b Equality) int { return cmp.Compare(a.Path, b.Path) })
	paths := make([]string, len(w.Key))
	var known []string
	for i, k := range w.Key {
		paths[i] = k.Path
		known = append(known, prefixes("event."+k.Path)...)
		// A nil on either side never matches: behind the key both are there.
		known = append(known, k.Value.valuePath...)
	}
	w.Shape = strings.Join(paths, ",")
	if rest != nil {
		// Evaluated only where the key is equal: both sides are there then.
		w.Rest = c.piece(rest, sc.Narrow(known), boolean)
		if w.Rest == nil {
			return nil, c.sorted()
		}
	}
	return w, nil
}

// piece compiles a part of the tree on its own.
func (c *compiler) piece(n ast.Node, sc *Scope, want *schema.Type) *Expr {
	p := newCompiler(c.src)
	e := p.expr(n, n.String(), sc, Options{Want: want})
	if e == nil {
		c.problems = append(c.problems, p.problems...)
	}
	return e
}

func conjuncts(n ast.Node) []ast.Node {
	if b, ok := n.(*ast.BinaryNode); ok && (b.Operator == "and" || b.Operator == "&&") {
		return append(conjuncts(b.Left), conjuncts(b.Right)...)
	}
	return []ast.Node{n}
}

func join2(a, b ast.Node) ast.Node {
	n := &ast.BinaryNode{Operator: "and", Left: a, Right: b}
	n.SetLocation(b.Location())
	return n
}

// equalityOfEvent takes `event.PATH == X` or `X == event.PATH` apart.
func (c *compiler) equalityOfEvent(n ast.Node, sc *Scope) (path string, x ast.Node, ok bool) {
	b, isBinary := n.(*ast.BinaryNode)
	if !isBinary || b.Operator != "==" {
		return "", nil, false
	}
	for _, sides := range [][2]ast.Node{{b.Left, b.Right}, {b.Right, b.Left}} {
		p := pathOf(sides[0])
		rest, isEvent := strings.CutPrefix(p, "event.")
		if !isEvent || mentions(sides[1], "event") {
			continue
		}
		if _, isNil := sides[1].(*ast.NilNode); isNil {
			continue // nil never matches: this is a test, not a key
		}
		return rest, sides[1], true
	}
	return "", nil, false
}

// pathOf is the dotted path that a node is, or "".
func pathOf(n ast.Node) string {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		return n.Value
	case *ast.ChainNode:
		return pathOf(n.Node)
	case *ast.MemberNode:
		name, ok := n.Property.(*ast.StringNode)
		base := pathOf(n.Node)
		if ok && base != "" && !n.Method && !strings.ContainsAny(name.Value, ".,") {
			return base + "." + name.Value
		}
	}
	return ""
}

func mentions(n ast.Node, name string) bool {
	if n == nil {
		return false
	}
	if id, ok := n.(*ast.IdentifierNode); ok && id.Value == name {
		return true
	}
	return slices.ContainsFunc(children(n), func(s ast.Node) bool { return mentions(s, name) })
}

func eventType(sc *Scope, path string) *schema.Type {
	t := sc.Lookup("event")
	for _, name := range strings.Split(path, ".") {
		if t == nil || t.Kind != schema.Object {
			return open
		}
		if f, ok := t.Fields[name]; ok {
			t = f.Type
			continue
		}
		t = t.Extra
	}
	if t == nil {
		return open
	}
	return t
}

// sameKey says whether two types make equal keys: numbers are normalised, an
// open side is judged when it is there.
func sameKey(a, b *schema.Type) bool {
	if a.Kind == schema.Any || b.Kind == schema.Any {
		return true
	}
	if a.Kind == schema.Object || a.Kind == schema.Array || b.Kind == schema.Object || b.Kind == schema.Array {
		return false
	}
	if isNumber(a) && isNumber(b) {
		return true
	}
	return a.Kind == b.Kind
}
