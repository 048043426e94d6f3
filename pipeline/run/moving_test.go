package run

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/pipeline/language"
	"github.com/dime-bus/dime/pipeline/run/moving"
)

// moved is the first version of the route that runs are moved from.
const moved = `
route: r
version: 1
about: a
owner: t@example.org
req: req
from: {http: POST /v1/r}
steps:
  - call: sys.hold
    as: held
    with: {id: =req.id}
    undo: {call: sys.release, with: {id: =held.v}}
  - if: req.n == 1
    set: {extra: one}
  - switch:
      - case: req.id == "a"
        steps:
          - call: sys.book
            as: booked
            with: {id: =req.id}
            undo: {call: sys.release, with: {id: =booked.v}}
      - case: req.id == "b"
        steps:
          - call: sys.both
            as: booked
            with: {id: =req.id}
            undo: {call: sys.release, with: {id: =booked.v}}
    else: none
  - reply: 202
  - wait: thing.done
    as: woken
    where: event.id == req.id
    for: 1d
    else: {cancel: late}
  - call: sys.pay
    as: paid
    with: {id: one}
    undo: {call: sys.refund, with: {id: =paid.v}}
`

// next is the second version, with what a case changes.
func next(pairs ...string) string {
	s := strings.Replace(moved, "version: 1", "version: 2", 1)
	s = strings.Replace(s, "with: {id: one}", "with: {id: two}", 1)
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(s, pairs[i]) {
			panic("nothing to change: " + pairs[i])
		}
		s = strings.Replace(s, pairs[i], pairs[i+1], 1)
	}
	return s
}

func (w *world) mover() *moving.Mover {
	return &moving.Mover{Store: w.e.store, Worker: "w", Now: w.clock.Now, Compile: w.e.Compiled}
}

func (w *world) load(route string) {
	w.t.Helper()
	w.city = loadCity(w.t, route)
	if err := w.e.Swap(w.city); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) rested(t *testing.T) store.Run {
	t.Helper()
	if a := w.ask(http("r", map[string]any{"id": "a"})); a.Status != 202 {
		t.Fatal(show(a))
	}
	w.clock.Settle()
	r := w.newest()
	if r.State != store.Waiting {
		t.Fatalf("%s %s\n%s", r.State, r.Reason, w.kinds(r.ID))
	}
	return r
}

// A run that waits in version 1 is moved and ends by version 2's steps; what it
// did is not done again, what it came by without doing is (semantics 10.3).
func TestMovedRunEndsByTheNewVersion(t *testing.T) {
	for _, when := range []string{"at once", "after a crash"} {
		t.Run(when, func(t *testing.T) {
			w := newWorld(t, moved)
			r := w.rested(t)
			w.load(next("  - reply: 202\n", "  - reply: 202\n  - call: sys.raw\n    as: told\n    with: {id: =req.id}\n    undo: {none: said}\n"))
			q := moving.Request{Run: w.disk.PublicID(r.ID), To: "2", As: "anna", Reason: "the fee changed", DryRun: true}
			before := w.kinds(r.ID)
			rep, err := w.mover().Move(context.Background(), q)
			if err != nil || len(rep.Unfit) != 0 || strings.Join(rep.New, " ") != "told" || rep.From.Label != 1 || rep.To.Label != 2 {
				t.Fatalf("dry: %+v %v", rep, err)
			}
			if w.newest().Version != r.Version || w.kinds(r.ID) != before {
				t.Fatal("a dry move changed the run")
			}
			q.DryRun = false
			if rep, err = w.mover().Move(context.Background(), q); err != nil {
				t.Fatalf("%+v %v", rep, err)
			}
			w.clock.Settle()
			if when != "at once" {
				// What the next life compiles comes from the store's source.
				was := w.city.Routes["r"]
				w.cfg.Recompile = func(src language.Source, _ func(string) (language.Source, error)) (*language.Route, error) {
					if src.Route != was.Source.Route {
						return nil, errors.New("another version")
					}
					return was, nil
				}
				w.city = loadCity(t, lookup)
				w.reboot()
				w.load(next("  - reply: 202\n", "  - reply: 202\n  - call: sys.raw\n    as: told\n    with: {id: =req.id}\n    undo: {none: said}\n"))
			}
			w.publish("thing.done", "e1", map[string]any{"id": "a"})
			w.pass(time.Minute)
			got := w.newest()
			if got.State != store.Done || got.Version != rep.To.Digest {
				t.Fatalf("%s %s, of %s\n%s", got.State, got.Reason, got.Version, w.kinds(r.ID))
			}
			if w.effects("hold") != 1 || w.effects("book") != 1 || w.calls("raw") != 1 || w.ledger["pay"][w.keys["pay"][0]].(map[string]any)["v"] != "pay-two" {
				t.Errorf("held %d, booked %d, told %d, paid %v", w.effects("hold"), w.effects("book"), w.calls("raw"), w.ledger["pay"])
			}
			if n := strings.Count(w.kinds(r.ID), string(store.Person)); n != 1 {
				t.Errorf("%d records say who moved it\n%s", n, w.kinds(r.ID))
			}
		})
	}
}

// What does not fit is refused with its reason, and the run stays as it was.
func TestMovesThatAreRefused(t *testing.T) {
	for _, c := range []struct {
		name, want string
		change     []string
	}{
		{"a step is gone", `it has no step "held"; did you mean "hold"?`, []string{"as: held", "as: hold", "=held.v", "=hold.v"}},
		{"another operation", `"held" calls sys.both, and the run has called sys.hold`, []string{"call: sys.hold", "call: sys.both"}},
		{"another word", `"woken" is a `, []string{"  - wait: thing.done\n    as: woken\n    where: event.id == req.id\n    for: 1d\n    else: {cancel: late}\n", "  - call: sys.read\n    as: woken\n"}},
		{"another event", `"woken" waits for another event`, []string{"wait: thing.done", "wait: thing.other"}},
		{"another condition", `"woken" waits for another event, or on another condition`, []string{"event.id == req.id", `event.id == req.id and event.n == 1`}},
		{"other cases", `has other cases`, []string{`req.id == "a"`, `req.id == "c"`}},
		{"no undo", `"held" has no ` + "`undo`", []string{"    undo: {call: sys.release, with: {id: =held.v}}\n", "    undo: {none: kept}\n"}},
		{"no if", `has no ` + "`if`", []string{"  - if: req.n == 1\n    set: {extra: one}\n", "  - set: {extra: one}\n"}},
		{"ordered", "`order_by` changed", []string{"from: {http: POST /v1/r}", "from: {http: POST /v1/r}\norder_by: '=req.key ?? \"k\"'",
			"  - wait: thing.done\n    as: woken\n    where: event.id == req.id\n    for: 1d\n    else: {cancel: late}\n", ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, moved)
			r := w.rested(t)
			w.load(next(c.change...))
			q := moving.Request{Run: w.disk.PublicID(r.ID), To: "2", As: "anna", Reason: "why"}
			before := w.kinds(r.ID)
			_, err := w.mover().Move(context.Background(), q)
			f := (*fault.Error)(nil)
			if !errors.As(err, &f) || f.Kind != fault.Conflict || !strings.Contains(f.Detail, c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
			if got := w.newest(); got.Version != r.Version || got.State != store.Waiting || w.kinds(r.ID) != before {
				t.Errorf("it became %+v", got)
			}
			w.publish("thing.done", "e1", map[string]any{"id": "a"})
			w.pass(time.Minute)
			if got := w.newest(); got.State != store.Done {
				t.Errorf("the old version went on to %s %s", got.State, got.Reason)
			}
		})
	}
}

func TestMovesThatMakeNoSense(t *testing.T) {
	w := newWorld(t, moved)
	r := w.rested(t)
	w.load(next())
	id := w.disk.PublicID(r.ID)
	ask := func(change func(q *moving.Request), kind fault.Kind, want string) {
		t.Helper()
		q := moving.Request{Run: id, To: "2", As: "anna", Reason: "why"}
		change(&q)
		_, err := w.mover().Move(context.Background(), q)
		if f := fault.From(err); err == nil || f.Kind != kind || !strings.Contains(f.Detail, want) {
			t.Errorf("got %v, want %s: %s", err, kind, want)
		}
	}
	ask(func(q *moving.Request) { q.As = "" }, fault.Invalid, "who")
	ask(func(q *moving.Request) { q.Run = "nobody" }, fault.NotFound, "no run nobody")
	ask(func(q *moving.Request) { q.To = "3" }, fault.NotFound, `no version "3"`)
	ask(func(q *moving.Request) { q.To = "abc" }, fault.NotFound, `no version "abc"`)
	ask(func(q *moving.Request) { q.To = "1" }, fault.Conflict, "of version 1 already")
	compile := w.mover()
	compile.Compile = func(context.Context, string, string) (*language.Route, error) {
		return nil, errors.New("no such operation")
	}
	if _, err := compile.Move(context.Background(), moving.Request{Run: id, To: "2", As: "a", Reason: "b"}); err == nil || !strings.Contains(err.Error(), "can't be compiled: no such operation") {
		t.Error(err)
	}
	_, l, err := w.disk.ClaimOne(context.Background(), "other", r.ID)
	if err != nil {
		t.Fatal(err)
	}
	ask(func(*moving.Request) {}, fault.Conflict, "at work now")
	if err := w.disk.Release(context.Background(), l); err != nil {
		t.Fatal(err)
	}
	if _, err := w.e.Cancel(context.Background(), id, clerk); err != nil {
		t.Fatal(err)
	}
	w.clock.Settle()
	ask(func(*moving.Request) {}, fault.Conflict, "only waiting and parked runs")
}

// A run that parked because this binary can't compile its version is mended by
// moving it: then a person lets it go on.
func TestMovedOutOfAVersionThatDoesNotCompile(t *testing.T) {
	w := newWorld(t, moved)
	w.rested(t)
	w.city = loadCity(t, next())
	w.reboot()
	w.pass(25 * time.Hour) // its time is over
	r := w.newest()
	if r.State != store.Parked || r.Reason != "version-does-not-compile" {
		t.Fatalf("%s %s", r.State, r.Reason)
	}
	id := w.disk.PublicID(r.ID)
	if _, err := w.mover().Move(context.Background(), moving.Request{Run: id, To: "2", As: "anna", Reason: "upgrade"}); err != nil {
		t.Fatal(err)
	}
	if got := w.newest(); got.State != store.Parked {
		t.Fatalf("a parked run went on by itself: %s", got.State)
	}
	if _, err := w.e.Replay(context.Background(), id, clerk); err != nil {
		t.Fatal(err)
	}
	w.clock.Settle()
	if got := w.newest(); got.State != store.Cancelled || w.effects("release") != 2 {
		t.Errorf("%s %s, released %d\n%s", got.State, got.Reason, w.effects("release"), w.kinds(r.ID))
	}
}
