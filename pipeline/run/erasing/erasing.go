// Package erasing carries out what a person may ask of a city: that what it keeps
// of him be erased (semantics 10.5). Nothing is refused: his live runs have 30
// days to end, then they are cancelled and undone, and then his keys are
// destroyed. Who asked for it, and why, is kept.
package erasing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/store"
)

// Owner of the table that holds every request, open and done.
const Owner = "erasures"

// Times of semantics 10.5, and of 7.3 for the undo of what was cancelled.
const (
	patience = 30 * 24 * time.Hour
	undoing  = 72 * time.Hour
	look     = time.Minute
)

// Memory is what is needed of a store.
type Memory interface {
	store.Tables
	store.Operations
	Erase(ctx context.Context, subject string) error
	PublicID(id store.RunID) string
	Key(parts ...string) string
}

// Desk takes the requests.
type Desk struct {
	Store  Memory
	Clock  clock.Clock
	Log    *slog.Logger
	Cancel func(ctx context.Context, run, as, reason string) error
	// Audit writes down that a request's keys are about to be destroyed, by the name
	// of who asked; what can't be written is not done yet. nil writes nothing.
	Audit func(ctx context.Context, as, request, subject string, runs int) error
}

// States of a request.
const (
	Waits      = "waits" // for the person's live runs to end
	Cancelling = "cancelling"
	Erased     = "erased"
)

// row is a request as it is kept. The subject goes when it is erased.
type row struct {
	Subject string     `json:"subject,omitempty"`
	As      string     `json:"as"`
	Reason  string     `json:"reason"`
	Asked   time.Time  `json:"asked"`
	State   string     `json:"state"`
	Runs    int        `json:"runs"` // whose content is not readable any more
	Cancels []string   `json:"cancelled,omitempty"`
	Done    *time.Time `json:"done,omitempty"`
}

// Live is a run that has not ended.
type Live struct {
	Run   string `json:"run"`
	Route string `json:"route"`
	State string `json:"state"`
}

// Report is a request as people see it: it names nobody.
type Report struct {
	ID        string     `json:"id"`
	State     string     `json:"state"`
	As        string     `json:"as"`
	Reason    string     `json:"reason"`
	Asked     time.Time  `json:"asked"`
	Until     *time.Time `json:"until,omitempty"` // when live runs are cancelled
	Done      *time.Time `json:"done,omitempty"`
	Runs      int        `json:"runs"`
	Live      []Live     `json:"live"`
	Cancelled []string   `json:"cancelled,omitempty"`
	// Forgotten says from when on what no person's key seals is gone too: events
	// and messages that name him.
	Forgotten *time.Time `json:"forgotten,omitempty"`
	DryRun    bool       `json:"dry_run,omitempty"`
}

func (r row) report(id string) Report {
	out := Report{ID: id, State: r.State, As: r.As, Reason: r.Reason, Asked: r.Asked, Done: r.Done, Runs: r.Runs, Live: []Live{}, Cancelled: r.Cancels}
	if r.State != Erased {
		until := r.Asked.Add(patience)
		out.Until = &until
	}
	return out
}

// Ask takes a request and does what can be done at once. A repeated request for
// the same person is the one that is open already.
func (d *Desk) Ask(ctx context.Context, subject, as, reason string, dry bool) (Report, error) {
	subject = strings.ToUpper(strings.TrimSpace(subject))
	if subject == "" {
		return Report{}, &fault.Error{Kind: fault.Invalid, Pointer: "/subject", Detail: "say whose data"}
	}
	now := d.Clock.Now().UTC()
	r := row{Subject: subject, As: as, Reason: reason, Asked: now, State: Waits}
	runs, live, err := d.runs(ctx, subject)
	if err != nil {
		return Report{}, err
	}
	if dry {
		r.Runs = runs
		out := r.report("")
		out.Live, out.DryRun = live, true
		if len(live) == 0 {
			out.State, out.Until = Erased, nil
		}
		d.forgotten(&out, now)
		return out, nil
	}
	open, err := d.list(ctx, func(o row) bool { return o.Subject == subject })
	if err != nil {
		return Report{}, err
	}
	id := fmt.Sprintf("%013d-%s", now.UnixMilli(), d.Store.Key("erasure", subject)[:8])
	if len(open) > 0 {
		id = open[0].id
	} else if err := d.keep(ctx, id, func(row) row { return r }); err != nil {
		return Report{}, err
	}
	return d.step(ctx, id)
}

// List gives all requests, oldest first.
func (d *Desk) List(ctx context.Context) ([]Report, error) {
	rs, err := d.list(ctx, func(row) bool { return true })
	out := make([]Report, 0, len(rs))
	for _, r := range rs {
		p := r.report(r.id)
		if r.Subject != "" && err == nil {
			_, p.Live, err = d.runs(ctx, r.Subject)
		}
		out = append(out, p)
	}
	return out, err
}

// Work carries open requests forward until ctx ends.
func (d *Desk) Work(ctx context.Context) {
	for {
		if err := d.Look(ctx); err != nil && ctx.Err() == nil {
			d.Log.Error("erasing what people asked to be erased", "error", err)
		}
		if clock.Sleep(ctx, d.Clock, look) != nil {
			return
		}
	}
}

// Look brings every open request as far as it goes now.
func (d *Desk) Look(ctx context.Context) error {
	rs, err := d.list(ctx, func(r row) bool { return r.State != Erased })
	for _, r := range rs {
		_, serr := d.step(ctx, r.id)
		err = errors.Join(err, serr)
	}
	return err
}

// step brings a request as far as it goes now.
func (d *Desk) step(ctx context.Context, id string) (Report, error) {
	r, err := d.read(ctx, id)
	if err != nil || r.State == Erased {
		return r.report(id), err
	}
	now := d.Clock.Now().UTC()
	runs, live, err := d.runs(ctx, r.Subject)
	if err != nil {
		return Report{}, err
	}
	late := now.Sub(r.Asked)
	if len(live) > 0 && late < patience+undoing {
		if late >= patience && r.State == Waits {
			if r, err = d.cancel(ctx, id, live); err != nil {
				return Report{}, err
			}
		}
		out := r.report(id)
		out.Runs, out.Live = runs, live
		return out, nil
	}
	// What could not be undone stands, and its content goes: the right does not wait
	// for a far side.
	if d.Audit != nil {
		if err := d.Audit(ctx, r.As, id, r.Subject, runs); err != nil {
			return Report{}, fmt.Errorf("carrying out the erasure %s: %w", id, err)
		}
	}
	if err := d.Store.Erase(ctx, r.Subject); err != nil {
		return Report{}, fmt.Errorf("carrying out the erasure %s: %w", id, err)
	}
	err = d.keep(ctx, id, func(o row) row {
		o.Subject, o.State, o.Runs, o.Done = "", Erased, runs, &now
		r = o
		return o
	})
	out := r.report(id)
	d.forgotten(&out, now)
	return out, err
}

func (d *Desk) cancel(ctx context.Context, id string, live []Live) (r row, err error) {
	r, err = d.read(ctx, id)
	if err != nil {
		return r, err
	}
	var asked []string
	for _, l := range live {
		if err := d.Cancel(ctx, l.Run, r.As, "the person's data are to be erased"); err != nil {
			d.Log.Warn("cancelling a run whose person is to be erased", "run", l.Run, "error", err)
			continue
		}
		asked = append(asked, l.Run)
	}
	err = d.keep(ctx, id, func(o row) row {
		o.State, o.Cancels = Cancelling, asked
		r = o
		return o
	})
	return r, err
}

func (d *Desk) forgotten(out *Report, now time.Time) {
	if out.State == Erased {
		at := now.Add(d.Store.Forgets())
		out.Forgotten = &at
	}
}

func (d *Desk) runs(ctx context.Context, subject string) (n int, live []Live, err error) {
	rs, err := d.Store.RunsOf(ctx, subject)
	live = []Live{}
	for _, r := range rs {
		if !r.State.Ended() {
			live = append(live, Live{d.Store.PublicID(r.ID), r.Route, string(r.State)})
		}
	}
	return len(rs), live, err
}

type kept struct {
	row
	id string
}

func (d *Desk) list(ctx context.Context, want func(row) bool) (out []kept, err error) {
	const page = 500
	after := ""
	for {
		rows, err := d.Store.Table(Owner).List(ctx, "", after, page)
		if err != nil {
			return nil, fmt.Errorf("reading the requests for erasure: %w", err)
		}
		for _, r := range rows {
			after = r.Key
			k := kept{id: r.Key}
			if err := json.Unmarshal(r.Value, &k.row); err != nil {
				return nil, fmt.Errorf("reading the request for erasure %s: %w", r.Key, err)
			}
			if want(k.row) {
				out = append(out, k)
			}
		}
		if len(rows) < page {
			return out, nil
		}
	}
}

func (d *Desk) read(ctx context.Context, id string) (r row, err error) {
	b, found, err := d.Store.Table(Owner).Get(ctx, id)
	if err == nil && !found {
		err = errors.New("it is not there any more")
	}
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		err = fmt.Errorf("reading the request for erasure %s: %w", id, err)
	}
	return r, err
}

func (d *Desk) keep(ctx context.Context, id string, change func(row) row) error {
	err := d.Store.Table(Owner).Update(ctx, id, func(old []byte) ([]byte, error) {
		var r row
		if old != nil {
			if err := json.Unmarshal(old, &r); err != nil {
				return nil, err
			}
		}
		return json.Marshal(change(r))
	})
	if err != nil {
		return fmt.Errorf("keeping the request for erasure %s: %w", id, err)
	}
	return nil
}
