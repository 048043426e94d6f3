package openapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/yamldoc"
)

// sample is a value that a document states beside its schema.
type sample struct {
	keyword string
	at      *yamldoc.Node
	schema  map[string]any
}

// samples notes the values of n that its schema can be held against once all that
// it refers to is converted. A schema that many operations share is judged once.
func (c *converter) samples(n *yamldoc.Node, out map[string]any) {
	if c.d.samples[n] {
		return
	}
	c.d.samples[n] = true
	for _, p := range n.Pairs {
		switch k := p.Key.Text; k {
		case "default", "example", "const":
			c.stated = append(c.stated, sample{k, p.Value, out})
		case "examples", "enum":
			if p.Value.Kind == yamldoc.List {
				for _, it := range p.Value.Items {
					c.stated = append(c.stated, sample{k, it, out})
				}
			}
		}
	}
}

// judge warns of stated values that do not fit: the emulator answers with them,
// and whoever reads the document takes them for right. A number where a text is
// wanted is read as its digits, so it is wrong only as it is written.
func (c *converter) judge() {
	compiled := map[string]*schema.Schema{}
	for _, s := range c.stated {
		v := exactly(s.at)
		if s.keyword == "enum" || s.keyword == "const" {
			// What the schema itself is made of can only be of another type.
			switch of := typeOf(s.schema); {
			case s.at.Kind != yamldoc.Scalar || v == nil:
			case of == "string" && kindOf(v) != of:
				c.d.fault(s.at, "the %s holds %s, but `type` is string: it is read as the text %q; quote it", s.keyword, articled(v), s.at.Text)
			case (of == "integer" || of == "number") && kindOf(v) != "number":
				c.d.fault(s.at, "the %s holds %q, but `type` is %s: no value fits it", s.keyword, s.at.Text, of)
			}
			continue
		}
		if v == nil { // "no default" and "no example" are widely written so
			continue
		}
		sch, err := c.alone(s.schema, compiled)
		if err != nil || sch == nil {
			continue // a broken schema is told with its operation
		}
		bad := sch.Validate(sch.Coerce(v))
		if len(bad) == 0 {
			continue
		}
		if s.at.Kind == yamldoc.Scalar && typeOf(s.schema) == "string" && kindOf(v) != "string" && kindOf(v) != "" {
			c.d.fault(s.at, "the %s is %s, but `type` is string: it is read as the text %q; quote it", s.keyword, articled(v), s.at.Text)
			continue
		}
		where := ""
		if bad[0].Pointer != "" {
			where = " at " + bad[0].Pointer
		}
		c.d.fault(s.at, "the %s does not fit its own schema%s: %s", s.keyword, where, bad[0].Message)
	}
	c.stated = nil
}

// maxJudged bounds what a document with a thousand examples costs at each load.
const maxJudged = 4 << 20

// alone compiles a schema with what it refers to, without its own samples; nil
// once enough was compiled for one document.
func (c *converter) alone(of map[string]any, compiled map[string]*schema.Schema) (*schema.Schema, error) {
	m := maps.Clone(of)
	for _, k := range []string{"default", "examples", "title", "description"} {
		delete(m, k)
	}
	if defs := c.reached(m, map[string]any{}); len(defs) > 0 {
		m["$defs"] = defs
	}
	if c.d.judged > maxJudged {
		c.d.warn(nil, "the document states so many values that not all were held against their schemas")
		return nil, nil
	}
	b, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	c.d.judged += len(b)
	if s := compiled[string(b)]; s != nil {
		return s, nil
	}
	s, err := schema.CompileBytes("sample", b)
	if err == nil {
		compiled[string(b)] = s
	}
	return s, err
}

// reached gathers the entries of $defs that a schema refers to, straight or not.
func (c *converter) reached(v any, into map[string]any) map[string]any {
	switch v := v.(type) {
	case map[string]any:
		if ref, is := v["$ref"].(string); is {
			name := strings.TrimPrefix(ref, "#/$defs/")
			if to, known := c.defs[name]; known && into[name] == nil {
				into[name] = to
				c.reached(to, into)
			}
		}
		for _, x := range v {
			c.reached(x, into)
		}
	case []any:
		for _, x := range v {
			c.reached(x, into)
		}
	}
	return into
}

// exactly reads a node as the document says it, without the type that its schema
// would like: 7 is a number, "7" a text, a date a text.
func exactly(n *yamldoc.Node) any { return anyOf(n, yamldoc.WantAny) }

func kindOf(v any) string {
	switch v.(type) {
	case string:
		return "string"
	case int, float64:
		return "number"
	case bool:
		return "boolean"
	}
	return ""
}

func articled(v any) string {
	if kindOf(v) == "boolean" {
		return fmt.Sprintf("true or false (%v)", v)
	}
	return strings.TrimSpace(fmt.Sprintf("the number %v", v))
}
