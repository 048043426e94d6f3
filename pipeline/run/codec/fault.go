package codec

import (
	"errors"
	"time"

	"github.com/dime-bus/dime/internal/fault"
)

// Fault writes a fault for a record; FaultOf reads it back, nil for anything else.
func Fault(f *fault.Error) map[string]any {
	m := map[string]any{"kind": string(f.Kind)}
	put := func(k, v string) {
		if v != "" {
			m[k] = v
		}
	}
	put("name", f.Name)
	put("detail", f.Detail)
	put("pointer", f.Pointer)
	if f.Err != nil {
		put("cause", f.Err.Error())
	}
	if f.Sent {
		m["sent"] = true
	}
	if f.RetryAfter > 0 {
		m["after"] = int(f.RetryAfter)
	}
	if len(f.Raw) > 0 {
		m["raw"] = string(f.Raw[:min(len(f.Raw), 64<<10)])
	}
	return m
}

// FaultOf is the opposite of Fault.
func FaultOf(v any) *fault.Error {
	m, ok := v.(map[string]any)
	if !ok {
		return nil
	}
	str := func(k string) string { s, _ := m[k].(string); return s }
	f := &fault.Error{Kind: fault.Kind(str("kind")), Name: str("name"), Detail: str("detail"), Pointer: str("pointer")}
	f.Sent, _ = m["sent"].(bool)
	if n, ok := m["after"].(int); ok {
		f.RetryAfter = time.Duration(n)
	}
	if c := str("cause"); c != "" {
		f.Err = errors.New(c)
	}
	if r := str("raw"); r != "" {
		f.Raw = []byte(r)
	}
	return f
}
