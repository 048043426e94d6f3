package schema

import (
	"fmt"
	"slices"
	"strings"
)

// Mismatch is one reason why a type does not fit another.
type Mismatch struct {
	Path    string // dotted, below the value: "stamp.document_hash", "items[].price"; "" for the value itself
	Rule    string // "type", "nil", "enum", "required", "unknown"
	Message string // with the path in it
}

// maxRelate bounds the walk through two cyclic types.
const maxRelate = 24

// Assignable says why a value of type from does not fit to; nil if it does. A
// nil for a property that is not required counts as left out.
func Assignable(from, to *Type) []Mismatch {
	var out []Mismatch
	assign(from, to, "", 0, &out)
	return out
}

func assign(from, to *Type, path string, depth int, out *[]Mismatch) {
	if from == nil || to == nil || from == to || to.Kind == Any || depth > maxRelate {
		return
	}
	add := func(rule, format string, args ...any) {
		msg := fmt.Sprintf(format, args...)
		if path != "" {
			msg = path + ": " + msg
		}
		*out = append(*out, Mismatch{path, rule, msg})
	}
	if from.Kind == Any && !from.MayBeNil() || from.Kind == Unknown {
		return // the open schema is judged at run time; the unknown has been reported
	}
	if from.MayBeNil() && !to.MayBeNil() {
		if from.Kind == Null {
			add("nil", "must be %s, not nil", to.Article())
			return
		}
		add("nil", "may be nil here, but %s is required: check it (`if`, `check: ... != nil`) or give a default with ??", to.Article())
	}
	if from.Kind == Null || from.Kind == Any {
		return
	}
	if !kindFits(from, to) {
		add("type", "must be %s, not %s", to.Article(), from.Article())
		return
	}
	switch to.Kind {
	case Object:
		assignObject(from, to, path, depth, out)
	case Array:
		if from.Items != nil && to.Items != nil && !isEmptyList(from) {
			assign(from.Items, to.Items, path+"[]", depth+1, out)
		}
	default:
		assignEnum(from, to, add)
		assignLimits(from, to, add)
		if to.Format == "cents" && from.Kind == Number {
			add("type", "must be integer cents, not a number with a fraction")
		}
	}
}

func kindFits(from, to *Type) bool {
	switch {
	case from.Kind == to.Kind:
		return true
	case to.Kind == Number:
		return from.Kind == Int
	case to.Kind == String:
		return from.Kind == Time && (to.Format == "date-time" || to.Format == "") ||
			from.Kind == Period && (to.Format == "duration" || to.Format == "")
	case to.Kind == Time:
		return from.Kind == String && (from.Format == "date-time" || from.Format == "date")
	case to.Kind == Period:
		return from.Kind == String && from.Format == "duration"
	}
	return false
}

func assignEnum(from, to *Type, add func(rule, format string, args ...any)) {
	if to.Enum == nil || from.Enum == nil {
		return
	}
	for _, v := range from.Enum {
		if !HasValue(to.Enum, v) {
			hint := ""
			if s, ok := v.(string); ok {
				hint = DidYouMean(s, words(to.Enum))
			}
			add("enum", "%s is not a legal value: it takes %s%s", show(v), oneOf(to.Enum), hint)
			return
		}
	}
}

// assignLimits holds literals to pattern, bounds and format.
func assignLimits(from, to *Type, add func(rule, format string, args ...any)) {
	if !from.Literal || to.Limits == nil || to.Enum != nil {
		return
	}
	for _, v := range from.Enum {
		if msg := to.Limits.against(v); msg != "" {
			add("type", "%s does not fit: %s", show(v), msg)
			return
		}
	}
}

// HasValue says whether an enum holds v; 1 and 1.0 are the same value.
func HasValue(enum []any, v any) bool {
	for _, e := range enum {
		if e == v {
			return true
		}
		switch x := e.(type) {
		case int:
			if f, ok := v.(float64); ok && f == float64(x) {
				return true
			}
		case float64:
			if i, ok := v.(int); ok && x == float64(i) {
				return true
			}
		}
	}
	return false
}

func assignObject(from, to *Type, path string, depth int, out *[]Mismatch) {
	below := func(n string) string {
		if path == "" {
			return n
		}
		return path + "." + n
	}
	for _, n := range to.names() {
		f, ok := from.Fields[n]
		want := to.Fields[n]
		if !ok {
			if want.Required && !from.Open {
				*out = append(*out, Mismatch{path, "required", fmt.Sprintf("%s is missing: it is required and takes %s", below(n), want.Type.Article())})
			}
			continue
		}
		have := f.Type
		if !f.Required {
			have = have.AsOptional()
		}
		target := want.Type
		if !want.Required {
			target = target.AsOptional()
		}
		assign(have, target, below(n), depth+1, out)
	}
	if to.Open {
		if to.Extra != nil {
			for _, n := range from.names() {
				if _, declared := to.Fields[n]; !declared {
					assign(from.Fields[n].Type.NonNil(), to.Extra, below(n), depth+1, out)
				}
			}
		}
		return
	}
	if !to.Strict {
		return // closed for readers only: the validator lets others pass
	}
	for _, n := range from.names() {
		if _, ok := to.Fields[n]; !ok {
			*out = append(*out, Mismatch{below(n), "unknown", fmt.Sprintf("%s is not a property of %s%s", below(n), to.name(), DidYouMean(n, to.names()))})
		}
	}
}

// names are the declared properties in their order.
func (t *Type) names() []string {
	if len(t.Order) == len(t.Fields) {
		return t.Order
	}
	names := make([]string, 0, len(t.Fields))
	for n := range t.Fields {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

func (t *Type) name() string {
	if t.Title != "" {
		return t.Title
	}
	return "this object"
}

// Union returns the type of a value that is one or the other; ok is false if the
// two have nothing in common (the type is then of Kind Unknown).
func Union(a, b *Type) (t *Type, ok bool) { return union(a, b, 0) }

func union(a, b *Type, depth int) (*Type, bool) {
	if a == b {
		return a, true
	}
	if a == nil || b == nil || depth > maxRelate {
		return &Type{}, true
	}
	if a.Kind == Null || b.Kind == Null {
		other, null := a, b
		if a.Kind == Null {
			other, null = b, a
		}
		c := *other
		c.Nullable = c.Nullable || null.Nullable || null.Optional
		c.Optional = c.Optional || null.Optional
		c.Personal = c.Personal || null.Personal
		return &c, true
	}
	c := *a
	c.Nullable = a.Nullable || b.Nullable
	c.Optional = a.Optional || b.Optional
	c.Personal = a.Personal || b.Personal
	if a.Limits != b.Limits {
		c.Limits = nil
	}
	if a.Title != b.Title {
		c.Title = ""
	}
	if a.Format != b.Format {
		c.Format = ""
		// A plain integer beside cents is an amount too: `fee ?? 0`.
		if a.Kind == Int && b.Kind == Int && (a.Format == "cents" || b.Format == "cents") {
			c.Format = "cents"
		}
	}
	c.Enum, c.Literal = unionEnum(a, b)
	switch {
	case a.Kind == Unknown || b.Kind == Unknown:
		return &Type{Kind: Unknown}, true // reported where it arose
	case a.Kind == Any || b.Kind == Any:
		return &Type{Nullable: c.Nullable, Optional: c.Optional, Personal: c.Personal}, true
	case a.Kind == b.Kind:
	case a.Kind == Int && b.Kind == Number, a.Kind == Number && b.Kind == Int:
		c.Kind = Number
		return &c, true
	default:
		return &Type{Kind: Unknown}, false
	}
	switch a.Kind {
	case Array:
		switch {
		case isEmptyList(a):
			c.Items = b.Items
		case isEmptyList(b):
			c.Items = a.Items
		case a.Items == nil || b.Items == nil:
			c.Items = nil
		default:
			items, ok := union(a.Items, b.Items, depth+1)
			if !ok {
				return &Type{Kind: Unknown}, false
			}
			c.Items = items
		}
	case Object:
		return unionObject(&c, a, b, depth)
	}
	return &c, true
}

func isEmptyList(t *Type) bool {
	return t.Items != nil && t.Items.Kind == Null && !t.Items.Nullable && !t.Items.Optional
}

func unionEnum(a, b *Type) ([]any, bool) {
	if a.Enum == nil || b.Enum == nil || len(a.Enum)+len(b.Enum) > 200 {
		return nil, false
	}
	all := slices.Clone(a.Enum)
	for _, v := range b.Enum {
		if !slices.Contains(all, v) {
			all = append(all, v)
		}
	}
	// A literal beside an enum that holds it says no more than the enum.
	if a.Literal != b.Literal {
		s := a
		if a.Literal {
			s = b
		}
		if len(all) == len(s.Enum) {
			return s.Enum, false
		}
	}
	return all, a.Literal || b.Literal
}

func unionObject(c, a, b *Type, depth int) (*Type, bool) {
	c.Open = a.Open || b.Open
	switch {
	case !a.Open:
		c.Extra = b.Extra
	case !b.Open:
		c.Extra = a.Extra
	case a.Extra == nil || b.Extra == nil:
		c.Extra = nil
	default:
		extra, ok := union(a.Extra, b.Extra, depth+1)
		if !ok {
			extra = nil
		}
		c.Extra = extra
	}
	c.Fields = make(map[string]*Field, len(a.Fields))
	c.Order = slices.Clone(a.names())
	for _, n := range c.Order {
		f := a.Fields[n]
		g, ok := b.Fields[n]
		if !ok {
			c.Fields[n] = &Field{Type: f.Type, About: f.About}
			continue
		}
		t, ok := union(f.Type, g.Type, depth+1)
		if !ok {
			return &Type{Kind: Unknown}, false
		}
		c.Fields[n] = &Field{Type: t, Required: f.Required && g.Required, About: f.About}
	}
	for _, n := range b.names() {
		if _, ok := a.Fields[n]; !ok {
			g := b.Fields[n]
			c.Fields[n] = &Field{Type: g.Type, About: g.About}
			c.Order = append(c.Order, n)
		}
	}
	return c, true
}

// Same says whether a reader could not tell two types apart: kinds, formats,
// enums and properties are equal; literals, titles and nil apart.
func Same(a, b *Type) bool { return same(a, b, 0) }

func same(a, b *Type, depth int) bool {
	if a == b || depth > maxRelate {
		return true
	}
	if a == nil || b == nil {
		return false
	}
	if a.Kind != b.Kind || a.Format != b.Format && a.Kind != Int {
		return false
	}
	ea, eb := a.Enum, b.Enum
	if a.Literal {
		ea = nil
	}
	if b.Literal {
		eb = nil
	}
	if len(ea) != len(eb) || slices.ContainsFunc(ea, func(v any) bool { return !HasValue(eb, v) }) {
		return false
	}
	switch a.Kind {
	case Array:
		if isEmptyList(a) || isEmptyList(b) {
			return true
		}
		if a.Items == nil || b.Items == nil {
			return a.Items == b.Items
		}
		return same(a.Items, b.Items, depth+1)
	case Object:
		if len(a.Fields) != len(b.Fields) || a.Open != b.Open {
			return false
		}
		for n, f := range a.Fields {
			g, ok := b.Fields[n]
			if !ok || !same(f.Type, g.Type, depth+1) {
				return false
			}
		}
	}
	return true
}

// HasPersonal says whether t is personal or holds something personal.
func HasPersonal(t *Type) bool { return hasPersonal(t, map[*Type]bool{}) }

func hasPersonal(t *Type, seen map[*Type]bool) bool {
	if t == nil || seen[t] {
		return false
	}
	if t.Personal {
		return true
	}
	if t.Kind != Object && t.Kind != Array && t.Kind != Any {
		return false
	}
	seen[t] = true
	for _, f := range t.Fields {
		if hasPersonal(f.Type, seen) {
			return true
		}
	}
	return hasPersonal(t.Items, seen) || hasPersonal(t.Extra, seen)
}

// Widen returns t without what inference knew of literals: of `0` it says integer.
func (t *Type) Widen() *Type { return widen(t, 0) }

func widen(t *Type, depth int) *Type {
	if t == nil || depth > maxRelate {
		return t
	}
	c := *t
	changed := false
	if t.Literal {
		c.Enum, c.Literal, changed = nil, false, true
	}
	if t.Kind == Array {
		if c.Items = widen(t.Items, depth+1); c.Items != t.Items {
			changed = true
		}
	}
	// Only inference makes literals, and what it makes has at most a few fields:
	// types that come from a schema hold none and are left as they are.
	if t.Kind == Object && hasLiteral(t, map[*Type]bool{}) {
		changed = true
		c.Fields = make(map[string]*Field, len(t.Fields))
		for n, f := range t.Fields {
			c.Fields[n] = &Field{Type: widen(f.Type, depth+1), Required: f.Required, About: f.About}
		}
		c.Extra = widen(t.Extra, depth+1)
	}
	if !changed {
		return t
	}
	return &c
}

func hasLiteral(t *Type, seen map[*Type]bool) bool {
	if t == nil || seen[t] {
		return false
	}
	if t.Literal {
		return true
	}
	if t.Kind != Object && t.Kind != Array {
		return false
	}
	seen[t] = true
	if hasLiteral(t.Items, seen) || hasLiteral(t.Extra, seen) {
		return true
	}
	for _, f := range t.Fields {
		if hasLiteral(f.Type, seen) {
			return true
		}
	}
	return false
}

// String is t for a message: `integer`, `list of strings`, `"a" or "b"`.
func (t *Type) String() string {
	if t == nil {
		return "any value"
	}
	s := t.bare()
	if t.MayBeNil() && t.Kind != Null {
		s += " or nil"
	}
	return s
}

// Article is String with an article where the language wants one.
func (t *Type) Article() string {
	if t == nil {
		return "any value"
	}
	s := t.NonNil().bare()
	switch s[0] {
	case 'i', 'o', 'a':
		if strings.HasPrefix(s, "any") || strings.HasPrefix(s, "one of") {
			return s
		}
		return "an " + s
	case '"', 'n', 't':
		if s == "number" || s == "time" {
			return "a " + s
		}
		return s
	}
	if s[0] >= '0' && s[0] <= '9' || s[0] == '-' || s == "integer cents" {
		return s
	}
	return "a " + s
}

func (t *Type) bare() string {
	if len(t.Enum) > 0 {
		return oneOf(t.Enum)
	}
	switch t.Kind {
	case Null:
		return "nil"
	case Bool:
		return "boolean"
	case Int:
		if t.Format == "cents" {
			return "amount in cents"
		}
		return "integer"
	case Number:
		return "number"
	case String:
		switch t.Format {
		case "date", "date-time", "duration":
			return t.Format + " string"
		}
		return "string"
	case Object:
		return "object"
	case Array:
		if t.Items == nil || isEmptyList(t) {
			return "list"
		}
		s := t.Items.NonNil().bare()
		if len(t.Items.Enum) > 0 {
			return "list of " + s
		}
		return "list of " + plural(s)
	case Time:
		return "time"
	case Period:
		return "period"
	case Unknown:
		return "unknown value"
	}
	return "any value"
}

func plural(s string) string {
	switch {
	case strings.HasPrefix(s, "list of "):
		return "lists of " + s[len("list of "):]
	case strings.HasPrefix(s, "amount"):
		return "amounts" + s[len("amount"):]
	case s == "nil":
		return s
	}
	return s + "s"
}

func words(enum []any) []string {
	var out []string
	for _, v := range enum {
		if s, ok := v.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

func oneOf(enum []any) string {
	parts := make([]string, 0, len(enum))
	for i, v := range enum {
		if i == 12 {
			parts = append(parts, fmt.Sprintf("%d more", len(enum)-i))
			break
		}
		parts = append(parts, show(v))
	}
	if len(parts) < 2 {
		return strings.Join(parts, "")
	}
	return strings.Join(parts[:len(parts)-1], ", ") + " or " + parts[len(parts)-1]
}

// show writes a value that stands in a schema or an expression.
func show(v any) string {
	if s, ok := v.(string); ok {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprint(v)
}
