// Package head is what a run began with: the request, who asked, and by what.
package head

import (
	"fmt"
	"time"

	"github.com/dime-bus/dime/internal/identity"
	"github.com/dime-bus/dime/pipeline/run/codec"
)

// Head is what a run began with; it is stored once, sealed.
type Head struct {
	Req     any
	Caller  *identity.Caller
	Trigger string
	Trace   string
	Key     string // the message's id, for a pipe's derived ids
	Parent  string // the run that started it
	Began   time.Time
}

// Encode writes it as canonical JSON.
func (h *Head) Encode() ([]byte, error) {
	m := map[string]any{"req": h.Req, "trigger": h.Trigger, "began": codec.Millis(h.Began)}
	if h.Caller != nil {
		m["caller"] = CallerMap(h.Caller)
	}
	for k, v := range map[string]string{"trace": h.Trace, "key": h.Key, "parent": h.Parent} {
		if v != "" {
			m[k] = v
		}
	}
	return codec.Append(nil, m)
}

// Of reads what Encode wrote.
func Of(b []byte) (Head, error) {
	v, err := codec.Decode(b)
	if err != nil {
		return Head{}, fmt.Errorf("reading a run's head: %w", err)
	}
	m, _ := v.(map[string]any)
	str := func(k string) string { s, _ := m[k].(string); return s }
	return Head{Req: m["req"], Caller: Caller(m["caller"]), Trigger: str("trigger"), Trace: str("trace"),
		Key: str("key"), Parent: str("parent"), Began: codec.Instant(m["began"])}, nil
}

// CallerMap is how expressions see a caller.
func CallerMap(c *identity.Caller) map[string]any {
	if c == nil {
		return nil
	}
	m := map[string]any{"kind": c.Kind, "assurance": c.Assurance}
	put := func(k, v string) {
		if v != "" {
			m[k] = v
		}
	}
	put("subject", c.Subject)
	put("tax_code", c.TaxCode)
	put("organisation", c.Organisation)
	put("office", c.Office)
	put("acting_for", c.ActingFor)
	put("mandate", c.Mandate)
	put("channel", c.Channel)
	put("language", c.Language)
	if len(c.Roles) > 0 {
		roles := make([]any, len(c.Roles))
		for i, r := range c.Roles {
			roles[i] = r
		}
		m["roles"] = roles
	}
	return m
}

// Caller reads what CallerMap wrote; nil if nobody asked.
func Caller(v any) *identity.Caller {
	m, ok := v.(map[string]any)
	if !ok {
		return nil
	}
	str := func(k string) string { s, _ := m[k].(string); return s }
	c := &identity.Caller{Kind: str("kind"), Subject: str("subject"), TaxCode: str("tax_code"),
		Organisation: str("organisation"), Office: str("office"), ActingFor: str("acting_for"),
		Mandate: str("mandate"), Channel: str("channel"), Language: str("language")}
	c.Assurance, _ = m["assurance"].(int)
	roles, _ := m["roles"].([]any)
	for _, r := range roles {
		if s, ok := r.(string); ok {
			c.Roles = append(c.Roles, s)
		}
	}
	return c
}
