package language

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dime-bus/dime/internal/expression"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/yamldoc"
)

// words are the step kinds with the fields that each knows beside `if` and `note`.
var words = map[Word][]string{
	Call:   {"as", "with", "timeout", "retry", "errors", "undo", "commit"},
	Start:  {"as", "with", "commit"},
	SetW:   {},
	Check:  {"else"},
	Switch: {"else"},
	Each:   {"as", "item", "index", "parallel", "need", "steps"},
	AllW:   {"as"},
	Emit:   {"with", "undo", "commit"},
	ReplyW: {"with", "say"},
	Wait:   {"as", "where", "for", "else", "undo", "commit"},
	Delay:  {},
}

var (
	wordOrder  = []Word{Call, Start, SetW, Check, Switch, Each, AllW, Emit, ReplyW, Wait, Delay}
	laterWords = []string{"first", "repeat", "collect", "tap", "deliver", "always"}
	laterEach  = []string{"order_by", "cursor", "failed"}
	anyField   = []string{"as", "if", "with", "timeout", "retry", "errors", "else", "undo", "commit", "note", "item", "index", "parallel", "need", "steps", "where", "for", "say"}
)

const (
	maxSteps   = 500
	maxNesting = 8
)

// block compiles a list of steps in b, which ends as the scope behind them.
func (c *compiler) block(n *yamldoc.Node, b *block) []*Step {
	if b.depth > maxNesting {
		c.add(n, "limits", "steps are nested deeper than %d blocks: move the inner ones to a route and call it", maxNesting)
		return nil
	}
	var steps []*Step
	for _, it := range n.Items {
		if b.ended {
			c.add(it, "unreachable", "this step is never reached: the one before it always ends the run")
			break
		}
		if s := c.step(it, b); s != nil {
			steps = append(steps, s)
		}
	}
	return steps
}

// step compiles one step; nil if its kind can't be told.
func (c *compiler) step(n *yamldoc.Node, b *block) *Step {
	if c.steps++; c.steps == maxSteps+1 {
		c.add(n, "limits", "the route has more than %d steps: move some to a route and call it", maxSteps)
	}
	if n.Kind != yamldoc.Map {
		c.add(n, "step", "a step is a map such as {call: anagrafe.residence, as: resident}, not %s", n.What())
		return nil
	}
	s := &Step{Pos: n.Pos}
	var head *yamldoc.Node
	for _, p := range n.Pairs {
		w := Word(p.Key.Text)
		if _, ok := words[w]; !ok {
			continue
		}
		if head != nil {
			c.add(p.Key, "step", "a step has one kind: this one is `%s` already; begin a new step with -", s.Word)
			return nil
		}
		s.Word, head = w, p.Value
	}
	if head == nil {
		c.unknownStep(n)
		return nil
	}
	c.nodes[s] = n
	s.Note = c.text(n, "note")
	c.stepFields(n, s)
	sc := b.scope
	if f := n.Get("if"); f != nil {
		if s.If = c.cond(f, "if", b.scope); s.If != nil {
			sc = sc.Narrow(s.If.TrueFacts())
		}
	}
	switch s.Word {
	case Call:
		c.call(n, head, s, sc, b)
	case Start:
		c.start(n, head, s, sc)
	case SetW:
		c.setStep(head, s, sc, b)
	case Check:
		c.check(n, head, s, sc, b)
	case Switch:
		c.switchStep(n, head, s, sc, b)
	case Each:
		c.eachStep(n, head, s, sc, b)
	case AllW:
		c.allStep(n, head, s, sc, b)
	case Emit:
		c.emit(n, head, s, sc, b)
	case ReplyW:
		c.reply(n, head, s, sc)
	case Wait:
		c.wait(n, head, s, sc, b)
	case Delay:
		c.delay(head, s, sc)
	}
	if f := n.Get("commit"); f != nil {
		v, _ := f.Value(yamldoc.WantBool)
		yes, ok := v.(bool)
		if !ok {
			c.add(f, "type", "`commit` is true or false")
		}
		s.Commit = yes
	}
	c.finish(n, s, b)
	return s
}

// finish names the step and makes its result visible to the ones behind it.
func (c *compiler) finish(n *yamldoc.Node, s *Step, b *block) {
	if as := n.Get("as"); as != nil && contains(words[s.Word], "as") {
		if name, ok := c.name(as, b); ok {
			s.As = name
			t := s.Type
			if t == nil {
				t = anyType
			}
			if s.If != nil || skips(s) {
				t = t.AsOptional()
			}
			b.set(name, t, as)
		}
	}
	s.Path = s.As
	if s.Path == "" {
		switch s.Word {
		case Call, Emit, Wait, Start:
			s.Path = string(s.Word) + ":" + c.target(s)
		case SetW:
			s.Path = string(s.Word)
			if len(s.Sets) > 0 {
				s.Path += ":" + s.Sets[0].Name
			}
		default:
			s.Path = string(s.Word)
		}
	}
	b.paths[s.Path]++
	if i := b.paths[s.Path]; i > 1 {
		s.Path = fmt.Sprintf("%s#%d", s.Path, i)
	}
}

func (c *compiler) target(s *Step) string {
	if s.EventType != "" {
		return s.EventType
	}
	if s.Word == Start || s.Word == Call && s.Operation == nil {
		return "route." + s.Target
	}
	return s.Target
}

// skips says whether an outcome may leave the step without a result.
func skips(s *Step) bool {
	if s.Else != nil && s.Else.End == Skip {
		return true
	}
	for _, o := range s.Errors {
		if o.End == Skip {
			return true
		}
	}
	return false
}

func (c *compiler) unknownStep(n *yamldoc.Node) {
	known := make([]string, len(wordOrder))
	for i, w := range wordOrder {
		known[i] = string(w)
	}
	for _, p := range n.Pairs {
		if contains(laterWords, p.Key.Text) {
			c.add(p.Key, "later", "the step `%s` is not yet available", p.Key.Text)
			return
		}
	}
	for _, p := range n.Pairs {
		if !contains(anyField, p.Key.Text) {
			c.add(p.Key, "step", "unknown step %q%s", p.Key.Text, orKnown(p.Key.Text, known))
			return
		}
	}
	c.add(n, "step", "the step says not what it does: one of %s is missing", strings.Join(known, ", "))
}

// stepFields refuses what the step's kind does not know.
func (c *compiler) stepFields(n *yamldoc.Node, s *Step) {
	known := append([]string{string(s.Word), "if", "note"}, words[s.Word]...)
	for _, p := range n.Pairs {
		k := p.Key.Text
		switch {
		case slices.Contains(known, k):
		case s.Word == Each && contains(laterEach, k):
			c.add(p.Key, "later", "`%s` of a streamed each is not yet available", k)
		case contains(laterWords, k):
			c.add(p.Key, "later", "`%s` is not yet available", k)
		case k == "else":
			c.add(p.Key, "else", "%s", elseWhere(s.Word))
		case contains(anyField, k):
			c.add(p.Key, "field", "`%s` has no meaning beside `%s`: it knows %s", k, s.Word, strings.Join(known[1:], ", "))
		default:
			c.add(p.Key, "field", "%s", yamldoc.UnknownField(k, known))
		}
	}
}

// list reads a field that must be a list of steps.
func (c *compiler) list(n *yamldoc.Node, what string, at *yamldoc.Node) *yamldoc.Node {
	if n == nil {
		c.add(at, "field", "`steps` is missing: %s has steps", what)
		return nil
	}
	if n.Kind != yamldoc.List || len(n.Items) == 0 {
		c.add(n, "type", "%s has a list of steps here, not %s", what, n.What())
		return nil
	}
	return n
}

// resultOf is the value of an item or branch: the result of its last step, which
// must be a `set` or carry `as` (semantics 2.5).
func resultOf(steps []*Step) *schema.Type {
	if len(steps) == 0 {
		return nil
	}
	last := steps[len(steps)-1]
	if last.Word != SetW && last.As == "" || last.Type == nil {
		return nil
	}
	if last.If != nil || skips(last) {
		return last.Type.AsOptional()
	}
	return last.Type
}

func narrowed(sc *expression.Scope, e *expression.Expr) *expression.Scope {
	if e == nil {
		return sc
	}
	return sc.Narrow(e.TrueFacts())
}
