package waiting

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
)

// queue lets routes wait for the one slot of s, and tells in which order they got it.
func queue(t *testing.T, s *Slots, waiting ...string) string {
	t.Helper()
	var order []string
	synctest.Test(t, func(t *testing.T) {
		if !s.Try() {
			t.Fatal("the slot is not free")
		}
		got := make(chan string)
		for _, w := range waiting {
			route, prio, _ := strings.Cut(w, "/")
			go func() {
				if err := s.Enter(t.Context(), int(prio[0]-'0'), route); err != nil {
					t.Error(err)
				}
				got <- route
			}()
			synctest.Wait() // they come one after the other
		}
		for range waiting {
			s.Leave()
			order = append(order, <-got)
		}
		s.Leave()
		if !s.Try() {
			t.Error("the slot is lost")
		}
		s.Leave()
	})
	return strings.Join(order, " ")
}

func many(n int, w string) (all []string) {
	for range n {
		all = append(all, w)
	}
	return all
}

func TestRoutesTakeTurns(t *testing.T) {
	got := queue(t, NewSlots(1), append(many(5, "flood/1"), "a/1", "b/1", "a/1")...)
	if got != "flood a b flood a flood flood flood" {
		t.Error(got)
	}
}

func TestClassesTakeTurns(t *testing.T) {
	got := queue(t, NewSlots(1), append(append(many(20, "low/2"), many(20, "normal/1")...), many(20, "high/0")...)...)
	first := strings.Fields(got)[:24]
	n := map[string]int{}
	for _, w := range first {
		n[w]++
	}
	if fmt.Sprint(n) != "map[high:16 low:2 normal:6]" {
		t.Errorf("of the first 24: %v", n)
	}
	if got := strings.Fields(got); got[len(got)-1] != "low" {
		t.Errorf("the last: %s", got[len(got)-1])
	}
}

func TestWhoGoesAwayLosesNoSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSlots(1)
		s.Try()
		why := errors.New("drained")
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := make(chan error)
		for range 2 {
			go func() { ended <- s.Enter(ctx, 1, "a") }()
		}
		synctest.Wait()
		cancel(why)
		for range 2 {
			if err := <-ended; !errors.Is(err, why) {
				t.Error(err)
			}
		}
		s.Leave()
		if !s.Try() {
			t.Error("the slot went to somebody who had gone")
		}
	})
}

func TestTakePassesBeforeThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSlots(2)
		if n := s.Take(64, nil); n != 2 {
			t.Fatalf("took %d", n)
		}
		entered := make(chan error, 1)
		go func() { entered <- s.Enter(t.Context(), 0, "new") }()
		synctest.Wait()
		told := 0
		if n := s.Take(64, func() { told++ }); n != 0 {
			t.Fatalf("took %d of none", n)
		}
		s.Leave()
		synctest.Wait()
		if len(entered) > 0 || told != 1 {
			t.Fatalf("the new one passed before, or nobody was told: %d", told)
		}
		if n := s.Take(64, nil); n != 1 {
			t.Fatalf("took %d, the kept one is lost", n)
		}
		s.Leave()
		if err := <-entered; err != nil {
			t.Fatal(err)
		}
		s.Leave()
		s.Leave()
		if n := s.Take(64, nil); n != 2 {
			t.Errorf("%d of 2 are left", n)
		}
	})
}
