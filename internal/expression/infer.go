package expression

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/expr-lang/expr/ast"

	"github.com/dime-bus/dime/internal/schema"
)

// value is a compiled node: its type, its closure, and what follows from it.
type value struct {
	t      *schema.Type
	f      fn
	tf, ff []string // paths that are not nil where it is true, and where it is false
	path   string   // dotted, if it is nothing but a path
	root   string   // with keys: a plain path from a variable, read in one go
	keys   []string
	lit    any // the literal's value
	isLit  bool
	// caller.may_act_for and the like are only ever called
}

// ctx is where a node stands.
type ctx struct {
	sc     *Scope
	locals *local
	chain  *chain // the optional chain it belongs to
}

type local struct {
	name string
	slot int
	up   *local
}

type chain struct{ short bool } // some link may be nil and cut the chain short

var (
	unknown = &schema.Type{Kind: schema.Unknown} // read only, as are the others
	boolean = &schema.Type{Kind: schema.Bool}
	integer = &schema.Type{Kind: schema.Int}
	number  = &schema.Type{Kind: schema.Number}
	text    = &schema.Type{Kind: schema.String}
	instant = &schema.Type{Kind: schema.Time}
	null    = &schema.Type{Kind: schema.Null, Nullable: true}
	nothing = &schema.Type{Kind: schema.Null} // element type of an empty list
	open    = &schema.Type{}
)

// broken is what a node gives that has been reported.
func broken() value {
	return value{t: unknown, f: func(*frame) (any, error) { return nil, errors.New("it does not compile") }}
}

func literal(t *schema.Type, v any) value {
	return value{t: t, lit: v, isLit: true, f: func(*frame) (any, error) { return v, nil }}
}

func (c *compiler) node(n ast.Node, x ctx) value {
	// reduce is walked twice to find its type; nested it would be exponential.
	if c.steps++; c.steps > 50*MaxNodes {
		c.failAt(n, "bounds", "the expression is too involved: compute it in several `set` steps")
		return broken()
	}
	switch n := n.(type) {
	case *ast.NilNode:
		return literal(null, nil)
	case *ast.IntegerNode:
		return literal(&schema.Type{Kind: schema.Int, Enum: []any{n.Value}, Literal: true}, n.Value)
	case *ast.FloatNode:
		return literal(&schema.Type{Kind: schema.Number, Enum: []any{n.Value}, Literal: true}, n.Value)
	case *ast.BoolNode:
		return literal(boolean, n.Value)
	case *ast.StringNode:
		return literal(&schema.Type{Kind: schema.String, Enum: []any{n.Value}, Literal: true}, n.Value)
	case *ast.IdentifierNode:
		return c.identifier(n, x)
	case *ast.PointerNode:
		return c.pointer(n, x)
	case *ast.UnaryNode:
		return c.unary(n, x)
	case *ast.BinaryNode:
		return c.binary(n, x)
	case *ast.ChainNode:
		return c.chained(n, x)
	case *ast.MemberNode:
		return c.member(n, x)
	case *ast.SliceNode:
		return c.slice(n, x)
	case *ast.CallNode:
		return c.call(n, x)
	case *ast.BuiltinNode:
		return c.builtin(n, x)
	case *ast.ConditionalNode:
		return c.conditional(n, x)
	case *ast.VariableDeclaratorNode:
		return c.let(n, x)
	case *ast.ArrayNode:
		return c.array(n, x)
	case *ast.MapNode:
		return c.mapping(n, x)
	case *ast.SequenceNode:
		c.failAt(n, "syntax", "one expression must stand here; `;` only ends a `let`")
	default:
		c.failAt(n, "syntax", "this is not part of the expression language")
	}
	return broken()
}

func (c *compiler) identifier(n *ast.IdentifierNode, x ctx) value {
	for l := x.locals; l != nil; l = l.up {
		if l.name == n.Value {
			slot := l.slot
			return asDeclared(value{t: x.sc.Lookup(n.Value), path: n.Value, f: func(f *frame) (any, error) { return f.locals[slot], nil }})
		}
	}
	if n.Value == "$env" {
		c.failAt(n, "name", "$env is not available: name what you need")
		return broken()
	}
	t := x.sc.Lookup(n.Value)
	if t == nil {
		switch {
		case n.Value == "secret" || n.Value == "secrets":
			c.failAt(n, "name", "secrets do not exist in expressions: the connector names its own in config/connectors")
		case n.Value == "event":
			c.failAt(n, "name", "event exists only in the `where` of a wait")
		default:
			hint := schema.DidYouMean(n.Value, x.sc.Names())
			if hint == "" && isFunction(n.Value) {
				hint = fmt.Sprintf("; it is a function: %s(...)", n.Value)
			}
			c.failAt(n, "name", "%q is not known here%s", n.Value, hint)
		}
		return broken()
	}
	c.refs[n.Value] = true
	c.paths[n.Value] = true
	return asDeclared(value{t: t, path: n.Value, root: n.Value, f: readPath(n.Value, nil)})
}

// asDeclared makes a variable's value what its type says: an instant that went
// through the journal comes back as a string.
func asDeclared(v value) value {
	if v.t == nil {
		v.t = unknown
	}
	switch v.t.Kind {
	case schema.Time:
		v.root, v.keys = "", nil
		v.f = converted(v.f, toInstant)
	case schema.Period:
		v.root, v.keys = "", nil
		v.f = converted(v.f, toPeriod)
	}
	return v
}

func converted(f fn, conv func(*frame, any) (any, error)) fn {
	return func(fr *frame) (any, error) {
		v, err := f(fr)
		if err != nil || v == nil {
			return v, err
		}
		return conv(fr, v)
	}
}

func (c *compiler) pointer(n *ast.PointerNode, x ctx) value {
	name := "#" + n.Name
	for l := x.locals; l != nil; l = l.up {
		if l.name == name {
			slot := l.slot
			return asDeclared(value{t: x.sc.Lookup(name), path: name, f: func(f *frame) (any, error) { return f.locals[slot], nil }})
		}
	}
	switch {
	case n.Name == "":
		c.failAt(n, "name", "# exists only inside map(), filter() and the like")
	default:
		c.failAt(n, "name", "%q is not known here; # is the item, #index its place, #acc the result so far in reduce()", name)
	}
	return broken()
}

func (c *compiler) unary(n *ast.UnaryNode, x ctx) value {
	v := c.node(n.Node, off(x))
	switch n.Operator {
	case "not", "!":
		f := c.truth(n.Node, v, "not")
		return value{t: like(boolean, v.t), tf: v.ff, ff: v.tf, f: func(fr *frame) (any, error) {
			b, err := f(fr)
			if err != nil {
				return nil, err
			}
			return !b, nil
		}}
	case "-", "+":
		t := c.use(n.Node, v)
		if !c.numeric(n.Node, t, n.Operator) {
			return broken()
		}
		if n.Operator == "+" {
			return value{t: t.NonNil(), f: v.f}
		}
		if v.isLit {
			if r, err := negate(v.lit); err == nil {
				return literal(&schema.Type{Kind: t.Kind, Enum: []any{r}, Literal: true}, r)
			}
		}
		f := v.f
		return value{t: plainType(t), f: func(fr *frame) (any, error) {
			a, err := f(fr)
			if err != nil {
				return nil, err
			}
			return negate(a)
		}}
	}
	c.failAt(n, "syntax", "operator %s is not part of the expression language", n.Operator)
	return broken()
}

// off is x outside the optional chain: an operand is no link of it.
func off(x ctx) ctx {
	x.chain = nil
	return x
}

// like returns t, personal if one of the inputs is or holds something personal.
func like(t *schema.Type, inputs ...*schema.Type) *schema.Type {
	if t.Personal {
		return t
	}
	for _, in := range inputs {
		if schema.HasPersonal(in) {
			c := *t
			c.Personal = true
			return &c
		}
	}
	return t
}

// plainType is t without its legal values: what arithmetic makes of it.
func plainType(t *schema.Type) *schema.Type {
	if t.Enum == nil && !t.Nullable && !t.Optional {
		return t
	}
	c := *t
	c.Enum, c.Literal, c.Nullable, c.Optional = nil, false, false, false
	return &c
}

// use says that the value itself is needed; a nil is a problem of rule "nil".
func (c *compiler) use(n ast.Node, v value) *schema.Type {
	if v.t.MayBeNil() {
		c.failAt(n, "nil", "%s", nilMessage(v, "here"))
		if v.t.Kind == schema.Null {
			return unknown
		}
	}
	return v.t.NonNil()
}

func nilMessage(v value, where string) string {
	if v.t.Kind == schema.Null {
		return "nil cannot stand " + where
	}
	if v.path == "" || strings.HasPrefix(v.path, "#") {
		return "this may be nil " + where + ": give a default with ??, or check it first"
	}
	return fmt.Sprintf("%s may be nil %s: give a default (%s ?? ...), or check it first (`check: %s != nil`, or `if: %s != nil` on the step)", v.path, where, v.path, v.path, v.path)
}

// truth makes v a condition.
func (c *compiler) truth(n ast.Node, v value, where string) func(*frame) (bool, error) {
	switch {
	case v.t.Kind == schema.Unknown:
	case v.t.Kind != schema.Bool && v.t.Kind != schema.Any && v.t.Kind != schema.Null:
		c.failAt(n, "bool", "%s needs true or false, not %s%s", where, v.t.Article(), boolHint(v))
	default:
		c.use(n, v)
	}
	f := v.f
	return func(fr *frame) (bool, error) {
		a, err := f(fr)
		if err != nil {
			return false, err
		}
		b, ok := a.(bool)
		if !ok {
			return false, notBool(where, a)
		}
		return b, nil
	}
}

func (c *compiler) chained(n *ast.ChainNode, x ctx) value {
	ch := &chain{}
	x.chain = ch
	v := c.node(n.Node, x)
	if v.t.Kind == schema.Unknown {
		return broken()
	}
	if ch.short {
		v.t = v.t.AsOptional()
	}
	f := v.f
	v.root, v.keys = "", nil
	v.f = func(fr *frame) (any, error) {
		r, err := f(fr)
		if err == errShort { //nolint:errorlint // a sentinel that never leaves the chain
			return nil, nil
		}
		return r, err
	}
	return v
}

// link is the base of a member or call: nil is allowed where the link says ?.
func (c *compiler) link(n ast.Node, v value, optional bool, member string, x ctx) *schema.Type {
	if v.t.Kind == schema.Unknown {
		return unknown
	}
	if !v.t.MayBeNil() {
		return v.t
	}
	if optional && x.chain != nil {
		x.chain.short = true
		return v.t.NonNil()
	}
	if v.t.Kind == schema.Null {
		c.failAt(n, "nil", "nil has no %s", member)
		return unknown
	}
	what := v.path
	if what == "" || strings.HasPrefix(what, "#") {
		c.failAt(n, "nil", "this may be nil here: read it with ?.%s, or check it first", member)
	} else {
		c.failAt(n, "nil", "%s may be nil here: write %s?.%s, or check it first (`check: %s != nil`, or `if: %s != nil` on the step)", what, what, member, what, what)
	}
	return v.t.NonNil()
}

func (c *compiler) member(n *ast.MemberNode, x ctx) value {
	if n.Method {
		c.failAt(n, "name", "this cannot be called")
		return broken()
	}
	base := c.node(n.Node, x)
	name, fixed := n.Property.(*ast.StringNode)
	label := "[...]"
	if fixed {
		label = name.Value
	}
	t := c.link(n.Node, base, n.Optional, label, x)
	if !fixed {
		return c.indexed(n, base, t, x)
	}
	v := value{}
	if base.path != "" && !strings.Contains(name.Value, ".") {
		v.path = base.path + "." + name.Value
		if !strings.HasPrefix(v.path, "#") {
			root, _, _ := strings.Cut(base.path, ".")
			if c.refs[root] {
				c.paths[v.path] = true
			}
		}
	}
	if base.root != "" && !n.Optional {
		v.root, v.keys = base.root, append(slices.Clip(base.keys), name.Value)
		v.f = readPath(v.root, v.keys)
	} else {
		v.f = readMember(base.f, base.path, name.Value, n.Optional && x.chain != nil)
	}
	v.t = c.field(name, t, base)
	return asDeclared(v)
}

// field is the type of a property of t.
func (c *compiler) field(name *ast.StringNode, t *schema.Type, base value) *schema.Type {
	at := c.offset(name.Location().From)
	var ft *schema.Type
	switch t.Kind {
	case schema.Unknown:
		return unknown
	case schema.Any:
		ft = open
	case schema.Object:
		f, ok := t.Fields[name.Value]
		switch {
		case ok:
			ft = f.Type
			if ft == nil {
				ft = open
			}
			if !f.Required {
				ft = ft.AsOptional()
			}
		case t.Open && t.Extra != nil:
			ft = t.Extra.AsOptional()
		case t.Open && len(t.Fields) == 0:
			ft = open
		case t.Open:
			// A misspelling of a declared property passes as an undeclared one; what
			// is not declared may always be absent.
			ft = open.AsOptional()
		default:
			names := fieldNames(t)
			what := t.Title
			if base.path != "" {
				what = base.path
			}
			if what == "" {
				what = "this object"
			}
			hint := schema.DidYouMean(name.Value, names)
			if hint == "" && len(names) > 0 && len(names) <= 12 {
				hint = "; it has " + strings.Join(names, ", ")
			}
			c.fail(at, "name", "%s has no %q%s", what, name.Value, hint)
			return unknown
		}
	case schema.Array:
		c.fail(at, "type", "a list has no %q: take one item, or map(..., .%s)", name.Value, name.Value)
		return unknown
	default:
		c.fail(at, "type", "%s has no %q", t.Article(), name.Value)
		return unknown
	}
	if t.Personal {
		ft = like(ft, t)
	}
	return ft
}

func fieldNames(t *schema.Type) []string {
	names := make([]string, 0, len(t.Fields))
	for n := range t.Fields {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// indexed is base[key] with a key that is not written out.
func (c *compiler) indexed(n *ast.MemberNode, base value, t *schema.Type, x ctx) value {
	key := c.node(n.Property, off(x))
	kt := c.use(n.Property, key)
	f := readIndex(base.f, key.f, n.Optional && x.chain != nil)
	switch t.Kind {
	case schema.Unknown:
		return broken()
	case schema.Any:
		return value{t: like(open, t, kt), f: f}
	case schema.Array:
		if kt.Kind != schema.Int && kt.Kind != schema.Any && kt.Kind != schema.Unknown {
			c.failAt(n.Property, "type", "a list is read by an integer, not %s", kt.Article())
			return broken()
		}
		items := t.Items
		if items == nil {
			items = open
		}
		if t.Personal {
			items = like(items, t)
		}
		return asDeclared(value{t: items, f: f})
	case schema.Object:
		switch {
		case !t.Open || len(t.Fields) > 0:
			c.failAt(n.Property, "type", "a computed key cannot be checked: name the property, or use `if`")
			return broken()
		case kt.Kind != schema.String && kt.Kind != schema.Any && kt.Kind != schema.Unknown:
			c.failAt(n.Property, "type", "an object is read by a string, not %s", kt.Article())
			return broken()
		case t.Extra != nil:
			return asDeclared(value{t: like(t.Extra.AsOptional(), t), f: f})
		}
		return value{t: like(open.AsOptional(), t), f: f}
	}
	c.failAt(n.Node, "type", "%s cannot be read with [...]", t.Article())
	return broken()
}

func (c *compiler) slice(n *ast.SliceNode, x ctx) value {
	base := c.node(n.Node, off(x))
	t := c.use(n.Node, base)
	var from, to fn
	for i, b := range []ast.Node{n.From, n.To} {
		if b == nil {
			continue
		}
		v := c.node(b, off(x))
		if bt := c.use(b, v); bt.Kind != schema.Int && bt.Kind != schema.Any && bt.Kind != schema.Unknown {
			c.failAt(b, "type", "the bounds of [a:b] are integers, not %s", bt.Article())
		}
		if i == 0 {
			from = v.f
		} else {
			to = v.f
		}
	}
	switch t.Kind {
	case schema.Array, schema.Any, schema.Unknown:
	case schema.String:
		t = plainType(t)
	default:
		c.failAt(n.Node, "type", "[a:b] takes a list or a string, not %s", t.Article())
		return broken()
	}
	return value{t: t, f: cut(base.f, from, to)}
}
