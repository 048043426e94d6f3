package expression

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// order compares two values: -1, 0, 1; nan tells that neither holds.
func order(fr *frame, a, b any) (c int, nan bool, err error) {
	switch x := a.(type) {
	case int:
		if y, ok := b.(int); ok {
			return sign(x < y, x > y), false, nil
		}
	case string:
		if y, ok := b.(string); ok {
			if err := fr.tick(1 + min(len(x), len(y))>>8); err != nil {
				return 0, false, err
			}
			return strings.Compare(x, y), false, nil
		}
	case Period:
		y, ok := b.(Period)
		if !ok {
			return 0, false, errNoOrder
		}
		switch {
		case x.Days == y.Days && x.Working == y.Working:
			return sign(x.Elapsed < y.Elapsed, x.Elapsed > y.Elapsed), false, nil
		case x.Elapsed == y.Elapsed && x.Working == y.Working:
			return sign(x.Days < y.Days, x.Days > y.Days), false, nil
		case x.Elapsed == y.Elapsed && x.Days == y.Days:
			return sign(x.Working < y.Working, x.Working > y.Working), false, nil
		}
		return 0, false, errors.New("elapsed time cannot be compared with calendar days")
	}
	if x, y, ok := floats(a, b); ok {
		return sign(x < y, x > y), x != x || y != y, nil //nolint:gocritic // NaN
	}
	_, l := a.(time.Time)
	_, r := b.(time.Time)
	if l || r {
		x, err := instantOf(fr, a)
		if err != nil {
			return 0, false, err
		}
		y, err := instantOf(fr, b)
		if err != nil {
			return 0, false, err
		}
		return x.Compare(y), false, nil
	}
	return 0, false, errNoOrder
}

var errNoOrder = errors.New("these have no order")

func sign(less, more bool) int {
	switch {
	case less:
		return -1
	case more:
		return 1
	}
	return 0
}

func comparison(op string) func(*frame, any, any) (any, error) {
	var holds func(int) bool
	switch op {
	case "<":
		holds = func(c int) bool { return c < 0 }
	case ">":
		holds = func(c int) bool { return c > 0 }
	case "<=":
		holds = func(c int) bool { return c <= 0 }
	default:
		holds = func(c int) bool { return c >= 0 }
	}
	return func(fr *frame, a, b any) (any, error) {
		c, nan, err := order(fr, a, b)
		if err != nil {
			if errors.Is(err, errNoOrder) {
				err = mismatch(op, a, b)
			}
			return nil, err
		}
		return !nan && holds(c), nil
	}
}

// equalTo is l == r (or !=).
func equalTo(l, r value, not bool) fn {
	lf, rf := l.f, r.f
	if r.isLit && r.lit == nil {
		return func(fr *frame) (any, error) {
			a, err := lf(fr)
			return (a == nil) != not, err
		}
	}
	if s, ok := r.lit.(string); ok && r.isLit {
		return func(fr *frame) (any, error) {
			a, err := lf(fr)
			if err != nil {
				return nil, err
			}
			if x, ok := a.(string); ok {
				return (x == s) != not, nil
			}
			eq, err := equal(fr, a, s, false)
			return eq != not, err
		}
	}
	return func(fr *frame) (any, error) {
		a, err := lf(fr)
		if err != nil {
			return nil, err
		}
		b, err := rf(fr)
		if err != nil {
			return nil, err
		}
		eq, err := equal(fr, a, b, false)
		return eq != not, err
	}
}

// equal is expr's equality: 1 == 1.0, but inside maps kinds must be the same.
func equal(fr *frame, a, b any, strict bool) (bool, error) {
	switch x := a.(type) {
	case nil:
		return b == nil, nil
	case bool:
		y, ok := b.(bool)
		return ok && x == y, nil
	case string:
		if y, ok := b.(string); ok {
			if err := fr.tick(1 + len(x)>>8); err != nil {
				return false, err
			}
			return x == y, nil
		}
	case int:
		switch y := b.(type) {
		case int:
			return x == y, nil
		case float64:
			return !strict && float64(x) == y, nil
		}
		return false, nil
	case float64:
		switch y := b.(type) {
		case float64:
			return x == y, nil
		case int:
			return !strict && x == float64(y), nil
		}
		return false, nil
	case []any:
		y, ok := b.([]any)
		if !ok || len(x) != len(y) {
			return false, nil
		}
		for i := range x {
			if err := fr.tick(1); err != nil {
				return false, err
			}
			if eq, err := equal(fr, x[i], y[i], strict); !eq || err != nil {
				return false, err
			}
		}
		return true, nil
	case map[string]any:
		y, ok := b.(map[string]any)
		if !ok || len(x) != len(y) {
			return false, nil
		}
		for k, v := range x {
			if err := fr.tick(3); err != nil {
				return false, err
			}
			w, ok := y[k]
			if !ok {
				return false, nil
			}
			if eq, err := equal(fr, v, w, true); !eq || err != nil {
				return false, err
			}
		}
		return true, nil
	case Period:
		y, ok := b.(Period)
		return ok && x == y, nil
	}
	_, l := a.(time.Time)
	_, r := b.(time.Time)
	if l || r {
		x, err := instantOf(fr, a)
		if err != nil {
			return false, nil //nolint:nilerr // what is no instant equals none
		}
		y, err := instantOf(fr, b)
		if err != nil {
			return false, nil //nolint:nilerr // as above
		}
		return x.Equal(y), nil
	}
	return false, nil
}

// contains is a in b.
func contains(fr *frame, a, b any) (any, error) {
	switch x := b.(type) {
	case nil:
		return false, nil
	case []any:
		for _, e := range x {
			if err := fr.tick(1); err != nil {
				return nil, err
			}
			if eq, err := equal(fr, e, a, false); eq || err != nil {
				return eq, err
			}
		}
		return false, nil
	case map[string]any:
		k, ok := a.(string)
		if !ok && a != nil {
			return nil, fmt.Errorf("an object's keys are strings, not %s", kindName(a))
		}
		_, there := x[k]
		return there, nil
	}
	return nil, fmt.Errorf("`in` needs a list, not %s", kindName(b))
}
