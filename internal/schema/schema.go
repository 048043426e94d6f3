// Package schema owns JSON Schema 2020-12: it loads the city's schemas, turns
// them into the Types that expressions are checked with, validates values and
// decodes JSON so that integers are Go ints.
//
// Values everywhere in the engine are nil, bool, int, float64, string, []any
// and map[string]any, and nothing else.
package schema

// Violation is one thing wrong with a value.
type Violation struct {
	Pointer string // RFC 6901
	Message string // what is wrong and what is expected; never the value if it is personal
}

// Schema is a compiled JSON Schema. It is immutable and safe for concurrent use.
type Schema struct {
	Name   string // "certificates/residence-request", or "anagrafe.residence/in"
	Source []byte // canonical JSON of the document: part of a route version's digest
	typ    *Type
}

// Type is what the compiler may rely on.
func (s *Schema) Type() *Type {
	if s == nil {
		return nil
	}
	return s.typ
}

// Set is all schemas of a city, by name.
type Set struct {
	schemas map[string]*Schema
}

// Get returns a schema by its name ("certificates/residence-request"), or nil.
func (s *Set) Get(name string) *Schema { return s.schemas[name] }
