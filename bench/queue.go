package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/dime-bus/dime/bench/control"
	"github.com/dime-bus/dime/internal/bus"
	"github.com/dime-bus/dime/internal/bus/embedded"
	"github.com/dime-bus/dime/internal/clock"
)

// benchQueue: the embedded bus, end to end (published, delivered, acked), the
// 1 KiB of JSON that W1 carries, against an append log whose waiting writers
// share one fdatasync.
func benchQueue(e *env) ([]Row, error) {
	payload := control.Sample(1)
	log, err := control.OpenAppendLog(filepath.Join(e.dir, "append.log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	s, err := openStore(e, "queue")
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }()
	b := embedded.New(s, clock.Real{}, slog.New(slog.DiscardHandler))
	defer func() { _ = b.Close() }()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	in, err := b.Group("bench", bus.GroupOptions{Prefetch: 1024}).SubscribeTopics(ctx, "bench.published")
	if err != nil {
		return nil, err
	}
	var delivered sync.WaitGroup
	go func() {
		for m := range in {
			m.Ack()
			delivered.Done()
		}
	}()
	speeds := map[string][]float64{}
	for range e.rounds {
		for _, n := range []int{1, 64} {
			v, err := callers(n, e.length/2, func(int, int) error { return log.Append(payload) })
			if err != nil {
				return nil, fmt.Errorf("append log: %w", err)
			}
			speeds[fmt.Sprint("log", n)] = append(speeds[fmt.Sprint("log", n)], v)
			start := time.Now()
			v, err = callers(n, e.length/2, func(int, int) error {
				delivered.Add(1)
				return b.Publish("bench.published", message.NewMessage(watermill.NewULID(), payload))
			})
			if err != nil {
				return nil, fmt.Errorf("queue: %w", err)
			}
			published := time.Since(start)
			delivered.Wait()
			v *= published.Seconds() / time.Since(start).Seconds() // until the last one was received
			speeds[fmt.Sprint("queue", n)] = append(speeds[fmt.Sprint("queue", n)], v)
		}
	}
	m := func(name string) float64 { return median(speeds[name]) }
	return []Row{
		rate("queue_64_publishers", "messages/s", m("queue64"), m("log64"), 0.7),
		rate("queue_1_publisher", "messages/s", m("queue1"), m("log1"), 0.8),
	}, nil
}

// incompressible is 1 KiB of which compression can make no less: the embedded
// bus compresses, the append log does not.
func incompressible() []byte {
	b := make([]byte, 1024)
	rand.Read(b) // never fails (crypto/rand)
	return b
}

// benchQueueLatency: from Publish to the subscriber's hand at 200 messages a
// second, and the processor time of an idle bus.
func benchQueueLatency(e *env) ([]Row, error) {
	s, err := openStore(e, "latency")
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }()
	b := embedded.New(s, clock.Real{}, slog.New(slog.DiscardHandler))
	defer func() { _ = b.Close() }()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	in, err := b.Group("bench", bus.GroupOptions{}).SubscribeTopics(ctx, "bench.published")
	if err != nil {
		return nil, err
	}
	n := int(e.length.Seconds() * 200)
	sent := make([]time.Time, n)
	took := make([]time.Duration, 0, n)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range n {
			m := <-in
			// Not Sscan, which takes the leading zeros for octal.
			if i, err := strconv.Atoi(string(m.Payload[:8])); err == nil {
				took = append(took, time.Since(sent[i]))
			}
			m.Ack()
		}
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for i := range n {
		<-tick.C
		payload := incompressible()
		copy(payload, fmt.Sprintf("%08d", i))
		sent[i] = time.Now()
		if err := b.Publish("bench.published", message.NewMessage(watermill.NewULID(), payload)); err != nil {
			return nil, err
		}
	}
	<-done
	slices.Sort(took)
	p50 := took[len(took)/2]

	before := processorTime()
	time.Sleep(2 * e.length)
	idle := float64(processorTime()-before) / float64(2*e.length) * 100
	return []Row{
		cost("queue_p50_at_200", "ms", p50.Seconds()*1000, 1, 1),
		cost("queue_idle_cpu", "% of a core", max(idle, 0.01), 0.2, 1),
	}, nil
}

// processorTime is what this process has used.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		fmt.Fprintln(os.Stderr, "bench: reading the processor time:", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
