package openapi

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/yamldoc"
)

// operation is one endpoint with everything that is needed to call it, to
// describe it and to play its far side.
type operation struct {
	endpoint
	summary             string
	params              []param
	body                body
	in                  map[string]any // JSON Schema of Args; nil takes nothing
	out                 map[string]any // JSON Schema of the result; nil gives nothing
	answer              answerShape
	refused             map[int]map[string]any // schemas of the declared 4xx and 5xx answers
	inSchema, outSchema *schema.Schema
}

// param is one parameter.
type param struct {
	name     string // on the wire
	arg      string // in Args; "" for the idempotency key
	in       string // path, query, header, cookie
	required bool
	style    string
	explode  bool
	json     bool // sent as JSON text
	key      bool // carries the effect's key
	schema   map[string]any
}

type encoding uint8

const (
	noBody encoding = iota
	jsonBody
	formBody
	multipartBody
	textBody
	binaryBody
)

// body is how the request's body is made of Args.
type body struct {
	enc      encoding
	media    string
	required bool
	merged   bool            // its properties stand at the top level of Args
	props    map[string]bool // merged: names of declared properties
	open     bool            // merged: further arguments go into it too
	binary   map[string]bool // multipart: properties whose value is base64 of a file
	schema   map[string]any  // of the body itself, with $defs
}

// answerShape is how the result is made of the answer.
type answerShape struct {
	status   int // the success that the document describes
	enc      encoding
	redirect bool // a 3xx is the success: {status, location}
}

const (
	bodyArg    = "body"
	contentArg = "content_base64"
	typeArg    = "content_type"
)

// operation reads an endpoint. The error says why it has to be left out.
func (d *document) operation(e endpoint) (*operation, error) {
	o := &operation{endpoint: e, summary: text(e.op, "summary")}
	if o.summary == "" {
		o.summary = firstSentence(text(e.op, "description"))
	}
	if o.summary == "" {
		o.summary = e.method + " " + e.path
		d.warn(e.op, "%s has neither summary nor description", e.name)
	}
	c := d.converter(request)
	if err := o.readParams(d, c); err != nil {
		return nil, err
	}
	if err := o.readBody(d, c); err != nil {
		return nil, err
	}
	o.input(c)
	if c.err != nil {
		return nil, c.err
	}
	if err := o.readAnswers(d); err != nil {
		return nil, err
	}
	var err error
	if o.in != nil {
		if o.inSchema, err = schema.Compile(e.name+"/in", o.in); err != nil {
			return nil, fmt.Errorf("its input: %w", err)
		}
	}
	if o.out != nil {
		if o.outSchema, err = schema.Compile(e.name+"/out", o.out); err != nil {
			return nil, fmt.Errorf("its output: %w", err)
		}
	}
	return o, nil
}

func firstSentence(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if i := strings.Index(s, ". "); i > 0 {
		s = s[:i+1]
	}
	if r := []rune(s); len(r) > 160 {
		s = string(r[:157]) + "..."
	}
	return s
}

func isKeyName(s string) bool {
	s = strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(s))
	return s == "idempotencykey" || s == "xidempotencykey"
}

// fillsKey says whether a found_by parameter of this name gets the effect's key.
func fillsKey(arg string) bool { return arg == "key" || isKeyName(arg) }

func (o *operation) readParams(d *document, c *converter) error {
	type slot struct{ in, name string }
	at := map[slot]int{}
	add := func(list *yamldoc.Node) error {
		if list.IsNull() || list.Kind != yamldoc.List {
			return nil
		}
		for _, n := range list.Items {
			n, err := d.deref(n)
			if err != nil {
				return err
			}
			p := param{name: text(n, "name"), in: text(n, "in"), required: truth(n, "required"), style: text(n, "style")}
			if p.name == "" {
				d.warn(n, "a parameter of %s has no name and is ignored", o.name)
				continue
			}
			switch p.in {
			case "path":
				p.required = true
				if !strings.Contains(o.path, "{"+p.name+"}") {
					d.warn(n, "the parameter %s is not in the path %s and is ignored", p.name, o.path)
					continue
				}
			case "header":
				switch strings.ToLower(p.name) {
				case "accept", "content-type", "authorization": // OpenAPI 3.1 4.8.12.2: not parameters
					continue
				}
			case "query", "cookie":
			default:
				d.warn(n, "the parameter %s is in %q, which is no place; it is ignored", p.name, p.in)
				continue
			}
			p.key = isKeyName(p.name) && (p.in == "header" || p.in == "query")
			if p.style == "" {
				p.style = "simple"
				if p.in == "query" || p.in == "cookie" {
					p.style = "form"
				}
			}
			p.explode = p.style == "form" || p.style == "deepObject"
			if ex := text(n, "explode"); ex != "" {
				p.explode = ex == "true"
			}
			sch := n.Get("schema")
			if content := n.Get("content"); content != nil && content.Kind == yamldoc.Map && len(content.Pairs) > 0 {
				sch, p.json = content.Pairs[0].Value.Get("schema"), true
			}
			m, _ := c.schema(sch, 1).(map[string]any)
			if m == nil {
				m = map[string]any{}
			}
			if about := text(n, "description"); about != "" && m["$ref"] == nil {
				m["description"] = about
			}
			p.schema = m
			if i, again := at[slot{p.in, p.name}]; again {
				o.params[i] = p
				continue
			}
			at[slot{p.in, p.name}] = len(o.params)
			o.params = append(o.params, p)
		}
		return nil
	}
	if err := add(o.item.Get("parameters")); err != nil {
		return err
	}
	if err := add(o.op.Get("parameters")); err != nil {
		return err
	}
	taken := map[string]bool{}
	for i := range o.params {
		p := &o.params[i]
		if p.key {
			continue
		}
		p.arg = p.name
		if taken[p.arg] {
			p.arg = p.in + "_" + p.name
			d.warn(o.op, "%s has two parameters called %s; the one in the %s is %s", o.name, p.name, p.in, p.arg)
		}
		taken[p.arg] = true
	}
	// Path variables that the document forgot to declare are strings.
	for _, seg := range pathVariables(o.path) {
		if !slices.ContainsFunc(o.params, func(p param) bool { return p.in == "path" && p.name == seg }) {
			d.warn(o.op, "the path variable {%s} of %s is not declared; it is taken as a string", seg, o.name)
			p := param{name: seg, arg: seg, in: "path", required: true, style: "simple", schema: map[string]any{"type": "string"}}
			if taken[seg] {
				p.arg = "path_" + seg
			}
			taken[p.arg] = true
			o.params = append(o.params, p)
		}
	}
	return nil
}

func pathVariables(path string) []string {
	var vs []string
	for {
		i := strings.IndexByte(path, '{')
		if i < 0 {
			return vs
		}
		j := strings.IndexByte(path[i:], '}')
		if j < 0 {
			return vs
		}
		vs = append(vs, path[i+1:i+j])
		path = path[i+j+1:]
	}
}

// media chooses a content type that can be carried, JSON first.
func media(content *yamldoc.Node) (string, *yamldoc.Node, encoding) {
	if content == nil || content.Kind != yamldoc.Map {
		return "", nil, noBody
	}
	best, rank := -1, 0
	var enc encoding
	for i, p := range content.Pairs {
		e := encodingOf(p.Key.Text)
		r := map[encoding]int{jsonBody: 6, formBody: 4, multipartBody: 3, textBody: 2, binaryBody: 1}[e]
		if e == jsonBody && strings.Contains(p.Key.Text, "problem") {
			r = 5
		}
		if r > rank {
			best, rank, enc = i, r, e
		}
	}
	if best < 0 {
		return "", nil, noBody
	}
	return content.Pairs[best].Key.Text, content.Pairs[best].Value, enc
}

func encodingOf(mediaType string) encoding {
	t, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(mediaType)), ";")
	t = strings.TrimSpace(t)
	switch {
	case t == "application/json", strings.HasSuffix(t, "+json"), t == "*/*", t == "application/*":
		return jsonBody
	case t == "application/x-www-form-urlencoded":
		return formBody
	case t == "multipart/form-data":
		return multipartBody
	case t == "application/octet-stream", t == "application/pdf", t == "application/zip", strings.HasPrefix(t, "image/"), strings.HasPrefix(t, "audio/"), strings.HasPrefix(t, "video/"):
		return binaryBody
	case strings.HasPrefix(t, "text/") && t != "text/xml":
		return textBody
	}
	return noBody
}

func (o *operation) readBody(d *document, c *converter) error {
	n := o.op.Get("requestBody")
	if n.IsNull() || o.method == "GET" || o.method == "HEAD" {
		if !n.IsNull() {
			d.warn(n, "%s has a body although it is a %s; it is ignored", o.name, o.method)
		}
		return nil
	}
	n, err := d.deref(n)
	if err != nil {
		return err
	}
	content := n.Get("content")
	if content.IsNull() {
		return nil
	}
	mt, m, enc := media(content)
	if enc == noBody {
		return fmt.Errorf("its request is %s, which can't be built here", strings.Join(content.Keys(), ", "))
	}
	if strings.Contains(mt, "*") {
		mt = "application/json"
	}
	o.body = body{enc: enc, media: mt, required: truth(n, "required")}
	sch, _ := c.schema(m.Get("schema"), 1).(map[string]any)
	if sch == nil {
		sch = map[string]any{}
	}
	o.body.schema = sch
	switch enc {
	case textBody, binaryBody:
		o.body.schema = map[string]any{"type": "string"}
		if enc == binaryBody {
			o.body.schema["contentEncoding"] = "base64"
		}
		return nil
	}
	flat := c.flatten(sch, 0)
	if flat == nil {
		if enc != jsonBody {
			return fmt.Errorf("its %s body is not a plain object", mt)
		}
		return nil
	}
	if enc == multipartBody {
		o.body.binary = binaryProps(d, m.Get("schema"))
	}
	for _, p := range o.params {
		if _, clash := flat.props[p.arg]; clash {
			d.warn(n, "%s has a parameter and a body property called %s; the body stands under `body`", o.name, p.arg)
			if enc != jsonBody {
				return fmt.Errorf("its body and parameters share the name %s", p.arg)
			}
			return nil
		}
	}
	o.body.merged, o.body.open = true, flat.open
	o.body.props = map[string]bool{}
	for k := range flat.props {
		o.body.props[k] = true
	}
	return nil
}

func binaryProps(d *document, n *yamldoc.Node) map[string]bool {
	n, err := d.deref(n)
	if err != nil || n == nil {
		return nil
	}
	b := map[string]bool{}
	if ps := n.Get("properties"); ps != nil {
		for _, p := range ps.Pairs {
			if q, err := d.deref(p.Value); err == nil && (text(q, "format") == "binary" || q.Get("contentMediaType") != nil) {
				b[p.Key.Text] = true
			}
		}
	}
	return b
}

// flatObject is an object whose properties can stand side by side with others.
type flatObject struct {
	props    map[string]any
	required []any
	open     bool // additionalProperties is said
	extra    any  // what it says
}

// flatten merges an object schema, its $ref and its allOf into one level, nil
// where the schema is anything else or says more than that.
func (c *converter) flatten(s map[string]any, depth int) *flatObject {
	if depth > 8 || s == nil {
		return nil
	}
	if r, ok := s["$ref"].(string); ok {
		if len(s) > 1 && (s["properties"] != nil || s["allOf"] != nil) {
			return nil
		}
		m, _ := c.defs[strings.TrimPrefix(r, "#/$defs/")].(map[string]any)
		return c.flatten(m, depth+1)
	}
	for k := range s {
		switch k {
		case "type", "properties", "required", "additionalProperties", "allOf", "title", "description", "examples", "default", "x-personal", "deprecated":
		default:
			return nil
		}
	}
	if t, ok := s["type"]; ok && t != "object" {
		return nil
	}
	f := &flatObject{props: map[string]any{}}
	if props, ok := s["properties"].(map[string]any); ok {
		for k, v := range props {
			f.props[k] = inherit(v, s)
		}
	} else if s["allOf"] == nil {
		return nil // a free map: it stands under `body`
	}
	f.required, _ = s["required"].([]any)
	if ap, said := s["additionalProperties"]; said && ap != false {
		f.open, f.extra = true, ap
	}
	all, _ := s["allOf"].([]any)
	for _, part := range all {
		m, _ := part.(map[string]any)
		g := c.flatten(m, depth+1)
		if g == nil {
			return nil
		}
		for k, v := range g.props {
			if old, twice := f.props[k]; twice {
				v = map[string]any{"allOf": []any{old, v}}
			}
			f.props[k] = inherit(v, s)
		}
		for _, r := range g.required {
			if !slices.Contains(f.required, r) {
				f.required = append(f.required, r)
			}
		}
		if g.open {
			f.open, f.extra = true, g.extra
		}
	}
	return f
}

// inherit passes the object's x-personal on to a property that leaves it.
func inherit(prop any, object map[string]any) any {
	m, ok := prop.(map[string]any)
	if !ok || object["x-personal"] != true || m["x-personal"] == true {
		return prop
	}
	m = maps.Clone(m)
	m["x-personal"] = true
	return m
}

// input builds the schema of Args.
func (o *operation) input(c *converter) {
	props, required := map[string]any{}, []any{}
	for _, p := range o.params {
		if p.key {
			continue
		}
		props[p.arg] = p.schema
		if p.required {
			required = append(required, p.arg)
		}
	}
	closed := any(false)
	switch {
	case o.body.enc == noBody:
	case o.body.merged:
		f := c.flatten(o.body.schema, 0)
		for k, v := range f.props {
			props[k] = v
		}
		if o.body.required || len(f.required) > 0 && len(o.params) == 0 {
			required = append(required, f.required...)
		}
		if f.open {
			closed = f.extra
		}
	default:
		props[bodyArg] = o.body.schema
		if o.body.required {
			required = append(required, bodyArg)
		}
	}
	if o.body.enc != noBody {
		o.body.schema = c.whole(maps.Clone(o.body.schema)).(map[string]any)
	}
	for i := range o.params {
		o.params[i].schema = c.whole(maps.Clone(o.params[i].schema)).(map[string]any)
	}
	if len(props) == 0 && closed == false {
		return
	}
	in := map[string]any{"type": "object", "properties": props, "additionalProperties": closed}
	if len(required) > 0 {
		in["required"] = required
	}
	o.in = c.whole(in).(map[string]any)
}
