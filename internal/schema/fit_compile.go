package schema

import (
	"maps"
	"slices"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// fitterOf compiles a schema of the norm; nil where it holds a keyword that only
// the norm's validator knows, or asks itself about the same value in a circle.
func fitterOf(s *jsonschema.Schema) *fitter {
	c := &fitCompiler{made: map[*jsonschema.Schema]*fitter{}}
	f := c.fitter(s)
	if c.beyond || c.circular() {
		return nil
	}
	return f
}

type fitCompiler struct {
	made   map[*jsonschema.Schema]*fitter
	beyond bool
}

// circular says whether some schema asks itself about the value at hand: that
// would never end. A circle through parts of the value is a tree there.
func (c *fitCompiler) circular() bool {
	const inProgress, done = 1, 2
	seen := map[*fitter]int{}
	var visit func(*fitter) bool
	visit = func(f *fitter) bool {
		if f == nil || seen[f] == done {
			return false
		}
		if seen[f] == inProgress {
			return true
		}
		seen[f] = inProgress
		asked := slices.Concat(f.apply, f.any, f.one, []*fitter{f.not, f.cond, f.then, f.other})
		for _, d := range f.needs {
			asked = append(asked, d.fit)
		}
		if slices.ContainsFunc(asked, visit) {
			return true
		}
		seen[f] = done
		return false
	}
	for _, f := range c.made {
		if visit(f) {
			return true
		}
	}
	return false
}

func (c *fitCompiler) list(ss []*jsonschema.Schema) []*fitter {
	var fs []*fitter
	for _, s := range ss {
		fs = append(fs, c.fitter(s))
	}
	return fs
}

const newest = 2020 // the draft whose keywords are known here

func (c *fitCompiler) fitter(s *jsonschema.Schema) *fitter {
	if c.beyond || s == nil {
		return nil
	}
	if f, ok := c.made[s]; ok {
		return f
	}
	f := &fitter{maxProps: -1, maxItems: -1, maxLength: -1, maxContains: -1}
	c.made[s] = f
	if s.Bool != nil {
		f.never = !*s.Bool
		return f
	}
	if s.DraftVersion != newest || s.DynamicRef != nil || s.RecursiveRef != nil ||
		s.UnevaluatedProperties != nil || s.UnevaluatedItems != nil ||
		s.ContentEncoding != nil || s.ContentMediaType != nil || s.ContentSchema != nil ||
		len(s.Extensions) > 0 || len(s.Dependencies) > 0 || s.Items != nil || s.AdditionalItems != nil {
		c.beyond = true
		return nil
	}
	if s.Types != nil {
		for _, t := range s.Types.ToStrings() {
			f.kinds |= kindNamed(t)
		}
	}
	c.values(f, s)
	if s.Format != nil {
		f.format = s.Format.Validate
	}
	if s.Ref != nil {
		f.apply = append(f.apply, c.fitter(s.Ref))
	}
	f.apply = append(f.apply, c.list(s.AllOf)...)
	f.any, f.one = c.list(s.AnyOf), c.list(s.OneOf)
	f.not, f.cond, f.then, f.other = c.fitter(s.Not), c.fitter(s.If), c.fitter(s.Then), c.fitter(s.Else)
	c.object(f, s)
	c.array(f, s)
	f.pattern = s.Pattern
	set(&f.minLength, s.MinLength)
	set(&f.maxLength, s.MaxLength)
	if s.Minimum != nil {
		f.bounds = append(f.bounds, newBound(minimum, s.Minimum))
	}
	if s.Maximum != nil {
		f.bounds = append(f.bounds, newBound(maximum, s.Maximum))
	}
	if s.ExclusiveMinimum != nil {
		f.bounds = append(f.bounds, newBound(above, s.ExclusiveMinimum))
	}
	if s.ExclusiveMaximum != nil {
		f.bounds = append(f.bounds, newBound(below, s.ExclusiveMaximum))
	}
	if s.MultipleOf != nil {
		f.bounds = append(f.bounds, newBound(multiple, s.MultipleOf))
	}
	return f
}

func set(to, from *int) {
	if from != nil {
		*to = *from
	}
}

// values are those of enum and const; with both, those of both.
func (c *fitCompiler) values(f *fitter, s *jsonschema.Schema) {
	var allowed []any
	switch {
	case s.Enum != nil && s.Const != nil:
		for _, v := range s.Enum.Values {
			if equal(v, *s.Const) {
				allowed = append(allowed, v)
			}
		}
	case s.Enum != nil:
		allowed = s.Enum.Values
	case s.Const != nil:
		allowed = []any{*s.Const}
	default:
		return
	}
	f.limited = true
	for _, v := range allowed {
		if w, ok := v.(string); ok {
			f.words = append(f.words, w)
		} else {
			f.values = append(f.values, v)
		}
	}
}

func (c *fitCompiler) object(f *fitter, s *jsonschema.Schema) {
	set(&f.minProps, s.MinProperties)
	set(&f.maxProps, s.MaxProperties)
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		f.props = append(f.props, property{name, c.fitter(s.Properties[name]), slices.Contains(s.Required, name)})
	}
	for _, name := range s.Required {
		if _, declared := s.Properties[name]; !declared {
			f.required = append(f.required, name)
		}
	}
	for re, sub := range s.PatternProperties {
		f.patterns = append(f.patterns, match{re, c.fitter(sub)})
	}
	switch a := s.AdditionalProperties.(type) {
	case bool:
		f.closed = !a
	case *jsonschema.Schema:
		f.extra = c.fitter(a)
	}
	f.unconditional = f.patterns == nil && !f.closed && f.extra == nil
	f.names = c.fitter(s.PropertyNames)
	for _, name := range slices.Sorted(maps.Keys(s.DependentRequired)) {
		f.needs = append(f.needs, dependency{name: name, required: s.DependentRequired[name]})
	}
	for _, name := range slices.Sorted(maps.Keys(s.DependentSchemas)) {
		f.needs = append(f.needs, dependency{name: name, fit: c.fitter(s.DependentSchemas[name])})
	}
}

func (c *fitCompiler) array(f *fitter, s *jsonschema.Schema) {
	set(&f.minItems, s.MinItems)
	set(&f.maxItems, s.MaxItems)
	f.unique = s.UniqueItems
	f.prefix, f.items = c.list(s.PrefixItems), c.fitter(s.Items2020)
	if s.Contains != nil {
		f.contains, f.minContains = c.fitter(s.Contains), 1
		set(&f.minContains, s.MinContains)
		set(&f.maxContains, s.MaxContains)
	}
}
