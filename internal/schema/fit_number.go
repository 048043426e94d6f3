package schema

import (
	"math"
	"math/big"
	"strconv"
)

// exactly is up to where every whole number is a float64.
const exactly = 1 << 53

// bound is one of minimum, maximum, exclusiveMinimum, exclusiveMaximum and
// multipleOf. The norm compares decimal fractions: a float64 stands for its
// shortest decimal form, as it does in JSON. A comparison of float64s is the same
// where both sides are ones; the rest goes by fractions.
type bound struct {
	keyword boundKind
	limit   *big.Rat
	f       float64
	isFloat bool // limit is f's decimal form
	n       int
	isInt   bool // limit is n
}

type boundKind uint8

const (
	minimum boundKind = iota
	maximum
	above
	below
	multiple
)

func newBound(k boundKind, limit *big.Rat) bound {
	b := bound{keyword: k, limit: limit}
	b.f, _ = limit.Float64()
	if !math.IsInf(b.f, 0) {
		b.isFloat = fraction(b.f).Cmp(limit) == 0
	}
	if limit.IsInt() && limit.Num().IsInt64() {
		b.n, b.isInt = int(limit.Num().Int64()), true
	}
	return b
}

// fraction is the number that f's shortest decimal form says.
func fraction(f float64) *big.Rat {
	r, ok := new(big.Rat).SetString(strconv.FormatFloat(f, 'g', -1, 64))
	if !ok {
		return new(big.Rat) // only of NaN and infinities, which are no JSON
	}
	return r
}

func (f *fitter) whole(n int) bool {
	for i := range f.bounds {
		b := &f.bounds[i]
		switch {
		case b.keyword == multiple && b.isInt && b.n != 0 && b.n != -1:
			if n%b.n != 0 {
				return false
			}
		case b.keyword == multiple:
			if !b.divides(new(big.Rat).SetInt64(int64(n))) {
				return false
			}
		case b.isInt:
			if !b.holds(order(n, b.n)) {
				return false
			}
		case b.isFloat && n <= exactly && n >= -exactly:
			if !b.holds(order(float64(n), b.f)) {
				return false
			}
		default:
			if !b.holds(new(big.Rat).SetInt64(int64(n)).Cmp(b.limit)) {
				return false
			}
		}
	}
	return true
}

func (f *fitter) number(x float64) bool {
	for i := range f.bounds {
		b := &f.bounds[i]
		switch {
		case b.keyword == multiple:
			if !b.divides(fraction(x)) {
				return false
			}
		case b.isFloat:
			if !b.holds(order(x, b.f)) {
				return false
			}
		default:
			if !b.holds(fraction(x).Cmp(b.limit)) {
				return false
			}
		}
	}
	return true
}

func (b *bound) divides(r *big.Rat) bool { return new(big.Rat).Quo(r, b.limit).IsInt() }

func (b *bound) holds(order int) bool {
	switch b.keyword {
	case minimum:
		return order >= 0
	case maximum:
		return order <= 0
	case above:
		return order > 0
	}
	return order < 0
}

func order[T int | float64](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// equal is equality of JSON values: numbers by their value, whatever their type.
func equal(a, b any) bool {
	switch a := a.(type) {
	case nil:
		return b == nil
	case bool:
		b, ok := b.(bool)
		return ok && a == b
	case string:
		b, ok := b.(string)
		return ok && a == b
	case int:
		switch b := b.(type) {
		case int:
			return a == b
		case float64:
			return sameNumber(a, b)
		}
	case float64:
		switch b := b.(type) {
		case int:
			return sameNumber(b, a)
		case float64:
			return a == b && !math.IsInf(a, 0)
		}
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !equal(a[i], b[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for k, v := range a {
			w, ok := b[k]
			if !ok || !equal(v, w) {
				return false
			}
		}
		return true
	}
	return false
}

func sameNumber(n int, f float64) bool {
	if f != math.Trunc(f) || math.IsInf(f, 0) {
		return false
	}
	if n <= exactly && n >= -exactly {
		return float64(n) == f
	}
	return new(big.Rat).SetInt64(int64(n)).Cmp(fraction(f)) == 0
}
