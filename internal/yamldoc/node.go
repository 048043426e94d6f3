package yamldoc

import (
	"math"
	"regexp"
	"strconv"
	"strings"
)

// Kind of a Node.
type Kind uint8

const (
	Scalar Kind = iota
	Map
	List
)

// Style is how a scalar was written.
type Style uint8

const (
	Plain  Style = iota // no quotes: YAML would guess its type
	Quoted              // 'single' or "double"
	Block               // | or >
)

// Node is a YAML value with its place. Nodes are not changed once parsed.
type Node struct {
	Pos
	Kind  Kind
	Text  string // Scalar: the text as written, quotes and escapes resolved
	Style Style  // Scalar
	Flow  bool   // Map, List: written with { } or [ ]
	Empty bool   // Scalar: nothing was written (`key:`)
	Pairs []Pair // Map, in file order
	Items []*Node

	// Comment follows a plain scalar on its line: a reader of expressions needs
	// it, for ` #` cuts what is not quoted.
	Comment bool

	blockColumn int     // Block: column of its first character
	folded      bool    // several lines or escapes, so that offsets in Text alone say nothing
	places      []place // folded: of every byte of Text; nil where the source can't be followed
}

// Pair is a key of a Map with its value; neither is nil.
type Pair struct {
	Key   *Node
	Value *Node
}

// Get returns the value under key, or nil; it is safe on nil and on other kinds.
func (n *Node) Get(key string) *Node {
	if n == nil {
		return nil
	}
	for i := range n.Pairs {
		if n.Pairs[i].Key.Text == key {
			return n.Pairs[i].Value
		}
	}
	return nil
}

// Key returns the node of the key itself, for a problem's place, or n when n has no such key.
func (n *Node) Key(key string) *Node {
	for i := range n.Pairs {
		if n.Pairs[i].Key.Text == key {
			return n.Pairs[i].Key
		}
	}
	return n
}

// Keys returns the keys in file order.
func (n *Node) Keys() []string {
	if n == nil {
		return nil
	}
	ks := make([]string, len(n.Pairs))
	for i := range n.Pairs {
		ks[i] = n.Pairs[i].Key.Text
	}
	return ks
}

// IsNull says that the node is absent, empty, or a plain null.
func (n *Node) IsNull() bool {
	if n == nil {
		return true
	}
	if n.Kind != Scalar || n.Style != Plain {
		return false
	}
	switch n.Text {
	case "", "~", "null", "Null", "NULL":
		return true
	}
	return false
}

// What names the node's kind for a message.
func (n *Node) What() string {
	switch {
	case n == nil || n.IsNull():
		return "nothing"
	case n.Kind == Map:
		return "a map"
	case n.Kind == List:
		return "a list"
	}
	return "a single value"
}

// Problem makes a problem at the node.
func (n *Node) Problem(rule, message string) Problem {
	return Problem{Pos: n.Pos, Rule: rule, Message: message}
}

// At is the place of the byte at offset of the scalar's text, through breaks and
// escapes; where those can't be followed it is the scalar's own.
func (n *Node) At(offset int) Pos {
	p := n.Pos
	if n.Kind != Scalar || offset < 0 || n.folded && n.places == nil {
		return p
	}
	if offset > len(n.Text) {
		offset = len(n.Text)
	}
	if n.folded {
		p.Line, p.Column = n.places[offset].line, n.places[offset].column
		return p
	}
	before := n.Text[:offset]
	switch n.Style {
	case Quoted:
		p.Column++
	case Block:
		p.Line += 1 + strings.Count(before, "\n")
		if i := strings.LastIndexByte(before, '\n'); i >= 0 {
			before = before[i+1:]
		}
		p.Column = n.blockColumn
	}
	p.Column += len([]rune(before))
	return p
}

// Want says what the reader of a scalar expects, which decides how a plain one
// that YAML would guess at is read.
type Want uint8

const (
	WantAny Want = iota
	WantString
	WantInt
	WantNumber
	WantBool
)

var (
	plainInt   = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)
	plainFloat = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$`)
	// What some YAML reader takes for a number or a time although its text is not
	// that number's: leading zeros, octal, hex, underscores, sexagesimals, dates.
	guessedNumber = regexp.MustCompile(`^[-+]?(0[0-9_]+|0[oObBxX][0-9a-fA-F_]+|[0-9][0-9_]*_[0-9_]*|[0-9]+(:[0-9]{2})+|\.[0-9]+|[0-9]+\.|0[0-9]+\.[0-9]*|\.(inf|Inf|INF|nan|NaN|NAN))([eE][-+]?[0-9]+)?$|^\+[0-9]+(\.[0-9]*)?$`)
	guessedTime   = regexp.MustCompile(`^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?$`)
)

// Value reads a scalar as nil, bool, int, float64 or string. With WantString the
// text is the value, so that `iuv: 0102` keeps its zero. Elsewhere a plain
// scalar that YAML would change ("0102", "1.10", a date) is refused: problem is
// the message, "" if there is none.
func (n *Node) Value(w Want) (v any, problem string) {
	if n.Kind != Scalar {
		return nil, "a single value is expected here, not " + n.What()
	}
	if n.Style != Plain {
		return n.Text, ""
	}
	t := n.Text
	if n.IsNull() {
		return nil, ""
	}
	if w == WantString {
		return t, ""
	}
	switch t {
	case "true", "false":
		return t == "true", ""
	case "True", "TRUE", "False", "FALSE":
		if w == WantBool {
			return nil, "write " + strings.ToLower(t) + " in small letters"
		}
		return nil, "write true or false in small letters, or quote it: \"" + t + "\""
	}
	switch {
	case plainInt.MatchString(t):
		i, err := strconv.Atoi(t)
		if err != nil && w != WantAny {
			return nil, "the number " + t + " does not fit 64 bits: write a smaller one"
		} else if err != nil {
			return nil, "the number " + t + " does not fit 64 bits; if it is a text, quote it: \"" + t + "\""
		}
		return i, ""
	case w != WantAny && (guessedNumber.MatchString(t) || guessedTime.MatchString(t)):
		// Quoting would make a text of it, which is not wanted here either.
		if meant := meantNumber(t); meant != "" && w != WantBool {
			return nil, "YAML would read " + t + " as another number: write " + meant
		}
		return t, ""
	case guessedNumber.MatchString(t):
		return nil, "YAML would read " + t + " as another number; quote it: \"" + t + "\""
	case guessedTime.MatchString(t):
		return nil, "YAML would read " + t + " as a time; quote it: \"" + t + "\""
	case plainFloat.MatchString(t):
		f, err := strconv.ParseFloat(t, 64)
		if err != nil || math.IsInf(f, 0) {
			return nil, "the number " + t + " is out of range"
		}
		if w == WantInt && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
			return nil, "a whole number is wanted here: write " + strconv.FormatFloat(f, 'f', -1, 64)
		}
		if w == WantAny && strconv.FormatFloat(f, 'f', -1, 64) != t {
			return nil, "YAML would read " + t + " as " + strconv.FormatFloat(f, 'f', -1, 64) + "; quote it: \"" + t + "\""
		}
		return f, ""
	}
	return t, ""
}

// meantNumber is what the author of a number that YAML reads otherwise meant:
// 010 is ten to a person. "" if that is not plain.
func meantNumber(t string) string {
	t = strings.TrimPrefix(strings.ReplaceAll(t, "_", ""), "+")
	sign := ""
	if rest, negative := strings.CutPrefix(t, "-"); negative {
		sign, t = "-", rest
	}
	if len(t) > 1 && strings.ContainsAny(t[1:2], "xXoObB") {
		n, err := strconv.ParseInt(t, 0, 64)
		if err != nil {
			return ""
		}
		return sign + strconv.FormatInt(n, 10)
	}
	for len(t) > 1 && t[0] == '0' && t[1] >= '0' && t[1] <= '9' {
		t = t[1:]
	}
	if strings.HasPrefix(t, ".") {
		t = "0" + t
	}
	if t = sign + strings.TrimSuffix(t, "."); plainFloat.MatchString(t) {
		return t
	}
	return ""
}

// Any reads the node as plain Go values (nil, bool, int, float64, string, []any,
// map[string]any) where no schema says what is wanted.
func (n *Node) Any() (any, []Problem) {
	var ps []Problem
	v := n.any(&ps)
	return v, ps
}

func (n *Node) any(ps *[]Problem) any {
	if n == nil {
		return nil
	}
	switch n.Kind {
	case Map:
		m := make(map[string]any, len(n.Pairs))
		for _, p := range n.Pairs {
			m[p.Key.Text] = p.Value.any(ps)
		}
		return m
	case List:
		l := make([]any, len(n.Items))
		for i, it := range n.Items {
			l[i] = it.any(ps)
		}
		return l
	}
	v, msg := n.Value(WantAny)
	if msg != "" {
		*ps = append(*ps, n.Problem("yaml", msg))
	}
	return v
}
