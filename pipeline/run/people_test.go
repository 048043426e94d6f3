package run

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/crash"
)

var clerk = Act{As: "anna", Reason: "asked by telephone"}

const certificate = `
route: certificate
from: {http: POST /v1/certificate}
once: '=req.key ?? "k"'
steps:
  - call: sys.pay
    as: paid
    with: {id: a}
    undo: {call: sys.refund, with: {id: =paid.v}}
    commit: true
  - reply: 202
    with: {follow_at: =run.url}
  - call: sys.hold
    as: issued
    with: {id: b}
    undo: {none: the register marks it withdrawn}
  - set: {result: {v: =issued.v}}
`

// Behind a commit a failure parks; a person's replay goes on without a second payment.
func TestParkAndReplay(t *testing.T) {
	for _, from := range []string{"", "issued"} {
		t.Run("from="+from, func(t *testing.T) {
			w := newWorld(t, certificate)
			w.script["hold"] = []any{"full", map[string]any{"v": "cert"}}
			if a := w.ask(http("certificate", map[string]any{})); a.Status != 202 {
				t.Fatal(show(a))
			}
			w.clock.Settle()
			r := w.newest()
			pub := w.disk.PublicID(r.ID)
			if r.State != store.Parked || w.effects("refund") != 0 {
				t.Fatalf("%s %s\n%s", r.State, r.Reason, w.kinds(r.ID))
			}
			a := clerk
			a.From, a.DryRun = from, true
			rep, err := w.e.Replay(context.Background(), pub, a)
			if err != nil || strings.Join(rep.Keep, " ") != "paid" {
				t.Errorf("dry: %+v %v", rep, err)
			}
			if _, err := w.e.Cancel(context.Background(), pub, clerk); err == nil {
				t.Error("cancelled behind a commit")
			}
			a.DryRun = false
			if _, err := w.e.Replay(context.Background(), pub, a); err != nil {
				t.Fatal(err)
			}
			w.clock.Settle()
			if got := w.states(); got != "done" || w.effects("pay") != 1 || w.effects("hold") != 1 {
				t.Errorf("%s, paid %d, issued %d\n%s", got, w.effects("pay"), w.effects("hold"), w.kinds(r.ID))
			}
		})
	}
}

// The table of semantics 4.6.
func TestOnce(t *testing.T) {
	route := `
route: r
from: {http: POST /v1/r}
once: '=req.key ?? "k"'
steps:
  - call: sys.hold
    as: held
    with: {id: =req.id}
    undo: {call: sys.release, with: {id: =held.v}}
  - call: sys.pay
    as: paid
    with: {id: =req.id}
    undo: {call: sys.refund, with: {id: =paid.v}}
    errors: {conflict: {park: look}}
  - set: {result: {v: =paid.v}}
`
	req := func() Request { return http("r", map[string]any{"key": "k1", "id": "1"}) }
	t.Run("answered below 500", func(t *testing.T) {
		w := newWorld(t, route)
		first := w.ask(req())
		again := w.ask(req())
		if show(first) != `200 {"v":"pay-1"}` || show(again) != show(first) || again.Header["Idempotent-Replayed"] != "true" {
			t.Errorf("%s, then %s %v", show(first), show(again), again.Header)
		}
		w.reboot()
		if again := w.ask(req()); show(again) != show(first) {
			t.Errorf("after a crash: %s", show(again))
		}
		if a := w.ask(http("r", map[string]any{"key": "k1", "id": "2"})); a.Status != 422 {
			t.Errorf("other body: %s", show(a))
		}
		if w.effects("pay") != 1 {
			t.Errorf("paid %d times", w.effects("pay"))
		}
	})
	t.Run("both at once", func(t *testing.T) {
		w := newWorld(t, route)
		w.script["pay"] = []any{time.Second}
		a, b := w.e.Ask(context.Background(), req()), w.e.Ask(context.Background(), req())
		if x, y := w.until(a), w.until(b); show(x) != `200 {"v":"pay-1"}` || show(y) != show(x) {
			t.Errorf("%s and %s", show(x), show(y))
		}
		if w.calls("pay") != 1 {
			t.Errorf("called %d times", w.calls("pay"))
		}
	})
	t.Run("failed starts again", func(t *testing.T) {
		w := newWorld(t, route)
		w.script["pay"] = []any{"denied", map[string]any{"v": "ok"}}
		if a := w.ask(req()); a.Status != 502 {
			t.Fatal(show(a))
		}
		w.clock.Settle()
		if a := w.ask(req()); show(a) != `200 {"v":"ok"}` {
			t.Errorf("again: %s\n%s", show(a), w.kinds(w.newest().ID))
		}
		w.clock.Settle()
		if w.effects("hold") != 2 || w.effects("release") != 1 || w.states() != "done" {
			t.Errorf("%s: held %d, released %d\n%s", w.states(), w.effects("hold"), w.effects("release"), w.kinds(w.newest().ID))
		}
	})
	t.Run("parked", func(t *testing.T) {
		w := newWorld(t, route)
		w.script["pay"] = []any{"conflict"}
		for range 2 {
			if a := w.ask(req()); a.Status != 202 {
				t.Errorf("%s", show(a))
			}
		}
		if w.calls("pay") != 1 {
			t.Errorf("called %d times", w.calls("pay"))
		}
	})
}

func TestResolve(t *testing.T) {
	route := `
route: r
from: {http: POST /v1/r}
steps:
  - call: sys.raw
    as: done
    with: {id: =req.id}
    undo: {none: nothing undoes it}
  - set: {result: {v: =done.v}}
`
	for _, happened := range []bool{true, false} {
		w := newWorld(t, route)
		w.script["raw"] = []any{"done:unknown", map[string]any{"v": "second"}}
		w.ask(http("r", map[string]any{"id": "1"}))
		w.clock.Settle()
		pub := w.disk.PublicID(w.newest().ID)
		a := clerk
		a.Path, a.Happened = "done", &happened
		if happened {
			a.Result = map[string]any{"v": "stated"}
		}
		if _, err := w.e.Resolve(context.Background(), pub, a); err != nil {
			t.Fatal(err)
		}
		w.clock.Settle() // at once: what a person stated needs no pause
		want, calls := "map[v:stated]", 1
		if !happened {
			want, calls = "map[v:second]", 2
		}
		v, _ := w.e.View(context.Background(), pub, citizen())
		if v.State != "done" || mapString(v.Result) != want || w.calls("raw") != calls {
			t.Errorf("happened=%v: %+v, %d calls\n%s", happened, v, w.calls("raw"), w.kinds(w.newest().ID))
		}
	}
}

func TestCancelWaitingRun(t *testing.T) {
	w := newWorld(t, booking)
	w.ask(http("booking", map[string]any{}))
	w.clock.Settle()
	pub := w.disk.PublicID(w.newest().ID)
	if _, err := w.e.Cancel(context.Background(), pub, Act{As: "anna"}); err == nil {
		t.Error("cancelled without a reason")
	}
	rep, err := w.e.Cancel(context.Background(), pub, clerk)
	if err != nil || rep.State != "cancelled" || strings.Join(rep.Undo, " ") != "booked held" {
		t.Errorf("%+v %v\n%s", rep, err, w.kinds(w.newest().ID))
	}
	if w.effects("release") != 2 {
		t.Errorf("released %d", w.effects("release"))
	}
	if _, err := w.e.View(context.Background(), pub, nil); err == nil {
		t.Error("anybody sees the run")
	}
	w.e.Stop()
	w.disk.Close()
	_, viewed := w.e.View(context.Background(), pub, citizen())
	_, shown := w.e.Show(context.Background(), pub)
	_, listed := w.e.Runs(context.Background(), Filter{})
	for _, err := range []error{viewed, shown, listed} {
		if fault.From(err).Kind != fault.Unavailable {
			t.Errorf("of a journal that is away: %v", err)
		}
	}
}

// Unhandled failures park an ordered run and block its key until a person skips it.
func TestOrderBy(t *testing.T) {
	w := newWorld(t, `
route: r
from: {event: thing.paid}
req: events/thing.paid
version: 1
about: a
owner: t@example.org
order_by: =req.id
steps:
  - call: sys.hold
    as: held
    with: {id: =req.id}
    undo: {call: sys.release, with: {id: =held.v}}
`)
	w.script["hold"] = []any{"full", map[string]any{"v": "ok"}}
	w.publish("thing.paid", "e-1", map[string]any{"id": "a"})
	w.publish("thing.paid", "e-2", map[string]any{"id": "a"})
	if got := w.states(); got != "queued parked" {
		t.Fatalf("states %q", got)
	}
	rs, _ := w.disk.Find(context.Background(), store.Filter{States: []store.State{store.Parked}})
	if _, err := w.e.Skip(context.Background(), w.disk.PublicID(rs[0].ID), clerk); err != nil {
		t.Fatal(err)
	}
	w.pass(time.Second)
	if got := w.states(); got != "done failed" {
		t.Errorf("states %q", got)
	}
}

// With intents switched off, a crash between call and outcome doubles a neither
// operation: the control of the kill test sees it.
func TestControlWithoutIntent(t *testing.T) {
	route := `
route: r
from: {http: POST /v1/r}
once: '=req.key ?? "k"'
steps:
  - call: sys.raw
    as: done
    with: {id: a}
    undo: {none: nothing undoes it}
  - reply: 202
  - call: sys.hold
    as: held
    with: {id: a}
    undo: {none: an unused hold expires}
`
	for _, off := range []bool{false, true} {
		w := newWorldBare(t, route)
		w.cfg.UnsafeNoIntent = off
		w.plan = crash.Plan{At: 2}
		w.boot()
		w.ask(http("r", map[string]any{}))
		w.clock.Settle()
		if !w.crash.Dead() {
			t.Fatal("it did not crash")
		}
		w.reboot()
		w.pass(time.Hour)
		if got := w.calls("raw"); (got > 1) != off {
			t.Errorf("off=%v: raw was called %d times; state %s", off, got, w.states())
		}
	}
}

// A cancel that was accepted for a run at work takes effect although the process
// ends before the step does.
func TestCancelOutlivesTheProcess(t *testing.T) {
	w := newWorld(t, `
route: r
from: {http: POST /v1/r}
steps:
  - call: sys.hold
    as: held
    with: {id: a}
    undo: {call: sys.release, with: {id: a}}
  - call: sys.read
    as: got
    with: {id: a}
  - call: sys.raw
    as: done
    with: {id: a}
    undo: {none: nothing undoes it}
`)
	w.script["read"] = []any{2 * time.Second}
	ch := w.e.Ask(context.Background(), http("r", map[string]any{}))
	w.clock.Settle()
	pub := w.disk.PublicID(w.newest().ID)
	rep, err := w.e.Cancel(context.Background(), pub, clerk)
	if err != nil || rep.State != "running" {
		t.Fatalf("%+v, %v", rep, err)
	}
	w.reboot()
	<-ch
	w.pass(time.Minute)
	if w.states() != "cancelled" || w.calls("raw") != 0 || w.effects("release") != 1 {
		t.Errorf("%s, raw called %d times, released %d times\n%s", w.states(), w.calls("raw"), w.effects("release"), w.kinds(w.newest().ID))
	}
	if n := strings.Count(w.kinds(w.newest().ID), "person"); n != 1 {
		t.Errorf("the act stands %d times in the journal", n)
	}
}

// A failed run is a dead letter until a person settles it: then neither a replay
// nor the client's retry begins it again, and it goes with the others (10.6).
func TestSettle(t *testing.T) {
	w := newWorld(t, strings.Replace(certificate, "    commit: true\n", "", 1))
	ctx := context.Background()
	w.script["hold"] = []any{"full"}
	w.ask(http("certificate", map[string]any{}))
	w.clock.Settle()
	pub := w.disk.PublicID(w.newest().ID)
	if w.states() != "failed" {
		t.Fatal(w.states())
	}
	dry := clerk
	dry.DryRun = true
	for _, a := range []Act{dry, {As: "anna"}} {
		if _, err := w.e.Settle(ctx, pub, a); a.DryRun != (err == nil) || w.states() != "failed" {
			t.Errorf("%+v: %v, %s", a, err, w.states())
		}
	}
	if rep, err := w.e.Settle(ctx, pub, clerk); err != nil || rep.State != "settled" || w.states() != "settled" {
		t.Fatalf("%+v, %v, %s", rep, err, w.states())
	}
	if got := w.shown(); !strings.Contains(got, "settle by anna: asked by telephone") {
		t.Error(got)
	}
	w.reboot()
	if _, err := w.e.Replay(ctx, pub, clerk); err == nil {
		t.Error("a settled run is replayed")
	}
	if _, err := w.e.Settle(ctx, pub, clerk); err == nil {
		t.Error("settled twice")
	}
	w.ask(http("certificate", map[string]any{}))
	w.clock.Settle()
	if w.states() != "settled" || w.calls("hold") != 1 {
		t.Errorf("%s, hold called %d times: the retry began it again", w.states(), w.calls("hold"))
	}
	if v, err := w.e.View(ctx, pub, citizen()); err != nil || v.State != "failed" {
		t.Errorf("its owner sees %+v", v)
	}
	w.pass(100 * 24 * time.Hour)
	for n := 1; n > 0; {
		var err error
		if n, err = w.disk.Expire(ctx, store.Keep{Other: w.clock.Now().AddDate(0, 0, -90)}, 100); err != nil {
			t.Fatal(err)
		}
	}
	if w.states() != "" {
		t.Errorf("%s is kept for ever", w.states())
	}
}

// What is parked, or lives, or went well is not settled.
func TestSettleOnlyFailed(t *testing.T) {
	w := newWorld(t, certificate)
	w.script["hold"] = []any{"full"}
	w.ask(http("certificate", map[string]any{}))
	w.clock.Settle()
	pub := w.disk.PublicID(w.newest().ID)
	if _, err := w.e.Settle(context.Background(), pub, clerk); err == nil || !strings.Contains(err.Error(), "skip it") {
		t.Errorf("parked: %v", err)
	}
	if _, err := w.e.Skip(context.Background(), pub, clerk); err != nil {
		t.Fatal(err)
	}
	if _, err := w.e.Settle(context.Background(), pub, clerk); err != nil || w.states() != "settled" {
		t.Errorf("%v, %s", err, w.states())
	}
}
