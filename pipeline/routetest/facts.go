package routetest

import (
	"fmt"
	"strings"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/yamldoc"
	"github.com/dime-bus/dime/pipeline/language"
)

// facts are the names that a route's steps, and those of the routes that it
// calls inside its run, can bring about. Routes that it starts are runs of their
// own with tests of their own: they are counted, not run.
type facts struct {
	paths  map[string]bool                  // of the route's own steps, without [i]
	asked  map[string]*connectors.Operation // every operation that may be called: by steps, undo and found_by
	finds  map[string]string                // found_by operations: the effect they tell of
	waits  map[string]bool                  // event types
	emits  map[string]bool                  // event types, by emit and undo
	undone map[string]bool                  // operations and event types of undo
	starts map[string]bool                  // "route.NAME"
	ends   map[string]bool                  // names of `end`
}

func factsOf(city *language.City, r *language.Route) *facts {
	f := &facts{
		paths: map[string]bool{}, asked: map[string]*connectors.Operation{}, finds: map[string]string{},
		waits: map[string]bool{}, emits: map[string]bool{}, undone: map[string]bool{},
		starts: map[string]bool{}, ends: map[string]bool{},
	}
	walk(r.Steps, "", func(s *language.Step, path string) {
		f.paths[path] = true
		f.step(city, s)
	})
	return f
}

// walk visits every step with its static path: the path of semantics 1 without
// the index of an item.
func walk(steps []*language.Step, prefix string, visit func(s *language.Step, path string)) {
	for _, s := range steps {
		path := prefix + s.Path
		visit(s, path)
		for _, k := range s.Cases {
			walk(k.Steps, path+"/", visit)
		}
		walk(s.Otherwise, path+"/", visit)
		walk(s.Steps, path+"/", visit)
		for _, b := range s.Branches {
			walk(b.Steps, path+"/"+b.Name+"/", visit)
		}
		if s.Route != nil {
			walk(s.Route.Steps, path+"/", visit)
		}
	}
}

func (f *facts) step(city *language.City, s *language.Step) {
	switch s.Word {
	case language.Call:
		if s.Operation != nil {
			f.ask(city, s.Target, s.Operation)
		}
	case language.Start:
		f.starts[routeWord+strings.TrimPrefix(s.Target, routeWord)] = true
	case language.Emit:
		f.emits[s.EventType] = true
	case language.Wait:
		f.waits[s.EventType] = true
	}
	f.outcome(s.Else)
	for _, o := range s.Errors {
		f.outcome(o)
	}
	if u := s.Undo; u != nil {
		if u.Operation != nil {
			f.ask(city, u.Target, u.Operation)
			f.undone[u.Target] = true
		}
		if u.EventType != "" {
			f.emits[u.EventType] = true
			f.undone[u.EventType] = true
		}
	}
}

const routeWord = "route."

func (f *facts) outcome(o *language.Outcome) {
	if o != nil && o.End == language.EndName {
		f.ends[o.Reason] = true
	}
}

func (f *facts) ask(city *language.City, full string, op *connectors.Operation) {
	f.asked[full] = op
	if op.FoundBy == "" {
		return
	}
	connector, _, _ := strings.Cut(full, ".")
	finder := connector + "." + op.FoundBy
	if fo := operation(city, finder); fo != nil {
		f.asked[finder] = fo
		f.finds[finder] = full
	}
}

// operation finds an operation of the city by its full name.
func operation(city *language.City, full string) *connectors.Operation {
	connector, name, _ := strings.Cut(full, ".")
	d, ok := city.Connectors[connector]
	if !ok {
		return nil
	}
	for _, op := range d.Operations {
		if op.Name == name {
			return op
		}
	}
	return nil
}

// allNames are the city's operations and events, for suggestions.
func allNames(city *language.City) []string {
	var ns []string
	for _, c := range sortedKeys(city.Connectors) {
		for _, op := range city.Connectors[c].Operations {
			ns = append(ns, c+"."+op.Name)
		}
	}
	return append(ns, sortedKeys(city.Events)...)
}

// suggestion is the tail of a message about an unknown word.
func suggestion(word string, known []string) string {
	if s := yamldoc.Suggest(word, known); s != "" {
		return fmt.Sprintf("; did you mean %q?", s)
	}
	if len(known) > 0 && len(known) <= 12 {
		return "; known are " + strings.Join(known, ", ")
	}
	return ""
}

// engineEvents are published by the engine for every end (semantics 7.5).
var engineEvents = [...]string{"run.done", "run.cancelled", "run.failed", "run.parked"}
