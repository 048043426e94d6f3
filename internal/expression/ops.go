package expression

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// What operators do at run time. Their results are those of expr's VM; where it
// panics these give an error without the value in it. They differ on purpose
// where integers overflow (an error here, a wrong number there), where `and` and
// `or` have an operand that is no boolean (an error), where a number is divided by
// zero or a result is infinite (an error), in what is no list where a list is due
// (an error; expr sorts and walks strings, and prints lists), and in counting characters of strings
// (runes here, bytes there).

var errOverflow = errors.New("the result does not fit 64 bits")

func kindName(v any) string {
	switch v.(type) {
	case nil:
		return "nil"
	case bool:
		return "a boolean"
	case int:
		return "an integer"
	case float64:
		return "a number"
	case string:
		return "a string"
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	case time.Time:
		return "an instant"
	case Period:
		return "a period"
	}
	return "a value of another kind"
}

func notBool(where string, v any) error {
	return fmt.Errorf("%s needs true or false, not %s", where, kindName(v))
}

func mismatch(op string, a, b any) error {
	return fmt.Errorf("%s cannot take %s and %s", op, kindName(a), kindName(b))
}

// readPath reads a path from the variables; nil on the way is an error.
func readPath(root string, keys []string) fn {
	switch len(keys) {
	case 0:
		return func(fr *frame) (any, error) { return fr.env.Vars[root], nil }
	case 1:
		key := keys[0]
		return func(fr *frame) (any, error) {
			if m, ok := fr.env.Vars[root].(map[string]any); ok {
				return m[key], nil
			}
			return nil, cannotRead(fr.env.Vars[root], root, key)
		}
	}
	return func(fr *frame) (any, error) {
		v := fr.env.Vars[root]
		for i, key := range keys {
			m, ok := v.(map[string]any)
			if !ok {
				return nil, cannotRead(v, strings.Join(append([]string{root}, keys[:i]...), "."), key)
			}
			v = m[key]
		}
		return v, nil
	}
}

func cannotRead(base any, path, key string) error {
	if path == "" {
		path = "the value"
	}
	if base == nil {
		return fmt.Errorf("%s is nil and has no %s", path, key)
	}
	return fmt.Errorf("%s is %s and has no %s", path, kindName(base), key)
}

func readMember(base fn, path, key string, optional bool) fn {
	return func(fr *frame) (any, error) {
		v, err := base(fr)
		if err != nil {
			return nil, err
		}
		if m, ok := v.(map[string]any); ok {
			return m[key], nil
		}
		if v == nil && optional {
			return nil, errShort
		}
		return nil, cannotRead(v, path, key)
	}
}

func readIndex(base, key fn, optional bool) fn {
	return func(fr *frame) (any, error) {
		v, err := base(fr)
		if err != nil {
			return nil, err
		}
		if v == nil && optional {
			return nil, errShort
		}
		k, err := key(fr)
		if err != nil {
			return nil, err
		}
		switch x := v.(type) {
		case []any:
			i, ok := toInt(k)
			if !ok {
				return nil, fmt.Errorf("a list is read by an integer, not %s", kindName(k))
			}
			if i < 0 {
				i += len(x)
			}
			if i < 0 || i >= len(x) {
				return nil, errors.New("the index is outside the list")
			}
			return x[i], nil
		case map[string]any:
			s, ok := k.(string)
			if !ok {
				return nil, fmt.Errorf("an object is read by a string, not %s", kindName(k))
			}
			return x[s], nil
		}
		return nil, cannotRead(v, "", "[...]")
	}
}

func toInt(v any) (int, bool) {
	switch x := v.(type) {
	case int:
		return x, true
	case float64:
		return int(x), true
	}
	return 0, false
}

// cut is base[from:to]; negative bounds count from the end, those outside are
// brought inside.
func cut(base, from, to fn) fn {
	return func(fr *frame) (any, error) {
		v, err := base(fr)
		if err != nil {
			return nil, err
		}
		var runes []rune
		var n int
		switch x := v.(type) {
		case []any:
			n = len(x)
		case string:
			if err := fr.charge(4 * len(x)); err != nil {
				return nil, err
			}
			runes = []rune(x)
			n = len(runes)
		default:
			return nil, fmt.Errorf("[a:b] takes a list or a string, not %s", kindName(v))
		}
		bounds := [2]int{0, n}
		for i, f := range []fn{from, to} {
			if f == nil {
				continue
			}
			b, err := f(fr)
			if err != nil {
				return nil, err
			}
			at, ok := toInt(b)
			if !ok {
				return nil, fmt.Errorf("the bounds of [a:b] are integers, not %s", kindName(b))
			}
			if at < 0 {
				at += n
			}
			bounds[i] = max(0, at)
		}
		b := min(bounds[1], n)
		a := min(bounds[0], b)
		if l, ok := v.([]any); ok {
			return l[a:b:b], nil
		}
		return fr.str(string(runes[a:b]))
	}
}

func negate(v any) (any, error) {
	switch x := v.(type) {
	case int:
		if x == math.MinInt {
			return nil, errOverflow
		}
		return -x, nil
	case float64:
		return -x, nil
	}
	return nil, fmt.Errorf("- needs a number, not %s", kindName(v))
}

// floats widens two numbers of which one is a fraction.
func floats(a, b any) (x, y float64, ok bool) {
	switch v := a.(type) {
	case int:
		x = float64(v)
	case float64:
		x = v
	default:
		return 0, 0, false
	}
	switch v := b.(type) {
	case int:
		y = float64(v)
	case float64:
		y = v
	default:
		return 0, 0, false
	}
	return x, y, true
}

func add(fr *frame, a, b any) (any, error) {
	switch x := a.(type) {
	case int:
		if y, ok := b.(int); ok {
			s := x + y
			if (s > x) != (y > 0) && y != 0 {
				return nil, errOverflow
			}
			return s, nil
		}
	case string:
		switch y := b.(type) {
		case string:
			if err := fr.charge(len(x) + len(y)); err != nil {
				return nil, err
			}
			return x + y, nil
		case Period:
			t, err := instantOf(fr, x)
			if err != nil {
				return nil, err
			}
			return y.After(t, fr.zone()), nil
		}
	case time.Time:
		if y, ok := b.(Period); ok {
			return y.After(x, fr.zone()), nil
		}
	case Period:
		switch y := b.(type) {
		case Period:
			return Period{x.Days + y.Days, x.Working + y.Working, x.Elapsed + y.Elapsed}, nil
		case time.Time:
			return x.After(y, fr.zone()), nil
		case string:
			t, err := instantOf(fr, y)
			if err != nil {
				return nil, err
			}
			return x.After(t, fr.zone()), nil
		}
	}
	if x, y, ok := floats(a, b); ok {
		return x + y, nil
	}
	return nil, mismatch("+", a, b)
}

func subtract(fr *frame, a, b any) (any, error) {
	if x, ok := a.(int); ok {
		if y, ok := b.(int); ok {
			s := x - y
			if (s < x) != (y > 0) && y != 0 {
				return nil, errOverflow
			}
			return s, nil
		}
	}
	if x, y, ok := floats(a, b); ok {
		return x - y, nil
	}
	if p, ok := b.(Period); ok {
		if q, ok := a.(Period); ok {
			return Period{q.Days - p.Days, q.Working - p.Working, q.Elapsed - p.Elapsed}, nil
		}
		t, err := instantOf(fr, a)
		if err != nil {
			return nil, mismatch("-", a, b)
		}
		return Period{-p.Days, -p.Working, -p.Elapsed}.After(t, fr.zone()), nil
	}
	x, err := instantOf(fr, a)
	if err != nil {
		return nil, mismatch("-", a, b)
	}
	y, err := instantOf(fr, b)
	if err != nil {
		return nil, mismatch("-", a, b)
	}
	return Period{Elapsed: x.Sub(y)}, nil
}

func multiply(_ *frame, a, b any) (any, error) {
	if x, ok := a.(int); ok {
		if y, ok := b.(int); ok {
			p := x * y
			if x != 0 && (p/x != y || x == -1 && y == math.MinInt) {
				return nil, errOverflow
			}
			return p, nil
		}
	}
	if x, y, ok := floats(a, b); ok {
		return x * y, nil
	}
	return nil, mismatch("*", a, b)
}

// divide always gives a fraction; by zero it is an error, for an infinite number
// can neither be compared nor stored.
func divide(_ *frame, a, b any) (any, error) {
	x, y, ok := floats(a, b)
	switch {
	case !ok:
		return nil, mismatch("/", a, b)
	case y == 0:
		return nil, errors.New("division by zero")
	}
	return finite(x / y)
}

func finite(f float64) (any, error) {
	if math.IsInf(f, 0) || math.IsNaN(f) {
		return nil, errors.New("the result is no finite number")
	}
	return f, nil
}

func modulo(_ *frame, a, b any) (any, error) {
	x, ok := a.(int)
	y, ok2 := b.(int)
	switch {
	case !ok || !ok2:
		return nil, mismatch("%", a, b)
	case y == 0:
		return nil, errors.New("division by zero")
	case y == -1:
		return 0, nil
	}
	return x % y, nil
}

func power(_ *frame, a, b any) (any, error) {
	x, y, ok := floats(a, b)
	if !ok {
		return nil, mismatch("**", a, b)
	}
	return finite(math.Pow(x, y))
}

// span is a..b, both ends included.
func span(fr *frame, a, b any) (any, error) {
	x, ok := a.(int)
	y, ok2 := b.(int)
	if !ok || !ok2 {
		return nil, mismatch("..", a, b)
	}
	if y < x {
		return []any{}, nil
	}
	if n := y - x; n < 0 || n >= MaxMemory/24 {
		return nil, errMemory
	}
	n := y - x + 1
	if err := fr.charge(8 * n); err != nil {
		return nil, err
	}
	l, err := fr.list(n)
	if err != nil {
		return nil, err
	}
	for i := range n {
		l = append(l, x+i)
	}
	return l, nil
}

func stringTest(op string) func(*frame, any, any) (any, error) {
	test := strings.Contains
	switch op {
	case "startsWith":
		test = strings.HasPrefix
	case "endsWith":
		test = strings.HasSuffix
	}
	return func(fr *frame, a, b any) (any, error) {
		if a == nil || b == nil {
			return false, nil
		}
		x, ok := a.(string)
		y, ok2 := b.(string)
		if !ok || !ok2 {
			return nil, mismatch(op, a, b)
		}
		if err := fr.tick(1 + len(x)>>8); err != nil {
			return nil, err
		}
		return test(x, y), nil
	}
}
