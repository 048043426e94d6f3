package openapi

import (
	"fmt"
	"hash/fnv"
	"math"
	"net/http"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/dime-bus/dime/internal/schema"
)

// stateless answers without a state file: with values that fit the schema and
// depend only on the seed and the request. A safe operation that others are
// found by tells truly whether they happened.
func (e *Emulator) stateless(call *caller, args map[string]any, key string) reply {
	if effects := e.foundBy[call.name]; len(effects) > 0 {
		byKey := ""
		for i := range call.params {
			p := &call.params[i]
			if p.key {
				byKey = key
			} else if fillsKey(p.arg) {
				byKey = joined(args[p.arg], "")
			}
		}
		for i := len(e.mem.plain) - 1; i >= 0; i-- {
			l := e.mem.plain[i]
			if !slices.Contains(effects, l.Op) {
				continue
			}
			if byKey != "" && l.Idem == byKey || byKey == "" && sameArgs(call, args, l.Args) {
				return reply{status: call.answer.status, body: l.Answer}
			}
		}
		return problem(http.StatusNotFound, "", "nothing of the kind was carried out")
	}
	h := fnv.New64a()
	b, _ := schema.Canonical(args)
	_, _ = fmt.Fprintf(h, "%s\x00%s\x00%s\x00%s", e.cfg.Seed, e.c.desc.Name, call.name, b)
	if e.c.byName[call.name].Effect != "safe" {
		_, _ = fmt.Fprintf(h, "\x00%s", key)
	}
	r := reply{status: call.answer.status}
	if call.out == nil {
		if r.status != http.StatusNoContent && call.answer.enc == jsonBody {
			r.body = map[string]any{}
		}
		return r
	}
	s := sampler{root: call.out, n: h.Sum64(), examples: true, echo: args}
	r.body = s.value(call.out, 0)
	if call.outSchema != nil && len(call.outSchema.Validate(call.outSchema.Coerce(r.body))) > 0 {
		s = sampler{root: call.out, n: h.Sum64()} // the document's examples may be faulty
		r.body = s.value(call.out, 0)
	}
	return r
}

func sameArgs(call *caller, args, of map[string]any) bool {
	for i := range call.params {
		p := &call.params[i]
		if p.key || !p.required {
			continue
		}
		if joined(args[p.arg], ",") != joined(of[p.arg], ",") {
			return false
		}
	}
	return true
}

// sampler makes a value that fits a schema.
type sampler struct {
	root     map[string]any
	n        uint64 // state of the generator (splitmix64)
	examples bool
	echo     map[string]any // properties that the request already named take its value
}

func (s *sampler) next() uint64 {
	s.n += 0x9e3779b97f4a7c15
	z := s.n
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb
	return z ^ (z >> 31)
}

const maxSampleDepth = 8

func (s *sampler) value(sch map[string]any, depth int) any {
	sch = s.merged(sch, 0)
	if c, ok := sch["const"]; ok {
		return c
	}
	if s.examples {
		if ex, ok := sch["examples"].([]any); ok && len(ex) > 0 {
			return ex[0]
		}
		if d, ok := sch["default"]; ok && d != nil {
			return d
		}
	}
	if enum, ok := sch["enum"].([]any); ok && len(enum) > 0 {
		for range enum {
			if v := enum[s.next()%uint64(len(enum))]; v != nil {
				return v
			}
		}
		return enum[0]
	}
	t := typeOf(sch)
	if t == "" {
		if list, ok := sch["type"].([]any); ok && len(list) > 0 {
			t, _ = list[0].(string)
		} else if sch["properties"] != nil {
			t = "object"
		} else if sch["items"] != nil {
			t = "array"
		}
	}
	switch t {
	case "object":
		return s.object(sch, depth)
	case "array":
		return s.array(sch, depth)
	case "integer":
		lo, hi := bounds(sch, 1, 1000)
		return int(math.Ceil(lo)) + int(s.next()%uint64(math.Max(1, math.Floor(hi)-math.Ceil(lo)+1)))
	case "number":
		lo, hi := bounds(sch, 0, 100)
		x := lo + (hi-lo)*float64(s.next()%1000)/1000
		return math.Max(lo, math.Min(hi, math.Round(x*100)/100))
	case "boolean":
		return s.next()%2 == 0
	case "null":
		return nil
	case "string":
		return s.text(sch)
	}
	return map[string]any{}
}

// merged resolves references, allOf, and the first branch of anyOf and oneOf.
func (s *sampler) merged(sch map[string]any, depth int) map[string]any {
	sch = resolve(sch, s.root)
	var parts []any
	if all, ok := sch["allOf"].([]any); ok {
		parts = append(parts, all...)
	}
	for _, k := range []string{"oneOf", "anyOf"} {
		l, _ := sch[k].([]any)
		for _, b := range l {
			if m, ok := b.(map[string]any); ok && m["type"] != "null" {
				parts = append(parts, m)
				break
			}
		}
	}
	if len(parts) == 0 || depth > maxSampleDepth {
		return sch
	}
	out := map[string]any{}
	props := map[string]any{}
	var required []any
	take := func(m map[string]any) {
		for k, v := range m {
			switch k {
			case "allOf", "oneOf", "anyOf":
			case "properties":
				for n, p := range v.(map[string]any) {
					props[n] = p
				}
			case "required":
				required = append(required, v.([]any)...)
			default:
				out[k] = v
			}
		}
	}
	for _, p := range parts {
		if m, ok := p.(map[string]any); ok {
			take(s.merged(m, depth+1))
		}
	}
	take(sch)
	if len(props) > 0 {
		out["properties"] = props
	}
	if len(required) > 0 {
		out["required"] = required
	}
	return out
}

func (s *sampler) object(sch map[string]any, depth int) any {
	m := map[string]any{}
	props, _ := sch["properties"].(map[string]any)
	required, _ := sch["required"].([]any)
	for _, k := range sortedKeys(props) {
		must := slices.Contains(required, any(k))
		if !must && depth >= 3 || depth > maxSampleDepth {
			continue
		}
		p, ok := props[k].(map[string]any)
		if !ok {
			continue
		}
		if v, named := s.echo[k]; named && depth == 0 && v != nil {
			m[k] = v
			continue
		}
		if !must && depth > 0 && s.next()%2 == 0 {
			continue
		}
		m[k] = s.value(p, depth+1)
	}
	for _, r := range required {
		if k, ok := r.(string); ok && m[k] == nil && props[k] == nil {
			m[k] = "value"
		}
	}
	return m
}

func (s *sampler) array(sch map[string]any, depth int) any {
	lo, hi := 1, 2
	if n, ok := sch["minItems"].(int); ok {
		lo = n
	}
	if n, ok := sch["maxItems"].(int); ok {
		hi = n
	}
	if depth > 4 {
		hi = lo
	}
	n := lo
	if hi > lo {
		n += int(s.next() % uint64(min(hi-lo, 2)+1))
	}
	n = min(n, 50)
	items, _ := sch["items"].(map[string]any)
	l := make([]any, 0, n)
	if depth > maxSampleDepth && n <= 1 {
		return l
	}
	for range n {
		v := s.value(items, depth+1)
		if sch["uniqueItems"] == true {
			if slices.ContainsFunc(l, func(x any) bool { return fmt.Sprint(x) == fmt.Sprint(v) }) {
				continue
			}
		}
		l = append(l, v)
	}
	return l
}

func bounds(sch map[string]any, lo, hi float64) (float64, float64) {
	get := func(k string) (float64, bool) {
		switch v := sch[k].(type) {
		case int:
			return float64(v), true
		case float64:
			return v, true
		}
		return 0, false
	}
	a, hasLo := get("minimum")
	step := 1.0
	if typeOf(sch) == "number" {
		step = 0.01
	}
	if x, ok := get("exclusiveMinimum"); ok {
		a, hasLo = x+step, true
	}
	b, hasHi := get("maximum")
	if x, ok := get("exclusiveMaximum"); ok {
		b, hasHi = x-step, true
	}
	switch {
	case hasLo && hasHi:
		return a, math.Max(a, math.Min(b, a+1e6))
	case hasLo:
		return a, a + (hi - lo)
	case hasHi:
		return math.Min(lo, b), b
	}
	return lo, hi
}

func (s *sampler) text(sch map[string]any) string {
	n := s.next()
	switch f, _ := sch["format"].(string); f {
	case "date":
		return fmt.Sprintf("2026-%02d-%02d", n%12+1, n/12%28+1)
	case "date-time":
		return fmt.Sprintf("2026-%02d-%02dT%02d:%02d:00Z", n%12+1, n/12%28+1, n/400%24, n/9600%60)
	case "time":
		return fmt.Sprintf("%02d:%02d:00Z", n%24, n/24%60)
	case "duration":
		return fmt.Sprintf("P%dD", n%30+1)
	case "email", "idn-email":
		return fmt.Sprintf("citizen%d@example.org", n%1000)
	case "uuid":
		m := s.next()
		return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", uint32(n), uint16(n>>32), uint16(n>>48)&0xfff, m&0xfff, m>>16)
	case "uri", "iri", "uri-reference", "iri-reference":
		return fmt.Sprintf("https://example.org/%d", n%1000)
	case "hostname", "idn-hostname":
		return "host.example.org"
	case "ipv4":
		return "192.0.2.1"
	case "ipv6":
		return "2001:db8::1"
	}
	if p, ok := sch["pattern"].(string); ok {
		if re, err := syntax.Parse(p, syntax.Perl); err == nil {
			var b strings.Builder
			s.match(&b, re.Simplify(), 0)
			t := s.fit(b.String(), sch)
			if ok, err := regexp.MatchString(p, t); err == nil && ok {
				return t
			}
			return b.String()
		}
	}
	if sch["contentEncoding"] == "base64" {
		return "ZGltZQ=="
	}
	words := [...]string{"acqua", "alta", "barena", "calle", "campo", "corte", "fondamenta", "laguna", "ponte", "riva", "rio", "squero"}
	return s.fit(words[n%uint64(len(words))]+fmt.Sprintf("-%d", n/16%1000), sch)
}

// fit makes t as long as the bounds ask.
func (s *sampler) fit(t string, sch map[string]any) string {
	if lo, ok := sch["minLength"].(int); ok {
		for len(t) < lo && len(t) < 10_000 {
			t += "x"
		}
	}
	if hi, ok := sch["maxLength"].(int); ok && len(t) > hi {
		t = t[:hi]
	}
	return t
}

// match writes a text that the expression matches.
func (s *sampler) match(b *strings.Builder, re *syntax.Regexp, depth int) {
	if depth > 40 || b.Len() > 1000 {
		return
	}
	switch re.Op {
	case syntax.OpLiteral:
		b.WriteString(string(re.Rune))
	case syntax.OpCharClass:
		if !s.class(b, re.Rune, '!', '~') {
			s.class(b, re.Rune, 0, 0x10ffff)
		}
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		b.WriteByte('a' + byte(s.next()%26))
	case syntax.OpCapture, syntax.OpConcat:
		for _, sub := range re.Sub {
			s.match(b, sub, depth+1)
		}
	case syntax.OpAlternate:
		s.match(b, re.Sub[s.next()%uint64(len(re.Sub))], depth+1)
	case syntax.OpPlus:
		for range 1 + s.next()%3 {
			s.match(b, re.Sub[0], depth+1)
		}
	case syntax.OpStar:
		for range s.next() % 3 {
			s.match(b, re.Sub[0], depth+1)
		}
	case syntax.OpQuest:
		if s.next()%2 == 0 {
			s.match(b, re.Sub[0], depth+1)
		}
	case syntax.OpRepeat:
		for range re.Min {
			s.match(b, re.Sub[0], depth+1)
		}
	}
}

// class writes a rune of the ranges that lies between lo and hi.
func (s *sampler) class(b *strings.Builder, ranges []rune, lo, hi rune) bool {
	var total uint64
	span := func(i int) (rune, uint64) {
		from, to := max(ranges[i], lo), min(ranges[i+1], hi)
		if to < from {
			return from, 0
		}
		return from, uint64(to-from) + 1
	}
	for i := 0; i+1 < len(ranges); i += 2 {
		_, n := span(i)
		total += n
	}
	if total == 0 {
		return false
	}
	k := s.next() % total
	for i := 0; i+1 < len(ranges); i += 2 {
		from, n := span(i)
		if k < n {
			b.WriteRune(from + rune(k))
			return true
		}
		k -= n
	}
	return false
}
