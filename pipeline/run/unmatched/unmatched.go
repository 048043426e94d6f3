// Package unmatched is about events that move money and that no run took: dead
// letters (semantics 5.3), kept until a run takes them or a person settles them.
package unmatched

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/store"
)

// Event that no run took. It says nothing of what the event holds.
type Event struct {
	Event int64     `json:"event"`
	ID    string    `json:"id"`
	Type  string    `json:"type"`
	At    time.Time `json:"at"`
}

// Pays says whether a connector's events are about money.
func Pays(d connectors.Description) bool {
	for _, op := range d.Operations {
		if op.Effect == connectors.Pays {
			return true
		}
	}
	return false
}

// List gives them, oldest first, behind an event; 100 at most if limit is 0.
func List(ctx context.Context, s store.Journal, after int64, limit int) ([]Event, error) {
	if limit <= 0 {
		limit = 100
	}
	held, err := s.Held(ctx, after, limit)
	if err != nil {
		return nil, err
	}
	out := make([]Event, 0, len(held))
	for _, h := range held {
		out = append(out, Event{Event: h.Seq, ID: h.ID, Type: h.Type, At: h.At})
	}
	return out, nil
}

// table holds who settled what, and why (semantics 10.2).
const table = "settled_events"

// Settled is an event that a person settled: who, why and when.
type Settled struct {
	Event
	As      string    `json:"as"`
	Reason  string    `json:"reason"`
	Settled time.Time `json:"settled"`
}

// key sorts as its number does.
func key(event int64) string { return fmt.Sprintf("%019d", event) }

// ListSettled gives what persons settled, oldest event first, behind an event; 100
// at most if limit is 0.
func ListSettled(ctx context.Context, s store.Tables, after int64, limit int) ([]Settled, error) {
	if limit <= 0 {
		limit = 100
	}
	rows, err := s.Table(table).List(ctx, "", key(after), limit)
	if err != nil {
		return nil, err
	}
	out := make([]Settled, len(rows))
	for i, r := range rows {
		if err := json.Unmarshal(r.Value, &out[i]); err != nil {
			return nil, fmt.Errorf("reading who settled event %s: %w", r.Key, err)
		}
	}
	return out, nil
}

// Settle is a person's word that nothing is left to do about an event. Who and
// why is written first: a crash in between leaves the event to be settled again.
func Settle(ctx context.Context, s store.Store, now time.Time, event int64, as, reason string) (Event, error) {
	if as == "" || reason == "" {
		return Event{}, fault.New(fault.Invalid, "a person's act needs who (`as`) and why (`reason`)")
	}
	es, err := List(ctx, s, event-1, 1)
	if err != nil {
		return Event{}, err
	}
	if len(es) == 0 || es[0].Event != event {
		return Event{}, fault.New(fault.NotFound, "no event %d waits for a person: a run took it, or it is settled", event)
	}
	note, err := json.Marshal(Settled{Event: es[0], As: as, Reason: reason, Settled: now.UTC()})
	if err != nil {
		return Event{}, fmt.Errorf("noting who settled event %d: %w", event, err)
	}
	err = s.Table(table).Update(ctx, key(event), func([]byte) ([]byte, error) { return note, nil })
	if err != nil {
		return Event{}, err
	}
	_, err = s.SettleEvent(ctx, event)
	return es[0], err
}
