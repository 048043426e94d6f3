// Package disclosing gathers what the city's bus holds of a person, in clear, for
// who asks for it (GDPR art. 15).
package disclosing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/pipeline/run/codec"
)

// Memory is what is needed of a store.
type Memory interface {
	store.Operations
	Load(ctx context.Context, id store.RunID) (store.Run, []store.Record, error)
	PublicID(id store.RunID) string
}

// Desk gathers.
type Desk struct {
	Store     Memory
	Log       func(ctx context.Context, topic string, after int64, max int) ([]store.Message, error)
	Topics    []string                                               // types of events that the city knows
	Documents func(ctx context.Context, taxCode string) (any, error) // issued to the person; nil where none are issued
	Purpose   func(route string) string                              // of a route in force; "" where it is gone
	Now       func() time.Time
}

// Export is what is held of a person.
type Export struct {
	Subject   string    `json:"subject"`
	At        time.Time `json:"at"`
	Runs      []Run     `json:"runs"`
	Events    []Event   `json:"events"`
	Documents any       `json:"documents"`
	// Elsewhere says what this is not: what other systems hold has to be asked there.
	Elsewhere []string `json:"elsewhere"`
}

// Run is a run that is sealed for the person.
type Run struct {
	Run      string     `json:"run"`
	Route    string     `json:"route"`
	Purpose  string     `json:"purpose,omitempty"`
	State    string     `json:"state"`
	Reason   string     `json:"reason,omitempty"`
	Started  time.Time  `json:"started"`
	Ended    *time.Time `json:"ended,omitempty"`
	Shared   bool       `json:"shared,omitempty"` // it concerns other persons too: their data must go out first (art. 15.4)
	Erased   bool       `json:"erased,omitempty"` // its content was destroyed
	Began    any        `json:"began,omitempty"`  // request, caller, trigger
	Timeline []Record   `json:"timeline"`
}

// Record is a line of a run's journal.
type Record struct {
	At    time.Time `json:"at"`
	Kind  string    `json:"kind"`
	Step  string    `json:"step,omitempty"`
	Round int       `json:"round,omitempty"`
	Fault string    `json:"fault,omitempty"`
	Body  any       `json:"body,omitempty"`
}

// Event is one that names the person.
type Event struct {
	ID   string    `json:"id"`
	Type string    `json:"type"`
	At   time.Time `json:"at"`
	Data any       `json:"data"`
}

// Gather reads all of it. Subject is a codice fiscale.
func (d *Desk) Gather(ctx context.Context, subject string) (Export, error) {
	subject = strings.ToUpper(strings.TrimSpace(subject))
	x := Export{Subject: subject, At: d.Now().UTC(), Runs: []Run{}, Events: []Event{}, Elsewhere: []string{
		"mandates: the city's register of mandates keeps them",
		"attachments: their digests stand in the runs",
		fmt.Sprintf("events and messages older than %s: they are gone", d.Store.Forgets()),
		"runs that only read: nothing of them is kept beyond a sample of timelines in memory",
		"the systems that the city's connectors speak to",
	}}
	runs, err := d.Store.RunsOf(ctx, subject)
	if err != nil {
		return x, err
	}
	for _, r := range runs {
		one, err := d.run(ctx, r.ID)
		if errors.Is(err, store.ErrNoRun) { // retention took it meanwhile
			continue
		}
		if err != nil {
			return x, err
		}
		x.Runs = append(x.Runs, one)
	}
	if x.Events, err = d.events(ctx, subject); err != nil {
		return x, err
	}
	if d.Documents != nil {
		x.Documents, err = d.Documents(ctx, subject)
	}
	return x, err
}

func (d *Desk) run(ctx context.Context, id store.RunID) (Run, error) {
	r, rs, err := d.Store.Load(ctx, id)
	erased := errors.Is(err, store.ErrErased)
	if err != nil && !erased {
		return Run{}, fmt.Errorf("reading a person's run: %w", err)
	}
	out := Run{Run: d.Store.PublicID(id), Route: r.Route, State: string(r.State), Reason: r.Reason, Started: r.Started.UTC(),
		Shared: len(r.Subjects) > 1, Erased: erased, Timeline: []Record{}}
	if d.Purpose != nil {
		out.Purpose = d.Purpose(r.Route)
	}
	if !r.Ended.IsZero() {
		at := r.Ended.UTC()
		out.Ended = &at
	}
	out.Began = decoded(r.Head)
	for _, rec := range rs {
		out.Timeline = append(out.Timeline, Record{rec.At.UTC(), string(rec.Kind), rec.Path, rec.Round, rec.Fault, decoded(rec.Body)})
	}
	return out, nil
}

// decoded is a body as JSON has it, else as text: nothing is left out.
func decoded(b []byte) any {
	if len(b) == 0 {
		return nil
	}
	v, err := codec.Decode(b)
	if err != nil {
		return string(b)
	}
	return v
}

// page is how many messages are read at a time.
const page = 500

// events looks through what is kept of every type: they have no index by person.
func (d *Desk) events(ctx context.Context, subject string) ([]Event, error) {
	out := []Event{}
	for _, topic := range slices.Sorted(slices.Values(d.Topics)) {
		for after := int64(0); ; {
			ms, err := d.Log(ctx, topic, after, page)
			if err != nil {
				return nil, fmt.Errorf("looking through the events %s: %w", topic, err)
			}
			for _, m := range ms {
				if after = m.Seq; bytes.Contains(bytes.ToUpper(m.Body), []byte(subject)) {
					out = append(out, Event{m.ID, topic, m.At.UTC(), decoded(m.Body)})
				}
			}
			if len(ms) == 0 {
				break
			}
		}
	}
	return out, nil
}
