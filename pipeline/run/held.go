package run

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/pipeline/run/codec"
	"github.com/dime-bus/dime/pipeline/step"
)

// pausedError is the cause of a fault whose connector a person has paused.
type pausedError string

func (p pausedError) Error() string { return "connector " + string(p) + " is paused" }

// heldBack says whether a fault is a pause's; the path then rests until its end. That
// costs no rung of the ladder and no patience: nobody has tried.
func (x *exec) heldBack(path, word string, flt *fault.Error) (step.Outcome, bool) {
	var by pausedError
	if flt.Until.IsZero() || !errors.As(flt.Err, &by) {
		return step.Outcome{}, false
	}
	n, since := x.rungs(path, word)
	wake := flt.Until
	if wait := wake.Sub(x.now()); wait > 0 {
		since = since.Add(wait)
	}
	x.add(&entry{kind: store.Rest, path: path, at: x.now(), flt: flt, fault: faultWord(flt),
		x: map[string]any{"why": word, "rung": n, "since": codec.Millis(since), "wake": codec.Millis(wake), "held": string(by)}})
	return step.Outcome{Kind: step.Rest, Wake: wake}, true
}

// pausedReason begins the reason of a run that rests for paused connectors, by
// which Resume finds it.
const pausedReason = "paused: "

// restReason is why the run rests: for paused connectors, else otherwise.
func (x *exec) restReason(otherwise string) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	by := map[string]string{} // of a path whose last word is a held rest
	for _, n := range x.log {
		if c := n.str("held"); n.kind == store.Rest && c != "" {
			by[n.path] = c
		} else if n.path != "" {
			delete(by, n.path)
		}
	}
	if len(by) == 0 {
		return otherwise
	}
	var names []string
	for _, c := range by {
		names = append(names, c)
	}
	slices.Sort(names)
	return pausedReason + strings.Join(slices.Compact(names), ", ")
}

// Resume makes the runs that rest for a paused connector due now, in the order in
// which they were accepted, and counts them.
func (e *Engine) Resume(ctx context.Context, connector string) (int, error) {
	const page = 1000
	var found []store.RunID
	f := store.Filter{States: []store.State{store.Waiting, store.Undoing}, Limit: page}
	for {
		rs, err := e.store.Find(ctx, f)
		if err != nil {
			return 0, fmt.Errorf("resuming the runs that rest for %s: %w", connector, err)
		}
		for _, r := range rs {
			names, ok := strings.CutPrefix(r.Reason, pausedReason)
			if ok && slices.Contains(strings.Split(names, ", "), connector) {
				found = append(found, r.ID)
			}
			f.Before = r.ID
		}
		if len(rs) < page {
			break
		}
	}
	slices.Sort(found)
	n := 0
	for _, id := range found {
		r, l, err := e.store.ClaimOne(ctx, e.cfg.Worker, id)
		if errors.Is(err, store.ErrFenced) || errors.Is(err, store.ErrNoRun) {
			continue // something else woke it meanwhile
		}
		if err != nil {
			return n, fmt.Errorf("resuming run %s: %w", e.store.PublicID(id), err)
		}
		if r.State != store.Waiting && r.State != store.Undoing {
			err = e.store.Release(ctx, l)
		} else {
			err = e.store.Append(ctx, l, r.State, "", e.clock.Now())
			n++
		}
		if err != nil {
			return n, fmt.Errorf("resuming run %s: %w", e.store.PublicID(id), err)
		}
	}
	return n, nil
}

// restWord is what the reasons of runs at rest say.
func restWord(why string) string {
	return map[string]string{"wait": "waits for an event", "delay": "waits for its time", "defer": "deferred", "doubt": "in doubt"}[why]
}
