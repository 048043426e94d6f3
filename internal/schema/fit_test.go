package schema

import (
	"fmt"
	"math"
	"strings"
	"testing"
)

// verdicts compares a schema's fitter with the norm's validator on one value.
func verdicts(t *testing.T, s *Schema, v any) {
	t.Helper()
	if s.fit == nil {
		return
	}
	var j judge
	fits := j.fits(s.fit, v)
	if j.unsure {
		return
	}
	if norm := s.norm.Validate(v) == nil; fits != norm {
		t.Fatalf("schema %s\nvalue %#v: fits %t, the norm's validator says %t", s.Source, v, fits, norm)
	}
}

// keywordCases are documents for every keyword that a fitter knows, with values
// on both sides of it.
var keywordCases = []struct{ doc, values string }{
	{`{"type":"object","required":["a"],"additionalProperties":false,"properties":{"a":{"type":"integer"},"b":{"type":["string","null"]}}}`, `[{"a":1},{"a":1.5},{"a":1.0,"b":null},{"b":"x"},{"a":1,"c":2},[],null,"a"]`},
	{`{"type":"object","required":["z"],"properties":{"a":true,"b":false}}`, `[{"z":1},{"z":1,"b":1},{"a":1},{}]`},
	{`{"additionalProperties":{"type":"string"},"properties":{"n":{"type":"number"}},"patternProperties":{"^x-":{"type":"boolean"}}}`, `[{"n":1},{"n":"1"},{"x-a":true},{"x-a":"s"},{"q":"s"},{"q":1}]`},
	{`{"patternProperties":{"^x-":{"type":"boolean"}},"additionalProperties":false,"properties":{"x-n":{"const":true}}}`, `[{"x-n":true},{"x-n":false},{"x-b":false},{"y":1},{}]`},
	{`{"minProperties":1,"maxProperties":2,"propertyNames":{"maxLength":2}}`, `[{},{"a":1},{"a":1,"b":2,"c":3},{"abc":1}]`},
	{`{"dependentRequired":{"a":["b"]},"dependentSchemas":{"c":{"required":["d"]}}}`, `[{"a":1},{"a":1,"b":1},{"c":1},{"c":1,"d":2},{}]`},
	{`{"type":"array","minItems":1,"maxItems":3,"uniqueItems":true,"items":{"type":["integer","string","object"]}}`, `[[],[1],[1,1.0],[1,2,3],[1,2,3,4],["a","a"],[{"a":1},{"a":1.0}],[null]]`},
	{`{"prefixItems":[{"type":"string"},{"type":"integer"}],"items":{"type":"boolean"}}`, `[[],["a"],["a",1],["a",1,true],["a",1,1],[1]]`},
	{`{"contains":{"const":1},"minContains":2,"maxContains":3}`, `[[],[1],[1,1],[1,1.0,1],[1,1,1,1]]`},
	{`{"contains":{"type":"string"},"minContains":0}`, `[[],[1]]`},
	{`{"contains":{"type":"string"}}`, `[[],[1],["a"],"a"]`},
	{`{"type":"string","minLength":2,"maxLength":3}`, `["","a","è","èè","èèè","èèèè","abcd","ab"]`},
	{`{"pattern":"^[0-9]{5}$"}`, `["30124","3012","301245",1]`},
	{`{"enum":["open",1,2.5,null,true,{"a":[1]},[1,2]]}`, `["open","shut",1,1.0,2.5,3,null,true,false,{"a":[1.0]},{"a":[2]},[1,2],[2,1]]`},
	{`{"const":{"a":1}}`, `[{"a":1},{"a":1.0},{"a":2},1]`},
	{`{"enum":["a","b"],"const":"b"}`, `["a","b"]`},
	{`{"minimum":1,"maximum":2.5}`, `[0,1,2,2.5,2.6,3,0.9999999999999999,"a"]`},
	{`{"exclusiveMinimum":0.1,"exclusiveMaximum":9007199254740993}`, `[0.1,0.2,0,1,9007199254740992,9007199254740993,9007199254740994,1e300]`},
	{`{"minimum":9007199254740993,"maximum":1e19}`, `[9007199254740992,9007199254740993,9007199254740992.0,9223372036854775807,9223372036854775808,1e19,1.1e19]`},
	{`{"multipleOf":0.01}`, `[0,1,0.07,0.075,19.99,1e20,-0.03]`},
	{`{"multipleOf":3}`, `[0,3,4,-9,3.0,4.5]`},
	{`{"allOf":[{"minimum":1},{"maximum":3}],"anyOf":[{"const":1},{"const":2},{"multipleOf":3}]}`, `[0,1,2,3,4]`},
	{`{"oneOf":[{"type":"integer"},{"minimum":2},{"type":"string"}]}`, `[1,2.5,3,"a",1.5,null]`},
	{`{"not":{"type":"string"}}`, `["a",1]`},
	{`{"if":{"properties":{"k":{"const":"x"}},"required":["k"]},"then":{"required":["a"]},"else":{"required":["b"]}}`, `[{"k":"x"},{"k":"x","a":1},{"k":"y","b":1},{},1]`},
	{`{"if":{"type":"string"},"else":{"type":"integer"}}`, `["a",1,1.5]`},
	{`{"$defs":{"n":{"type":"object","properties":{"next":{"$ref":"#/$defs/n"},"v":{"type":"integer"}},"required":["v"]}},"$ref":"#/$defs/n","minProperties":2}`, `[{"v":1},{"v":1,"next":{"v":2}},{"v":1,"next":{"v":"2"}},{"v":1,"next":{}}]`},
	{`{"$ref":"#/$defs/a","$defs":{"a":{"allOf":[{"$ref":"#/$defs/b"}]},"b":{"allOf":[{"$ref":"#/$defs/a"}]}}}`, `[1,"a",{}]`},
	{`{"properties":{"x":{"$ref":"#/$defs/d"}},"dependentSchemas":{"y":{"$ref":"#/$defs/d"}},"$defs":{"d":{"allOf":[{"$ref":"#"}]}}}`, `[{"x":1},{"x":{"x":{}}},{"y":1}]`},
	{`{"format":"date"}`, `["2026-11-23","2026-13-01","",1]`},
	{`{"format":"tax-code"}`, `["RSSMRA80A01L736L","RSSMRA80A01L736U",1]`},
	{`{"unevaluatedProperties":false,"properties":{"a":true}}`, `[{"a":1},{"b":1}]`},
	{`true`, `[1,null]`},
	{`false`, `[1,null]`},
}

func TestFittersAgreeWithTheNorm(t *testing.T) {
	for _, c := range keywordCases {
		s, err := CompileBytes("case", []byte(c.doc))
		if err != nil {
			t.Fatalf("%s: %v", c.doc, err)
		}
		vs, err := DecodeJSON([]byte(c.values))
		if err != nil {
			t.Fatalf("%s: %v", c.values, err)
		}
		for _, v := range vs.([]any) {
			verdicts(t, s, v)
			if got, want := len(s.Validate(v)) == 0, s.norm.Validate(v) == nil; got != want {
				t.Errorf("%s: Validate(%v) takes it: %t, want %t", c.doc, v, got, want)
			}
		}
	}
}

// Keywords that only the norm's validator knows, and circles, go to it.
func TestWhatFittersLeaveToTheNorm(t *testing.T) {
	for _, doc := range []string{
		`{"unevaluatedProperties":false}`,
		`{"properties":{"a":{"unevaluatedItems":false}}}`,
		`{"$ref":"#/$defs/a","$defs":{"a":{"allOf":[{"$ref":"#/$defs/a"}]}}}`,
		`{"properties":{"x":{"$ref":"#/$defs/d"}},"dependentSchemas":{"y":{"$ref":"#/$defs/d"}},"$defs":{"d":{"allOf":[{"$ref":"#"}]}}}`,
	} {
		s, err := CompileBytes("case", []byte(doc))
		if err != nil {
			t.Fatalf("%s: %v", doc, err)
		}
		if s.fit != nil {
			t.Errorf("%s has a fitter", doc)
		}
	}
	s, err := CompileBytes("case", []byte(`{"not":{"type":"string"}}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{int64(3), math.NaN(), math.Inf(1), struct{}{}, []any{int64(1)}} {
		if got, want := len(s.Validate(v)) == 0, s.norm.Validate(v) == nil; got != want {
			t.Errorf("Validate(%v) takes it: %t, want %t", v, got, want)
		}
	}
	many := make([]any, 0, 2*manyItems)
	for i := range 2 * manyItems {
		many = append(many, i%(2*manyItems-1))
	}
	if s, err = CompileBytes("case", []byte(`{"uniqueItems":true}`)); err != nil {
		t.Fatal(err)
	}
	if len(s.Validate(many)) == 0 || len(s.Validate(many[1:])) != 0 {
		t.Error("a long list's repeated items are judged wrongly")
	}
}

// A value that fits costs no allocation.
func TestFittingAllocatesNothing(t *testing.T) {
	s, err := CompileBytes("order", []byte(`{"type":"object","additionalProperties":false,"required":["id","kind","tags","amount"],"properties":{
		"id":{"type":"string","minLength":1,"maxLength":40},"kind":{"enum":["open","closed"]},
		"tags":{"type":"array","items":{"type":"string"}},"amount":{"type":"integer","minimum":0},"share":{"type":"number","maximum":1.5}}}`))
	if err != nil {
		t.Fatal(err)
	}
	v := map[string]any{"id": "r-1", "kind": "open", "tags": []any{"a", "b"}, "amount": 1600, "share": 0.5}
	if n := testing.AllocsPerRun(100, func() { s.Validate(v) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// FuzzValidatorAgainstSanthosh holds fitters to the norm's validator: any
// document that compiles, any value.
func FuzzValidatorAgainstSanthosh(f *testing.F) {
	for _, c := range keywordCases {
		vs, err := DecodeJSON([]byte(c.values))
		if err != nil {
			f.Fatal(err)
		}
		for _, v := range vs.([]any) {
			b, err := Canonical(v)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(c.doc, string(b))
		}
	}
	// All keywords at once, so that mutations meet them together.
	f.Add(fmt.Sprintf(`{"allOf":[%s]}`, strings.Join(documents(), ",")), `{"a":1,"n":2.0,"x-a":true,"list":[1,1.0]}`)
	f.Fuzz(func(t *testing.T, doc, value string) {
		s, err := CompileBytes("fuzz", []byte(doc))
		if err != nil {
			return
		}
		v, err := DecodeJSON([]byte(value))
		if err != nil {
			return
		}
		verdicts(t, s, v)
	})
}

func documents() []string {
	var docs []string
	for _, c := range keywordCases {
		if !strings.Contains(c.doc, "$ref") {
			docs = append(docs, c.doc)
		}
	}
	return docs
}
