package routetest

import (
	"fmt"
	"strings"

	"github.com/dime-bus/dime/pipeline/run"
)

// timeline renders what happened, one line a step.
func (s *session) timeline(o *observed) []string {
	const most = 80
	var out []string
	for i, r := range o.runs {
		if len(o.runs) > 1 {
			out = append(out, fmt.Sprintf("run %d: %s", i+1, r.State))
		}
		for _, l := range r.Lines {
			out = append(out, s.line(l))
		}
	}
	if len(out) > most {
		left := len(out) - most
		out = append(out[:most:most], fmt.Sprintf("... %d more lines", left))
	}
	return out
}

func (s *session) line(l run.Line) string {
	b := &strings.Builder{}
	fmt.Fprintf(b, "%-10s %-24s %s", "+"+span(l.At.Sub(s.start)), l.Step, l.Kind)
	if l.Round > 1 {
		fmt.Fprintf(b, " round %d", l.Round)
	}
	if l.Attempt > 1 {
		fmt.Fprintf(b, " attempts %d", l.Attempt)
	}
	if l.Fault != "" {
		b.WriteString(" " + l.Fault)
	}
	if l.In != nil {
		b.WriteString(" " + show(plainValue(l.In)))
	}
	if l.Out != nil {
		b.WriteString(" -> " + show(plainValue(l.Out)))
	}
	if l.Note != "" {
		b.WriteString("  (" + l.Note + ")")
	}
	return strings.TrimRight(b.String(), " ")
}
