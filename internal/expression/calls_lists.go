package expression

import (
	"slices"
	"strings"

	"github.com/expr-lang/expr/ast"

	"github.com/dime-bus/dime/internal/schema"
)

// rank gives every item its place: 1 for the first, the same for equals, and the
// next place behind n equals is n further.
func (c *compiler) rank(a *args, at int) (*schema.Type, runner) {
	const usage = `rank(list, ["-points", "asked_at"]), where - is descending`
	if !c.parameters(a, at, "lv", usage) {
		return nil, nil
	}
	list, ok := a.vs[1].lit.([]any)
	if !a.vs[1].isLit || !ok || len(list) == 0 {
		c.failAt(a.nodes[1], "type", "the keys must be a written list of property names: %s", usage)
		return nil, nil
	}
	items := a.ts[0].Items
	if items == nil {
		items = open
	}
	if items.Kind != schema.Object && items.Kind != schema.Any {
		c.failAt(a.nodes[0], "type", "rank takes a list of objects, not %s", a.ts[0].Article())
		return nil, nil
	}
	var by []rankKey
	for _, k := range list {
		s, ok := k.(string)
		if !ok || s == "" || s == "-" {
			c.failAt(a.nodes[1], "type", "the keys must be property names: %s", usage)
			return nil, nil
		}
		name, desc := strings.CutPrefix(s, "-")
		by = append(by, rankKey{name, desc})
		if items.Kind == schema.Object {
			if f, ok := items.Fields[name]; !ok && !items.Open {
				c.failAt(a.nodes[1], "name", "the items have no %q%s", name, schema.DidYouMean(name, fieldNames(items)))
				return nil, nil
			} else if ok && (f.Type.Kind == schema.Object || f.Type.Kind == schema.Array || f.Type.Kind == schema.Bool) {
				c.failAt(a.nodes[1], "type", "%q is %s, which has no order", name, f.Type.Article())
				return nil, nil
			}
		}
	}
	if items.Kind == schema.Object {
		t := *items
		t.Fields = make(map[string]*schema.Field, len(items.Fields)+1)
		for n, f := range items.Fields {
			t.Fields[n] = f
		}
		t.Order = append(slices.Clone(items.Order), "rank")
		t.Fields["rank"] = &schema.Field{Type: integer, Required: true}
		t.Title = ""
		items = &t
	}
	return schema.ListOf(items), ranking(by)
}

// listFunction covers the functions that give back items of their argument.
func (c *compiler) listFunction(a *args, at int) (*schema.Type, runner) {
	itemsOf := func(t *schema.Type) *schema.Type {
		if t.Kind != schema.Array || t.Items == nil {
			return open
		}
		if t.Personal {
			return like(t.Items, t)
		}
		return t.Items
	}
	switch a.name {
	case "first", "last":
		if !c.parameters(a, at, "l", a.name+"(list)") {
			return nil, nil
		}
		return itemsOf(a.ts[0]).AsOptional(), end(a.name == "last")
	case "take":
		if !c.parameters(a, at, "li", "take(list, count)") {
			return nil, nil
		}
		return a.ts[0], take
	case "reverse", "uniq":
		if !c.parameters(a, at, "l", a.name+"(list)") {
			return nil, nil
		}
		if a.name == "uniq" {
			return a.ts[0], uniq
		}
		return a.ts[0], reverse
	case "concat":
		if len(a.ts) == 0 {
			c.fail(at, "type", "concat takes lists")
			return nil, nil
		}
		t := a.ts[0]
		for i, l := range a.ts {
			if l.Kind != schema.Array && l.Kind != schema.Any {
				c.failAt(a.nodes[i], "type", "concat takes lists, not %s", l.Article())
				return nil, nil
			}
			if t = c.oneOf(a.nodes[i], t, l, "the lists are %s and %s"); t.Kind == schema.Unknown {
				return nil, nil
			}
		}
		return t, concat
	case "flatten":
		if !c.parameters(a, at, "l", "flatten(list of lists)") {
			return nil, nil
		}
		t := a.ts[0]
		for i := 0; t.Kind == schema.Array && t.Items != nil && t.Items.Kind == schema.Array && i < MaxNested; i++ {
			t = t.Items
		}
		return t, flatten
	case "sort":
		if !c.parameters(a, at, "l?s", `sort(list, "desc")`) {
			return nil, nil
		}
		if !c.sortable(a.nodes[0], itemsOf(a.ts[0])) || !c.direction(a, 1) {
			return nil, nil
		}
		return a.ts[0], sorted
	case "join":
		if !c.parameters(a, at, "l?s", "join(list of strings, separator)") {
			return nil, nil
		}
		if it := itemsOf(a.ts[0]); it.MayBeNil() && it.Kind != schema.Null || it.Kind != schema.String && !isLoose(it) && it.Kind != schema.Null {
			c.failAt(a.nodes[0], "type", "join takes a list of strings, not a %s", schema.ListOf(it).String())
			return nil, nil
		}
		return text, join
	case "values":
		if !c.parameters(a, at, "o", "values(object)") {
			return nil, nil
		}
		t := a.ts[0]
		items := t.Extra
		if t.Open && t.Extra == nil || t.Kind == schema.Any {
			return schema.ListOf(open), values
		}
		for _, n := range fieldNames(t) {
			if items == nil {
				items = t.Fields[n].Type
				continue
			}
			if items = c.oneOf(a.nodes[0], items, t.Fields[n].Type, "the values are %s and %s"); items.Kind == schema.Unknown {
				return nil, nil
			}
		}
		if items == nil {
			items = nothing
		}
		return schema.ListOf(like(items, &schema.Type{Personal: t.Personal})), values
	}
	c.fail(at, "name", "there is no function %s()", a.name)
	return nil, nil
}

func (c *compiler) sortable(n ast.Node, t *schema.Type) bool {
	switch {
	case t.Kind == schema.Null && !t.Nullable || isLoose(t):
		return true
	case t.MayBeNil():
		c.failAt(n, "nil", "nil has no place in an order: filter it out first, or give a default with ??")
		return false
	}
	switch t.Kind {
	case schema.Int, schema.Number, schema.String, schema.Time:
		return true
	}
	c.failAt(n, "type", "%s has no order", t.Article())
	return false
}

// direction checks the "asc" or "desc" of a sort.
func (c *compiler) direction(a *args, i int) bool {
	if i >= len(a.vs) {
		return true
	}
	if s, ok := a.vs[i].lit.(string); !ok || s != "asc" && s != "desc" {
		c.failAt(a.nodes[i], "type", `the order is "asc" or "desc"`)
		return false
	}
	return true
}
