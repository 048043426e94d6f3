package routetest

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// WriteLine prints one line for a case, and below a failing one what was not as
// its `then` says. Colour is for terminals.
func (r *Result) WriteLine(w io.Writer, colour bool) error {
	word := paint("ok  ", "32", colour)
	if !r.OK {
		word = paint("FAIL", "31", colour)
	}
	b := &strings.Builder{}
	fmt.Fprintf(b, "%s %s: %s (%s", word, r.Route, r.It, span(r.Duration))
	if r.Variants > 1 {
		fmt.Fprintf(b, ", %d runs", r.Variants)
	}
	b.WriteString(")\n")
	for i, f := range r.Failures {
		if f.Variant != "" && (i == 0 || r.Failures[i-1].Variant != f.Variant) {
			fmt.Fprintf(b, "     %s\n", f.Variant)
		}
		fmt.Fprintf(b, "     %s:%d:%d: %s", f.File, f.Line, f.Column, f.What)
		if f.Want == "" {
			fmt.Fprintf(b, ": %s\n", f.Got)
		} else {
			fmt.Fprintf(b, "\n         want %s\n         got  %s\n", f.Want, f.Got)
		}
	}
	for _, f := range r.Failures {
		for _, l := range f.Timeline {
			fmt.Fprintf(b, "         | %s\n", l)
		}
	}
	if !r.OK {
		fmt.Fprintf(b, "         seed: %d\n", r.Seed)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteSummary prints the totals and what no case reached.
func (r *Report) WriteSummary(w io.Writer, colour bool) error {
	b := &strings.Builder{}
	for _, c := range r.Coverage {
		if len(c.Missed) == 0 {
			continue
		}
		var names []string
		for _, m := range c.Missed {
			names = append(names, m.What)
		}
		fmt.Fprintf(b, "%s: %d of %d steps and outcomes reached; not: %s\n", c.Route, c.Reached, c.Total, strings.Join(names, ", "))
	}
	total := fmt.Sprintf("%d passed, %d failed", r.Passed, r.Failed)
	if r.Failed > 0 {
		total = paint(total, "31", colour)
	}
	fmt.Fprintln(b, total)
	_, err := io.WriteString(w, b.String())
	return err
}

func paint(s, code string, colour bool) string {
	if !colour {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// span shows virtual time as route files write it: "3d", "15m", "4m2s".
func span(d time.Duration) string {
	if d <= 0 {
		return "0s"
	}
	days := d / (24 * time.Hour)
	d -= days * 24 * time.Hour
	out := ""
	if days > 0 {
		out = fmt.Sprintf("%dd", days)
		if d == 0 {
			return out
		}
	}
	s := d.Round(time.Millisecond).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return out + s
}
