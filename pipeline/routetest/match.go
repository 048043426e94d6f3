package routetest

import (
	"fmt"
	"strconv"
	"strings"
)

// mismatch is one part of a value that is not as wanted; path is an RFC 6901
// pointer into the wanted value.
type mismatch struct {
	path      string
	want, got string
}

const nothing = "nothing"

// match compares what happened with what `then` wants: a map wants its keys and
// lets others be, `{}` wants an empty map, a list wants exactly its elements in
// order (maps in it are subsets again), null wants null or nothing. Integers and
// floats are equal if their values are.
func match(want, got any, path string) []mismatch {
	bad := func() []mismatch { return []mismatch{{path, show(want), show(got)}} }
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok || len(w) == 0 && len(g) > 0 {
			return bad()
		}
		var ms []mismatch
		for _, k := range sortedKeys(w) {
			v, there := g[k]
			p := path + "/" + escape(k)
			if !there && w[k] != nil {
				ms = append(ms, mismatch{p, show(w[k]), nothing})
				continue
			}
			ms = append(ms, match(w[k], v, p)...)
		}
		return ms
	case []any:
		g, ok := got.([]any)
		if !ok {
			return bad()
		}
		if len(g) != len(w) {
			return []mismatch{{path, fmt.Sprintf("%d: %s", len(w), show(want)), fmt.Sprintf("%d: %s", len(g), show(got))}}
		}
		var ms []mismatch
		for i := range w {
			ms = append(ms, match(w[i], g[i], path+"/"+strconv.Itoa(i))...)
		}
		return ms
	}
	if !equal(want, got) {
		return bad()
	}
	return nil
}

func equal(a, b any) bool {
	switch x := a.(type) {
	case int:
		switch y := b.(type) {
		case int:
			return x == y
		case float64:
			return float64(x) == y
		}
		return false
	case float64:
		switch y := b.(type) {
		case int:
			return x == float64(y)
		case float64:
			return x == y
		}
		return false
	case nil, bool, string:
		switch b.(type) {
		case map[string]any, []any:
			return false
		}
		return a == b
	}
	return false
}

func escape(k string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(k)
}

func unescape(k string) string {
	return strings.NewReplacer("~1", "/", "~0", "~").Replace(k)
}
