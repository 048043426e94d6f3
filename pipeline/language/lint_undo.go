package language

import "github.com/dime-bus/dime/connectors"

// lintUndo: a `writes` or `pays` call says how it is undone, or why not, unless
// a commit precedes it; an undo must itself be repeatable (semantics 7.2, 7.7).
func lintUndo(c *compiler) {
	c.flow(c.r.Steps, no, func(s *Step, before tri) tri {
		effect := s.Operation != nil && s.Operation.Effect != connectors.Safe
		switch {
		case s.Word == Call && s.Undo == nil && effect && before != yes && !s.Commit && c.field(s, "undo") == c.nodes[s]:
			c.add(c.word(s), "undo", "%s %s and has no `undo`: add undo: {call: ..., with: {...}} or undo: {none: REASON}", s.Target, verb(s.Operation.Effect))
		case s.Word == Call && s.Undo != nil && s.Operation != nil && !effect:
			c.at(s.Undo.Pos, "undo", "%s only reads: there is nothing to undo", s.Target)
		}
		if s.Undo != nil && s.Undo.Operation != nil {
			op := s.Undo.Operation
			call := c.nodes[s].Get("undo").Get("call")
			if op.Effect == connectors.Safe {
				c.add(call, "undo", "%s only reads: it can't undo anything", s.Undo.Target)
			} else if !op.Keyed && op.FoundBy == "" {
				c.add(call, "undo", "%s can't undo: it is neither keyed nor found_by, so a repetition after a crash could act twice", s.Undo.Target)
			}
		}
		return commitsAt(s, before)
	})
}

func verb(e connectors.Effect) string {
	if e == connectors.Pays {
		return "moves money"
	}
	return "changes something"
}
