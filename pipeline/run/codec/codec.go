// Package codec writes and reads the values of journal records.
package codec

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/dime-bus/dime/internal/schema"
)

// Append writes a value as JSON with sorted keys. It differs from
// schema.Canonical in one point: a float64 without fraction keeps its ".0", so
// that what a resumed run reads has the types that the live run had.
func Append(b []byte, v any) ([]byte, error) {
	switch x := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case bool:
		return strconv.AppendBool(b, x), nil
	case int:
		return strconv.AppendInt(b, int64(x), 10), nil
	case int64:
		return strconv.AppendInt(b, x, 10), nil
	case float64:
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return nil, fmt.Errorf("writing a record: %v is not a JSON number", x)
		}
		n := len(b)
		b = strconv.AppendFloat(b, x, 'g', -1, 64)
		for _, c := range b[n:] {
			if c == '.' || c == 'e' {
				return b, nil
			}
		}
		return append(b, ".0"...), nil
	case string:
		return appendString(b, x)
	case time.Time:
		return appendString(b, x.UTC().Format(time.RFC3339Nano))
	case []byte:
		return appendString(b, base64.StdEncoding.EncodeToString(x))
	case []any:
		b = append(b, '[')
		var err error
		for i, e := range x {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = Append(b, e); err != nil {
				return nil, err
			}
		}
		return append(b, ']'), nil
	case []string:
		l := make([]any, len(x))
		for i := range x {
			l[i] = x[i]
		}
		return Append(b, l)
	case map[string]any:
		b = append(b, '{')
		var err error
		for i, k := range slices.Sorted(maps.Keys(x)) {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = appendString(b, k); err != nil {
				return nil, err
			}
			b = append(b, ':')
			if b, err = Append(b, x[k]); err != nil {
				return nil, err
			}
		}
		return append(b, '}'), nil
	}
	return nil, fmt.Errorf("writing a record: a %T is not a JSON value", v)
}

func appendString(b []byte, s string) ([]byte, error) {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			q, err := json.Marshal(s)
			if err != nil {
				return nil, fmt.Errorf("writing a record: %w", err)
			}
			return append(b, q...), nil
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"'), nil
}

// Decode reads what Append wrote; nothing is nil.
func Decode(b []byte) (any, error) {
	if len(b) == 0 {
		return nil, nil
	}
	return schema.DecodeJSON(b)
}

// Millis is how an instant stands in a record: Unix milliseconds, 0 for none.
func Millis(t time.Time) int {
	if t.IsZero() {
		return 0
	}
	return int(t.UnixMilli())
}

// Instant reads what Millis wrote.
func Instant(v any) time.Time {
	n, _ := v.(int)
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(n)).UTC()
}
