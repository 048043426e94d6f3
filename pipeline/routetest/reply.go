package routetest

import (
	"slices"

	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/yamldoc"
	"github.com/dime-bus/dime/pipeline/language"
)

// body is one form that a route's answer may have.
type body struct {
	status int          // 0: any
	typ    *schema.Type // nil: nothing
}

// What the engine answers of its own: a problem (RFC 9457, written by bodyOf), the
// place where a run rests, the name of an ordered end (semantics 3).
var (
	problemMembers = [...]string{"type", "title", "status", "detail", "run", "run_url", "say", "errors"}
	restMembers    = [...]string{"run", "run_url", "state"}
	endMembers     = [...]string{"end"}
)

// bodies lists the forms of the route's answer: what its `reply` steps and
// outcomes build, else what its result is.
func (c *checker) bodies() []body {
	var bs []body
	replies := false
	outcome := func(o *language.Outcome) {
		if o != nil && o.End == language.ReplyEnd && o.Value != nil {
			bs = append(bs, body{o.Status, c.answerType(o.Value, o.Status)})
		}
	}
	own(c.route.Steps, "", func(s *language.Step, _ string) {
		if s.Word == language.ReplyW {
			replies = true
			bs = append(bs, body{s.Status, c.answerType(s.With, s.Status)})
		}
		outcome(s.Else)
		for _, k := range sortedKeys(s.Errors) {
			outcome(s.Errors[k])
		}
	})
	if !replies {
		typ := c.route.Resp.Type()
		if typ == nil {
			typ = topResult(c.route)
		}
		bs = append(bs, body{200, typ})
	}
	return bs
}

// answerType is the type of an answer's body: `resp` where the route promises it.
func (c *checker) answerType(v *language.Value, status int) *schema.Type {
	if t := c.route.Resp.Type(); t != nil && status < 300 {
		return t
	}
	switch {
	case v == nil:
		return nil
	case v.Type == nil:
		return &schema.Type{}
	}
	return v.Type
}

// answers picks the forms that an answer with the wanted status may have, and the
// members that the engine itself may write there.
func answers(bs []body, status *int) (forms []body, members []string) {
	members = []string{"status", "say"}
	if status == nil {
		return bs, slices.Concat(members, problemMembers[:], restMembers[:], endMembers[:])
	}
	for _, b := range bs {
		if b.status == *status {
			forms = append(forms, b)
		}
	}
	if len(forms) == 0 && *status < 400 {
		forms = bs // the run says that the status is wrong
	}
	switch {
	case *status >= 400:
		members = append(members, problemMembers[:]...)
	case *status == 202:
		members = append(members, restMembers[:]...)
	case *status == 200:
		members = append(members, endMembers[:]...)
	}
	return forms, members
}

// member finds the type of a member of the body. ok is false where no form of the
// answer has it; known are those that there are. Where forms disagree the type is
// nil, which says nothing.
func member(forms []body, name string) (typ *schema.Type, ok bool, known []string) {
	for _, b := range forms {
		switch {
		case b.typ == nil:
			continue
		case b.typ.Kind != schema.Object, len(b.typ.Fields) == 0, b.typ.Open && b.typ.Fields[name] == nil:
			return nil, true, nil
		}
		known = append(known, b.typ.Order...)
		f, _ := fieldOf(b.typ, name)
		switch {
		case f == nil:
		case !ok:
			typ, ok = f, true
		case typ != nil && !schema.Same(typ, f):
			typ = nil
		}
	}
	return typ, ok, known
}

func (c *checker) thenReply(e *expect, n *yamldoc.Node) {
	if n.Kind == yamldoc.Scalar {
		e.status = c.status(n)
		return
	}
	if n.Kind != yamldoc.Map {
		c.add(n, "type", "`reply` must be a status, or a map with `status` and keys of the body")
		return
	}
	e.body = map[string]any{}
	if s := n.Get("status"); s != nil {
		e.status = c.status(s)
	}
	forms, members := answers(c.bodies(), e.status)
	r := &reader{}
	for _, p := range n.Pairs {
		name := p.Key.Text
		typ, ok, known := member(forms, name)
		switch {
		case name == "status":
			continue
		case name == "say" && (!ok || typ == nil):
			e.say = p.Value.Text
			if _, there := c.city.Messages[e.say]; !there {
				c.add(p.Value, "name", "there is no message %q%s", e.say, suggestion(e.say, sortedKeys(c.city.Messages)))
			}
			continue
		}
		e.body[name] = r.read(p.Value, typ)
		switch {
		case ok:
			c.closed(p.Value, typ, nil)
		case !slices.Contains(members, name):
			known = append(members, known...)
			slices.Sort(known)
			c.add(p.Key, "field", "%s", yamldoc.UnknownField(name, slices.Compact(known)))
		}
	}
	c.problems = append(c.problems, r.problems...)
}
