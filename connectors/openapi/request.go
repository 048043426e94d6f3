package openapi

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/httpclient"
	"github.com/dime-bus/dime/internal/schema"
)

// caller makes an operation's attempts.
type caller struct {
	*operation
	connector string
	client    *httpclient.Client
	base      *url.URL // nil: there is nowhere to call
	baseErr   string
	headers   []connectors.Header
	safe      bool
	sendKey   bool // the Idempotency-Key header
	faults    connectors.FaultList
	segs      []segment
}

// segment of a path template: a literal, or the parameter that stands there.
type segment struct {
	literal string
	param   *param
}

func (o *operation) segments() []segment {
	var segs []segment
	rest := o.path
	for {
		i := strings.IndexByte(rest, '{')
		j := strings.IndexByte(rest, '}')
		if i < 0 || j < i {
			return append(segs, segment{literal: rest})
		}
		segs = append(segs, segment{literal: rest[:i]})
		for k := range o.params {
			if o.params[k].in == "path" && o.params[k].name == rest[i+1:j] {
				segs = append(segs, segment{param: &o.params[k]})
			}
		}
		rest = rest[j+1:]
	}
}

func invalid(format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, format, args...)
}

// do makes one attempt (connectors.Operation.Do).
func (c *caller) do(ctx context.Context, call connectors.Call) (any, error) {
	if c.base == nil {
		return nil, fault.New(fault.Unavailable, "%s has no address to be called at: %s", c.connector, c.baseErr)
	}
	if err := ctx.Err(); err != nil {
		return nil, &fault.Error{Kind: fault.Unavailable, Detail: "no time was left to send the request", Err: err}
	}
	req, err := c.build(call)
	if err != nil {
		return nil, err
	}
	resp, err := c.client.Do(ctx, req)
	if err != nil {
		return nil, err
	}
	return c.result(resp)
}

// arg finds a parameter's value; a found_by operation's key parameter takes the
// effect's key.
func (c *caller) arg(p *param, call *connectors.Call) any {
	if p.key {
		if call.Key == "" {
			return nil
		}
		return call.Key
	}
	v, ok := call.Args[p.arg]
	if (!ok || v == nil) && c.safe && call.Key != "" && fillsKey(p.arg) {
		return call.Key
	}
	return v
}

func (c *caller) build(call connectors.Call) (httpclient.Request, error) {
	req := httpclient.Request{Method: c.method, Header: make(http.Header, 6), Safe: c.safe}
	u := *c.base
	var plain, escaped strings.Builder
	plain.WriteString(u.Path)
	escaped.WriteString(u.EscapedPath())
	for i := range c.segs {
		s := &c.segs[i]
		if s.param == nil {
			plain.WriteString(s.literal)
			escaped.WriteString(s.literal)
			continue
		}
		v := c.arg(s.param, &call)
		t := joined(v, ",")
		if t == "" || t == "." || t == ".." { // a server would read another path
			return req, invalid("%q can't stand in the address of %s.%s", s.param.arg, c.connector, c.name)
		}
		plain.WriteString(t)
		escaped.WriteString(url.PathEscape(t))
	}
	u.Path, u.RawPath = plain.String(), escaped.String()
	if u.Path == u.RawPath {
		u.RawPath = ""
	}
	var q query
	for i := range c.params {
		p := &c.params[i]
		if p.in == "path" {
			continue
		}
		v := c.arg(p, &call)
		if v == nil {
			continue
		}
		switch p.in {
		case "query":
			q.add(p, v)
		case "header", "cookie":
			t := joined(v, ",")
			if p.json {
				b, _ := schema.Canonical(v)
				t = string(b)
			}
			if strings.ContainsAny(t, "\r\n\x00") {
				return req, invalid("%q holds a line break and can't be sent as a header", p.arg)
			}
			if p.in == "cookie" {
				t = p.name + "=" + url.QueryEscape(t)
				if old := req.Header.Get("Cookie"); old != "" {
					t = old + "; " + t
				}
				req.Header["Cookie"] = []string{t}
			} else if p.key {
				req.Key = t
			} else {
				req.Header[http.CanonicalHeaderKey(p.name)] = []string{t}
			}
		}
	}
	u.RawQuery = q.String()
	req.URL = &u
	if c.answer.enc == jsonBody {
		req.Header["Accept"] = acceptJSON
	}
	if !c.safe && call.Key != "" {
		if c.sendKey {
			req.Key = call.Key
		}
		// Also where the far side keeps no keys, so that its log can be compared with ours.
		if _, ok := req.Header["X-Request-Id"]; !ok {
			req.Header["X-Request-Id"] = []string{call.Key}
		}
	}
	if err := c.encode(&req, call.Args); err != nil {
		return req, err
	}
	if err := connectors.ApplyHeaders(req.Header, c.headers); err != nil {
		return req, &fault.Error{Kind: fault.Unavailable, Detail: "a credential of " + c.connector + " can't be read", Err: err}
	}
	return req, nil
}

// Shared by all requests; net/http reads header values only.
var acceptJSON = []string{"application/json"}

// encode puts the body's arguments into the request.
func (c *caller) encode(req *httpclient.Request, args map[string]any) error {
	if c.body.enc == noBody {
		return nil
	}
	var value any
	if c.body.merged {
		m := make(map[string]any, len(args))
		for k, v := range args {
			if c.body.props[k] || c.body.open && !c.isParam(k) {
				m[k] = v
			}
		}
		if len(m) == 0 && !c.body.required {
			return nil
		}
		value = m
	} else {
		v, ok := args[bodyArg]
		if !ok {
			return nil
		}
		value = v
	}
	req.Header["Content-Type"] = []string{c.body.media}
	switch c.body.enc {
	case jsonBody:
		b, err := schema.Canonical(value)
		if err != nil {
			return &fault.Error{Kind: fault.Internal, Detail: "the request can't be written as JSON", Err: err}
		}
		req.Body = b
	case formBody:
		var q query
		m, _ := value.(map[string]any)
		for _, k := range sortedKeys(m) {
			q.add(&param{name: k, style: "form", explode: true}, m[k])
		}
		req.Body = []byte(q.String())
	case multipartBody:
		m, _ := value.(map[string]any)
		return c.multipart(req, m)
	case textBody:
		req.Body = []byte(joined(value, ","))
	case binaryBody:
		b, err := base64.StdEncoding.DecodeString(joined(value, ""))
		if err != nil {
			return invalid("%q must be base64", bodyArg)
		}
		req.Body = b
	}
	return nil
}

func (c *caller) isParam(arg string) bool {
	for i := range c.params {
		if c.params[i].arg == arg {
			return true
		}
	}
	return false
}

func (c *caller) multipart(req *httpclient.Request, m map[string]any) error {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, k := range sortedKeys(m) {
		if m[k] == nil {
			continue
		}
		h := textproto.MIMEHeader{}
		h.Set("Content-Disposition", fmt.Sprintf(`form-data; name=%q`, k))
		content := []byte(joined(m[k], ","))
		switch v := m[k].(type) {
		case map[string]any, []any:
			h.Set("Content-Type", "application/json")
			content, _ = schema.Canonical(v)
		case string:
			if c.body.binary[k] {
				raw, err := base64.StdEncoding.DecodeString(v)
				if err != nil {
					return invalid("%q must be base64", k)
				}
				h.Set("Content-Disposition", fmt.Sprintf(`form-data; name=%q; filename=%q`, k, k))
				h.Set("Content-Type", "application/octet-stream")
				content = raw
			}
		}
		part, err := w.CreatePart(h)
		if err == nil {
			_, err = part.Write(content)
		}
		if err != nil {
			return &fault.Error{Kind: fault.Internal, Err: fmt.Errorf("writing the multipart body: %w", err)}
		}
	}
	if err := w.Close(); err != nil {
		return &fault.Error{Kind: fault.Internal, Err: fmt.Errorf("closing the multipart body: %w", err)}
	}
	req.Body = b.Bytes()
	req.Header["Content-Type"] = []string{w.FormDataContentType()}
	return nil
}

// result reads the answer.
func (c *caller) result(resp *httpclient.Response) (any, error) {
	st := resp.Status
	switch {
	case c.answer.redirect && st >= 300 && st < 400:
		r := map[string]any{"status": st}
		if l := resp.Header.Get("Location"); l != "" {
			r["location"] = l
		}
		return r, nil
	case st >= 400:
		f := httpclient.FaultOf(st, c.safe, resp.Header)
		if len(c.faults) > 0 {
			body, _ := schema.DecodeJSON(resp.Body)
			c.faults.Name(f, st, body)
		}
		return nil, f
	case st < 200 || st > 299 || c.answer.redirect:
		return nil, c.broken(resp, fmt.Sprintf("the system behind answered %d, which its contract does not have", st))
	case c.out == nil:
		return nil, nil
	}
	switch c.answer.enc {
	case textBody:
		return string(resp.Body), nil
	case binaryBody:
		t := resp.Header.Get("Content-Type")
		if t == "" {
			t = "application/octet-stream"
		}
		return map[string]any{contentArg: base64.StdEncoding.EncodeToString(resp.Body), typeArg: t}, nil
	}
	v, wrong := c.outSchema.Decode(resp.Body)
	if len(wrong) > 0 {
		f := c.broken(resp, "the answer breaks the contract: "+wrong[0].Message)
		f.Pointer = wrong[0].Pointer
		return nil, f
	}
	return v, nil
}

func (c *caller) broken(resp *httpclient.Response, detail string) *fault.Error {
	raw := resp.Body
	if len(raw) > 64<<10 {
		raw = raw[:64<<10]
	}
	return &fault.Error{Kind: fault.Contract, Sent: true, Raw: raw, Detail: detail}
}

// query is a query string under construction.
type query struct{ b strings.Builder }

func (q *query) String() string { return q.b.String() }

func (q *query) pair(k, v string) {
	if q.b.Len() > 0 {
		q.b.WriteByte('&')
	}
	q.b.WriteString(url.QueryEscape(k))
	q.b.WriteByte('=')
	q.b.WriteString(url.QueryEscape(v))
}

// add writes a value in the parameter's style (OpenAPI 3.1, 4.8.12.6).
func (q *query) add(p *param, v any) {
	if p.json {
		b, _ := schema.Canonical(v)
		q.pair(p.name, string(b))
		return
	}
	switch v := v.(type) {
	case []any:
		if p.explode {
			for _, x := range v {
				q.pair(p.name, joined(x, ","))
			}
			return
		}
		sep := map[string]string{"spaceDelimited": " ", "pipeDelimited": "|"}[p.style]
		if sep == "" {
			sep = ","
		}
		q.pair(p.name, joined(v, sep))
	case map[string]any:
		for _, k := range sortedKeys(v) {
			switch {
			case p.style == "deepObject":
				q.pair(p.name+"["+k+"]", joined(v[k], ","))
			case p.explode:
				q.pair(k, joined(v[k], ","))
			}
		}
		if !p.explode {
			q.pair(p.name, joined(v, ","))
		}
	case nil:
	default:
		q.pair(p.name, joined(v, ","))
	}
}

// joined is a value as the text of a parameter.
func joined(v any, sep string) string {
	if t, ok := schema.Text(v); ok {
		return t
	}
	switch v := v.(type) {
	case []any:
		ts := make([]string, len(v))
		for i, x := range v {
			ts[i] = joined(x, sep)
		}
		return strings.Join(ts, sep)
	case map[string]any:
		var ts []string
		for _, k := range sortedKeys(v) {
			ts = append(ts, k, joined(v[k], sep))
		}
		return strings.Join(ts, sep)
	}
	return fmt.Sprint(v)
}
