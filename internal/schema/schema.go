// Package schema owns JSON Schema 2020-12: it loads the city's schemas, turns
// them into the Types that expressions are checked with, validates values and
// decodes JSON so that integers are Go ints.
//
// Values everywhere in the engine are nil, bool, int, float64, string, []any
// and map[string]any, and nothing else.
package schema

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dime-bus/dime/internal/taxcode"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Violation is one thing wrong with a value.
type Violation struct {
	Pointer string // RFC 6901
	Message string // what is wrong and what is expected; never the value, which may be personal
}

// Schema is a compiled JSON Schema. It is immutable and safe for concurrent use.
// The methods of a nil *Schema take everything and know nothing.
type Schema struct {
	Name string // "certificates/residence-request", or "anagrafe.residence/in"
	// Source is the canonical JSON of the document, what it refers to included
	// under $defs: part of a route version's digest, and enough for CompileBytes.
	Source []byte
	typ    *Type
	doc    any // as compiled; for messages
	norm   *jsonschema.Schema
	fit    *fitter // what norm says, without reasons; nil: ask norm
}

// Type is what the compiler may rely on; nil if s is nil.
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
func (s *Set) Get(name string) *Schema {
	if s == nil {
		return nil
	}
	return s.schemas[name]
}

// Names returns the names of all schemas, sorted.
func (s *Set) Names() []string {
	if s == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(s.schemas))
}

// Compile compiles a document (map[string]any or bool, with whatever numbers)
// that refers to nothing outside itself. An error is a *CompileError if the
// document is at fault.
func Compile(name string, doc any) (*Schema, error) {
	b, err := Canonical(doc)
	if err != nil {
		return nil, fmt.Errorf("compiling schema %q: %w", name, err)
	}
	return CompileBytes(name, b)
}

// CompileBytes is Compile for a document's text; properties keep their order.
func CompileBytes(name string, b []byte) (*Schema, error) {
	o := orders{}
	doc, err := decode(b, o)
	if err != nil {
		return nil, fmt.Errorf("compiling schema %q: %w", name, err)
	}
	return compile(name, doc, o)
}

// CompileError is all that is wrong with a schema document.
type CompileError struct {
	Name string
	At   []Violation // pointers into the document
}

func (e *CompileError) Error() string {
	parts := make([]string, 0, len(e.At))
	for _, v := range e.At {
		at := v.Pointer
		if at == "" {
			at = "/"
		}
		parts = append(parts, at+": "+v.Message)
	}
	return fmt.Sprintf("compiling schema %q: %s", e.Name, strings.Join(parts, "; "))
}

// location is where a document stands for the validator; each has a compiler of
// its own, so one name is enough.
const location = "dime:///schema"

func compile(name string, doc any, o orders) (*Schema, error) {
	if m, ok := doc.(map[string]any); ok {
		delete(m, "$id") // it would move the base of all references
	}
	if bad := checkRefs(doc); len(bad) > 0 {
		return nil, &CompileError{name, bad}
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	c.UseLoader(noLoader{})
	for _, f := range ownFormats {
		c.RegisterFormat(&jsonschema.Format{Name: f.name, Validate: f.validate})
	}
	if err := c.AddResource(location, doc); err != nil {
		return nil, fmt.Errorf("compiling schema %q: %w", name, err)
	}
	norm, err := c.Compile(location)
	if err != nil {
		var sve *jsonschema.SchemaValidationError
		var ve *jsonschema.ValidationError
		if errors.As(err, &sve) && errors.As(sve.Err, &ve) {
			return nil, &CompileError{name, violations(ve, nil)}
		}
		return nil, &CompileError{name, []Violation{{Message: strings.ReplaceAll(err.Error(), location, "")}}}
	}
	src, err := Canonical(doc)
	if err != nil {
		return nil, fmt.Errorf("compiling schema %q: %w", name, err)
	}
	return &Schema{Name: name, Source: src, typ: typeOf(doc, o), doc: doc, norm: norm, fit: fitterOf(norm)}, nil
}

type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("loading %s: a schema refers to nothing outside the city's schemas", url)
}

var ownFormats = [...]struct {
	name     string
	validate func(any) error
}{
	{"tax-code", stringFormat(taxcode.Valid)},
	{"iuv", stringFormat(IUVValid)},
}

func stringFormat(valid func(string) bool) func(any) error {
	return func(v any) error {
		if s, ok := v.(string); ok && !valid(s) {
			return errors.New("wrong check character")
		}
		return nil
	}
}

// checkRefs refuses references that lead out of the document or nowhere.
func checkRefs(doc any) []Violation {
	var bad []Violation
	var walk func(v any, at string, names bool)
	walk = func(v any, at string, names bool) {
		switch v := v.(type) {
		case map[string]any:
			for _, k := range slices.Sorted(maps.Keys(v)) {
				below := at + "/" + escapePointer(k)
				if r, ok := v[k].(string); ok && k == "$ref" && !names {
					if !strings.HasPrefix(r, "#") {
						bad = append(bad, Violation{below, fmt.Sprintf("%q is not in this document", r)})
					} else if _, err := lookup(doc, r[1:]); err != nil {
						bad = append(bad, Violation{below, err.Error()})
					}
					continue
				}
				if !names && isData(k) {
					continue
				}
				walk(v[k], below, !names && holdsNames(k))
			}
		case []any:
			for i, e := range v {
				walk(e, fmt.Sprintf("%s/%d", at, i), false)
			}
		}
	}
	walk(doc, "", false)
	return bad
}

// isData says whether a keyword's value is data, not schemas.
func isData(keyword string) bool {
	return keyword == "const" || keyword == "enum" || keyword == "default" || keyword == "examples"
}

// holdsNames says whether the keys below a keyword are names, not keywords.
func holdsNames(keyword string) bool {
	return keyword == "properties" || keyword == "patternProperties" || keyword == "$defs" || keyword == "dependentSchemas"
}

// Validate returns all that is wrong with v, which holds the engine's kinds.
func (s *Schema) Validate(v any) []Violation {
	if s == nil {
		return nil
	}
	if s.fit != nil {
		var j judge
		if j.fits(s.fit, v) && !j.unsure {
			return nil
		}
	}
	err := s.norm.Validate(v)
	if err == nil {
		return nil
	}
	var ve *jsonschema.ValidationError
	if errors.As(err, &ve) {
		return violations(ve, s.doc)
	}
	return []Violation{{Message: "the value cannot be checked"}}
}

// Decode reads one JSON text strictly (see DecodeJSON), gives integers as int
// and numbers as float64 where the schema says so, and validates. The value is
// nil if there are violations.
func (s *Schema) Decode(b []byte) (any, []Violation) {
	v, err := DecodeJSON(b)
	if err != nil {
		var se *SyntaxError
		if errors.As(err, &se) {
			return nil, []Violation{{Pointer: se.Pointer, Message: fmt.Sprintf("not valid JSON at byte %d: %s", se.Offset, se.Message)}}
		}
		return nil, []Violation{{Message: err.Error()}}
	}
	if s == nil {
		return v, nil
	}
	big := false
	v = coercer{own: true, big: &big}.value(v, s.typ)
	if bad := s.Validate(v); len(bad) > 0 {
		return nil, bad
	}
	if big {
		// A whole number beyond 64 bits is an integer to JSON Schema, not to us.
		var bad []Violation
		tooLarge(v, s.typ, "", &bad)
		return nil, bad
	}
	return v, nil
}
