package routetest

import (
	"slices"
	"strings"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/pipeline/language"
	"github.com/dime-bus/dime/pipeline/run"
	"github.com/dime-bus/dime/pipeline/step"
)

// reached gathers the steps and outcomes of a route that a case's runs came to.
type reached struct {
	steps    map[string]bool // by static path
	outcomes map[string]bool // "path: errors not_found", "path: else"
}

func newReached() *reached { return &reached{map[string]bool{}, map[string]bool{}} }

const (
	elseWord   = "else"
	errorsWord = "errors "
)

func outcomeName(path, word string) string { return path + ": " + word }

// add reads what the timelines of the variant's runs tell.
func (r *reached) add(st *stage, o *observed) {
	byPath := map[string]*language.Step{}
	walk(st.route.Steps, "", func(s *language.Step, path string) { byPath[path] = s })
	for _, d := range o.runs {
		for _, l := range d.Lines {
			path := step.Plain(l.Step)
			if path == "" && l.Kind == string(store.End) {
				path = endedBy(byPath, d.Reason) // a run that was never durable does not say where it ended
			}
			s := byPath[path]
			if s == nil {
				continue
			}
			r.steps[path] = true
			// A step inside a block was reached through the block.
			for i := strings.LastIndexByte(path, '/'); i > 0; i = strings.LastIndexByte(path[:i], '/') {
				if byPath[path[:i]] != nil {
					r.steps[path[:i]] = true
				}
			}
			if s.Else != nil && elsewhere(s, l) {
				r.outcomes[outcomeName(path, elseWord)] = true
			}
			if l.Fault == "" {
				continue
			}
			for _, w := range strings.FieldsFunc(l.Fault, func(c rune) bool { return c == ' ' || c == '(' || c == ')' || c == ':' }) {
				if s.Errors[w] != nil {
					r.outcomes[outcomeName(path, errorsWord+w)] = true
					break
				}
			}
		}
	}
}

// endedBy is the check whose `else` gives that reason, "" if none or several do.
func endedBy(byPath map[string]*language.Step, reason string) (path string) {
	for p, s := range byPath {
		if o := s.Else; reason != "" && s.Word == language.Check && o != nil && (o.Reason == reason || o.Say == reason) {
			if path != "" {
				return ""
			}
			path = p
		}
	}
	return path
}

// elsewhere says whether a line of the timeline tells that a check did not hold
// or a wait's time was over.
func elsewhere(s *language.Step, l run.Line) bool {
	switch l.Kind {
	case string(store.Expired), string(store.End):
		return true
	case string(store.Result):
		return s.Word == language.Check && (l.Out != nil || s.If == nil && l.Note == "skipped")
	}
	return false
}

// coverage adds up over a route's cases.
type coverage struct {
	routes map[string]*language.Route
	seen   map[string]*reached
}

func newCoverage() *coverage {
	return &coverage{map[string]*language.Route{}, map[string]*reached{}}
}

func (c *coverage) add(r *language.Route, seen *reached) {
	c.routes[r.Name] = r
	all := c.seen[r.Name]
	if all == nil {
		all = newReached()
		c.seen[r.Name] = all
	}
	for p := range seen.steps {
		all.steps[p] = true
	}
	for p := range seen.outcomes {
		all.outcomes[p] = true
	}
}

func (c *coverage) report() []*Coverage {
	var out []*Coverage
	for _, name := range sortedKeys(c.routes) {
		r := c.routes[name]
		cov := &Coverage{Route: name, File: r.File}
		counted := map[string]bool{}
		count := func(what string, line, column int, hit bool) {
			if counted[what] {
				return
			}
			counted[what] = true
			cov.Total++
			if hit {
				cov.Reached++
				return
			}
			cov.Missed = append(cov.Missed, Missed{what, line, column})
		}
		own(r.Steps, "", func(s *language.Step, path string) {
			count(path, s.Pos.Line, s.Pos.Column, c.seen[name].steps[path])
			if s.Else != nil {
				n := outcomeName(path, elseWord)
				count(n, s.Else.Pos.Line, s.Else.Pos.Column, c.seen[name].outcomes[n])
			}
			for _, f := range sortedKeys(s.Errors) {
				n := outcomeName(path, errorsWord+f)
				count(n, s.Errors[f].Pos.Line, s.Errors[f].Pos.Column, c.seen[name].outcomes[n])
			}
		})
		slices.SortStableFunc(cov.Missed, func(a, b Missed) int { return a.Line - b.Line })
		out = append(out, cov)
	}
	return out
}

// own walks a route's own steps; those of called routes are their tests' affair.
func own(steps []*language.Step, prefix string, visit func(*language.Step, string)) {
	walk(steps, prefix, func(s *language.Step, path string) {
		for i := strings.IndexByte(path, '/'); i > 0; {
			if calls(steps, prefix, path[:i]) {
				return
			}
			j := strings.IndexByte(path[i+1:], '/')
			if j < 0 {
				break
			}
			i += 1 + j
		}
		visit(s, path)
	})
}

// calls says whether the step at path calls a route.
func calls(steps []*language.Step, prefix, path string) bool {
	found := false
	walk(steps, prefix, func(s *language.Step, p string) { found = found || p == path && s.Route != nil })
	return found
}
