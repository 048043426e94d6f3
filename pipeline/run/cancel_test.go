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
