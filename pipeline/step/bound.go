package step

import (
	"time"

	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/pipeline/run/codec"
)

// Bounds of semantics 6.3, in bytes of JSON. A record is a value and a few words
// about it, so that a value leaves room for them.
const (
	maxValue = 8<<20 - 16<<10
	maxScope = 16 << 20
)

// weigh takes a value's least size as JSON off what is left. It ends as soon as
// nothing is: values share parts, so that a small one in memory can be endless
// when it is written out.
func weigh(v any, left int) int {
	switch v := v.(type) {
	case string:
		left -= len(v) + 2
	case map[string]any:
		left -= 2
		for k, e := range v {
			if left < 0 {
				return left
			}
			left = weigh(e, left-len(k)-3)
		}
	case []any:
		left -= 2
		for _, e := range v {
			if left < 0 {
				return left
			}
			left = weigh(e, left-1)
		}
	case time.Time:
		left -= 20
	default:
		left--
	}
	return left
}

// Fitting says whether a value is at most 8 MiB. The fault was not sent and never
// shows the value.
func Fitting(v any, what string) *fault.Error {
	left := weigh(v, maxValue)
	if left > maxValue-maxValue/6 {
		return nil // though every byte of it were written as \u0000
	}
	if left >= 0 {
		b, err := codec.Append(nil, v)
		if err != nil || len(b) <= maxValue {
			return nil //nolint:nilerr // what is no JSON is refused where it is written
		}
	}
	return fault.New(fault.Internal, "%s is larger than 8 MiB (semantics 6.3): hand it on by claim check", what)
}

// carry counts what a name adds to the scope.
func (f *Frame) carry(v any) *fault.Error {
	if f.weight == nil || v == nil {
		return nil
	}
	left := maxScope - *f.weight
	after := weigh(v, left)
	*f.weight += left - after
	if after >= 0 || f.Fx.Collecting() {
		return nil
	}
	return fault.New(fault.Internal, "what this step sees is larger than 16 MiB (semantics 6.3): hand it on by claim check")
}

// scope begins a scope with a request.
func (f *Frame) scope(req any) {
	n := maxScope - weigh(req, maxScope)
	f.weight = &n
}
