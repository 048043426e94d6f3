package erasing_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/sqlite"
	"github.com/dime-bus/dime/pipeline/run/erasing"
)

const person = "RSSMRA80A01L736U"

type desk struct {
	*erasing.Desk
	t     *testing.T
	s     *sqlite.Store
	clock *clock.Virtual
	asked []string
	fail  error
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	c := clock.NewVirtual(time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC))
	s, err := sqlite.Open(context.Background(), sqlite.Options{Path: sqlite.Memory, Clock: c})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	d := &desk{t: t, s: s, clock: c}
	d.Desk = &erasing.Desk{Store: s, Clock: c, Log: slog.New(slog.DiscardHandler),
		Cancel: func(_ context.Context, run, _, _ string) error { d.asked = append(d.asked, run); return d.fail }}
	return d
}

func (d *desk) run(state store.State) store.RunID {
	d.t.Helper()
	id, err := d.s.Reserve(context.Background(), 1)
	if err == nil {
		_, _, err = d.s.Accept(context.Background(), store.Run{ID: id, Version: "v", Route: "r", State: state, Subjects: []string{person}, Head: []byte(`{"x":1}`)})
	}
	if err != nil {
		d.t.Fatal(err)
	}
	return id
}

func (d *desk) end(id store.RunID) {
	d.t.Helper()
	_, l, err := d.s.ClaimOne(context.Background(), "w", id)
	if err == nil {
		err = d.s.Append(context.Background(), l, store.Done, "", time.Time{}, store.Record{Kind: store.End})
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *desk) ask(dry bool) erasing.Report {
	d.t.Helper()
	r, err := d.Ask(context.Background(), strings.ToLower(person), "anna", "art. 17", dry)
	if err != nil {
		d.t.Fatal(err)
	}
	return r
}

func (d *desk) readable(id store.RunID, want bool) {
	d.t.Helper()
	_, _, err := d.s.Load(context.Background(), id)
	if errors.Is(err, store.ErrErased) == want {
		d.t.Fatalf("run %d: %v", id, err)
	}
}

// work lets the desk look once, after d has passed.
func (d *desk) work(after time.Duration) []erasing.Report {
	d.t.Helper()
	d.clock.Advance(d.clock.Now().Add(after))
	err := d.Look(context.Background())
	rs, lerr := d.List(context.Background())
	err = errors.Join(err, lerr)
	if err != nil {
		d.t.Fatal(err)
	}
	return rs
}

func TestWhoHasNoLiveRunsIsErasedAtOnce(t *testing.T) {
	d := newDesk(t)
	one, two := d.run(store.Done), d.run(store.Failed)
	if r := d.ask(true); r.State != erasing.Erased || r.Runs != 2 || !r.DryRun {
		t.Fatalf("%+v", r)
	}
	d.readable(one, true)
	r := d.ask(false)
	if r.State != erasing.Erased || r.Runs != 2 || r.Done == nil || r.Forgotten == nil || len(r.Live) != 0 {
		t.Fatalf("%+v", r)
	}
	d.readable(one, false)
	d.readable(two, false)
	rs, err := d.List(context.Background())
	if err != nil || len(rs) != 1 || rs[0].As != "anna" || rs[0].Reason != "art. 17" {
		t.Fatalf("%+v, %v", rs, err)
	}
	b, _, err := d.s.Table(erasing.Owner).Get(context.Background(), rs[0].ID)
	if err != nil || strings.Contains(string(b), person) || strings.Contains(rs[0].ID, person) {
		t.Fatalf("the record of an erasure names the person: %v", err)
	}
}

// What can't be written down is not destroyed, and is tried again.
func TestWithoutItsRowNoKeyIsDestroyed(t *testing.T) {
	d := newDesk(t)
	id := d.run(store.Done)
	full, rows := store.ErrFull, 0
	d.Audit = func(_ context.Context, as, request, subject string, runs int) error {
		if full == nil {
			rows++
			d.readable(id, true)
			if as != "anna" || request == "" || subject != person || runs != 1 {
				t.Errorf("the row is %s %s %s %d", as, request, subject, runs)
			}
		}
		return full
	}
	if _, err := d.Ask(t.Context(), person, "anna", "art. 17", false); !errors.Is(err, store.ErrFull) {
		t.Fatal(err)
	}
	d.readable(id, true)
	full = nil
	if err := d.Look(t.Context()); err != nil || rows != 1 {
		t.Fatal(rows, err)
	}
	d.readable(id, false)
}

// Semantics 10.5: live runs have 30 days, and nothing is refused.
func TestLiveRunsAreWaitedForThenCancelled(t *testing.T) {
	d := newDesk(t)
	id := d.run(store.Waiting)
	r := d.ask(false)
	if r.State != erasing.Waits || len(r.Live) != 1 || r.Until == nil || r.Until.Sub(r.Asked) != 30*24*time.Hour {
		t.Fatalf("%+v", r)
	}
	if again := d.ask(false); again.ID != r.ID {
		t.Fatalf("asked again it is another request: %s, %s", r.ID, again.ID)
	}
	if rs := d.work(29 * 24 * time.Hour); rs[0].State != erasing.Waits || len(d.asked) != 0 {
		t.Fatalf("%+v, cancelled %v", rs, d.asked)
	}
	d.readable(id, true)
	if rs := d.work(25 * time.Hour); rs[0].State != erasing.Cancelling || len(d.asked) != 1 {
		t.Fatalf("%+v, cancelled %v", rs, d.asked)
	}
	d.readable(id, true) // its undo needs what it knows
	d.end(id)
	d.work(2 * time.Minute)
	if r := d.ask(false); r.State != erasing.Erased {
		t.Fatalf("%+v", r)
	}
	d.readable(id, false)
}

// What can't be cancelled, or is never undone, keeps nobody's data for ever.
func TestNothingHoldsAnErasureUpForEver(t *testing.T) {
	d := newDesk(t)
	d.fail = errors.New("it has passed a commit")
	id := d.run(store.Parked)
	d.ask(false)
	d.work(30*24*time.Hour + time.Minute)
	d.readable(id, true)
	d.clock.Advance(d.clock.Now().Add(73 * time.Hour))
	if r := d.ask(false); r.State != erasing.Erased {
		t.Fatalf("%+v", r)
	}
	d.readable(id, false)
}
