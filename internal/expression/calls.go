package expression

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/expr-lang/expr/ast"

	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/taxcode"
)

// functionNames are all that may be called; everything else of expr's library is
// refused: it reads the machine (env, zones), hides types (get, fromJSON, toPairs),
// has no bound, or is of no use to a route. All are pure but now, random, uuid
// and next_local.
var functionNames = strings.Fields(`all none any one filter map find findIndex findLast findLastIndex count sum groupBy sortBy reduce
	len abs ceil floor round int float string max min mean median upper lower trim trimPrefix trimSuffix split join replace repeat
	indexOf lastIndexOf hasPrefix hasSuffix first last take reverse uniq concat flatten sort keys values
	now date instant duration days working_days next_local rank split_cents tax_code_valid iuv_valid mask random uuid`)

func isFunction(name string) bool { return slices.Contains(functionNames, name) }

// Functions lists what may be called in an expression, for documentation and editors.
func Functions() []string { return slices.Sorted(slices.Values(functionNames)) }

// args are the compiled arguments of a call.
type args struct {
	name  string
	n     ast.Node
	nodes []ast.Node
	vs    []value
	ts    []*schema.Type // not nil: a nil is reported
	x     ctx
}

// runner is a function at run time; the list belongs to the callee for the call only.
type runner func(fr *frame, in []any) (any, error)

func (c *compiler) call(n *ast.CallNode, x ctx) value {
	switch callee := n.Callee.(type) {
	case *ast.IdentifierNode:
		return c.function(callee.Value, n, callee, n.Arguments, off(x))
	case *ast.MemberNode:
		return c.method(n, callee, x)
	}
	c.failAt(n, "name", "only a function can be called")
	return broken()
}

// method is caller.may_act_for(tax_code), the only one there is.
func (c *compiler) method(n *ast.CallNode, m *ast.MemberNode, x ctx) value {
	name, _ := m.Property.(*ast.StringNode)
	base, _ := m.Node.(*ast.IdentifierNode)
	if name == nil || base == nil || base.Value != "caller" || name.Value != "may_act_for" {
		if base != nil && base.Value != "caller" && name != nil && name.Value == "may_act_for" {
			if bv := c.node(base, off(x)); bv.t.Kind == schema.Unknown {
				return broken() // reported where it stands, and `caller` suggested
			}
		}
		at := c.at(m)
		label := "this"
		if name != nil {
			at, label = c.offset(name.Location().From), name.Value+"()"
		}
		hint := "; only caller.may_act_for(tax_code) can be called with a dot"
		if name != nil && isFunction(name.Value) {
			hint = fmt.Sprintf("; write %s(...)", name.Value)
		} else if base != nil && base.Value == "caller" && name != nil {
			hint = schema.DidYouMean(name.Value, []string{"may_act_for"}) + hint
		}
		c.fail(at, "name", "there is no method %s%s", label, hint)
		return broken()
	}
	bv := c.node(base, off(x))
	if bv.t.Kind == schema.Unknown {
		return broken()
	}
	c.link(base, bv, m.Optional, "may_act_for", x)
	if len(n.Arguments) != 1 {
		c.failAt(n, "type", "caller.may_act_for takes one argument, the tax code")
		return broken()
	}
	v := c.node(n.Arguments[0], off(x))
	t := c.use(n.Arguments[0], v)
	if !c.strings(n.Arguments[0], t, "caller.may_act_for") {
		return broken()
	}
	f, bf, optional := v.f, bv.f, m.Optional
	return value{t: boolean, f: func(fr *frame) (any, error) {
		who, err := bf(fr)
		if err != nil {
			return nil, err
		}
		if who == nil {
			if optional {
				return nil, errShort
			}
			return nil, cannotRead(nil, "caller", "may_act_for")
		}
		a, err := f(fr)
		if err != nil {
			return nil, err
		}
		code, ok := a.(string)
		if !ok {
			return nil, fmt.Errorf("caller.may_act_for needs a string, not %s", kindName(a))
		}
		if fr.env.MayActFor != nil {
			asked := time.Now()
			may, err := fr.env.MayActFor(code)
			if !fr.start.IsZero() { // the register's time is not the expression's
				fr.start = fr.start.Add(time.Since(asked))
			}
			return may, err
		}
		m, _ := who.(map[string]any)
		own, _ := m["tax_code"].(string)
		return own != "" && own == code, nil
	}}
}

func (c *compiler) builtin(n *ast.BuiltinNode, x ctx) value {
	x = off(x)
	if len(n.Arguments) > 0 && takesPredicate(n.Name) && isFunction(n.Name) {
		return c.loop(n, x)
	}
	return c.function(n.Name, n, nil, n.Arguments, x)
}

func (c *compiler) noFunction(at int, name string) {
	hint := schema.DidYouMean(name, functionNames)
	switch name {
	case "get":
		hint = ": read the property by its name, with ?. where it may be absent"
	case "fromJSON", "toJSON", "toPairs", "fromPairs":
		hint = ": values are structured already; name their parts"
	case "timezone":
		hint = ": the city's zone holds everywhere"
	case "coalesce", "default":
		hint = ": write a ?? b"
	case "today":
		hint = ": write now()"
	}
	c.fail(at, "name", "there is no function %s()%s", name, hint)
}

func (c *compiler) function(name string, n ast.Node, callee ast.Node, nodes []ast.Node, x ctx) value {
	at := c.offset(n.Location().From)
	if callee != nil {
		at = c.offset(callee.Location().From)
	}
	if !isFunction(name) {
		c.noFunction(at, name)
		for _, a := range nodes {
			c.node(a, x) // what is wrong in the arguments is told too
		}
		return broken()
	}
	a := &args{name: name, n: n, nodes: nodes, x: x}
	bad := false
	for _, node := range nodes {
		v := c.node(node, x)
		t := c.use(node, v)
		bad = bad || t.Kind == schema.Unknown
		a.vs, a.ts = append(a.vs, v), append(a.ts, t)
	}
	if bad {
		return broken()
	}
	t, run := c.signature(a, at)
	if t == nil || t.Kind == schema.Unknown {
		return broken()
	}
	t = like(t, a.personal()...)
	return value{t: t, f: applied(run, a.vs)}
}

// personal are the inputs that may make the result personal: lists keep that in
// their items.
func (a *args) personal() []*schema.Type {
	switch a.name {
	case "mask", "first", "last", "take", "reverse", "uniq", "concat", "flatten", "sort", "values", "rank":
		return nil
	}
	return a.ts
}

func applied(run runner, vs []value) fn {
	switch len(vs) {
	case 0:
		return func(fr *frame) (any, error) { return run(fr, nil) }
	case 1:
		f := vs[0].f
		return func(fr *frame) (any, error) {
			v, err := f(fr)
			if err != nil {
				return nil, err
			}
			in := [1]any{v}
			return run(fr, in[:])
		}
	}
	return func(fr *frame) (any, error) {
		in := make([]any, len(vs))
		for i := range vs {
			v, err := vs[i].f(fr)
			if err != nil {
				return nil, err
			}
			in[i] = v
		}
		return run(fr, in)
	}
}

// parameters checks the arguments against letters: s string, i integer, n number,
// l list, o object, v anything; those behind ? may be left out.
func (c *compiler) parameters(a *args, at int, spec, usage string) bool {
	need, all := strings.IndexByte(spec, '?'), strings.Replace(spec, "?", "", 1)
	if need < 0 {
		need = len(all)
	}
	if len(a.ts) < need || len(a.ts) > len(all) {
		c.fail(at, "type", "%s takes other arguments: %s", a.name, usage)
		return false
	}
	ok := true
	for i, t := range a.ts {
		fits, want := true, ""
		switch all[i] {
		case 's':
			fits, want = t.Kind == schema.String, "a string"
		case 'i':
			fits, want = t.Kind == schema.Int, "an integer"
		case 'n':
			fits, want = isNumber(t), "a number"
		case 'l':
			fits, want = t.Kind == schema.Array, "a list"
		case 'o':
			fits, want = t.Kind == schema.Object, "an object"
		}
		if !fits && !isLoose(t) {
			c.failAt(a.nodes[i], "type", "%s needs %s here, not %s: %s", a.name, want, t.Article(), usage)
			ok = false
		}
	}
	return ok
}

// simple are functions whose parameters and result never depend on each other.
func simple(name string) (spec, usage string, result *schema.Type, run runner) {
	switch name {
	case "upper":
		return "s", "upper(string)", text, upper
	case "lower":
		return "s", "lower(string)", text, lower
	case "trim":
		return "s?s", "trim(string, characters)", text, trim
	case "trimPrefix":
		return "s?s", "trimPrefix(string, prefix)", text, affix(strings.TrimPrefix)
	case "trimSuffix":
		return "s?s", "trimSuffix(string, suffix)", text, affix(strings.TrimSuffix)
	case "split":
		return "ss?i", "split(string, separator)", schema.ListOf(text), split
	case "replace":
		return "sss?i", "replace(string, old, new)", text, replace
	case "repeat":
		return "si", "repeat(string, times)", text, repeat
	case "indexOf":
		return "ss", "indexOf(string, part)", integer, index(strings.Index)
	case "lastIndexOf":
		return "ss", "lastIndexOf(string, part)", integer, index(strings.LastIndex)
	case "hasPrefix":
		return "ss", "hasPrefix(string, prefix)", boolean, affixTest("startsWith")
	case "hasSuffix":
		return "ss", "hasSuffix(string, suffix)", boolean, affixTest("endsWith")
	case "keys":
		return "o", "keys(object)", schema.ListOf(text), keys
	case "days":
		return "i", "days(3)", &schema.Type{Kind: schema.Period, Format: "days"}, days
	case "working_days":
		return "i", "working_days(7)", &schema.Type{Kind: schema.Period, Format: "working"}, workingDays
	case "tax_code_valid":
		return "s", "tax_code_valid(string)", boolean, valid("tax_code_valid", taxcode.Valid)
	case "iuv_valid":
		return "s", "iuv_valid(string)", boolean, valid("iuv_valid", schema.IUVValid)
	case "mask":
		return "s", "mask(string)", text, mask
	}
	return "", "", nil, nil
}

// signature checks a call and returns the type of its result and how to run it.
func (c *compiler) signature(a *args, at int) (*schema.Type, runner) {
	if spec, usage, result, run := simple(a.name); run != nil {
		if !c.parameters(a, at, spec, usage) {
			return nil, nil
		}
		return result, run
	}
	switch a.name {
	case "now":
		if !c.parameters(a, at, "", "now()") {
			return nil, nil
		}
		c.impure = true
		return instant, func(fr *frame, _ []any) (any, error) { return fr.now(), nil }
	case "random", "uuid":
		return c.chance(a, at)
	case "date", "instant":
		if len(a.ts) == 1 && a.ts[0].Kind == schema.Time {
			return instant, instantFunc
		}
		if !c.parameters(a, at, "s", a.name+`("2026-11-23")`) {
			return nil, nil
		}
		if s, ok := a.vs[0].lit.(string); ok {
			if _, err := instantOf(&frame{env: &Env{}}, s); err != nil {
				c.failAt(a.nodes[0], "type", "%q is no date (2026-11-23) or date-time (2026-11-23T09:30:00Z)", s)
				return nil, nil
			}
		}
		return instant, instantFunc
	case "duration":
		return c.duration(a, at)
	case "next_local":
		if !c.parameters(a, at, "s", `next_local("07:00")`) {
			return nil, nil
		}
		if s, ok := a.vs[0].lit.(string); ok {
			if _, _, _, ok := parseWall(s); !ok {
				c.failAt(a.nodes[0], "type", `%q is no time of day such as "07:00"`, s)
				return nil, nil
			}
		}
		c.impure = true
		return instant, nextLocalFunc
	case "len":
		return c.length(a, at)
	case "string":
		return c.stringOf(a, at)
	case "int", "float", "abs", "ceil", "floor", "round":
		return c.numberOf(a, at)
	case "max", "min", "mean", "median":
		return c.aggregate(a, at)
	case "split_cents":
		return c.splitCents(a, at)
	case "rank":
		return c.rank(a, at)
	}
	return c.listFunction(a, at)
}

func (c *compiler) chance(a *args, at int) (*schema.Type, runner) {
	if !c.parameters(a, at, "", a.name+"()") {
		return nil, nil
	}
	if !c.opt.AllowRandom {
		c.fail(at, "name", "%s() exists only in `set` and `with`, whose values are kept: give it a name there and use that", a.name)
		return nil, nil
	}
	c.impure = true
	if a.name == "uuid" {
		return text, func(fr *frame, _ []any) (any, error) {
			if fr.env.UUID == nil {
				return nil, fmt.Errorf("uuid() is not available here")
			}
			return fr.env.UUID(), nil
		}
	}
	return number, func(fr *frame, _ []any) (any, error) {
		if fr.env.Random == nil {
			return nil, fmt.Errorf("random() is not available here")
		}
		return fr.env.Random(), nil
	}
}

func (c *compiler) duration(a *args, at int) (*schema.Type, runner) {
	if !c.parameters(a, at, "s", `duration("2h")`) {
		return nil, nil
	}
	s, ok := a.vs[0].lit.(string)
	if !a.vs[0].isLit || !ok {
		c.failAt(a.nodes[0], "type", `duration takes a written string: duration("2h")`)
		return nil, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		hint := ""
		if strings.HasSuffix(s, "d") || strings.HasSuffix(s, "w") {
			hint = ": for days write days(n)"
		}
		c.failAt(a.nodes[0], "type", `%q is no duration such as "2h" or "90m"%s`, s, hint)
		return nil, nil
	}
	if d >= 24*time.Hour && d%(24*time.Hour) == 0 {
		n := int(d / (24 * time.Hour))
		c.failAt(a.nodes[0], "type", "%s is elapsed time, not %d days (the clocks change twice a year): write days(%d)", s, n, n)
		return nil, nil
	}
	p := Period{Elapsed: d}
	return &schema.Type{Kind: schema.Period, Format: "elapsed"}, func(*frame, []any) (any, error) { return p, nil }
}

func (c *compiler) length(a *args, at int) (*schema.Type, runner) {
	if !c.parameters(a, at, "v", "len(list or string)") {
		return nil, nil
	}
	switch t := a.ts[0]; t.Kind {
	case schema.Array, schema.String, schema.Object, schema.Any:
		return integer, length
	default:
		c.failAt(a.nodes[0], "type", "len takes a list, a string or an object, not %s", t.Article())
		return nil, nil
	}
}

func (c *compiler) stringOf(a *args, at int) (*schema.Type, runner) {
	if !c.parameters(a, at, "v", "string(value)") {
		return nil, nil
	}
	switch t := a.ts[0]; t.Kind {
	case schema.Array, schema.Object:
		c.failAt(a.nodes[0], "type", "string takes a single value, not %s", t.Article())
		return nil, nil
	case schema.Int:
		if isCents(t) {
			return text, stringValue
		}
	}
	return text, stringValue
}

func (c *compiler) numberOf(a *args, at int) (*schema.Type, runner) {
	if !c.parameters(a, at, "v", a.name+"(number)") {
		return nil, nil
	}
	t := a.ts[0]
	convert := a.name == "int" || a.name == "float"
	switch {
	case isNumber(t) || isLoose(t) || convert && t.Kind == schema.String:
	default:
		c.failAt(a.nodes[0], "type", "%s takes a number, not %s", a.name, t.Article())
		return nil, nil
	}
	if isCents(t) && a.name != "int" && a.name != "abs" {
		c.failAt(a.nodes[0], "cents", "%s makes a fraction of cents: money is integer cents", a.name)
		return nil, nil
	}
	switch a.name {
	case "int":
		if t.Kind == schema.Int {
			return plainType(t), intValue
		}
		return integer, intValue
	case "abs":
		return plainType(t), absolute
	}
	return number, rounding(a.name)
}

func (c *compiler) aggregate(a *args, at int) (*schema.Type, runner) {
	if len(a.ts) == 0 {
		c.fail(at, "type", "%s takes numbers, or a list of numbers", a.name)
		return nil, nil
	}
	var t *schema.Type
	optional := false
	for i, at := range a.ts {
		if at.Kind == schema.Array {
			optional = optional || len(a.ts) == 1
			if at = at.Items; at == nil {
				at = open
			}
			if at.MayBeNil() && at.Kind != schema.Null {
				c.failAt(a.nodes[i], "nil", "the list may hold nil: filter it first (filter(l, # != nil))")
			}
			at = at.NonNil()
		}
		if !isNumber(at) && !isLoose(at) && at.Kind != schema.Null {
			c.failAt(a.nodes[i], "type", "%s takes numbers, not %s", a.name, at.Article())
			return nil, nil
		}
		if isCents(at) && (a.name == "mean" || a.name == "median") {
			c.failAt(a.nodes[i], "cents", "%s of cents gives fractions of a cent", a.name)
			return nil, nil
		}
		if t == nil {
			t = plainType(at)
			continue
		}
		t, _ = schema.Union(t, plainType(at))
	}
	if a.name == "mean" || a.name == "median" {
		return number, mean(a.name == "median")
	}
	if t.Kind == schema.Null {
		return null, extreme(a.name == "max")
	}
	if optional {
		t = t.AsOptional() // of an empty list
	}
	return t, extreme(a.name == "max")
}

func (c *compiler) splitCents(a *args, at int) (*schema.Type, runner) {
	const usage = "split_cents(amount, parts) with a number of parts, or a list of weights"
	if !c.parameters(a, at, "iv", usage) {
		return nil, nil
	}
	switch p := a.ts[1]; {
	case p.Kind == schema.Int || isLoose(p):
	case p.Kind == schema.Array && (p.Items == nil || p.Items.Kind == schema.Int || isLoose(p.Items)):
	default:
		c.failAt(a.nodes[1], "type", "%s, not %s", usage, p.Article())
		return nil, nil
	}
	if n, ok := a.vs[1].lit.(int); ok && n < 1 {
		c.failAt(a.nodes[1], "type", "an amount is split into at least one part")
		return nil, nil
	}
	return schema.ListOf(&schema.Type{Kind: schema.Int, Format: "cents"}), splitCents
}
