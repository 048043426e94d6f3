package crash_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/crash"
	"github.com/dime-bus/dime/internal/store/sqlite"
	"github.com/dime-bus/dime/internal/store/storetest"
)

// life plays a run of three commits through s and says how many were answered.
func life(t *testing.T, s store.Store, id store.RunID) (answered int) {
	t.Helper()
	ctx := t.Context()
	rec := func(kind store.Kind) store.Record {
		return store.Record{Kind: kind, Path: "a", Round: 1, At: storetest.Start(), Body: []byte(`1`)}
	}
	_, l, err := s.Accept(ctx, store.Run{ID: id, Version: "v", Route: "r", State: store.Running}, rec(store.Intent))
	if err != nil {
		if !errors.Is(err, crash.ErrCrashed) {
			t.Fatal(err)
		}
		return 0
	}
	for i, st := range []store.State{store.Running, store.Done} {
		if err := s.Append(ctx, l, st, "", time.Time{}, rec(store.OutcomeRec)); err != nil {
			if !errors.Is(err, crash.ErrCrashed) {
				t.Fatal(err)
			}
			return i + 1
		}
	}
	return 3
}

// The commit of At is not answered either way: without After it never happened,
// with After it is there for the next process.
func TestAtAndAfter(t *testing.T) {
	for at := 0; at <= 3; at++ {
		for _, after := range []bool{false, true} {
			ctx := context.Background()
			below, err := sqlite.Open(ctx, sqlite.Options{Path: sqlite.Memory, Clock: clock.NewVirtual(storetest.Start())})
			if err != nil {
				t.Fatal(err)
			}
			var seen []int
			var crashed []crash.Commit
			s := crash.Wrap(below, crash.Plan{At: at, After: after,
				Seen:    func(c crash.Commit) { seen = append(seen, c.N) },
				Crashed: func(c crash.Commit) { crashed = append(crashed, c) }})
			heard := 0
			s.OnWake(func() { heard++ })
			id, err := s.Reserve(ctx, 1) // not counted
			if err != nil {
				t.Fatal(err)
			}
			answered := life(t, s, id)
			stored := 0
			if _, rs, err := below.Load(ctx, id); err == nil {
				stored = len(rs)
			} else if !errors.Is(err, store.ErrNoRun) {
				t.Fatal(err)
			}
			wantAnswered, wantStored, counted := 3, 3, 3
			if at > 0 {
				wantAnswered, wantStored, counted = at-1, at-1, at
				if after {
					wantStored = at
				}
			}
			if answered != wantAnswered || stored != wantStored || s.Commits() != counted || !slices.Equal(seen, []int{1, 2, 3}[:counted]) {
				t.Fatalf("at %d, after %v: %d answered, %d stored, %d counted, seen %v", at, after, answered, stored, s.Commits(), seen)
			}
			if at == 0 {
				if s.Dead() || len(crashed) != 0 {
					t.Fatalf("a plan without At crashed: %v", crashed)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if _, err := below.Reserve(ctx, 1); !errors.Is(err, store.ErrClosed) {
					t.Fatalf("Close of a living process left the store open: %v", err)
				}
				continue
			}
			op, kind := "Append", store.OutcomeRec
			if at == 1 {
				op, kind = "Accept", store.Intent
			}
			if !s.Dead() || len(crashed) != 1 || crashed[0].N != at || crashed[0].Op != op || crashed[0].Run != id || !slices.Equal(crashed[0].Kinds, []store.Kind{kind}) {
				t.Fatalf("at %d: crashed %+v", at, crashed)
			}
			gone(t, s, id)
			s.Kill() // once dead, nothing dies again
			if len(crashed) != 1 || s.Commits() != counted {
				t.Fatalf("at %d: a dead process crashed again or counted: %v, %d", at, crashed, s.Commits())
			}
			// The store beneath lives on, and the dead hear nothing of it.
			heard = 0
			due := store.Run{ID: id + 1, Version: "v", Route: "r", State: store.Waiting, Due: storetest.Start()}
			if _, _, err := below.Accept(ctx, due); err != nil || heard != 0 {
				t.Fatalf("at %d: %v, the dead process heard %d wakes", at, err, heard)
			}
			if err := below.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// gone: every kind of method fails, and Close closes nothing.
func gone(t *testing.T, s *crash.Store, id store.RunID) {
	t.Helper()
	ctx := t.Context()
	_, _, load := s.Load(ctx, id)
	_, claim := s.Deliver(ctx, store.Event{ID: "e", Type: "t", At: storetest.Start()})
	_, reserve := s.Reserve(ctx, 1)
	_, receive := s.Receive(ctx, "q", 1)
	_, find := s.Find(ctx, store.Filter{})
	for name, err := range map[string]error{"Load": load, "Deliver": claim, "Reserve": reserve, "Receive": receive, "Find": find,
		"Publish": s.Publish(ctx, store.Message{ID: "m", Topic: "t"}), "Bind": s.Bind(ctx, "q", "t"),
		"Settle": s.Settle(ctx, store.Ack{Queue: "q", ID: 1}), "Published": s.Published(ctx, 1)} {
		if !errors.Is(err, crash.ErrCrashed) {
			t.Errorf("%s of a dead process gave %v", name, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Errorf("closing a dead process: %v", err)
	}
}

// Kill dies between commits, under Wake and Ready that never receive again.
func TestKill(t *testing.T) {
	ctx := t.Context()
	below, err := sqlite.Open(ctx, sqlite.Options{Path: sqlite.Memory, Clock: clock.NewVirtual(storetest.Start())})
	if err != nil {
		t.Fatal(err)
	}
	defer below.Close()
	s := crash.Wrap(below, crash.Plan{})
	if err := s.Bind(ctx, "q", "t"); err != nil {
		t.Fatal(err)
	}
	ready := s.Ready("q")
	s.Kill()
	if err := below.Publish(ctx, store.Message{ID: "1", Topic: "t"}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ready:
		t.Fatal("the dead process was told of a message")
	default:
	}
	if got, err := below.Receive(ctx, "q", 1); err != nil || len(got) != 1 {
		t.Fatalf("the store beneath gave %v, %v", got, err)
	}
}
