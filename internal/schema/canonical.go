package schema

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// Canonical encodes v with sorted keys, no insignificant space and no HTML
// escapes: RFC 8785 but for the order of keys, which is that of their UTF-8
// bytes. Equal values give equal bytes. It takes the engine's kinds and
// time.Time at full speed; anything else goes by its JSON encoding. Errors:
// NaN and infinities, invalid UTF-8, more than 1,000 levels.
func Canonical(v any) ([]byte, error) { return AppendCanonical(nil, v) }

// AppendCanonical is Canonical onto the end of b.
func AppendCanonical(b []byte, v any) ([]byte, error) { return appendValue(b, v, 0) }

func appendValue(b []byte, v any, depth int) ([]byte, error) {
	if depth > 1000 {
		return nil, fmt.Errorf("encoding JSON: more than 1000 levels")
	}
	var err error
	switch v := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case bool:
		return strconv.AppendBool(b, v), nil
	case int:
		return strconv.AppendInt(b, int64(v), 10), nil
	case float64:
		return appendFloat(b, v)
	case string:
		return appendString(b, v)
	case []any:
		b = append(b, '[')
		for i, e := range v {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = appendValue(b, e, depth+1); err != nil {
				return nil, err
			}
		}
		return append(b, ']'), nil
	case map[string]any:
		return appendObject(b, v, depth)
	case time.Time:
		return appendString(b, v.Format(time.RFC3339Nano))
	case int64:
		return strconv.AppendInt(b, v, 10), nil
	case interface{ JSONValue() any }:
		return appendValue(b, v.JSONValue(), depth+1)
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encoding %T as JSON: %w", v, err)
	}
	plain, err := DecodeJSON(raw)
	if err != nil {
		return nil, fmt.Errorf("encoding %T as JSON: %w", v, err)
	}
	return appendValue(b, plain, depth+1)
}

func appendObject(b []byte, m map[string]any, depth int) ([]byte, error) {
	var room [16]string
	keys := room[:0]
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	b = append(b, '{')
	var err error
	for i, k := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendString(b, k); err != nil {
			return nil, err
		}
		b = append(b, ':')
		if b, err = appendValue(b, m[k], depth+1); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

// appendFloat writes a number as ECMAScript does (RFC 8785, 3.2.2.3).
func appendFloat(b []byte, f float64) ([]byte, error) {
	switch abs := math.Abs(f); {
	case math.IsNaN(f) || math.IsInf(f, 0):
		return nil, fmt.Errorf("encoding JSON: %v is not a number of JSON", f)
	case f == 0:
		return append(b, '0'), nil
	case abs < 1e-6 || abs >= 1e21:
		at := len(b)
		b = strconv.AppendFloat(b, f, 'e', -1, 64)
		// e-07 is e-7, e+21 stays
		if n := len(b); n-at >= 4 && b[n-4] == 'e' && b[n-2] == '0' {
			b[n-2] = b[n-1]
			b = b[:n-1]
		}
		return b, nil
	}
	return strconv.AppendFloat(b, f, 'f', -1, 64), nil
}

// Text writes a single value without JSON's quotes, as it stands in a path, a query
// or a header; nil is "". ok is false for lists and objects.
func Text(v any) (text string, ok bool) {
	switch v := v.(type) {
	case nil:
		return "", true
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case int:
		return strconv.Itoa(v), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	}
	return "", false
}

const hexDigits = "0123456789abcdef"

func appendString(b []byte, s string) ([]byte, error) {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				return nil, fmt.Errorf("encoding JSON: a string is not valid UTF-8")
			}
			i += n
			continue
		}
		if c >= 0x20 && c != '"' && c != '\\' {
			i++
			continue
		}
		b = append(b, s[start:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\b':
			b = append(b, '\\', 'b')
		case '\f':
			b = append(b, '\\', 'f')
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	return append(append(b, s[start:]...), '"'), nil
}
