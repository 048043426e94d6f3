package language

import (
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/expression"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/yamldoc"
)

// operation resolves CONNECTOR.OPERATION; it reports one that does not exist.
func (c *compiler) operation(n *yamldoc.Node) (*connectors.Operation, string) {
	name := n.Text
	if n.Kind != yamldoc.Scalar || !strings.Contains(name, ".") {
		c.add(n, "operation", "CONNECTOR.OPERATION or route.NAME is expected here, for instance anagrafe.residence%s", schema.DidYouMean(name, c.l.operationNames()))
		return nil, name
	}
	op := c.l.ops[name]
	if op == nil {
		conn, _, _ := strings.Cut(name, ".")
		if c.l.connectors[conn].Name == "" && c.l.hasFile("config/connectors/"+conn+".yaml") {
			c.h.badReq = true // the connector is refused, and told with its file: so is what calls it
			return nil, name
		}
		if _, ok := c.l.connectors[conn]; !ok && schema.Suggest(name, c.l.operationNames()) == "" {
			c.add(n, "operation", "there is no connector %q%s", conn, schema.DidYouMean(conn, sortedKeys(c.l.connectors)))
		} else {
			c.add(n, "operation", "there is no operation %q%s", name, schema.DidYouMean(name, c.l.operationNames()))
		}
		return nil, name
	}
	c.deps.ops[name] = op
	return op, name
}

func (l *loader) hasFile(name string) bool {
	if l.fsys == nil {
		return false
	}
	_, err := fs.Stat(l.fsys, name)
	return err == nil
}

// with compiles the arguments of an operation, a route or an event. takes is nil
// where nothing is taken.
func (c *compiler) with(n, head *yamldoc.Node, sc *expression.Scope, takes *schema.Type, what string, known bool) *Value {
	f := n.Get("with")
	switch {
	case f == nil && !known:
		return nil
	case f == nil:
		if takes == nil {
			return nil
		}
		for _, k := range takes.Order {
			if p := takes.Fields[k]; p != nil && p.Required {
				c.add(head, "required", "`with` is missing: %s requires `%s`", what, k)
				return nil
			}
		}
		if takes.Kind != schema.Object && takes.Kind != schema.Any {
			c.add(head, "required", "`with` is missing: %s takes %s", what, takes)
		}
		return nil
	case known && takes == nil:
		if f.Kind != yamldoc.Map || len(f.Pairs) > 0 {
			c.add(n.Key("with"), "with", "%s takes nothing: remove `with`", what)
		}
		return nil
	}
	return c.value(f, sc, takes)
}

func (c *compiler) call(n, head *yamldoc.Node, s *Step, sc *expression.Scope, b *block) {
	if name, ok := strings.CutPrefix(head.Text, "route."); ok && head.Kind == yamldoc.Scalar {
		c.callRoute(n, head, name, s, sc, b)
		return
	}
	s.Operation, s.Target = c.operation(head)
	op := s.Operation
	if op == nil {
		if w := n.Get("with"); w != nil {
			s.With = c.value(w, sc, nil)
		}
		s.Type = anyType
	} else {
		s.With = c.with(n, head, sc, op.In.Type(), s.Target, true)
		s.Type = op.Out.Type()
		if s.Type == nil {
			s.Type = nullType
		}
	}
	s.Timeout = c.elapsed(n, "timeout")
	s.Retry = c.retry(n)
	c.errors(n, s, sc, b)
	c.undo(n, s, sc, b)
}

// retry reads `retry: 3` or `retry: {attempts: 3}`.
func (c *compiler) retry(n *yamldoc.Node) int {
	f := n.Get("retry")
	if f == nil || f.Kind != yamldoc.Map {
		return c.number(n, "retry", 1, 100)
	}
	c.problems = append(c.problems, f.Unknown("attempts")...)
	if f.Get("attempts") == nil {
		c.add(f, "field", "`attempts` is missing")
	}
	return c.number(f, "attempts", 1, 100)
}

func (c *compiler) callRoute(n, head *yamldoc.Node, name string, s *Step, sc *expression.Scope, b *block) {
	s.Target, s.Type = name, anyType
	h := c.routeHead(head, name)
	if h == nil {
		if w := n.Get("with"); w != nil {
			s.With = c.value(w, sc, nil)
		}
		return
	}
	s.With = c.with(n, head, sc, h.req.Type(), "route."+name, !h.badReq)
	r, chain := c.l.compiled(name)
	switch {
	case r == nil && len(chain) > 0:
		c.add(head, "called", "the routes call each other in a circle: %s", strings.Join(chain, " -> "))
	case r != nil:
		s.Route = r
		if r.Result != nil {
			s.Type = r.Result
		} else if len(h.problems) == 0 && c.l.sound(name) {
			s.Type = nullType
		}
	}
	for _, k := range []string{"timeout", "retry", "undo"} {
		if n.Get(k) != nil {
			c.add(n.Key(k), "called", "`%s` has no meaning beside a called route: its own steps carry it", k)
		}
	}
	c.errors(n, s, sc, b)
}

func (c *compiler) routeHead(n *yamldoc.Node, name string) *head {
	h := c.l.heads[name]
	if h == nil && c.l.lenient {
		return &head{badReq: true} // started, not called: its version is its own
	}
	if h == nil {
		c.add(n, "route", "there is no route %q%s", name, schema.DidYouMean(name, sortedKeys(c.l.heads)))
		return nil
	}
	return h
}

func (c *compiler) start(n, head *yamldoc.Node, s *Step, sc *expression.Scope) {
	s.Type = stringType // the run's id
	name, ok := strings.CutPrefix(head.Text, "route.")
	if !ok || head.Kind != yamldoc.Scalar {
		c.add(head, "route", "`start` takes a route: write start: route.NAME")
		return
	}
	s.Target = name
	h := c.routeHead(head, name)
	if h == nil {
		if w := n.Get("with"); w != nil {
			s.With = c.value(w, sc, nil)
		}
		return
	}
	s.With = c.with(n, head, sc, h.req.Type(), "route."+name, !h.badReq)
}

func (c *compiler) setStep(head *yamldoc.Node, s *Step, sc *expression.Scope, b *block) {
	if head.Kind != yamldoc.Map || len(head.Pairs) == 0 {
		c.add(head, "type", "`set` is a map of names and values such as {points: =req.points}, not %s", head.What())
		return
	}
	types := map[string]*schema.Type{}
	var names []string
	for _, p := range head.Pairs {
		var target *schema.Type
		if p.Key.Text == "result" && b.depth == 0 && c.r.Resp != nil && !c.replies() {
			target = c.r.Resp.Type()
		}
		v := c.value(p.Value, sc, target)
		name, ok := c.name(p.Key, b)
		if !ok {
			continue
		}
		s.Sets = append(s.Sets, Named{name, v})
		t := v.Type.Widen()
		if s.If != nil {
			t = t.AsOptional()
		}
		b.set(name, t, p.Key)
		types[name] = v.Type.Widen()
		names = append(names, name)
	}
	s.Type = schema.ObjectOf(names, types)
}

// replies says whether the route has a reply step anywhere, before it is compiled.
func (c *compiler) replies() bool {
	return hasWord(c.h.node.Get("steps"), string(ReplyW))
}

// hasWord looks for a step of that kind: a map in a list, at any depth of blocks.
func hasWord(n *yamldoc.Node, word string) bool {
	if n == nil {
		return false
	}
	for _, it := range n.Items {
		if it.Kind == yamldoc.Map && it.Get(word) != nil || hasWord(it, word) {
			return true
		}
	}
	for _, p := range n.Pairs {
		if k := p.Key.Text; k != "with" && k != string(SetW) && hasWord(p.Value, word) {
			return true
		}
	}
	return false
}

func (c *compiler) check(n, head *yamldoc.Node, s *Step, sc *expression.Scope, b *block) {
	s.Cond = c.cond(head, "check", sc)
	inner := sc
	if s.Cond != nil {
		inner = sc.Narrow(s.Cond.FalseFacts())
	}
	e := n.Get("else")
	if e == nil {
		c.add(head, "else", "`else` is missing: say what happens where this does not hold, for instance else: {reply: 422, say: KEY}")
		return
	}
	s.Else = c.outcome(e, inner, b, nil, false)
	if s.Else == nil || s.Cond == nil {
		return
	}
	if s.Else.End != Skip && s.If == nil {
		b.scope = b.scope.Narrow(s.Cond.TrueFacts())
		b.ended = constant(s.Cond, false)
	}
}

// constant says whether e is always the given truth value.
func constant(e *expression.Expr, v bool) bool {
	if e == nil || !e.IsLiteral() {
		return false
	}
	x, err := e.Eval(&expression.Env{})
	return err == nil && x == v
}

func (c *compiler) emit(n, head *yamldoc.Node, s *Step, sc *expression.Scope, b *block) {
	s.EventType = head.Text
	if e := c.event(head, head.Text); e != nil {
		s.With = c.with(n, head, sc, e.Schema.Type(), "the event "+e.Name, true)
	} else if w := n.Get("with"); w != nil {
		s.With = c.value(w, sc, nil)
	}
	c.undo(n, s, sc, b)
}

func (c *compiler) reply(n, head *yamldoc.Node, s *Step, sc *expression.Scope) {
	s.Status = c.status(head)
	s.Say, s.SayExpr = c.say(n.Get("say"), sc)
	var target *schema.Type
	if s.Status < 300 {
		target = c.r.Resp.Type()
	}
	if f := n.Get("with"); f != nil {
		s.With = c.value(f, sc, target)
		s.Type = s.With.Type.Widen()
		if target != nil {
			s.Type = target
		}
	} else if target != nil {
		c.with(n, head, sc, target, "the answer ("+c.r.Resp.Name+")", true)
	}
	if (s.Status == 204 || s.Status == 304) && (s.With != nil || n.Get("say") != nil) {
		c.add(head, "reply", "an answer %d has no body: remove `with` and `say`, or choose another status", s.Status)
	}
}

func (c *compiler) status(n *yamldoc.Node) int {
	v, _ := n.Value(yamldoc.WantInt)
	i, ok := v.(int)
	if !ok || i < 200 || i > 599 {
		fix := ""
		if w, err := strconv.Atoi(strings.ReplaceAll(strings.TrimSpace(n.Text), "_", "")); err == nil && w >= 200 && w <= 599 {
			fix = ": write " + strconv.Itoa(w) + ", without quotes"
		}
		c.add(n, "type", "`reply` is an HTTP status from 200 to 599, not %q%s", n.Text, fix)
		return 0
	}
	return i
}

// say reads a message key, or an expression that gives one.
func (c *compiler) say(n *yamldoc.Node, sc *expression.Scope) (string, *expression.Expr) {
	if n == nil {
		return "", nil
	}
	if _, _, is := source(n); is {
		return "", c.only(n, "say", sc, expression.Options{Want: stringType})
	}
	if n.Kind != yamldoc.Scalar || n.IsNull() {
		c.add(n, "type", "`say` is a key of config/messages.yaml, not %s", n.What())
		return "", nil
	}
	c.deps.messages[n.Text] = true
	if !c.l.lenient && c.l.messages[n.Text] == nil {
		c.add(n, "message", "there is no message %q in config/messages.yaml%s", n.Text, schema.DidYouMean(n.Text, sortedKeys(c.l.messages)))
	}
	return n.Text, nil
}

func (c *compiler) wait(n, head *yamldoc.Node, s *Step, sc *expression.Scope, b *block) {
	s.EventType, s.Type = head.Text, anyType
	e := c.event(head, head.Text)
	if e != nil {
		s.Type = e.Schema.Type()
	}
	s.For = c.span(n, "for")
	switch w := n.Get("where"); {
	case w == nil:
		c.add(head, "where", "`where` is missing: say which event, for instance where: event.iuv == position.iuv")
	case w.Kind != yamldoc.Scalar || w.IsNull():
		c.add(w, "type", "`where` must be an expression, not %s", w.What())
	default:
		c.where(w, s, sc.With("event", s.Type))
	}
	if f := n.Get("else"); f != nil {
		s.Else = c.outcome(f, sc, b, s.Type, true)
		if n.Get("for") == nil {
			c.add(n.Key("else"), "else", "`else` of a wait is for its time-out, and it has none: add for: 3d")
		}
	}
	c.undo(n, s, sc, b)
}

// where splits the condition into the key and the rest (semantics 5.1).
func (c *compiler) where(n *yamldoc.Node, s *Step, sc *expression.Scope) {
	src := strings.TrimSpace(n.Text)
	off := strings.Index(n.Text, src)
	if strings.HasPrefix(src, "=") {
		c.add(n, "syntax", "`where` is always an expression: write it without the leading =")
		return
	}
	w, ps := expression.CompileWhere(src, sc)
	c.exprProblems(n, src, off, ps)
	if len(ps) > 0 || w == nil {
		return
	}
	s.Cond, s.Rest = w.Whole, w.Rest
	var paths []string
	for _, k := range w.Key {
		s.Key = append(s.Key, KeyPart{Path: k.Path, Value: k.Value})
		paths = append(paths, k.Path)
	}
	s.Shape = strings.Join(paths, ",")
	if slices.Contains(w.Whole.Refs(), "cfg") {
		c.deps.cfg = true
	}
}

func (c *compiler) delay(head *yamldoc.Node, s *Step, sc *expression.Scope) {
	src, off, is := source(head)
	if !is {
		sp, err := ParseSpan(head.Text)
		if err == nil && sp.Zero() {
			c.add(head, "type", "`delay`: %q is no time at all", head.Text)
		} else if err != nil || head.Kind != yamldoc.Scalar {
			c.add(head, "type", "`delay` is a period such as 3d or an expression such as =next_local(\"07:00\")")
		}
		s.Span = sp
		return
	}
	e := c.expr(head, src, off, sc, expression.Options{})
	if e == nil {
		return
	}
	switch t := e.Type; {
	case t.MayBeNil():
		c.add(head, "nil", "`delay` may be nil: give a default with ??")
	case t.Kind == schema.Time, t.Kind == schema.Period:
		s.Until = c.expr(head, src, off, sc, expression.Options{Want: &schema.Type{Kind: t.Kind}})
	case t.Kind == schema.String && t.Format == "date-time", t.Kind == schema.Any:
		s.Until = e
	default:
		c.add(head, "type", "`delay` must be an instant or a period, such as =next_local(\"07:00\") or =days(3), not %s", t)
	}
}

func effective(op *connectors.Operation) connectors.Policy {
	return op.Policy.Or(connectors.DefaultPolicy())
}
