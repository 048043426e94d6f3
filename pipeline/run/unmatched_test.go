package run

import (
	"context"
	"slices"
	"sync"
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
	ss, err := unmatched.ListSettled(ctx, w.disk, 0, 0)
	if err != nil || len(ss) != 1 || ss[0].ID != "p-1" || ss[0].As != "anna" || ss[0].Reason != "given back" || !ss[0].Settled.Equal(w.clock.Now()) {
		t.Errorf("who settled it: %+v, %v", ss, err)
	}
	if ss, err := unmatched.ListSettled(ctx, w.disk, ss[0].Event.Event, 0); err != nil || len(ss) != 0 {
		t.Errorf("behind the last: %+v, %v", ss, err)
	}
}

// Money that comes where no loaded version waits for its event at all is a dead
// letter like any other; one that begins a route is not.
func TestUnmatchedPaymentThatNobodyWaitsFor(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		route string
		want  int
	}{
		{lookup, 1},
		{"route: r\nversion: 1\nabout: A test.\nowner: t@example.org\nfrom: {event: sys.paid}\nreq: events/sys.paid\nsteps:\n  - call: sys.read\n    as: got\n    with: {id: =req.id}\n", 0},
	} {
		for _, bus := range []*memoryBus{nil, {}} {
			w := newWorldBare(t, c.route)
			if bus != nil {
				w.cfg.Bus = bus
			}
			w.boot()
			w.publish("sys.paid", "p-9", map[string]any{"id": "9"})
			w.publish("thing.paid", "t-9", map[string]any{"id": "9"})
			es, err := unmatched.List(ctx, w.disk, 0, 0)
			if err != nil || len(es) != c.want || c.want > 0 && es[0].ID != "p-9" {
				t.Errorf("bus %v: %+v, %v", bus != nil, es, err)
			}
		}
	}
}

// memoryBus hands each message to the consumers of its type at once.
type memoryBus struct {
	mu sync.Mutex
	by map[string][]func(context.Context, Message) error
}

func (b *memoryBus) Publish(ctx context.Context, ms ...Message) error {
	for _, m := range ms {
		b.mu.Lock()
		hs := slices.Clone(b.by[m.Type])
		b.mu.Unlock()
		for _, h := range hs {
			if err := h(ctx, m); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *memoryBus) Consume(_ context.Context, _ string, types []string, h func(context.Context, Message) error) (func(), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.by == nil {
		b.by = map[string][]func(context.Context, Message) error{}
	}
	for _, t := range types {
		b.by[t] = append(b.by[t], h)
	}
	return func() {}, nil
}
