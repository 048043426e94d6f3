package run

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/store"
)

// The bounds of semantics 6.3: a clear fault, and the run ends by the table.
func TestBounds(t *testing.T) {
	big := func(n int) map[string]any { return map[string]any{"v": strings.Repeat("x", n)} }
	head := "\nroute: r\nfrom: {http: POST /v1/r}\nsteps:\n"
	hold := `  - call: sys.hold
    as: held
    with: {id: a}
    undo: {call: sys.release, with: {id: a}}
`
	read := func(as string) string {
		return "  - call: sys.read\n    as: " + as + "\n    with: {id: a}\n"
	}
	for _, c := range []struct {
		name, steps, op string
		answers         []any
		status          int
		state           string
		detail          string
		released        int
	}{
		{"a safe answer above 8 MiB", hold + read("got"), "read", []any{big(8 << 20)}, 502, "failed", "8 MiB", 1},
		{"one just below", hold + read("got"), "read", []any{big(7 << 20)}, 204, "done", "", 0},
		{"an effect's answer above it", hold + `  - call: sys.raw
    as: got
    with: {id: a}
    undo: {none: it stands}
`, "raw", []any{big(8 << 20)}, 202, "parked", "8 MiB", 0},
		{"a value made of two", hold + read("a") + read("b") + "  - set: {both: {a: =a, b: =b}}\n", "read", []any{big(5 << 20)}, 500, "failed", "8 MiB", 1},
		{"a scope above 16 MiB", hold + read("a") + read("b") + read("c"), "read", []any{big(6 << 20)}, 500, "failed", "16 MiB", 1},
		{"a value that grows when it is written", hold + read("a"), "read", []any{map[string]any{"v": strings.Repeat("\x01", 3<<20)}}, 502, "failed", "8 MiB", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, head+c.steps)
			w.script[c.op] = c.answers
			a := w.ask(http("r", map[string]any{}))
			w.clock.Settle()
			if a.Status != c.status || w.states() != c.state || w.effects("release") != c.released {
				t.Errorf("%.200s, state %s, released %d, want %d, %s, %d", show(a), w.states(), w.effects("release"), c.status, c.state, c.released)
			}
			if c.detail == "" {
				return
			}
			_, rs, err := w.disk.Load(context.Background(), w.newest().ID)
			if err != nil {
				t.Fatal(err)
			}
			found := false
			for _, r := range rs {
				found = found || strings.Contains(string(r.Body), c.detail)
			}
			if !found {
				t.Errorf("no record says %q", c.detail)
			}
		})
	}
}

// 100,000 records are the end of a run, and its undo still fits.
func TestRecordsAreBounded(t *testing.T) {
	list := make([]any, 10_000)
	for i := range list {
		list[i] = "x"
	}
	sets := ""
	for i := range 11 {
		sets += fmt.Sprintf("      - set: {n%d: =item}\n", i)
	}
	w := newWorld(t, `
route: r
from: {http: POST /v1/r}
within: 60s
steps:
  - call: sys.hold
    as: held
    with: {id: a}
    undo: {call: sys.release, with: {id: =held.v}}
  - each: =req.list ?? []
    as: all
    steps:
`+sets)
	a := w.ask(http("r", map[string]any{"list": list}))
	w.clock.Settle()
	if a.Status != 500 || w.states() != "failed" || w.effects("release") != 1 {
		t.Errorf("%.200s, %s, released %d", show(a), w.states(), w.effects("release"))
	}
}

// What no bound before the journal caught parks the run behind its last commit:
// it is not tried for ever.
func TestJournalRefusesARecord(t *testing.T) {
	w := newWorld(t, `
route: r
from: {http: POST /v1/r}
steps:
  - call: sys.hold
    as: held
    with: {id: a}
    undo: {call: sys.release, with: {id: =held.v}}
  - call: sys.pay
    as: paid
    with: {id: a}
    undo: {none: it stands}
`)
	w.refuse = func(op string, s store.State, _ []store.Record) error {
		if op == "append" && s == store.Running {
			return fmt.Errorf("writing: %w", store.ErrTooLarge)
		}
		return nil
	}
	a := w.ask(http("r", map[string]any{}))
	w.pass(time.Hour)
	if r := w.newest(); a.Status != 202 || r.State != store.Parked || r.Reason != "too-large" || w.calls("hold") != 1 {
		t.Fatalf("%s, %s %s, held %d times", show(a), r.State, r.Reason, w.calls("hold"))
	}
	w.refuse = nil
	if _, err := w.e.Replay(context.Background(), w.id(), clerk); err != nil {
		t.Fatal(err)
	}
	w.pass(time.Minute)
	if w.states() != "done" || w.effects("hold") != 1 || w.effects("pay") != 1 {
		t.Errorf("%s: held %d, paid %d", w.states(), w.effects("hold"), w.effects("pay"))
	}
}

// A request that does not fit the journal never becomes a run.
func TestRequestTooLarge(t *testing.T) {
	w := newWorld(t, `
route: r
from: {http: POST /v1/r}
steps:
  - call: sys.hold
    as: held
    with: {id: a}
    undo: {call: sys.release, with: {id: =held.v}}
`)
	if a := w.ask(http("r", map[string]any{"id": strings.Repeat("x", 9<<20)})); a.Status != 413 || w.calls("hold") != 0 {
		t.Errorf("%.200s, held %d", show(a), w.calls("hold"))
	}
}
