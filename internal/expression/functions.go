package expression

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// What the functions do at run time; arguments of an open type are checked here.

func argString(in []any, i int) (string, error) {
	if s, ok := in[i].(string); ok {
		return s, nil
	}
	return "", fmt.Errorf("a string must stand here, not %s", kindName(in[i]))
}

func argInt(in []any, i int) (int, error) {
	if n, ok := in[i].(int); ok {
		return n, nil
	}
	return 0, fmt.Errorf("an integer must stand here, not %s", kindName(in[i]))
}

func argList(in []any, i int) ([]any, error) {
	if l, ok := in[i].([]any); ok {
		return l, nil
	}
	return nil, fmt.Errorf("a list must stand here, not %s", kindName(in[i]))
}

// strs reads n string arguments, counting their length as work.
func strs(fr *frame, in []any) ([3]string, error) {
	var out [3]string
	for i := 0; i < len(in) && i < 3; i++ {
		s, err := argString(in, i)
		if err != nil {
			return out, err
		}
		if err := fr.tick(1 + len(s)>>6); err != nil {
			return out, err
		}
		out[i] = s
	}
	return out, nil
}

func upper(fr *frame, in []any) (any, error) {
	s, err := strs(fr, in)
	if err != nil {
		return nil, err
	}
	return fr.str(strings.ToUpper(s[0]))
}

func lower(fr *frame, in []any) (any, error) {
	s, err := strs(fr, in)
	if err != nil {
		return nil, err
	}
	return fr.str(strings.ToLower(s[0]))
}

func trim(fr *frame, in []any) (any, error) {
	s, err := strs(fr, in)
	if err != nil {
		return nil, err
	}
	if len(in) == 1 {
		return strings.TrimSpace(s[0]), nil
	}
	if err := fr.tick(len(s[0]) * (1 + len(s[1])) >> 4); err != nil {
		return nil, err
	}
	return strings.Trim(s[0], s[1]), nil
}

func affix(cut func(s, affix string) string) runner {
	return func(fr *frame, in []any) (any, error) {
		s, err := strs(fr, in)
		if err != nil {
			return nil, err
		}
		if len(in) == 1 {
			s[1] = " "
		}
		return cut(s[0], s[1]), nil
	}
}

func split(fr *frame, in []any) (any, error) {
	s, err := strs(fr, in[:2])
	if err != nil {
		return nil, err
	}
	n := -1
	if len(in) == 3 {
		if n, err = argInt(in, 2); err != nil {
			return nil, err
		}
	}
	parts := strings.Count(s[0], s[1]) + 1
	if n >= 0 {
		parts = min(parts, n)
	}
	if err := fr.charge(32 * parts); err != nil {
		return nil, err
	}
	out := make([]any, 0, parts)
	for _, p := range strings.SplitN(s[0], s[1], n) {
		out = append(out, p)
	}
	return out, nil
}

func replace(fr *frame, in []any) (any, error) {
	s, err := strs(fr, in[:3])
	if err != nil {
		return nil, err
	}
	n := -1
	if len(in) == 4 {
		if n, err = argInt(in, 3); err != nil {
			return nil, err
		}
	}
	hits := strings.Count(s[0], s[1])
	if n >= 0 {
		hits = min(hits, n)
	}
	over, grown := bits.Mul64(uint64(hits), uint64(len(s[2]))) //nolint:gosec // both are not negative
	if over != 0 || grown > MaxMemory {
		return nil, errMemory
	}
	if err := fr.charge(len(s[0]) + int(grown)); err != nil { //nolint:gosec // at most MaxMemory
		return nil, err
	}
	return strings.Replace(s[0], s[1], s[2], n), nil
}

func repeat(fr *frame, in []any) (any, error) {
	s, err := argString(in, 0)
	if err != nil {
		return nil, err
	}
	n, err := argInt(in, 1)
	if err != nil {
		return nil, err
	}
	if n < 0 {
		return nil, errors.New("a string cannot be repeated less than 0 times")
	}
	if s == "" {
		return "", nil
	}
	if n > MaxMemory/len(s) {
		return nil, errMemory
	}
	if err := fr.charge(n * len(s)); err != nil {
		return nil, err
	}
	return strings.Repeat(s, n), nil
}

// index counts characters, as len and [a:b] do.
func index(find func(s, part string) int) runner {
	return func(fr *frame, in []any) (any, error) {
		s, err := strs(fr, in)
		if err != nil {
			return nil, err
		}
		at := find(s[0], s[1])
		if at > 0 {
			at = utf8.RuneCountInString(s[0][:at])
		}
		return at, nil
	}
}

func affixTest(op string) runner {
	test := stringTest(op)
	return func(fr *frame, in []any) (any, error) {
		if _, err := strs(fr, in); err != nil {
			return nil, err
		}
		return test(fr, in[0], in[1])
	}
}

func join(fr *frame, in []any) (any, error) {
	l, err := argList(in, 0)
	if err != nil {
		return nil, err
	}
	glue := ""
	if len(in) == 2 {
		if glue, err = argString(in, 1); err != nil {
			return nil, err
		}
	}
	parts := make([]string, len(l))
	for i := range l {
		s, err := argString(l, i)
		if err != nil {
			return nil, err
		}
		if err := fr.charge(16 + len(s) + len(glue)); err != nil {
			return nil, err
		}
		parts[i] = s
	}
	return strings.Join(parts, glue), nil
}

func keys(fr *frame, in []any) (any, error) {
	m, ok := in[0].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("an object must stand here, not %s", kindName(in[0]))
	}
	out, err := fr.list(2 * len(m))
	if err != nil {
		return nil, err
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k)
	}
	return out, nil
}

// values are in the order of the sorted keys, so that they are the same each time.
func values(fr *frame, in []any) (any, error) {
	m, ok := in[0].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("an object must stand here, not %s", kindName(in[0]))
	}
	out, err := fr.list(2 * len(m))
	if err != nil {
		return nil, err
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[k])
	}
	return out, nil
}

func length(fr *frame, in []any) (any, error) {
	switch x := in[0].(type) {
	case []any:
		return len(x), nil
	case map[string]any:
		return len(x), nil
	case string:
		if err := fr.tick(1 + len(x)>>8); err != nil {
			return nil, err
		}
		return utf8.RuneCountInString(x), nil
	}
	return nil, fmt.Errorf("len takes a list, a string or an object, not %s", kindName(in[0]))
}

func stringValue(fr *frame, in []any) (any, error) {
	switch x := in[0].(type) {
	case string:
		return x, nil
	case bool:
		return strconv.FormatBool(x), nil
	case int:
		return strconv.Itoa(x), nil
	case float64:
		// as expr prints it
		return fmt.Sprintf("%v", x), nil
	case time.Time:
		return x.Format(time.RFC3339Nano), nil
	case Period:
		return x.String(), nil
	}
	return nil, fmt.Errorf("string takes a single value, not %s", kindName(in[0]))
}

func intValue(_ *frame, in []any) (any, error) {
	switch x := in[0].(type) {
	case int:
		return x, nil
	case float64:
		if !(x >= -1<<63 && x < 1<<63) {
			return nil, errOverflow
		}
		return int(x), nil
	case string:
		n, err := strconv.Atoi(x)
		if err != nil {
			return nil, errors.New("the string is no integer")
		}
		return n, nil
	}
	return nil, fmt.Errorf("int takes a number or a string, not %s", kindName(in[0]))
}

func absolute(_ *frame, in []any) (any, error) {
	switch x := in[0].(type) {
	case int:
		if x < 0 {
			return negate(x)
		}
		return x, nil
	case float64:
		if x < 0 { // -0 stays, as in expr
			return -x, nil
		}
		return x, nil
	}
	return nil, fmt.Errorf("abs takes a number, not %s", kindName(in[0]))
}

func rounding(name string) runner {
	round := func(f float64) float64 { return f }
	switch name {
	case "ceil":
		round = math.Ceil
	case "floor":
		round = math.Floor
	case "round":
		round = math.Round
	}
	return func(_ *frame, in []any) (any, error) {
		switch x := in[0].(type) {
		case int:
			return float64(x), nil
		case float64:
			return round(x), nil
		case string:
			if name != "float" {
				break
			}
			f, err := strconv.ParseFloat(x, 64)
			if err != nil {
				return nil, errors.New("the string is no number")
			}
			return finite(f)
		}
		return nil, fmt.Errorf("%s takes a number, not %s", name, kindName(in[0]))
	}
}

// numbers calls do with every number of the arguments, lists opened.
func numbers(fr *frame, in []any, depth int, do func(any) error) error {
	if depth > MaxNested {
		return errors.New("the lists are nested too deep")
	}
	for _, v := range in {
		if err := fr.tick(1); err != nil {
			return err
		}
		var err error
		switch x := v.(type) {
		case int, float64:
			err = do(x)
		case []any:
			err = numbers(fr, x, depth+1, do)
		default:
			err = fmt.Errorf("numbers must stand here, not %s", kindName(v))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func extreme(largest bool) runner {
	return func(fr *frame, in []any) (any, error) {
		var best any
		err := numbers(fr, in, 0, func(v any) error {
			if best == nil {
				best = v
				return nil
			}
			c, _, err := order(fr, best, v)
			if c < 0 && largest || c > 0 && !largest {
				best = v
			}
			return err
		})
		return best, err
	}
}

func mean(median bool) runner {
	return func(fr *frame, in []any) (any, error) {
		var all []float64
		err := numbers(fr, in, 0, func(v any) error {
			f, _, _ := floats(v, 0)
			all = append(all, f)
			return fr.charge(16)
		})
		if err != nil {
			return nil, err
		}
		n := len(all)
		if n == 0 {
			return 0.0, nil
		}
		if median {
			if err := fr.tick(4 * n); err != nil {
				return nil, err
			}
			slices.Sort(all)
			if n%2 == 1 {
				return all[n/2], nil
			}
			return finite((all[n/2-1] + all[n/2]) / 2)
		}
		sum := 0.0
		for _, f := range all {
			sum += f
		}
		return finite(sum / float64(n))
	}
}
