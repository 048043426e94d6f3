package expression

import (
	"errors"
	"fmt"
	"slices"

	"github.com/expr-lang/expr/ast"

	"github.com/dime-bus/dime/internal/schema"
)

func takesPredicate(name string) bool {
	switch name {
	case "all", "none", "any", "one", "filter", "map", "find", "findIndex", "findLast", "findLastIndex",
		"count", "sum", "groupBy", "sortBy", "reduce":
		return true
	}
	return false
}

// body is a compiled predicate: f runs with the item and its index in place.
type body struct {
	value
	item, index int
	node        ast.Node
}

// loop compiles map(), filter() and the like.
func (c *compiler) loop(n *ast.BuiltinNode, x ctx) value {
	lv := c.node(n.Arguments[0], x)
	lt := c.use(n.Arguments[0], lv)
	items := open
	switch lt.Kind {
	case schema.Array:
		if lt.Items != nil {
			items = lt.Items
		}
		if lt.Personal {
			items = like(items, lt)
		}
	case schema.Any:
		items = like(open, lt)
	case schema.Unknown:
		return broken()
	default:
		c.failAt(n.Arguments[0], "type", "%s takes a list, not %s", n.Name, lt.Article())
		return broken()
	}
	b := body{item: c.slot(), index: c.slot()}
	defer c.release(2)
	y := bind(x, "#", items, b.item)
	y = bind(y, "#index", integer, b.index)
	if n.Name == "reduce" {
		return c.reduce(n, x, y, lv, items, b)
	}
	if len(n.Arguments) > 1 {
		p, ok := n.Arguments[1].(*ast.PredicateNode)
		if !ok {
			c.failAt(n.Arguments[1], "syntax", "%s takes a list and an expression about each item", n.Name)
			return broken()
		}
		b.node = p.Node
		b.value = c.node(p.Node, y)
	} else {
		// sum(list), count(list): the item itself
		b.node = n.Arguments[0]
		slot := b.item
		b.value = value{t: items, path: "#", f: func(f *frame) (any, error) { return f.locals[slot], nil }}
	}
	if b.t.Kind == schema.Unknown {
		return broken()
	}
	switch n.Name {
	case "map":
		return value{t: schema.ListOf(b.t), f: mapping(lv.f, b)}
	case "sum":
		return c.sumOf(lv, b)
	case "sortBy":
		return c.sortBy(n, x, lv, lt, b)
	case "groupBy":
		bt := c.use(b.node, b.value)
		if bt.Kind != schema.String && !isLoose(bt) {
			c.failAt(b.node, "type", "groupBy needs a string for each item, not %s", bt.Article())
			return broken()
		}
		return value{t: &schema.Type{Kind: schema.Object, Open: true, Extra: schema.ListOf(items)}, f: grouping(lv.f, b)}
	}
	cond := c.truth(b.node, b.value, n.Name)
	personal := []*schema.Type{personalOnly(b.t)}
	switch n.Name {
	case "filter":
		// What the condition shows of an item holds for the items that pass.
		kept := (&Scope{names: map[string]*schema.Type{"#": items}}).Narrow(b.tf).Lookup("#")
		return value{t: schema.ListOf(kept), f: filtering(lv.f, b, cond)}
	case "find", "findLast":
		kept := (&Scope{names: map[string]*schema.Type{"#": items}}).Narrow(b.tf).Lookup("#")
		return value{t: kept.AsOptional(), f: finding(lv.f, b, cond, n.Name == "findLast", false)}
	case "findIndex", "findLastIndex":
		return value{t: like(integer, personal...).AsOptional(), f: finding(lv.f, b, cond, n.Name == "findLastIndex", true)}
	case "count":
		return value{t: like(integer, personal...), f: counting(lv.f, b, cond, func(hits, _ int) any { return hits }, -1, -1)}
	case "all":
		return value{t: like(boolean, personal...), f: counting(lv.f, b, cond, func(hits, n int) any { return hits == n }, -1, 1)}
	case "none":
		return value{t: like(boolean, personal...), f: counting(lv.f, b, cond, func(hits, _ int) any { return hits == 0 }, 1, -1)}
	case "any":
		return value{t: like(boolean, personal...), f: counting(lv.f, b, cond, func(hits, _ int) any { return hits > 0 }, 1, -1)}
	case "one":
		return value{t: like(boolean, personal...), f: counting(lv.f, b, cond, func(hits, _ int) any { return hits == 1 }, -1, -1)}
	}
	c.failAt(n, "name", "there is no function %s()", n.Name)
	return broken()
}

// each runs do for every item of the list, forwards or backwards, until it says stop.
func (b *body) each(fr *frame, list fn, backwards bool, do func(i int, item any, n int) (stop bool, err error)) error {
	v, err := list(fr)
	if err != nil {
		return err
	}
	l, ok := v.([]any)
	if !ok {
		return fmt.Errorf("a list must stand here, not %s", kindName(v))
	}
	// A body may be run again inside itself only by another slot, so these are ours.
	for k := range l {
		i := k
		if backwards {
			i = len(l) - 1 - k
		}
		if err := fr.tick(2); err != nil {
			return err
		}
		fr.locals[b.item], fr.locals[b.index] = l[i], i
		stop, err := do(i, l[i], len(l))
		if err != nil || stop {
			return err
		}
	}
	return nil
}

func mapping(list fn, b body) fn {
	return func(fr *frame) (any, error) {
		out := []any{}
		err := b.each(fr, list, false, func(i int, _ any, n int) (bool, error) {
			if i == 0 {
				var err error
				if out, err = fr.list(n); err != nil {
					return true, err
				}
			}
			v, err := b.f(fr)
			out = append(out, v)
			return false, err
		})
		if err != nil {
			return nil, err
		}
		return out, nil
	}
}

func filtering(list fn, b body, cond func(*frame) (bool, error)) fn {
	return func(fr *frame) (any, error) {
		out := []any{}
		err := b.each(fr, list, false, func(_ int, item any, _ int) (bool, error) {
			ok, err := cond(fr)
			if ok {
				if err := fr.charge(16); err != nil {
					return true, err
				}
				out = append(out, item)
			}
			return false, err
		})
		if err != nil {
			return nil, err
		}
		return out, nil
	}
}

func finding(list fn, b body, cond func(*frame) (bool, error), last, index bool) fn {
	return func(fr *frame) (any, error) {
		var found any
		err := b.each(fr, list, last, func(i int, item any, _ int) (bool, error) {
			ok, err := cond(fr)
			if ok {
				if found = item; index {
					found = i
				}
			}
			return ok, err
		})
		if err != nil {
			return nil, err
		}
		return found, nil
	}
}

// counting counts hits and ends early after that many hits or misses (-1: never).
func counting(list fn, b body, cond func(*frame) (bool, error), result func(hits, n int) any, maxHits, maxMisses int) fn {
	return func(fr *frame) (any, error) {
		hits, misses, all := 0, 0, 0
		err := b.each(fr, list, false, func(_ int, _ any, n int) (bool, error) {
			all = n
			ok, err := cond(fr)
			if ok {
				hits++
			} else {
				misses++
			}
			return hits == maxHits || misses == maxMisses, err
		})
		if err != nil {
			return nil, err
		}
		return result(hits, all), nil
	}
}

func grouping(list fn, b body) fn {
	return func(fr *frame) (any, error) {
		groups := map[string][]any{}
		err := b.each(fr, list, false, func(_ int, item any, _ int) (bool, error) {
			k, err := b.f(fr)
			if err != nil {
				return true, err
			}
			s, ok := k.(string)
			if !ok {
				return true, fmt.Errorf("groupBy needs a string for each item, not %s", kindName(k))
			}
			if err := fr.charge(16); err != nil {
				return true, err
			}
			if _, ok := groups[s]; !ok {
				if err := fr.charge(96); err != nil {
					return true, err
				}
			}
			groups[s] = append(groups[s], item)
			return false, nil
		})
		if err != nil {
			return nil, err
		}
		out := make(map[string]any, len(groups))
		for k, l := range groups {
			out[k] = l
		}
		return out, nil
	}
}

func (c *compiler) sumOf(lv value, b body) value {
	t := c.use(b.node, b.value)
	switch {
	case t.Kind == schema.Null || isNumber(t) || isLoose(t):
	default:
		c.failAt(b.node, "type", "sum takes numbers, not %s", t.Article())
		return broken()
	}
	if t.Kind == schema.Null { // of an empty list
		t = integer
	}
	return value{t: plainType(t), f: func(fr *frame) (any, error) {
		var acc any = 0
		err := b.each(fr, lv.f, false, func(_ int, _ any, _ int) (bool, error) {
			v, err := b.f(fr)
			if err != nil {
				return true, err
			}
			acc, err = add(fr, v, acc)
			return false, err
		})
		if err != nil {
			return nil, err
		}
		return acc, nil
	}}
}

func (c *compiler) sortBy(n *ast.BuiltinNode, x ctx, lv value, lt *schema.Type, b body) value {
	if !c.sortable(b.node, b.t) {
		return broken()
	}
	desc := false
	if len(n.Arguments) > 2 {
		o := c.node(n.Arguments[2], x)
		a := &args{nodes: n.Arguments, vs: []value{{}, {}, o}}
		if !c.direction(a, 2) {
			return broken()
		}
		desc = o.lit == "desc"
	}
	return value{t: lt, f: func(fr *frame) (any, error) {
		type pair struct{ item, key any }
		var pairs []pair
		err := b.each(fr, lv.f, false, func(_ int, item any, _ int) (bool, error) {
			if err := fr.charge(48); err != nil {
				return true, err
			}
			k, err := b.f(fr)
			pairs = append(pairs, pair{item, k})
			return false, err
		})
		if err != nil {
			return nil, err
		}
		var failed error
		slices.SortStableFunc(pairs, func(p, q pair) int {
			return compareFor(fr, p.key, q.key, desc, &failed)
		})
		if failed != nil {
			return nil, failed
		}
		out := make([]any, len(pairs))
		for i, p := range pairs {
			out[i] = p.item
		}
		return out, nil
	}}
}

// compareFor is order for a sort; the first failure is kept and ends comparing.
func compareFor(fr *frame, a, b any, desc bool, failed *error) int {
	if *failed != nil {
		return 0
	}
	if err := fr.tick(2); err != nil {
		*failed = err
		return 0
	}
	r, _, err := order(fr, a, b)
	if err != nil {
		if errors.Is(err, errNoOrder) {
			err = fmt.Errorf("sorting cannot compare %s with %s", kindName(a), kindName(b))
		}
		*failed = err
		return 0
	}
	if desc {
		return -r
	}
	return r
}

// reduce infers twice: what the body makes of the first value may widen the type
// of #acc, which the body then must take.
func (c *compiler) reduce(n *ast.BuiltinNode, x, y ctx, lv value, items *schema.Type, b body) value {
	p, ok := n.Arguments[1].(*ast.PredicateNode)
	if !ok {
		c.failAt(n, "syntax", "reduce takes a list, an expression with #acc, and a first value")
		return broken()
	}
	acc := c.slot()
	defer c.release(1)
	var initial fn
	at := items.Widen()
	if len(n.Arguments) > 2 {
		v := c.node(n.Arguments[2], x)
		if v.t.Kind == schema.Unknown {
			return broken()
		}
		initial, at = v.f, v.t.Widen()
	}
	for range 3 {
		c.mute++
		t := c.node(p.Node, bind(y, "#acc", at, acc)).t
		c.mute--
		if t.Kind == schema.Unknown {
			break
		}
		u, ok := schema.Union(at, t.Widen())
		if !ok || schema.Same(u, at) && u.MayBeNil() == at.MayBeNil() {
			break
		}
		at = u
	}
	v := c.node(p.Node, bind(y, "#acc", at, acc))
	if v.t.Kind == schema.Unknown {
		return broken()
	}
	t := c.oneOf(n, at, v.t.Widen(), "reduce begins with %s and goes on with %s")
	if t.Kind == schema.Unknown {
		return broken()
	}
	t = like(t, personalOnly(items))
	return value{t: t, f: func(fr *frame) (any, error) {
		// The list comes first: while it is made, its loops use the slots that are
		// ours from then on.
		l, err := lv.f(fr)
		if err != nil {
			return nil, err
		}
		made := func(*frame) (any, error) { return l, nil }
		started := initial != nil
		if started {
			first, err := initial(fr)
			if err != nil {
				return nil, err
			}
			fr.locals[acc] = first
		}
		err = b.each(fr, made, false, func(_ int, item any, _ int) (bool, error) {
			if !started {
				started = true
				fr.locals[acc] = item
				return false, nil
			}
			r, err := v.f(fr)
			fr.locals[acc] = r
			return false, err
		})
		switch {
		case err != nil:
			return nil, err
		case !started:
			return nil, errors.New("reduce of an empty list needs a first value")
		}
		return fr.locals[acc], nil
	}}
}
