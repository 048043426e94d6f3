package language

// lintResult: a route without a reply answers with its top-level `set` named
// result, which must always be set and fit `resp` (semantics 4.5).
func lintResult(c *compiler) {
	if c.replies() {
		return
	}
	v, s := c.resultSet()
	switch {
	case v == nil && c.r.Resp != nil && c.hasHTTP():
		c.add(c.h.node.Get("resp"), "result", "`resp` promises an answer, and the route has neither a `reply` nor a top-level set named result")
	case v != nil && s.If != nil && c.hasHTTP():
		c.add(c.field(s, "if"), "result", "result is the route's answer and must always be set: remove this `if`, and choose inside the value")
	}
}

func (c *compiler) hasHTTP() bool {
	for _, t := range c.r.From {
		if t.Kind == HTTP || t.Kind == Called {
			return true
		}
	}
	return false
}
