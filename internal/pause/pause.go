// Package pause keeps which connectors a person has paused, for all processes of a
// city and over restarts, and tells the city when a pause begins and ends.
package pause

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/store"
)

// Owner is the table's; every process looks into it so often.
const (
	Owner = "pauses"
	look  = time.Second
)

// longest is a mistyped year's end.
const longest = 366 * 24 * time.Hour

// Row is a pause as it is kept, by the connector's name.
type Row struct {
	Connector string    `json:"connector"`
	Since     time.Time `json:"since"`
	Until     time.Time `json:"until"`
	Say       string    `json:"say"`
	By        string    `json:"by"`
}

// Act is the body of POST /connectors/{name}/pause and resume.
type Act struct {
	Until  *time.Time `json:"until,omitempty"`
	Say    string     `json:"say,omitempty"`
	As     string     `json:"as"`
	DryRun bool       `json:"dry_run,omitempty"`
}

// Report says what an act did.
type Report struct {
	Row
	State  string `json:"state"` // paused, resumed
	Runs   int    `json:"runs"`  // that went on
	DryRun bool   `json:"dry_run"`
}

// Pauses are those of a city. All fields are needed.
type Pauses struct {
	Table   store.Table
	Key     func(parts ...string) string // of an event, the same for a repetition
	Apply   func(map[string]Row)         // puts them in force in this process
	Resume  func(ctx context.Context, connector string) (runs int, err error)
	Publish func(ctx context.Context, eventType, id string, data any) error
	Log     *slog.Logger
}

// Begin pauses a connector; messages are the sentences that callers can be told.
func (s *Pauses) Begin(ctx context.Context, name string, x Act, messages []string) (Report, error) {
	now := time.Now().UTC()
	switch {
	case x.Until == nil || !x.Until.After(now) || x.Until.Sub(now) > longest:
		return Report{}, &fault.Error{Kind: fault.Invalid, Pointer: "/until", Detail: "`until` must be an instant to come, within a year"}
	case !slices.Contains(messages, x.Say):
		return Report{}, &fault.Error{Kind: fault.Invalid, Pointer: "/say", Detail: fmt.Sprintf("config/messages.yaml has no sentence %q%s", x.Say, schema.DidYouMean(x.Say, messages))}
	}
	p := Row{Connector: name, Since: now, Until: x.Until.UTC(), Say: x.Say, By: x.As}
	r := Report{Row: p, State: "paused", DryRun: x.DryRun}
	if x.DryRun {
		return r, nil
	}
	b, err := json.Marshal(p)
	if err != nil {
		return r, err
	}
	if err := s.Table.Update(ctx, name, func([]byte) ([]byte, error) { return b, nil }); err != nil {
		return r, fmt.Errorf("pausing %s: %w", name, err)
	}
	if err := s.Load(ctx); err != nil {
		return r, err
	}
	s.Log.Info("a person paused a connector", "connector", name, "until", p.Until, "as", x.As)
	return r, s.tell(ctx, p)
}

// End resumes a connector.
func (s *Pauses) End(ctx context.Context, name string, x Act) (Report, error) {
	ps, err := s.All(ctx)
	if err != nil {
		return Report{}, err
	}
	p, ok := ps[name]
	if !ok {
		return Report{}, fault.New(fault.Conflict, "connector %s is not paused", name)
	}
	r := Report{Row: p, State: "resumed", DryRun: x.DryRun}
	if x.DryRun {
		return r, nil
	}
	if r.Runs, err = s.end(ctx, p, x.As); err != nil {
		return r, err
	}
	s.Log.Info("a person resumed a connector", "connector", name, "runs", r.Runs, "as", x.As)
	return r, nil
}

// List gives what is paused, by name.
func (s *Pauses) List(ctx context.Context) ([]Row, error) {
	ps, err := s.All(ctx)
	list := []Row{}
	for _, name := range slices.Sorted(maps.Keys(ps)) {
		list = append(list, ps[name])
	}
	return list, err
}

// All reads what is paused, over its end or not.
func (s *Pauses) All(ctx context.Context) (map[string]Row, error) {
	rows, err := s.Table.List(ctx, "", "", 10_000)
	if err != nil {
		return nil, fmt.Errorf("reading the pauses of connectors: %w", err)
	}
	out := make(map[string]Row, len(rows))
	for _, r := range rows {
		var p Row
		if err := json.Unmarshal(r.Value, &p); err != nil {
			return nil, fmt.Errorf("reading the pause of %s: %w", r.Key, err)
		}
		out[r.Key] = p
	}
	return out, nil
}

// end ends a pause. Its row is over first, for other processes look at it, and
// goes last, so that what a crash interrupts is gone over again.
func (s *Pauses) end(ctx context.Context, p Row, by string) (n int, err error) {
	same := func(change func(Row) ([]byte, error)) error {
		err := s.Table.Update(ctx, p.Connector, func(old []byte) ([]byte, error) {
			var now Row
			if old == nil {
				return nil, nil
			}
			if err := json.Unmarshal(old, &now); err != nil {
				return nil, err
			}
			if !now.Since.Equal(p.Since) { // another pause has begun
				return old, nil
			}
			return change(now)
		})
		if err != nil {
			return fmt.Errorf("ending the pause of %s: %w", p.Connector, err)
		}
		return nil
	}
	now := time.Now().UTC()
	err = same(func(kept Row) ([]byte, error) {
		if now.Before(kept.Until) {
			kept.Until = now
		}
		return json.Marshal(kept)
	})
	if err == nil {
		err = s.Load(ctx)
	}
	if err != nil {
		return 0, err
	}
	if n, err = s.Resume(ctx, p.Connector); err != nil {
		return n, err
	}
	data := map[string]any{"connector": p.Connector, "at": now.Format(time.RFC3339)}
	if by != "" {
		data["by"] = by
	}
	if err := s.Publish(ctx, "connector.resumed", s.eventID("resumed", p), data); err != nil {
		return n, err
	}
	return n, same(func(Row) ([]byte, error) { return nil, nil })
}

func (s *Pauses) eventID(word string, p Row) string {
	return s.Key("connector."+word, p.Connector, p.Since.Format(time.RFC3339Nano))
}

// tell publishes the event; a repetition has the same id.
func (s *Pauses) tell(ctx context.Context, p Row) error {
	return s.Publish(ctx, "connector.paused", s.eventID("paused", p), map[string]any{
		"connector": p.Connector, "at": p.Since.Format(time.RFC3339), "until": p.Until.Format(time.RFC3339), "say": p.Say, "by": p.By})
}

// Load puts the pauses that are kept in force, before anything is called.
func (s *Pauses) Load(ctx context.Context) error {
	ps, err := s.All(ctx)
	if err == nil {
		s.Apply(ps)
	}
	return err
}

// Watch follows what other processes paused, and ends what is over.
func (s *Pauses) Watch(ctx context.Context) {
	told := false
	for clock.Sleep(ctx, clock.Real{}, look) == nil {
		ps, err := s.All(ctx)
		if err == nil {
			s.Apply(ps)
		}
		for _, p := range ps {
			if err == nil && !told { // a crash may have come between the row and the event
				err = s.tell(ctx, p)
			}
			if err == nil && !time.Now().Before(p.Until) {
				_, err = s.end(ctx, p, "")
			}
		}
		told = told || err == nil
		if err != nil && ctx.Err() == nil {
			s.Log.Warn("following the pauses of connectors", "error", err)
		}
	}
}
