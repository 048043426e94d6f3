package run

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/store"
)

// The caller's deadline and its leaving, at every point of an effectful run: what
// it is told is true of what the journal then holds (4.2).
func TestCallerAndCommit(t *testing.T) {
	route := `
route: r
from: {http: POST /v1/r}
within: 2s
steps:
  - call: sys.read
    as: got
    with: {id: a}
  - call: sys.both
    as: held
    with: {id: a}
    undo: {call: sys.release, with: {id: =held.v}}
  - set: {result: {v: =held.v}}
`
	for _, c := range []struct {
		name, op   string
		leave      bool
		status     int
		where      bool
		state      string
		held, read int
	}{
		{"late before the first commit", "read", false, 504, false, "", 0, 1},
		{"gone before the first commit", "read", true, 504, false, "", 0, 1},
		{"late after it", "both", false, 504, true, "done", 1, 1},
		{"gone after it", "both", true, 504, true, "done", 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, route)
			w.script[c.op] = []any{30 * time.Second, map[string]any{"v": "x"}}
			ctx, leave := context.WithCancel(context.Background())
			defer leave()
			ch := w.e.Ask(ctx, http("r", map[string]any{}))
			w.clock.Settle()
			var a Answer
			if c.leave {
				leave()
				a = <-ch
			} else {
				a = w.until(ch)
			}
			w.pass(time.Hour)
			if a.Status != c.status || (a.Header["Location"] != "") != c.where {
				t.Errorf("%s %v", show(a), a.Header)
			}
			if got := w.states(); got != c.state || w.effects("both") != c.held || w.effects("release") != 0 {
				t.Errorf("%q, held %d, released %d", got, w.effects("both"), w.effects("release"))
			}
		})
	}
}

// SIGTERM in the middle of a pipe, of a message's run and of an undoing: each is
// ended or goes on in the next process, once (11.4).
func TestDrainEverywhere(t *testing.T) {
	pipe := `
route: r
from: {event: thing.paid}
req: events/thing.paid
version: 1
about: a
owner: t@example.org
steps:
  - call: sys.read
    as: got
    with: {id: =req.id}
  - emit: thing.other
    with: {id: =got.v}
`
	effect := strings.Replace(pipe, "  - emit: thing.other\n    with: {id: =got.v}\n", `  - call: sys.hold
    as: held
    with: {id: =req.id}
    undo: {call: sys.release, with: {id: =held.v}}
  - call: sys.pay
    as: paid
    with: {id: =req.id}
    undo: {none: x}
    errors: {full: {cancel: full}}
`, 1)
	for _, c := range []struct {
		name, route, op string
		script          []any
		want            string
	}{
		{"message before its first commit", effect, "read", []any{time.Second, map[string]any{"v": "x"}}, "done 1 1 0"},
		{"message in an effect", effect, "hold", []any{time.Second, map[string]any{"v": "x"}}, "done 1 1 0"},
		{"undoing", effect, "pay", []any{time.Second, "full"}, "cancelled 1 0 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, c.route)
			w.script[c.op] = c.script
			w.publish("thing.paid", "e-1", map[string]any{"id": "1"})
			done := make(chan struct{})
			go func() { w.e.Drain(context.Background()); close(done) }()
			w.pass(5 * time.Second)
			<-done
			w.reboot()
			w.pass(time.Minute)
			if got := fmt.Sprint(w.states(), " ", w.effects("hold"), " ", w.effects("pay"), " ", w.effects("release")); got != c.want {
				t.Errorf("%s, want %s\n%s", got, c.want, w.kinds(w.newest().ID))
			}
		})
	}
}

// The remembered names of a run that is refused at its very first record are not
// a run: a retry begins afresh, whatever stood in memory.
func TestRefusedAcceptLeavesNothing(t *testing.T) {
	w := newWorld(t, booking)
	full := true
	w.refuse = func(op string, _ store.State, _ []store.Record) error {
		if full && op == "accept" {
			return store.ErrFull
		}
		return nil
	}
	for range 3 {
		if a := w.ask(http("booking", map[string]any{"key": "k"})); a.Status != 503 || a.Header["Retry-After"] == "" {
			t.Fatal(show(a))
		}
	}
	if got := w.states(); got != "" || w.calls("hold") != 0 {
		t.Errorf("%q, held %d", got, w.calls("hold"))
	}
	full = false
	if a := w.ask(http("booking", map[string]any{"key": "k"})); a.Status != 202 {
		t.Error(show(a))
	}
}

// A caller whose deadline comes while the first commit is on its way is not told
// that the run goes on: the commit may fail (semantics 4.2).
func TestLateWhileTheFirstCommitIsUnderWay(t *testing.T) {
	for _, full := range []bool{true, false} {
		w := newWorld(t, "route: r\nfrom: {http: POST /v1/r}\nwithin: 2s\nsteps:\n  - call: sys.hold\n    as: held\n    with: {id: a}\n    undo: {none: x}\n")
		w.refuse = func(op string, _ store.State, _ []store.Record) error {
			if op != "accept" {
				return nil
			}
			if err := clock.Sleep(context.Background(), w.clock, 5*time.Second); err != nil || !full {
				return err
			}
			return store.ErrFull
		}
		a := w.ask(http("r", map[string]any{}))
		if a.Status != 504 || a.Header["Location"] != "" || a.Problem.URL != "" || !strings.Contains(a.Problem.Detail, "Idempotency-Key") {
			t.Errorf("full %v: %s %v", full, show(a), a.Header)
		}
		w.pass(time.Minute)
		if got := w.states(); got != map[bool]string{true: "", false: "done"}[full] {
			t.Errorf("full %v: %q", full, got)
		}
	}
}
