package language

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/yamldoc"
)

func itoa(i int) string { return strconv.Itoa(i) }

// sourceOf gathers what a live run's version needs to be compiled again.
func sourceOf(h *head) (Source, string) {
	s := Source{
		Route: h.text, File: h.file,
		Schemas: map[string]string{}, Operations: map[string]string{}, Routes: map[string]string{},
	}
	for name, sc := range h.route.deps.schemas {
		s.Schemas[name] = string(sc.Source)
	}
	for name, op := range h.route.deps.ops {
		s.Operations[name] = describe(op)
	}
	everyStep(h.route.Steps, func(st *Step) {
		if st.Route != nil {
			s.Routes[st.Target] = st.Route.Digest
		}
	})
	return s, s.digest()
}

// digest is the version's: of the route file, the schemas, the operation
// descriptions and the called routes; the file's place does not count.
func (s Source) digest() string {
	b, err := schema.Canonical(map[string]any{
		"route": s.Route, "schemas": anyMap(s.Schemas), "operations": anyMap(s.Operations), "routes": anyMap(s.Routes),
	})
	if err != nil {
		b = []byte(fmt.Sprint(s.Route, s.Schemas, s.Operations, s.Routes)) // texts always encode
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func anyMap(m map[string]string) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

// describe is the canonical JSON of what a route relies on in an operation.
func describe(op *connectors.Operation) string {
	faults := make([]any, len(op.Faults))
	for i, f := range op.Faults {
		faults[i] = map[string]any{"name": f.Name, "kind": string(f.Kind)}
	}
	m := map[string]any{
		"name": op.Name, "effect": string(op.Effect), "keyed": op.Keyed, "found_by": op.FoundBy, "faults": faults,
	}
	if op.In != nil {
		m["in"] = string(op.In.Source)
	}
	if op.Out != nil {
		m["out"] = string(op.Out.Source)
	}
	b, err := schema.Canonical(m)
	if err != nil {
		return op.Name
	}
	return string(b)
}

// Recompile checks a version again from the source that the store kept. The
// operations are those of o.Connectors: a version that this binary's connectors
// no longer fit is an error, which parks its runs (semantics 10.3). The Route
// carries the digest of src.
func Recompile(src Source, o Options) (*Route, error) {
	return recompile(src, o, 0)
}

func recompile(src Source, o Options, depth int) (*Route, error) {
	if depth > maxCalls {
		return nil, fmt.Errorf("compiling %s again: routes call each other deeper than %d", src.File, maxCalls)
	}
	l := newLoader(o)
	l.lenient = true
	l.given = map[string]*schema.Schema{}
	for name, text := range src.Schemas {
		s, err := schema.CompileBytes(name, []byte(text))
		if err != nil {
			return nil, fmt.Errorf("compiling %s again: %w", src.File, err)
		}
		l.given[name] = s
		if ev, ok := cutEvent(name); ok {
			l.events[ev] = &EventType{Name: ev, Schema: s}
		}
	}
	l.cfgType = anyType
	if o.City != nil {
		l.cfgType, l.messages, l.purposes = o.City.CfgType, o.City.Messages, o.City.Purposes
		for name, r := range o.City.Routes {
			l.heads[name] = &head{file: r.File, name: name, req: r.Req, state: done, route: r, sound: true}
		}
	}
	for name, digest := range src.Routes {
		if o.Version == nil {
			return nil, fmt.Errorf("compiling %s again: it calls route %s, whose version is not at hand", src.File, name)
		}
		called, err := o.Version(digest)
		if err != nil {
			return nil, fmt.Errorf("compiling %s again: fetching route %s: %w", src.File, name, err)
		}
		r, err := recompile(called, o, depth+1)
		if err != nil {
			return nil, err
		}
		l.heads[name] = &head{file: r.File, name: name, req: r.Req, state: done, route: r, sound: true}
	}
	h := l.parse(src.File, []byte(src.Route))
	if h != nil {
		l.heads[h.name] = h
		l.check(h)
		l.problems = append(l.problems, h.found...)
	}
	if Refused(l.problems) || h == nil {
		var errs []error
		for _, p := range yamldoc.Sort(l.problems) {
			errs = append(errs, errors.New(p.String()))
		}
		return nil, fmt.Errorf("compiling %s again: %w", src.File, errors.Join(errs...))
	}
	h.route.Source, h.route.Digest = src, src.digest()
	return h.route, nil
}

func cutEvent(name string) (string, bool) {
	const prefix = "events/"
	if len(name) > len(prefix) && name[:len(prefix)] == prefix {
		return name[len(prefix):], true
	}
	return "", false
}
