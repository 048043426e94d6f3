package schema

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// builder turns one self-contained document into Types. Pointers that refer to
// each other in a circle become one cyclic Type.
type builder struct {
	root   any
	orders orders
	refs   map[string]*Type // by "#/..." reference
	done   map[string]bool
	depth  int
}

// typeOf makes the Type of a document whose references are all "#...".
func typeOf(doc any, o orders) *Type {
	b := &builder{root: doc, orders: o, refs: map[string]*Type{}, done: map[string]bool{}}
	return b.ref("#")
}

// ref returns the type behind a reference; it may still be unfilled when the
// reference is met inside itself.
func (b *builder) ref(r string) *Type {
	if t, ok := b.refs[r]; ok {
		return t
	}
	t := &Type{}
	b.refs[r] = t
	target, err := lookup(b.root, strings.TrimPrefix(r, "#"))
	if err != nil {
		b.done[r] = true
		return t // the validator's compiler reports it
	}
	*t = *b.build(target)
	b.done[r] = true
	return t
}

// settled is ref for places that look into the type: one that is still being
// built (a circle through allOf) counts as open.
func (b *builder) settled(r string) *Type {
	t := b.ref(r)
	if !b.done[r] {
		return &Type{}
	}
	return t
}

const maxTypeDepth = 64

func (b *builder) build(node any) *Type {
	m, ok := node.(map[string]any)
	if !ok || b.depth > maxTypeDepth {
		return &Type{} // true, false, or deeper than any value may be
	}
	b.depth++
	defer func() { b.depth-- }()

	if r, ok := m["$ref"].(string); ok && len(m) == 1 {
		return b.ref(r)
	}
	t := b.own(m)
	if r, ok := m["$ref"].(string); ok {
		t = both(b.settled(r), t)
	}
	for _, s := range list(m["allOf"]) {
		t = both(t, b.solid(s))
	}
	for _, key := range []string{"oneOf", "anyOf"} {
		if alternatives := list(m[key]); len(alternatives) > 0 {
			t = both(t, b.either(alternatives))
		}
	}
	for _, key := range []string{"then", "else"} {
		// What a condition adds may be there; it never takes away.
		if s, ok := m[key].(map[string]any); ok {
			t = mayAdd(t, b.solid(s))
		}
	}
	if p, _ := m["x-personal"].(bool); p && !t.Personal {
		c := *t
		c.Personal = true
		t = &c
	}
	if title, ok := m["title"].(string); ok && t.Title == "" {
		c := *t
		c.Title = title
		t = &c
	}
	return t
}

// solid is build for a place that looks into the result.
func (b *builder) solid(node any) *Type {
	if m, ok := node.(map[string]any); ok && len(m) == 1 {
		if r, ok := m["$ref"].(string); ok {
			return b.settled(r)
		}
	}
	return b.build(node)
}

func (b *builder) either(alternatives []any) *Type {
	var t *Type
	null := false
	for _, a := range alternatives {
		at := b.solid(a)
		if at.Kind == Null {
			null = true
			continue
		}
		if t == nil {
			t = at
			continue
		}
		u, ok := Union(t, at)
		if !ok {
			u = &Type{} // alternatives of different kinds: open
		}
		t = u
	}
	switch {
	case t == nil:
		return &Type{Kind: Null, Nullable: true}
	case null && !t.Nullable:
		c := *t
		c.Nullable = true
		return &c
	}
	return t
}

// own reads the keywords that stand in m itself.
func (b *builder) own(m map[string]any) *Type {
	t := &Type{}
	kinds := list(m["type"])
	if s, ok := m["type"].(string); ok {
		kinds = []any{s}
	}
	var found []Kind
	for _, k := range kinds {
		switch k {
		case "null":
			t.Nullable = true
		case "boolean":
			found = append(found, Bool)
		case "integer":
			found = append(found, Int)
		case "number":
			found = append(found, Number)
		case "string":
			found = append(found, String)
		case "object":
			found = append(found, Object)
		case "array":
			found = append(found, Array)
		}
	}
	switch {
	case len(found) == 1:
		t.Kind = found[0]
	case len(found) == 2 && slices.Contains(found, Int) && slices.Contains(found, Number):
		t.Kind = Number
	case len(found) == 0 && t.Nullable:
		t.Kind = Null
	case len(found) == 0:
		t.Kind = implied(m)
	}
	t.Format, _ = m["format"].(string)
	t.Limits = limitsOf(m, t.Kind)
	b.enum(t, m)
	switch t.Kind {
	case Object:
		b.object(t, m)
	case Array:
		if items, ok := m["items"]; ok && m["prefixItems"] == nil {
			t.Items = b.build(items)
		}
	}
	return t
}

// implied is the kind of a schema that names none.
func implied(m map[string]any) Kind {
	switch {
	case m["properties"] != nil || m["required"] != nil && m["$ref"] == nil:
		return Object
	case m["items"] != nil:
		return Array
	}
	if c, ok := m["const"]; ok {
		return kindOf(c)
	}
	values := list(m["enum"])
	kind := Any
	for _, v := range values {
		k := kindOf(v)
		if k == Null {
			continue
		}
		if kind != Any && kind != k {
			return Any
		}
		kind = k
	}
	return kind
}

func kindOf(v any) Kind {
	switch v := v.(type) {
	case nil:
		return Null
	case bool:
		return Bool
	case int:
		return Int
	case float64:
		if v == float64(int(v)) {
			return Int
		}
		return Number
	case string:
		return String
	case []any:
		return Array
	case map[string]any:
		return Object
	}
	return Any
}

func (b *builder) enum(t *Type, m map[string]any) {
	values, given := m["enum"].([]any)
	if c, ok := m["const"]; ok {
		values, given = []any{c}, true
	}
	if !given {
		return
	}
	for _, v := range values {
		if v == nil {
			t.Nullable = true
			continue
		}
		switch v.(type) {
		case map[string]any, []any:
			t.Enum = nil
			return
		}
		if f, ok := v.(float64); ok && t.Kind == Int {
			v = int(f)
		}
		if i, ok := v.(int); ok && t.Kind == Number {
			v = float64(i)
		}
		t.Enum = append(t.Enum, v)
	}
}

func (b *builder) object(t *Type, m map[string]any) {
	props, _ := m["properties"].(map[string]any)
	required := map[string]bool{}
	for _, r := range list(m["required"]) {
		if s, ok := r.(string); ok {
			required[s] = true
		}
	}
	t.Order = b.order(props)
	if len(props) > 0 {
		t.Fields = make(map[string]*Field, len(props))
	}
	for _, name := range t.Order {
		about := ""
		if pm, ok := props[name].(map[string]any); ok {
			about, _ = pm["description"].(string)
		}
		t.Fields[name] = &Field{Type: b.build(props[name]), Required: required[name], About: about}
	}
	for name := range required {
		if t.Fields[name] == nil {
			if t.Fields == nil {
				t.Fields = map[string]*Field{}
			}
			t.Fields[name] = &Field{Type: &Type{}, Required: true}
			t.Order = append(t.Order, name)
		}
	}
	slices.Sort(t.Order[len(props):])
	// An object that declares properties and says nothing of others is closed for
	// readers, though open for the validator: every misspelling would pass else.
	switch additional := m["additionalProperties"].(type) {
	case bool:
		t.Open, t.Strict = additional, !additional
	case map[string]any:
		t.Open, t.Extra = true, b.build(additional)
	default:
		t.Open = len(props) == 0 || m["patternProperties"] != nil
	}
}

// order is the properties' order in the text, where it is known, else sorted.
func (b *builder) order(props map[string]any) []string {
	if kept := b.orders.of(props); len(kept) == len(props) {
		return slices.Clone(kept)
	}
	return slices.Sorted(maps.Keys(props))
}

// both is the type of a value that is a and b at once.
func both(a, b *Type) *Type {
	if a == b || isBlank(b) {
		return a
	}
	if isBlank(a) {
		return b
	}
	t := *a
	if a.Kind == Any || a.Kind == Number && b.Kind == Int {
		t.Kind = b.Kind
	}
	// A value that two schemas describe is null only if both allow it; a schema
	// without a kind of its own has no say.
	t.Nullable = (a.Nullable || a.Kind == Any) && (b.Nullable || b.Kind == Any)
	t.Personal = a.Personal || b.Personal
	if t.Limits == nil {
		t.Limits = b.Limits
	}
	if t.Format == "" {
		t.Format = b.Format
	}
	if t.Title == "" {
		t.Title = b.Title
	}
	switch {
	case a.Enum == nil:
		t.Enum = b.Enum
	case b.Enum != nil:
		t.Enum = nil
		for _, v := range a.Enum {
			if slices.Contains(b.Enum, v) {
				t.Enum = append(t.Enum, v)
			}
		}
	}
	if t.Items == nil {
		t.Items = b.Items
	}
	if t.Kind != Object {
		return &t
	}
	// Open if every part that declares properties is open: a part that declares
	// none ({"type": "object"}) does not open what the others close.
	switch {
	case len(a.Fields) == 0 && a.Extra == nil:
		t.Open = b.Open
	case len(b.Fields) == 0 && b.Extra == nil:
		t.Open = a.Open
	default:
		t.Open = a.Open && b.Open
	}
	t.Strict = a.Strict || b.Strict
	if t.Extra == nil {
		t.Extra = b.Extra
	}
	t.Fields = make(map[string]*Field, len(a.Fields)+len(b.Fields))
	t.Order = slices.Clone(a.Order)
	for n, f := range a.Fields {
		t.Fields[n] = f
	}
	for _, n := range b.Order {
		f := b.Fields[n]
		if g, ok := t.Fields[n]; ok {
			t.Fields[n] = &Field{Type: both(g.Type, f.Type), Required: f.Required || g.Required, About: firstOf(g.About, f.About)}
			continue
		}
		t.Fields[n] = f
		t.Order = append(t.Order, n)
	}
	return &t
}

// isBlank says whether t is a schema that says nothing.
func isBlank(t *Type) bool {
	return t.Kind == Any && t.Enum == nil && t.Format == "" && !t.Nullable && !t.Personal && t.Title == "" && t.Fields == nil
}

// mayAdd adds the properties of a conditional branch as ones that may be absent.
func mayAdd(t, branch *Type) *Type {
	if t.Kind != Object || branch.Kind != Object {
		return t
	}
	c := *t
	c.Fields = make(map[string]*Field, len(t.Fields))
	c.Order = slices.Clone(t.Order)
	for n, f := range t.Fields {
		c.Fields[n] = f
	}
	for _, n := range branch.Order {
		if f := branch.Fields[n]; c.Fields[n] == nil {
			c.Fields[n] = &Field{Type: f.Type, About: f.About}
			c.Order = append(c.Order, n)
		}
	}
	return &c
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

// lookup resolves a JSON pointer (RFC 6901) in doc.
func lookup(doc any, pointer string) (any, error) {
	if pointer == "" {
		return doc, nil
	}
	if pointer[0] != '/' {
		return nil, fmt.Errorf("resolving #%s: only pointers (#/...) are supported, not anchors", pointer)
	}
	for _, token := range strings.Split(pointer[1:], "/") {
		token = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
		switch v := doc.(type) {
		case map[string]any:
			next, ok := v[token]
			if !ok {
				return nil, fmt.Errorf("resolving #%s: there is no %q", pointer, token)
			}
			doc = next
		case []any:
			i, err := strconv.Atoi(token)
			if err != nil || i < 0 || i >= len(v) {
				return nil, fmt.Errorf("resolving #%s: there is no item %q", pointer, token)
			}
			doc = v[i]
		default:
			return nil, fmt.Errorf("resolving #%s: nothing stands below %q", pointer, token)
		}
	}
	return doc, nil
}
