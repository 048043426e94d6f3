package expression

import (
	"slices"
	"strings"

	"github.com/expr-lang/expr/ast"

	"github.com/dime-bus/dime/internal/schema"
)

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
