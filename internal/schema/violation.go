package schema

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// violations flattens the validator's tree. doc is the schema document, for the
// names that a misspelt property may have meant; nil if it is not at hand.
func violations(ve *jsonschema.ValidationError, doc any) []Violation {
	var out []Violation
	flatten(ve, doc, &out)
	if len(out) == 0 {
		out = append(out, Violation{Pointer: pointerOf(ve.InstanceLocation), Message: "does not fit the schema"})
	}
	return out
}

func flatten(e *jsonschema.ValidationError, doc any, out *[]Violation) {
	switch e.ErrorKind.(type) {
	case *kind.OneOf, *kind.AnyOf:
		if branch := intended(e); branch != nil {
			flatten(branch, doc, out)
			return
		}
		*out = append(*out, Violation{pointerOf(e.InstanceLocation), message(e, doc)})
		return
	case *kind.Contains, *kind.Not, *kind.PropertyNames:
		*out = append(*out, Violation{pointerOf(e.InstanceLocation), message(e, doc)})
		return
	}
	if len(e.Causes) > 0 {
		for _, c := range e.Causes {
			flatten(c, doc, out)
		}
		return
	}
	switch k := e.ErrorKind.(type) {
	case *kind.Required:
		for _, m := range k.Missing {
			*out = append(*out, Violation{pointerOf(e.InstanceLocation) + "/" + escapePointer(m), "is required"})
		}
	case *kind.AdditionalProperties:
		known := properties(e.SchemaURL, doc)
		for _, p := range k.Properties {
			*out = append(*out, Violation{pointerOf(e.InstanceLocation) + "/" + escapePointer(p), "is not a known property" + DidYouMean(p, known)})
		}
	default:
		*out = append(*out, Violation{pointerOf(e.InstanceLocation), message(e, doc)})
	}
}

// intended is the alternative that the value was meant to be: the only one whose
// type it has.
func intended(e *jsonschema.ValidationError) *jsonschema.ValidationError {
	var found *jsonschema.ValidationError
	for _, c := range e.Causes {
		if wrongType(c, len(e.InstanceLocation)) {
			continue
		}
		if found != nil {
			return nil //nolint:nilerr // no Go error: two alternatives are as near
		}
		found = c
	}
	return found
}

func wrongType(e *jsonschema.ValidationError, depth int) bool {
	if len(e.InstanceLocation) != depth {
		return false
	}
	switch k := e.ErrorKind.(type) {
	case *kind.Type:
		return true
	case *kind.Const:
		return k.Want == nil
	}
	for _, c := range e.Causes {
		if wrongType(c, depth) {
			return true
		}
	}
	return false
}

// message says what is expected. The value itself never shows: it may be personal.
func message(e *jsonschema.ValidationError, doc any) string {
	switch k := e.ErrorKind.(type) {
	case *kind.Type:
		return fmt.Sprintf("must be %s, not %s", strings.Join(k.Want, " or "), k.Got)
	case *kind.Enum:
		hint := ""
		if s, ok := k.Got.(string); ok {
			hint = DidYouMean(s, words(k.Want))
		}
		return "must be " + oneOf(k.Want) + hint
	case *kind.Const:
		return "must be " + show(k.Want)
	case *kind.Format:
		return "must be a valid " + formatName(k.Want)
	case *kind.Pattern:
		return fmt.Sprintf("must match the pattern %s", k.Want)
	case *kind.MinLength:
		return fmt.Sprintf("must have at least %s, not %d", count(k.Want, "character"), k.Got)
	case *kind.MaxLength:
		return fmt.Sprintf("must have at most %s, not %d", count(k.Want, "character"), k.Got)
	case *kind.MinItems:
		return fmt.Sprintf("must have at least %s, not %d", count(k.Want, "item"), k.Got)
	case *kind.MaxItems:
		return fmt.Sprintf("must have at most %s, not %d", count(k.Want, "item"), k.Got)
	case *kind.MinProperties:
		return fmt.Sprintf("must have at least %s, not %d", count(k.Want, "property"), k.Got)
	case *kind.MaxProperties:
		return fmt.Sprintf("must have at most %s, not %d", count(k.Want, "property"), k.Got)
	case *kind.Minimum:
		return "must be at least " + k.Want.RatString()
	case *kind.Maximum:
		return "must be at most " + k.Want.RatString()
	case *kind.ExclusiveMinimum:
		return "must be more than " + k.Want.RatString()
	case *kind.ExclusiveMaximum:
		return "must be less than " + k.Want.RatString()
	case *kind.MultipleOf:
		return "must be a multiple of " + k.Want.RatString()
	case *kind.UniqueItems:
		return fmt.Sprintf("items %d and %d must not be equal", k.Duplicates[0], k.Duplicates[1])
	case *kind.FalseSchema:
		return "must not be here"
	case *kind.OneOf:
		if len(k.Subschemas) > 0 {
			return "must fit exactly one of the alternatives, and fits several"
		}
		return "fits none of the alternatives"
	case *kind.AnyOf:
		return "fits none of the alternatives"
	case *kind.Not:
		return "must not be so"
	case *kind.Contains:
		return "holds no item of the kind that must be there"
	case *kind.PropertyNames:
		return "has a property with a name that is not allowed"
	case *kind.Dependency:
		return "needs also " + quoted(k.Missing)
	case *kind.DependentRequired:
		return "needs also " + quoted(k.Missing)
	case *kind.InvalidJsonValue:
		return "is not a value of JSON"
	case *kind.MinContains, *kind.MaxContains, *kind.AdditionalItems:
		return "has a wrong number of items"
	}
	return "does not fit the schema"
}

func formatName(f string) string {
	switch f {
	case "tax-code":
		return "codice fiscale (its check character is wrong)"
	case "iuv":
		return "pagoPA notice number (its check digits are wrong)"
	case "date":
		return "date such as 2026-11-23"
	case "date-time":
		return "date-time such as 2026-11-23T09:30:00Z"
	}
	return f
}

func count(n int, what string) string {
	switch {
	case n == 1:
		return "1 " + what
	case strings.HasSuffix(what, "y"):
		what = what[:len(what)-1] + "ie"
	}
	return strconv.Itoa(n) + " " + what + "s"
}

func quoted(names []string) string {
	q := make([]string, len(names))
	for i, n := range names {
		q[i] = strconv.Quote(n)
	}
	return strings.Join(q, ", ")
}

// properties are the names that the schema at url declares.
func properties(url string, doc any) []string {
	_, fragment, _ := strings.Cut(url, "#")
	node, err := lookup(doc, fragment)
	if err != nil {
		return nil
	}
	m, _ := node.(map[string]any)
	props, _ := m["properties"].(map[string]any)
	names := make([]string, 0, len(props))
	for n := range props {
		names = append(names, n)
	}
	return names
}

func pointerOf(tokens []string) string {
	var b strings.Builder
	for _, t := range tokens {
		b.WriteByte('/')
		b.WriteString(escapePointer(t))
	}
	return b.String()
}
