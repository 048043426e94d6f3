package language

import (
	"fmt"

	"github.com/dime-bus/dime/internal/yamldoc"
)

// Rule is one thing that lint looks at; Problem.Rule carries its name.
type Rule struct {
	Name  string
	About string
	check func(c *compiler) // nil: found while the file is compiled
}

// Rules is the table of all rules, for `dime lint` and the documentation.
func Rules() []Rule {
	return []Rule{
		{"yaml", "YAML that can't be read, or that YAML understands otherwise than its author", nil},
		{"bounds", "files and expressions have bounds of size, depth and time", nil},
		{"file", "files that can't be read or are named wrongly", nil},
		{"field", "unknown fields, and required ones that are missing", nil},
		{"required", "properties that a schema requires and `with` does not give", nil},
		{"unknown", "properties that a closed object does not have", nil},
		{"type", "values and expressions of another type than their place wants", nil},
		{"nil", "reading what may be absent without ?., ?? or a check", nil},
		{"enum", "words that an enumeration does not have", nil},
		{"bool", "conditions that are not true or false", nil},
		{"syntax", "expressions that can't be read", nil},
		{"cents", "floating arithmetic on money", nil},
		{"name", "names that are reserved, set twice, shadowed, or not known", nil},
		{"step", "unknown steps", nil},
		{"later", "words of the language that are not yet available", nil},
		{"operation", "unknown connectors and operations", nil},
		{"route", "unknown routes, and two of one name", nil},
		{"event", "unknown event types", nil},
		{"schema", "unknown and broken schemas", nil},
		{"purpose", "unknown purposes, and purposes without text or legal basis", nil},
		{"message", "sentences that do not exist, or not in all four languages", nil},
		{"with", "arguments for what takes none", nil},
		{"where", "a wait's condition without a key that depends on the run", nil},
		{"else", "`else` where it has no meaning, missing, or no outcome", nil},
		{"limits", "500 steps, 8 blocks deep, sensible bounds", nil},
		{"http", "paths that are reserved, not plain, or taken by another route", nil},
		{"queue", "brokers that are not configured, and queues that bring what `req` does not take", nil},
		{"undo", "effects without `undo`, and undos that can't be relied on", lintUndo},
		{"commit", "`cancel` and `fail` behind a commit", lintCommit},
		{"reply", "a second reply, one inside each or all, a rest before the reply", lintReply},
		{"unreachable", "steps that are never reached", nil},
		{"retry", "retrying what may not be repeated, and loosened policies", lintRetry},
		{"errors", "faults that the operation does not have", lintErrors},
		{"personal", "personal data without subject and purpose", lintPersonal},
		{"order", "what may not rest under order_by", lintOrder},
		{"called", "what a called route may not be", lintCalled},
		{"result", "the value of an answer, an item or a branch", lintResult},
	}
}

func (c *compiler) lint() {
	for _, r := range Rules() {
		if r.check != nil {
			r.check(c)
		}
	}
}

// field returns the node of a step's field, or the step's own where it has none.
func (c *compiler) field(s *Step, name string) *yamldoc.Node {
	n := c.nodes[s]
	if n == nil {
		return &yamldoc.Node{Pos: s.Pos}
	}
	if f := n.Get(name); f != nil {
		return f
	}
	return n
}

// word returns the node of the step's kind: what a reader would point at.
func (c *compiler) word(s *Step) *yamldoc.Node { return c.field(s, string(s.Word)) }

func (c *compiler) at(p yamldoc.Pos, rule, format string, args ...any) {
	c.problems = append(c.problems, yamldoc.Problem{Pos: p, Rule: rule, Message: fmt.Sprintf(format, args...)})
}

// outcomes calls f for each outcome of a step.
func outcomes(s *Step, f func(*Outcome)) {
	if s.Else != nil {
		f(s.Else)
	}
	for _, k := range sortedKeys(s.Errors) {
		f(s.Errors[k])
	}
}

// tri is what is known of a fact at a place of the route.
type tri uint8

const (
	no tri = iota
	maybe
	yes
)

func meet(a, b tri) tri {
	if a == b {
		return a
	}
	return maybe
}

// flow follows all paths through steps. f is told each step with the fact before
// it, and says the fact behind it where the step runs; blocks are followed inside.
func (c *compiler) flow(steps []*Step, st tri, f func(s *Step, before tri) tri) tri {
	for _, s := range steps {
		after := f(s, st)
		switch s.Word {
		case Switch:
			after = c.flowSwitch(s, st, f)
		case Each:
			after = meet(st, c.flow(s.Steps, st, f))
		case AllW:
			for _, b := range s.Branches {
				if x := c.flow(b.Steps, st, f); s.Need == 0 {
					after = max(after, x)
				} else {
					after = max(after, meet(st, x))
				}
			}
		}
		if s.If != nil {
			after = meet(st, after)
		}
		st = after
	}
	return st
}

func (c *compiler) flowSwitch(s *Step, st tri, f func(*Step, tri) tri) tri {
	var out []tri
	for _, cs := range s.Cases {
		if x := c.flow(cs.Steps, st, f); !ends(cs.Steps) {
			out = append(out, x)
		}
	}
	switch {
	case s.Otherwise == nil:
		out = append(out, st)
	default:
		if x := c.flow(s.Otherwise, st, f); !ends(s.Otherwise) {
			out = append(out, x)
		}
	}
	if len(out) == 0 {
		return st
	}
	after := out[0]
	for _, x := range out[1:] {
		after = meet(after, x)
	}
	return after
}

// ends says whether a list of steps surely ends the run.
func ends(steps []*Step) bool {
	if len(steps) == 0 {
		return false
	}
	last := steps[len(steps)-1]
	switch last.Word {
	case Check:
		return last.If == nil && last.Else != nil && last.Else.End != Skip && constant(last.Cond, false)
	case Switch:
		if last.If != nil || last.Otherwise == nil || !ends(last.Otherwise) {
			return false
		}
		for _, cs := range last.Cases {
			if !ends(cs.Steps) {
				return false
			}
		}
		return true
	}
	return false
}

func repliesAt(s *Step, before tri) tri {
	if s.Word == ReplyW {
		return yes
	}
	return before
}

func commitsAt(s *Step, before tri) tri {
	if s.Commit {
		return yes
	}
	return before
}
