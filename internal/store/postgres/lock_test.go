package postgres_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/store/postgres"
	"github.com/dime-bus/dime/internal/store/serial"
	"github.com/dime-bus/dime/test/cluster"
)

// Numbers leave one after the other whoever takes them, and none is given twice.
func TestNumbersOfSeveralProcesses(t *testing.T) {
	url := cluster.Postgres(t)
	var stores []*postgres.Store
	for range 3 {
		stores = append(stores, open(t, options(url, nil)))
	}
	const each = 40
	var left []int64 // written under the numbers' own exclusion
	var wg sync.WaitGroup
	for _, s := range stores {
		numbers := serial.NewShared(s.Table(serial.Owner), s)
		for range 8 {
			wg.Go(func() {
				for range each / 8 {
					if err := numbers.Next(context.Background(), "s", 100, func(_ context.Context, n int64) error {
						left = append(left, n)
						return nil
					}); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	if len(left) != each*len(stores) || left[0] != 100 {
		t.Fatalf("%d numbers, the first %d", len(left), left[0])
	}
	for i := 1; i < len(left); i++ {
		if left[i] != left[i-1]+1 {
			t.Fatalf("%d follows %d", left[i], left[i-1])
		}
	}
	numbers := serial.NewShared(stores[0].Table(serial.Owner), stores[0])
	failed := errors.New("refused")
	if err := numbers.Next(context.Background(), "s", 0, func(context.Context, int64) error { return failed }); !errors.Is(err, failed) {
		t.Errorf("%v", err)
	}
	if err := numbers.Next(context.Background(), "a b", 0, nil); err == nil {
		t.Error("a name with a space is taken")
	}
}

// Who waits for a lock gets it when its holder's process dies, and gives up when
// told to.
func TestLock(t *testing.T) {
	url := cluster.Postgres(t)
	a, b := open(t, options(url, nil)), open(t, options(url, nil))
	unlock, err := a.Lock(context.Background(), "x")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := b.Lock(ctx, "x"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a lock that is held: %v", err)
	}
	got := make(chan error)
	go func() {
		free, err := b.Lock(context.Background(), "x")
		if err == nil {
			free()
		}
		got <- err
	}()
	sql(t, url, "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and granted and pid <> pg_backend_pid()")
	if err := <-got; err != nil {
		t.Error(err)
	}
	unlock()
}

// What is done under locks needs the store: they take nothing from its connections.
func TestLocksLeaveTheStoreItsConnections(t *testing.T) {
	o := options(cluster.Postgres(t), nil)
	s := open(t, o)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for i := range 2 * o.Pool {
		unlock, err := s.Lock(ctx, string(rune('a'+i)))
		if err != nil {
			t.Fatal(err)
		}
		defer unlock()
	}
	if err := s.Table("t").Update(ctx, "k", func([]byte) ([]byte, error) { return []byte("v"), nil }); err != nil {
		t.Fatal(err)
	}
	if _, found, err := s.Table("t").Get(ctx, "k"); err != nil || !found {
		t.Fatal(found, err)
	}
}
