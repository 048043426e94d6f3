package language

import (
	"fmt"
	"strings"

	"github.com/dime-bus/dime/internal/expression"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/yamldoc"
)

var (
	anyType    = &schema.Type{Kind: schema.Any}
	nullType   = &schema.Type{Kind: schema.Null, Nullable: true}
	boolType   = &schema.Type{Kind: schema.Bool}
	intType    = &schema.Type{Kind: schema.Int}
	stringType = &schema.Type{Kind: schema.String}
)

// source returns a scalar's expression without the leading `=`, and where it
// begins in the text.
func source(n *yamldoc.Node) (src string, offset int, is bool) {
	if n == nil || n.Kind != yamldoc.Scalar || !strings.HasPrefix(n.Text, "=") {
		return "", 0, false
	}
	rest := n.Text[1:]
	trimmed := strings.TrimLeft(rest, " \n")
	return strings.TrimRight(trimmed, " \n"), 1 + len(rest) - len(trimmed), true
}

// expr compiles src, which begins at offset of n's text. nil if it has problems.
func (c *compiler) expr(n *yamldoc.Node, src string, offset int, sc *expression.Scope, o expression.Options) *expression.Expr {
	e, ps := expression.Compile(src, sc, o)
	c.exprProblems(n, src, offset, ps)
	if e == nil || len(ps) > 0 {
		return nil
	}
	for _, p := range e.Refs() {
		if p == "cfg" {
			c.deps.cfg = true
		}
	}
	return e
}

func (c *compiler) exprProblems(n *yamldoc.Node, src string, offset int, ps []expression.Problem) {
	for _, p := range ps {
		msg := p.Message
		if at := max(0, min(p.Offset, len(src))); strings.HasPrefix(src[at:], "secret.") || src[at:] == "secret" {
			msg = "`secret` does not exist in expressions: connectors hold secrets, name it in config/connectors"
		}
		if p.Rule == "syntax" && strings.ContainsAny(msg, "“”„‘’«»") {
			msg += "; write straight quotes, \"...\""
		}
		if p.Rule == "syntax" && n.Comment {
			msg += "; ` #` begins a comment here, quote the whole expression if the # belongs to it"
		}
		c.problems = append(c.problems, yamldoc.Problem{Pos: n.At(offset + p.Offset), Rule: p.Rule, Message: msg})
	}
}

// cond compiles a field that is always a boolean expression.
func (c *compiler) cond(n *yamldoc.Node, field string, sc *expression.Scope) *expression.Expr {
	if n == nil {
		return nil
	}
	if n.Kind != yamldoc.Scalar || n.IsNull() {
		c.add(n, "type", "`%s` must be an expression, not %s", field, n.What())
		return nil
	}
	src, off := strings.TrimSpace(n.Text), len(n.Text)-len(strings.TrimLeft(n.Text, " \n"))
	if strings.HasPrefix(src, "=") && !strings.HasPrefix(src, "==") {
		c.add(n, "syntax", "`%s` is always an expression: write it without the leading =", field)
		src, off, _ = source(n)
	}
	return c.expr(n, src, off, sc, expression.Options{Want: boolType})
}

// only compiles a field that must be an expression with a leading =.
func (c *compiler) only(n *yamldoc.Node, field string, sc *expression.Scope, o expression.Options) *expression.Expr {
	src, off, is := source(n)
	if !is {
		hint := ""
		if n.Kind == yamldoc.Scalar && !n.IsNull() {
			hint = fmt.Sprintf(": write =%s", n.Text)
		}
		c.add(n, "type", "`%s` must be an expression with a leading =%s", field, hint)
		return nil
	}
	return c.expr(n, src, off, sc, o)
}

// value compiles a YAML value with expressions in it against target; nil takes
// anything. It never returns nil.
func (c *compiler) value(n *yamldoc.Node, sc *expression.Scope, target *schema.Type) *Value {
	v := &Value{Pos: n.Pos, Target: target, Type: anyType}
	free := target == nil || target.Kind == schema.Any
	if src, off, is := source(n); is && sc != nil {
		o := expression.Options{AllowRandom: true}
		if !free {
			o.Want = target
		}
		if v.Expr = c.expr(n, src, off, sc, o); v.Expr != nil {
			v.Type = v.Expr.Type
		}
		return v
	}
	switch n.Kind {
	case yamldoc.Map:
		v.IsMap = true
		if !free && target.Kind != schema.Object {
			c.add(n, "type", "%s is expected here, not a map", target)
			return v
		}
		c.object(v, n, sc, target, free)
	case yamldoc.List:
		v.IsList = true
		if !free && target.Kind != schema.Array {
			c.add(n, "type", "%s is expected here, not a list", target)
			return v
		}
		var items *schema.Type
		if !free {
			items = target.Items
		}
		var union *schema.Type
		for _, in := range n.Items {
			iv := c.value(in, sc, items)
			v.Items = append(v.Items, iv)
			if union == nil {
				union = iv.Type
			} else if u, ok := schema.Union(union, iv.Type); ok {
				union = u
			} else {
				union = anyType
			}
		}
		if union == nil {
			union = &schema.Type{Kind: schema.Null}
		}
		v.Type = schema.ListOf(union)
	default:
		v.Literal, v.Type = c.literal(n, target, free)
	}
	return v
}

func (c *compiler) object(v *Value, n *yamldoc.Node, sc *expression.Scope, target *schema.Type, free bool) {
	types := make(map[string]*schema.Type, len(n.Pairs))
	names := make([]string, 0, len(n.Pairs))
	for _, p := range n.Pairs {
		k := p.Key.Text
		var want *schema.Type
		if !free {
			switch f := target.Fields[k]; {
			case f != nil && f.Required:
				want = f.Type
			case f != nil:
				want = f.Type.AsOptional()
			case !target.Open:
				c.add(p.Key, "field", "%s has no field %q%s", title(target), k, schema.DidYouMean(k, target.Order))
				continue
			case target.Extra != nil:
				want = target.Extra.AsOptional()
			}
		}
		fv := c.value(p.Value, sc, want)
		v.Fields = append(v.Fields, Named{k, fv})
		types[k] = fv.Type
		names = append(names, k)
	}
	v.Type = schema.ObjectOf(names, types)
	if free {
		return
	}
	for _, k := range target.Order {
		if f := target.Fields[k]; f != nil && f.Required && n.Get(k) == nil {
			c.add(n, "required", "`%s` is missing: %s requires it", k, title(target))
		}
	}
}

func title(t *schema.Type) string {
	if t != nil && t.Title != "" {
		return t.Title
	}
	return "the value"
}

// literal reads a scalar as the target wants it; texts are taken as written.
func (c *compiler) literal(n *yamldoc.Node, target *schema.Type, free bool) (any, *schema.Type) {
	want := yamldoc.WantAny
	if !free {
		switch target.Kind {
		case schema.String, schema.Time, schema.Period:
			want = yamldoc.WantString
		case schema.Int:
			want = yamldoc.WantInt
		case schema.Number:
			want = yamldoc.WantNumber
		case schema.Bool:
			want = yamldoc.WantBool
		}
	}
	x, msg := n.Value(want)
	if msg != "" {
		c.add(n, "yaml", "%s", msg)
		return nil, anyType
	}
	if i, ok := x.(int); ok && want == yamldoc.WantNumber {
		x = float64(i)
	}
	t := literalType(x)
	if free {
		return x, t
	}
	for _, m := range schema.Assignable(t, target) {
		c.add(n, m.Rule, "%s", m.Message)
	}
	return x, t
}

func literalType(x any) *schema.Type {
	t := &schema.Type{Enum: []any{x}, Literal: true}
	switch x.(type) {
	case nil:
		return nullType
	case bool:
		t.Kind = schema.Bool
	case int:
		t.Kind = schema.Int
	case float64:
		t.Kind = schema.Number
	default:
		t.Kind = schema.String
	}
	return t
}

// Literals reads a YAML value without expressions against a type, as the test
// runner's mocks and the configuration need it.
func Literals(n *yamldoc.Node, target *schema.Type) (any, []yamldoc.Problem) {
	c := &compiler{}
	v := c.value(n, nil, target)
	if len(c.problems) > 0 {
		return nil, c.problems
	}
	x, err := v.Eval(nil)
	if err != nil {
		return nil, []yamldoc.Problem{n.Problem("type", err.Error())}
	}
	return x, nil
}
