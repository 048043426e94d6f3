// Package rekey changes the master key under a store at work: it says how far
// that is, does what is left to do, and knows which processes need the old key still.
package rekey

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/members"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/seal"
)

// Owner is the table's in which processes say by which master key they were
// opened, and people why they changed it.
const Owner = "keys"

// NextKey is behind the name of a server's own key what holds its next one, until
// that is in force.
const NextKey = ".next"

// Rows are sealed anew in bites, with a breath between them, so that those who wait
// for a commit do not wait for all.
const (
	resealRows   = 200
	resealBreath = 5 * time.Millisecond
	resealLook   = 5 * time.Second
)

// Report is how the keys stand, as people see it.
type Report struct {
	State      string   `json:"state"` // steady, resealing, switching, dry
	Generation int      `json:"generation"`
	Masters    []string `json:"master_keys"` // ids of those that open the store, newest last
	Rows       int64    `json:"rows"`
	Resealed   int64    `json:"resealed"`
	Behind     []string `json:"behind"` // processes that were started with the old key
	DryRun     bool     `json:"dry_run"`
}

// Desk is a process's part in it.
type Desk struct {
	Ring    store.Keyring
	Table   store.Table // of Owner
	Log     *slog.Logger
	Worker  string
	Opened  string           // the id of the master key that this process was started with
	Members *members.Members // nil where there is but this process
	// File is where a server keeps a key of its own; "" where a secret is configured.
	File string
	Kept func() ([]byte, error) // reads it
}

// Report says how the keys stand.
func (d *Desk) Report(ctx context.Context) (r Report, err error) {
	k, err := d.Ring.Keys(ctx)
	if err != nil {
		return r, err
	}
	r = Report{State: "steady", Generation: k.Generation, Masters: k.Masters, Rows: k.Rows, Resealed: k.Done, Behind: []string{}}
	switch {
	case k.Walk != "":
		r.State = "resealing"
	case len(k.Masters) > 1 && d.File != "":
		r.State = "resealing" // the server has still to put the new key in its place
	case len(k.Masters) > 1:
		r.State = "switching"
	}
	if len(k.Masters) > 1 && d.File == "" {
		r.Behind, err = d.behind(ctx, k.Masters[len(k.Masters)-1], k.Opened)
	}
	return r, err
}

// SayOpened keeps by which key this process was opened, for who wants to know
// whether the old one is still needed.
func (d *Desk) SayOpened(ctx context.Context) error {
	if d.Members == nil {
		return nil
	}
	return d.Table.Update(ctx, "opened."+d.Worker, func([]byte) ([]byte, error) { return json.Marshal(d.Opened) })
}

// behind lists the living processes that another key than the newest opened.
func (d *Desk) behind(ctx context.Context, newest, mine string) ([]string, error) {
	out := []string{}
	if d.Members == nil {
		if mine != newest {
			out = append(out, d.Worker)
		}
		return out, nil
	}
	t := d.Table
	opened, err := t.List(ctx, "opened.", "", 10_000)
	if err != nil {
		return nil, err
	}
	by := map[string]string{}
	for _, r := range opened {
		var id string
		if err := json.Unmarshal(r.Value, &id); err != nil {
			return nil, fmt.Errorf("reading which key opened %s: %w", r.Key, err)
		}
		by[strings.TrimPrefix(r.Key, "opened.")] = id
	}
	for _, m := range d.Members.Alive() {
		if by[m.Name] != newest {
			out = append(out, m.Name)
		}
		delete(by, m.Name)
	}
	for name := range by { // the dead; one that is but slow says so again when it starts
		if slices.ContainsFunc(d.Members.Alive(), func(m members.Member) bool { return m.Name == name }) {
			continue
		}
		if err := t.Update(ctx, "opened."+name, func([]byte) ([]byte, error) { return nil, nil }); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Begin begins a change to a new key, and keeps who did so and why by the
// generation that it made.
func (d *Desk) Begin(ctx context.Context, key []byte, as, reason string) error {
	if err := d.Ring.BeginRotation(ctx, key); err != nil {
		return fault.New(fault.Conflict, "%v", err)
	}
	k, err := d.Ring.Keys(ctx)
	if err != nil {
		return err
	}
	b, err := json.Marshal(map[string]string{"as": as, "reason": reason, "at": time.Now().UTC().Format(time.RFC3339)})
	if err != nil {
		return err
	}
	return d.Table.Update(ctx, fmt.Sprintf("rotation.%04d", k.Generation), func(old []byte) ([]byte, error) {
		if old != nil {
			return old, nil
		}
		return b, nil
	})
}

// Finish lets the old key open nothing any more, if nobody needs it.
func (d *Desk) Finish(ctx context.Context, dry bool) (Report, error) {
	r, err := d.Report(ctx)
	if err != nil {
		return r, err
	}
	r.DryRun = dry
	switch {
	case len(r.Masters) < 2:
		return r, fault.New(fault.Conflict, "no change of the master key is under way")
	case r.State == "resealing":
		return r, fault.New(fault.Conflict, "%d of about %d rows are sealed anew: the old key is needed until that is done", r.Resealed, r.Rows)
	case len(r.Behind) > 0:
		return r, fault.New(fault.Conflict, "started with the old key, and lost without it: %s; let master_key name the new one and restart them", strings.Join(r.Behind, ", "))
	case dry:
		return r, nil
	}
	if err := d.Ring.FinishRotation(ctx); err != nil {
		return r, err
	}
	return d.Report(ctx)
}

// Run does what a change of the keys has left to do, be it begun in another life.
func (d *Desk) Run(ctx context.Context) {
	look := resealLook // a transaction each time
	if d.File != "" {
		look = time.Second
	}
	unsure := true // whether the last life put its next key in its place and came no further
	for {
		err := d.resealAll(ctx)
		if err == nil && d.File != "" {
			err = d.putKey(ctx, unsure)
			unsure = err != nil
		}
		if err != nil && ctx.Err() == nil {
			d.Log.Error("changing the keys", "error", err)
		}
		if clock.Sleep(ctx, clock.Real{}, look) != nil {
			return
		}
	}
}

func (d *Desk) resealAll(ctx context.Context) error {
	for {
		more, err := d.Ring.Reseal(ctx, resealRows)
		if err != nil || !more {
			return err
		}
		if err := clock.Sleep(ctx, clock.Real{}, resealBreath); err != nil {
			return err
		}
	}
}

// putKey puts the next key of a server that keeps its own in the old one's place,
// and then lets the old one open nothing: in this order, so that at each instant
// the file opens the store.
func (d *Desk) putKey(ctx context.Context, unsure bool) error {
	file, next := d.File, d.File+NextKey
	if _, err := os.Stat(next); errors.Is(err, fs.ErrNotExist) && !unsure {
		return nil
	}
	k, err := d.Ring.Keys(ctx)
	if err != nil || len(k.Masters) < 2 || k.Walk != "" { // a key without a change is the next change's
		return err
	}
	if err := os.Rename(next, file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("putting the new master key in its place: %w", err)
	}
	folder, err := os.Open(filepath.Dir(file))
	if err == nil {
		err = errors.Join(folder.Sync(), folder.Close())
	}
	if err != nil {
		return fmt.Errorf("putting the new master key in its place: %w", err)
	}
	kept, err := d.Kept()
	if err != nil {
		return err
	}
	if id, err := seal.MasterID(kept); err != nil || id != k.Masters[len(k.Masters)-1] {
		return errors.Join(err, fmt.Errorf("the new master key is neither in %s nor in %s: put it there, for the old one is still needed", next, file))
	}
	if err := d.Ring.FinishRotation(ctx); err != nil {
		return err
	}
	d.Log.Warn("the new master key is in its place, and the old one opens nothing any more: copy it to where the old one was kept apart", "file", file)
	return nil
}
