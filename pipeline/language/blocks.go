package language

import (
	"github.com/dime-bus/dime/internal/expression"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/yamldoc"
)

// switchStep: the first case that holds runs its steps; `else` is required, or none.
func (c *compiler) switchStep(n, head *yamldoc.Node, s *Step, sc *expression.Scope, b *block) {
	if head.Kind != yamldoc.List || len(head.Items) == 0 {
		c.add(head, "type", "`switch` is a list of {case: CONDITION, steps: [...]}, not %s", head.What())
		return
	}
	var inner []*block
	rest := sc // what the next case sees: the ones before it were false
	always := false
	for _, it := range head.Items {
		if it.Kind != yamldoc.Map {
			c.add(it, "type", "a case is a map: {case: CONDITION, steps: [...]}")
			continue
		}
		c.problems = append(c.problems, it.Unknown("case", "steps")...)
		if always {
			c.add(it, "unreachable", "this case is never reached: the one before it always holds")
		}
		cs := Case{}
		cond := it.Get("case")
		if cond == nil {
			c.add(it, "field", "`case` is missing")
		} else {
			cs.If = c.cond(cond, "case", rest)
		}
		always = always || constant(cs.If, true)
		if list := c.list(it.Get("steps"), "a case", it); list != nil {
			ib := newBlock(b, narrowed(rest, cs.If))
			cs.Steps = c.block(list, ib)
			inner = append(inner, ib)
		}
		if cs.If != nil {
			rest = rest.Narrow(cs.If.FalseFacts())
		}
		s.Cases = append(s.Cases, cs)
	}
	switch e := n.Get("else"); {
	case e == nil:
		c.add(n.Key("switch"), "else", "`else` is missing: give steps for when no case holds, or else: none")
	case e.Kind == yamldoc.Scalar && e.Text == "none":
		inner = append(inner, newBlock(b, rest))
	case e.Kind == yamldoc.List && len(e.Items) > 0:
		ib := newBlock(b, rest)
		s.Otherwise = c.block(e, ib)
		inner = append(inner, ib)
	case e.Kind == yamldoc.Map && e.Get("steps") != nil:
		c.add(e, "else", "`else` of a switch is a list of steps or none: leave `steps` out")
	default:
		c.add(e, "else", "`else` of a switch is a list of steps or none, not %s", e.What())
	}
	c.merge(inner, b, s.If != nil)
}

// merge makes the names that the continuing cases set visible after the switch:
// set by all with one type as it is, by some as optional (semantics 2.4).
func (c *compiler) merge(inner []*block, b *block, conditional bool) {
	var open []*block
	for _, ib := range inner {
		if !ib.ended {
			open = append(open, ib)
		}
	}
	if len(open) == 0 && len(inner) > 0 && !conditional {
		b.ended = true
		return
	}
	seen := map[string]bool{}
	for _, ib := range open {
		for _, name := range ib.order {
			if seen[name] {
				continue
			}
			seen[name] = true
			where := ib.at[name]
			var t *schema.Type
			all := !conditional
			for _, jb := range open {
				jt := jb.names[name]
				switch {
				case jt == nil:
					all = false
				case t == nil:
					t = jb.scope.Lookup(name)
				case t.Kind == schema.Unknown, jt.Kind == schema.Unknown: // reported where it is set
				case !schema.Same(t, jt):
					c.add(jb.at[name], "name", "%q is %s here and %s in a case before: a name has one type, use two names", name, jt, t)
				case jt.MayBeNil():
					all = false
				}
			}
			if !all {
				t = t.AsOptional()
			}
			b.set(name, t, where)
		}
	}
}

// need reads `need`: all (default), any or a number.
func (c *compiler) need(n *yamldoc.Node) int {
	switch {
	case n == nil || n.Kind == yamldoc.Scalar && n.Text == "all":
		return 0
	case n.Kind == yamldoc.Scalar && n.Text == "any":
		return -1
	}
	if v, _ := n.Value(yamldoc.WantInt); v != nil {
		if i, ok := v.(int); ok && i > 0 {
			return i
		}
	}
	c.add(n, "type", "`need` is all, any or a number from 1")
	return 0
}

func (c *compiler) eachStep(n, head *yamldoc.Node, s *Step, sc *expression.Scope, b *block) {
	item := anyType
	if head.Kind == yamldoc.Map {
		c.add(n.Key("each"), "later", "the streamed `each` is not yet available: give a list, each: =LIST")
	} else if s.List = c.only(head, "each", sc, expression.Options{}); s.List != nil {
		switch t := s.List.Type; {
		case t.Kind != schema.Array && t.Kind != schema.Any:
			c.add(head, "type", "`each` must be a list, not %s", t)
		case t.MayBeNil():
			c.add(head, "nil", "the list of `each` may be nil: give a default, =%s ?? []", s.List.Source)
		case t.Items != nil:
			item = t.Items
		}
	}
	s.Parallel = max(1, c.number(n, "parallel", 1, 100))
	s.Need = c.need(n.Get("need"))
	ib := newBlock(b, sc)
	ib.each = true
	s.Item = c.inner(n, "item", "item", ib, item)
	if n.Get("index") != nil {
		s.Index = c.inner(n, "index", "", ib, intType)
	}
	list := c.list(n.Get("steps"), "each", n.Key("each"))
	if list == nil {
		return
	}
	s.Steps = c.block(list, ib)
	t := resultOf(s.Steps)
	if t == nil && n.Get("as") != nil {
		c.add(list.Items[len(list.Items)-1], "result", "the last step gives an item's value, so it must be a `set` or carry `as`")
	}
	if t == nil {
		t = nullType
	}
	if s.Need != 0 {
		t = t.AsOptional()
	}
	s.Type = schema.ListOf(t.Widen())
}

// inner gives a block a name of its own, such as the item of an each.
func (c *compiler) inner(n *yamldoc.Node, field, def string, ib *block, t *schema.Type) string {
	f := n.Get(field)
	if f == nil {
		// An inner each may not shadow the outer one's item.
		at := *n
		at.Text = def
		at.Kind = yamldoc.Scalar
		if ib.scope.Lookup(def) != nil {
			c.add(n.Key("each"), "name", "%q is set already: name this one with item: NAME", def)
			return def
		}
		ib.scope = ib.scope.With(def, t)
		return def
	}
	name, ok := c.name(f, ib)
	if ok {
		ib.scope = ib.scope.With(name, t)
	}
	return name
}

func (c *compiler) allStep(n, head *yamldoc.Node, s *Step, sc *expression.Scope, b *block) {
	if head.Kind != yamldoc.Map {
		c.add(head, "type", "`all` is {need: 2, steps: {NAME: [...], ...}}, not %s", head.What())
		return
	}
	c.problems = append(c.problems, head.Unknown("need", "steps")...)
	s.Need = c.need(head.Get("need"))
	branches := head.Get("steps")
	if branches == nil || branches.Kind != yamldoc.Map || len(branches.Pairs) == 0 {
		at := head
		if branches != nil {
			at = branches
		}
		c.add(at, "type", "`all` has branches by name: steps: {NAME: [...], ...}")
		return
	}
	if s.Need > len(branches.Pairs) {
		c.add(head.Get("need"), "limits", "`need` is %d, and there are %d branches", s.Need, len(branches.Pairs))
	}
	types := map[string]*schema.Type{}
	var names []string
	for _, p := range branches.Pairs {
		if !identifier.MatchString(p.Key.Text) {
			c.add(p.Key, "name", "a branch's name is made of letters, digits and _")
		}
		list := c.list(p.Value, "a branch", p.Key)
		if list == nil {
			continue
		}
		ib := newBlock(b, sc)
		br := Branch{Name: p.Key.Text, Steps: c.block(list, ib)}
		s.Branches = append(s.Branches, br)
		t := resultOf(br.Steps)
		if t == nil && n.Get("as") != nil {
			c.add(list.Items[len(list.Items)-1], "result", "the last step gives the branch's value, so it must be a `set` or carry `as`")
		}
		if t == nil {
			t = nullType
		}
		if s.Need != 0 {
			t = t.AsOptional()
		}
		types[p.Key.Text] = t.Widen()
		names = append(names, p.Key.Text)
	}
	s.Type = schema.ObjectOf(names, types)
}

func elseWhere(w Word) string {
	return "`else` belongs to check, wait and switch; `" + string(w) + "` maps its faults under `errors`" + map[bool]string{true: "", false: " of a call"}[w == Call]
}
