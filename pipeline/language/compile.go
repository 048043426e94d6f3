package language

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/expression"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/yamldoc"
)

// compiler turns one route file into a Route, collecting every problem on the way.
type compiler struct {
	l        *loader
	h        *head
	r        *Route
	problems []yamldoc.Problem
	deps     deps
	later    []func()                // what must wait until every block is complete
	nodes    map[*Step]*yamldoc.Node // where lint finds the place of a field
	steps    int
}

// deps are what a route's check rested on, for incremental reload.
type deps struct {
	schemas  map[string]*schema.Schema
	ops      map[string]*connectors.Operation
	messages map[string]bool
	cfg      bool
}

func (c *compiler) add(n *yamldoc.Node, rule, format string, args ...any) {
	c.problems = append(c.problems, n.Problem(rule, fmt.Sprintf(format, args...)))
}

var routeFields = []string{
	"route", "version", "about", "owner", "from", "req", "resp", "subject", "purpose", "allow", "once", "order_by",
	"limit", "priority", "within", "patience", "zone", "keep", "slo", "note", "steps",
}

// compile checks the whole file. The Route comes back even with problems, for
// what refers to it; the caller looks at c.problems.
func (c *compiler) compile() *Route {
	n := c.h.node
	r := &Route{File: n.File, Name: c.h.name, Req: c.h.req, Within: c.l.within, Patience: c.l.patience, Zone: c.l.zone, Priority: 1}
	c.r = r
	c.nodes = map[*Step]*yamldoc.Node{}
	c.deps = deps{map[string]*schema.Schema{}, map[string]*connectors.Operation{}, map[string]bool{}, false}
	if f := n.Get("req"); f != nil && c.h.req != nil {
		c.deps.schemas[f.Text] = c.h.req
	}
	if always := n.Get("always"); always != nil {
		c.add(n.Key("always"), "later", "`always` is not yet available")
	}
	c.problems = append(c.problems, n.Unknown(append(slices.Clone(routeFields), "always")...)...)
	c.problems = append(c.problems, c.h.problems...)
	c.header(n)
	c.triggers(n)
	root := c.root()
	c.access(n, root)

	steps := n.Get("steps")
	switch {
	case steps == nil:
		c.add(n.Key("route"), "field", "`steps` is missing: a route has at least one step")
	case steps.Kind != yamldoc.List || len(steps.Items) == 0:
		c.add(steps, "type", "`steps` must be a list of steps")
	default:
		top := newBlock(nil, c.h.after)
		r.Steps = c.block(steps, top)
		for _, f := range c.later {
			f()
		}
	}
	c.facts()
	c.lint()
	return r
}

// text reads a field that is a plain text; "" if it is absent.
func (c *compiler) text(n *yamldoc.Node, field string) string {
	f := n.Get(field)
	if f == nil {
		return ""
	}
	if f.Kind != yamldoc.Scalar || f.IsNull() {
		c.add(f, "type", "`%s` must be a text, not %s", field, f.What())
		return ""
	}
	return f.Text
}

func (c *compiler) number(n *yamldoc.Node, field string, lo, hi int) int {
	f := n.Get(field)
	if f == nil {
		return 0
	}
	v, msg := f.Value(yamldoc.WantInt)
	i, ok := v.(int)
	switch {
	case msg != "":
		c.add(f, "yaml", "%s", msg)
	case !ok || i < lo || i > hi:
		fix := ""
		if _, err := strconv.Atoi(f.Text); err == nil && f.Style == yamldoc.Quoted {
			fix = ", without quotes"
		}
		c.add(f, "type", "`%s` must be a whole number from %d to %d%s", field, lo, hi, fix)
	default:
		return i
	}
	return 0
}

func (c *compiler) elapsed(n *yamldoc.Node, field string) time.Duration {
	f := n.Get(field)
	if f == nil {
		return 0
	}
	if f.Kind != yamldoc.Scalar {
		c.add(f, "type", "`%s` must be a duration such as 500ms, 2s or 5m", field)
		return 0
	}
	d, err := ParseElapsed(f.Text)
	if err == nil && d <= 0 {
		err = fmt.Errorf("%q is no time at all", f.Text)
	}
	if err != nil {
		c.add(f, "type", "`%s`: %s", field, err)
	}
	return d
}

func (c *compiler) span(n *yamldoc.Node, field string) Span {
	f := n.Get(field)
	if f == nil {
		return Span{}
	}
	if f.Kind != yamldoc.Scalar {
		c.add(f, "type", "`%s` must be a period such as 15m or 3d", field)
		return Span{}
	}
	s, err := ParseSpan(f.Text)
	if err == nil && s.Zero() {
		err = fmt.Errorf("%q is no time at all", f.Text)
	}
	if err != nil {
		c.add(f, "type", "`%s`: %s", field, err)
	}
	return s
}

// header reads what needs no scope.
func (c *compiler) header(n *yamldoc.Node) {
	r := c.r
	if n.Get("version") == nil {
		c.add(n.Key("route"), "field", "`version` is missing: a route's label is a whole number")
	}
	r.Label = c.number(n, "version", 1, 1<<31)
	r.About = c.text(n, "about")
	r.Owner = c.text(n, "owner")
	c.text(n, "note")
	r.Resp = c.schema(n, "resp")
	if d := c.elapsed(n, "within"); d > 0 {
		r.Within = d
	}
	if s := c.span(n, "patience"); !s.Zero() {
		r.Patience = s.Elapsed + time.Duration(s.Days)*24*time.Hour // patience is bounded by elapsed time
	}
	if p := n.Get("priority"); p != nil {
		words := []string{"high", "normal", "low"}
		if i := slices.Index(words, p.Text); i >= 0 && p.Kind == yamldoc.Scalar {
			r.Priority = i
		} else {
			c.add(p, "type", "`priority` is high, normal or low%s", schema.DidYouMean(p.Text, words))
		}
	}
	if z := n.Get("zone"); z != nil {
		loc, err := time.LoadLocation(z.Text)
		if err != nil || z.Kind != yamldoc.Scalar || z.Text == "" || z.Text == "Local" {
			c.add(z, "type", "`zone` must be a zone of the IANA database such as Europe/Rome")
		} else {
			r.Zone = loc
		}
	}
	r.Keep = c.span(n, "keep")
	if p := n.Get("purpose"); p != nil {
		r.Purpose = c.text(n, "purpose")
		if found := c.l.purposes[r.Purpose]; found == nil && !c.l.lenient {
			c.add(p, "purpose", "there is no purpose %q in config/purposes.yaml%s", r.Purpose, schema.DidYouMean(r.Purpose, sortedKeys(c.l.purposes)))
		} else if found != nil && r.Keep.Zero() {
			r.Keep = found.Keep
		}
	}
	if r.Keep.Zero() {
		r.Keep = Span{Days: 90}
	}
	c.slo(n.Get("slo"))
}

func (c *compiler) slo(n *yamldoc.Node) {
	if n == nil {
		return
	}
	if n.Kind != yamldoc.Map || len(n.Pairs) == 0 {
		c.add(n, "type", "`slo` is a map such as {p99: 800ms, success: 99.5%%}")
		return
	}
	c.problems = append(c.problems, n.Unknown("p50", "p95", "p99", "success")...)
	slo := &SLO{P50: c.elapsed(n, "p50"), P95: c.elapsed(n, "p95"), P99: c.elapsed(n, "p99")}
	if s := n.Get("success"); s != nil {
		var pct float64
		if _, err := fmt.Sscanf(strings.TrimSuffix(s.Text, "%"), "%g", &pct); err != nil || s.Kind != yamldoc.Scalar || pct <= 0 || pct > 100 {
			c.add(s, "type", "`success` is a share such as 99.5%%")
		}
		slo.Success = pct / 100
	}
	c.r.SLO = slo
}

// schema resolves a field that names a schema below schemas/.
func (c *compiler) schema(n *yamldoc.Node, field string) *schema.Schema {
	f := n.Get(field)
	if f == nil {
		return nil
	}
	name := c.text(n, field)
	if name == "" {
		return nil
	}
	s := c.l.schemaNamed(name)
	if s == nil && c.l.files[schemasDir+"/"+name+".json"] != nil {
		return nil // it is there, and what is wrong with it is told there
	}
	if s == nil {
		c.add(f, "schema", "there is no schema schemas/%s.json%s", name, schema.DidYouMean(name, c.l.schemaNames()))
		return nil
	}
	c.deps.schemas[name] = s
	return s
}

// root is the scope of what every expression of the route sees.
func (c *compiler) root() *expression.Scope {
	names := map[string]*schema.Type{"run": runType(), "cfg": c.l.cfgType}
	httpOnly := len(c.r.From) > 0
	for _, t := range c.r.From {
		httpOnly = httpOnly && t.Kind == HTTP
	}
	names["caller"] = callerType(!httpOnly)
	switch {
	case c.r.Req != nil:
		names["req"] = c.r.Req.Type()
	case c.h.timed:
		names["req"] = scheduled()
	case c.h.badReq:
		names["req"] = anyType
	}
	return expression.NewScope(names)
}

// access compiles what decides whether and whose run begins.
func (c *compiler) access(n *yamldoc.Node, root *expression.Scope) {
	r := c.r
	if s := n.Get("subject"); s != nil {
		list := []*yamldoc.Node{s}
		if s.Kind == yamldoc.List {
			list = s.Items
		}
		for _, it := range list {
			e := c.only(it, "subject", root, expression.Options{})
			if e == nil {
				continue
			}
			if !textOr(e.Type, schema.Array) {
				c.add(it, "type", "`subject` must be a text or a list of texts, not %s", e.Type)
			}
			r.Subject = append(r.Subject, e)
		}
	}
	sc := root
	if a := n.Get("allow"); a != nil {
		if r.Allow = c.cond(a, "allow", root); r.Allow != nil {
			sc = root.Narrow(r.Allow.TrueFacts()) // no run exists where it was false
		}
	}
	c.h.after = sc
	if o := n.Get("once"); o != nil {
		r.Once = c.only(o, "once", sc, expression.Options{Want: stringType})
	}
	if o := n.Get("order_by"); o != nil {
		r.OrderBy = c.only(o, "order_by", sc, expression.Options{})
		if r.OrderBy != nil && (!textOr(r.OrderBy.Type, schema.Int) || r.OrderBy.Type.MayBeNil()) {
			c.add(o, "type", "`order_by` must be a text or a whole number that is always there, not %s", r.OrderBy.Type)
		}
	}
	c.limit(n.Get("limit"), sc)
}

func textOr(t *schema.Type, other schema.Kind) bool {
	return t.Kind == schema.String || t.Kind == schema.Any || t.Kind == other
}

func (c *compiler) limit(n *yamldoc.Node, sc *expression.Scope) {
	if n == nil {
		return
	}
	if n.Kind != yamldoc.Map {
		c.add(n, "type", "`limit` is a map such as {rate: 10/s, in_flight: 50, per: =caller.tax_code}")
		return
	}
	c.problems = append(c.problems, n.Unknown("rate", "in_flight", "per")...)
	l := &Limit{InFlight: c.number(n, "in_flight", 1, 1_000_000)}
	if f := n.Get("rate"); f != nil {
		rate, ok := parseRate(f)
		if !ok {
			c.add(f, "type", "`rate` is a number a second such as 10/s, 100/m or 0.5")
		}
		l.Rate = rate
	}
	if f := n.Get("per"); f != nil {
		l.Per = c.only(f, "per", sc, expression.Options{})
		if l.Per != nil {
			for _, name := range l.Per.Refs() {
				if name != "caller" && name != "req" {
					c.add(f, "limits", "`per` may read caller and req only, not %s", name)
				}
			}
		}
	}
	if n.Get("rate") == nil && n.Get("in_flight") == nil {
		c.add(n, "limits", "`limit` bounds nothing: give rate, in_flight or both")
	}
	c.r.Limit = l
}

func parseRate(n *yamldoc.Node) (float64, bool) {
	if n.Kind != yamldoc.Scalar {
		return 0, false
	}
	num, unit, has := strings.Cut(n.Text, "/")
	v, msg := (&yamldoc.Node{Text: num}).Value(yamldoc.WantNumber)
	if msg != "" {
		return 0, false
	}
	var rate float64
	switch x := v.(type) {
	case int:
		rate = float64(x)
	case float64:
		rate = x
	default:
		return 0, false
	}
	if has {
		switch unit {
		case "s":
		case "m":
			rate /= 60
		case "h":
			rate /= 3600
		default:
			return 0, false
		}
	}
	return rate, rate > 0
}
