package schema

import (
	"math"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// The norm's validator builds the reasons as it goes and so allocates for every
// value, right or wrong (engine-facts, "Synchronous path"). Nearly all values of
// a city are right. A fitter answers only whether a value fits, without a single
// allocation; the reasons of those that do not are asked of the norm. The two are
// held equal by FuzzValidatorAgainstSanthosh.

// kinds is a set of JSON types.
type kinds uint8

const (
	nullKind kinds = 1 << iota
	boolKind
	integerKind
	numberKind
	stringKind
	arrayKind
	objectKind
)

func kindNamed(s string) kinds {
	switch s {
	case "null":
		return nullKind
	case "boolean":
		return boolKind
	case "integer":
		return integerKind
	case "number":
		return numberKind | integerKind
	case "string":
		return stringKind
	case "array":
		return arrayKind
	case "object":
		return objectKind
	}
	return 0
}

// fitter is one compiled schema. Its zero value takes everything.
type fitter struct {
	never bool
	kinds kinds // 0: any
	// Values that enum and const allow. words holds the strings among them.
	limited bool
	words   []string
	values  []any
	format  func(any) error

	apply []*fitter // $ref and allOf: each must fit
	any   []*fitter
	one   []*fitter
	not   *fitter
	cond  *fitter
	then  *fitter
	other *fitter

	props         []property
	closed        bool     // no further properties
	extra         *fitter  // of further properties; nil takes them
	patterns      []match  // patternProperties
	required      []string // those that props does not name
	names         *fitter
	minProps      int
	maxProps      int
	needs         []dependency
	unconditional bool // nothing is asked of further properties

	prefix      []*fitter
	items       *fitter
	minItems    int
	maxItems    int
	unique      bool
	contains    *fitter
	minContains int
	maxContains int

	minLength int
	maxLength int
	pattern   jsonschema.Regexp

	bounds []bound
}

type property struct {
	name     string
	fit      *fitter
	required bool
}

type match struct {
	name jsonschema.Regexp
	fit  *fitter
}

// dependency is what a property asks of the object that has it.
type dependency struct {
	name     string
	required []string
	fit      *fitter
}

// judge is one look at one value. unsure is set where a value is of no kind that
// the engine makes, or a check is cheaper for the norm: its word then counts.
type judge struct{ unsure bool }

func (j *judge) fits(f *fitter, v any) bool {
	if f.never {
		return false
	}
	switch x := v.(type) {
	case string:
		return f.takes(stringKind) && j.shared(f, v) && f.text(x)
	case int:
		return f.takes(integerKind) && j.shared(f, v) && f.whole(x)
	case map[string]any:
		return f.takes(objectKind) && j.shared(f, v) && j.object(f, x)
	case []any:
		return f.takes(arrayKind) && j.shared(f, v) && j.array(f, x)
	case bool:
		return f.takes(boolKind) && j.shared(f, v)
	case nil:
		return f.takes(nullKind) && j.shared(f, v)
	case float64:
		if math.IsNaN(x) || math.IsInf(x, 0) {
			j.unsure = true
			return false
		}
		k := numberKind &^ integerKind
		if x == math.Trunc(x) {
			k |= integerKind
		}
		return f.takes(k) && j.shared(f, v) && f.number(x)
	}
	j.unsure = true
	return false
}

func (f *fitter) takes(k kinds) bool { return f.kinds == 0 || f.kinds&k != 0 }

// shared are the keywords that hold for values of every type.
func (j *judge) shared(f *fitter, v any) bool {
	if f.limited && !f.allows(v) {
		return false
	}
	if f.format != nil && f.format(v) != nil {
		return false
	}
	for _, g := range f.apply {
		if !j.fits(g, v) {
			return false
		}
	}
	if f.any != nil && !j.some(f.any, v, 1) {
		return false
	}
	if f.one != nil && !j.some(f.one, v, 2) {
		return false
	}
	if f.not != nil && j.fits(f.not, v) {
		return false
	}
	if f.cond != nil {
		branch := f.other
		if j.fits(f.cond, v) {
			branch = f.then
		}
		if branch != nil && !j.fits(branch, v) {
			return false
		}
	}
	return true
}

// some says whether v fits at least one of fs, and fewer than most of them
// where most is more than one.
func (j *judge) some(fs []*fitter, v any, most int) bool {
	n := 0
	for _, g := range fs {
		if !j.fits(g, v) {
			continue
		}
		if n++; most == 1 {
			return true
		} else if n == most {
			return false
		}
	}
	return n > 0
}

func (f *fitter) allows(v any) bool {
	if s, ok := v.(string); ok {
		for _, w := range f.words {
			if w == s {
				return true
			}
		}
		return false
	}
	for _, w := range f.values {
		if equal(v, w) {
			return true
		}
	}
	return false
}

func (f *fitter) text(s string) bool {
	if f.minLength > 0 || f.maxLength >= 0 {
		n := len(s)
		// A character has one to four bytes: most lengths need no counting.
		if n < f.minLength || f.maxLength >= 0 && n > f.maxLength || f.minLength > 0 && n < 4*f.minLength {
			n = utf8.RuneCountInString(s)
			if n < f.minLength || f.maxLength >= 0 && n > f.maxLength {
				return false
			}
		}
	}
	return f.pattern == nil || f.pattern.MatchString(s)
}

func (j *judge) object(f *fitter, m map[string]any) bool {
	if len(m) < f.minProps || f.maxProps >= 0 && len(m) > f.maxProps {
		return false
	}
	met := 0
	for i := range f.props {
		p := &f.props[i]
		v, ok := m[p.name]
		switch {
		case ok:
			if !j.fits(p.fit, v) {
				return false
			}
			met++
		case p.required:
			return false
		}
	}
	for _, name := range f.required {
		if _, ok := m[name]; !ok {
			return false
		}
	}
	if !f.unconditional && (met < len(m) || f.patterns != nil) && !j.further(f, m) {
		return false
	}
	if f.names != nil {
		for name := range m {
			if !j.fits(f.names, name) {
				return false
			}
		}
	}
	for i := range f.needs {
		d := &f.needs[i]
		if _, ok := m[d.name]; !ok {
			continue
		}
		for _, name := range d.required {
			if _, ok := m[name]; !ok {
				return false
			}
		}
		if d.fit != nil && !j.fits(d.fit, m) {
			return false
		}
	}
	return true
}

// further judges the properties by patternProperties and additionalProperties.
func (j *judge) further(f *fitter, m map[string]any) bool {
	if f.patterns == nil && f.closed {
		return false // there are some
	}
	for name, v := range m {
		known := f.declares(name)
		for i := range f.patterns {
			if p := &f.patterns[i]; p.name.MatchString(name) {
				known = true
				if !j.fits(p.fit, v) {
					return false
				}
			}
		}
		if !known && (f.closed || f.extra != nil && !j.fits(f.extra, v)) {
			return false
		}
	}
	return true
}

func (f *fitter) declares(name string) bool {
	for i := range f.props {
		if f.props[i].name == name {
			return true
		}
	}
	return false
}

// manyItems is up to where comparing each with each is cheaper than hashing.
const manyItems = 20

func (j *judge) array(f *fitter, l []any) bool {
	if len(l) < f.minItems || f.maxItems >= 0 && len(l) > f.maxItems {
		return false
	}
	if f.unique {
		if len(l) > manyItems {
			j.unsure = true // the norm hashes
		} else if repeats(l) {
			return false
		}
	}
	n := min(len(f.prefix), len(l))
	for i, g := range f.prefix[:n] {
		if !j.fits(g, l[i]) {
			return false
		}
	}
	if f.items != nil {
		for _, v := range l[n:] {
			if !j.fits(f.items, v) {
				return false
			}
		}
	}
	if f.contains != nil {
		met := 0
		for _, v := range l {
			if j.fits(f.contains, v) {
				met++
			}
		}
		if met < f.minContains || f.maxContains >= 0 && met > f.maxContains {
			return false
		}
	}
	return true
}

func repeats(l []any) bool {
	for i := 1; i < len(l); i++ {
		for _, v := range l[:i] {
			if equal(l[i], v) {
				return true
			}
		}
	}
	return false
}
