// Package paused is about runs that rest for a connector which a person has
// paused: how they are known among others, and how they are let go on.
package paused

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dime-bus/dime/internal/store"
)

// By is the cause of a fault whose connector, of this name, is paused.
type By string

func (b By) Error() string { return "connector " + string(b) + " is paused" }

const prefix = "paused: "

// Reason is what a run at rest says; paths are those that rest, with the
// connector that each of them needs.
func Reason(paths map[string]string) string {
	return prefix + strings.Join(slices.Compact(slices.Sorted(maps.Values(paths))), ", ")
}

func needs(reason, connector string) bool {
	names, ok := strings.CutPrefix(reason, prefix)
	return ok && slices.Contains(strings.Split(names, ", "), connector)
}

// Resume makes the runs that rest for a connector due now, in the order in which
// they were accepted, and counts them.
func Resume(ctx context.Context, j store.Journal, worker, connector string, now func() time.Time) (n int, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("resuming the runs that rest for %s: %w", connector, err)
		}
	}()
	const page = 1000
	var found []store.RunID
	f := store.Filter{States: []store.State{store.Waiting, store.Undoing}, Limit: page}
	for {
		rs, err := j.Find(ctx, f)
		if err != nil {
			return 0, err
		}
		for _, r := range rs {
			if needs(r.Reason, connector) {
				found = append(found, r.ID)
			}
			f.Before = r.ID
		}
		if len(rs) < page {
			break
		}
	}
	slices.Sort(found)
	for _, id := range found {
		r, l, err := j.ClaimOne(ctx, worker, id)
		switch {
		case errors.Is(err, store.ErrFenced), errors.Is(err, store.ErrNoRun):
			continue // something else woke it meanwhile
		case err != nil:
			return n, err
		case r.State != store.Waiting && r.State != store.Undoing:
			err = j.Release(ctx, l)
		default:
			err = j.Append(ctx, l, r.State, "", now())
			n++
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
