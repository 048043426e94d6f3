package language

// lintReply: one reply on every path, none inside each or all, and an HTTP route
// answers before it rests (semantics 4.4).
func lintReply(c *compiler) {
	http := false
	for _, t := range c.r.From {
		http = http || t.Kind == HTTP
	}
	c.flow(c.r.Steps, no, func(s *Step, before tri) tri {
		switch s.Word {
		case ReplyW:
			switch before {
			case yes:
				c.add(c.word(s), "reply", "this reply is never sent: the caller has been answered before it")
			case maybe:
				c.add(c.word(s), "reply", "the caller may have been answered before this reply: answer once on every path, with a switch")
			}
		case Wait, Delay:
			if http && before != yes {
				c.add(c.word(s), "reply", "`%s` rests while the caller waits for an answer: reply before it", s.Word)
			}
		case Call:
			if http && before != yes && rests(s.Route) {
				c.add(c.word(s), "reply", "route %s rests while the caller waits for an answer: reply before it", s.Target)
			}
		}
		outcomes(s, func(o *Outcome) {
			if o.End == ReplyEnd && before != no {
				c.at(o.Pos, "reply", "the caller has been answered, or may have been, before this `reply`: use cancel, end, fail or park")
			}
		})
		return repliesAt(s, before)
	})
	everyStep(c.r.Steps, func(s *Step) {
		if s.Word != Each && s.Word != AllW {
			return
		}
		for _, inner := range nested(s) {
			everyStep(inner, func(i *Step) {
				if i.Word == ReplyW {
					c.add(c.word(i), "reply", "`reply` can't stand inside `%s`, which may run it more than once: reply behind it", s.Word)
				}
			})
		}
	})
}

// rests says whether a run of the route may wait for an event or for time.
func rests(r *Route) bool {
	if r == nil {
		return false
	}
	found := false
	everyStep(r.Steps, func(s *Step) {
		found = found || s.Word == Wait || s.Word == Delay || rests(s.Route)
	})
	return found
}
