package openapi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/httpclient"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/yamldoc"
)

// Field is what marks a file of config/connectors as this kind.
const Field = "openapi"

// Connector is one system that an OpenAPI document describes.
type Connector struct {
	desc     connectors.Description
	settings connectors.Settings
	doc      *document
	docFile  string
	fsys     fs.FS
	calls    map[string]*caller // by operation
	ops      []*caller          // in document order
	byName   map[string]*connectors.Operation
	state    *stateFile // nil: the far side is played from the schemas alone
	client   *httpclient.Client
	url      *url.URL // where operations are called; nil: nowhere
}

// Check implements connectors.Checker.
func (c *Connector) Check(ctx context.Context) error { return connectors.Reach(ctx, c.client, c.url) }

// Describe implements connectors.Connector.
func (c *Connector) Describe() connectors.Description { return c.desc }

// New builds the connector of a file
//
//	openapi: agenda.openapi.yaml      # beside this file; YAML or JSON, 3.0 or 3.1
//	base_url: https://agenda.example  # or city:
//	timeout: 3s
//	retry: {attempts: 3, backoff: 100ms}
//	operations:
//	  hold: {effect: writes, keyed: "contract, section 4", found_by: hold_by_key, faults: {slot_taken: 409}}
//
// Problems that are not warnings refuse it; it is nil then.
func New(src connectors.Spec) (*Connector, []yamldoc.Problem) {
	n := src.Node
	settings, ps := connectors.ReadSettings(n, Field, "operations")
	file := path.Join(path.Dir(src.File), n.Get(Field).Text)
	b, err := fs.ReadFile(src.FS, file)
	if err != nil {
		msg := fmt.Sprintf("opening the OpenAPI document %s: %v", file, err)
		if errors.Is(err, fs.ErrNotExist) {
			msg = fmt.Sprintf("the OpenAPI document %s does not exist; the path is relative to this file", file)
		} else if errors.Is(err, fs.ErrInvalid) {
			msg = fmt.Sprintf("%q is no path below the content folder", n.Get(Field).Text)
		}
		return nil, append(ps, n.Get(Field).Problem("openapi", msg))
	}
	doc, dps := readDocument(file, b)
	if doc == nil {
		return nil, append(ps, dps...)
	}
	c := &Connector{settings: settings, doc: doc, docFile: file, fsys: src.FS, calls: map[string]*caller{}, byName: map[string]*connectors.Operation{}}
	c.desc = connectors.Description{Name: src.Name, Summary: settings.About, Policy: settings.Policy.Or(connectors.DefaultPolicy())}
	if c.desc.Summary == "" {
		c.desc.Summary = firstSentence(text(doc.root.Get("info"), "title"))
	}
	base, baseErr, bp := c.base(src)
	ps = append(ps, bp...)
	c.client, c.url = src.Client, base
	for _, e := range doc.endpoints() {
		o, err := doc.operation(e)
		if err != nil {
			doc.warn(e.op, "the operation %s is left out: %v", e.name, err)
			continue
		}
		call := &caller{operation: o, connector: src.Name, client: src.Client, base: base, baseErr: baseErr, headers: settings.Headers, segs: o.segments()}
		call.safe = o.method == http.MethodGet || o.method == http.MethodHead || o.method == http.MethodOptions
		op := &connectors.Operation{Name: o.name, Summary: o.summary, In: o.inSchema, Out: o.outSchema, Effect: connectors.Safe, Policy: c.desc.Policy}
		if !call.safe {
			op.Effect = connectors.Writes
		}
		op.Do = call.do
		// What Schema.Decode reads is validated by it; the rest is put together here.
		op.Checked = o.answer.enc == jsonBody && !o.answer.redirect
		c.calls[o.name], c.byName[o.name] = call, op
		c.ops = append(c.ops, call)
		c.desc.Operations = append(c.desc.Operations, op)
	}
	ps = append(ps, c.claims(n.Get("operations"))...)
	if len(c.ops) == 0 && len(ps) == 0 {
		ps = append(ps, doc.root.Key("paths").Problem("openapi", "the document describes no operation that can be called: "+strings.Join(doc.warnings, "; ")))
	}
	state, sps := c.readState()
	c.state, ps = state, append(append(ps, sps...), doc.faults...)
	c.desc.Warnings = doc.warnings
	for _, p := range ps {
		if !p.Warning {
			return nil, ps
		}
	}
	return c, ps
}

// base decides where the operations are called.
func (c *Connector) base(src connectors.Spec) (*url.URL, string, []yamldoc.Problem) {
	raw := c.settings.BaseURL
	if src.City != "" && src.City != connectors.CityOff && (c.settings.Emulate || raw == "" || raw == "city:") {
		u, err := url.Parse(strings.TrimSuffix(src.City, "/") + "/" + src.Name)
		if err != nil {
			return nil, err.Error(), []yamldoc.Problem{{Pos: c.settings.BasePos, Rule: "openapi", Message: fmt.Sprintf("the virtual city's URL %q can't be read: %v", src.City, err)}}
		}
		return u, "", nil
	}
	if raw == "" {
		if s := c.doc.root.Get("servers"); s != nil && s.Kind == yamldoc.List && len(s.Items) > 0 {
			raw = strings.TrimSuffix(text(s.Items[0], "url"), "/")
		}
	}
	u, err := url.Parse(raw)
	if raw == "" || raw == "city:" || err != nil || u.Host == "" || strings.ContainsAny(raw, "{}") {
		const msg = "`base_url` is missing, and neither the document's `servers` nor a virtual city gives an address"
		if src.City == connectors.CityOff {
			return nil, msg, []yamldoc.Problem{{Pos: c.settings.BasePos, Rule: "openapi", Message: msg}}
		}
		return nil, msg, nil
	}
	return u, "", nil
}

// claims reads what the city states about the operations.
func (c *Connector) claims(n *yamldoc.Node) (ps []yamldoc.Problem) {
	if n.IsNull() {
		return nil
	}
	if n.Kind != yamldoc.Map {
		return []yamldoc.Problem{n.Problem("type", "`operations` is a map of operation names, not "+n.What())}
	}
	bad := func(at *yamldoc.Node, rule, format string, args ...any) {
		ps = append(ps, at.Problem(rule, fmt.Sprintf(format, args...)))
	}
	for _, p := range n.Pairs {
		call, op := c.calls[p.Key.Text], c.byName[p.Key.Text]
		if op == nil {
			bad(p.Key, "operation", "%s%s", c.unknown(p.Key.Text), leftOut(c.doc.warnings, p.Key.Text))
			continue
		}
		var v struct {
			About   string        `yaml:"about"`
			Effect  string        `yaml:"effect"`
			Keyed   *yamldoc.Node `yaml:"keyed"`
			FoundBy string        `yaml:"found_by"`
			Basis   string        `yaml:"basis"`
			Faults  *yamldoc.Node `yaml:"faults"`
			Timeout time.Duration `yaml:"timeout"`
			Retry   *yamldoc.Node `yaml:"retry"`
		}
		ps = append(ps, p.Value.Decode(&v)...)
		if v.About != "" {
			op.Summary = v.About
		}
		switch e := connectors.Effect(v.Effect); e {
		case "":
		case connectors.Safe, connectors.Writes, connectors.Pays:
			op.Effect, call.safe = e, e == connectors.Safe
		default:
			bad(p.Value.Get("effect"), "value", "`effect` is safe, writes or pays, not %q%s", v.Effect, didYouMean(v.Effect, []string{"safe", "writes", "pays"}))
		}
		op.Basis = v.Basis
		if k := v.Keyed; !k.IsNull() {
			switch {
			case k.Kind != yamldoc.Scalar:
				bad(k, "type", "`keyed` is true, or the section of the contract that says so")
			case k.Text == "true" && k.Style == yamldoc.Plain:
				op.Keyed = true
			case k.Text == "false" && k.Style == yamldoc.Plain:
			default:
				op.Keyed, op.Basis = true, k.Text
			}
			call.sendKey = op.Keyed
		}
		if v.Timeout > 0 {
			op.Policy.Timeout = v.Timeout
		}
		ps = append(ps, connectors.ReadRetry(v.Retry, &op.Policy)...)
		safe := call.safe
		l, fps := connectors.ReadFaults(v.Faults, func(st int) fault.Kind {
			if f := httpclient.FaultOf(st, safe, nil); f != nil {
				return f.Kind
			}
			return ""
		})
		ps = append(ps, fps...)
		call.faults, op.Faults = l, l.Describe()
		op.FoundBy = v.FoundBy
		if op.Effect == connectors.Safe && (op.Keyed || op.FoundBy != "") {
			bad(p.Key, "value", "%s is safe: `keyed` and `found_by` are for operations that write or pay", op.Name)
		}
	}
	for _, p := range n.Pairs { // once every effect is known
		if op := c.byName[p.Key.Text]; op != nil && op.FoundBy != "" {
			ps = append(ps, c.foundBy(op, p.Value.Get("found_by"))...)
		}
		if op := c.byName[p.Key.Text]; op != nil && op.Basis == "" && (op.Keyed || op.FoundBy != "") {
			call := c.calls[op.Name]
			op.Basis = fmt.Sprintf("%s, %s %s", c.docFile, call.method, call.path)
			c.doc.warn(p.Key, "%s claims to be keyed or found without citing what the claim rests on; say `keyed: \"contract, section\"` or `basis`", op.Name)
		}
	}
	return ps
}

// foundBy checks that the named operation can tell whether op happened.
func (c *Connector) foundBy(op *connectors.Operation, at *yamldoc.Node) (ps []yamldoc.Problem) {
	found := c.byName[op.FoundBy]
	switch {
	case found == nil:
		return []yamldoc.Problem{at.Problem("operation", c.unknown(op.FoundBy)+leftOut(c.doc.warnings, op.FoundBy))}
	case found.Effect != connectors.Safe:
		return []yamldoc.Problem{at.Problem("value", fmt.Sprintf("%s is asked whether %s happened, so it must be safe", found.Name, op.Name))}
	}
	effect, call := c.calls[op.Name], c.calls[found.Name]
	for i := range call.params {
		p := &call.params[i]
		if fillsKey(p.arg) || p.key {
			effect.sendKey = true // it is found by our key, so the key must go out
			continue
		}
		if p.required && !effect.takes(p.arg) {
			ps = append(ps, at.Problem("value", fmt.Sprintf("%s needs %q, which is no argument of %s and not the key", found.Name, p.arg, op.Name)))
		}
	}
	if op.Out != nil && found.Out != nil {
		if wrong := schema.Assignable(found.Out.Type(), op.Out.Type()); len(wrong) > 0 {
			c.doc.warn(at, "what %s answers does not fit the result of %s", found.Name, op.Name)
		}
	}
	return ps
}

func (o *operation) takes(arg string) bool {
	props, _ := o.in["properties"].(map[string]any)
	_, ok := props[arg]
	return ok
}

func (c *Connector) unknown(name string) string {
	names := sortedKeys(c.byName)
	if s := yamldoc.Suggest(name, names); s != "" {
		return fmt.Sprintf("%s has no operation %q; did you mean %q?", c.docFile, name, s)
	}
	const most = 12
	if len(names) > most {
		names = append(names[:most:most], "...")
	}
	return fmt.Sprintf("%s has no operation %q; it has %s", c.docFile, name, strings.Join(names, ", "))
}

// leftOut adds why a document's operation is not there.
func leftOut(warnings []string, name string) string {
	for _, w := range warnings {
		if i := strings.Index(w, "the operation "+name+" is left out: "); i >= 0 {
			return " (" + w[i:] + ")"
		}
	}
	return ""
}

func didYouMean(word string, words []string) string {
	if s := yamldoc.Suggest(word, words); s != "" {
		return fmt.Sprintf("; did you mean %q?", s)
	}
	return ""
}
