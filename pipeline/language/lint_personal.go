package language

import "github.com/dime-bus/dime/internal/schema"

// lintPersonal: a route that reads personal data says whose and why, for access
// log, timeline, keys and erasure hang on it (trust.md, "Personal data").
func lintPersonal(c *compiler) {
	n := c.h.node
	if n.Get("subject") != nil && n.Get("purpose") != nil {
		return
	}
	missing := "`subject` and `purpose`"
	switch {
	case n.Get("subject") != nil:
		missing = "`purpose`"
	case n.Get("purpose") != nil:
		missing = "`subject`"
	}
	everyStep(c.r.Steps, func(s *Step) {
		if s.Word == Call && s.Operation != nil && schema.HasPersonal(s.Operation.Out.Type()) {
			c.add(c.word(s), "personal", "%s returns personal data: the route must say %s", s.Target, missing)
		}
	})
}
