package connectors

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/fault"
)

func enter(t *testing.T, g *Guard) func(error) {
	t.Helper()
	leave, err := g.Enter(context.Background(), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	return leave
}

func refused(t *testing.T, g *Guard, want fault.Kind) {
	t.Helper()
	_, err := g.Enter(context.Background(), nil, 0)
	var f *fault.Error
	if !errors.As(err, &f) || f.Kind != want || f.Sent {
		t.Fatalf("got %v, want %s, surely not sent", err, want)
	}
}

func TestGuardBreaker(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		open bool
	}{
		{"success", nil, false},
		{"business", fault.New(fault.NotFound, "no such fine"), false},
		{"refusal", fault.New(fault.Conflict, "taken"), false},
		{"contract", fault.New(fault.Contract, "broken"), false},
		{"throttled", fault.New(fault.Throttled, "slower"), false},
		{"timeout", fault.New(fault.Timeout, "late"), true},
		{"unavailable", fault.New(fault.Unavailable, "down"), true},
		{"unknown", fault.New(fault.Unknown, "no answer"), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := NewGuard(Policy{Failures: 3, Window: 4, Pause: time.Hour})
			for range 4 {
				if leave, err := g.Enter(context.Background(), nil, 0); err == nil {
					leave(c.err)
				}
			}
			if g.Open() != c.open {
				t.Fatalf("open is %v, want %v", g.Open(), c.open)
			}
			if c.open {
				refused(t, g, fault.Unavailable)
			}
		})
	}
}

func TestGuardLetsOneTryAgain(t *testing.T) {
	g := NewGuard(Policy{Failures: 1, Window: 1, Pause: time.Nanosecond})
	enter(t, g)(fault.New(fault.Timeout, "late"))
	probe := enter(t, g) // the pause is over
	refused(t, g, fault.Unavailable)
	probe(nil)
	enter(t, g)(nil)
}

func TestGuardInFlight(t *testing.T) {
	g := NewGuard(Policy{InFlight: 2})
	a, b := enter(t, g), enter(t, g)
	refused(t, g, fault.Unavailable)
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := g.Enter(gone, nil, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the caller's own end", err)
	}
	a(nil)
	enter(t, g)(nil)
	b(nil)
}

// Nobody begins while a run that has begun waits, which waits as long as it may.
func TestWhoIsUnderWayPassesFirst(t *testing.T) {
	g := NewGuard(Policy{InFlight: 1})
	first := enter(t, g)
	next := make(chan func(error), 1)
	go func() {
		leave, err := g.Enter(context.Background(), nil, time.Hour)
		if err != nil {
			t.Error(err)
		}
		next <- leave
	}()
	for g.behind.Load() == 0 {
		runtime.Gosched()
	}
	refused(t, g, fault.Unavailable)
	first(nil)
	second := <-next
	if g.behind.Load() != 0 {
		t.Error("who has its turn still waits")
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := g.Enter(gone, nil, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the caller's own end", err)
	}
	second(nil)
	enter(t, g)(nil)
}

func TestGuardRate(t *testing.T) {
	g := NewGuard(Policy{Rate: 0.001}) // the next in a thousand seconds
	enter(t, g)(nil)
	refused(t, g, fault.Throttled)
	if g.share.Load().bulkhead.TryAcquirePermit(); g.Open() {
		t.Error("a refusal of ours must not count against the far side")
	}
}

func TestSecretNeverShows(t *testing.T) {
	t.Setenv("DIME_TEST_SECRET", "hunter2")
	s, err := NewSecret("env:DIME_TEST_SECRET")
	if err != nil {
		t.Fatal(err)
	}
	if v, err := s.Resolve(); err != nil || v != "hunter2" {
		t.Errorf("resolved to %q, %v", v, err)
	}
	for _, bad := range []string{"", "hunter2", "env:", "vault:x"} {
		if _, err := NewSecret(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	for _, f := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got := sprintf(f, s); got != "***" {
			t.Errorf("%s prints %s", f, got)
		}
		if got := sprintf(f, Header{Name: "X", Secret: s}); containsRef(got) {
			t.Errorf("%s of a header prints %s", f, got)
		}
	}
}

// Several processes divide what a backend bears.
func TestGuardShare(t *testing.T) {
	g := NewGuard(Policy{InFlight: 4, Rate: 1000})
	enter := func(want int) (leaves []func(error)) {
		t.Helper()
		for range want {
			leave, err := g.Enter(t.Context(), &Operation{}, 0)
			if err != nil {
				t.Fatalf("refused within the bound: %v", err)
			}
			leaves = append(leaves, leave)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := g.Enter(ctx, &Operation{}, 0); err == nil {
			t.Fatalf("more than %d at once", want)
		}
		return leaves
	}
	old := enter(4)
	g.Share(2)
	now := enter(2)
	for _, leave := range append(old, now...) {
		leave(nil)
	}
	enter(2)
	g.Share(100)
	enter(1) // at least one
}

// A pause refuses without an attempt, says until when and with which words, and
// ends by itself or by a person.
func TestAPausedBackendIsNotAsked(t *testing.T) {
	g := NewGuard(Policy{})
	until := time.Now().Add(time.Hour)
	g.Pause(until, "agenda-maintenance")
	_, err := g.Enter(context.Background(), nil, 0)
	f := fault.From(err)
	if f.Kind != fault.Unavailable || f.Sent || !f.Until.Equal(until) || f.Say != "agenda-maintenance" || f.RetryAfter < 59*time.Minute {
		t.Fatalf("%+v", f)
	}
	g.Resume()
	leave, err := g.Enter(context.Background(), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	leave(nil)
	g.Pause(time.Now().Add(-time.Second), "agenda-maintenance")
	if leave, err = g.Enter(context.Background(), nil, 0); err != nil {
		t.Fatalf("a pause that is over: %v", err)
	}
	leave(nil)
}

// Giving up and working again are told once each; trials that fail are not.
func TestTheBreakerTellsOfItsWays(t *testing.T) {
	g := NewGuard(Policy{Failures: 1, Window: 1, Pause: time.Nanosecond})
	var told []bool
	g.OnChange(func(degraded bool) { told = append(told, degraded) })
	for _, err := range []error{fault.New(fault.Unavailable, "down"), fault.New(fault.Unavailable, "down"), nil, nil} {
		var leave func(error)
		for leave == nil { // until the breaker's pause is over
			leave, _ = g.Enter(context.Background(), nil, 0)
		}
		leave(err)
	}
	if len(told) != 2 || !told[0] || told[1] {
		t.Fatalf("told %v", told)
	}
}
