package openapi

import (
	"strings"
	"testing"
	"time"
)

// What a document states and does not keep to is a warning at its place, for
// `connectors show` and for lint; what only looks odd is none.
func TestFaultySamples(t *testing.T) {
	c, ps := load(t, doc("3.1.0", `
  /x:
    get:
      operationId: x
      parameters:
        - {name: f, in: query, schema: {type: string, default: 7}}
        - {name: g, in: query, schema: {type: integer, default: many}}
        - {name: h, in: query, schema: {type: integer, minimum: 5, example: 2}}
        - {name: i, in: query, schema: {type: string, enum: [1, b]}}
        - {name: j, in: query, schema: {type: string, pattern: '^(?=a)b'}}
        - {name: k, in: query, schema: {type: string, format: date, default: 2026-01-31}}
        - {name: l, in: query, schema: {type: string, default: null, example: "7"}}
        - {name: m, in: query, schema: {type: string, example: 00123}}
        - {name: n, in: query, schema: {type: number, default: 3}}
        - {name: o, in: query, schema: {type: boolean, default: "true"}}
        - {name: p, in: query, schema: {type: string, maxLength: 3, example: long}}
        - {name: q, in: query, schema: {type: integer, enum: ["1"]}}
      responses:
        200: {description: ok, content: {application/json: {schema: {$ref: '#/components/schemas/Y'}}}}
components:
  schemas:
    Y:
      type: object
      required: [a]
      properties: {a: {$ref: '#/components/schemas/A'}}
      example: {a: {n: x}}
    A: {type: object, properties: {n: {type: integer}}}
`), "")
	if c == nil {
		t.Fatal(ps)
	}
	var got []string
	for _, p := range ps {
		if !p.Warning || p.Rule != "openapi" {
			t.Errorf("it is not a warning: %v", p)
		}
		got = append(got, p.String())
	}
	want := []string{
		":9:64: the default is the number 7, but `type` is string: it is read as the text \"7\"; quote it",
		":10:65: the default does not fit its own schema: ",
		":11:77: the example does not fit its own schema: ",
		":12:62: the enum holds the number 1, but `type` is string",
		":13:64: the pattern is not RE2",
		":18:65: the default does not fit its own schema: ",
		":19:78: the example does not fit its own schema: ",
		":20:63: the enum holds \"1\", but `type` is integer",
		":29:16: the example does not fit its own schema at /a/n: ",
	}
	all := strings.Join(got, "\n")
	for _, w := range want {
		if !strings.Contains(all, w) {
			t.Errorf("no warning says %q", w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d warnings, want %d", len(got), len(want))
	}
	if t.Failed() {
		t.Log(all)
	}
	if shown := strings.Join(c.desc.Warnings, "\n"); !strings.Contains(shown, "the number 7") {
		t.Errorf("the description does not say so: %s", shown)
	}
}

// Values are judged once, however many operations share their schema.
func TestManySamplesCostLittle(t *testing.T) {
	var b strings.Builder
	for range 400 {
		b.WriteString("  /p" + strings.Repeat("x", b.Len()%7) + string(rune('a'+b.Len()%26)) + time.Duration(b.Len()).String() +
			": {get: {responses: {200: {description: ok, content: {application/json: {schema: {$ref: '#/components/schemas/Y'}}}}}}}\n")
	}
	b.WriteString("components: {schemas: {Y: {type: object, properties: {a: {type: string, example: 7}}}}}\n")
	c := must(t, doc("3.1.0", "\n"+b.String()), "")
	if c.doc.judged == 0 || c.doc.judged > 1000 {
		t.Errorf("%d bytes of schemas were compiled for one example", c.doc.judged)
	}
}
