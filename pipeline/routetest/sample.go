package routetest

import (
	"strings"

	"github.com/dime-bus/dime/internal/schema"
)

// sample is what an operation answers of which `given` says nothing: the
// smallest value that its schema's type allows. The timeline shows that it was
// made up.
func sample(s *schema.Schema) any {
	if s == nil {
		return nil
	}
	return sampleOf(s.Type(), 0)
}

func sampleOf(t *schema.Type, depth int) any {
	if t == nil || t.Nullable || depth > 8 {
		return nil
	}
	if len(t.Enum) > 0 {
		return t.Enum[0]
	}
	switch t.Kind {
	case schema.Bool:
		return false
	case schema.Int:
		return 0
	case schema.Number:
		return 0.0
	case schema.String, schema.Time:
		return sampleText(t.Format)
	case schema.Array:
		return []any{}
	case schema.Object:
		m := map[string]any{}
		for _, name := range sortedKeys(t.Fields) {
			if f := t.Fields[name]; f.Required {
				m[name] = sampleOf(f.Type, depth+1)
			}
		}
		return m
	}
	return nil
}

func sampleText(format string) string {
	switch format {
	case "date":
		return "2026-03-02"
	case "date-time":
		return "2026-03-02T09:00:00Z"
	case "time":
		return "09:00:00Z"
	case "uuid":
		return "00000000-0000-4000-8000-000000000000"
	case "email", "idn-email":
		return "someone@example.org"
	case "ipv4":
		return "192.0.2.1"
	case "ipv6":
		return "2001:db8::1"
	case "hostname", "idn-hostname":
		return "example.org"
	case "json-pointer":
		return ""
	case "duration":
		return "P1D"
	}
	if strings.Contains(format, "uri") || strings.Contains(format, "iri") {
		return "https://example.org/"
	}
	return "sample"
}
