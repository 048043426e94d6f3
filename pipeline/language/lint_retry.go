package language

import "github.com/dime-bus/dime/connectors"

// lintRetry: only what is safe or keyed is attempted again, and a step may
// tighten its connector's policy, never loosen it (semantics 3.1, 3.2).
func lintRetry(c *compiler) {
	everyStep(c.r.Steps, func(s *Step) {
		op := s.Operation
		if s.Word != Call || op == nil {
			return
		}
		p := effective(op)
		if s.Retry > 1 && op.Effect != connectors.Safe && !op.Keyed {
			c.add(c.field(s, "retry"), "retry", "%s is neither safe nor keyed: a second attempt could act twice, so it can't be retried", s.Target)
		} else if s.Retry > p.Attempts {
			c.add(c.field(s, "retry"), "retry", "the connector allows %d attempts of %s: a step may tighten that, not loosen it", p.Attempts, s.Target)
		}
		if s.Timeout > p.Timeout {
			c.add(c.field(s, "timeout"), "retry", "the connector's timeout for %s is %s: a step may tighten it, not loosen it", s.Target, p.Timeout)
		}
	})
}
