package language

// lintCommit: behind a commit only forward; what would cancel or fail is an
// error there, for nothing before it can be undone (semantics 7.7).
func lintCommit(c *compiler) {
	c.commits(c.r.Steps)
}

func (c *compiler) commits(steps []*Step) {
	inEach := map[*Step]bool{}
	everyStep(steps, func(s *Step) {
		if s.Word == Each {
			everyStep(s.Steps, func(i *Step) { inEach[i] = true })
		}
	})
	c.flow(steps, no, func(s *Step, before tri) tri {
		if before == no {
			return commitsAt(s, before)
		}
		outcomes(s, func(o *Outcome) {
			switch {
			case o.End == Cancel, o.End == Fail && !inEach[s]:
				c.at(o.Pos, "commit", "`%s` stands behind a commit, where nothing is undone any more: use park, or handle it and go on", o.End)
			case o.End == ReplyEnd && o.Status >= 400:
				c.at(o.Pos, "commit", "an answer %d undoes the run, and it stands behind a commit: use park, or handle it and go on", o.Status)
			}
		})
		return commitsAt(s, before)
	})
}
