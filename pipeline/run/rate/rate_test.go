package rate

import (
	"strconv"
	"testing"
	"time"
)

var start = time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)

// So many a second: a bucket is full at first, fills with time and no further,
// and says when to ask again.
func TestRate(t *testing.T) {
	var table Table
	for _, c := range []struct {
		rate float64
		at   time.Duration
		want time.Duration // to wait; 0: let in
	}{
		{2, 0, 0},
		{2, 0, 0},
		{2, 0, time.Second},
		{2, 500 * time.Millisecond, 0},
		{2, 500 * time.Millisecond, time.Second},
		{2, time.Hour, 0}, // an hour fills it with two, not more
		{2, time.Hour, 0},
		{2, time.Hour, time.Second},
	} {
		release, wait, once := table.Enter("k", c.rate, 0, start.Add(c.at))
		if (release != nil) != (c.want == 0) || wait != c.want || once {
			t.Errorf("after %v: let in %t, wait %v, want %v", c.at, release != nil, wait, c.want)
		}
	}
	// Less than one a second: the first comes in, the next one ten seconds later.
	if release, _, _ := table.Enter("slow", 0.1, 0, start); release == nil {
		t.Error("the first of a slow key was refused")
	}
	if _, wait, _ := table.Enter("slow", 0.1, 0, start); wait != 10*time.Second {
		t.Errorf("wait %v, want 10s", wait)
	}
}

// So many at once, each key for itself; a refusal takes nothing from the rate.
func TestInFlight(t *testing.T) {
	var table Table
	first, _, _ := table.Enter("a", 2, 1, start)
	if first == nil {
		t.Fatal("refused")
	}
	for range 3 {
		if release, wait, once := table.Enter("a", 2, 1, start); release != nil || wait != time.Second || !once {
			t.Errorf("a second at once: %t, %v, %t", release != nil, wait, once)
		}
	}
	if release, _, _ := table.Enter("b", 2, 1, start); release == nil {
		t.Error("another key was refused")
	}
	first()
	if release, _, _ := table.Enter("a", 2, 1, start); release == nil {
		t.Error("refused although the place is free and the rate allows two")
	}
	for range 10 {
		if release, _, _ := table.Enter("free", 0, 0, start); release == nil {
			t.Fatal("zero bounds something")
		}
	}
}

// The least recent key goes, but not one that has somebody at work.
func TestForgets(t *testing.T) {
	var table Table
	busy, _, _ := table.Enter("busy", 0, 1, start)
	idle, _, _ := table.Enter("idle", 1, 0, start)
	idle()
	for i := range MaxKeys {
		release, _, _ := table.Enter(strconv.Itoa(i), 1, 0, start)
		release()
	}
	if _, _, once := table.Enter("busy", 0, 1, start); !once {
		t.Error("a key with somebody at work was forgotten")
	}
	if release, _, _ := table.Enter("idle", 1, 0, start); release == nil {
		t.Error("the least recent key was remembered")
	}
	if n := len(table.by); n > MaxKeys+1 {
		t.Errorf("%d keys", n)
	}
	busy()
}

func TestShare(t *testing.T) {
	now := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	n := 3
	table := Table{Processes: func() int { return n }}
	taken := func(key string, rate float64, inFlight int) (got int) {
		for {
			if release, _, _ := table.Enter(key, rate, inFlight, now); release == nil {
				return got
			}
			got++
		}
	}
	for _, c := range []struct {
		key      string
		rate     float64
		inFlight int
		want     int
	}{{"rate", 30, 0, 10}, {"at once", 0, 7, 2}, {"less than processes", 0, 2, 1}} {
		if got := taken(c.key, c.rate, c.inFlight); got != c.want {
			t.Errorf("%s: one of 3 processes takes %d, not %d", c.key, got, c.want)
		}
	}
	n = 1
	if got := taken("at once", 0, 7); got != 5 {
		t.Errorf("once the others are gone it takes %d more, not 5", got)
	}
}
