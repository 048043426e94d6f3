package sqlite_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/sqlite"
)

func openVictim(path string) (*sqlite.Store, error) {
	return sqlite.Open(context.Background(), options(path, nil))
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
}

// Enqueue is the yardstick of the accepts: one durable message of 1 KiB.
func BenchmarkEnqueue(b *testing.B) {
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			s := open(b, options(filepath.Join(b.TempDir(), "a.db"), nil))
			body := make([]byte, 1024)
			each(b, callers, func(n int64) error {
				return s.Publish(b.Context(), store.Message{ID: strconv.FormatInt(n, 36), Topic: "t", Body: body})
			})
		})
	}
}

func BenchmarkAccept(b *testing.B) {
	for _, once := range []bool{false, true} {
		for _, callers := range []int{1, 64} {
			b.Run(fmt.Sprintf("once=%v/%d", once, callers), func(b *testing.B) {
				s := open(b, options(filepath.Join(b.TempDir(), "a.db"), nil))
				head := make([]byte, 1024)
				each(b, callers, func(n int64) error {
					id, err := s.Reserve(b.Context(), 1)
					if err != nil {
						return err
					}
					r := store.Run{ID: id, Version: "v", Route: "r", State: store.Running, Head: head}
					if once {
						r.Once = &store.Once{Scope: "r", Key: fmt.Sprint(n), BodyHash: head[:32], Until: time.Now().Add(time.Hour)}
					}
					_, _, err = s.Accept(b.Context(), r, store.Record{Kind: store.Intent, Path: "call:a.b", Body: []byte(`{"a":1}`)})
					return err
				})
			})
		}
	}
}

// GroupLog is the limit: an append log whose callers share one fsync.
func BenchmarkGroupLog(b *testing.B) {
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			f, err := os.Create(filepath.Join(b.TempDir(), "log"))
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			jobs := make(chan chan error, 1024)
			body := make([]byte, 1024)
			go func() {
				for j := range jobs {
					batch, buf := []chan error{j}, append([]byte(nil), body...)
					for len(jobs) > 0 {
						batch, buf = append(batch, <-jobs), append(buf, body...)
					}
					_, err := f.Write(buf)
					if err == nil {
						err = f.Sync()
					}
					for _, j := range batch {
						j <- err
					}
				}
			}()
			each(b, callers, func(int64) error { c := make(chan error, 1); jobs <- c; return <-c })
			close(jobs)
		})
	}
}
