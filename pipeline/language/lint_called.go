package language

const maxCalls = 8

// lintCalled: a called route runs inside its caller's run, so it has no order of
// its own, and calls are at most 8 deep (semantics 5.10). Circles are found while
// compiling.
func lintCalled(c *compiler) {
	everyStep(c.r.Steps, func(s *Step) {
		if s.Word != Call || s.Route == nil {
			return
		}
		if s.Route.OrderBy != nil {
			c.add(c.word(s), "called", "route %s has order_by and can't be called: start it instead", s.Target)
		}
		if d := callDepth(s.Route) + 1; d > maxCalls {
			c.add(c.word(s), "called", "routes call each other %d deep here; %d is the bound", d, maxCalls)
		}
	})
}

func callDepth(r *Route) int {
	deepest := 0
	everyStep(r.Steps, func(s *Step) {
		if s.Route != nil {
			deepest = max(deepest, callDepth(s.Route)+1)
		}
	})
	return deepest
}
