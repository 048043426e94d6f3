package routetest

import (
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/yamldoc"
	"github.com/dime-bus/dime/pipeline/language"
)

// script is what one name of `given` does, answer by answer; the last repeats.
type script struct {
	answers  []answer  // of an operation
	arrivals []arrival // of an event
}

// answer is what an operation says to one call.
type answer struct {
	result  any
	fault   *connectors.Fault // nil: it is carried out
	latency time.Duration
	lost    bool // carried out, but the answer never arrives
}

// arrival is an event that a wait gets.
type arrival struct {
	never bool
	after language.Span
	data  any
}

// names checks the keys of a `given` map.
func (c *checker) names(g *yamldoc.Node) {
	for _, p := range g.Pairs {
		name := p.Key.Text
		switch {
		case c.facts.asked[name] != nil, c.facts.waits[name]:
		case operation(c.city, name) != nil:
			c.add(p.Key, "name", "the route never calls %s%s", name, suggestion(name, append(sortedKeys(c.facts.asked), sortedKeys(c.facts.waits)...)))
		case c.city.Events[name] != nil:
			c.add(p.Key, "name", "the route never waits for %s%s", name, suggestion(name, sortedKeys(c.facts.waits)))
		default:
			c.unknown(p.Key, append(sortedKeys(c.facts.asked), sortedKeys(c.facts.waits)...))
		}
	}
}

// unknown reports a name that is neither an operation nor an event of the city;
// a near name that the route uses is suggested first.
func (c *checker) unknown(key *yamldoc.Node, used []string) {
	s := yamldoc.Suggest(key.Text, used)
	if s == "" {
		s = yamldoc.Suggest(key.Text, allNames(c.city))
	}
	if s != "" {
		c.add(key, "name", "there is no operation or event %q; did you mean %q?", key.Text, s)
		return
	}
	c.add(key, "name", "there is no operation or event %q", key.Text)
}

// given merges the default under a test's own and reads both by the schemas.
func (c *checker) given(def, own *yamldoc.Node) map[string]*script {
	if own != nil && c.isMap(own, "given") {
		c.names(own)
	}
	scripts := map[string]*script{}
	for _, name := range mergedKeys(def, own) {
		d, o := def.Get(name), own.Get(name)
		if op := c.facts.asked[name]; op != nil {
			scripts[name] = c.operationScript(name, op, d, o)
		} else if c.facts.waits[name] {
			scripts[name] = c.eventScript(name, d, o)
		}
	}
	return scripts
}

func mergedKeys(a, b *yamldoc.Node) []string {
	ks := a.Keys()
	for _, k := range b.Keys() {
		if !slices.Contains(ks, k) {
			ks = append(ks, k)
		}
	}
	return ks
}

// sequence lays a test's answers over the default of the name: a map over a map,
// also inside a list.
func sequence(def, own *yamldoc.Node, normal func(*yamldoc.Node) *yamldoc.Node) []*yamldoc.Node {
	n := own
	if n == nil {
		n = def
	}
	items := []*yamldoc.Node{n}
	if n.Kind == yamldoc.List {
		items = n.Items
	}
	var base *yamldoc.Node
	if own != nil && def != nil && def.Kind == yamldoc.Map {
		base = normal(def)
	}
	out := make([]*yamldoc.Node, len(items))
	for i, it := range items {
		out[i] = normal(it)
		if base != nil && it.Kind == yamldoc.Map {
			out[i] = merge(base, out[i])
		}
	}
	return out
}

var answerWords = [...]string{"result", "fault", "latency", "lost"}

// answerForm says whether n is `{result: .., latency: ..}` rather than a result
// itself: all its keys are such words and none is a property of the answer.
func answerForm(n *yamldoc.Node, out *schema.Type) bool {
	if n.Kind != yamldoc.Map || len(n.Pairs) == 0 {
		return false
	}
	for _, k := range n.Keys() {
		if !slices.Contains(answerWords[:], k) || out != nil && out.Fields[k] != nil {
			return false
		}
	}
	return true
}

func (c *checker) operationScript(name string, op *connectors.Operation, def, own *yamldoc.Node) *script {
	out := op.Out.Type()
	normal := func(n *yamldoc.Node) *yamldoc.Node {
		if n.Kind != yamldoc.Map || answerForm(n, out) {
			return n
		}
		key := &yamldoc.Node{Pos: n.Pos, Text: "result"}
		return &yamldoc.Node{Pos: n.Pos, Kind: yamldoc.Map, Pairs: []yamldoc.Pair{{Key: key, Value: n}}}
	}
	s := &script{}
	items := sequence(def, own, normal)
	if len(items) == 0 {
		c.add(orNode(own, def), "type", "an empty list answers nothing: write the answers of %s in order", name)
	}
	for _, n := range items {
		s.answers = append(s.answers, c.answer(name, op, n))
	}
	return s
}

func (c *checker) answer(name string, op *connectors.Operation, n *yamldoc.Node) answer {
	var a answer
	result := n
	if answerForm(n, op.Out.Type()) {
		result = n.Get("result")
		if l := n.Get("latency"); l != nil {
			if span, ok := c.span(l, "latency"); ok {
				a.latency = span.Elapsed + time.Duration(span.Days)*24*time.Hour
			}
		}
		if l := n.Get("lost"); l != nil {
			v, _ := l.Value(yamldoc.WantBool)
			lost, ok := v.(bool)
			if !ok {
				c.add(l, "type", "`lost` must be true or false")
			}
			if lost && op.Effect == connectors.Safe {
				c.add(l, "type", "%s is safe: an answer that never arrives is `timeout`", name)
			}
			a.lost = lost
		}
		if f := n.Get("fault"); f != nil {
			a.fault = c.fault(name, op, f)
			return a
		}
		if result == nil {
			a.result = sample(op.Out)
			return a
		}
	}
	scalar := result.Kind == yamldoc.Scalar && !result.IsNull()
	if scalar && (op.Out == nil || op.Out.Type().Kind != schema.String || faultOf(op, result.Text) != nil) {
		if _, isText := wordOf(result); isText {
			a.fault = c.fault(name, op, result)
			return a
		}
	}
	a.result = c.result(name, op, result)
	return a
}

var faultWord = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]*$`)

func wordOf(n *yamldoc.Node) (string, bool) {
	return n.Text, n.Text != "true" && n.Text != "false" && faultWord.MatchString(n.Text)
}

// faultOf is the fault that a word names: one of the operation's own, or a kind.
func faultOf(op *connectors.Operation, word string) *connectors.Fault {
	for i := range op.Faults {
		if op.Faults[i].Name == word {
			return &op.Faults[i]
		}
	}
	if k := fault.Kind(word); k.Valid() {
		return &connectors.Fault{Kind: k}
	}
	return nil
}

func (c *checker) fault(name string, op *connectors.Operation, n *yamldoc.Node) *connectors.Fault {
	if f := faultOf(op, n.Text); f != nil && n.Kind == yamldoc.Scalar {
		if f.Kind == fault.Unknown && op.Effect == connectors.Safe {
			c.add(n, "fault", "%s is safe: its outcome can't be `unknown`; write timeout or unavailable", name)
		}
		return f
	}
	var known []string
	for _, f := range op.Faults {
		known = append(known, f.Name)
	}
	for _, r := range fault.Table() {
		known = append(known, string(r.Kind))
	}
	c.add(n, "fault", "%s has no fault %q%s", name, n.Text, suggestion(n.Text, known))
	return &connectors.Fault{Kind: fault.Internal}
}

func (c *checker) result(name string, op *connectors.Operation, n *yamldoc.Node) any {
	if op.Out == nil {
		if !n.IsNull() && !(n.Kind == yamldoc.Map && len(n.Pairs) == 0) {
			c.add(n, "type", "%s answers nothing: write a fault word, or {}", name)
		}
		return nil
	}
	typ := op.Out.Type()
	r := &reader{}
	v := r.read(n, typ)
	c.problems = append(c.problems, r.problems...)
	if typ.Kind == schema.Array && n.Kind != yamldoc.List {
		c.add(n, "type", "%s answers a list, and a list in `given` is a sequence of answers: write [[...]]", name)
		return v
	}
	c.fits(n, v, op.Out, "the answer of "+name)
	return v
}

// fits reports where v, read from n, breaks a schema.
func (c *checker) fits(n *yamldoc.Node, v any, s *schema.Schema, what string) {
	unknown := map[yamldoc.Pos]bool{}
	c.closed(n, s.Type(), unknown)
	for _, x := range s.Validate(v) {
		if !unknown[keyAt(n, x.Pointer)] {
			c.addAt(at(n, x.Pointer), "type", "%s does not fit its schema: %s", what, pointed(x))
		}
	}
}

func pointed(v schema.Violation) string {
	if v.Pointer == "" {
		return v.Message
	}
	return fmt.Sprintf("%s: %s", v.Pointer, v.Message)
}

// closed reports properties that the type does not have: JSON Schema lets them
// pass where additionalProperties is not false, but no route could read them.
// reported gathers the places of their keys; it may be nil.
func (c *checker) closed(n *yamldoc.Node, typ *schema.Type, reported map[yamldoc.Pos]bool) {
	if typ == nil || n == nil {
		return
	}
	switch {
	case n.Kind == yamldoc.Map && typ.Kind == schema.Object:
		for _, p := range n.Pairs {
			f, _ := fieldOf(typ, p.Key.Text)
			if typ.Fields[p.Key.Text] == nil && !typ.Open && len(typ.Fields) > 0 {
				c.add(p.Key, "field", "%s", yamldoc.UnknownField(p.Key.Text, typ.Order))
				if reported != nil {
					reported[p.Key.Pos] = true
				}
				continue
			}
			c.closed(p.Value, f, reported)
		}
	case n.Kind == yamldoc.List && typ.Kind == schema.Array:
		for _, it := range n.Items {
			c.closed(it, typ.Items, reported)
		}
	}
}

const never = "never"

func (c *checker) eventScript(name string, def, own *yamldoc.Node) *script {
	s := &script{}
	items := sequence(def, own, func(n *yamldoc.Node) *yamldoc.Node { return n })
	if len(items) == 0 {
		c.add(orNode(own, def), "type", "an empty list says nothing: write `never`, or the events in order")
	}
	for _, n := range items {
		s.arrivals = append(s.arrivals, c.arrival(name, n))
	}
	return s
}

func (c *checker) arrival(name string, n *yamldoc.Node) arrival {
	if n.Kind == yamldoc.Scalar && n.Text == never {
		return arrival{never: true}
	}
	if n.Kind != yamldoc.Map {
		c.add(n, "syntax", "%s is an event: write `never`, or {after: 4m, event: {...}}", name)
		return arrival{never: true}
	}
	if ps := n.Unknown("after", "event"); len(ps) > 0 {
		for _, p := range ps {
			p.Message += "; an event is written {after: 4m, event: {...}}"
			c.problems = append(c.problems, p)
		}
		return arrival{never: true}
	}
	var a arrival
	if d := n.Get("after"); d != nil {
		a.after, _ = c.span(d, "after")
	}
	e := n.Get("event")
	if e == nil {
		c.add(n, "syntax", "%s has no data: write {after: 4m, event: {...}}", name)
		return a
	}
	et := c.city.Events[name]
	if et == nil || et.Schema == nil {
		r := &reader{}
		a.data = r.read(e, nil)
		c.problems = append(c.problems, r.problems...)
		return a
	}
	r := &reader{}
	a.data = r.read(e, et.Schema.Type())
	c.problems = append(c.problems, r.problems...)
	c.fits(e, a.data, et.Schema, "the event "+name)
	return a
}
