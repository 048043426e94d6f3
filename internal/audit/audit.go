// Package audit is what is done with the store's audit: acts are written into it
// with no codice fiscale in clear, its rows are handed out as JSON lines and
// verified, and its head is told to a witness outside the store.
package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"strings"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/taxcode"
)

// Channels by which acts come.
const (
	Admin  = "admin"  // the admin face, under the name that the person gave
	CLI    = "cli"    // a command on this machine, under the user's name
	Server = "server" // what a process does by itself
)

// Log writes acts by one channel.
type Log struct {
	Store   store.Audit
	Channel string
}

// Act is what is written. Detail holds scalars and lists of them, nothing personal.
type Act struct {
	Who, Action, Target, Reason string
	Person                      string // codice fiscale; stored as token and under the person's key
	Detail                      map[string]any
}

// Write returns when the act's row is durable, with its number.
func (l Log) Write(ctx context.Context, a Act) (int64, error) {
	e, err := Entry(l.Channel, a)
	if err != nil {
		return 0, err
	}
	r, err := l.Store.AppendAudit(ctx, e)
	return r.Seq, err
}

// Record is Write for those who need no number.
func (l Log) Record(ctx context.Context, who, action, target, reason string, detail map[string]any) error {
	_, err := l.Write(ctx, Act{Who: who, Action: action, Target: target, Reason: reason, Detail: detail})
	return err
}

// Entry is an act as a store takes it: what people write in a reason or a name is
// free text, so codici fiscali in it are hidden.
func Entry(channel string, a Act) (store.AuditEntry, error) {
	e := store.AuditEntry{Who: Hide(a.Who), Channel: channel, Action: a.Action, Target: Hide(a.Target), Reason: Hide(a.Reason)}
	if code := strings.ToUpper(strings.TrimSpace(a.Person)); taxcode.Valid(code) {
		e.Person = code
	}
	if len(a.Detail) > 0 {
		b, err := json.Marshal(hidden(maps.Clone(a.Detail)))
		if err != nil {
			return e, fmt.Errorf("writing the audit: encoding the detail of %s: %w", a.Action, err)
		}
		e.Detail = string(b)
	}
	return e, nil
}

// Hidden stands where a codice fiscale was.
const Hidden = "[codice fiscale]"

// Hide takes codici fiscali out of free text, also those with a wrong check
// character and those of omocodia (DM 23.12.1976, art. 6).
func Hide(s string) string {
	return regexp.MustCompile(`(?i)\b[a-z]{6}[0-9lmnp-v]{2}[abcdehlmprst][0-9lmnp-v]{2}[a-z][0-9lmnp-v]{3}[a-z]\b`).ReplaceAllString(s, Hidden)
}

func hidden(v any) any {
	switch v := v.(type) {
	case string:
		return Hide(v)
	case []string:
		out := make([]string, len(v))
		for i, s := range v {
			out[i] = Hide(s)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = hidden(x)
		}
		return out
	case map[string]any:
		for k, x := range v {
			v[k] = hidden(x)
		}
	}
	return v
}
