package language

import (
	"slices"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/schema"
)

// everyStep calls f for every step, a block before what is in it.
func everyStep(steps []*Step, f func(*Step)) {
	for _, s := range steps {
		f(s)
		for _, inner := range nested(s) {
			everyStep(inner, f)
		}
	}
}

// nested returns the lists of steps inside a block, in file order.
func nested(s *Step) [][]*Step {
	var out [][]*Step
	for _, c := range s.Cases {
		out = append(out, c.Steps)
	}
	if s.Otherwise != nil {
		out = append(out, s.Otherwise)
	}
	if s.Steps != nil {
		out = append(out, s.Steps)
	}
	for _, b := range s.Branches {
		out = append(out, b.Steps)
	}
	return out
}

// facts finds what the engine asks of a route as a whole.
func (c *compiler) facts() {
	r := c.r
	safe := r.OrderBy == nil
	emits, others := 0, 0
	calls, routes := map[string]bool{}, map[string]bool{}
	waits := map[WaitShape]bool{}
	everyStep(r.Steps, func(s *Step) {
		switch s.Word {
		case Call:
			switch {
			case s.Operation != nil:
				calls[s.Target] = true
				if s.Operation.Effect != connectors.Safe {
					safe, others = false, others+1
				}
			default:
				routes[s.Target] = true
				if s.Route != nil && !s.Route.Safe {
					safe, others = false, others+1
				}
			}
		case Start:
			routes[s.Target] = true
			safe, others = false, others+1
		case Emit:
			safe, emits = false, emits+1
		case Wait:
			safe, others = false, others+1
			if s.Shape != "" {
				waits[WaitShape{s.EventType, s.Shape}] = true
			}
		case Delay:
			safe, others = false, others+1
		}
		if s.Undo != nil && s.Undo.Operation != nil {
			calls[s.Undo.Target] = true
		}
		if parks(s) { // what rests until a person looks must be kept (semantics 4.3)
			safe = false
		}
	})
	delete(routes, "")
	r.Safe = safe
	bus := slices.ContainsFunc(r.From, func(t Trigger) bool { return t.Kind == Event || t.Kind == Queue })
	r.Pipe = bus && emits > 0 && others == 0 && r.OrderBy == nil
	r.Calls, r.Routes = sortedKeys(calls), sortedKeys(routes)
	for w := range waits {
		r.Waits = append(r.Waits, w)
	}
	slices.SortFunc(r.Waits, func(a, b WaitShape) int {
		if a.Type != b.Type {
			return compare(a.Type, b.Type)
		}
		return compare(a.Shape, b.Shape)
	})
	r.Result = c.result()
}

func parks(s *Step) bool {
	if s.Else != nil && s.Else.End == Park {
		return true
	}
	for _, o := range s.Errors {
		if o.End == Park {
			return true
		}
	}
	return false
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// result is the type of what the route answers: of its replies below 400, else
// of its top-level `set` named result (semantics 4.5).
func (c *compiler) result() *schema.Type {
	var t *schema.Type
	replied := false
	everyStep(c.r.Steps, func(s *Step) {
		if s.Word != ReplyW || s.Status >= 400 {
			return
		}
		st := s.Type
		if st == nil {
			st = nullType
		}
		if !replied {
			t, replied = st, true
			return
		}
		u, ok := schema.Union(t, st)
		if !ok {
			u = anyType
		}
		t = u
	})
	if replied {
		if c.flow(c.r.Steps, no, repliesAt) != yes {
			t = t.AsOptional()
		}
		return t
	}
	if v, _ := c.resultSet(); v != nil {
		return v.Type.Widen()
	}
	return nil
}

// resultSet is the top-level `set` named result and its step.
func (c *compiler) resultSet() (*Value, *Step) {
	for _, s := range c.r.Steps {
		for _, n := range s.Sets {
			if n.Name == "result" {
				return n.Value, s
			}
		}
	}
	return nil, nil
}
