package routetest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/yamldoc"
)

// Values of a test file are merged as nodes and only then read by the schema that
// they must fit, so that a violation is shown where its author wrote it.

// merge lays over on base: maps by key and deep; `{}`, lists and single values
// replace what they stand over. Neither is changed.
func merge(base, over *yamldoc.Node) *yamldoc.Node {
	switch {
	case over == nil:
		return base
	case base == nil, base.Kind != yamldoc.Map, over.Kind != yamldoc.Map, len(over.Pairs) == 0:
		return over
	}
	m := &yamldoc.Node{Pos: over.Pos, Kind: yamldoc.Map}
	for _, p := range base.Pairs {
		if o := over.Get(p.Key.Text); o != nil {
			p = yamldoc.Pair{Key: over.Key(p.Key.Text), Value: merge(p.Value, o)}
		}
		m.Pairs = append(m.Pairs, p)
	}
	for _, p := range over.Pairs {
		if base.Get(p.Key.Text) == nil {
			m.Pairs = append(m.Pairs, p)
		}
	}
	return m
}

// reader turns nodes into values of the engine and collects what can't be read.
type reader struct{ problems []yamldoc.Problem }

// read reads by typ, which may be nil. Where typ wants a string the text counts
// as written (`iuv: 0102` is "0102"); a null for a property that is neither
// required nor nullable leaves the property out, as `with` does.
func (r *reader) read(n *yamldoc.Node, typ *schema.Type) any {
	if n == nil {
		return nil
	}
	switch n.Kind {
	case yamldoc.Map:
		m := make(map[string]any, len(n.Pairs))
		for _, p := range n.Pairs {
			f, required := fieldOf(typ, p.Key.Text)
			if p.Value.IsNull() && f != nil && !required && !f.Nullable && f.Kind != schema.Null && f.Kind != schema.Any {
				continue
			}
			m[p.Key.Text] = r.read(p.Value, f)
		}
		return m
	case yamldoc.List:
		var of *schema.Type
		if typ != nil && typ.Kind == schema.Array {
			of = typ.Items
		}
		l := make([]any, len(n.Items))
		for i, x := range n.Items {
			l[i] = r.read(x, of)
		}
		return l
	}
	if n.IsNull() {
		return nil
	}
	want := yamldoc.WantAny
	if typ != nil {
		switch typ.Kind {
		case schema.String, schema.Time:
			want = yamldoc.WantString
		case schema.Int:
			want = yamldoc.WantInt
		case schema.Number:
			want = yamldoc.WantNumber
		case schema.Bool:
			want = yamldoc.WantBool
		}
	}
	v, wrong := n.Value(want)
	if wrong != "" {
		r.problems = append(r.problems, n.Problem("yaml", wrong))
		return n.Text
	}
	if i, ok := v.(int); ok && want == yamldoc.WantNumber {
		return float64(i)
	}
	return v
}

// fieldOf is the type of a property, and whether it must be there.
func fieldOf(typ *schema.Type, name string) (*schema.Type, bool) {
	if typ == nil || typ.Kind != schema.Object {
		return nil, false
	}
	if f := typ.Fields[name]; f != nil {
		return f.Type, f.Required
	}
	if typ.Open {
		return typ.Extra, false
	}
	return nil, false
}

// at is the place of the part of n that an RFC 6901 pointer names, or of the
// deepest part on the way that exists; keyAt is that of its key, if it has one.
func at(n *yamldoc.Node, pointer string) yamldoc.Pos {
	_, value := find(n, pointer)
	return value
}

func keyAt(n *yamldoc.Node, pointer string) yamldoc.Pos {
	key, _ := find(n, pointer)
	return key
}

func find(n *yamldoc.Node, pointer string) (key, value yamldoc.Pos) {
	key = n.Pos
	if pointer == "" {
		return key, n.Pos
	}
	for _, p := range strings.Split(strings.TrimPrefix(pointer, "/"), "/") {
		p = unescape(p)
		switch n.Kind {
		case yamldoc.Map:
			next := n.Get(p)
			if next == nil {
				return key, n.Pos
			}
			key, n = n.Key(p).Pos, next
		case yamldoc.List:
			i, err := strconv.Atoi(p)
			if err != nil || i < 0 || i >= len(n.Items) {
				return key, n.Pos
			}
			n = n.Items[i]
			key = n.Pos
		default:
			return key, n.Pos
		}
	}
	return key, n.Pos
}

// plainValue makes a value of the engine from what an answer or event held:
// instants become RFC 3339 strings, numbers int or float64.
func plainValue(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, x := range v {
			m[k] = plainValue(x)
		}
		return m
	case []any:
		l := make([]any, len(v))
		for i, x := range v {
			l[i] = plainValue(x)
		}
		return l
	case time.Time:
		return v.Format(time.RFC3339Nano)
	case time.Duration:
		return v.String()
	case int64:
		return int(v)
	case float64:
		if i := int(v); float64(i) == v {
			return i
		}
	}
	return v
}

// show renders a value on one line, for messages.
func show(v any) string {
	const most = 300
	b := &strings.Builder{}
	showTo(b, v)
	if b.Len() > most {
		return strings.ToValidUTF8(b.String()[:most], "") + "..."
	}
	return b.String()
}

func showTo(b *strings.Builder, v any) {
	switch v := v.(type) {
	case nil:
		b.WriteString("null")
	case string:
		if isWord(v) {
			b.WriteString(v)
		} else {
			b.WriteString(strconv.Quote(v))
		}
	case map[string]any:
		b.WriteByte('{')
		for i, k := range sortedKeys(v) {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(k + ": ")
			showTo(b, v[k])
		}
		b.WriteByte('}')
	case []any:
		b.WriteByte('[')
		for i, x := range v {
			if i > 0 {
				b.WriteString(", ")
			}
			showTo(b, x)
		}
		b.WriteByte(']')
	default:
		fmt.Fprint(b, v)
	}
}

// isWord says whether YAML would read s as that very string without quotes.
func isWord(s string) bool {
	for i, r := range s {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '_'
		if !letter && (i == 0 || !strings.ContainsRune("0123456789-./", r)) {
			return false
		}
	}
	switch s {
	case "", "null", "true", "false", "yes", "no", "on", "off":
		return false
	}
	return true
}

func sortedKeys[V any](m map[string]V) []string {
	ks := make([]string, 0, len(m))
	for k := range m {
		ks = append(ks, k)
	}
	slices.Sort(ks)
	return ks
}
