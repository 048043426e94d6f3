// Package note says in a few words what a line of a run's timeline holds besides
// values: why the run rests, who acted, how it ended.
package note

import (
	"time"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/pipeline/run/codec"
)

// Of is the note to a record of this kind with these further fields.
func Of(kind store.Kind, x map[string]any) string {
	str := func(k string) string { s, _ := x[k].(string); return s }
	flag := func(k string) bool { b, _ := x[k].(bool); return b }
	switch kind {
	case store.End:
		s := str("state")
		if r := str("end"); r != "" {
			return s + ": " + r
		}
		if r := str("reason"); r != "" {
			s += ": " + r
		}
		return s
	case store.Rest:
		s := str("why")
		if t := codec.Instant(x["wake"]); !t.IsZero() {
			s += " until " + t.Format(time.RFC3339)
		} else if t := codec.Instant(x["until"]); !t.IsZero() {
			s += " until " + t.Format(time.RFC3339)
		}
		return s
	case store.Person:
		s := str("act")
		if a := str("as"); a != "" {
			s += " by " + a
		}
		if r := str("reason"); r != "" {
			s += ": " + r
		}
		return s
	case store.Intent, store.UndoIntent:
		return str("target")
	}
	switch {
	case flag("skip"):
		return "skipped"
	case flag("found"):
		return "found"
	case flag("surplus"):
		return "no longer needed"
	}
	return ""
}
