package language

// lintOrder: a route with order_by may not rest, for its key would wait with it
// (semantics 5.4).
func lintOrder(c *compiler) {
	if c.h.node.Get("order_by") == nil {
		return
	}
	everyStep(c.r.Steps, func(s *Step) {
		switch {
		case s.Word == Wait || s.Word == Delay:
			c.add(c.word(s), "order", "`%s` can't stand in a route with order_by: every later run of the key would wait with it", s.Word)
		case s.Word == Call && rests(s.Route):
			c.add(c.word(s), "order", "route %s rests, and this route has order_by: every later run of the key would wait with it", s.Target)
		}
	})
}
