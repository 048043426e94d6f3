package language

import (
	"slices"
	"strings"

	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/schema"
)

// lintErrors: `errors` names the operation's own faults or fault kinds; unknown
// and internal have outcomes of their own and can't be named (semantics 3.4).
func lintErrors(c *compiler) {
	everyStep(c.r.Steps, func(s *Step) {
		f := c.nodes[s].Get("errors")
		if f == nil || s.Word != Call {
			return
		}
		known := faultNames(s.Operation)
		for _, p := range f.Pairs {
			k := p.Key.Text
			switch {
			case slices.Contains(known, k):
			case slices.Contains(notNameable[:], fault.Kind(k)):
				c.add(p.Key, "errors", "%q can't be named: the engine resolves an unknown outcome by itself and never repeats an internal error", k)
			case s.Operation == nil && s.Route == nil:
			case schema.Suggest(k, known) != "":
				c.add(p.Key, "errors", "%s has no fault %q%s", s.Target, k, schema.DidYouMean(k, known))
			default:
				c.add(p.Key, "errors", "%s has no fault %q; it has %s", s.Target, k, strings.Join(known, ", "))
			}
		}
	})
}
