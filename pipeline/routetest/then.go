package routetest

import (
	"slices"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/yamldoc"
	"github.com/dime-bus/dime/pipeline/language"
)

// expect is what `then` says; a nil part says nothing.
type expect struct {
	node    *yamldoc.Node // of `then`
	status  *int
	say     string
	body    map[string]any // keys beside `status`; nil: nothing said
	called  *counts
	effects *counts
	emitted *emissions
	undone  *undoings
	ended   string
	result  *any
	runs    *int
}

// counts are wanted numbers by name; exact means that nothing else may be there.
type counts struct {
	exact bool
	of    map[string]int
}

// emissions are wanted events.
type emissions struct {
	order []string               // a list: exactly these types, in order
	of    map[string]expectEvent // by type
	none  bool                   // {}: none at all
}

type expectEvent struct {
	count int   // wanted number, -1 if not said
	one   any   // data of at least one
	all   []any // a list: exactly these, in order
	list  bool
}

type undoings struct {
	order []string       // a list: exactly these
	of    map[string]int // a map: at least these names, so often
	list  bool
}

func (e *expect) wantsStatus(s int) bool { return e != nil && e.status != nil && *e.status == s }

// then reads a test's `then`.
func (c *checker) then(test *yamldoc.Node) *expect {
	n := test.Get("then")
	e := &expect{node: n}
	if n.IsNull() || n.Kind == yamldoc.Map && len(n.Pairs) == 0 {
		c.add(orNode(n, test), "syntax", "a test must say what holds: write `then` with reply, called, effects, emitted, undone, ended or result")
		e.node = test
		return e
	}
	if !c.isMap(n, "then") {
		return e
	}
	c.problems = append(c.problems, n.Unknown(wordsOf("then")...)...)
	if r := n.Get("reply"); r != nil {
		c.thenReply(e, r)
	}
	if x := n.Get("called"); x != nil {
		e.called = c.counts(x, "called", c.facts.emits, c.facts.starts)
	}
	if x := n.Get("effects"); x != nil {
		e.effects = c.counts(x, "effects", c.facts.emits, c.facts.starts)
	}
	if x := n.Get("emitted"); x != nil {
		e.emitted = c.emitted(x)
	}
	if x := n.Get("undone"); x != nil {
		e.undone = c.undone(x)
	}
	if x := n.Get("ended"); x != nil {
		c.ended(e, x)
	}
	if x := n.Get("result"); x != nil {
		var typ *schema.Type
		if s := topResult(c.route); s != nil {
			typ = s
		} else if !x.IsNull() {
			c.add(x, "name", "the route has no result: no top-level `set` names `result`")
		}
		r := &reader{}
		v := r.read(x, typ)
		c.problems = append(c.problems, r.problems...)
		c.closed(x, typ, nil)
		e.result = &v
	}
	if x := n.Get("runs"); x != nil {
		e.runs = c.whole(x, "runs")
	}
	return e
}

// topResult is the type of the top-level `set` named result, which the owner of
// a run sees (semantics 4.5).
func topResult(r *language.Route) *schema.Type {
	for _, s := range r.Steps {
		for _, n := range s.Sets {
			if n.Name == "result" && s.Word == language.SetW {
				if n.Value != nil && n.Value.Type != nil {
					return n.Value.Type
				}
				return &schema.Type{}
			}
		}
	}
	return nil
}

func (c *checker) whole(n *yamldoc.Node, word string) *int {
	if n.Kind == yamldoc.Scalar {
		v, _ := n.Value(yamldoc.WantInt)
		if i, ok := v.(int); ok && i >= 0 {
			return &i
		}
	}
	c.add(n, "type", "`%s` must be a whole number, 0 or more", word)
	return nil
}

func (c *checker) status(n *yamldoc.Node) *int {
	if n.Kind == yamldoc.Scalar {
		v, _ := n.Value(yamldoc.WantInt)
		if i, ok := v.(int); ok && i >= 200 && i <= 599 {
			return &i
		}
	}
	c.add(n, "type", "`status` must be an HTTP status, 200 to 599")
	return nil
}

// counts reads numbers by name. A name of the city that the route can never
// bring about may only be wanted 0 times.
func (c *checker) counts(n *yamldoc.Node, word string, more ...map[string]bool) *counts {
	if !c.isMap(n, word) {
		if n.IsNull() {
			c.add(n, "type", "`%s` must be a map of numbers; {} means none", word)
		}
		return nil
	}
	known := sortedKeys(c.facts.asked)
	for _, m := range more {
		known = append(known, sortedKeys(m)...)
	}
	k := &counts{exact: len(n.Pairs) == 0, of: map[string]int{}}
	for _, p := range n.Pairs {
		name := p.Key.Text
		num := c.whole(p.Value, word)
		possible := slices.Contains(known, name)
		exists := possible || operation(c.city, name) != nil || c.city.Events[name] != nil || c.isRoute(name)
		switch {
		case !exists:
			c.unknown(p.Key, known)
		case !possible && num != nil && *num > 0:
			c.add(p.Key, "name", "the route can never bring about %s%s", name, suggestion(name, known))
		}
		if num != nil {
			k.of[name] = *num
		}
		if op := c.facts.asked[name]; word == "effects" && op != nil && op.Effect == connectors.Safe && num != nil {
			c.add(p.Key, "name", "%s is safe and has no effects: count it under `called`", name)
		}
	}
	return k
}

func (c *checker) isRoute(name string) bool {
	return len(name) > len(routeWord) && name[:len(routeWord)] == routeWord && c.city.Routes[name[len(routeWord):]] != nil
}

// event checks the name of an event that a run may publish.
func (c *checker) event(key *yamldoc.Node) {
	name := key.Text
	switch {
	case c.facts.emits[name], slices.Contains(engineEvents[:], name):
	case c.city.Events[name] != nil:
		c.add(key, "name", "the route never emits %s%s", name, suggestion(name, sortedKeys(c.facts.emits)))
	default:
		known := append(sortedKeys(c.facts.emits), sortedKeys(c.city.Events)...)
		c.add(key, "name", "there is no event %q%s", name, suggestion(name, known))
	}
}

func (c *checker) emitted(n *yamldoc.Node) *emissions {
	e := &emissions{of: map[string]expectEvent{}}
	switch {
	case n.Kind == yamldoc.List:
		e.order = []string{}
		for _, it := range n.Items {
			c.event(it)
			e.order = append(e.order, it.Text)
		}
		return e
	case !c.isMap(n, "emitted"):
		return nil
	}
	e.none = len(n.Pairs) == 0
	for _, p := range n.Pairs {
		c.event(p.Key)
		var typ *schema.Type
		if t := c.city.Events[p.Key.Text]; t != nil {
			typ = t.Schema.Type()
		}
		r := &reader{}
		x := expectEvent{count: -1}
		switch v := p.Value; {
		case v.Kind == yamldoc.List:
			x.list = true
			for _, it := range v.Items {
				x.all = append(x.all, r.read(it, typ))
				c.closed(it, typ, nil)
			}
		case v.Kind == yamldoc.Map:
			x.one = r.read(v, typ)
			c.closed(v, typ, nil)
		case v.Kind == yamldoc.Scalar:
			if i := c.whole(v, p.Key.Text); i != nil {
				x.count = *i
			}
		}
		c.problems = append(c.problems, r.problems...)
		e.of[p.Key.Text] = x
	}
	return e
}

func (c *checker) undone(n *yamldoc.Node) *undoings {
	u := &undoings{of: map[string]int{}}
	name := func(key *yamldoc.Node) {
		if !c.facts.undone[key.Text] {
			if operation(c.city, key.Text) != nil || c.city.Events[key.Text] != nil {
				c.add(key, "name", "no `undo` of the route is %s%s", key.Text, suggestion(key.Text, sortedKeys(c.facts.undone)))
				return
			}
			c.unknown(key, sortedKeys(c.facts.undone))
		}
	}
	switch {
	case n.Kind == yamldoc.List:
		u.list, u.order = true, []string{}
		for _, it := range n.Items {
			name(it)
			u.order = append(u.order, it.Text)
		}
	case c.isMap(n, "undone"):
		u.list = len(n.Pairs) == 0 // {} is exact: nothing was undone
		for _, p := range n.Pairs {
			name(p.Key)
			if i := c.whole(p.Value, p.Key.Text); i != nil {
				u.of[p.Key.Text] = *i
			}
		}
	default:
		return nil
	}
	return u
}

var endWords = [...]string{"done", "cancelled", "failed", "parked", "waiting"}

func (c *checker) ended(e *expect, n *yamldoc.Node) {
	e.ended = n.Text
	known := append(slices.Clone(endWords[:]), sortedKeys(c.facts.ends)...)
	if n.Kind != yamldoc.Scalar || !slices.Contains(known, n.Text) {
		c.add(n, "name", "a run of this route never ends %q%s", n.Text, suggestion(n.Text, known))
	}
}
