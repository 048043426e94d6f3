package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/dime-bus/dime/internal/schema"
)

// openAPI describes the loaded routes (OpenAPI 3.1.0), so that it is exact by
// construction. Schemas stand under components by name.
func openAPI(c City) ([]byte, error) {
	d := document{schemas: map[string]any{}}
	paths := map[string]any{}
	for i := range c.Routes {
		r := &c.Routes[i]
		for n, t := range httpTriggers(r) {
			op, err := d.operation(r, t, n)
			if err != nil {
				return nil, fmt.Errorf("describing route %q: %w", r.Name, err)
			}
			item, ok := paths[t.Path].(map[string]any)
			if !ok {
				item = map[string]any{}
				paths[t.Path] = item
			}
			item[strings.ToLower(t.Method)] = op
		}
	}
	paths["/v1/runs/{run}"] = map[string]any{"get": runOperation()}
	d.schemas["Problem"] = problemSchema()
	doc := map[string]any{
		"openapi": "3.1.0",
		"info": map[string]any{"title": "Routes of the city", "version": version(c),
			"description": "Made from the routes that are loaded. Errors are problem+json (RFC 9457); `run` is the run's id where there is one."},
		"jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
		"paths":             paths,
		"components": map[string]any{
			"schemas": d.schemas,
			"securitySchemes": map[string]any{"caller": map[string]any{"type": "http", "scheme": "bearer", "bearerFormat": "JWT",
				"description": "A caller token, or the secret of a client named under clients: in config/dime.yaml."}},
			"responses": map[string]any{"Problem": map[string]any{"description": "What went wrong",
				"content": map[string]any{"application/problem+json": map[string]any{"schema": ref("Problem")}}}},
		},
	}
	b, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("encoding the OpenAPI document: %w", err)
	}
	return b, nil
}

// version changes whenever a route does.
func version(c City) string {
	n := 0
	for _, r := range c.Routes {
		n += r.Label
	}
	return "1.0." + strconv.Itoa(n)
}

func httpTriggers(r *Route) []Trigger {
	return slices.DeleteFunc(slices.Clone(r.Triggers), func(t Trigger) bool { return t.Kind != "http" })
}

type document struct{ schemas map[string]any }

func ref(name string) map[string]any { return map[string]any{"$ref": "#/components/schemas/" + name} }

func (d *document) operation(r *Route, t Trigger, n int) (map[string]any, error) {
	id := r.Name
	if n > 0 {
		id += "-" + strconv.Itoa(n+1)
	}
	op := map[string]any{"operationId": id, "summary": r.About, "x-version": r.Label, "x-digest": r.Digest}
	if r.Owner != "" {
		op["x-owner"] = r.Owner
	}
	op["security"] = []any{map[string]any{"caller": []any{}}}
	if !r.Allow {
		op["security"] = append(op["security"].([]any), map[string]any{})
	}
	params, taken, err := d.parameters(r, t)
	if err != nil {
		return nil, err
	}
	if len(params) > 0 {
		op["parameters"] = params
	}
	if r.Req != nil && t.Method != http.MethodGet && t.Method != http.MethodDelete {
		s, err := d.schema(r.Req)
		if err != nil {
			return nil, err
		}
		if len(taken) > 0 {
			s = d.without(r.Req, taken)
		}
		content := map[string]any{"application/json": map[string]any{"schema": s}}
		if takesFiles(r.Req.Type()) {
			content["multipart/form-data"] = map[string]any{"schema": s}
		}
		op["requestBody"] = map[string]any{"required": true, "content": content}
	}
	op["responses"], err = d.responses(r)
	return op, err
}

func (d *document) responses(r *Route) (map[string]any, error) {
	ok := map[string]any{"description": "The route's answer"}
	switch {
	case r.Resp != nil:
		s, err := d.schema(r.Resp)
		if err != nil {
			return nil, err
		}
		ok["content"] = map[string]any{"application/json": map[string]any{"schema": s}}
	case r.Result != nil:
		ok["content"] = map[string]any{"application/json": map[string]any{"schema": fromType(r.Result, 0)}}
	}
	out := map[string]any{"default": map[string]any{"$ref": "#/components/responses/Problem"}}
	for _, s := range r.Replies {
		if s >= 200 && s < 300 {
			out[strconv.Itoa(s)] = ok
		} else {
			out[strconv.Itoa(s)] = map[string]any{"$ref": "#/components/responses/Problem"}
		}
	}
	if len(r.Replies) == 0 {
		out["2XX"] = ok
	}
	return out, nil
}

// parameters are those of the path and the listed headers, and for a method
// without a body all further properties, which the query then gives.
func (d *document) parameters(r *Route, t Trigger) (params []any, taken []string, err error) {
	typ := r.Req.Type()
	add := func(name, in, field string, required bool) {
		s := map[string]any{"type": "string"}
		about := ""
		if typ != nil {
			if f := typ.Fields[field]; f != nil {
				s, about, required = fromType(f.Type, 0), f.About, required || f.Required
			}
		}
		p := map[string]any{"name": name, "in": in, "required": required, "schema": s}
		if about != "" {
			p["description"] = about
		}
		params, taken = append(params, p), append(taken, field)
	}
	for seg := range strings.SplitSeq(t.Path, "/") {
		if name, ok := parameter(seg); ok {
			add(name, "path", name, true)
		}
	}
	for _, h := range newBuilder(nil, nil, t.Headers).headers {
		add(http.CanonicalHeaderKey(h.name), "header", h.field, false)
	}
	if typ != nil && (t.Method == http.MethodGet || t.Method == http.MethodDelete) {
		names := typ.Order
		if len(names) != len(typ.Fields) {
			names = nil
			for n := range typ.Fields {
				names = append(names, n)
			}
			slices.Sort(names)
		}
		for _, name := range names {
			if !slices.Contains(taken, name) {
				add(name, "query", name, false)
			}
		}
	}
	return params, taken, nil
}

func takesFiles(t *schema.Type) bool {
	if t == nil {
		return false
	}
	for _, f := range t.Fields {
		x := f.Type
		if x != nil && x.Items != nil {
			x = x.Items
		}
		if x != nil && x.Fields["blob"] != nil {
			return true
		}
	}
	return false
}

// schema puts s under components and returns a reference to it.
func (d *document) schema(s *schema.Schema) (map[string]any, error) {
	name := component(s.Name)
	if _, done := d.schemas[name]; done {
		return ref(name), nil
	}
	doc, err := schema.DecodeJSON(s.Source)
	if err != nil {
		return nil, fmt.Errorf("reading schema %q: %w", s.Name, err)
	}
	d.schemas[name] = rewrite(doc, s.Name)
	return ref(name), nil
}

// rewrite makes references hold inside components: `#/$defs/x` of a schema is
// found below its component.
func rewrite(v any, name string) any {
	switch v := v.(type) {
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = rewrite(v[i], name)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, item := range v {
			if to, ok := item.(string); ok && k == "$ref" {
				out[k] = target(to, name)
				continue
			}
			if k == "$id" || k == "$schema" {
				continue
			}
			out[k] = rewrite(item, name)
		}
		return out
	}
	return v
}

// target keeps the fragment; a schema's source holds all that it refers to.
func target(ref, from string) string {
	if fragment, ok := strings.CutPrefix(ref, "#"); ok {
		return "#/components/schemas/" + component(from) + fragment
	}
	return ref
}

// component is a schema's name as OpenAPI allows one: [a-zA-Z0-9._-]+.
func component(name string) string {
	return strings.Map(func(c rune) rune {
		if c == '.' || c == '-' || c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
			return c
		}
		return '.'
	}, name)
}

// without is the body's schema where some properties come from elsewhere.
func (d *document) without(s *schema.Schema, taken []string) map[string]any {
	t := s.Type()
	if t == nil || t.Kind != schema.Object {
		return ref(component(s.Name))
	}
	rest := *t
	rest.Fields = map[string]*schema.Field{}
	for n, f := range t.Fields {
		if !slices.Contains(taken, n) {
			rest.Fields[n] = f
		}
	}
	return fromType(&rest, 0)
}

// fromType describes what the compiler knows of a value.
func fromType(t *schema.Type, depth int) map[string]any {
	out := map[string]any{}
	if t == nil || depth > 8 {
		return out
	}
	kind := map[schema.Kind]string{schema.Null: "null", schema.Bool: "boolean", schema.Int: "integer", schema.Number: "number",
		schema.String: "string", schema.Object: "object", schema.Array: "array", schema.Time: "string", schema.Period: "string"}[t.Kind]
	if kind != "" {
		out["type"] = kind
		if t.Nullable && kind != "null" {
			out["type"] = []any{kind, "null"}
		}
	}
	if t.Kind == schema.Time {
		out["format"] = "date-time"
	}
	if t.Format != "" {
		out["format"] = t.Format
	}
	if t.Enum != nil {
		out["enum"] = t.Enum
	}
	if t.Personal {
		out["x-personal"] = true
	}
	if t.Items != nil {
		out["items"] = fromType(t.Items, depth+1)
	}
	if len(t.Fields) > 0 {
		props, required := map[string]any{}, []string{}
		for n, f := range t.Fields {
			p := fromType(f.Type, depth+1)
			if f.About != "" {
				p["description"] = f.About
			}
			props[n] = p
			if f.Required {
				required = append(required, n)
			}
		}
		slices.Sort(required)
		out["properties"] = props
		if len(required) > 0 {
			out["required"] = required
		}
	}
	return out
}

func runOperation() map[string]any {
	return map[string]any{
		"operationId": "dime-run", "summary": "A run, for its owner",
		"security":   []any{map[string]any{"caller": []any{}}},
		"parameters": []any{map[string]any{"name": "run", "in": "path", "required": true, "schema": map[string]any{"type": "string"}}},
		"responses": map[string]any{
			"200": map[string]any{"description": "Its state, and its result so far", "content": map[string]any{"application/json": map[string]any{"schema": map[string]any{
				"type": "object", "required": []string{"run", "route", "state", "result"},
				"properties": map[string]any{"run": map[string]any{"type": "string"}, "route": map[string]any{"type": "string"},
					"state":  map[string]any{"enum": []string{"queued", "running", "waiting", "undoing", "parked", "done", "cancelled", "failed"}},
					"result": map[string]any{}}}}}},
			"default": map[string]any{"$ref": "#/components/responses/Problem"},
		},
	}
}

func problemSchema() map[string]any {
	text := map[string]any{"type": "string"}
	return map[string]any{
		"type": "object", "required": []string{"type", "title", "status"},
		"properties": map[string]any{
			"type": map[string]any{"type": "string", "format": "uri"}, "title": text,
			"status": map[string]any{"type": "integer"}, "detail": text,
			"say":     map[string]any{"type": "string", "description": "key of the sentence in detail"},
			"run":     map[string]any{"type": "string", "description": "id of the run"},
			"run_url": map[string]any{"type": "string"},
			"errors": map[string]any{"type": "array", "items": map[string]any{"type": "object", "required": []string{"pointer", "message"},
				"properties": map[string]any{"pointer": map[string]any{"type": "string", "description": "JSON pointer (RFC 6901)"}, "message": text}}},
		},
	}
}
