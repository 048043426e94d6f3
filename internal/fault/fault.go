// Package fault is the one table of what can go wrong: every error that leaves
// a connector, a step, the store or the edge is a *fault.Error of one Kind, and
// the Kind decides the HTTP problem, the broker's action, the log level and the
// metric label. What may be shown to a caller is kept apart from what may not.
package fault

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// Kind is one row of the table. The words are the ones a route author writes
// under `errors:`.
type Kind string

const (
	Invalid     Kind = "invalid"     // the far side refused the shape or the values of the request
	Denied      Kind = "denied"      // no right to it
	NotFound    Kind = "not_found"   // it does not exist
	Conflict    Kind = "conflict"    // it exists already, or its state does not allow it
	Rejected    Kind = "rejected"    // refused for a reason of the far side's own
	Throttled   Kind = "throttled"   // too many requests; not carried out
	Timeout     Kind = "timeout"     // a safe call got no answer in time
	Unavailable Kind = "unavailable" // the far side can't be reached or can't serve now
	Contract    Kind = "contract"    // the answer breaks the operation's output schema
	Unknown     Kind = "unknown"     // an effect was sent and its outcome is not known
	Internal    Kind = "internal"    // ours: evaluation, a bug
)

// Action is what becomes of a broker message whose run ended so.
type Action string

const (
	Ack   Action = "ack"   // settled: nothing more will come of it
	Retry Action = "retry" // not accepted: to a retry queue
	Park  Action = "park"  // a person must look
)

// Row is what a Kind means at every edge.
type Row struct {
	Kind      Kind
	Status    int    // HTTP status of the problem when nobody mapped the fault
	Title     string // RFC 9457 title
	Broker    Action
	Level     slog.Level
	Transient bool // another attempt may succeed by itself
	Nameable  bool // may stand under `errors:` (unknown and internal may not)
}

var table = [...]Row{
	{Invalid, 502, "The system behind refused the request", Park, slog.LevelWarn, false, true},
	{Denied, 502, "The system behind denied access", Park, slog.LevelError, false, true},
	{NotFound, 404, "Not found", Ack, slog.LevelInfo, false, true},
	{Conflict, 409, "Conflict with the present state", Ack, slog.LevelInfo, false, true},
	{Rejected, 422, "Refused by the system behind", Ack, slog.LevelWarn, false, true},
	{Throttled, 503, "The system behind is busy", Retry, slog.LevelWarn, true, true},
	{Timeout, 504, "The system behind did not answer in time", Retry, slog.LevelWarn, true, true},
	{Unavailable, 503, "The system behind is unavailable", Retry, slog.LevelWarn, true, true},
	{Contract, 502, "The system behind broke its contract", Park, slog.LevelError, false, true},
	{Unknown, 504, "The outcome is not known yet", Park, slog.LevelError, false, false},
	{Internal, 500, "Internal error", Park, slog.LevelError, false, false},
}

// Table returns a copy of all rows, for documentation and tests.
func Table() []Row { return append([]Row(nil), table[:]...) }

// Row returns the kind's row; an unknown word is treated as Internal.
func (k Kind) Row() Row {
	for _, r := range table {
		if r.Kind == k {
			return r
		}
	}
	return table[len(table)-1]
}

// ProblemType is the type of an RFC 9457 problem. Its words are joined by hyphens,
// in URNs as in the keys of sentences; a kind's own word has an underscore, for it
// stands in routes.
func ProblemType(word string) string {
	return "urn:dime:problem:" + strings.ReplaceAll(word, "_", "-")
}

// Valid says whether k is a word of the table.
func (k Kind) Valid() bool { return k.Row().Kind == k }

// Error is a fault. Detail may be shown to the caller; Err may not.
type Error struct {
	Kind       Kind
	Name       string        // the operation's own fault name, looked up before Kind under `errors:`; "" if it has none
	Sent       bool          // the request may have reached the far side; false means surely no effect
	RetryAfter time.Duration // what the far side asked for; 0 if it said nothing
	Until      time.Time     // the far side is held back until then (a paused connector); zero if it is not
	Say        string        // key of the sentence that tells a caller more (config/messages.yaml); "" if there is none
	Detail     string        // safe to show: no personal values, no addresses of ours
	Pointer    string        // RFC 6901 pointer of the offending field, if one is known
	Raw        []byte        // the far side's answer, kept for a parked contract fault (at most 64 KiB); never shown
	Err        error         // cause for the log; never shown
}

func (e *Error) Error() string {
	s := string(e.Kind)
	if e.Name != "" && e.Name != s {
		s = e.Name + " (" + s + ")"
	}
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// New makes a fault with a detail that may be shown.
func New(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Detail: fmt.Sprintf(format, args...)}
}

// From returns err's *Error, or wraps it as Internal.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Kind: Internal, Err: err}
}
