package serial

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
)

// Two Numbers on one folder are two processes: flock is per open file.
func TestNumbersLeaveInOrder(t *testing.T) {
	dir := t.TempDir()
	var last, inside atomic.Int64
	var wg sync.WaitGroup
	for range 2 {
		n, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		for range 32 {
			wg.Go(func() {
				err := n.Next(context.Background(), "C030", 0, func(_ context.Context, x int64) error {
					if n := inside.Add(1); n != 1 {
						t.Errorf("%d at once", n)
					}
					if before := last.Swap(x); x <= before {
						t.Errorf("%d after %d", x, before)
					}
					inside.Add(-1)
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if last.Load() != 64 {
		t.Errorf("64 numbers ended at %d", last.Load())
	}
}

func TestANumberIsNotGivenTwice(t *testing.T) {
	dir := t.TempDir()
	n, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	if err := n.Next(context.Background(), "s", 100, func(_ context.Context, x int64) error {
		if x != 100 {
			t.Errorf("began with %d, want the floor 100", x)
		}
		return broken
	}); !errors.Is(err, broken) {
		t.Error(err)
	}
	if n, err = Open(dir); err != nil {
		t.Fatal(err)
	}
	if err := n.Next(context.Background(), "s", 1, func(_ context.Context, x int64) error {
		if x != 101 {
			t.Errorf("after a restart: %d, want 101", x)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if err := n.Next(context.Background(), "../s", 1, nil); err == nil {
		t.Error("a series that leaves the folder was taken")
	}
}

func TestWaitingForTheTurnEndsWithTheCaller(t *testing.T) {
	n, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	err = n.Next(context.Background(), "s", 0, func(ctx context.Context, _ int64) error {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		if err := n.Next(ctx, "s", 0, func(context.Context, int64) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
