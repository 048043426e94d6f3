package amqp_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/dime-bus/dime/internal/bus"
	"github.com/dime-bus/dime/test/cluster"
)

// A message of 1 KiB from Publish to its receiver's ack, on a broker of its own.
func BenchmarkEndToEnd(b *testing.B) {
	r := cluster.OwnRabbit(b, cluster.RabbitOptions{Nodes: 1})
	for _, publishers := range []int{1, 256} {
		b.Run(fmt.Sprint(publishers), func(b *testing.B) {
			c := newCity(b, r)
			bs := c.open(b)
			in, err := bs.Group("bench", bus.GroupOptions{Prefetch: 1024}).SubscribeTopics(b.Context(), "bench.published")
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
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for range publishers {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
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
