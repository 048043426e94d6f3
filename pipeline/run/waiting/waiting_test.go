package waiting

import (
	"context"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/clock"
)

// rests says whether nothing is counted on the clock but the test itself.
func rests(t *testing.T, c *clock.Virtual) {
	t.Helper()
	clock.Leave(c)
	done := make(chan struct{})
	go func() { c.Settle(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("the clock still counts somebody who has left")
	}
}

func start() (*clock.Virtual, time.Time) {
	now := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	c := clock.NewVirtual(now)
	clock.Enter(c) // the test is the one who waits
	return c, now.Add(time.Minute)
}

func TestLeavingAPlaceThatWasAnswered(t *testing.T) {
	c, late := start()
	var r Room[string]
	p := r.Enter(1, late)
	r.Notify(c, 1, "too early to be heard")
	r.Leave(c, 1, p)
	if r.Waiting(1) {
		t.Error("somebody still waits")
	}
	rests(t, c)
}

func TestLeavingAfterTheAnswer(t *testing.T) {
	c, late := start()
	var r Room[string]
	p := r.Enter(1, late)
	r.Notify(c, 1, "yes")
	if a, ok := p.Wait(context.Background(), c, nil); !ok || a != "yes" {
		t.Fatalf("got %q, %v", a, ok)
	}
	r.Leave(c, 1, p)
	rests(t, c)
}

func TestAnsweringAPlaceThatWasLeft(t *testing.T) {
	c, late := start()
	var r Room[string]
	p, other := r.Enter(1, late), r.Enter(1, late)
	r.Leave(c, 1, p)
	if !r.Waiting(1) {
		t.Error("the other one waits no longer")
	}
	r.Notify(c, 1, "yes")
	if a, ok := other.Wait(context.Background(), c, nil); !ok || a != "yes" {
		t.Fatalf("got %q, %v", a, ok)
	}
	rests(t, c)
}

func TestLeavingAFlight(t *testing.T) {
	c, late := start()
	var f Flights[string]
	g, _ := f.Join("route", "key", "hash", 1, late)
	_, p := f.Join("route", "key", "another hash", 2, late)
	f.Land(c, "route", "key", g, "yes")
	p.Leave(c)
	rests(t, c)
}
