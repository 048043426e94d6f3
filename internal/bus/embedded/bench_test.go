package embedded_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/dime-bus/dime/internal/bus"
	"github.com/dime-bus/dime/internal/bus/embedded"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/store/sqlite"
)

// A message of 1 KiB from Publish to its receiver's ack, on a file.
func BenchmarkEndToEnd(b *testing.B) {
	for _, publishers := range []int{1, 64} {
		b.Run(fmt.Sprint(publishers), func(b *testing.B) {
			s, err := sqlite.Open(b.Context(), sqlite.Options{Path: filepath.Join(b.TempDir(), "a.db"), MasterKey: make([]byte, 32), Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			bs := embedded.New(s, clock.Real{}, slog.New(slog.DiscardHandler))
			defer bs.Close()
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			in, err := bs.Group("bench", bus.GroupOptions{Prefetch: 1024}).SubscribeTopics(ctx, "bench.published")
			if err != nil {
				b.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				for range b.N {
					m := <-in
					m.Ack()
				}
			}()
			payload := make([]byte, 1024)
			work := make(chan struct{}, b.N)
			for range b.N {
				work <- struct{}{}
			}
			close(work)
			b.ResetTimer()
			var wg sync.WaitGroup
			for range publishers {
				wg.Go(func() {
					for range work {
						if err := bs.Publish("bench.published", message.NewMessage(watermill.NewULID(), payload)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			<-done
		})
	}
}
