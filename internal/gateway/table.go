package gateway

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/dime-bus/dime/internal/schema"
)

// table is a city compiled for serving: immutable, swapped whole.
type table struct {
	city    City
	root    node
	fixed   map[string]*node // paths without parameters, whole
	openapi func() ([]byte, error)
}

// node of the path tree, one level a segment.
type node struct {
	fixed  map[string]*node
	param  *node // any one segment
	routes []endpoint
}

// endpoint is one method of one path.
type endpoint struct {
	method string
	route  *Route
	params []string // names of the path's parameters, in order
	build  builder
}

// Prefixes of /v1 that belong to the bus itself.
var reserved = [...]string{"/v1/runs"}

func newTable(c City) (*table, error) {
	t := &table{city: c, fixed: map[string]*node{}}
	slices.SortFunc(t.city.Routes, func(a, b Route) int { return cmp.Compare(a.Name, b.Name) })
	for i := range t.city.Routes {
		r := &t.city.Routes[i]
		for _, tr := range r.Triggers {
			if tr.Kind != "http" {
				continue
			}
			if err := t.add(r, tr); err != nil {
				return nil, fmt.Errorf("serving route %q: %w", r.Name, err)
			}
		}
	}
	t.openapi = sync.OnceValues(func() ([]byte, error) { return openAPI(t.city) })
	return t, nil
}

func (t *table) add(r *Route, tr Trigger) error {
	if !strings.HasPrefix(tr.Path, "/v1/") {
		return fmt.Errorf("its path %q is not below /v1/", tr.Path)
	}
	for _, p := range reserved {
		if tr.Path == p || strings.HasPrefix(tr.Path, p+"/") {
			return fmt.Errorf("its path %q lies under %s, which belongs to the bus", tr.Path, p)
		}
	}
	n := &t.root
	var params []string
	for seg := range strings.SplitSeq(tr.Path[1:], "/") {
		if name, ok := parameter(seg); ok {
			if name == "" || slices.Contains(params, name) {
				return fmt.Errorf("its path %q names no parameter, or one twice, in %q", tr.Path, seg)
			}
			params = append(params, name)
			if n.param == nil {
				n.param = &node{}
			}
			n = n.param
			continue
		}
		if seg == "" || strings.ContainsAny(seg, "{}") {
			return fmt.Errorf("its path %q has the segment %q; a segment is either text or {name}", tr.Path, seg)
		}
		if n.fixed == nil {
			n.fixed = map[string]*node{}
		}
		next := n.fixed[seg]
		if next == nil {
			next = &node{}
			n.fixed[seg] = next
		}
		n = next
	}
	for _, e := range n.routes {
		if e.method == tr.Method {
			return fmt.Errorf("%s %s is already served by route %q", tr.Method, tr.Path, e.route.Name)
		}
	}
	n.routes = append(n.routes, endpoint{tr.Method, r, params, newBuilder(r.Req, params, tr.Headers)})
	if len(params) == 0 {
		t.fixed[tr.Path] = n
	}
	return nil
}

func parameter(seg string) (string, bool) {
	if len(seg) >= 2 && seg[0] == '{' && seg[len(seg)-1] == '}' {
		return seg[1 : len(seg)-1], true
	}
	return "", false
}

// find returns the endpoint of a path and the values of its parameters. Where
// only the method is wrong, allow lists the right ones.
func (t *table) find(method, path string) (e *endpoint, values []string, allow []string) {
	n := t.fixed[path]
	if n == nil {
		var room [8]string
		n, values = t.root.walk(path[1:], room[:0])
		if n == nil {
			return nil, nil, nil
		}
	}
	// Text before a parameter: /v1/x/new is not /v1/x/{id}, unless only the
	// latter has the method.
	if e := n.method(method); e != nil {
		return e, values, nil
	}
	if other, v := t.root.walkParams(path[1:], nil, method); other != nil {
		return other.method(method), v, nil
	}
	return nil, nil, n.methods()
}

func (n *node) method(m string) *endpoint {
	for i := range n.routes {
		if n.routes[i].method == m {
			return &n.routes[i]
		}
	}
	if m == "HEAD" {
		return n.method("GET")
	}
	return nil
}

func (n *node) methods() []string {
	var out []string
	for _, e := range n.routes {
		out = append(out, e.method)
		if e.method == "GET" {
			out = append(out, "HEAD")
		}
	}
	slices.Sort(out)
	return out
}

func (n *node) walk(path string, values []string) (*node, []string) {
	seg, rest, more := strings.Cut(path, "/")
	text, err := url.PathUnescape(seg)
	if err != nil {
		return nil, nil
	}
	if next := n.fixed[text]; next != nil {
		if found, v := next.on(rest, more, values); found != nil {
			return found, v
		}
	}
	if n.param != nil && text != "" {
		return n.param.on(rest, more, append(values, text))
	}
	return nil, nil
}

func (n *node) on(rest string, more bool, values []string) (*node, []string) {
	if more {
		return n.walk(rest, values)
	}
	if len(n.routes) == 0 {
		return nil, nil
	}
	return n, values
}

// walkParams looks for a node that has the method, fixed segments first.
func (n *node) walkParams(path string, values []string, method string) (*node, []string) {
	seg, rest, more := strings.Cut(path, "/")
	text, err := url.PathUnescape(seg)
	if err != nil {
		return nil, nil
	}
	try := func(next *node, values []string) (*node, []string) {
		if next == nil {
			return nil, nil
		}
		if more {
			return next.walkParams(rest, values, method)
		}
		if next.method(method) == nil {
			return nil, nil
		}
		return next, values
	}
	if found, v := try(n.fixed[text], values); found != nil {
		return found, v
	}
	if text == "" {
		return nil, nil
	}
	return try(n.param, append(slices.Clone(values), text))
}

// builder turns the parts of an HTTP request into `req`, typed by the schema.
type builder struct {
	req     *schema.Schema
	typ     *schema.Type
	params  []string
	headers []header
	bare    bool // nothing but the body lands in req
}

type header struct{ name, field string }

func newBuilder(req *schema.Schema, params, headers []string) builder {
	b := builder{req: req, typ: req.Type(), params: params}
	for _, h := range headers {
		b.headers = append(b.headers, header{strings.ReplaceAll(h, "_", "-"), strings.ReplaceAll(strings.ToLower(h), "-", "_")})
	}
	b.bare = len(params) == 0 && len(headers) == 0
	return b
}
