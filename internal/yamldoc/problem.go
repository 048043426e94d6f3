// Package yamldoc owns YAML: it reads a file into nodes that know their line and
// column, and refuses, with the fix in the message, every construct that YAML
// understands otherwise than its author (route-language, "traps").
package yamldoc

import (
	"cmp"
	"fmt"
	"slices"
)

// Pos is a place in a file; Line and Column begin at 1, Column counts characters.
type Pos struct {
	File   string
	Line   int
	Column int
}

// Problem is one thing wrong with a file of the city's content.
type Problem struct {
	Pos
	Rule    string // "yaml", "syntax", "type", "nil", "undo", ...
	Message string
	Warning bool // does not refuse the file
}

func (p Problem) String() string {
	return fmt.Sprintf("%s:%d:%d: %s [%s]", p.File, p.Line, p.Column, p.Message, p.Rule)
}

// Sort orders problems by file, line, column and rule, and drops repetitions.
func Sort(ps []Problem) []Problem {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Column, b.Column), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(ps)
}
