package expression

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"

	"github.com/dime-bus/dime/internal/schema"
)

// Compile checks src in sc and compiles it. All problems that can be found are
// returned at once, sorted by offset; the Expr is nil if there is any.
func Compile(src string, sc *Scope, opt Options) (*Expr, []Problem) {
	c := newCompiler(src)
	node := c.parse()
	if node == nil {
		return nil, c.problems
	}
	e := c.expr(node, src, sc, opt)
	if len(c.problems) > 0 {
		return nil, c.sorted()
	}
	return e, nil
}

// reserved are the words that cannot name a result.
const reserved = " not in and or let if else nil true false matches contains startsWith endsWith "

// Reserved says whether name is a word of the expression language, which cannot
// name a result.
func Reserved(name string) bool {
	return name != "" && !strings.Contains(name, " ") && strings.Contains(reserved, " "+name+" ")
}

// compiler compiles one source; it infers types and makes closures in one walk,
// so that what is checked is what runs.
type compiler struct {
	src      string
	runes    []int // byte offset of each rune; nil if all are ASCII
	problems []Problem
	mute     int // over 0: problems are not recorded
	opt      Options

	refs, paths map[string]bool
	impure      bool // reads a clock or chance
	slots       int  // in use
	maxSlots    int
	steps       int // walks through nodes, to bound nested reduce
}

func newCompiler(src string) *compiler {
	c := &compiler{src: src, refs: map[string]bool{}, paths: map[string]bool{}}
	for i := range len(src) {
		if src[i] >= utf8.RuneSelf {
			for at := range src {
				c.runes = append(c.runes, at)
			}
			break
		}
	}
	return c
}

func (c *compiler) sorted() []Problem {
	slices.SortStableFunc(c.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(c.problems)
}

// offset turns the parser's place, which counts runes, into bytes.
func (c *compiler) offset(from int) int {
	switch {
	case from < 0:
		return 0
	case c.runes == nil:
		return min(from, len(c.src))
	case from < len(c.runes):
		return c.runes[from]
	}
	return len(c.src)
}

func (c *compiler) fail(offset int, rule, format string, args ...any) {
	if c.mute > 0 {
		return
	}
	c.problems = append(c.problems, Problem{offset, rule, fmt.Sprintf(format, args...)})
}

func (c *compiler) failAt(n ast.Node, rule, format string, args ...any) {
	c.fail(c.at(n), rule, format, args...)
}

// at is where a node begins in the source, in bytes. The parser gives an
// operator's place for what it joins; the reader looks at the first operand.
func (c *compiler) at(n ast.Node) int {
	switch n := n.(type) {
	case *ast.BinaryNode:
		if n.Left.Location().From <= n.Location().From {
			return c.at(n.Left)
		}
	case *ast.ChainNode:
		return c.at(n.Node)
	case *ast.MemberNode:
		return c.at(n.Node)
	case *ast.SliceNode:
		return c.at(n.Node)
	case *ast.CallNode:
		return c.at(n.Callee)
	case *ast.ConditionalNode:
		if n.Ternary {
			return c.at(n.Cond)
		}
		// the parser gives `if` no place; its condition stands behind it
		if at := c.at(n.Cond); at >= 0 {
			if i := strings.LastIndex(c.src[:at], "if"); i >= 0 {
				return i
			}
			return at
		}
	}
	return c.offset(n.Location().From)
}

// parse reads the source and holds it to the bounds.
func (c *compiler) parse() ast.Node {
	if len(c.src) > MaxSource {
		c.fail(0, "bounds", "the expression has %d bytes, more than %d: compute it in several `set` steps", len(c.src), MaxSource)
		return nil
	}
	if strings.TrimSpace(c.src) == "" {
		c.fail(0, "syntax", "an expression must stand here")
		return nil
	}
	if !utf8.ValidString(c.src) || strings.ContainsRune(c.src, 0) {
		c.fail(0, "syntax", "the expression is not valid UTF-8 text")
		return nil
	}
	tree, err := safeParse(c.src)
	if err != nil {
		c.syntax(err)
		return nil
	}
	s := &surveyor{}
	s.walk(tree.Node, 1)
	switch {
	case s.nodes > MaxNodes:
		c.fail(0, "bounds", "the expression has %d parts, more than %d: compute it in several `set` steps", s.nodes, MaxNodes)
		return nil
	case s.deepest > MaxNested:
		c.fail(0, "bounds", "the expression is nested %d deep, more than %d: compute it in several `set` steps", s.deepest, MaxNested)
		return nil
	}
	return tree.Node
}

// safeParse is expr's parser; a panic in it is a syntax error.
func safeParse(src string) (tree *parser.Tree, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = errors.New("the expression cannot be read")
		}
	}()
	tree, err = parser.Parse(src)
	if err == nil && tree.Node == nil {
		err = errors.New("an expression must stand here")
	}
	return tree, err
}

// syntax reports a parser's error, with the fix where the mistake is a known one.
func (c *compiler) syntax(err error) {
	at, msg := 0, err.Error()
	var fe *file.Error
	if errors.As(err, &fe) {
		at, msg = c.offset(fe.From), fe.Message
	}
	rest := c.src[min(at, len(c.src)):]
	if begin, name := callAround(c.src, at); strings.HasPrefix(msg, "unexpected token") && name != "" && !isFunction(name) &&
		(strings.HasPrefix(rest, ".") || strings.HasPrefix(rest, "#")) {
		// The parser takes an item's `.field` in the functions that it knows alone.
		c.noFunction(begin, name)
		return
	}
	switch {
	case strings.Contains(msg, "unexpected token") && inPredicateBraces(c.src, at):
		msg = `a map inside map(), filter() and the like needs double braces: {{"x": .v}}`
	case strings.HasPrefix(rest, "=") && !strings.HasPrefix(rest, "=="):
		msg = "= does not compare; write == for equality"
	case strings.HasPrefix(rest, "&"), strings.HasPrefix(rest, "|"):
		msg = "write `and` and `or`"
	case strings.Contains(msg, "Operator (") && strings.Contains(msg, "??"):
		msg = "?? cannot stand beside another operator without parentheses: write (a ?? b)"
	case strings.HasPrefix(msg, "unexpected token EOF"), strings.Contains(msg, "unexpected end"):
		msg = "the expression ends too early"
	case strings.HasPrefix(msg, "unexpected token "):
		msg = "unexpected " + describeToken(msg[len("unexpected token "):])
	case strings.Contains(msg, "maximum allowed nodes"):
		c.fail(0, "bounds", "the expression has more than %d parts: compute it in several `set` steps", MaxNodes)
		return
	}
	c.fail(at, "syntax", "%s", msg)
}

// describeToken turns `Operator("=")` into `"="`.
func describeToken(t string) string {
	if i := strings.IndexByte(t, '('); i >= 0 && strings.HasSuffix(t, ")") {
		return t[i+1 : len(t)-1]
	}
	return t
}

// inPredicateBraces says whether the place stands right behind the first key of
// a `{` that opens a predicate: map(l, {"x": .v}) is read as a block.
func inPredicateBraces(src string, at int) bool {
	before := strings.TrimRight(src[:min(at, len(src))], " \t\n")
	if at >= len(src) || src[at] != ':' {
		return false
	}
	i := strings.LastIndexByte(before, '{')
	if i < 0 || strings.ContainsAny(before[i+1:], ",(){}") {
		return false
	}
	head := strings.TrimRight(before[:i], " \t\n")
	return strings.HasSuffix(head, ",") && strings.Contains(head, "(")
}

// callAround finds the function, and where its name begins, whose parentheses
// are open at a place; "" where there is none.
func callAround(src string, at int) (begin int, name string) {
	depth := 0
	for i := min(at, len(src)) - 1; i >= 0; i-- {
		switch src[i] {
		case ')':
			depth++
		case '(':
			if depth--; depth >= 0 {
				continue
			}
			begin = i
			for begin > 0 && (src[begin-1] == '_' || src[begin-1] >= '0' && src[begin-1] <= '9' ||
				src[begin-1]|0x20 >= 'a' && src[begin-1]|0x20 <= 'z') {
				begin--
			}
			if begin < i {
				return begin, src[begin:i]
			}
			depth = 0 // parentheses of no function
		}
	}
	return 0, ""
}

// surveyor counts a tree.
type surveyor struct{ nodes, deepest int }

func (s *surveyor) walk(n ast.Node, depth int) {
	if n == nil {
		return
	}
	s.nodes++
	s.deepest = max(s.deepest, depth)
	if s.nodes > MaxNodes || depth > MaxNested {
		return
	}
	for _, sub := range children(n) {
		s.walk(sub, depth+1)
	}
}

func children(n ast.Node) []ast.Node {
	switch n := n.(type) {
	case *ast.UnaryNode:
		return []ast.Node{n.Node}
	case *ast.BinaryNode:
		return []ast.Node{n.Left, n.Right}
	case *ast.ChainNode:
		return []ast.Node{n.Node}
	case *ast.MemberNode:
		return []ast.Node{n.Node, n.Property}
	case *ast.SliceNode:
		return []ast.Node{n.Node, n.From, n.To}
	case *ast.CallNode:
		return append([]ast.Node{n.Callee}, n.Arguments...)
	case *ast.BuiltinNode:
		return n.Arguments
	case *ast.PredicateNode:
		return []ast.Node{n.Node}
	case *ast.ConditionalNode:
		return []ast.Node{n.Cond, n.Exp1, n.Exp2}
	case *ast.VariableDeclaratorNode:
		return []ast.Node{n.Value, n.Expr}
	case *ast.SequenceNode:
		return n.Nodes
	case *ast.ArrayNode:
		return n.Nodes
	case *ast.MapNode:
		return n.Pairs
	case *ast.PairNode:
		return []ast.Node{n.Key, n.Value}
	}
	return nil
}

// expr compiles a whole tree and holds the result to opt.Want.
func (c *compiler) expr(node ast.Node, src string, sc *Scope, opt Options) *Expr {
	c.opt = opt
	v := c.node(node, ctx{sc: sc})
	if opt.Want != nil {
		c.want(node, v, opt.Want)
	}
	t := v.t
	if t.Kind == schema.Unknown && len(c.problems) == 0 {
		c.failAt(node, "type", "the type of this cannot be known; say it more plainly, in `set` steps of one type each")
	}
	f := v.f
	if len(c.problems) > 0 {
		return nil
	}
	if opt.Want != nil && opt.Want.Kind == schema.Bool && t.Kind == schema.Any {
		inner := f
		f = func(fr *frame) (any, error) {
			v, err := inner(fr)
			if err != nil {
				return nil, err
			}
			if _, ok := v.(bool); !ok && (v != nil || !opt.Want.MayBeNil()) {
				return nil, fmt.Errorf("it gives %s where true or false is due", kindName(v))
			}
			return v, nil
		}
	}
	raw := opt.Want != nil && (opt.Want.Kind == schema.Time || opt.Want.Kind == schema.Period)
	if !raw {
		f = plainly(f, t)
	}
	e := &Expr{
		Source: src, Type: t,
		refs: slices.Sorted(maps.Keys(c.refs)), paths: slices.Sorted(maps.Keys(c.paths)),
		trueFacts: distinct(v.tf), falsFact: distinct(v.ff),
		literal: len(c.refs) == 0 && !c.impure,
	}
	if v.path != "" {
		e.valuePath = prefixes(v.path)
	}
	e.eval = evaluator(src, f, c.maxSlots)
	return e
}

func distinct(l []string) []string {
	l = slices.DeleteFunc(slices.Clone(l), func(s string) bool { return strings.HasPrefix(s, "#") })
	slices.Sort(l)
	return slices.Compact(l)
}

// want reports why v does not fit what its place needs.
func (c *compiler) want(node ast.Node, v value, want *schema.Type) {
	if v.t.Kind == schema.Unknown {
		return // reported
	}
	if want.Kind == schema.Bool && v.t.Kind != schema.Bool && v.t.Kind != schema.Any && v.t.Kind != schema.Null {
		c.failAt(node, "bool", "this must be true or false, not %s%s", v.t.Article(), boolHint(v))
		return
	}
	for _, m := range schema.Assignable(v.t, want) {
		at := c.at(c.blamed(node, m, want))
		switch m.Rule {
		case "nil":
			if m.Path == "" {
				c.fail(at, "nil", "%s", nilMessage(v, "here, where "+want.Article()+" is required"))
				continue
			}
			c.fail(at, "nil", "%s", m.Message)
		case "enum":
			c.fail(at, "enum", "%s", m.Message)
		default:
			c.fail(at, "type", "%s", m.Message)
		}
	}
}

func boolHint(v value) string {
	if v.path != "" && v.t.Kind == schema.String {
		return fmt.Sprintf("; compare it: %s == %q", v.path, "...")
	}
	return ""
}

// plainly makes instants and periods strings, which is all that a journal, a
// template or an outside system can hold.
func plainly(f fn, t *schema.Type) fn {
	deep := holdsTime(t, map[*schema.Type]bool{})
	if !deep && t.Kind != schema.Any {
		return f
	}
	return func(fr *frame) (any, error) {
		v, err := f(fr)
		if err != nil || v == nil {
			return v, err
		}
		switch x := v.(type) {
		case time.Time, Period:
			return plain(x), nil
		case []any, map[string]any:
			if deep {
				return plain(x), nil
			}
		}
		return v, nil
	}
}

func holdsTime(t *schema.Type, seen map[*schema.Type]bool) bool {
	if t == nil || seen[t] {
		return false
	}
	switch t.Kind {
	case schema.Time, schema.Period:
		return true
	case schema.Object, schema.Array:
	default:
		return false
	}
	seen[t] = true
	for _, f := range t.Fields {
		if holdsTime(f.Type, seen) {
			return true
		}
	}
	return holdsTime(t.Items, seen) || holdsTime(t.Extra, seen)
}

func plain(v any) any {
	switch x := v.(type) {
	case time.Time:
		return x.Format(time.RFC3339Nano)
	case Period:
		return x.String()
	case []any:
		out := make([]any, len(x))
		for i, e := range x {
			out[i] = plain(e)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(x))
		for k, e := range x {
			out[k] = plain(e)
		}
		return out
	}
	return v
}
