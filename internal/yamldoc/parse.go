package yamldoc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// Bounds of trust.md: parsing YAML is quadratic in the keys of a mapping.
const (
	MaxBytes        = 64 << 10 // a route, test or configuration file
	MaxKeys         = 2000
	MaxOpenAPIBytes = 4 << 20
	maxDepth        = 64
)

type limits struct {
	bytes, keys int
	expand      bool // anchors, aliases and merge keys are written out instead of refused
}

// Option changes how Parse reads a file.
type Option func(*limits)

// OpenAPI lifts the bounds for an OpenAPI document: 4 MiB, any number of keys.
// Anchors, aliases and merge keys, which the documents of PDND and ModI are full
// of, are written out, up to maxExpanded nodes in all.
func OpenAPI() Option {
	return func(l *limits) { l.bytes, l.keys, l.expand = MaxOpenAPIBytes, 1<<30, true }
}

// maxExpanded stops a document whose aliases multiply ("billion laughs").
const maxExpanded = 1_000_000

// Parse reads one YAML document. On any problem that makes the rest unreadable
// the node is nil; an empty file is an empty map. Rule "yaml" for what YAML
// itself or its traps refuse, "bounds" for what is too large.
func Parse(file string, b []byte, opts ...Option) (*Node, []Problem) {
	l := limits{bytes: MaxBytes, keys: MaxKeys}
	for _, o := range opts {
		o(&l)
	}
	at := func(line, col int, rule, format string, args ...any) Problem {
		return Problem{Pos: Pos{file, line, col}, Rule: rule, Message: fmt.Sprintf(format, args...)}
	}
	if len(b) > l.bytes {
		return nil, []Problem{at(1, 1, "bounds", "the file is %d KiB long and may be %d: split it", len(b)>>10, l.bytes>>10)}
	}
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
	if i := invalidUTF8(b); i >= 0 {
		line := 1 + bytes.Count(b[:i], []byte("\n"))
		return nil, []Problem{at(line, 1, "yaml", "the line holds bytes that are not UTF-8: save the file as UTF-8")}
	}
	if i := bytes.IndexByte(b, 0); i >= 0 {
		return nil, []Problem{at(1+bytes.Count(b[:i], []byte("\n")), 1, "yaml", "the line holds a NUL byte: remove it")}
	}
	b = bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))
	if i := bytes.IndexAny(b, "\r\u0085\u2028\u2029"); i >= 0 {
		// YAML ends a line at these, an editor may not: places would differ.
		r, _ := utf8.DecodeRune(b[i:])
		line, col := 1+bytes.Count(b[:i], []byte("\n")), 1+utf8.RuneCount(b[bytes.LastIndexByte(b[:i], '\n')+1:i])
		return nil, []Problem{at(line, col, "yaml", "the character %U ends a line here: end lines with a plain newline", r)}
	}
	p := &parser{file: file, lines: strings.Split(string(b), "\n"), limits: l}
	if ps := p.tabs(); len(ps) > 0 {
		return nil, ps
	}
	var doc yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(b))
	err := decodeNode(dec, &doc)
	if errors.Is(err, io.EOF) {
		return &Node{Kind: Map, Pos: Pos{file, 1, 1}}, nil
	}
	if err != nil {
		return nil, p.refused(err)
	}
	if err := decodeNode(dec, new(yaml.Node)); !errors.Is(err, io.EOF) {
		line := p.secondDocument()
		return nil, []Problem{at(line, 1, "yaml", "a second document begins here: one file holds one document; move it to a file of its own")}
	}
	if len(doc.Content) == 0 {
		return &Node{Kind: Map, Pos: Pos{file, 1, 1}}, nil
	}
	n := p.convert(doc.Content[0], "", 0)
	Sort(p.problems)
	if p.fatal {
		return nil, p.problems
	}
	return n, p.problems
}

// decodeNode guards against yaml.v3's panics on odd input (it recovers only its
// own), which must be an error here.
func decodeNode(d *yaml.Decoder, n *yaml.Node) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("yaml: %v", r)
		}
	}()
	return d.Decode(n)
}

func invalidUTF8(b []byte) int {
	if utf8.Valid(b) {
		return -1
	}
	for i := 0; i < len(b); {
		r, w := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && w == 1 {
			return i
		}
		i += w
	}
	return -1
}

type parser struct {
	file     string
	lines    []string
	limits   limits
	keys     int
	nodes    int
	problems []Problem
	fatal    bool // what follows can't be trusted
}

func (p *parser) add(line, col int, format string, args ...any) {
	p.problems = append(p.problems, Problem{Pos: Pos{p.file, line, col}, Rule: "yaml", Message: fmt.Sprintf(format, args...)})
	p.fatal = true
}

// convert makes Nodes of yaml.v3's and refuses what it understood otherwise than
// the author. key is the key that the node stands under.
func (p *parser) convert(y *yaml.Node, key string, depth int) *Node {
	n := &Node{Pos: Pos{p.file, y.Line, y.Column}}
	if depth > maxDepth {
		p.problems = append(p.problems, Problem{Pos: n.Pos, Rule: "bounds", Message: fmt.Sprintf("values are nested deeper than %d", maxDepth)})
		p.fatal = true
		return n
	}
	if p.nodes++; p.limits.expand && p.nodes > maxExpanded {
		if !p.fatal {
			p.problems = append(p.problems, Problem{Pos: n.Pos, Rule: "bounds", Message: "the document's aliases make it too large: write fewer of them"})
		}
		p.fatal = true
		return n
	}
	if y.Anchor != "" && !p.limits.expand {
		p.add(y.Line, y.Column, "anchors are not allowed: write the value out instead of &%s", y.Anchor)
	}
	expression := isExpression(key, "")
	switch y.Kind {
	case yaml.AliasNode:
		if p.limits.expand && y.Alias != nil {
			return p.convert(y.Alias, key, depth+1)
		}
		p.add(y.Line, y.Column, "aliases are not allowed: write the value out instead of *%s", y.Value)
		return n
	case yaml.MappingNode:
		n.Kind, n.Flow = Map, y.Style&yaml.FlowStyle != 0
		p.tag(y, expression)
		p.mapping(y, n, depth)
	case yaml.SequenceNode:
		n.Kind, n.Flow = List, y.Style&yaml.FlowStyle != 0
		p.tag(y, expression)
		for _, c := range y.Content {
			item := p.convert(c, key, depth+1)
			n.Items = append(n.Items, item)
			if n.Flow && p.cut(item) {
				break
			}
		}
	default:
		p.tag(y, expression)
		p.scalar(y, n, key)
	}
	return n
}

// tag refuses what the author wrote with `!`: `if: !req.exempt` is a tag to YAML
// and silently becomes an empty text.
func (p *parser) tag(y *yaml.Node, expression bool) {
	if y.Style&yaml.TaggedStyle == 0 {
		return
	}
	word := strings.TrimPrefix(y.Tag, "!")
	if rest := p.rest(y.Line, y.Column); strings.HasPrefix(rest, "!") {
		word = strings.TrimPrefix(strings.TrimSpace(cutComment(rest)), "!")
	}
	if strings.HasPrefix(word, "!") {
		p.add(y.Line, y.Column, "YAML tags are not allowed: remove %q", y.Tag)
		return
	}
	if !expression {
		p.add(y.Line, y.Column, "`!` begins a YAML tag and what follows is lost: quote the whole")
		return
	}
	p.add(y.Line, y.Column, "`!` begins a YAML tag and what follows is lost: write `not %s`", word)
}

func (p *parser) mapping(y *yaml.Node, n *Node, depth int) {
	seen := make(map[string]int, len(y.Content)/2)
	var merged []Pair // what `<<` brings; the map's own keys come before it
	for i := 0; i+1 < len(y.Content); i += 2 {
		k, v := y.Content[i], y.Content[i+1]
		if p.keys++; p.keys == p.limits.keys+1 {
			p.problems = append(p.problems, Problem{Pos: Pos{p.file, k.Line, k.Column}, Rule: "bounds",
				Message: fmt.Sprintf("the file has more than %d keys: split it", p.limits.keys)})
			p.fatal = true
		}
		if k.Kind != yaml.ScalarNode {
			if n.Flow || k.Style&yaml.FlowStyle != 0 {
				p.add(k.Line, k.Column, "a map or a list can't be a key; if `{...}` belongs to an expression, quote the whole expression")
			} else {
				p.add(k.Line, k.Column, "a map or a list can't be a key")
			}
			continue
		}
		kn := p.convert(k, "", depth+1)
		if kn.Style == Plain && kn.Text == "<<" && p.limits.expand {
			merged = append(merged, p.merge(v, depth)...)
			continue
		}
		if kn.Style == Plain && kn.Text == "<<" {
			p.add(k.Line, k.Column, "merge keys are not allowed: write the keys out instead of `<<`")
			continue
		}
		if first, twice := seen[kn.Text]; twice {
			p.add(k.Line, k.Column, "the key %q stands here a second time; the first is on line %d", kn.Text, first)
			continue
		}
		seen[kn.Text] = k.Line
		vn := p.convert(v, kn.Text, depth+1)
		n.Pairs = append(n.Pairs, Pair{kn, vn})
		if !n.Flow {
			continue
		}
		if p.cut(vn) {
			break // the keys that follow are the rest of the expression
		}
		if name, text, glued := strings.Cut(kn.Text, ":"); vn.Empty && kn.Style == Plain && glued && text != "" {
			p.add(k.Line, k.Column, "a space is missing behind the colon: write `%s: %s`", name, text)
			continue
		}
		if vn.Empty && !strings.HasSuffix(strings.TrimSpace(p.upTo(v.Line, v.Column)), ":") {
			p.add(k.Line, k.Column, "`%s` inside { } has no value: write `%s: VALUE`, or quote the whole if it is an expression or a text", kn.Text, kn.Text)
		}
	}
	for _, m := range merged {
		if _, own := seen[m.Key.Text]; !own {
			seen[m.Key.Text] = m.Key.Line
			n.Pairs = append(n.Pairs, m)
		}
	}
}

// merge is what a merge key brings: the pairs of a map, or of several in a list
// of which the first wins (YAML 1.1 merge type).
func (p *parser) merge(y *yaml.Node, depth int) []Pair {
	n := p.convert(y, "", depth+1)
	if n.Kind != List {
		return n.Pairs
	}
	var pairs []Pair
	for _, it := range n.Items {
		pairs = append(pairs, it.Pairs...)
	}
	return pairs
}

func (p *parser) scalar(y *yaml.Node, n *Node, key string) {
	n.Text = y.Value
	switch {
	case y.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0:
		n.Style = Quoted
		rest := p.rest(y.Line, y.Column)
		n.folded = rest == "" || !strings.HasPrefix(rest[1:], y.Value)
		if n.folded {
			double := y.Style&yaml.DoubleQuotedStyle != 0
			n.places = p.follow(walk{indent: -1, double: double, single: !double}, y.Value, y.Line, y.Column+1)
		}
	case y.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		n.Style = Block
		n.blockColumn = 1
		first := y.Line
		for first+1 < len(p.lines) && strings.TrimSpace(p.lines[first]) == "" {
			first++
		}
		if first < len(p.lines) {
			l := p.lines[first]
			n.blockColumn = 1 + len(l) - len(strings.TrimLeft(l, " "))
			if n.folded = y.Style&yaml.FoldedStyle != 0; n.folded {
				n.places = p.follow(walk{indent: n.blockColumn - 1}, y.Value, y.Line+1, n.blockColumn)
			}
		}
	default:
		n.folded = !strings.HasPrefix(p.rest(y.Line, y.Column), y.Value)
		if n.folded {
			n.places = p.follow(walk{indent: -1}, y.Value, y.Line, y.Column)
		}
		n.Empty = y.Value == "" && y.Style&yaml.TaggedStyle == 0
		n.Comment = y.LineComment != "" || p.commentFollows(y)
		if n.Comment && isExpression(key, n.Text) && unfinished(n.Text) {
			p.add(y.Line, y.Column, "` #` begins a comment and cuts the expression to `%s`: quote the whole expression", n.Text)
		}
	}
}

// commentFollows looks at the source: yaml.v3 hangs a comment of a flow map's
// inner value elsewhere.
func (p *parser) commentFollows(y *yaml.Node) bool {
	rest := p.rest(y.Line, y.Column)
	return strings.HasPrefix(rest, y.Value) && strings.HasPrefix(strings.TrimLeft(rest[len(y.Value):], " "), "#")
}

// cut reports a flow value whose expression ends at a comma: `{a: =f(1, 2)}`
// silently becomes two keys.
func (p *parser) cut(n *Node) bool {
	if n.Kind != Scalar || n.Style != Plain || !strings.HasPrefix(n.Text, "=") || !unbalanced(n.Text) {
		return false
	}
	if n.Comment {
		return true // reported as cut by the comment
	}
	p.add(n.Line, n.Column, "the comma cuts the expression to `%s` inside { } or [ ]: put it on its own line, or quote it", n.Text)
	return true
}

// rest is the source from line:col on, upTo what stands before it on its line.
func (p *parser) rest(line, col int) string {
	if line < 1 || line > len(p.lines) {
		return ""
	}
	r := []rune(p.lines[line-1])
	if col < 1 || col-1 > len(r) {
		return ""
	}
	return string(r[col-1:])
}

func (p *parser) upTo(line, col int) string {
	if line < 1 || line > len(p.lines) {
		return ""
	}
	r := []rune(p.lines[line-1])
	return string(r[:max(0, min(col-1, len(r)))])
}
