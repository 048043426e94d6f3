// Package http makes a connector of a plain HTTP and JSON backend whose author
// wrote no OpenAPI document: each operation is declared in the city's file.
//
//	http:
//	  read_meter:
//	    about: Reads a water meter.
//	    method: GET
//	    path: /meters/{meter}        # {meter} is an argument
//	    query: [from, to]            # arguments that go into the query
//	    headers: {X-Office: office}  # arguments that go into headers
//	    in: water/meter-request      # schemas/water/meter-request.json
//	    out: water/meter             # nothing: the answer's body is ignored
//	  order_reading:
//	    method: POST
//	    path: /meters/{meter}/orders # what is left of the arguments is the JSON body
//	    in: water/order-request
//	    out: water/order
//	    effect: writes
//	    keyed: "contract with the utility, section 7"
//	base_url: https://water.example/api
//	timeout: 2s
//
// An effect's key goes out as the header Idempotency-Key.
package http

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/httpclient"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/yamldoc"
)

// Field is what marks a file of config/connectors as this kind.
const Field = "http"

// Connector is one plain HTTP backend.
type Connector struct {
	desc   connectors.Description
	client *httpclient.Client
	base   *url.URL
}

// Check implements connectors.Checker.
func (c *Connector) Check(ctx context.Context) error { return connectors.Reach(ctx, c.client, c.base) }

// Describe implements connectors.Connector.
func (c *Connector) Describe() connectors.Description { return c.desc }

type declared struct {
	About   string            `yaml:"about"`
	Method  string            `yaml:"method,required"`
	Path    string            `yaml:"path,required"`
	Query   []string          `yaml:"query"`
	Headers map[string]string `yaml:"headers"`
	In      string            `yaml:"in"`
	Out     string            `yaml:"out"`
	Effect  string            `yaml:"effect"`
	Keyed   *yamldoc.Node     `yaml:"keyed"`
	FoundBy string            `yaml:"found_by"`
	Basis   string            `yaml:"basis"`
	Faults  *yamldoc.Node     `yaml:"faults"`
	Timeout time.Duration     `yaml:"timeout"`
	Retry   *yamldoc.Node     `yaml:"retry"`
}

// New builds the connector; it is nil where a problem is no warning.
func New(src connectors.Spec) (*Connector, []yamldoc.Problem) {
	settings, ps := connectors.ReadSettings(src.Node, Field)
	c := &Connector{desc: connectors.Description{Name: src.Name, Summary: settings.About, Policy: settings.Policy.Or(connectors.DefaultPolicy())}}
	if c.desc.Summary == "" {
		c.desc.Summary = "HTTP backend " + src.Name
	}
	base, err := url.Parse(settings.BaseURL)
	if settings.BaseURL == "" || settings.BaseURL == "city:" || err != nil {
		ps = append(ps, yamldoc.Problem{Pos: settings.BasePos, Rule: "value", Message: "`base_url` must say where the backend is: without an OpenAPI document the virtual city can't play it"})
	}
	c.client, c.base = src.Client, base
	decl := src.Node.Get(Field)
	if decl.Kind != yamldoc.Map || len(decl.Pairs) == 0 {
		return nil, append(ps, decl.Problem("type", "`http` is a map of operations: {NAME: {method: GET, path: /x/{id}}}"))
	}
	var calls []*caller
	for _, p := range decl.Pairs {
		call, cps := c.operation(p, src, settings)
		ps = append(ps, cps...)
		if call != nil {
			call.base = base
			calls = append(calls, call)
		}
	}
	for _, call := range calls {
		if call.op.FoundBy == "" {
			continue
		}
		at := decl.Get(call.op.Name).Get("found_by")
		i := slices.IndexFunc(calls, func(x *caller) bool { return x.op.Name == call.op.FoundBy })
		switch {
		case i < 0:
			ps = append(ps, at.Problem("operation", yamldoc.UnknownField(call.op.FoundBy, decl.Keys())))
		case !calls[i].safe:
			ps = append(ps, at.Problem("value", fmt.Sprintf("%s is asked whether %s happened, so it must be safe", call.op.FoundBy, call.op.Name)))
		default:
			call.sendKey = call.sendKey || slices.ContainsFunc(calls[i].vars, func(v string) bool { return v == "key" }) || slices.Contains(calls[i].query, "key")
		}
	}
	for _, p := range ps {
		if !p.Warning {
			return nil, ps
		}
	}
	return c, ps
}

func (c *Connector) operation(p yamldoc.Pair, src connectors.Spec, settings connectors.Settings) (*caller, []yamldoc.Problem) {
	var v declared
	ps := p.Value.Decode(&v)
	bad := func(at *yamldoc.Node, rule, format string, args ...any) {
		if at == nil {
			at = p.Key
		}
		ps = append(ps, at.Problem(rule, fmt.Sprintf(format, args...)))
	}
	method := strings.ToUpper(v.Method)
	if v.Method != "" && !slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}, method) {
		bad(p.Value.Get("method"), "value", "`method` is GET, HEAD, POST, PUT, PATCH or DELETE, not %q", v.Method)
	}
	if v.Path != "" && (!strings.HasPrefix(v.Path, "/") || strings.ContainsAny(v.Path, "?# ")) {
		bad(p.Value.Get("path"), "value", "`path` begins with / and holds neither query nor blanks; arguments for the query stand under `query`")
	}
	op := &connectors.Operation{Name: p.Key.Text, Summary: v.About, Basis: v.Basis, FoundBy: v.FoundBy, Effect: connectors.Effect(v.Effect), Policy: c.desc.Policy}
	call := &caller{op: op, method: method, client: src.Client, query: v.Query, headers: v.Headers, fixed: settings.Headers}
	call.split(v.Path)
	if op.Summary == "" {
		op.Summary = method + " " + v.Path
	}
	switch op.Effect {
	case "":
		op.Effect = connectors.Writes
		if method == http.MethodGet || method == http.MethodHead {
			op.Effect = connectors.Safe
		}
	case connectors.Safe, connectors.Writes, connectors.Pays:
	default:
		bad(p.Value.Get("effect"), "value", "`effect` is safe, writes or pays, not %q", v.Effect)
	}
	call.safe = op.Effect == connectors.Safe
	if k := v.Keyed; !k.IsNull() && k.Text != "false" {
		op.Keyed, call.sendKey = true, true
		if k.Text != "true" {
			op.Basis = k.Text
		}
	}
	if call.safe && (op.Keyed || op.FoundBy != "") {
		bad(nil, "value", "%s is safe: `keyed` and `found_by` are for operations that write or pay", op.Name)
	}
	if (op.Keyed || op.FoundBy != "") && op.Basis == "" {
		op.Basis = src.File + ", " + op.Name
		c.desc.Warnings = append(c.desc.Warnings, fmt.Sprintf("%s:%d:%d: %s claims to be keyed or found without citing what the claim rests on; say `keyed: \"contract, section\"` or `basis`", p.Key.File, p.Key.Line, p.Key.Column, op.Name))
	}
	if v.Timeout > 0 {
		op.Policy.Timeout = v.Timeout
	}
	ps = append(ps, connectors.ReadRetry(v.Retry, &op.Policy)...)
	l, fps := connectors.ReadFaults(v.Faults, func(st int) fault.Kind { return httpclient.FaultOf(st, call.safe, nil).Kind })
	ps = append(ps, fps...)
	call.faults, op.Faults = l, l.Describe()
	op.In = named(src.Schemas, v.In, p.Value.Get("in"), &ps)
	op.Out = named(src.Schemas, v.Out, p.Value.Get("out"), &ps)
	if t := op.In.Type(); t != nil && t.Kind != schema.Object {
		bad(p.Value.Get("in"), "type", "the arguments of an operation are an object; the schema %s is none", v.In)
	} else if t == nil && v.In == "" && len(call.vars)+len(v.Query)+len(v.Headers) > 0 {
		// Without a schema the arguments that the declaration names are strings.
		op.In = call.implied(&ps, p.Key)
	} else if t != nil {
		for _, name := range call.named() {
			if _, ok := t.Fields[name]; !ok && !t.Open {
				bad(p.Key, "field", "the schema %s has no property %q, which the declaration uses%s", v.In, name, schema.DidYouMean(name, t.Order))
			}
		}
	}
	op.Do, op.Checked = call.do, true // by Out.Decode
	c.desc.Operations = append(c.desc.Operations, op)
	return call, ps
}

func named(set *schema.Set, name string, at *yamldoc.Node, ps *[]yamldoc.Problem) *schema.Schema {
	if name == "" {
		return nil
	}
	var s *schema.Schema
	var known []string
	if set != nil {
		s, known = set.Get(name), set.Names()
	}
	if s == nil {
		msg := fmt.Sprintf("there is no schema schemas/%s.json", name)
		if n := yamldoc.Suggest(name, known); n != "" {
			msg += fmt.Sprintf("; did you mean %q?", n)
		}
		*ps = append(*ps, at.Problem("schema", msg))
	}
	return s
}

// caller makes an operation's attempts.
type caller struct {
	op       *connectors.Operation
	method   string
	base     *url.URL
	client   *httpclient.Client
	literals []string // of the path, one more than vars
	vars     []string // of the path
	query    []string
	headers  map[string]string
	fixed    []connectors.Header
	faults   connectors.FaultList
	safe     bool
	sendKey  bool
}

func (c *caller) split(path string) {
	for {
		i := strings.IndexByte(path, '{')
		j := strings.IndexByte(path, '}')
		if i < 0 || j < i {
			c.literals = append(c.literals, path)
			return
		}
		c.literals = append(c.literals, path[:i])
		c.vars = append(c.vars, path[i+1:j])
		path = path[j+1:]
	}
}

// named lists the arguments that go elsewhere than into the body.
func (c *caller) named() []string {
	ns := append(slices.Clone(c.vars), c.query...)
	for _, h := range sorted(c.headers) {
		ns = append(ns, c.headers[h])
	}
	return ns
}

func sorted(m map[string]string) []string {
	ks := make([]string, 0, len(m))
	for k := range m {
		ks = append(ks, k)
	}
	slices.Sort(ks)
	return ks
}

func (c *caller) implied(ps *[]yamldoc.Problem, at *yamldoc.Node) *schema.Schema {
	props, required := map[string]any{}, []any{}
	for _, n := range c.named() {
		props[n] = map[string]any{"type": "string"}
	}
	for _, n := range c.vars {
		required = append(required, n)
	}
	s, err := schema.Compile(c.op.Name+"/in", map[string]any{"type": "object", "properties": props, "required": required, "additionalProperties": false})
	if err != nil {
		*ps = append(*ps, at.Problem("schema", err.Error()))
	}
	return s
}

func (c *caller) do(ctx context.Context, call connectors.Call) (any, error) {
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
	if resp.Status >= 400 {
		f := httpclient.FaultOf(resp.Status, c.safe, resp.Header)
		if len(c.faults) > 0 {
			body, _ := schema.DecodeJSON(resp.Body)
			c.faults.Name(f, resp.Status, body)
		}
		return nil, f
	}
	broken := func(pointer, detail string) error {
		raw := resp.Body[:min(len(resp.Body), 64<<10)]
		return &fault.Error{Kind: fault.Contract, Sent: true, Raw: raw, Pointer: pointer, Detail: detail}
	}
	if resp.Status < 200 || resp.Status > 299 {
		return nil, broken("", fmt.Sprintf("the system behind answered %d, which its contract does not have", resp.Status))
	}
	if c.op.Out == nil {
		return nil, nil
	}
	v, wrong := c.op.Out.Decode(resp.Body)
	if len(wrong) > 0 {
		return nil, broken(wrong[0].Pointer, "the answer breaks the contract: "+wrong[0].Message)
	}
	return v, nil
}

var (
	acceptJSON  = []string{"application/json"}
	contentJSON = []string{"application/json"}
)

func (c *caller) build(call connectors.Call) (httpclient.Request, error) {
	req := httpclient.Request{Method: c.method, Safe: c.safe, Header: http.Header{"Accept": acceptJSON}}
	get := func(name string) any {
		v := call.Args[name]
		if v == nil && c.safe && name == "key" && call.Key != "" {
			return call.Key // found_by
		}
		return v
	}
	u := *c.base
	if len(c.vars) == 0 {
		u.Path += c.literals[0]
	} else {
		plain, escaped := u.Path, u.EscapedPath()
		for i, lit := range c.literals {
			plain, escaped = plain+lit, escaped+lit
			if i < len(c.vars) {
				t := asText(get(c.vars[i]))
				if t == "" || t == "." || t == ".." { // a server would read another path
					return req, fault.New(fault.Invalid, "%q can't stand in the address of %s", c.vars[i], c.op.Name)
				}
				plain, escaped = plain+t, escaped+url.PathEscape(t)
			}
		}
		u.Path = plain
		if plain != escaped {
			u.RawPath = escaped
		}
	}
	if len(c.query) > 0 {
		q := url.Values{}
		for _, name := range c.query {
			switch v := get(name).(type) {
			case nil:
			case []any:
				for _, x := range v {
					q.Add(name, asText(x))
				}
			default:
				q.Set(name, asText(v))
			}
		}
		u.RawQuery = q.Encode()
	}
	req.URL = &u
	for h, name := range c.headers {
		if v := get(name); v != nil {
			t := asText(v)
			if strings.ContainsAny(t, "\r\n\x00") {
				return req, fault.New(fault.Invalid, "%q holds a line break and can't be sent as a header", name)
			}
			req.Header[http.CanonicalHeaderKey(h)] = []string{t}
		}
	}
	if !c.safe && call.Key != "" {
		if c.sendKey {
			req.Key = call.Key
		}
		req.Header["X-Request-Id"] = []string{call.Key}
	}
	if err := connectors.ApplyHeaders(req.Header, c.fixed); err != nil {
		return req, &fault.Error{Kind: fault.Unavailable, Detail: "a credential of the backend can't be read", Err: err}
	}
	if c.method == http.MethodGet || c.method == http.MethodHead || c.method == http.MethodDelete {
		return req, nil
	}
	body := call.Args
	if elsewhere := c.named(); len(elsewhere) > 0 {
		body = make(map[string]any, len(call.Args))
		for k, v := range call.Args {
			if !slices.Contains(elsewhere, k) {
				body[k] = v
			}
		}
	}
	if body == nil {
		return req, nil
	}
	b, err := schema.Canonical(body)
	if err != nil {
		return req, &fault.Error{Kind: fault.Internal, Detail: "the request can't be written as JSON", Err: err}
	}
	req.Body = b
	req.Header["Content-Type"] = contentJSON
	return req, nil
}

func asText(v any) string {
	if t, ok := schema.Text(v); ok {
		return t
	}
	b, _ := schema.Canonical(v)
	return string(b)
}
