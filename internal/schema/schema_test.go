package schema

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/dime-bus/dime/internal/taxcode"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
)

func mustCompile(t testing.TB, doc string) *Schema {
	t.Helper()
	s, err := CompileBytes("test", []byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const personDoc = `{
  "type": "object",
  "title": "person",
  "properties": {
    "tax_code": {"type": "string", "x-personal": true, "format": "tax-code"},
    "status": {"enum": ["active", "moved", "dead"]},
    "fee": {"type": "integer", "format": "cents", "minimum": 0},
    "score": {"type": "number"},
    "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
    "note": {"type": ["string", "null"]},
    "home": {"$ref": "#/$defs/address"}
  },
  "required": ["tax_code", "status"],
  "additionalProperties": false,
  "$defs": {"address": {"type": "object", "properties": {"street": {"type": "string"}, "next": {"$ref": "#/$defs/address"}}, "required": ["street"]}}
}`

func TestDecode(t *testing.T) {
	s := mustCompile(t, personDoc)
	tests := []struct {
		name, in string
		want     any
		bad      []Violation
	}{
		{"integers and numbers take the schema's types", `{"tax_code":"RSSMRA80A01L736U","status":"active","fee":16.0,"score":3}`,
			map[string]any{"tax_code": "RSSMRA80A01L736U", "status": "active", "fee": 16, "score": 3.0}, nil},
		{"largest", `{"tax_code":"RSSMRA80A01L736U","status":"active","fee":9223372036854775807}`,
			map[string]any{"tax_code": "RSSMRA80A01L736U", "status": "active", "fee": math.MaxInt64}, nil},
		{"beyond 64 bits", `{"tax_code":"RSSMRA80A01L736U","status":"active","fee":9223372036854775808}`, nil,
			[]Violation{{"/fee", "must be an integer of at most 64 bits"}}},
		{"missing, unknown and misspelt", `{"statu":"x","tax_code":"RSSMRA80A01L736U"}`, nil,
			[]Violation{{"/status", "is required"}, {"/statu", `is not a known property; did you mean "status"?`}}},
		{"no value in the message", `{"tax_code":"RSSMRA80A01L736X","status":"activ","tags":["a","b","c"],"note":4}`, nil,
			[]Violation{
				{"/note", "must be null or string, not number"},
				{"/status", `must be "active", "moved" or "dead"; did you mean "active"?`},
				{"/tags", "must have at most 2 items, not 3"},
				{"/tax_code", "must be a valid codice fiscale (its check character is wrong)"},
			}},
		{"nested", `{"tax_code":"RSSMRA80A01L736U","status":"dead","home":{"street":"a","next":{}}}`, nil,
			[]Violation{{"/home/next/street", "is required"}}},
		{"duplicate", `{"status":"active","home":{"street":"a","street":"b"}}`, nil,
			[]Violation{{"/home/street", "not valid JSON at byte 40: the key stands twice in one object"}}},
		{"fraction", `{"tax_code":"RSSMRA80A01L736U","status":"dead","fee":1.5}`, nil,
			[]Violation{{"/fee", "must be integer, not number"}}},
		{"minimum", `{"tax_code":"RSSMRA80A01L736U","status":"dead","fee":-1}`, nil,
			[]Violation{{"/fee", "must be at least 0"}}},
		{"empty", ``, nil, []Violation{{"", "not valid JSON at byte 0: the text is empty"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, bad := s.Decode([]byte(tt.in))
			byPointer := cmp.Transformer("set", func(vs []Violation) map[string]string {
				m := map[string]string{}
				for _, v := range vs {
					m[v.Pointer] = v.Message
				}
				return m
			})
			if diff := cmp.Diff(tt.bad, bad, byPointer); diff != "" {
				t.Errorf("violations (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("value (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeJSONRefuses(t *testing.T) {
	deep := strings.Repeat("[", 65) + strings.Repeat("]", 65)
	for _, in := range []string{"", " ", "{", `{"a"}`, `{"a":1,}`, `[1,]`, `01`, `1.`, `+1`, `.5`, `1e`, `nul`, `"\x"`, `"\ud800"`, `"\ud800\u0041"`,
		"\"\x01\"", "\"\xff\"", `{"a":1,"a":2}`, `1 2`, `'a'`, `{a:1}`, `NaN`, `1e999`, deep, "\ufeff1", `"abc`, `"\u12"`} {
		if v, err := DecodeJSON([]byte(in)); err == nil {
			t.Errorf("DecodeJSON(%q) = %v, want an error", in, v)
		}
	}
	if _, err := DecodeJSON([]byte(deep[1 : len(deep)-1])); err != nil {
		t.Errorf("64 levels: %v", err)
	}
}

func TestTypeOf(t *testing.T) {
	typ := mustCompile(t, personDoc).Type()
	f := func(path string) *Type {
		at := typ
		for _, n := range strings.Split(path, ".") {
			at = at.Fields[n].Type
		}
		return at
	}
	if typ.Open || typ.Kind != Object || !typ.Fields["status"].Required || typ.Fields["fee"].Required {
		t.Errorf("person is %+v", typ)
	}
	if diff := cmp.Diff([]string{"tax_code", "status", "fee", "score", "tags", "note", "home"}, typ.Order); diff != "" {
		t.Errorf("order: %s", diff)
	}
	if got := f("home.next"); got != f("home.next.next.next") {
		t.Errorf("a recursive schema must become a cyclic type")
	}
	if !f("tax_code").Personal || f("fee").Format != "cents" || !f("note").Nullable || f("status").Kind != String || len(f("status").Enum) != 3 {
		t.Error("fields lost their facts")
	}
	tests := []struct {
		name, doc string
		check     func(*Type) bool
	}{
		{"closed for readers though open by the norm", `{"properties":{"a":{}}}`, func(t *Type) bool { return t.Kind == Object && !t.Open }},
		{"open without properties", `{"type":"object"}`, func(t *Type) bool { return t.Open && t.Extra == nil }},
		{"map", `{"type":"object","additionalProperties":{"type":"integer"}}`, func(t *Type) bool { return t.Open && t.Extra.Kind == Int }},
		{"allOf adds up", `{"allOf":[{"properties":{"a":{"type":"string"}},"required":["a"]},{"type":"object","properties":{"b":{"type":"integer"}}}]}`,
			func(t *Type) bool { return !t.Open && t.Fields["a"].Required && !t.Fields["b"].Required }},
		{"oneOf makes what is not common optional", `{"oneOf":[{"type":"object","properties":{"k":{"const":"a"},"x":{"type":"string"}},"required":["k","x"]},{"type":"object","properties":{"k":{"const":"b"}},"required":["k"]}]}`,
			func(t *Type) bool {
				return t.Fields["k"].Required && len(t.Fields["k"].Type.Enum) == 2 && !t.Fields["x"].Required
			}},
		{"oneOf with null", `{"oneOf":[{"type":"null"},{"type":"string"}]}`, func(t *Type) bool { return t.Kind == String && t.Nullable }},
		{"anyOf of different kinds is open", `{"anyOf":[{"type":"integer"},{"type":"string"}]}`, func(t *Type) bool { return t.Kind == Any }},
		{"enum with null", `{"enum":["a",null]}`, func(t *Type) bool { return t.Nullable && len(t.Enum) == 1 && t.Kind == String }},
		{"integer or number", `{"type":["integer","number"]}`, func(t *Type) bool { return t.Kind == Number }},
		{"personal beside a reference", `{"properties":{"a":{"$ref":"#/$defs/s","x-personal":true},"b":{"$ref":"#/$defs/s"}},"$defs":{"s":{"type":"string"}}}`,
			func(t *Type) bool { return t.Fields["a"].Type.Personal && !t.Fields["b"].Type.Personal }},
		{"circle through allOf", `{"allOf":[{"$ref":"#"},{"properties":{"a":{"type":"string"}}}]}`, func(t *Type) bool { return t.Kind == Object }},
		{"then", `{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"if":{"required":["a"]},"then":{"properties":{"b":{"type":"string"}},"required":["b"]}}`,
			func(t *Type) bool { return t.Fields["b"] != nil && !t.Fields["b"].Required }},
		{"true", `true`, func(t *Type) bool { return t.Kind == Any }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := orders{}
			doc, err := decode([]byte(tt.doc), o)
			if err != nil {
				t.Fatal(err)
			}
			if typ := typeOf(doc, o); !tt.check(typ) {
				t.Errorf("type is %+v", typ)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	fsys := fstest.MapFS{
		"schemas/common/address.json": {Data: []byte(`{"type":"object","properties":{"street":{"$ref":"#/$defs/name"},"owner":{"$ref":"../person.json"}},"required":["street"],"$defs":{"name":{"type":"string","minLength":2}}}`)},
		"schemas/person.json":         {Data: []byte(`{"$id":"https://x.test/p","type":"object","properties":{"home":{"$ref":"common/address"},"due":{"$ref":"common/address.json#/$defs/name"}}}`)},
		"schemas/events/a.b.json":     {Data: []byte(`{"type":"object","properties":{"p":{"$ref":"person"}}}`)},
		"schemas/bad/syntax.json":     {Data: []byte("{\n  \"type\": \"object\",\n  \"type\": 1\n}")},
		"schemas/bad/type.json":       {Data: []byte("{\n  \"properties\": {\n    \"a\": {\"type\": \"strin\"}\n  }\n}")},
		"schemas/bad/ref.json":        {Data: []byte("{\n  \"properties\": {\n    \"è\": {\"$ref\": \"persn\"}}}")},
		"schemas/bad/pointer.json":    {Data: []byte(`{"$ref": "#/$defs/x"}`)},
		"schemas/bad/regexp.json":     {Data: []byte(`{"pattern": "(?=a)"}`)},
		"schemas/warn.json":           {Data: []byte("{\"vendor\": [\"a\"], \"x-own\": 1}")},
		"schemas/bad/keyword.json":    {Data: []byte("{\"requried\": [\"a\"]}")},
		"schemas/bad/format.json":     {Data: []byte("{\"type\": \"integer\", \"format\": \"cent\"}")},
		"schemas/bad/required.json":   {Data: []byte("{\"additionalProperties\": false, \"required\": [\"nmae\"], \"properties\": {\"name\": {}}}")},
		"schemas/bad/enum.json":       {Data: []byte("{\"type\": \"integer\", \"enum\": [1, \"2\"]}")},
		"schemas/bad/default.json":    {Data: []byte("{\"type\": \"integer\", \"default\": \"2\"}")},
		"schemas/readme.md":           {Data: []byte("no schema")},
	}
	set, problems := Load(fsys, "schemas")
	var got []string
	for _, p := range problems {
		got = append(got, p.String())
	}
	want := []string{
		`schemas/bad/default.json:1:32: ` + "`default`" + ` is a string, and ` + "`type`" + ` says integer [schema]`,
		`schemas/bad/enum.json:1:33: the value is a string, and ` + "`type`" + ` says integer: it can never be sent [schema]`,
		`schemas/bad/format.json:1:31: "cent" is no format that is known, and checks nothing; did you mean "cents"? [schema]`,
		`schemas/bad/keyword.json:1:2: "requried" is no keyword of JSON Schema and checks nothing; did you mean "required"? [schema]`,
		`schemas/bad/pointer.json:1:10: resolving #/$defs/x: there is no "$defs" [schema]`,
		`schemas/bad/ref.json:3:19: "persn" is no schema; did you mean "person"? [ref]`,
		`schemas/bad/regexp.json:1:13: must be a valid regex [schema]`,
		`schemas/bad/required.json:1:46: "nmae" is required, and ` + "`properties`" + ` has no such property; did you mean "name"? [schema]`,
		`schemas/bad/syntax.json:3:3: the key stands twice in one object [syntax]`,
		`schemas/bad/type.json:3:19: must be "array", "boolean", "integer", "null", "number", "object" or "string"; did you mean "string"? [schema]`,
		`schemas/warn.json:1:2: "vendor" is no keyword of JSON Schema and checks nothing [schema]`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"bad/default", "bad/enum", "bad/format", "bad/keyword", "bad/required", "common/address", "events/a.b", "person", "warn"}, set.Names()); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	p := set.Get("person")
	if _, bad := p.Decode([]byte(`{"home":{"street":"x","owner":{"home":{}}}}`)); len(bad) != 2 {
		t.Errorf("violations through files: %v", bad)
	}
	// The source alone must compile to the same: a stored version has no files.
	again, err := CompileBytes("person", p.Source)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(p.Source), string(again.Source)); diff != "" {
		t.Errorf("source of the source differs:\n%s", diff)
	}
	if again.Type().Fields["home"].Type.Fields["owner"].Type.Fields["due"] == nil {
		t.Error("types are lost through the source")
	}
	if set, problems := Load(fsys, "none"); len(set.Names()) != 0 || problems != nil {
		t.Errorf("no folder: %v %v", set.Names(), problems)
	}
}

func TestAssignable(t *testing.T) {
	to := mustCompile(t, personDoc).Type()
	str := &Type{Kind: String}
	lit := func(s string) *Type { return &Type{Kind: String, Enum: []any{s}, Literal: true} }
	obj := func(kv ...any) *Type {
		o := &Type{Kind: Object, Fields: map[string]*Field{}}
		for i := 0; i < len(kv); i += 2 {
			ft := kv[i+1].(*Type)
			o.Fields[kv[i].(string)] = &Field{Type: ft, Required: !ft.MayBeNil()}
			o.Order = append(o.Order, kv[i].(string))
		}
		return o
	}
	tests := []struct {
		name     string
		from, to *Type
		want     []string
	}{
		{"fits", obj("tax_code", str, "status", lit("dead"), "fee", &Type{Kind: Int}), to, nil},
		{"nil for what may be left out", obj("tax_code", str, "status", str, "fee", &Type{Kind: Int, Optional: true}), to, nil},
		{"nil for what is required", obj("tax_code", str.AsOptional(), "status", str), to,
			[]string{"tax_code: may be nil here, but a string is required: check it (`if`, `check: ... != nil`) or give a default with ??"}},
		{"missing", obj("tax_code", str), to, []string{`status is missing: it is required and takes "active", "moved" or "dead"`}},
		{"enum", obj("tax_code", str, "status", lit("activ")), to,
			[]string{`status: "activ" is not a legal value: it takes "active", "moved" or "dead"; did you mean "active"?`}},
		{"unknown", obj("tax_code", str, "status", str, "tag", str), to, []string{`tag is not a property of person; did you mean "tags"?`}},
		{"wrong kind below", obj("tax_code", str, "status", str, "home", obj("street", &Type{Kind: Int})), to,
			[]string{"home.street: must be a string, not an integer"}},
		{"items", obj("tax_code", str, "status", str, "tags", ListOf(&Type{Kind: Int})), to, []string{"tags[]: must be a string, not an integer"}},
		{"empty list", obj("tax_code", str, "status", str, "tags", ListOf(&Type{Kind: Null})), to, nil},
		{"open", &Type{}, to, nil},
		{"not an object", str, to, []string{"must be an object, not a string"}},
		{"int for number", &Type{Kind: Int}, &Type{Kind: Number}, nil},
		{"number for int", &Type{Kind: Number}, &Type{Kind: Int}, []string{"must be an integer, not a number"}},
		{"nil", &Type{Kind: Null, Nullable: true}, str, []string{"must be a string, not nil"}},
		{"instant for string", &Type{Kind: Time}, &Type{Kind: String, Format: "date-time"}, nil},
		{"cyclic", to, to.Fields["home"].Type, []string{"street is missing: it is required and takes a string"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, m := range Assignable(tt.from, tt.to) {
				got = append(got, m.Message)
			}
			if tt.name == "cyclic" {
				got = got[:1]
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestMask(t *testing.T) {
	s := mustCompile(t, personDoc)
	in := map[string]any{"tax_code": "RSSMRA80A01L736U", "status": "active", "home": map[string]any{"street": "x"}}
	got := s.Mask(in)
	want := map[string]any{"tax_code": "***", "status": "active", "home": map[string]any{"street": "x"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if in["tax_code"] == "***" {
		t.Error("Mask changed its argument")
	}
	if !HasPersonal(s.Type()) || HasPersonal(s.Type().Fields["home"].Type) {
		t.Error("HasPersonal")
	}
}

func TestCanonical(t *testing.T) {
	tests := []struct {
		in   any
		want string
	}{
		{map[string]any{"b": 1, "a": []any{nil, true, 1.5, "<&>\u2028\"\\\n\x01è"}}, `{"a":[null,true,1.5,"<&>` + "\u2028" + `\"\\\n\u0001è"],"b":1}`},
		{1e21, "1e+21"}, {1e-7, "1e-7"}, {123456789.0, "123456789"}, {math.Copysign(0, -1), "0"}, {333333333.33333329, "333333333.3333333"},
		{struct {
			B int `json:"b"`
			A any `json:"a,omitempty"`
		}{B: 2}, `{"b":2}`},
		{[]string{"x"}, `["x"]`},
	}
	for _, tt := range tests {
		got, err := Canonical(tt.in)
		if err != nil || string(got) != tt.want {
			t.Errorf("Canonical(%v) = %s, %v; want %s", tt.in, got, err, tt.want)
		}
	}
	for _, bad := range []any{math.NaN(), math.Inf(1), "\xff", func() {}} {
		if got, err := Canonical(bad); err == nil {
			t.Errorf("Canonical(%v) = %s, want an error", bad, got)
		}
	}
}

func TestCodes(t *testing.T) {
	for s, want := range map[string]bool{
		"RSSMRA80A01L736U": true, "RSSMRA80A01L736X": false, "RSSMRA80A41L736Y": true, "RSSMRA80A32L736U": false,
		"RSSMRA80AL1L736F": true, // omocodia of the first
		"rssmra80a01l736u": false, "00488410010": true, "00488410011": false, "": false, "RSSMRA80A01L73": false,
	} {
		if got := taxcode.Valid(s); got != want {
			t.Errorf("taxcode.Valid(%q) = %v", s, got)
		}
	}
	for s, want := range map[string]bool{
		"301011100007347557": true, "01011100007347557": true, "302012387654312384": false, "301011100007347558": false,
		"3010111000073475": false, "a01011100007347557": false, "": false,
	} {
		if got := IUVValid(s); got != want {
			t.Errorf("IUVValid(%q) = %v", s, got)
		}
	}
}

func TestSuggest(t *testing.T) {
	for _, tt := range [][3]string{
		{"statu", "status,name", "status"}, {"sttaus", "status,name", "status"}, {"zzz", "status,name", ""},
		{"activ", "active,inactive", "active"}, {"address", "home_address,x", "home_address"}, {"ab", "xy", ""},
	} {
		if got := Suggest(tt[0], strings.Split(tt[1], ",")); got != tt[2] {
			t.Errorf("Suggest(%q) = %q, want %q", tt[0], got, tt[2])
		}
	}
}

func TestUnionAndWiden(t *testing.T) {
	one := &Type{Kind: Int, Enum: []any{1}, Literal: true}
	two := &Type{Kind: Int, Enum: []any{2}, Literal: true}
	u, ok := Union(one, two)
	if !ok || len(u.Enum) != 2 || !u.Literal {
		t.Errorf("union of literals is %+v", u)
	}
	if w := u.Widen(); w.Enum != nil || w.Literal {
		t.Errorf("widened to %+v", w)
	}
	if _, ok := Union(one, &Type{Kind: String}); ok {
		t.Error("an integer and a string have nothing in common")
	}
	if u, _ := Union(&Type{Kind: Null, Nullable: true}, one); !u.Nullable || u.Kind != Int {
		t.Errorf("union with nil is %+v", u)
	}
	schemaEnum := &Type{Kind: String, Enum: []any{"a", "b"}}
	if u, _ := Union(schemaEnum, &Type{Kind: String, Enum: []any{"a"}, Literal: true}); u.Literal || len(u.Enum) != 2 {
		t.Errorf("an enum and its literal are %+v", u)
	}
	if w := schemaEnum.Widen(); w != schemaEnum {
		t.Error("what a schema says is not widened")
	}
}

// FuzzDecodeJSON holds our reader to the grammar of a reader that is known to be
// strict, and Canonical to a round trip.
func FuzzDecodeJSON(f *testing.F) {
	for _, s := range []string{`{"a":[1,-0,1.5e3,"\u00e8\ud83d\ude00\\"],"b":{}}`, `{"a":1,"a":2}`, `[9223372036854775807,-9223372036854775808,9223372036854775808]`,
		`"\ud800"`, "\"\xff\"", `01`, `1e999`, ` [ true , false , null ] `, `{"":""}`, `-`, `[1,]`, `"\/\b"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := DecodeJSON(b)
		ref := jsontext.Value(b)
		valid := ref.IsValid()
		if err == nil && !valid {
			t.Fatalf("took %q, which is not strict JSON", b)
		}
		if err != nil {
			if valid && !strings.Contains(err.Error(), "levels") && !strings.Contains(err.Error(), "too large") {
				t.Fatalf("refused %q: %v", b, err)
			}
			return
		}
		text, err := Canonical(v)
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeJSON(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		text2, _ := Canonical(again)
		if string(text) != string(text2) {
			t.Fatalf("%s became %s", text, text2)
		}
		var a, c any
		if json.Unmarshal(b, &a) == nil && json.Unmarshal(text, &c) == nil && !cmp.Equal(a, c) {
			t.Fatalf("%s is not %s", text, b)
		}
	})
}

func FuzzCompileSchema(f *testing.F) {
	for _, s := range []string{personDoc, `{"allOf":[{"$ref":"#"}]}`, `{"$ref":"#/a","a":{"$ref":"#"}}`, `{"properties":{"a":{"items":{"$ref":"#"}}}}`, `{"type":[1]}`, `false`, `{"enum":[{}],"required":[1]}`} {
		f.Add([]byte(s), []byte(`{"a":1}`))
	}
	f.Fuzz(func(t *testing.T, doc, v []byte) {
		s, err := CompileBytes("fuzz", doc)
		if err != nil {
			return
		}
		_ = s.Type().String()
		_ = HasPersonal(s.Type())
		_ = Assignable(s.Type(), s.Type())
		if val, bad := s.Decode(v); bad == nil {
			_ = s.Mask(val)
		}
		if _, err := CompileBytes("again", s.Source); err != nil {
			t.Fatalf("the source of %s does not compile: %v", doc, err)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	s := mustCompile(b, personDoc)
	in := []byte(fmt.Sprintf(`{"tax_code":"RSSMRA80A01L736U","status":"active","fee":1600,"score":3.5,"tags":["a","b"],"note":%q,"home":{"street":"Calle dei Fabbri","next":{"street":"x"}}}`, strings.Repeat("n", 700)))
	b.ReportAllocs()
	for b.Loop() {
		if _, bad := s.Decode(in); bad != nil {
			b.Fatal(bad)
		}
	}
}
