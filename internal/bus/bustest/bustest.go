// Package bustest judges implementations of bus.Bus by the promise that package
// bus writes down.
package bustest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/go-cmp/cmp"

	"github.com/dime-bus/dime/internal/bus"
	"github.com/dime-bus/dime/internal/clock"
)

// Harness is one bus under test. It must back off by Backoff and park after
// Limit deliveries.
type Harness struct {
	Bus     bus.Bus
	Clock   *clock.Virtual
	Backoff time.Duration
	Limit   int
	// Crash ends the process without a word and starts the next one.
	Crash func(t *testing.T) bus.Bus
	// Parked lists the ids and reasons of a queue's parked messages.
	Parked func(t *testing.T, queue string) map[string]string
}

// patience is how long a test waits before it says that nothing came.
const patience = 30 * time.Second

// Run runs the suite; open makes a fresh bus for each test.
func Run(t *testing.T, open func(t *testing.T) Harness) {
	for _, e := range []struct {
		name string
		f    func(k *kit)
	}{
		{"every group gets a copy, each message goes to one of its consumers", groups},
		{"metadata and payload come through", content},
		{"what was not acked comes again after a crash", crash},
		{"a nacked message comes again after its back-off", backoff},
		{"a poison message is parked at the limit", poison},
		{"a message that kills the process each time is parked", killer},
		{"a receiver can park at once", parkAtOnce},
		{"messages of one key come one by one, in order", keyed},
		{"a nacked message keeps those of its key behind it", keyedNack},
		{"no more than the prefetch is out", backPressure},
		{"nothing is lost with many publishers and slow starters", many},
		{"a message that is published again is one message", repeated},
		{"the log catches up by cursor", log},
		{"Close waits for acks and gives back the rest", drain},
		{"a subscriber that leaves takes nothing with it", leaving},
	} {
		t.Run(e.name, func(t *testing.T) {
			k := &kit{T: t, Harness: open(t), ctx: t.Context()}
			t.Cleanup(func() { _ = k.Bus.Close() })
			e.f(k)
		})
	}
}

type kit struct {
	*testing.T
	Harness
	ctx context.Context
}

func (k *kit) must(err error) {
	k.Helper()
	if err != nil {
		k.Fatal(err)
	}
}

func (k *kit) publish(topic string, ids ...string) {
	k.Helper()
	for _, id := range ids {
		k.must(k.Bus.Publish(topic, message.NewMessage(id, []byte("body "+id))))
	}
}

func (k *kit) publishKeyed(topic, key string, ids ...string) {
	k.Helper()
	for _, id := range ids {
		m := message.NewMessage(id, nil)
		m.Metadata.Set(bus.MetaKey, key)
		k.must(k.Bus.Publish(topic, m))
	}
}

func (k *kit) subscribe(ctx context.Context, group, topic string, o bus.GroupOptions) <-chan *message.Message {
	k.Helper()
	c, err := k.Bus.Group(group, o).SubscribeTopics(ctx, topic)
	k.must(err)
	return c
}

func (k *kit) next(c <-chan *message.Message) *message.Message {
	k.Helper()
	select {
	case m, ok := <-c:
		if !ok {
			k.Fatal("the channel was closed")
		}
		return m
	case <-time.After(patience):
		k.Fatal("no message came")
		return nil
	}
}

func (k *kit) expect(c <-chan *message.Message, ids ...string) []*message.Message {
	k.Helper()
	var got []string
	var ms []*message.Message
	for range ids {
		m := k.next(c)
		got, ms = append(got, m.UUID), append(ms, m)
	}
	if d := cmp.Diff(ids, got); d != "" {
		k.Fatalf("received (-want +got):\n%s", d)
	}
	return ms
}

// repeated: the outbox publishes again what it could not settle before a crash.
func repeated(k *kit) {
	c := k.subscribe(k.ctx, "g", "t", bus.GroupOptions{})
	k.publish("t", "1", "2", "1", "3")
	for _, m := range k.expect(c, "1", "2", "3") {
		m.Ack()
	}
	k.Bus = k.Crash(k.T)
	c = k.subscribe(k.ctx, "g", "t", bus.GroupOptions{})
	k.publish("t", "3", "2", "4")
	var last *message.Message
	for last == nil || last.UUID != "4" { // an ack that the crash overtook may bring its message again
		last = k.next(c)
		last.Ack()
	}
	ms, _, err := k.Bus.Log(k.ctx, "t", 0, 20)
	k.must(err)
	var got []string
	for _, m := range ms {
		got = append(got, m.UUID)
	}
	if d := cmp.Diff([]string{"1", "2", "3", "4"}, got); d != "" {
		k.Fatalf("the log (-want +got):\n%s", d)
	}
}

// quiet says that all work rests and the channel holds nothing: the bus counts
// what it has in hand on the clock.
func (k *kit) quiet(c <-chan *message.Message) {
	k.Helper()
	k.Clock.Settle()
	select {
	case m := <-c:
		k.Fatalf("message %s came too soon", m.UUID)
	default:
	}
}

func (k *kit) pass(d time.Duration) { k.Clock.Advance(k.Clock.Now().Add(d)) }

func ack(ms ...*message.Message) {
	for _, m := range ms {
		m.Ack()
	}
}

func groups(k *kit) {
	a := k.subscribe(k.ctx, "a", "t.*", bus.GroupOptions{})
	b1 := k.subscribe(k.ctx, "b", "*", bus.GroupOptions{})
	b2 := k.subscribe(k.ctx, "b", "*", bus.GroupOptions{})
	own, err := k.Bus.Subscribe(k.ctx, "t.x")
	k.must(err)
	k.publish("t.x", "1", "2")
	k.publish("u", "3")
	ack(k.expect(a, "1", "2")...)
	ack(k.expect(own, "1", "2")...)
	seen := make(map[string]int)
	for range 3 {
		select {
		case m := <-b1:
			seen[m.UUID]++
			m.Ack()
		case m := <-b2:
			seen[m.UUID]++
			m.Ack()
		case <-time.After(patience):
			k.Fatal("no message came")
		}
	}
	if d := cmp.Diff(map[string]int{"1": 1, "2": 1, "3": 1}, seen); d != "" {
		k.Fatal(d)
	}
	for _, c := range []<-chan *message.Message{a, b1, b2, own} {
		k.quiet(c)
	}
}

func content(k *kit) {
	c := k.subscribe(k.ctx, "g", "t", bus.GroupOptions{})
	m := message.NewMessage("1", []byte(`{"a":1}`))
	want := message.Metadata{bus.MetaType: "certificate.issued", bus.MetaTime: "2026-11-24T08:00:00Z", bus.MetaSource: "anagrafe", bus.MetaVersion: "2", bus.MetaKey: "k"}
	for name, v := range want {
		m.Metadata.Set(name, v)
	}
	k.must(k.Bus.Publish("t", m, message.NewMessage("2", nil)))
	got := k.expect(c, "1", "2")
	if d := cmp.Diff(want, got[0].Metadata); d != "" || string(got[0].Payload) != `{"a":1}` {
		k.Fatal(d, string(got[0].Payload))
	}
	if got[1].Metadata.Get(bus.MetaType) != "t" || got[1].Metadata.Get(bus.MetaTime) == "" || bus.Attempts(got[1]) != 0 {
		k.Fatalf("the defaults are %v", got[1].Metadata)
	}
	ack(got...)
	k.must(k.Bus.Publish("t"))
}

func crash(k *kit) {
	c := k.subscribe(k.ctx, "g", "t", bus.GroupOptions{})
	k.publish("t", "1", "2", "3")
	ms := k.expect(c, "1", "2", "3")
	ms[1].Ack()
	bus.Took(ms[0])
	bus.Took(ms[2])
	k.Clock.Settle() // the ack is durable
	k.Bus = k.Crash(k.T)
	c = k.subscribe(k.ctx, "g", "t", bus.GroupOptions{})
	ack(k.expect(c, "1", "3")...)
	k.quiet(c)
}

func backoff(k *kit) {
	c := k.subscribe(k.ctx, "g", "t", bus.GroupOptions{})
	k.publish("t", "1")
	k.next(c).Nack()
	k.quiet(c)
	k.publish("t", "2") // it holds up nobody
	k.next(c).Ack()
	k.pass(k.Backoff - time.Millisecond)
	k.quiet(c)
	go k.pass(time.Millisecond)
	m := k.next(c)
	if m.UUID != "1" || bus.Attempts(m) != 1 {
		k.Fatalf("%s came with %d attempts", m.UUID, bus.Attempts(m))
	}
	m.Ack()
	k.quiet(c)
}

func poison(k *kit) {
	c := k.subscribe(k.ctx, "g", "t", bus.GroupOptions{})
	k.publish("t", "1")
	for i := range k.Limit {
		if i > 0 {
			go k.pass(k.Backoff)
		}
		bus.Retry(k.next(c), "it stinks")
	}
	k.Clock.Settle()
	k.pass(100 * k.Backoff)
	k.quiet(c)
	if d := cmp.Diff(map[string]string{"1": fmt.Sprintf("refused %d times: it stinks", k.Limit)}, k.Parked(k.T, "g")); d != "" {
		k.Fatal(d)
	}
}

// killer: nothing else is published, so that no other commit tells of it. Its
// first delivery may go uncounted, so that it may kill once more than the limit.
func killer(k *kit) {
	c := k.subscribe(k.ctx, "g", "t", bus.GroupOptions{})
	k.publish("t", "1")
	die := func() {
		k.Bus = k.Crash(k.T)
		c = k.subscribe(k.ctx, "g", "t", bus.GroupOptions{})
	}
	for range k.Limit {
		k.expect(c, "1")
		die()
	}
	k.publish("t", "2")
	m := k.next(c)
	if m.UUID == "1" {
		die()
		m = k.next(c)
	}
	if m.UUID != "2" || k.Parked(k.T, "g")["1"] == "" {
		k.Fatalf("%s came after %d deaths, parked are %v", m.UUID, k.Limit+1, k.Parked(k.T, "g"))
	}
	m.Ack()
}

func parkAtOnce(k *kit) {
	c := k.subscribe(k.ctx, "g", "t", bus.GroupOptions{})
	k.publishKeyed("t", "k", "1", "2")
	bus.Park(k.next(c), "no such person")
	k.next(c).Ack()
	k.quiet(c)
	if d := cmp.Diff(map[string]string{"1": "no such person"}, k.Parked(k.T, "g")); d != "" {
		k.Fatal(d)
	}
}

func keyed(k *kit) {
	c := k.subscribe(k.ctx, "g", "t", bus.GroupOptions{})
	k.publishKeyed("t", "a", "a1", "a2")
	k.publishKeyed("t", "b", "b1")
	first := k.expect(c, "a1", "b1")
	for _, m := range first {
		bus.Took(m)
	}
	k.quiet(c)
	first[0].Ack()
	second := k.expect(c, "a2")
	ack(second[0], first[1])
	k.quiet(c)
}

func keyedNack(k *kit) {
	c := k.subscribe(k.ctx, "g", "t", bus.GroupOptions{})
	k.publishKeyed("t", "a", "a1", "a2")
	k.next(c).Nack()
	k.quiet(c)
	go k.pass(k.Backoff)
	ack(k.expect(c, "a1")...)
	ack(k.expect(c, "a2")...)
	k.quiet(c)
}

func backPressure(k *kit) {
	c := k.subscribe(k.ctx, "g", "t", bus.GroupOptions{Prefetch: 3})
	k.publish("t", "1", "2", "3", "4", "5")
	ms := k.expect(c, "1", "2", "3")
	for _, m := range ms {
		bus.Took(m)
	}
	k.quiet(c)
	ack(ms[1])
	ms = append(ms, k.expect(c, "4")...)
	ack(ms...)
	ack(k.expect(c, "5")...)
	k.quiet(c)
}

func many(k *kit) {
	const publishers, each = 8, 100
	a := k.subscribe(k.ctx, "a", "t", bus.GroupOptions{Prefetch: 16})
	b := k.subscribe(k.ctx, "b", "t", bus.GroupOptions{})
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			for i := range each {
				if err := k.Bus.Publish("t", message.NewMessage(fmt.Sprintf("%d/%d", p, i), nil)); err != nil {
					k.Error(err)
				}
			}
		})
	}
	count := func(c <-chan *message.Message) {
		seen := make(map[string]int)
		for len(seen) < publishers*each {
			select {
			case m := <-c:
				seen[m.UUID]++
				m.Ack()
			case <-time.After(patience):
				k.Errorf("%d of %d came", len(seen), publishers*each)
				return
			}
		}
		for id, n := range seen {
			if n != 1 {
				k.Errorf("%s came %d times", id, n)
			}
		}
	}
	wg.Go(func() { count(a) })
	wg.Go(func() { count(b) })
	wg.Wait()
	k.quiet(a)
	k.quiet(b)
}

func log(k *kit) {
	k.publish("t", "1", "2")
	k.publish("u", "3")
	k.publish("t", "4")
	var got []string
	after := int64(0)
	for {
		ms, next, err := k.Bus.Log(k.ctx, "t", after, 2)
		k.must(err)
		if len(ms) == 0 {
			if next != after {
				k.Fatalf("the cursor moved from %d to %d over nothing", after, next)
			}
			break
		}
		for _, m := range ms {
			got = append(got, m.UUID)
		}
		after = next
	}
	if d := cmp.Diff([]string{"1", "2", "4"}, got); d != "" {
		k.Fatal(d)
	}
	k.publish("t", "5")
	if ms, _, err := k.Bus.Log(k.ctx, "t", after, 2); err != nil || len(ms) != 1 || ms[0].UUID != "5" {
		k.Fatal(ms, err)
	}
}

func drain(k *kit) {
	c := k.subscribe(k.ctx, "g", "t", bus.GroupOptions{Prefetch: 2})
	k.publish("t", "1", "2", "3", "4")
	m := k.next(c)
	closed := make(chan error)
	go func() { closed <- k.Bus.Close() }()
	rest := []string{"2", "3", "4"}
	out := []*message.Message{m}
	for m := range c { // one may have been on its way; the channel ends
		out, rest = append(out, m), rest[1:]
	}
	select {
	case err := <-closed:
		k.Fatalf("Close did not wait: %v", err)
	default:
	}
	ack(out...)
	select {
	case err := <-closed:
		k.must(err)
	case <-time.After(patience):
		k.Fatal("Close never returned")
	}
	if err := k.Bus.Publish("t", message.NewMessage("x", nil)); err == nil {
		k.Fatal("a closed bus publishes")
	}
	if _, err := k.Bus.Subscribe(k.ctx, "t"); err == nil {
		k.Fatal("a closed bus subscribes")
	}
	k.must(k.Bus.Close())
	k.Bus = k.Crash(k.T)
	c = k.subscribe(k.ctx, "g", "t", bus.GroupOptions{})
	ack(k.expect(c, rest...)...)
	k.quiet(c)
}

func leaving(k *kit) {
	ctx, leave := context.WithCancel(k.ctx)
	c := k.subscribe(ctx, "g", "t", bus.GroupOptions{})
	k.publish("t", "1", "2", "3")
	m := k.next(c)
	leave()
	rest := []string{"2", "3"}
	for m := range c { // one more may have been on its way
		m.Ack()
		rest = rest[1:]
	}
	m.Ack()
	c = k.subscribe(k.ctx, "g", "t", bus.GroupOptions{})
	ack(k.expect(c, rest...)...)
	k.quiet(c)
}
