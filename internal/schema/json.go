package schema

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Bounds of a JSON text (trust.md, "JSON").
const (
	MaxDepth = 64      // levels of objects and lists
	MaxBytes = 8 << 20 // of a text
)

// SyntaxError is a JSON text that was refused.
type SyntaxError struct {
	Offset  int    // in bytes
	Pointer string // RFC 6901, of the value in which reading stopped
	Message string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("reading JSON at byte %d: %s", e.Offset, e.Message)
}

// DecodeJSON reads one JSON text strictly (RFC 8259; duplicate keys, invalid
// UTF-8 and lone surrogates, more than MaxDepth levels or MaxBytes bytes are
// refused). A number without fraction and exponent that fits is an int, every
// other a float64. Errors are *SyntaxError and never hold a value of the text.
func DecodeJSON(b []byte) (any, error) { return decode(b, nil) }

// orders remembers the order of keys of the objects that one text held, by the
// identity of the map. It is nil where nobody asks.
type orders map[uintptr][]string

func (o orders) of(m map[string]any) []string {
	if o == nil || m == nil {
		return nil
	}
	return o[reflect.ValueOf(m).Pointer()]
}

func decode(b []byte, o orders) (any, error) {
	if len(b) > MaxBytes {
		return nil, &SyntaxError{Message: fmt.Sprintf("the text has %d bytes, more than %d", len(b), MaxBytes)}
	}
	p := &parser{b: b, orders: o}
	p.space()
	if p.i == len(p.b) {
		return nil, &SyntaxError{Message: "the text is empty"}
	}
	v, err := p.value(0)
	if err != nil {
		return nil, err
	}
	p.space()
	if p.i != len(p.b) {
		return nil, p.fail("something stands behind the value")
	}
	return v, nil
}

// parser is a strict JSON reader that makes the engine's kinds at once: the
// standard decoders make every number a float64 or a string, and take duplicates.
type parser struct {
	b      []byte
	i      int
	path   []any // string or int, for the pointer of an error
	orders orders
}

func (p *parser) fail(msg string) error {
	pointer := ""
	for _, e := range p.path {
		switch e := e.(type) {
		case string:
			pointer += "/" + escapePointer(e)
		case int:
			pointer += "/" + strconv.Itoa(e)
		}
	}
	return &SyntaxError{Offset: p.i, Pointer: pointer, Message: msg}
}

func (p *parser) space() {
	for p.i < len(p.b) {
		switch p.b[p.i] {
		case ' ', '\t', '\n', '\r':
			p.i++
		default:
			return
		}
	}
}

var errTail = errors.New("the text ends inside a value")

func (p *parser) value(depth int) (any, error) {
	if p.i >= len(p.b) {
		return nil, p.fail(errTail.Error())
	}
	switch c := p.b[p.i]; c {
	case '{':
		return p.object(depth + 1)
	case '[':
		return p.array(depth + 1)
	case '"':
		return p.string()
	case 't':
		return true, p.word("true")
	case 'f':
		return false, p.word("false")
	case 'n':
		return nil, p.word("null")
	default:
		if c == '-' || c >= '0' && c <= '9' {
			return p.number()
		}
		return nil, p.fail("a value must begin here")
	}
}

func (p *parser) word(w string) error {
	if len(p.b)-p.i < len(w) || string(p.b[p.i:p.i+len(w)]) != w {
		return p.fail("a value must begin here")
	}
	p.i += len(w)
	return nil
}

func (p *parser) object(depth int) (any, error) {
	if depth > MaxDepth {
		return nil, p.fail(fmt.Sprintf("more than %d levels", MaxDepth))
	}
	p.i++
	m := map[string]any{}
	var keys []string
	p.space()
	if p.i < len(p.b) && p.b[p.i] == '}' {
		p.i++
		return m, nil
	}
	for {
		p.space()
		if p.i >= len(p.b) || p.b[p.i] != '"' {
			return nil, p.fail("a key in quotes must stand here")
		}
		at := p.i
		k, err := p.string()
		if err != nil {
			return nil, err
		}
		if _, twice := m[k]; twice {
			p.i = at
			p.path = append(p.path, k)
			return nil, p.fail("the key stands twice in one object")
		}
		p.space()
		if p.i >= len(p.b) || p.b[p.i] != ':' {
			return nil, p.fail("a colon must stand behind the key")
		}
		p.i++
		p.space()
		p.path = append(p.path, k)
		v, err := p.value(depth)
		if err != nil {
			return nil, err
		}
		p.path = p.path[:len(p.path)-1]
		m[k] = v
		if p.orders != nil {
			keys = append(keys, k)
		}
		p.space()
		if p.i >= len(p.b) {
			return nil, p.fail(errTail.Error())
		}
		switch p.b[p.i] {
		case ',':
			p.i++
		case '}':
			p.i++
			if p.orders != nil {
				p.orders[reflect.ValueOf(m).Pointer()] = keys
			}
			return m, nil
		default:
			return nil, p.fail("a comma or } must stand here")
		}
	}
}

func (p *parser) array(depth int) (any, error) {
	if depth > MaxDepth {
		return nil, p.fail(fmt.Sprintf("more than %d levels", MaxDepth))
	}
	p.i++
	l := []any{}
	p.space()
	if p.i < len(p.b) && p.b[p.i] == ']' {
		p.i++
		return l, nil
	}
	for {
		p.space()
		p.path = append(p.path, len(l))
		v, err := p.value(depth)
		if err != nil {
			return nil, err
		}
		p.path = p.path[:len(p.path)-1]
		l = append(l, v)
		p.space()
		if p.i >= len(p.b) {
			return nil, p.fail(errTail.Error())
		}
		switch p.b[p.i] {
		case ',':
			p.i++
		case ']':
			p.i++
			return l, nil
		default:
			return nil, p.fail("a comma or ] must stand here")
		}
	}
}

func (p *parser) string() (string, error) {
	p.i++
	start := p.i
	ascii := true
	for ; p.i < len(p.b); p.i++ {
		switch c := p.b[p.i]; {
		case c == '"':
			s := p.b[start:p.i]
			if !ascii && !utf8.Valid(s) {
				return "", p.fail("the string is not valid UTF-8")
			}
			p.i++
			return string(s), nil
		case c == '\\':
			return p.escaped(start)
		case c < 0x20:
			return "", p.fail("a control character must be escaped")
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return "", p.fail(errTail.Error())
}

// escaped goes on behind the first backslash of a string.
func (p *parser) escaped(start int) (string, error) {
	out := append(make([]byte, 0, len(p.b[start:p.i])+32), p.b[start:p.i]...)
	for p.i < len(p.b) {
		c := p.b[p.i]
		switch {
		case c == '"':
			if !utf8.Valid(out) {
				return "", p.fail("the string is not valid UTF-8")
			}
			p.i++
			return string(out), nil
		case c < 0x20:
			return "", p.fail("a control character must be escaped")
		case c != '\\':
			out = append(out, c)
			p.i++
			continue
		}
		if p.i+1 >= len(p.b) {
			return "", p.fail(errTail.Error())
		}
		p.i += 2
		switch e := p.b[p.i-1]; e {
		case '"', '\\', '/':
			out = append(out, e)
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r, err := p.hex()
			if err != nil {
				return "", err
			}
			if utf16.IsSurrogate(r) {
				if p.i+1 >= len(p.b) || p.b[p.i] != '\\' || p.b[p.i+1] != 'u' {
					return "", p.fail("half of a surrogate pair stands alone")
				}
				p.i += 2
				low, err := p.hex()
				if err != nil {
					return "", err
				}
				if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
					return "", p.fail("half of a surrogate pair stands alone")
				}
			}
			out = utf8.AppendRune(out, r)
		default:
			return "", p.fail("this escape does not exist")
		}
	}
	return "", p.fail(errTail.Error())
}

func (p *parser) hex() (rune, error) {
	if p.i+4 > len(p.b) {
		return 0, p.fail(errTail.Error())
	}
	var r rune
	for _, c := range p.b[p.i : p.i+4] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, p.fail(`\u wants four hexadecimal digits`)
		}
	}
	p.i += 4
	return r, nil
}

// number reads RFC 8259's grammar: no leading zeros, no plus, no bare point.
func (p *parser) number() (any, error) {
	start := p.i
	neg := p.b[p.i] == '-'
	if neg {
		p.i++
	}
	digits := p.i
	var n uint64
	fits := true
	for p.i < len(p.b) && p.b[p.i] >= '0' && p.b[p.i] <= '9' {
		d := uint64(p.b[p.i] - '0')
		if n > (math.MaxUint64-d)/10 {
			fits = false
		}
		n = n*10 + d
		p.i++
	}
	switch {
	case p.i == digits:
		return nil, p.fail("a number needs a digit here")
	case p.b[digits] == '0' && p.i-digits > 1:
		p.i = digits
		return nil, p.fail("a number must not begin with 0")
	}
	whole := true
	if p.i < len(p.b) && p.b[p.i] == '.' {
		whole = false
		p.i++
		if !p.digits() {
			return nil, p.fail("a number needs a digit here")
		}
	}
	if p.i < len(p.b) && (p.b[p.i] == 'e' || p.b[p.i] == 'E') {
		whole = false
		p.i++
		if p.i < len(p.b) && (p.b[p.i] == '+' || p.b[p.i] == '-') {
			p.i++
		}
		if !p.digits() {
			return nil, p.fail("a number needs a digit here")
		}
	}
	if whole && fits {
		switch {
		case !neg && n <= math.MaxInt64:
			return int(n), nil
		case neg && n <= 1<<63 && n != 0:
			return int(-n), nil //nolint:gosec // wraps to MinInt64 as wanted
		case n == 0:
			return 0, nil
		}
	}
	f, err := strconv.ParseFloat(string(p.b[start:p.i]), 64)
	if err != nil || math.IsInf(f, 0) {
		p.i = start
		return nil, p.fail("the number is too large")
	}
	return f, nil
}

func (p *parser) digits() bool {
	start := p.i
	for p.i < len(p.b) && p.b[p.i] >= '0' && p.b[p.i] <= '9' {
		p.i++
	}
	return p.i > start
}

func escapePointer(s string) string {
	for i := 0; i < len(s); i++ {
		if s[i] != '~' && s[i] != '/' {
			continue
		}
		out := append([]byte(nil), s[:i]...)
		for ; i < len(s); i++ {
			switch s[i] {
			case '~':
				out = append(out, "~0"...)
			case '/':
				out = append(out, "~1"...)
			default:
				out = append(out, s[i])
			}
		}
		return string(out)
	}
	return s
}
