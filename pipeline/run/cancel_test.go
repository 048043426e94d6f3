package run

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/store"
)

const resting = `
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

// cancelDuring asks for a cancel while a commit of the wanted state is on its way
// to the disk, and returns when the cancel has its answer. dies: no commit behind
// that one reaches the disk.
func cancelDuring(t *testing.T, w *world, want store.State, dies bool) (Report, error) {
	t.Helper()
	w.script["read"] = []any{2 * time.Second}
	w.ask(http("r", map[string]any{}))
	pub := w.disk.PublicID(w.newest().ID)
	x := w.e.live.get(w.newest().ID)
	on, asked := make(chan struct{}), make(chan struct{})
	seen := false
	w.refuse = func(op string, s store.State, _ []store.Record) error {
		switch {
		case op != "append":
			return nil
		case seen && dies:
			return store.ErrClosed
		case seen || s != want:
			return nil
		}
		seen = true
		close(on)
		<-asked
		return nil
	}
	advanced := make(chan struct{})
	go func() { w.pass(2 * time.Second); close(advanced) }()
	<-on
	length := func() int { x.mu.Lock(); defer x.mu.Unlock(); return len(x.log) }
	before := length()
	var rep Report
	var err error
	done := make(chan struct{})
	go func() { rep, err = w.e.Cancel(context.Background(), pub, clerk); close(done) }()
	for length() == before {
		runtime.Gosched()
	}
	close(asked)
	<-done
	<-advanced
	return rep, err
}

// A cancel that is asked for while the run's rest is on its way to the disk is
// accepted only with what makes it take effect.
func TestCancelMeetsRest(t *testing.T) {
	w := newWorld(t, resting)
	rep, err := cancelDuring(t, w, store.Waiting, false)
	if err != nil || rep.State != "cancelled" {
		t.Errorf("%+v, %v", rep, err)
	}
	w.reboot()
	w.clock.Settle()
	if w.states() != "cancelled" || w.effects("release") != 1 {
		t.Errorf("%s, released %d times\n%s", w.states(), w.effects("release"), w.kinds(w.newest().ID))
	}
	if n := strings.Count(w.kinds(w.newest().ID), "person"); n != 1 {
		t.Errorf("the act stands %d times in the journal", n)
	}
}

func TestCancelMeetsRestAndTheProcessEnds(t *testing.T) {
	w := newWorld(t, resting)
	rep, err := cancelDuring(t, w, store.Waiting, true)
	w.refuse = nil
	w.reboot()
	w.clock.Settle()
	if err == nil || w.states() != "waiting" {
		t.Errorf("%+v, %v, and the run is %s", rep, err, w.states())
	}
}

// A cancel that a rest's own commit carries takes effect in the next process,
// not ten days later.
func TestCancelRidesWithRest(t *testing.T) {
	w := newWorld(t, resting)
	w.script["read"] = []any{2 * time.Second}
	w.ask(http("r", map[string]any{}))
	id := w.newest().ID
	x := w.e.live.get(id)
	length := func() int { x.mu.Lock(); defer x.mu.Unlock(); return len(x.log) }
	rested := func() bool {
		x.mu.Lock()
		defer x.mu.Unlock()
		return x.log[len(x.log)-1].kind == store.Rest
	}
	dead := false
	w.refuse = func(op string, s store.State, _ []store.Record) error {
		if dead {
			return store.ErrClosed
		}
		dead = op == "append" && s == store.Waiting
		return nil
	}
	x.commitMu.Lock()
	advanced := make(chan struct{})
	go func() { w.pass(2 * time.Second); close(advanced) }()
	for !rested() {
		runtime.Gosched()
	}
	before := length()
	done := make(chan error)
	go func() {
		_, err := w.e.Cancel(context.Background(), w.disk.PublicID(id), clerk)
		done <- err
	}()
	for length() == before {
		runtime.Gosched()
	}
	x.commitMu.Unlock()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	<-advanced
	w.refuse = nil
	w.reboot()
	w.clock.Settle()
	if w.states() != "cancelled" || w.effects("release") != 1 {
		t.Errorf("%s, released %d times\n%s", w.states(), w.effects("release"), w.kinds(id))
	}
}

// A cancel that comes while the end is on its way to the disk is told so.
func TestCancelMeetsEnd(t *testing.T) {
	w := newWorld(t, strings.Replace(resting, "  - delay: 10d\n", "", 1))
	rep, err := cancelDuring(t, w, store.Done, false)
	var f *fault.Error
	if !errors.As(err, &f) || f.Kind != fault.Conflict || !strings.Contains(f.Detail, "has ended") {
		t.Errorf("%+v, %v", rep, err)
	}
	if w.states() != "done" || w.effects("release") != 0 {
		t.Errorf("%s, released %d times", w.states(), w.effects("release"))
	}
}

// Behind a commit a run only goes forward, also where a cancel was accepted while
// the committing step was under way and the process ended.
func TestCancelBehindCommitAfterCrash(t *testing.T) {
	w := newWorld(t, certificate)
	w.script["pay"] = []any{2 * time.Second, map[string]any{"v": "p"}}
	ch := w.e.Ask(context.Background(), http("certificate", map[string]any{}))
	w.clock.Settle()
	if _, err := w.e.Cancel(context.Background(), w.disk.PublicID(w.newest().ID), clerk); err != nil {
		t.Fatal(err)
	}
	dead := false
	w.refuse = func(op string, _ store.State, rs []store.Record) error {
		if dead {
			return store.ErrClosed
		}
		for _, r := range rs {
			dead = dead || r.Path == "paid" && r.Kind == store.OutcomeRec
		}
		return nil
	}
	w.until(ch)
	w.refuse = nil
	w.reboot()
	w.pass(time.Minute)
	if w.states() != "done" || w.effects("refund") != 0 {
		t.Errorf("%s, refunded %d times\n%s", w.states(), w.effects("refund"), w.kinds(w.newest().ID))
	}
}

// shown is the run's timeline as `runs show` prints it.
func (w *world) shown() string {
	w.t.Helper()
	d, err := w.e.Show(context.Background(), w.disk.PublicID(w.newest().ID))
	if err != nil {
		w.t.Fatal(err)
	}
	var b strings.Builder
	for _, l := range d.Lines {
		b.WriteString(l.Kind + " " + l.Step + " " + l.Note + "\n")
	}
	return b.String()
}

// A cancel that is accepted while a commit is under way, which then succeeds, has
// no effect; the timeline says that it came too late, and who asked (7.7).
func TestCancelMeetsCommit(t *testing.T) {
	for _, crashes := range []bool{false, true} {
		w := newWorld(t, certificate)
		w.script["pay"] = []any{2 * time.Second, map[string]any{"v": "p"}}
		ch := w.e.Ask(context.Background(), http("certificate", map[string]any{}))
		w.clock.Settle()
		pub := w.disk.PublicID(w.newest().ID)
		rep, err := w.e.Cancel(context.Background(), pub, clerk)
		if err != nil || !strings.Contains(rep.Note, "too late") {
			t.Fatalf("%+v, %v", rep, err)
		}
		dead := false
		w.refuse = func(_ string, _ store.State, rs []store.Record) error {
			if dead {
				return store.ErrClosed
			}
			for _, r := range rs {
				dead = dead || crashes && r.Path == "paid" && r.Kind == store.OutcomeRec
			}
			return nil
		}
		w.until(ch)
		w.refuse = nil
		if crashes {
			w.reboot()
		}
		w.pass(time.Minute)
		if w.states() != "done" || w.effects("refund") != 0 || strings.Count(w.shown(), "too-late by anna") != 1 {
			t.Errorf("crash %v: %s, refunded %d times\n%s", crashes, w.states(), w.effects("refund"), w.shown())
		}
	}
}

// A commit that fails leaves the cancel its effect.
func TestCancelMeetsCommitThatFails(t *testing.T) {
	w := newWorld(t, strings.Replace(certificate, "steps:\n", "steps:\n  - call: sys.both\n    as: first\n    with: {id: a}\n    undo: {call: sys.release, with: {id: =first.v}}\n", 1))
	w.script["pay"] = []any{2 * time.Second, "full"}
	ch := w.e.Ask(context.Background(), http("certificate", map[string]any{}))
	w.clock.Settle()
	if _, err := w.e.Cancel(context.Background(), w.disk.PublicID(w.newest().ID), clerk); err != nil {
		t.Fatal(err)
	}
	w.until(ch)
	w.pass(time.Minute)
	if got := w.shown(); w.effects("release") != 1 || strings.Contains(got, "too-late") || w.states() == "done" {
		t.Errorf("%s, released %d\n%s", w.states(), w.effects("release"), got)
	}
}

// A cancel that finds a run in memory again, before its walk came to the commit,
// is refused like any other behind it.
func TestCancelOfAResumedRunBehindCommit(t *testing.T) {
	w := newWorld(t, certificate)
	w.script["hold"] = []any{"full"}
	w.ask(http("certificate", map[string]any{}))
	w.clock.Settle()
	id := w.newest().ID
	x, release, err := w.e.hold(context.Background(), w.disk.PublicID(id), false)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	var f *fault.Error
	if _, err := w.e.Cancel(context.Background(), w.disk.PublicID(id), clerk); !errors.As(err, &f) || f.Kind != fault.Conflict {
		t.Errorf("accepted: %v", err)
	}
	if x.act.Load() != nil {
		t.Error("the cancel waits in the run")
	}
}

// One branch sees the cancel, the commit of another is faster: the run goes forward.
func TestCancelMeetsCommitInABranch(t *testing.T) {
	w := newWorld(t, `
route: r
from: {http: POST /v1/r}
steps:
  - all:
      steps:
        a:
          - call: sys.pay
            as: paid
            with: {id: a}
            undo: {call: sys.refund, with: {id: =paid.v}}
            commit: true
        b:
          - call: sys.read
            as: got
            with: {id: b}
          - call: sys.hold
            as: held
            with: {id: b}
            undo: {none: it expires}
  - reply: 200
`)
	w.script["pay"] = []any{2 * time.Second, map[string]any{"v": "p"}}
	w.script["read"] = []any{time.Second}
	ch := w.e.Ask(context.Background(), http("r", map[string]any{}))
	w.clock.Settle()
	if _, err := w.e.Cancel(context.Background(), w.disk.PublicID(w.newest().ID), clerk); err != nil {
		t.Fatal(err)
	}
	w.until(ch)
	w.pass(time.Minute)
	if got := w.shown(); w.states() != "done" || w.effects("refund") != 0 || w.effects("hold") != 1 || !strings.Contains(got, "too-late") {
		t.Errorf("%s, refunded %d, held %d\n%s", w.states(), w.effects("refund"), w.effects("hold"), got)
	}
}

// Nothing before a commit is undone, by a replay from a path before it either.
func TestReplayFromBeforeCommit(t *testing.T) {
	w := newWorld(t, certificate)
	w.script["hold"] = []any{"full"}
	w.ask(http("certificate", map[string]any{}))
	w.clock.Settle()
	act := clerk
	act.From = "paid"
	var f *fault.Error
	if _, err := w.e.Replay(context.Background(), w.disk.PublicID(w.newest().ID), act); !errors.As(err, &f) || f.Kind != fault.Conflict {
		t.Errorf("%v", err)
	}
	if w.effects("refund") != 0 {
		t.Error("refunded")
	}
}
