package language

import (
	"bytes"
	"reflect"

	"github.com/dime-bus/dime/internal/yamldoc"
)

// kept returns the head of a route whose file and everything that its check
// rested on are as they were; nil if it must be read again.
func (l *loader) kept(file string) *head {
	if l.prev == nil || l.prev.memo == nil || !l.unchanged(file) {
		return nil
	}
	old := l.prev.memo.byFile[file]
	if old == nil || !l.holds(&old.route.deps, old.route) {
		return nil
	}
	h := *old
	return &h
}

// holds says whether what a route's check rested on is unchanged.
func (l *loader) holds(d *deps, r *Route) bool {
	for name, s := range d.schemas {
		now := l.schemaNamed(name)
		if now == nil || now != s && !bytes.Equal(now.Source, s.Source) {
			return false
		}
	}
	for name, op := range d.ops {
		if l.ops[name] != op { // the route holds the operation itself, not only its description
			return false
		}
	}
	for key := range d.messages {
		if l.messages[key] == nil {
			return false
		}
	}
	if r.Purpose != "" && !reflect.DeepEqual(l.purposes[r.Purpose], l.prev.Purposes[r.Purpose]) {
		return false
	}
	if d.cfg && !l.unchanged(cfgFile) {
		return false
	}
	return l.zone.String() == l.prev.Zone.String()
}

// reuse drops kept routes that call or start one that is not kept, until none
// is left, and reads those again.
func (l *loader) reuse() {
	for changed := true; changed; {
		changed = false
		for file, h := range l.byFile {
			if h.state != done || l.heads[h.name] != h {
				continue
			}
			for _, name := range h.route.Routes {
				if t := l.heads[name]; t != nil && t.state == done {
					continue
				}
				again := l.parse(file, l.files[file])
				if again == nil {
					break
				}
				l.byFile[file], l.heads[h.name] = again, again
				changed = true
				break
			}
		}
	}
	for _, h := range l.heads {
		if h.state == done {
			l.city.memo.byFile[h.file] = h
		}
	}
}

// sharedPaths is the rule "http" across routes: one method and path belongs to
// one route, and two patterns that overlap must have a clearly narrower one.
func (l *loader) sharedPaths() {
	type place struct {
		t     *Trigger
		route string
	}
	exact := map[string]place{}
	buckets := map[string][]place{}
	for _, name := range l.ownFirst(sortedKeys(l.heads), func(n string) string { return l.heads[n].file }) {
		h := l.heads[name]
		if h.route == nil {
			continue
		}
		for i := range h.route.From {
			t := &h.route.From[i]
			if t.Kind != HTTP || t.Path == "" {
				continue
			}
			segs := segments(t.Path)
			key := t.Method + " " + pattern(segs)
			if first, ok := exact[key]; ok {
				l.problems = append(l.problems, yamldoc.Problem{Pos: t.Pos, Rule: "http",
					Message: t.Method + " " + t.Path + " belongs to route " + first.route + " already (" + first.t.Pos.File + ")"})
				continue
			}
			exact[key] = place{t, name}
			bucket := t.Method + " " + string(rune('0'+len(segs)))
			for _, other := range buckets[bucket] {
				if conflict(segs, segments(other.t.Path)) {
					l.problems = append(l.problems, yamldoc.Problem{Pos: t.Pos, Rule: "http",
						Message: t.Method + " " + t.Path + " and " + other.t.Path + " of route " + other.route + " both match some requests and neither is the narrower: change one"})
					break
				}
			}
			if key != t.Method+" "+t.Path {
				buckets[bucket] = append(buckets[bucket], place{t, name})
			}
		}
	}
}
