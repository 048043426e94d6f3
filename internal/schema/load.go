package schema

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/dime-bus/dime/internal/yamldoc"
)

// maxFile bounds one schema file.
const maxFile = 1 << 20

// Load reads every *.json below dir; a schema's name is its path without dir and
// ".json". `$ref` names another file by its path relative to the file (with or
// without ".json") or by its name, and may go on with "#/...". Problems carry
// file, line and column; the Set holds what is right. A dir that does not exist
// is an empty Set.
func Load(fsys fs.FS, dir string) (*Set, []yamldoc.Problem) {
	l := &loader{texts: map[string][]byte{}, files: map[string]string{}}
	set := &Set{schemas: map[string]*Schema{}}
	err := fs.WalkDir(fsys, dir, func(p string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist) && p == dir:
			return fs.SkipAll
		case err != nil:
			l.problem(p, nil, 0, "file", "reading: %v", err)
			return nil
		case d.IsDir() || path.Ext(p) != ".json":
			return nil
		}
		b, err := fs.ReadFile(fsys, p)
		if err != nil {
			l.problem(p, nil, 0, "file", "reading: %v", err)
			return nil
		}
		if len(b) > maxFile {
			l.problem(p, nil, 0, "bounds", "the file has %d bytes, more than %d", len(b), maxFile)
			return nil
		}
		name := strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(p, dir), "/"), ".json")
		l.texts[name], l.files[name] = b, p
		return nil
	})
	if err != nil {
		l.problem(dir, nil, 0, "file", "reading: %v", err)
	}
	for _, name := range slices.Sorted(maps.Keys(l.texts)) {
		if s := l.schema(name); s != nil {
			set.schemas[name] = s
		}
	}
	return set, yamldoc.Sort(l.problems)
}

type loader struct {
	texts    map[string][]byte // by name
	files    map[string]string // path by name
	problems []yamldoc.Problem
}

func (l *loader) problem(file string, text []byte, offset int, rule, format string, args ...any) {
	line, column := lineColumn(text, offset)
	l.problems = append(l.problems, yamldoc.Problem{
		Pos:  yamldoc.Pos{File: file, Line: line, Column: column},
		Rule: rule, Message: fmt.Sprintf(format, args...),
	})
}

func lineColumn(text []byte, offset int) (line, column int) {
	offset = min(offset, len(text))
	before := text[:offset]
	line = 1
	start := 0
	for i, c := range before {
		if c == '\n' {
			line++
			start = i + 1
		}
	}
	return line, utf8.RuneCount(before[start:]) + 1
}

func (l *loader) schema(name string) *Schema {
	file, text := l.files[name], l.texts[name]
	o := orders{}
	doc, err := decode(text, o)
	if err != nil {
		var se *SyntaxError
		errors.As(err, &se)
		l.problem(file, text, se.Offset, "syntax", "%s", se.Message)
		return nil
	}
	l.keywords(file, text, doc, "") // refuses the city, but what reads the schema is judged by it all the same
	before := len(l.problems)
	b := &bundler{l: l, root: name, orders: o, defs: map[string]any{}}
	b.rewrite(name, doc, "", false)
	for len(b.wanted) > 0 {
		other := b.wanted[0]
		b.wanted = b.wanted[1:]
		if _, ok := b.defs[other]; ok {
			continue
		}
		def, err := decode(l.texts[other], o)
		if err != nil {
			return nil // reported with that file
		}
		if m, ok := def.(map[string]any); ok {
			delete(m, "$id")
			delete(m, "$schema")
		}
		b.defs[other] = def
		b.rewrite(other, def, "", false)
	}
	if len(l.problems) > before && slices.ContainsFunc(l.problems[before:], func(p yamldoc.Problem) bool { return !p.Warning }) {
		return nil
	}
	if m, ok := doc.(map[string]any); ok && len(b.defs) > 0 {
		defs, _ := m["$defs"].(map[string]any)
		if defs == nil {
			defs = map[string]any{}
			m["$defs"] = defs
		}
		for n, d := range b.defs {
			defs[defKey(n)] = d
		}
	}
	s, err := compile(name, doc, o)
	if err == nil {
		return s
	}
	var ce *CompileError
	if !errors.As(err, &ce) {
		l.problem(file, text, 0, "schema", "%v", err)
		return nil
	}
	for _, v := range ce.At {
		if strings.HasPrefix(v.Pointer, "/$defs/"+escapePointer(defPrefix)) {
			continue // reported with that file
		}
		l.problem(file, text, locate(text, v.Pointer), "schema", "%s", v.Message)
	}
	return nil
}

// Documents of other files stand under $defs with their name behind a slash,
// which no key that a person writes begins with.
const defPrefix = "/"

func defKey(name string) string { return defPrefix + name }

// bundler makes one document self-contained.
type bundler struct {
	l      *loader
	root   string
	orders orders
	defs   map[string]any // by name of the file
	wanted []string
}

// rewrite points the references in doc, which is the file called name, into the bundle.
func (b *bundler) rewrite(name string, node any, at string, names bool) {
	switch v := node.(type) {
	case []any:
		for i, e := range v {
			b.rewrite(name, e, fmt.Sprintf("%s/%d", at, i), false)
		}
	case map[string]any:
		for k, e := range v {
			below := at + "/" + escapePointer(k)
			r, isRef := e.(string)
			if k == "$ref" && isRef && !names {
				v[k] = b.resolve(name, r, below)
				continue
			}
			if !names && isData(k) {
				continue
			}
			b.rewrite(name, e, below, !names && holdsNames(k))
		}
	}
}

func (b *bundler) resolve(name, r, at string) string {
	file, fragment, _ := strings.Cut(r, "#")
	target := name
	if file != "" {
		var ok bool
		if target, ok = b.l.find(name, file); !ok {
			if name == b.root {
				text := b.l.texts[name]
				b.l.problem(b.l.files[name], text, locate(text, at), "ref",
					"%q is no schema%s", r, DidYouMean(strings.TrimSuffix(file, ".json"), slices.Collect(maps.Keys(b.l.texts))))
			}
			return "#"
		}
	}
	if target == b.root {
		return "#" + fragment
	}
	b.wanted = append(b.wanted, target)
	return "#/$defs/" + escapePointer(defKey(target)) + fragment
}

// find returns the name of the file that a reference in the file `from` means.
func (l *loader) find(from, ref string) (string, bool) {
	ref = strings.TrimSuffix(ref, ".json")
	for _, n := range []string{path.Join(path.Dir(from), ref), path.Clean(ref)} {
		if _, ok := l.texts[n]; ok {
			return n, true
		}
	}
	return "", false
}

// locate returns where in text the value behind a JSON pointer begins, or the
// nearest that exists on the way to it.
func locate(text []byte, pointer string) int {
	at, _ := find(text, pointer)
	return at
}

// locateKey is locate for the key of the value.
func locateKey(text []byte, pointer string) int {
	_, key := find(text, pointer)
	return key
}

func find(text []byte, pointer string) (value, key int) {
	p := &parser{b: text}
	p.space()
	if pointer == "" {
		return p.i, p.i
	}
	for _, token := range strings.Split(pointer[1:], "/") {
		token = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
		k, ok := p.step(token)
		if !ok {
			break
		}
		key = k
	}
	return p.i, key
}

// step moves from the beginning of an object or list to that of its member.
func (p *parser) step(token string) (key int, ok bool) {
	start := p.i
	if p.i >= len(p.b) || p.b[p.i] != '{' && p.b[p.i] != '[' {
		return p.i, false
	}
	inObject := p.b[p.i] == '{'
	p.i++
	for n := 0; ; n++ {
		p.space()
		if p.i >= len(p.b) || p.b[p.i] == '}' || p.b[p.i] == ']' {
			break
		}
		k, key := fmt.Sprint(n), p.i
		if inObject {
			var err error
			if k, err = p.string(); err != nil {
				break
			}
			p.space()
			p.i++ // the colon
			p.space()
		}
		if k == token {
			return key, true
		}
		if _, err := p.value(0); err != nil {
			break
		}
		p.space()
		if p.i < len(p.b) && p.b[p.i] == ',' {
			p.i++
		}
	}
	p.i = start
	return start, false
}

// keywordNames are those of JSON Schema 2020-12 and the one of ours.
var keywordNames = strings.Fields(`$schema $id $ref $defs $anchor $dynamicRef $dynamicAnchor $vocabulary $comment
	allOf anyOf oneOf not if then else dependentSchemas prefixItems items contains properties patternProperties
	additionalProperties propertyNames unevaluatedItems unevaluatedProperties type const enum multipleOf maximum
	exclusiveMaximum minimum exclusiveMinimum maxLength minLength pattern maxItems minItems uniqueItems maxContains
	minContains maxProperties minProperties required dependentRequired title description default deprecated readOnly
	writeOnly examples format contentEncoding contentMediaType contentSchema x-personal`)

// otherKeywords are those of earlier drafts and of OpenAPI, which schemas brought
// from elsewhere carry rightly; some are near to one of ours.
var otherKeywords = strings.Fields(`id definitions dependencies example nullable discriminator xml externalDocs
	divisibleBy extends disallow additionalItems $recursiveRef $recursiveAnchor readonly`)

// formatNames are those of JSON Schema 2020-12, of OpenAPI, and ours.
var formatNames = strings.Fields(`date-time date time duration email idn-email hostname idn-hostname ipv4 ipv6 uri
	uri-reference iri iri-reference uuid uri-template json-pointer relative-json-pointer regex int32 int64 float
	double byte binary password cents tax-code iuv`)

// contradictions refuses what no value can ever meet, or what checks nothing,
// though each keyword by itself is legal.
func (l *loader) contradictions(file string, text []byte, m map[string]any, at string) {
	props, _ := m["properties"].(map[string]any)
	if closed, ok := m["additionalProperties"].(bool); ok && !closed && m["patternProperties"] == nil {
		for i, r := range list(m["required"]) {
			name, ok := r.(string)
			if _, declared := props[name]; ok && !declared {
				l.problem(file, text, locate(text, fmt.Sprintf("%s/required/%d", at, i)), "schema",
					"%q is required, and `properties` has no such property%s", name, DidYouMean(name, slices.Sorted(maps.Keys(props))))
			}
		}
	}
	if f, ok := m["format"].(string); ok && !slices.Contains(formatNames, f) {
		l.problem(file, text, locate(text, at+"/format"), "schema", "%q is no format that is known, and checks nothing%s", f, DidYouMean(f, formatNames))
		l.problems[len(l.problems)-1].Warning = Suggest(f, formatNames) == ""
	}
	word, ok := m["type"].(string)
	if !ok {
		return
	}
	fits := func(v any) bool {
		switch k := kindOf(v); word {
		case "string":
			return k == String
		case "boolean":
			return k == Bool
		case "integer":
			return k == Int
		case "number":
			return k == Int || k == Number
		case "object":
			return k == Object
		case "array":
			return k == Array
		case "null":
			return k == Null
		default:
			return true // the norm's own check refuses the word
		}
	}
	for i, v := range list(m["enum"]) {
		if !fits(v) {
			l.problem(file, text, locate(text, fmt.Sprintf("%s/enum/%d", at, i)), "schema", "the value is %s, and `type` says %s: it can never be sent", kindName(v), word)
		}
	}
	for _, k := range []string{"const", "default"} {
		if v, given := m[k]; given && !fits(v) {
			l.problem(file, text, locate(text, at+"/"+k), "schema", "`%s` is %s, and `type` says %s", k, kindName(v), word)
		}
	}
}

func kindName(v any) string { return (&Type{Kind: kindOf(v)}).Article() }

// keywords warns of words that are no keyword: JSON Schema takes every one and
// checks nothing by it ("requried").
func (l *loader) keywords(file string, text []byte, node any, at string) {
	m, ok := node.(map[string]any)
	if !ok {
		return
	}
	l.contradictions(file, text, m, at)
	for _, k := range slices.Sorted(maps.Keys(m)) {
		below := at + "/" + escapePointer(k)
		if k == "x-personal" {
			if _, ok := m[k].(bool); !ok {
				l.problem(file, text, locate(text, below), "schema", "x-personal must be true or false")
			}
		}
		switch k {
		case "properties", "patternProperties", "$defs", "dependentSchemas":
			sub, _ := m[k].(map[string]any)
			for _, n := range slices.Sorted(maps.Keys(sub)) {
				l.keywords(file, text, sub[n], below+"/"+escapePointer(n))
			}
		case "allOf", "anyOf", "oneOf", "prefixItems":
			for i, e := range list(m[k]) {
				l.keywords(file, text, e, fmt.Sprintf("%s/%d", below, i))
			}
		case "not", "if", "then", "else", "items", "contains", "additionalProperties", "propertyNames", "unevaluatedItems", "unevaluatedProperties", "contentSchema":
			l.keywords(file, text, m[k], below)
		default:
			if !strings.HasPrefix(k, "x-") && !slices.Contains(keywordNames, k) {
				l.problem(file, text, locateKey(text, below), "schema", "%q is no keyword of JSON Schema and checks nothing%s", k, DidYouMean(k, keywordNames))
				l.problems[len(l.problems)-1].Warning = slices.Contains(otherKeywords, k) || Suggest(k, keywordNames) == ""
			}
		}
	}
}
