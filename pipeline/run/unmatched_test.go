package run

import (
	"context"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/pipeline/run/unmatched"
)

// A payment that arrives after its run was cancelled is kept beyond its time,
// shown, and settled by a person; one that a run takes is not.
func TestUnmatchedPayment(t *testing.T) {
	w := newWorld(t, `
route: r
from: {http: POST /v1/r}
steps:
  - call: sys.hold
    as: held
    with: {id: =req.id}
    undo: {call: sys.release, with: {id: =held.v}}
  - reply: 202
  - wait: sys.paid
    as: paid
    where: event.id == req.id
    for: 10d
    undo: {none: the money is given back at the counter}
    else: {cancel: late}
`)
	ctx := context.Background()
	list := func(want ...string) []unmatched.Event {
		t.Helper()
		es, err := unmatched.List(ctx, w.disk, 0, 0)
		if err != nil || len(es) != len(want) {
			t.Fatalf("%+v, %v", es, err)
		}
		for i, e := range es {
			if e.ID != want[i] || e.Type != "sys.paid" {
				t.Errorf("%+v, want %s", e, want[i])
			}
		}
		return es
	}
	w.ask(http("r", map[string]any{"id": "1"}))
	cancelled := w.disk.PublicID(w.newest().ID)
	w.ask(http("r", map[string]any{"id": "2"}))
	w.clock.Settle()
	if _, err := w.e.Cancel(ctx, cancelled, clerk); err != nil {
		t.Fatal(err)
	}
	w.publish("sys.paid", "p-1", map[string]any{"id": "1"})
	w.publish("sys.paid", "p-2", map[string]any{"id": "2"})
	list("p-1")
	w.pass(60 * 24 * time.Hour)
	for n := 1; n > 0; {
		var err error
		if n, err = w.disk.Expire(ctx, store.Keep{Other: w.clock.Now().AddDate(0, 0, -30)}, 100); err != nil {
			t.Fatal(err)
		}
	}
	es := list("p-1")
	if _, err := unmatched.Settle(ctx, w.disk, w.clock.Now(), es[0].Event, "anna", ""); err == nil {
		t.Error("settled without a reason")
	}
	list("p-1")
	if u, err := unmatched.Settle(ctx, w.disk, w.clock.Now(), es[0].Event, "anna", "given back"); err != nil || u.ID != "p-1" {
		t.Fatal(u, err)
	}
	list()
	if _, err := unmatched.Settle(ctx, w.disk, w.clock.Now(), es[0].Event, "anna", "given back"); err == nil {
		t.Error("settled twice")
	}
	if b, found, err := w.disk.Table("settled_events").Get(ctx, "1"); err != nil || !found || len(b) == 0 {
		t.Errorf("who settled it: %s, %v, %v", b, found, err)
	}
}
