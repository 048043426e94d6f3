package run

import (
	"context"
	"strings"
	"testing"
	"time"
)

// The table of semantics 3: what an outcome does to the caller, the effects and
// the run. `hold` comes first where an effect is to be kept or undone.
func TestOutcomes(t *testing.T) {
	held := `
  - call: sys.hold
    as: held
    with: {id: a}
    undo: {call: sys.release, with: {id: =held.v}}`
	step := func(errors string) string {
		return held + `
  - call: sys.read
    as: got
    with: {id: =req.id}
    errors:
      full: ` + errors + `
  - set: {result: {v: '=got?.v ?? "none"'}}`
	}
	for _, c := range []struct {
		name, steps string
		script      map[string][]any
		answer      string // prefix of "status body"
		state       string
		released    int
	}{
		{"use", step("{use: {v: x}}"), map[string][]any{"read": {"full"}}, `200 {"v":"x"}`, "done", 0},
		{"skip", step("skip"), map[string][]any{"read": {"full"}}, `200 {"v":"none"}`, "done", 0},
		{"stop", step("{stop: enough}"), map[string][]any{"read": {"full"}}, `204 null`, "done", 0},
		{"reply 2xx", step("{reply: 200, with: {v: y}}"), map[string][]any{"read": {"full"}}, `200 {"v":"y"}`, "done", 0},
		{"reply 4xx", step("{reply: 409, say: sorry}"), map[string][]any{"read": {"full"}}, `409 "urn:dime:problem:reply `, "cancelled", 1},
		{"cancel", step("{cancel: no-place}"), map[string][]any{"read": {"full"}}, `409 "urn:dime:problem:cancelled no-place"`, "cancelled", 1},
		{"end", step("{end: refused}"), map[string][]any{"read": {"full"}}, `200 {"end":"refused"}`, "done", 0},
		{"fail", step("{fail: broken}"), map[string][]any{"read": {"full"}}, `500 "urn:dime:problem:failed broken"`, "failed", 1},
		{"reply 5xx", step("{reply: 503, say: sorry}"), map[string][]any{"read": {"full"}}, `503 "urn:dime:problem:reply `, "failed", 1},
		{"park", step("{park: look}"), map[string][]any{"read": {"full"}}, `202 {"run":`, "parked", 0},
		{"permanent fault", step("skip"), map[string][]any{"read": {"denied"}}, `502 "urn:dime:problem:denied`, "failed", 1},
		{"transient fault, caller waiting", step("skip"), map[string][]any{"read": {"unavailable"}}, `503 "urn:dime:problem:unavailable`, "failed", 1},
		{"timeouts then an answer", step("skip"), map[string][]any{"read": {"timeout", "timeout", map[string]any{"v": "late"}}}, `200 {"v":"late"}`, "done", 0},
		{"contract of a safe call", step("skip"), map[string][]any{"read": {map[string]any{"w": 1}}}, `502 "urn:dime:problem:contract`, "failed", 1},
		{"contract of an effect", `
  - call: sys.pay
    as: paid
    with: {id: a}
    undo: {call: sys.refund, with: {id: =paid.v}}`, map[string][]any{"pay": {map[string]any{"w": 1}}}, `202 {"run":`, "parked", 0},
		{"effect unknown, keyed", `
  - call: sys.pay
    as: paid
    with: {id: a}
    undo: {call: sys.refund, with: {id: =paid.v}}
  - set: {result: {v: =paid.v}}`, map[string][]any{"pay": {"sent:unknown", "sent:unknown", "sent:unknown", map[string]any{"v": "p"}}}, `504 "urn:dime:problem:late `, "waiting", 0},
		{"effect unknown, neither", `
  - call: sys.raw
    as: done
    with: {id: a}
    undo: {none: nothing undoes it}`, map[string][]any{"raw": {"done:unknown"}}, `504 "urn:dime:problem:late `, "parked", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "route: r\nfrom: {http: POST /v1/r}\nsteps:"+c.steps+"\n")
			for k, v := range c.script {
				w.script[k] = v
			}
			a := w.ask(http("r", map[string]any{"id": "1"}))
			w.clock.Settle()
			if got := show(a); !strings.HasPrefix(got, c.answer) {
				t.Errorf("answered %s, want %s", got, c.answer)
			}
			if got := w.states(); got != c.state {
				t.Errorf("state %q, want %q\n%s", got, c.state, w.kinds(w.newest().ID))
			}
			if got := w.effects("release") + w.effects("refund"); got != c.released {
				t.Errorf("undone %d, want %d\n%s", got, c.released, w.kinds(w.newest().ID))
			}
		})
	}
}

const lookup = `
route: lookup
from: {http: GET /v1/lookup}
steps:
  - check: req.id != "bad"
    else: {reply: 422, say: sorry}
  - call: sys.read
    as: got
    with: {id: '=req.id ?? "none"'}
    errors: {not_found: {reply: 404, say: sorry}}
  - switch:
      - case: got.v == "read-a"
        steps:
          - set: {word: first}
    else:
      - set: {word: other}
  - reply: 200
    with: {v: =got.v, word: =word}
`

// A run whose steps are all safe touches no store.
func TestSafeRouteTouchesNoStore(t *testing.T) {
	w := newWorld(t, lookup)
	for req, want := range map[string]string{"a": `200 {"v":"read-a","word":"first"}`, "b": `200 {"v":"read-b","word":"other"}`, "bad": `422 "urn:dime:problem:reply "`} {
		if got := show(w.ask(http("lookup", map[string]any{"id": req}))); got != want {
			t.Errorf("%s: answered %s, want %s", req, got, want)
		}
	}
	if n := w.crash.Commits(); n != 0 {
		t.Errorf("%d commits, want none", n)
	}
	rs, err := w.e.Runs(context.Background(), Filter{})
	if err != nil || len(rs) != 3 || rs[0].Durable {
		t.Fatalf("ring: %v %v", rs, err)
	}
	d, err := w.e.Show(context.Background(), rs[0].Run)
	if err != nil || !d.Volatile || len(d.Lines) == 0 {
		t.Errorf("timeline: %+v %v", d, err)
	}
}

func TestBeforeARunExists(t *testing.T) {
	w := newWorld(t, `
route: r
from: {http: POST /v1/r}
allow: caller.assurance >= 2
steps:
  - call: sys.read
    as: x
    with: {id: a}
`)
	low := citizen()
	low.Assurance = 1
	for _, c := range []struct {
		name string
		r    Request
		want int
	}{
		{"no caller", Request{Route: "r", Req: map[string]any{}}, 401},
		{"too little assurance", Request{Route: "r", Req: map[string]any{}, Caller: low}, 403},
		{"bad req", Request{Route: "r", Req: map[string]any{"n": "x"}, Caller: citizen()}, 400},
		{"no such route", Request{Route: "q"}, 404},
		{"allowed", Request{Route: "r", Req: map[string]any{}, Caller: citizen()}, 204},
	} {
		if a := w.ask(c.r); a.Status != c.want {
			t.Errorf("%s: %s, want %d", c.name, show(a), c.want)
		}
	}
	if n := w.calls("read"); n != 1 {
		t.Errorf("read was called %d times", n)
	}
}

// Deadline before the first commit: dropped, nothing has happened. After it: the
// run goes on, 504 with its URL (semantics 4.2).
func TestDeadline(t *testing.T) {
	w := newWorld(t, `
route: r
from: {http: POST /v1/r}
within: 2s
once: '=req.key ?? "k"'
steps:
  - call: sys.read
    as: a
    with: {id: a}
    timeout: 1s
  - call: sys.hold
    as: held
    with: {id: a}
    undo: {call: sys.release, with: {id: =held.v}}
  - call: sys.look
    as: b
    with: {id: a}
    timeout: 1s
    errors: {timeout: skip}
  - set: {result: {v: =held.v}}
`)
	w.script["hold"] = []any{1900 * time.Millisecond, "unavailable", map[string]any{"v": "h"}}
	a := w.ask(http("r", map[string]any{"key": "k1"}))
	if a.Status != 503 && a.Status != 504 {
		t.Errorf("got %s", show(a))
	}
	w.pass(time.Hour)
	if got := w.states(); got != "failed" && got != "done" {
		t.Errorf("state %s", got)
	}
}
