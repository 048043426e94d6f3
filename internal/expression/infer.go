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

func (c *compiler) conditional(n *ast.ConditionalNode, x ctx) value {
	cv := c.node(n.Cond, off(x))
	cond := c.truth(n.Cond, cv, "a condition")
	yes, no := off(x), off(x)
	yes.sc, no.sc = x.sc.Narrow(cv.tf), x.sc.Narrow(cv.ff)
	a, b := c.node(n.Exp1, yes), c.node(n.Exp2, no)
	t := c.oneOf(n, a.t, b.t, "the two branches give %s and %s")
	af, bf := a.f, b.f
	return value{t: like(t, personalOnly(cv.t)), f: func(fr *frame) (any, error) {
		ok, err := cond(fr)
		if err != nil {
			return nil, err
		}
		if ok {
			return af(fr)
		}
		return bf(fr)
	}}
}

// personalOnly keeps only whether a condition is personal: what is chosen by a
// personal value tells of it.
func personalOnly(t *schema.Type) *schema.Type {
	if schema.HasPersonal(t) {
		return &schema.Type{Kind: schema.Bool, Personal: true}
	}
	return boolean
}

// oneOf is the type of a value that is a or b; format has two %s for them.
func (c *compiler) oneOf(n ast.Node, a, b *schema.Type, format string) *schema.Type {
	if a.Kind == schema.Unknown || b.Kind == schema.Unknown {
		return unknown
	}
	t, ok := schema.Union(a, b)
	if !ok {
		c.failAt(n, "type", format+"; give both one type", a.Article(), b.Article())
		return unknown
	}
	return t
}

func (c *compiler) slot() int {
	c.slots++
	c.maxSlots = max(c.maxSlots, c.slots)
	return c.slots - 1
}

func (c *compiler) release(n int) { c.slots -= n }

// bind adds a local name.
func bind(x ctx, name string, t *schema.Type, slot int) ctx {
	// Not With: a literal that is only named keeps its legal values.
	x.sc = &Scope{names: map[string]*schema.Type{name: t}, parent: x.sc}
	x.locals = &local{name: name, slot: slot, up: x.locals}
	return x
}

func (c *compiler) let(n *ast.VariableDeclaratorNode, x ctx) value {
	v := c.node(n.Value, off(x))
	if x.sc.Lookup(n.Name) != nil {
		c.failAt(n, "name", "%q is already a name here: choose another", n.Name)
	}
	slot := c.slot()
	defer c.release(1)
	body := c.node(n.Expr, bind(off(x), n.Name, v.t, slot))
	vf, bf := v.f, body.f
	keep := func(facts []string) []string {
		return slices.DeleteFunc(slices.Clone(facts), func(s string) bool {
			root, _, _ := strings.Cut(s, ".")
			return root == n.Name
		})
	}
	return value{t: body.t, tf: keep(body.tf), ff: keep(body.ff), f: func(fr *frame) (any, error) {
		a, err := vf(fr)
		if err != nil {
			return nil, err
		}
		fr.locals[slot] = a
		return bf(fr)
	}}
}

func (c *compiler) array(n *ast.ArrayNode, x ctx) value {
	items := nothing
	fs := make([]fn, len(n.Nodes))
	consts := make([]any, 0, len(n.Nodes))
	for i, e := range n.Nodes {
		v := c.node(e, off(x))
		fs[i] = v.f
		if v.isLit {
			consts = append(consts, v.lit)
		}
		if i == 0 {
			items = v.t
			continue
		}
		items = c.oneOf(e, items, v.t, "the items of a list give %s and %s")
	}
	if items.Kind == schema.Unknown {
		return broken()
	}
	t := schema.ListOf(items)
	if len(consts) == len(fs) {
		return value{t: t, lit: consts, isLit: true, f: func(fr *frame) (any, error) {
			if err := fr.charge(16 * len(consts)); err != nil {
				return nil, err
			}
			return append([]any{}, consts...), nil // whoever gets it may change it
		}}
	}
	return value{t: t, f: func(fr *frame) (any, error) {
		l, err := fr.list(len(fs))
		if err != nil {
			return nil, err
		}
		for _, f := range fs {
			v, err := f(fr)
			if err != nil {
				return nil, err
			}
			l = append(l, v)
		}
		return l, nil
	}}
}

func (c *compiler) mapping(n *ast.MapNode, x ctx) value {
	names := make([]string, 0, len(n.Pairs))
	types := make(map[string]*schema.Type, len(n.Pairs))
	fs := make([]fn, 0, len(n.Pairs))
	ok := true
	for _, p := range n.Pairs {
		pair, _ := p.(*ast.PairNode)
		key, written := pair.Key.(*ast.StringNode)
		v := c.node(pair.Value, off(x))
		switch {
		case !written:
			c.failAt(pair.Key, "type", "the keys of a map must be written out")
			ok = false
			continue
		case types[key.Value] != nil:
			c.failAt(pair.Key, "name", "the key %q stands twice", key.Value)
			ok = false
			continue
		case v.t.Kind == schema.Unknown:
			ok = false
		}
		names, fs = append(names, key.Value), append(fs, v.f)
		types[key.Value] = v.t
	}
	if !ok {
		return broken()
	}
	return value{t: schema.ObjectOf(names, types), f: func(fr *frame) (any, error) {
		if err := fr.charge(48 + 48*len(fs)); err != nil {
			return nil, err
		}
		m := make(map[string]any, len(fs))
		for i, f := range fs {
			v, err := f(fr)
			if err != nil {
				return nil, err
			}
			m[names[i]] = v
		}
		return m, nil
	}}
}
