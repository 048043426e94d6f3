package language

import (
	"slices"
	"strings"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/expression"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/yamldoc"
)

var outcomeWords = []string{"use", "skip", "stop", "reply", "cancel", "end", "fail", "park"}

// outcome reads what stands under `else` or in `errors`. result is the type that
// `use` must fit; uses is false where there is no result to replace.
func (c *compiler) outcome(n *yamldoc.Node, sc *expression.Scope, b *block, result *schema.Type, uses bool) *Outcome {
	o := &Outcome{Pos: n.Pos}
	if n.Kind == yamldoc.Scalar && n.Text == "skip" {
		o.End = Skip
		return o
	}
	if n.Kind != yamldoc.Map || len(n.Pairs) == 0 {
		hint := ""
		if n.Kind == yamldoc.Scalar && contains(outcomeWords, n.Text) {
			hint = ", for instance {" + n.Text + ": REASON}"
		}
		c.add(n, "else", "an outcome is skip, or a map with one of %s%s", strings.Join(outcomeWords, ", "), hint)
		return nil
	}
	var word *yamldoc.Pair
	for i := range n.Pairs {
		p := &n.Pairs[i]
		if !contains(outcomeWords, p.Key.Text) {
			continue
		}
		if word != nil {
			c.add(p.Key, "else", "an outcome is one thing: this one is `%s` already", word.Key.Text)
			return nil
		}
		word = p
	}
	if word == nil {
		k := n.Pairs[0].Key
		c.add(k, "else", "unknown outcome %q%s", k.Text, orKnown(k.Text, outcomeWords))
		return nil
	}
	o.End = End(word.Key.Text)
	if o.End == ReplyEnd {
		c.problems = append(c.problems, n.Unknown("reply", "with", "say")...)
		o.Status = c.status(word.Value)
		o.Say, o.SayExpr = c.say(n.Get("say"), sc)
		if f := n.Get("with"); f != nil {
			var target *schema.Type
			if o.Status < 300 {
				target = c.r.Resp.Type()
			}
			o.Value = c.value(f, sc, target)
		}
		return o
	}
	c.problems = append(c.problems, n.Unknown(word.Key.Text)...)
	switch o.End {
	case Use:
		if !uses {
			c.add(word.Key, "else", "`use` has no meaning here: the step has no result to replace")
			return nil
		}
		o.Value = c.value(word.Value, sc, result)
	case Skip:
		if v, _ := word.Value.Value(yamldoc.WantBool); v != true {
			c.add(word.Value, "type", "write skip, or {skip: true}")
		}
	default:
		if word.Value.Kind != yamldoc.Scalar || word.Value.IsNull() {
			c.add(word.Value, "type", "`%s` takes a reason in a word or a few", o.End)
			return nil
		}
		o.Reason = word.Value.Text
	}
	return o
}

// errors reads the outcomes of faults; lint_errors.go judges the names.
func (c *compiler) errors(n *yamldoc.Node, s *Step, sc *expression.Scope, b *block) {
	f := n.Get("errors")
	if f == nil {
		return
	}
	if f.Kind != yamldoc.Map || len(f.Pairs) == 0 {
		c.add(f, "type", "`errors` is a map of faults and outcomes such as {not_found: {reply: 404, say: KEY}}")
		return
	}
	s.Errors = map[string]*Outcome{}
	for _, p := range f.Pairs {
		if o := c.outcome(p.Value, sc, b, s.Type, true); o != nil {
			s.Errors[p.Key.Text] = o
		}
	}
}

// faultNames are the words that may stand under `errors` of a step: the
// operation's own faults, then the kinds.
func faultNames(op *connectors.Operation) []string {
	var names []string
	if op != nil {
		for _, f := range op.Faults {
			names = append(names, f.Name)
		}
	}
	for _, row := range fault.Table() {
		if row.Nameable && !slices.Contains(names, string(row.Kind)) {
			names = append(names, string(row.Kind))
		}
	}
	return names
}

// undo reads {none: reason}, {call: op, with: ..., if: ...} or {emit: type, with: ...}.
// Its arguments see what the step could see and its own result; its `if` sees
// every name of the run, as optional (semantics 7.2).
func (c *compiler) undo(n *yamldoc.Node, s *Step, sc *expression.Scope, b *block) {
	f := n.Get("undo")
	if f == nil {
		return
	}
	if f.Kind != yamldoc.Map || len(f.Pairs) == 0 {
		c.add(f, "undo", "`undo` is {call: OPERATION, with: {...}}, {emit: EVENT, with: {...}} or {none: REASON}")
		return
	}
	u := &Undo{Pos: f.Pos}
	s.Undo = u
	kinds := 0
	for _, k := range []string{"none", "call", "emit"} {
		if f.Get(k) != nil {
			kinds++
		}
	}
	if kinds != 1 {
		if ps := f.Unknown("none", "call", "emit", "with", "if"); len(ps) > 0 {
			c.problems = append(c.problems, ps...)
		} else {
			c.add(f, "undo", "`undo` is one of call, emit and none")
		}
		return
	}
	if none := f.Get("none"); none != nil {
		c.problems = append(c.problems, f.Unknown("none")...)
		if none.Kind != yamldoc.Scalar || none.IsNull() {
			c.add(none, "undo", "`none` takes the reason why nothing is undone")
			return
		}
		u.None = none.Text
		return
	}
	own := sc
	if as := n.Get("as"); as != nil && identifier.MatchString(as.Text) && sc.Lookup(as.Text) == nil {
		own = sc.With(as.Text, s.Type) // it runs only if the effect happened, so the result is there
	}
	if e := f.Get("emit"); e != nil {
		c.problems = append(c.problems, f.Unknown("emit", "with", "if")...)
		u.EventType = e.Text
		if ev := c.event(e, e.Text); ev != nil {
			u.With = c.with(f, e, own, ev.Schema.Type(), "the event "+ev.Name, true)
		}
	} else {
		c.problems = append(c.problems, f.Unknown("call", "with", "if")...)
		call := f.Get("call")
		u.Operation, u.Target = c.operation(call)
		if u.Operation != nil {
			u.With = c.with(f, call, own, u.Operation.In.Type(), u.Target, true)
		}
	}
	if cond := f.Get("if"); cond != nil {
		c.later = append(c.later, func() { u.If = c.cond(cond, "if", everyName(own, b)) })
	}
}
