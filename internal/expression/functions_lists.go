package expression

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/bits"
	"slices"
)

func end(last bool) runner {
	return func(_ *frame, in []any) (any, error) {
		if in[0] == nil {
			return nil, nil
		}
		l, err := argList(in, 0)
		if err != nil || len(l) == 0 {
			return nil, err
		}
		if last {
			return l[len(l)-1], nil
		}
		return l[0], nil
	}
}

func take(_ *frame, in []any) (any, error) {
	l, err := argList(in, 0)
	if err != nil {
		return nil, err
	}
	n, err := argInt(in, 1)
	if err != nil {
		return nil, err
	}
	if n < 0 {
		return nil, errors.New("take needs a count of at least 0")
	}
	n = min(n, len(l))
	return l[:n:n], nil
}

func reverse(fr *frame, in []any) (any, error) {
	l, err := argList(in, 0)
	if err != nil {
		return nil, err
	}
	out, err := fr.list(len(l))
	if err != nil {
		return nil, err
	}
	out = append(out, l...)
	slices.Reverse(out)
	return out, nil
}

// uniq keeps the first of equals. It compares each with each, as equality has no
// hash; the clock bounds it.
func uniq(fr *frame, in []any) (any, error) {
	l, err := argList(in, 0)
	if err != nil {
		return nil, err
	}
	out, err := fr.list(len(l))
	if err != nil {
		return nil, err
	}
next:
	for _, v := range l {
		for _, w := range out {
			if err := fr.tick(1); err != nil {
				return nil, err
			}
			eq, err := equal(fr, v, w, false)
			if err != nil {
				return nil, err
			}
			if eq {
				continue next
			}
		}
		out = append(out, v)
	}
	return out, nil
}

func concat(fr *frame, in []any) (any, error) {
	n := 0
	for i := range in {
		l, err := argList(in, i)
		if err != nil {
			return nil, err
		}
		n += len(l)
	}
	out, err := fr.list(n)
	if err != nil {
		return nil, err
	}
	for i := range in {
		l, _ := argList(in, i)
		out = append(out, l...)
	}
	return out, nil
}

func flatten(fr *frame, in []any) (any, error) {
	l, err := argList(in, 0)
	if err != nil {
		return nil, err
	}
	out := []any{}
	var walk func(l []any, depth int) error
	walk = func(l []any, depth int) error {
		if depth > 1000 {
			return errors.New("the lists are nested too deep")
		}
		for _, v := range l {
			if sub, ok := v.([]any); ok {
				if err := walk(sub, depth+1); err != nil {
					return err
				}
				continue
			}
			if err := fr.charge(16); err != nil {
				return err
			}
			out = append(out, v)
		}
		return fr.tick(1)
	}
	if err := walk(l, 0); err != nil {
		return nil, err
	}
	return out, nil
}

func sorted(fr *frame, in []any) (any, error) {
	l, err := argList(in, 0)
	if err != nil {
		return nil, err
	}
	out, err := fr.list(len(l))
	if err != nil {
		return nil, err
	}
	out = append(out, l...)
	desc := len(in) == 2 && in[1] == "desc"
	var failed error
	slices.SortStableFunc(out, func(a, b any) int { return compareFor(fr, a, b, desc, &failed) })
	if failed != nil {
		return nil, failed
	}
	return out, nil
}

func instantFunc(fr *frame, in []any) (any, error) { return toInstant(fr, in[0]) }

func days(_ *frame, in []any) (any, error) {
	n, err := argInt(in, 0)
	if err != nil {
		return nil, err
	}
	if n > maxDays || n < -maxDays {
		return nil, fmt.Errorf("days takes at most %d", maxDays)
	}
	return Period{Days: n}, nil
}

func workingDays(_ *frame, in []any) (any, error) {
	n, err := argInt(in, 0)
	if err != nil {
		return nil, err
	}
	if n > maxDays/100 || n < -maxDays/100 {
		return nil, fmt.Errorf("working_days takes at most %d", maxDays/100)
	}
	return Period{Working: n}, nil
}

func nextLocalFunc(fr *frame, in []any) (any, error) {
	s, err := argString(in, 0)
	if err != nil {
		return nil, err
	}
	h, m, sec, ok := parseWall(s)
	if !ok {
		return nil, errors.New(`next_local needs a time of day such as "07:00"`)
	}
	return nextLocal(fr.now(), h, m, sec, fr.zone()), nil
}

func valid(name string, test func(string) bool) runner {
	return func(_ *frame, in []any) (any, error) {
		s, ok := in[0].(string)
		if !ok {
			return nil, fmt.Errorf("%s needs a string, not %s", name, kindName(in[0]))
		}
		return test(s), nil
	}
}

// mask hides all but the last three characters; of short strings all.
func mask(fr *frame, in []any) (any, error) {
	s, err := argString(in, 0)
	if err != nil {
		return nil, err
	}
	if err := fr.charge(4 * len(s)); err != nil {
		return nil, err
	}
	r := []rune(s)
	if len(r) < 9 {
		return "***", nil
	}
	return "***" + string(r[len(r)-3:]), nil
}

// splitCents shares an amount so that the parts differ by a cent at most (or
// follow the weights) and their sum is the amount; the first parts get the rest.
func splitCents(fr *frame, in []any) (any, error) {
	amount, err := argInt(in, 0)
	if err != nil {
		return nil, err
	}
	var weights []int
	switch x := in[1].(type) {
	case int:
		if x < 1 || x > 10_000 {
			return nil, errors.New("an amount is split into 1 to 10000 parts")
		}
		weights = make([]int, x)
		for i := range weights {
			weights[i] = 1
		}
	case []any:
		for i := range x {
			w, err := argInt(x, i)
			if err != nil {
				return nil, err
			}
			if w < 0 {
				return nil, errors.New("a weight is not negative")
			}
			weights = append(weights, w)
		}
	default:
		return nil, fmt.Errorf("split_cents needs a number of parts or a list of weights, not %s", kindName(in[1]))
	}
	total := 0
	for _, w := range weights {
		if total+w < total {
			return nil, errOverflow
		}
		total += w
	}
	if total == 0 {
		return nil, errors.New("the weights add up to 0")
	}
	out, err := fr.list(len(weights))
	if err != nil {
		return nil, err
	}
	if amount == math.MinInt {
		return nil, errOverflow
	}
	left, sgn := amount, 1
	if amount < 0 {
		left, sgn = -amount, -1
	}
	whole, rest := left, left
	for _, w := range weights {
		hi, lo := bits.Mul64(uint64(whole), uint64(w)) //nolint:gosec // neither is negative
		share, _ := bits.Div64(hi, lo, uint64(total))  //nolint:gosec // total >= w, so it fits
		out = append(out, sgn*int(share))              //nolint:gosec // at most the amount
		rest -= int(share)                             //nolint:gosec // as above
	}
	for i := 0; rest > 0; i = (i + 1) % len(out) {
		if weights[i] > 0 {
			out[i] = out[i].(int) + sgn
			rest--
		}
	}
	return out, nil
}

type rankKey struct {
	name string
	desc bool
}

// ranking sorts copies of the items by the keys, nil last, equals in their old
// order, and gives each its `rank`: equals share one.
func ranking(by []rankKey) runner {
	return func(fr *frame, in []any) (any, error) {
		l, err := argList(in, 0)
		if err != nil {
			return nil, err
		}
		sortedItems, err := fr.list(2 * len(l))
		if err != nil {
			return nil, err
		}
		for _, v := range l {
			m, ok := v.(map[string]any)
			if !ok {
				return nil, fmt.Errorf("rank takes a list of objects, not of %s", kindName(v))
			}
			sortedItems = append(sortedItems, m)
		}
		var failed error
		cmp := func(a, b any) int {
			x, _ := a.(map[string]any)
			y, _ := b.(map[string]any)
			for _, k := range by {
				v, w := x[k.name], y[k.name]
				switch {
				case v == nil && w == nil:
					continue
				case v == nil:
					return 1
				case w == nil:
					return -1
				}
				if c := compareFor(fr, v, w, k.desc, &failed); c != 0 {
					return c
				}
			}
			return 0
		}
		slices.SortStableFunc(sortedItems, cmp)
		out := make([]any, 0, len(l))
		place := 0
		for i, v := range sortedItems {
			if i == 0 || cmp(sortedItems[i-1], v) != 0 {
				place = i + 1
			}
			m, _ := v.(map[string]any)
			if err := fr.charge(64 * (len(m) + 1)); err != nil {
				return nil, err
			}
			c := maps.Clone(m)
			if c == nil {
				c = map[string]any{}
			}
			c["rank"] = place
			out = append(out, c)
		}
		if failed != nil {
			return nil, failed
		}
		return out, nil
	}
}
