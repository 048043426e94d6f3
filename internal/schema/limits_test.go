package schema

import "testing"

// A literal that a route or a test writes down is held to pattern, bounds and
// format; what an expression gives is not known yet and passes.
func TestLiteralLimits(t *testing.T) {
	s, err := CompileBytes("fine", []byte(`{"type":"object","properties":{
		"id":{"type":"string","pattern":"^V-[0-9]{4}$"},
		"on":{"type":"string","format":"date"},
		"n":{"type":"integer","minimum":1,"maximum":50},
		"both":{"anyOf":[{"type":"string","maxLength":1},{"type":"string","maxLength":9}]}}}`))
	if err != nil {
		t.Fatal(err)
	}
	field := func(n string) *Type { return s.Type().Fields[n].Type }
	lit := func(k Kind, v any) *Type { return &Type{Kind: k, Enum: []any{v}, Literal: true} }
	for _, tt := range []struct {
		name string
		from *Type
		to   string
		want int
	}{
		{"pattern kept", lit(String, "V-2026"), "id", 0},
		{"pattern broken", lit(String, "V-26"), "id", 1},
		{"a date", lit(String, "2026-11-30"), "on", 0},
		{"no such date", lit(String, "2026-11-31"), "on", 1},
		{"within", lit(Int, 50), "n", 0},
		{"beyond", lit(Int, 51), "n", 1},
		{"alternatives are not judged", lit(String, "long"), "both", 0},
		{"not a literal", &Type{Kind: String}, "id", 0},
	} {
		if got := Assignable(tt.from, field(tt.to)); len(got) != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}
