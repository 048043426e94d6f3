package openapi

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/dime-bus/dime/internal/schema"
)

// parse reads a request as the document says, into the shape of Args, and
// checks it; wrong is the 400 that a strict server would answer. key is the
// Idempotency-Key, wherever the document puts it.
func (c *caller) parse(r *http.Request, vars []string, raw []byte) (args map[string]any, key string, wrong *reply) {
	args = map[string]any{}
	refuse := func(detail string) { // the first reason is the one told
		if wrong == nil {
			p := problem(http.StatusBadRequest, "", detail)
			wrong = &p
		}
	}
	key = r.Header.Get("Idempotency-Key")
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		refuse("the query can't be read")
	}
	i := 0
	for _, s := range c.segs {
		if s.param == nil {
			continue
		}
		if t, err := url.PathUnescape(vars[i]); err == nil {
			args[s.param.arg] = typed(t, s.param.schema)
		}
		i++
	}
	for j := range c.params {
		p := &c.params[j]
		var v any
		switch p.in {
		case "query":
			v = fromQuery(query, p)
		case "header":
			if t := r.Header.Get(p.name); t != "" {
				v = typed(t, p.schema)
			}
		case "cookie":
			if ck, err := r.Cookie(p.name); err == nil {
				t, _ := url.QueryUnescape(ck.Value)
				v = typed(t, p.schema)
			}
		default:
			continue
		}
		if p.key {
			if s, ok := v.(string); ok && s != "" {
				key = s
			}
			if p.required && v == nil {
				refuse(p.name + " is missing")
			}
			continue
		}
		if v == nil {
			v = p.schema["default"]
		}
		if v != nil {
			args[p.arg] = v
		}
	}
	if detail := c.parseBody(r, raw, args); detail != "" {
		refuse(detail)
	}
	if c.inSchema != nil && wrong == nil {
		if m, ok := c.inSchema.Coerce(args).(map[string]any); ok {
			args = m
		}
		if vs := c.inSchema.Validate(args); len(vs) > 0 {
			refuse(vs[0].Pointer + ": " + vs[0].Message)
		}
	}
	return args, key, wrong
}

// parseBody adds the body to args; it returns what is wrong with it.
func (c *caller) parseBody(r *http.Request, raw []byte, args map[string]any) string {
	if c.body.enc == noBody {
		return ""
	}
	if len(raw) == 0 {
		if c.body.required {
			return "the body is missing"
		}
		return ""
	}
	var v any
	switch c.body.enc {
	case jsonBody:
		if encodingOf(r.Header.Get("Content-Type")) != jsonBody {
			return "the body must be " + c.body.media
		}
		var err error
		if v, err = schema.DecodeJSON(raw); err != nil {
			return "the body is no JSON: " + err.Error()
		}
	case formBody:
		q, err := url.ParseQuery(string(raw))
		if err != nil {
			return "the body is no form"
		}
		props, _ := c.body.schema["properties"].(map[string]any)
		m := map[string]any{}
		for k := range q {
			s, _ := props[k].(map[string]any)
			m[k] = fromQuery(q, &param{name: k, style: "form", explode: true, schema: s})
		}
		v = m
	case multipartBody:
		m, problem := c.parseMultipart(r, raw)
		if problem != "" {
			return problem
		}
		v = m
	case textBody:
		v = string(raw)
	case binaryBody:
		v = base64.StdEncoding.EncodeToString(raw)
	}
	if !c.body.merged {
		args[bodyArg] = v
		return ""
	}
	m, ok := v.(map[string]any)
	if !ok {
		return "the body must be an object"
	}
	for k, x := range m {
		if !c.isParam(k) {
			args[k] = x
		}
	}
	return ""
}

func (c *caller) parseMultipart(r *http.Request, raw []byte) (map[string]any, string) {
	_, ps, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || ps["boundary"] == "" {
		return nil, "the body must be multipart/form-data with a boundary"
	}
	m := map[string]any{}
	props, _ := c.body.schema["properties"].(map[string]any)
	mr := multipart.NewReader(bytes.NewReader(raw), ps["boundary"])
	for {
		part, err := mr.NextPart()
		if errors.Is(err, io.EOF) {
			return m, ""
		}
		if err != nil {
			return nil, "the multipart body can't be read"
		}
		b, err := io.ReadAll(part)
		if err != nil {
			return nil, "the multipart body can't be read"
		}
		name := part.FormName()
		s, _ := props[name].(map[string]any)
		switch {
		case c.body.binary[name]:
			m[name] = base64.StdEncoding.EncodeToString(b)
		case encodingOf(part.Header.Get("Content-Type")) == jsonBody:
			if m[name], err = schema.DecodeJSON(b); err != nil {
				return nil, "the part " + name + " is no JSON"
			}
		default:
			m[name] = typed(string(b), s)
		}
	}
}

// fromQuery reads a parameter in its style; nil if it is absent.
func fromQuery(q url.Values, p *param) any {
	s := resolve(p.schema, p.schema)
	if p.json {
		if t := q.Get(p.name); t != "" {
			v, err := schema.DecodeJSON([]byte(t))
			if err != nil {
				return t
			}
			return v
		}
		return nil
	}
	switch typeOf(s) {
	case "array":
		items, _ := s["items"].(map[string]any)
		items = resolve(items, p.schema)
		vs := q[p.name]
		if len(vs) == 0 {
			return nil
		}
		if !p.explode {
			sep := map[string]string{"spaceDelimited": " ", "pipeDelimited": "|"}[p.style]
			if sep == "" {
				sep = ","
			}
			vs = strings.Split(vs[0], sep)
		}
		l := make([]any, len(vs))
		for i, t := range vs {
			l[i] = typed(t, items)
		}
		return l
	case "object":
		props, _ := s["properties"].(map[string]any)
		m := map[string]any{}
		for k := range props {
			name := k
			if p.style == "deepObject" {
				name = p.name + "[" + k + "]"
			}
			if q.Has(name) {
				ps, _ := props[k].(map[string]any)
				m[k] = typed(q.Get(name), resolve(ps, p.schema))
			}
		}
		if len(m) == 0 {
			return nil
		}
		return m
	}
	if !q.Has(p.name) {
		return nil
	}
	return typed(q.Get(p.name), s)
}

// typed reads a parameter's text as its schema says; what does not fit stays
// text, for the schema to refuse.
func typed(t string, s map[string]any) any {
	s = resolve(s, s)
	switch typeOf(s) {
	case "integer":
		if i, err := strconv.Atoi(t); err == nil {
			return i
		}
	case "number":
		if f, err := strconv.ParseFloat(t, 64); err == nil {
			return f
		}
	case "boolean":
		if t == "true" || t == "false" {
			return t == "true"
		}
	case "array":
		items, _ := s["items"].(map[string]any)
		var l []any
		for _, x := range strings.Split(t, ",") {
			l = append(l, typed(x, items))
		}
		return l
	}
	return t
}

// resolve follows $ref into root's $defs, and a single allOf.
func resolve(s, root map[string]any) map[string]any {
	defs, _ := root["$defs"].(map[string]any)
	for range 32 {
		if r, ok := s["$ref"].(string); ok {
			next, _ := defs[strings.TrimPrefix(r, "#/$defs/")].(map[string]any)
			if next == nil {
				return map[string]any{}
			}
			s = next
			continue
		}
		if all, ok := s["allOf"].([]any); ok && len(all) == 1 && s["type"] == nil {
			if next, ok := all[0].(map[string]any); ok {
				s = next
				continue
			}
		}
		return s
	}
	return s
}

// typeOf is the schema's type beside null, "" if it has none or several.
func typeOf(s map[string]any) string {
	switch t := s["type"].(type) {
	case string:
		return t
	case []any:
		one := ""
		for _, x := range t {
			if w, _ := x.(string); w != "null" {
				if one != "" {
					return ""
				}
				one = w
			}
		}
		return one
	}
	return ""
}
