package postgres_test

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/postgres"
	"github.com/dime-bus/dime/test/cluster"
)

// durable is a store on a server of its own that syncs.
func durable(b *testing.B) *postgres.Store {
	b.Helper()
	server := cluster.PostgresFor(b, cluster.PostgresOptions{Settings: "max_wal_size = 2GB"})
	u, _, err := cluster.NewDatabase(b.Context(), server.URL("postgres"), "template0")
	if err != nil {
		b.Fatal(err)
	}
	return open(b, options(u, nil))
}

// each lets callers share b.N operations.
func each(b *testing.B, callers int, f func(n int64) error) {
	var n atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range callers {
		wg.Go(func() {
			for i := n.Add(1); i <= int64(b.N); i = n.Add(1) {
				if err := f(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

func BenchmarkAccept(b *testing.B) {
	s := durable(b)
	for _, once := range []bool{false, true} {
		for _, callers := range []int{1, 64, 256} {
			b.Run(fmt.Sprintf("once=%v/%d", once, callers), func(b *testing.B) {
				head := make([]byte, 1024)
				each(b, callers, func(n int64) error {
					id, err := s.Reserve(b.Context(), 1)
					if err != nil {
						return err
					}
					r := store.Run{ID: id, Version: "v", Route: "r", State: store.Running, Head: head}
					if once {
						r.Once = &store.Once{Scope: "r", Key: fmt.Sprint(id), BodyHash: head[:32], Until: time.Now().Add(time.Hour)}
					}
					_, _, err = s.Accept(b.Context(), r, store.Record{Kind: store.Intent, Path: "call:a.b", Body: []byte(`{"a":1}`)})
					return err
				})
			})
		}
	}
}

// A whole run with one effect: accepted with its intent, ended with its outcome.
func BenchmarkRun(b *testing.B) {
	s := durable(b)
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			head := make([]byte, 1024)
			each(b, callers, func(int64) error {
				id, err := s.Reserve(b.Context(), 1)
				if err != nil {
					return err
				}
				_, l, err := s.Accept(b.Context(), store.Run{ID: id, Version: "v", Route: "r", State: store.Running, Head: head},
					store.Record{Kind: store.Intent, Path: "call:a.b", Body: []byte(`{"a":1}`)})
				if err != nil {
					return err
				}
				return s.Append(b.Context(), l, store.Done, "", time.Time{}, store.Record{Kind: store.OutcomeRec, Path: "call:a.b", Body: []byte(`{"a":1}`)}, store.Record{Kind: store.End, Body: []byte("1")})
			})
		})
	}
}

// Events that each wake one of many waits.
func BenchmarkDeliver(b *testing.B) {
	s := durable(b)
	var waits atomic.Int64
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			from := waits.Load()
			var wg sync.WaitGroup
			for range 64 {
				wg.Go(func() {
					for n := waits.Add(1); n <= from+int64(b.N); n = waits.Add(1) {
						id, err := s.Reserve(b.Context(), 1)
						if err == nil {
							_, _, err = s.Accept(b.Context(), store.Run{ID: id, Version: "v", Route: "r", State: store.Waiting},
								store.Record{Kind: store.Rest, Path: "w", Wait: &store.Wait{Type: "t", Shape: "s", Key: strconv.FormatInt(n, 10)}})
						}
						if err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			waits.Store(from + int64(b.N))
			each(b, callers, func(n int64) error {
				key := strconv.FormatInt(from+n, 10)
				woken, err := s.Deliver(b.Context(), store.Event{ID: key, Type: "t", Body: []byte(key), Keys: []store.EventKey{{Shape: "s", Key: key}}})
				if err == nil && woken != 1 {
					err = fmt.Errorf("event %s woke %d", key, woken)
				}
				return err
			})
		})
	}
}

func BenchmarkClaim(b *testing.B) {
	s := durable(b)
	for _, max := range []int{1, 64} {
		b.Run(fmt.Sprint(max), func(b *testing.B) {
			var wg sync.WaitGroup
			var n atomic.Int64
			for range 64 {
				wg.Go(func() {
					for n.Add(1) <= int64(b.N) {
						id, err := s.Reserve(b.Context(), 1)
						if err == nil {
							_, _, err = s.Accept(b.Context(), store.Run{ID: id, Version: "v", Route: "r", State: store.Waiting, Due: time.UnixMilli(1), Priority: int(id % 3)})
						}
						if err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			b.ResetTimer()
			for claimed := 0; claimed < b.N; {
				_, ls, err := s.Claim(b.Context(), "w", max)
				if err != nil || len(ls) == 0 {
					b.Fatal(len(ls), err)
				}
				claimed += len(ls)
			}
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "runs/s")
		})
	}
}
