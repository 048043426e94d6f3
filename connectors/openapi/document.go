// Package openapi turns any OpenAPI 3.0 or 3.1 document into the typed
// operations of a connector, without Go, and into an emulator of the system that
// the document describes. Official documents are seldom valid to the letter:
// what can be overlooked is a warning, and only what leaves no doubt-free reading
// is refused.
package openapi

import (
	"bytes"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"github.com/dime-bus/dime/internal/yamldoc"
)

// document is a parsed OpenAPI document; it is not changed after reading.
type document struct {
	file     string
	root     *yamldoc.Node
	v30      bool // OpenAPI 3.0: nullable, boolean exclusiveMinimum, siblings of $ref ignored
	warnings []string
	faults   []yamldoc.Problem      // those of the warnings that the document's author can mend
	seen     map[string]bool        // warnings, once each
	samples  map[*yamldoc.Node]bool // schemas whose stated values were looked at
	judged   int                    // bytes of schemas that they were held against
}

// warn says what had to be overlooked, or how something is called.
func (d *document) warn(n *yamldoc.Node, format string, args ...any) {
	msg := fmt.Sprintf(format, args...)
	if d.seen[msg] {
		return
	}
	d.seen[msg] = true
	where := d.file
	if n != nil {
		where = fmt.Sprintf("%s:%d:%d", n.File, n.Line, n.Column)
	}
	d.warnings = append(d.warnings, where+": "+msg)
}

// fault is a warning that lint prints too: what the document says is wrong, and
// Dime does not go by it.
func (d *document) fault(n *yamldoc.Node, format string, args ...any) {
	p := yamldoc.Problem{Pos: n.Pos, Rule: "openapi", Message: fmt.Sprintf(format, args...), Warning: true}
	line := fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Message)
	if d.seen[line] { // two directions and many operations read one schema
		return
	}
	d.seen[line] = true
	d.warnings, d.faults = append(d.warnings, line), append(d.faults, p)
}

// readDocument parses b as YAML or JSON. Problems refuse the document.
func readDocument(file string, b []byte) (*document, []yamldoc.Problem) {
	if t := bytes.TrimLeft(b, " \t\r\n\ufeff"); len(t) > 0 && t[0] == '{' {
		// JSON is YAML but for tabs between its tokens, which are worth one
		// column each and can't occur inside its strings.
		b = bytes.ReplaceAll(b, []byte("\t"), []byte(" "))
	}
	root, ps := yamldoc.Parse(file, b, yamldoc.OpenAPI())
	if root == nil {
		return nil, ps
	}
	d := &document{file: file, root: root, seen: map[string]bool{}, samples: map[*yamldoc.Node]bool{}}
	for _, p := range ps {
		d.warn(&yamldoc.Node{Pos: p.Pos}, "%s", p.Message)
	}
	if root.Kind != yamldoc.Map {
		return nil, []yamldoc.Problem{root.Problem("openapi", "an OpenAPI document is a map that begins with `openapi: 3.1.0`")}
	}
	v := root.Get("openapi")
	switch {
	case v == nil && root.Get("swagger") != nil:
		return nil, []yamldoc.Problem{root.Get("swagger").Problem("openapi", "this is a Swagger 2.0 document: convert it to OpenAPI 3 first")}
	case v == nil:
		return nil, []yamldoc.Problem{root.Problem("openapi", "`openapi: 3.0.x` or `3.1.x` is missing: this is no OpenAPI document")}
	case strings.HasPrefix(v.Text, "3.0"):
		d.v30 = true
	case !strings.HasPrefix(v.Text, "3.1"):
		return nil, []yamldoc.Problem{v.Problem("openapi", fmt.Sprintf("OpenAPI %s is not understood: 3.0 and 3.1 are", v.Text))}
	}
	if p := root.Get("paths"); p.IsNull() {
		return nil, []yamldoc.Problem{root.Problem("openapi", "`paths` is missing: the document describes no operation")}
	} else if p.Kind != yamldoc.Map {
		return nil, []yamldoc.Problem{p.Problem("openapi", "`paths` must be a map of paths, not "+p.What())}
	}
	return d, nil
}

// lookup follows a JSON pointer (RFC 6901) from the root.
func (d *document) lookup(pointer string) *yamldoc.Node {
	n := d.root
	for _, part := range strings.Split(strings.TrimPrefix(pointer, "/"), "/") {
		part = strings.NewReplacer("~1", "/", "~0", "~", "%7B", "{", "%7D", "}", "%20", " ").Replace(part)
		switch {
		case n == nil:
			return nil
		case n.Kind == yamldoc.Map:
			n = n.Get(part)
		case n.Kind == yamldoc.List:
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(n.Items) {
				return nil
			}
			n = n.Items[i]
		default:
			return nil
		}
	}
	return n
}

// deref follows $ref until a node that is none. The error says why it can't.
func (d *document) deref(n *yamldoc.Node) (*yamldoc.Node, error) {
	for range 32 {
		r := n.Get("$ref")
		if r == nil || r.Kind != yamldoc.Scalar {
			return n, nil
		}
		if !strings.HasPrefix(r.Text, "#/") {
			return nil, fmt.Errorf("the reference %q leads out of the document; put what it names under components", r.Text)
		}
		to := d.lookup(r.Text[1:])
		if to == nil {
			return nil, fmt.Errorf("the reference %q leads nowhere", r.Text)
		}
		n = to
	}
	return nil, fmt.Errorf("the reference %q leads in a circle", n.Get("$ref").Text)
}

// endpoint is one method of one path.
type endpoint struct {
	method, path string
	name         string // as a route writes it
	item, op     *yamldoc.Node
}

func methods() []string {
	return []string{"get", "put", "post", "delete", "options", "head", "patch", "trace"}
}

// endpoints lists the document's operations, in file order, each with a name of
// its own.
func (d *document) endpoints() []endpoint {
	var es []endpoint
	taken := map[string]bool{}
	for _, p := range d.root.Get("paths").Pairs {
		if !strings.HasPrefix(p.Key.Text, "/") {
			if !strings.HasPrefix(p.Key.Text, "x-") {
				d.warn(p.Key, "the path %q does not begin with / and is left out", p.Key.Text)
			}
			continue
		}
		item, err := d.deref(p.Value)
		if err != nil {
			d.warn(p.Value, "the path %s is left out: %v", p.Key.Text, err)
			continue
		}
		if item.Kind != yamldoc.Map {
			continue
		}
		for _, m := range item.Pairs {
			if !isMethod(m.Key.Text) || m.Value.Kind != yamldoc.Map {
				continue
			}
			e := endpoint{method: strings.ToUpper(m.Key.Text), path: p.Key.Text, item: item, op: m.Value}
			id := m.Value.Get("operationId")
			if id == nil || id.Kind != yamldoc.Scalar || id.Text == "" {
				e.name = derivedName(e.method, e.path)
				d.warn(m.Key, "%s %s has no operationId; it is called %s", e.method, e.path, e.name)
			} else if e.name = wordOf(id.Text); e.name != id.Text {
				d.warn(id, "the operationId %q can't stand in a route; it is called %s", id.Text, e.name)
			}
			if taken[e.name] {
				first := e.name
				e.name = derivedName(e.method, e.path)
				for i := 2; taken[e.name]; i++ {
					e.name = derivedName(e.method, e.path) + "_" + strconv.Itoa(i)
				}
				d.warn(m.Key, "the operationId %s is used twice; %s %s is called %s", first, e.method, e.path, e.name)
			}
			taken[e.name] = true
			es = append(es, e)
		}
	}
	return es
}

func isMethod(s string) bool {
	for _, m := range methods() {
		if m == s {
			return true
		}
	}
	return false
}

// derivedName is what an operation without operationId is called: GET
// /books/{id} is get_books_by_id.
func derivedName(method, path string) string {
	name := strings.ToLower(method)
	for _, seg := range strings.Split(path, "/") {
		if seg == "" {
			continue
		}
		if strings.HasPrefix(seg, "{") && strings.HasSuffix(seg, "}") {
			seg = "by_" + seg[1:len(seg)-1]
		}
		name += "_" + seg
	}
	return wordOf(name)
}

// wordOf makes s fit `call: NAME.OPERATION`.
func wordOf(s string) string {
	w := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' {
			return r
		}
		return '_'
	}, s)
	w = strings.Trim(w, "_-")
	if w == "" {
		return "operation"
	}
	if w[0] >= '0' && w[0] <= '9' {
		w = "op_" + w
	}
	return w
}

// text reads a scalar child, "" if absent.
func text(n *yamldoc.Node, key string) string {
	if c := n.Get(key); c != nil && c.Kind == yamldoc.Scalar && !c.IsNull() {
		return c.Text
	}
	return ""
}

func truth(n *yamldoc.Node, key string) bool { return text(n, key) == "true" }

// anyOf reads a node as plain values without YAML's complaints: a date or a
// leading zero in an example is its text.
func anyOf(n *yamldoc.Node, want yamldoc.Want) any {
	switch {
	case n == nil:
		return nil
	case n.Kind == yamldoc.Map:
		m := make(map[string]any, len(n.Pairs))
		for _, p := range n.Pairs {
			m[p.Key.Text] = anyOf(p.Value, yamldoc.WantAny)
		}
		return m
	case n.Kind == yamldoc.List:
		l := make([]any, len(n.Items))
		for i, it := range n.Items {
			l[i] = anyOf(it, want)
		}
		return l
	}
	v, problem := n.Value(want)
	if problem != "" {
		if v, problem = n.Value(yamldoc.WantNumber); problem != "" {
			return n.Text
		}
	}
	return v
}

func sortedKeys[V any](m map[string]V) []string {
	ks := make([]string, 0, len(m))
	for k := range m {
		ks = append(ks, k)
	}
	sort.Strings(ks)
	return ks
}
