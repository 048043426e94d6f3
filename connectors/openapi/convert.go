package openapi

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/dime-bus/dime/internal/yamldoc"
)

// direction of a body: properties that are readOnly are not required of a
// request, nor writeOnly ones of an answer.
type direction uint8

const (
	request direction = iota
	answer
)

// converter turns schema nodes into JSON Schema 2020-12, with the referenced
// schemas gathered under $defs.
type converter struct {
	d     *document
	dir   direction
	defs  map[string]any
	names map[string]string // pointer -> name under $defs
	nodes int
	// values that the document states, to be judged when $defs is whole
	stated []sample
	err    error // first reason why the schema can't be had
}

const (
	maxSchemaNodes = 50_000
	maxSchemaDepth = 64
)

func (d *document) converter(dir direction) *converter {
	return &converter{d: d, dir: dir, defs: map[string]any{}, names: map[string]string{}}
}

func (c *converter) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

// whole closes a converted schema over its $defs.
func (c *converter) whole(s any) any {
	m, _ := s.(map[string]any)
	if m == nil {
		if b, isBool := s.(bool); isBool && !b {
			m = map[string]any{"not": map[string]any{}}
		} else {
			m = map[string]any{}
		}
	}
	c.judge()
	if len(c.defs) > 0 {
		m["$defs"] = c.defs
	}
	return m
}

// ref returns the reference to the $defs entry for a local pointer, converting
// its target the first time; recursive schemas end here.
func (c *converter) ref(at *yamldoc.Node, ref string) string {
	if !strings.HasPrefix(ref, "#/") {
		c.fail(fmt.Errorf("the reference %q leads out of the document", ref))
		return "#"
	}
	if name, ok := c.names[ref]; ok {
		return "#/$defs/" + name
	}
	name := ref[strings.LastIndexByte(ref, '/')+1:]
	name = wordOf(name)
	for base, i := name, 2; c.defs[name] != nil; i++ {
		name = fmt.Sprintf("%s_%d", base, i)
	}
	c.names[ref] = name
	c.defs[name] = true // taken; its place while it is converted
	to := c.d.lookup(ref[1:])
	if to == nil {
		c.fail(fmt.Errorf("the reference %q leads nowhere", ref))
		return "#"
	}
	c.defs[name] = c.schema(to, 0)
	return "#/$defs/" + name
}

var jsonTypes = [...]string{"null", "boolean", "object", "array", "number", "string", "integer"}

// Formats that mean something to us or to JSON Schema; others are dropped with a warning.
var knownFormats = [...]string{"date-time", "date", "time", "duration", "email", "idn-email", "hostname", "idn-hostname", "ipv4", "ipv6",
	"uri", "uri-reference", "iri", "iri-reference", "uuid", "uri-template", "json-pointer", "relative-json-pointer", "regex", "cents"}

// Formats that only repeat the type or say how it is carried.
var silentFormats = [...]string{"int32", "int64", "float", "double", "byte", "binary", "password"}

// schema converts one node.
func (c *converter) schema(n *yamldoc.Node, depth int) any {
	c.nodes++
	if depth > maxSchemaDepth || c.nodes > maxSchemaNodes {
		c.fail(fmt.Errorf("the schema is nested or long beyond all measure"))
		return true
	}
	if n.IsNull() {
		return map[string]any{}
	}
	if n.Kind == yamldoc.Scalar && (n.Text == "true" || n.Text == "false") {
		return n.Text == "true"
	}
	if n.Kind != yamldoc.Map {
		c.d.fault(n, "a schema must be a map; what stands here is ignored")
		return map[string]any{}
	}
	out := map[string]any{}
	if r := n.Get("$ref"); r != nil && r.Kind == yamldoc.Scalar {
		out["$ref"] = c.ref(r, r.Text)
		if c.d.v30 {
			if truth(n, "nullable") { // not allowed beside $ref in 3.0, but widely meant
				return map[string]any{"anyOf": []any{out, map[string]any{"type": "null"}}}
			}
			if truth(n, "x-personal") {
				out["x-personal"] = true
			}
			return out
		}
	}
	want := c.types(n, out)
	for _, p := range n.Pairs {
		c.keyword(n, p, out, want, depth)
	}
	c.required(n, out)
	c.samples(n, out)
	if truth(n, "nullable") && (c.d.v30 || out["type"] != nil) {
		return nullable(out)
	}
	return out
}

// types converts `type` and returns how scalars beside it are to be read.
func (c *converter) types(n *yamldoc.Node, out map[string]any) yamldoc.Want {
	t := n.Get("type")
	if t.IsNull() && (t == nil || t.Text == "") {
		return yamldoc.WantAny
	}
	var words []string
	if t.Kind == yamldoc.List {
		for _, it := range t.Items {
			words = append(words, it.Text)
		}
	} else {
		words = []string{t.Text}
	}
	var ok []any
	for _, w := range words {
		if slices.Contains(jsonTypes[:], w) {
			ok = append(ok, w)
		} else if w == "file" {
			ok = append(ok, "string")
		} else {
			c.d.fault(t, "%q is not a JSON type; any value is taken", w)
			return yamldoc.WantAny
		}
	}
	switch len(ok) {
	case 0:
		return yamldoc.WantAny
	case 1:
		out["type"] = ok[0]
	default:
		out["type"] = ok
	}
	switch ok[0] {
	case "string":
		return yamldoc.WantString
	case "integer", "number":
		return yamldoc.WantNumber
	case "boolean":
		return yamldoc.WantBool
	}
	return yamldoc.WantAny
}

func (c *converter) keyword(n *yamldoc.Node, p yamldoc.Pair, out map[string]any, want yamldoc.Want, depth int) {
	k, v := p.Key.Text, p.Value
	switch k {
	case "title", "description":
		if v.Kind == yamldoc.Scalar {
			out[k] = v.Text
		}
	case "properties", "patternProperties", "dependentSchemas":
		if v.Kind != yamldoc.Map {
			if !v.IsNull() {
				c.d.fault(v, "%s must be a map; it is ignored", k)
			}
			return
		}
		m := make(map[string]any, len(v.Pairs))
		for _, q := range v.Pairs {
			if k == "patternProperties" && !c.pattern(q.Key) {
				continue
			}
			m[q.Key.Text] = c.schema(q.Value, depth+1)
		}
		out[k] = m
	case "items", "not", "contains", "propertyNames", "if", "then", "else", "additionalProperties", "unevaluatedProperties", "unevaluatedItems":
		if k == "items" && v.Kind == yamldoc.List {
			c.d.fault(v, "a list under items is prefixItems in JSON Schema 2020-12 and is read so")
			out["prefixItems"] = c.list(v, depth)
			return
		}
		out[k] = c.schema(v, depth+1)
	case "allOf", "anyOf", "oneOf", "prefixItems":
		if v.Kind != yamldoc.List || len(v.Items) == 0 {
			c.d.fault(v, "%s must be a list of schemas; it is ignored", k)
			return
		}
		out[k] = c.list(v, depth)
	case "enum":
		c.enum(v, out, want)
	case "const", "default":
		out[k] = anyOf(v, want)
	case "example":
		out["examples"] = []any{anyOf(v, want)}
	case "examples":
		if v.Kind == yamldoc.List {
			out["examples"] = anyOf(v, want)
		}
	case "pattern":
		if v.Kind == yamldoc.Scalar && c.pattern(v) {
			out[k] = v.Text
		}
	case "format":
		c.format(v, out)
	case "minimum", "maximum", "multipleOf":
		if x := c.number(v); x != nil {
			ex := "exclusive" + strings.ToUpper(k[:1]) + k[1:]
			if truth(n, ex) && k != "multipleOf" {
				out[ex] = x
			} else if f, isInt := x.(int); k != "multipleOf" || !isInt || f > 0 {
				out[k] = x
			}
		}
	case "exclusiveMinimum", "exclusiveMaximum":
		if v.Text != "true" && v.Text != "false" {
			if x := c.number(v); x != nil {
				out[k] = x
			}
		}
	case "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "minContains", "maxContains":
		if x, ok := c.number(v).(int); ok && x >= 0 {
			out[k] = x
		} else {
			c.d.fault(v, "%s must be a whole number; it is ignored", k)
		}
	case "uniqueItems", "x-personal", "readOnly", "writeOnly", "deprecated":
		if v.Text == "true" {
			out[k] = true
		}
	}
}

func (c *converter) list(v *yamldoc.Node, depth int) []any {
	l := make([]any, len(v.Items))
	for i, it := range v.Items {
		l[i] = c.schema(it, depth+1)
	}
	return l
}

func (c *converter) number(v *yamldoc.Node) any {
	x, problem := v.Value(yamldoc.WantNumber)
	switch x.(type) {
	case int, float64:
		if problem == "" {
			return x
		}
	case string:
		if v.Style == yamldoc.Quoted { // "minLength": "1" stands in official documents
			if y, problem := (&yamldoc.Node{Text: v.Text}).Value(yamldoc.WantNumber); problem == "" {
				if _, isText := y.(string); !isText {
					return y
				}
			}
		}
	}
	c.d.fault(v, "a number is expected here; the bound is ignored")
	return nil
}

// pattern says whether the node's text is a regular expression that RE2 knows.
func (c *converter) pattern(v *yamldoc.Node) bool {
	if _, err := regexp.Compile(v.Text); err != nil {
		c.d.fault(v, "the pattern is not RE2 and is not checked: %v", err)
		return false
	}
	return true
}

func (c *converter) format(v *yamldoc.Node, out map[string]any) {
	f := v.Text
	switch {
	case v.Kind != yamldoc.Scalar || f == "":
	case slices.Contains(knownFormats[:], f):
		out["format"] = f
	case slices.Contains(silentFormats[:], f):
		if f == "byte" {
			out["contentEncoding"] = "base64"
		}
	default:
		c.d.warn(v, "the format %q is not known and is not checked", f)
	}
}

func (c *converter) enum(v *yamldoc.Node, out map[string]any, want yamldoc.Want) {
	if v.Kind != yamldoc.List || len(v.Items) == 0 {
		c.d.fault(v, "enum must be a list of values; it is ignored")
		return
	}
	vals := make([]any, 0, len(v.Items))
	for _, it := range v.Items {
		x := anyOf(it, want)
		if !slices.ContainsFunc(vals, func(y any) bool { return fmt.Sprintf("%T%v", x, x) == fmt.Sprintf("%T%v", y, y) }) {
			vals = append(vals, x)
		}
	}
	out["enum"] = vals
}

// required converts the list, without what this direction does not carry.
func (c *converter) required(n *yamldoc.Node, out map[string]any) {
	r := n.Get("required")
	if r == nil {
		return
	}
	if r.Kind != yamldoc.List {
		if !r.IsNull() && r.Text != "false" {
			c.d.fault(r, "required is a list of names beside properties; what stands here is ignored")
		}
		return
	}
	props := n.Get("properties")
	var names []any
	for _, it := range r.Items {
		if it.Kind != yamldoc.Scalar || slices.Contains(names, any(it.Text)) {
			continue
		}
		if p := props.Get(it.Text); p != nil {
			if q, err := c.d.deref(p); err == nil {
				p = q
			}
			if c.dir == request && truth(p, "readOnly") || c.dir == answer && truth(p, "writeOnly") {
				continue
			}
		}
		names = append(names, it.Text)
	}
	if len(names) > 0 {
		out["required"] = names
	}
}

// nullable adds null to a 3.0 schema that says `nullable: true`.
func nullable(s map[string]any) any {
	if enum, ok := s["enum"].([]any); ok && !slices.Contains(enum, any(nil)) {
		s["enum"] = append(enum, nil)
	}
	switch t := s["type"].(type) {
	case string:
		if t != "null" && s["allOf"] == nil && s["anyOf"] == nil && s["oneOf"] == nil {
			s["type"] = []any{t, "null"}
			return s
		}
	case []any:
		if !slices.Contains(t, any("null")) {
			s["type"] = append(t, "null")
		}
		return s
	}
	wrapped := map[string]any{"anyOf": []any{s, map[string]any{"type": "null"}}}
	for _, k := range []string{"title", "description", "x-personal"} {
		if v, ok := s[k]; ok {
			wrapped[k] = v
		}
	}
	return wrapped
}
