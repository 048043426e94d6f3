package expression

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/expr-lang/expr/ast"

	"github.com/dime-bus/dime/internal/schema"
)

func (c *compiler) binary(n *ast.BinaryNode, x ctx) value {
	x = off(x)
	switch n.Operator {
	case "and", "&&":
		return c.and(n, x)
	case "or", "||":
		return c.or(n, x)
	case "??":
		return c.coalesce(n, x)
	case "==", "!=":
		return c.equality(n, x)
	case "in":
		return c.in(n, x)
	case "matches":
		return c.matches(n, x)
	}
	l, r := c.node(n.Left, x), c.node(n.Right, x)
	lt, rt := c.use(n.Left, l), c.use(n.Right, r)
	lf, rf := l.f, r.f
	both := func(op func(*frame, any, any) (any, error)) fn {
		return func(fr *frame) (any, error) {
			a, err := lf(fr)
			if err != nil {
				return nil, err
			}
			b, err := rf(fr)
			if err != nil {
				return nil, err
			}
			return op(fr, a, b)
		}
	}
	t := unknown
	var f fn
	switch n.Operator {
	case "<", ">", "<=", ">=":
		t, f = c.ordered(n, lt, rt), both(comparison(n.Operator))
	case "+":
		t, f = c.sum(n, lt, rt), both(add)
	case "-":
		t, f = c.difference(n, lt, rt), both(subtract)
	case "*":
		t, f = c.arithmetic(n, lt, rt), both(multiply)
	case "/":
		if isCents(lt) || isCents(rt) {
			c.failAt(n, "cents", "dividing cents gives fractions of a cent: use split_cents(amount, parts)")
			return broken()
		}
		if t = c.arithmetic(n, lt, rt); t.Kind == schema.Int {
			t = like(number, lt, rt)
		}
		f = both(divide)
	case "%":
		t, f = c.integers(n, lt, rt), both(modulo)
	case "**", "^":
		if isCents(lt) || isCents(rt) {
			c.failAt(n, "cents", "powers of cents are floating arithmetic: money is integer cents")
			return broken()
		}
		if t = c.arithmetic(n, lt, rt); t.Kind == schema.Int {
			t = like(number, lt, rt)
		}
		f = both(power)
	case "..":
		if t = c.integers(n, lt, rt); t.Kind == schema.Int {
			t = schema.ListOf(like(integer, lt, rt))
		}
		f = both(span)
	case "contains", "startsWith", "endsWith":
		if c.strings(n.Left, lt, n.Operator) && c.strings(n.Right, rt, n.Operator) {
			t = like(boolean, lt, rt)
		}
		f = both(stringTest(n.Operator))
	default:
		c.failAt(n, "syntax", "operator %s is not part of the expression language", n.Operator)
	}
	if t.Kind == schema.Unknown {
		return broken()
	}
	return value{t: t, f: f}
}

func (c *compiler) and(n *ast.BinaryNode, x ctx) value {
	l := c.node(n.Left, x)
	lf := c.truth(n.Left, l, "and")
	y := x
	y.sc = x.sc.Narrow(l.tf)
	r := c.node(n.Right, y)
	rf := c.truth(n.Right, r, "and")
	return value{t: like(boolean, l.t, r.t), tf: union(l.tf, r.tf), ff: intersect(l.ff, r.ff),
		f: func(fr *frame) (any, error) {
			a, err := lf(fr)
			if err != nil || !a {
				return false, err
			}
			return boxed(rf(fr))
		}}
}

func (c *compiler) or(n *ast.BinaryNode, x ctx) value {
	l := c.node(n.Left, x)
	lf := c.truth(n.Left, l, "or")
	y := x
	y.sc = x.sc.Narrow(l.ff)
	r := c.node(n.Right, y)
	rf := c.truth(n.Right, r, "or")
	return value{t: like(boolean, l.t, r.t), tf: intersect(l.tf, r.tf), ff: union(l.ff, r.ff),
		f: func(fr *frame) (any, error) {
			a, err := lf(fr)
			if err != nil || a {
				return err == nil, err
			}
			return boxed(rf(fr))
		}}
}

func boxed(b bool, err error) (any, error) { return b, err }

func union(a, b []string) []string { return append(slices.Clip(a), b...) }

func intersect(a, b []string) []string {
	var out []string
	for _, s := range a {
		if slices.Contains(b, s) {
			out = append(out, s)
		}
	}
	return out
}

func (c *compiler) coalesce(n *ast.BinaryNode, x ctx) value {
	l, r := c.node(n.Left, x), c.node(n.Right, x)
	lf, rf := l.f, r.f
	v := value{f: func(fr *frame) (any, error) {
		a, err := lf(fr)
		if err != nil || a != nil {
			return a, err
		}
		return rf(fr)
	}}
	switch {
	case l.t.Kind == schema.Null:
		v.t = r.t
	default:
		v.t = c.oneOf(n, l.t.NonNil(), r.t, "?? gives %s or %s")
	}
	if b, ok := r.lit.(bool); ok && r.isLit && l.path != "" {
		// `x ?? false` is true only where x is there.
		if b {
			v.ff = prefixes(l.path)
		} else {
			v.tf = prefixes(l.path)
		}
	}
	return v
}

// prefixes are a path and all on the way to it: a.b.c, a.b, a.
func prefixes(path string) []string {
	out := []string{path}
	for i := len(path) - 1; i > 0; i-- {
		if path[i] == '.' {
			out = append(out, path[:i])
		}
	}
	return out
}

// equality: comparing is no nil read (route-language, "Types run through it").
func (c *compiler) equality(n *ast.BinaryNode, x ctx) value {
	l, r := c.node(n.Left, x), c.node(n.Right, x)
	not := n.Operator == "!="
	c.comparable(n, n.Operator, n.Left, n.Right, l.t, r.t)
	v := value{t: like(boolean, l.t, r.t), f: equalTo(l, r, not)}
	var same, differ []string // facts where the two are equal, and where not
	for _, side := range [][2]value{{l, r}, {r, l}} {
		p, other := side[0].path, side[1]
		switch {
		case p == "" || strippedOf(p):
		case other.isLit && other.lit == nil:
			differ = append(differ, prefixes(p)...)
		case !other.t.MayBeNil() && other.t.Kind != schema.Any && other.t.Kind != schema.Unknown:
			same = append(same, prefixes(p)...)
		}
	}
	if not {
		same, differ = differ, same
	}
	v.tf, v.ff = same, differ
	return v
}

func strippedOf(path string) bool { return path == "#index" }

// comparable reports types that are never equal, and misspelt enum values.
func (c *compiler) comparable(n ast.Node, op string, ln, rn ast.Node, lt, rt *schema.Type) {
	if lt.Kind == schema.Unknown || rt.Kind == schema.Unknown || lt.Kind == schema.Any || rt.Kind == schema.Any ||
		lt.Kind == schema.Null || rt.Kind == schema.Null {
		return
	}
	switch {
	case lt.Kind == rt.Kind:
		if lt.Kind == schema.Period && !c.periods(n, lt, rt) {
			return
		}
	case isNumber(lt) && isNumber(rt):
		if isCents(lt) || isCents(rt) {
			c.failAt(n, "cents", "money is integer cents: comparing it with a fraction compares euros with cents")
			return
		}
	case dateLike(lt, rt) || dateLike(rt, lt):
	default:
		c.failAt(n, "type", "%s compares %s with %s, which are never equal", op, lt.Article(), rt.Article())
		return
	}
	if lt.Kind == schema.Number && rt.Kind == schema.Number && (lt.Literal || rt.Literal) && c.sums(ln) {
		c.failAt(n, "type", "a sum of fractions is hardly ever equal to a fraction (0.1 + 0.2 != 0.3): compare with < and >, or count in integers (money in cents)")
	}
	c.enumTypo(ln, lt, rt)
	c.enumTypo(rn, rt, lt)
}

// sums says whether a node computes with fractions.
func (c *compiler) sums(n ast.Node) bool {
	b, ok := n.(*ast.BinaryNode)
	return ok && slices.Contains([]string{"+", "-", "*", "/", "**", "^"}, b.Operator)
}

// dateLike says whether a is an instant and b a string that is read as one.
func dateLike(a, b *schema.Type) bool {
	return a.Kind == schema.Time && b.Kind == schema.String && (b.Format == "date" || b.Format == "date-time" || b.Literal)
}

// enumTypo reports a literal that is no legal value of the other side's enum, and
// two enums that share nothing.
func (c *compiler) enumTypo(n ast.Node, t, of *schema.Type) {
	if t.Enum == nil || of.Enum == nil || of.Literal {
		return
	}
	if !t.Literal {
		for _, v := range t.Enum {
			if schema.HasValue(of.Enum, v) {
				return
			}
		}
		c.failAt(n, "enum", "%s and %s have no value in common", t.String(), of.String())
		return
	}
	for _, v := range t.Enum {
		if !schema.HasValue(of.Enum, v) {
			m := schema.Assignable(&schema.Type{Kind: t.Kind, Enum: []any{v}}, of.NonNil())
			if len(m) > 0 {
				c.failAt(n, "enum", "%s", m[0].Message)
			}
			return
		}
	}
}

func (c *compiler) in(n *ast.BinaryNode, x ctx) value {
	l, r := c.node(n.Left, x), c.node(n.Right, x)
	lt, rt := c.use(n.Left, l), c.use(n.Right, r)
	switch rt.Kind {
	case schema.Array:
		if rt.Items != nil {
			items := rt.Items.NonNil()
			if lit, ok := n.Right.(*ast.ArrayNode); ok && lt.Enum != nil && !lt.Literal {
				for _, e := range lit.Nodes {
					if s, ok := e.(*ast.StringNode); ok {
						c.enumTypo(e, &schema.Type{Kind: schema.String, Enum: []any{s.Value}, Literal: true}, lt)
					}
				}
				items = plainType(items)
			}
			c.comparable(n, "in", n.Left, n.Right, lt, items)
		}
	case schema.Object:
		switch name, written := n.Left.(*ast.StringNode); {
		case lt.Kind != schema.String && lt.Kind != schema.Any && lt.Kind != schema.Unknown:
			c.failAt(n.Left, "type", "an object's keys are strings, not %s", lt.Article())
		case rt.Open:
		case written && rt.Fields[name.Value] == nil:
			c.failAt(n.Left, "name", "the object has no %q%s", name.Value, schema.DidYouMean(name.Value, fieldNames(rt)))
		case !written: // a value among an object's names is a field forgotten behind it
			c.failAt(n.Right, "type", "`in` looks a value up in a list, or a name in an object whose properties are not declared; this object's are: %s", strings.Join(fieldNames(rt), ", "))
			return broken()
		}
	case schema.Any, schema.Unknown:
	default:
		c.failAt(n.Right, "type", "`in` needs a list, not %s", rt.Article())
		return broken()
	}
	lf, rf := l.f, r.f
	if list, ok := r.lit.([]any); ok && r.isLit {
		rf = func(*frame) (any, error) { return list, nil }
	}
	return value{t: like(boolean, lt, rt), f: func(fr *frame) (any, error) {
		a, err := lf(fr)
		if err != nil {
			return nil, err
		}
		b, err := rf(fr)
		if err != nil {
			return nil, err
		}
		return contains(fr, a, b)
	}}
}

// maxMatched bounds what a pattern is tried on: RE2 is linear, at up to 100 ns a byte.
const maxMatched = 256 << 10

func (c *compiler) matches(n *ast.BinaryNode, x ctx) value {
	l, r := c.node(n.Left, x), c.node(n.Right, x)
	lt := c.use(n.Left, l)
	okLeft := c.strings(n.Left, lt, "matches")
	pattern, isString := r.lit.(string)
	if !r.isLit || !isString {
		c.failAt(n.Right, "type", "the pattern of `matches` must be written out as a string")
		return broken()
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		c.failAt(n.Right, "syntax", "this is no pattern (RE2): %v", err)
		return broken()
	}
	if !okLeft {
		return broken()
	}
	lf := l.f
	return value{t: like(boolean, lt), f: func(fr *frame) (any, error) {
		a, err := lf(fr)
		if err != nil {
			return nil, err
		}
		s, ok := a.(string)
		switch {
		case a == nil:
			return false, nil
		case !ok:
			return nil, fmt.Errorf("matches needs a string, not %s", kindName(a))
		case len(s) > maxMatched:
			return nil, fmt.Errorf("matches takes a string of at most %d bytes", maxMatched)
		}
		if err := fr.tick(1 + len(s)/4); err != nil {
			return nil, err
		}
		return re.MatchString(s), nil
	}}
}

func isNumber(t *schema.Type) bool { return t.Kind == schema.Int || t.Kind == schema.Number }
func isCents(t *schema.Type) bool  { return t.Kind == schema.Int && t.Format == "cents" }
func isLoose(t *schema.Type) bool  { return t.Kind == schema.Any || t.Kind == schema.Unknown }

func (c *compiler) numeric(n ast.Node, t *schema.Type, op string) bool {
	if isNumber(t) || isLoose(t) {
		return t.Kind != schema.Unknown
	}
	c.failAt(n, "type", "%s needs a number, not %s", op, t.Article())
	return false
}

func (c *compiler) strings(n ast.Node, t *schema.Type, op string) bool {
	if t.Kind == schema.String || isLoose(t) {
		return t.Kind != schema.Unknown
	}
	c.failAt(n, "type", "%s needs a string, not %s", op, t.Article())
	return false
}

// arithmetic is the type of a numeric operation; cents never meet a fraction.
func (c *compiler) arithmetic(n *ast.BinaryNode, lt, rt *schema.Type) *schema.Type {
	okL, okR := c.numeric(n.Left, lt, n.Operator), c.numeric(n.Right, rt, n.Operator)
	if !okL || !okR {
		return unknown
	}
	if lt.Kind == schema.Any || rt.Kind == schema.Any {
		return like(open, lt, rt)
	}
	if (isCents(lt) || isCents(rt)) && (lt.Kind == schema.Number || rt.Kind == schema.Number) {
		c.failAt(n, "cents", "floating arithmetic on cents: money is integer cents; multiply by integers, divide with split_cents(amount, parts)")
		return unknown
	}
	if lt.Kind == schema.Number || rt.Kind == schema.Number {
		return like(number, lt, rt)
	}
	if isCents(lt) || isCents(rt) {
		return like(&schema.Type{Kind: schema.Int, Format: "cents"}, lt, rt)
	}
	return like(integer, lt, rt)
}

func (c *compiler) integers(n *ast.BinaryNode, lt, rt *schema.Type) *schema.Type {
	for i, t := range []*schema.Type{lt, rt} {
		if t.Kind == schema.Unknown {
			return unknown
		}
		if t.Kind != schema.Int && t.Kind != schema.Any {
			side := n.Left
			if i == 1 {
				side = n.Right
			}
			c.failAt(side, "type", "%s needs integers, not %s", n.Operator, t.Article())
			return unknown
		}
	}
	return like(integer, lt, rt)
}

func (c *compiler) sum(n *ast.BinaryNode, lt, rt *schema.Type) *schema.Type {
	switch {
	case lt.Kind == schema.Unknown || rt.Kind == schema.Unknown:
		return unknown
	case lt.Kind == schema.String && (rt.Kind == schema.String || rt.Kind == schema.Any),
		rt.Kind == schema.String && lt.Kind == schema.Any:
		return like(text, lt, rt)
	case (lt.Kind == schema.Time || isDate(lt)) && rt.Kind == schema.Period,
		lt.Kind == schema.Period && (rt.Kind == schema.Time || isDate(rt)):
		return like(instant, lt, rt)
	case lt.Kind == schema.Period && rt.Kind == schema.Period:
		format := lt.Format
		if lt.Format != rt.Format {
			format = "mixed"
		}
		return like(&schema.Type{Kind: schema.Period, Format: format}, lt, rt)
	case lt.Kind == schema.Any && (rt.Kind == schema.Period || rt.Kind == schema.Time),
		rt.Kind == schema.Any && (lt.Kind == schema.Period || lt.Kind == schema.Time):
		return like(open, lt, rt)
	case lt.Kind == schema.String && isNumber(rt), isNumber(lt) && rt.Kind == schema.String:
		c.failAt(n, "type", "+ cannot join %s and %s: write string(...) around the number", lt.Article(), rt.Article())
		return unknown
	case lt.Kind == schema.Time && isNumber(rt):
		c.failAt(n.Right, "type", "an instant takes a period: write days(n) or duration(\"2h\")")
		return unknown
	case lt.Kind == schema.Array && rt.Kind == schema.Array:
		c.failAt(n, "type", "+ does not join lists: write concat(a, b)")
		return unknown
	}
	return c.arithmetic(n, lt, rt)
}

func isDate(t *schema.Type) bool {
	return t.Kind == schema.String && (t.Format == "date" || t.Format == "date-time")
}

func (c *compiler) difference(n *ast.BinaryNode, lt, rt *schema.Type) *schema.Type {
	l, r := lt.Kind == schema.Time || isDate(lt), rt.Kind == schema.Time || isDate(rt)
	switch {
	case l && r:
		return like(&schema.Type{Kind: schema.Period, Format: "elapsed"}, lt, rt)
	case l && rt.Kind == schema.Period:
		return like(instant, lt, rt)
	case lt.Kind == schema.Period && rt.Kind == schema.Period && lt.Format == rt.Format:
		return like(lt, rt)
	case (l || lt.Kind == schema.Any) && rt.Kind == schema.Any, lt.Kind == schema.Any && (r || rt.Kind == schema.Period):
		return like(open, lt, rt)
	}
	return c.arithmetic(n, lt, rt)
}

func (c *compiler) ordered(n *ast.BinaryNode, lt, rt *schema.Type) *schema.Type {
	if lt.Kind == schema.Unknown || rt.Kind == schema.Unknown {
		return unknown
	}
	result := like(boolean, lt, rt)
	switch {
	case isLoose(lt) || isLoose(rt):
		return result
	case isNumber(lt) && isNumber(rt):
		if (isCents(lt) || isCents(rt)) && lt.Kind != rt.Kind {
			c.failAt(n, "cents", "money is integer cents: comparing it with a fraction compares euros with cents")
		}
		return result
	case lt.Kind == schema.String && rt.Kind == schema.String, lt.Kind == schema.Time && rt.Kind == schema.Time,
		dateLike(lt, rt), dateLike(rt, lt):
		return result
	case lt.Kind == schema.Period && rt.Kind == schema.Period:
		c.periods(n, lt, rt)
		return result
	case (lt.Kind == schema.Time || isDate(lt)) && rt.Kind == schema.Period:
		c.failAt(n, "type", "an instant is compared with an instant: write now() - x, or x + %s", "days(n)")
		return unknown
	}
	c.failAt(n, "type", "%s cannot order %s and %s", n.Operator, lt.Article(), rt.Article())
	return unknown
}

// periods reports elapsed time beside calendar days: 72h is not 3 days
// (semantics 5.5).
func (c *compiler) periods(n ast.Node, lt, rt *schema.Type) bool {
	if lt.Format == rt.Format && lt.Format != "mixed" || lt.Format == "" || rt.Format == "" {
		return true
	}
	c.failAt(n, "type", "elapsed time cannot be compared with calendar days: compare instants (start + days(3) < now())")
	return false
}
