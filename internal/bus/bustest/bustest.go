// Package bustest judges implementations of bus.Bus by the promise that package
// bus writes down.
package bustest

import (
	"context"
	"fmt"
	"slices"
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
	Bus bus.Bus
	// Clock is nil where the bus lives in real time, as a broker's does. Then the
	// suite waits for what must come, and a while for what must not.
	Clock   *clock.Virtual
	Backoff time.Duration
	Limit   int
	// Settle returns when the acks given so far are durable; nil: the clock knows.
	Settle func(t *testing.T)
	// Repeats says that a message that is published again may come again, with
	// its id. Receivers of such a bus know what they took.
	Repeats bool
	// Crash ends the process without a word and starts the next one.
	Crash func(t *testing.T) bus.Bus
	// Parked lists the ids and reasons of a queue's parked messages.
	Parked func(t *testing.T, queue string) map[string]string

	// What follows is for a bus of several processes over a broker; nil elsewhere.

	// Another is one more process on the same broker.
	Another func(t *testing.T) bus.Bus
	// Disconnect cuts the connections of the first process.
	Disconnect func(t *testing.T)
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
			k := newKit(t, open)
			e.f(k)
		})
	}
	runShared(t, open)
}

func newKit(t *testing.T, open func(t *testing.T) Harness) *kit {
	k := &kit{T: t, Harness: open(t), ctx: t.Context()}
	t.Cleanup(func() { _ = k.Bus.Close() })
	return k
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

// expectAny takes messages in whatever order they come: those without an order
// key that come again owe each other nothing.
func (k *kit) expectAny(c <-chan *message.Message, ids ...string) []*message.Message {
	k.Helper()
	var got []string
	var ms []*message.Message
	for range ids {
		m := k.next(c)
		got, ms = append(got, m.UUID), append(ms, m)
	}
	slices.Sort(got)
	if d := cmp.Diff(slices.Sorted(slices.Values(ids)), got); d != "" {
		k.Fatalf("received, sorted (-want +got):\n%s", d)
	}
	return ms
}

// repeated: the outbox publishes again what it could not settle before a crash.
func repeated(k *kit) {
	if k.Repeats {
		k.Log("not checked: a broker takes a message that is published again for another")
		return
	}
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
	k.settle()
	if k.Clock == nil {
		select {
		case m := <-c:
			k.Fatalf("message %s came too soon", m.UUID)
		case <-time.After(lull):
		}
		return
	}
	select {
	case m := <-c:
		k.Fatalf("message %s came too soon", m.UUID)
	default:
	}
}

// lull is how long nothing may come in real time. A shorter one sees less, but
// never wrongly.
const lull = 50 * time.Millisecond

func (k *kit) settle() {
	k.Helper()
	switch {
	case k.Settle != nil:
		k.Settle(k.T)
	case k.Clock != nil:
		k.Clock.Settle()
	}
}

// pass lets time pass on a virtual clock; real time passes by itself.
func (k *kit) pass(d time.Duration) {
	if k.Clock != nil {
		k.Clock.Advance(k.Clock.Now().Add(d))
	}
}

// parked waits until a queue's parked messages are as wanted.
func (k *kit) parked(queue string, want map[string]string) {
	k.Helper()
	got := k.Parked(k.T, queue)
	for deadline := time.Now().Add(patience); k.Clock == nil && len(got) < len(want) && time.Now().Before(deadline); {
		got = k.Parked(k.T, queue)
	}
	if d := cmp.Diff(want, got); d != "" {
		k.Fatalf("parked (-want +got):\n%s", d)
	}
}

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
	got := []*message.Message{k.next(c), k.next(c)}
	if got[0].UUID == "2" { // one has an order key, the other none
		got[0], got[1] = got[1], got[0]
	}
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
	k.settle() // the ack is durable
	k.Bus = k.Crash(k.T)
	c = k.subscribe(k.ctx, "g", "t", bus.GroupOptions{})
	ack(k.expectAny(c, "1", "3")...)
	k.quiet(c)
}

func backoff(k *kit) {
	c := k.subscribe(k.ctx, "g", "t", bus.GroupOptions{})
	k.publish("t", "1")
	refused := time.Now()
	k.next(c).Nack()
	if k.Clock != nil {
		k.quiet(c)
		k.publish("t", "2") // it holds up nobody
		k.next(c).Ack()
		k.pass(k.Backoff - time.Millisecond)
		k.quiet(c)
		go k.pass(time.Millisecond)
	}
	m := k.next(c)
	if waited := time.Since(refused); k.Clock == nil && waited < k.Backoff {
		k.Fatalf("it came again after %v, its back-off is %v", waited, k.Backoff)
	}
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
	k.settle()
	k.pass(100 * k.Backoff)
	k.parked("g", map[string]string{"1": fmt.Sprintf("refused %d times: it stinks", k.Limit)})
	k.quiet(c)
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
	if m.UUID != "2" {
		k.Fatalf("%s came after %d deaths, parked are %v", m.UUID, k.Limit+1, k.Parked(k.T, "g"))
	}
	m.Ack()
	parked := k.Parked(k.T, "g")
	for deadline := time.Now().Add(patience); k.Clock == nil && len(parked) == 0 && time.Now().Before(deadline); {
		parked = k.Parked(k.T, "g")
	}
	if parked["1"] == "" {
		k.Fatalf("parked are %v", parked)
	}
}

func parkAtOnce(k *kit) {
	c := k.subscribe(k.ctx, "g", "t", bus.GroupOptions{})
	k.publishKeyed("t", "k", "1", "2")
	bus.Park(k.next(c), "no such person")
	k.next(c).Ack()
	k.quiet(c)
	k.parked("g", map[string]string{"1": "no such person"})
}

func keyed(k *kit) {
	c := k.subscribe(k.ctx, "g", "t", bus.GroupOptions{})
	k.publishKeyed("t", "a", "a1", "a2")
	k.publishKeyed("t", "b", "b1")
	first := []*message.Message{k.next(c), k.next(c)}
	if first[0].UUID == "b1" { // keys owe each other nothing
		first[0], first[1] = first[1], first[0]
	}
	if first[0].UUID != "a1" || first[1].UUID != "b1" {
		k.Fatalf("%s and %s came first", first[0].UUID, first[1].UUID)
	}
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
	// In real time a message reaches the log soon after its publication.
	deadline := time.Now().Add(patience)
	for {
		ms, next, err := k.Bus.Log(k.ctx, "t", after, 2)
		k.must(err)
		if len(ms) == 0 {
			if k.Clock == nil && len(got) < 3 && time.Now().Before(deadline) {
				continue
			}
			if next != after {
				k.Fatalf("the cursor moved from %d to %d over nothing", after, next)
			}
			break
		}
		for _, m := range ms {
			got = append(got, m.UUID)
		}
		if c := bus.CursorOf(ms[len(ms)-1]); c != next {
			k.Fatalf("the last message's cursor is %d, the answer's %d", c, next)
		}
		after = next
	}
	if d := cmp.Diff([]string{"1", "2", "4"}, got); d != "" {
		k.Fatal(d)
	}
	k.publish("t", "5")
	for {
		ms, _, err := k.Bus.Log(k.ctx, "t", after, 2)
		if k.Clock == nil && err == nil && len(ms) == 0 && time.Now().Before(deadline) {
			continue
		}
		if err != nil || len(ms) != 1 || ms[0].UUID != "5" {
			k.Fatal(ms, err)
		}
		return
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
	ack(k.expectAny(c, rest...)...)
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
	ack(k.expectAny(c, rest...)...)
	k.quiet(c)
}
