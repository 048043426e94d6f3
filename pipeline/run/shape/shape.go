// Package shape finds the waits that an event may wake: by its values at the paths
// that some version compares for equality (semantics 5.1, 5.2).
package shape

import (
	"maps"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/pipeline/language"
	"github.com/dime-bus/dime/pipeline/run/codec"
)

// Table is every (event type, shape) that a version waits for.
type Table struct {
	mu sync.Mutex
	by map[string]map[string][]string // type -> shape -> its paths
}

// Learn adds a route's shapes and returns those that are new.
func (t *Table) Learn(ws []language.WaitShape) (fresh []language.WaitShape) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.by == nil {
		t.by = map[string]map[string][]string{}
	}
	for _, w := range ws {
		if t.by[w.Type] == nil {
			t.by[w.Type] = map[string][]string{}
		}
		if _, ok := t.by[w.Type][w.Shape]; !ok {
			t.by[w.Type][w.Shape] = strings.Split(w.Shape, ",")
			fresh = append(fresh, w)
		}
	}
	return fresh
}

// Types are the event types that some version waits for, sorted.
func (t *Table) Types() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Sorted(maps.Keys(t.by))
}

// Waited says whether some version waits for events of a type.
func (t *Table) Waited(eventType string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.by[eventType]) > 0
}

// Index gives an event its keys and the shapes that they were made for.
func (t *Table) Index(e *store.Event, data any) {
	e.Keys = t.keys(e.Type, data)
	t.mu.Lock()
	defer t.mu.Unlock()
	e.Shapes = slices.Collect(maps.Keys(t.by[e.Type]))
}

// keys gives an event's key under each shape where no part is nil.
func (t *Table) keys(eventType string, data any) []store.EventKey {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []store.EventKey
	for shape, paths := range t.by[eventType] {
		if k, ok := Key(paths, data); ok {
			out = append(out, store.EventKey{Shape: shape, Key: k})
		}
	}
	return out
}

// Key is the canonical JSON of an event's values at the paths; ok is false if one is nil.
func Key(paths []string, data any) (string, bool) {
	vals := make([]any, len(paths))
	for i, p := range paths {
		v := data
		for _, part := range strings.Split(p, ".") {
			m, _ := v.(map[string]any)
			v = m[part]
		}
		if v == nil {
			return "", false
		}
		vals[i] = Number(v)
	}
	b, err := codec.Append(nil, vals)
	return string(b), err == nil
}

// Number normalises a number, so that 2 and 2.0 are one key; other values stay.
func Number(v any) any {
	if f, ok := v.(float64); ok && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return int(f)
	}
	return v
}
