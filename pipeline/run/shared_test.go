package run

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/pipeline/run/asks"
)

// gateway starts a second engine on the world's disk that only serves requests.
func (w *world) gateway() *Engine {
	w.t.Helper()
	e, err := New(Config{Store: w.disk, Clock: w.clock, Do: w.do, Worker: "gateway", Shared: true, NoWork: true,
		BaseURL: func() string { return "https://city.test" }, Random: func() float64 { return 0 }})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := e.Swap(w.city); err != nil {
		w.t.Fatal(err)
	}
	if err := e.Start(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(e.Stop)
	return e
}

const handedOver = `
route: r
from: {http: POST /v1/r}
once: =req.id ?? ""
order_by: ="all"
steps:
  - call: sys.hold
    as: held
    with: {id: =req.id}
    undo: {call: sys.release, with: {id: =req.id}}
  - set: {result: {v: =held.v}}
`

// A run that queues behind another is claimed by a worker when its turn comes;
// its caller is at the gateway, and so may be who asks the same at the worker.
func TestAnswerFromAnotherProcess(t *testing.T) {
	w := newWorldBare(t, handedOver)
	w.cfg.Shared = true
	w.boot()
	g := w.gateway()
	w.script["hold"] = []any{2 * time.Second}
	first := g.Ask(context.Background(), http("r", map[string]any{"id": "a"}))
	w.clock.Settle()
	second := g.Ask(context.Background(), http("r", map[string]any{"id": "b"}))
	w.clock.Settle()
	if s := w.states(); s != "queued running" {
		t.Fatalf("the runs are %s", s)
	}
	again := w.e.Ask(context.Background(), http("r", map[string]any{"id": "a"})) // the run is at work at the gateway
	for _, c := range []struct {
		who  string
		ch   <-chan Answer
		want string
	}{{"first", first, `200 {"v":"hold-a"}`}, {"second", second, `200 {"v":"hold-b"}`}, {"again", again, `200 {"v":"hold-a"}`}} {
		if got := show(w.until(c.ch)); got != c.want {
			t.Errorf("%s: %s", c.who, got)
		}
	}
	if w.effects("hold") != 2 {
		t.Errorf("%d effects", w.effects("hold"))
	}
}

// Without a worker nobody takes what is due, and the gateway says so in time.
func TestGatewayClaimsNothing(t *testing.T) {
	w := newWorldBare(t, handedOver)
	w.e = w.gateway()
	w.script["hold"] = []any{2 * time.Second}
	first := w.e.Ask(context.Background(), http("r", map[string]any{"id": "a"}))
	w.clock.Settle()
	if got := show(w.ask(http("r", map[string]any{"id": "b"}))); !strings.HasPrefix(got, "504") {
		t.Error(got)
	}
	if got := show(w.until(first)); got != `200 {"v":"hold-a"}` {
		t.Error(got)
	}
	if s := w.states(); s != "queued done" {
		t.Errorf("the gateway took what was due: %s", s)
	}
}

// A cancel reaches the run wherever it is at work.
func TestCancelElsewhere(t *testing.T) {
	const route = `
route: r
from: {http: POST /v1/r}
steps:
  - call: sys.hold
    as: held
    with: {id: a}
    undo: {call: sys.release, with: {id: a}}
  - reply: 202
  - call: sys.read
    as: got
    with: {id: a}
  - delay: 10d
`
	for _, c := range []struct {
		name, route string
		refused     bool
	}{{"between steps", route, false}, {"behind a commit", strings.Replace(route, "  - reply: 202", "    commit: true\n  - reply: 202", 1), true}} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorldBare(t, c.route)
			w.cfg.Shared = true
			w.boot()
			g := w.gateway()
			w.script["read"] = []any{4 * time.Second}
			w.ask(http("r", map[string]any{}))
			pub := w.disk.PublicID(w.newest().ID)
			type said struct {
				r   Report
				err error
			}
			ch := make(chan said, 1)
			go func() {
				r, err := g.Cancel(context.Background(), pub, clerk)
				ch <- said{r, err}
			}()
			var got *said
			for got == nil {
				select {
				case s := <-ch:
					got = &s
				default:
					w.pass(100 * time.Millisecond)
				}
			}
			w.pass(time.Minute)
			state, released := w.newest().State, w.effects("release")
			if c.refused {
				if fault.From(got.err).Kind != fault.Conflict || state != store.Waiting || released != 0 {
					t.Errorf("%+v, %v; the run is %s, %d undone", got.r, got.err, state, released)
				}
			} else if got.err != nil || state != store.Cancelled || released != 1 {
				t.Errorf("%+v, %v; the run is %s, %d undone", got.r, got.err, state, released)
			}
			if rows, err := w.disk.Table(asks.Owner).List(context.Background(), "", "", 10); err != nil || len(rows) != 0 {
				t.Errorf("%d asks are left, %v", len(rows), err)
			}
		})
	}
}
