package run

import (
	"context"
	"errors"

	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/pipeline/run/codec"
	"github.com/dime-bus/dime/pipeline/run/paused"
	"github.com/dime-bus/dime/pipeline/step"
)

// heldBack says whether a fault is a pause's; the path then rests until its end.
// That costs no rung of the ladder and no patience: nobody has tried.
func (x *exec) heldBack(path, word string, flt *fault.Error) (step.Outcome, bool) {
	var by paused.By
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

// restReason is why the run rests: for paused connectors, else otherwise.
func (x *exec) restReason(otherwise string) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	by := map[string]string{} // of a path whose last word is a held rest
	for _, n := range x.log {
		if c := n.str("held"); n.kind == store.Rest && c != "" {
			by[n.path] = c
		} else {
			delete(by, n.path)
		}
	}
	if len(by) == 0 {
		return otherwise
	}
	return paused.Reason(by)
}

// Resume lets the runs go on that rest for a paused connector.
func (e *Engine) Resume(ctx context.Context, connector string) (int, error) {
	return paused.Resume(ctx, e.store, e.cfg.Worker, connector, e.clock.Now)
}

// restWord is what the reasons of runs at rest say.
func restWord(why string) string {
	return map[string]string{"wait": "waits for an event", "delay": "waits for its time", "defer": "deferred", "doubt": "in doubt"}[why]
}
