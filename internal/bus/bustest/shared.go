package bustest

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/go-cmp/cmp"

	"github.com/dime-bus/dime/internal/bus"
)

// runShared judges what only several processes over one broker can do.
func runShared(t *testing.T, open func(t *testing.T) Harness) {
	for _, e := range []struct {
		name string
		f    func(k *kit)
	}{
		{"two processes share a group's work", sharing},
		{"two processes keep the order of each key", sharedKeys},
		{"a key goes on in order when its process dies", orphanedKeys},
		{"a process that drains hands over in order", handOver},
		{"a lost connection is made again, for publishers and receivers", reconnect},
		{"nothing is lost and no key is misordered while connections are cut", cuts},
	} {
		t.Run(e.name, func(t *testing.T) {
			k := newKit(t, open)
			if k.Another == nil || k.Disconnect == nil {
				t.Log("not checked: this bus is one process without a broker")
				return
			}
			e.f(k)
		})
	}
}

func (k *kit) another() bus.Bus {
	b := k.Another(k.T)
	k.Cleanup(func() { _ = b.Close() })
	return b
}

func (k *kit) join(b bus.Bus, group, topic string, o bus.GroupOptions) <-chan *message.Message {
	k.Helper()
	c, err := b.Group(group, o).SubscribeTopics(k.ctx, topic)
	k.must(err)
	return c
}

func sharing(k *kit) {
	const n = 40
	other := k.another()
	a := k.join(k.Bus, "g", "t", bus.GroupOptions{Prefetch: 2})
	b := k.join(other, "g", "t", bus.GroupOptions{Prefetch: 2})
	var ids []string
	for i := range n {
		ids = append(ids, fmt.Sprint(i))
	}
	k.publish("t", ids...)
	// Neither acks until both have something.
	held := []*message.Message{k.next(a), k.next(b)}
	seen := map[string]int{held[0].UUID: 1, held[1].UUID: 1}
	ack(held...)
	for len(seen) < n {
		select {
		case m := <-a:
			seen[m.UUID]++
			m.Ack()
		case m := <-b:
			seen[m.UUID]++
			m.Ack()
		case <-time.After(patience):
			k.Fatalf("%d of %d came", len(seen), n)
		}
	}
	for id, times := range seen {
		if times != 1 {
			k.Errorf("%s came %d times", id, times)
		}
	}
}

// order records what receivers of several processes took, and whether two held
// messages of one key at a time.
type order struct {
	mu      sync.Mutex
	took    map[string][]string
	holds   map[string]string
	clashes []string
	n       int
	enough  chan struct{}
	want    int
}

func newOrder(want int) *order {
	return &order{took: make(map[string][]string), holds: make(map[string]string), enough: make(chan struct{}), want: want}
}

// handle takes messages until the channel ends. Repeats of what a key has done
// are a broker's right and are left out.
func (o *order) handle(c <-chan *message.Message) {
	for m := range c {
		go func() {
			key := m.Metadata.Get(bus.MetaKey)
			o.mu.Lock()
			if by, ok := o.holds[key]; ok && by != m.UUID {
				o.clashes = append(o.clashes, fmt.Sprintf("%s while %s was in hand", m.UUID, by))
			}
			o.holds[key] = m.UUID
			o.mu.Unlock()
			time.Sleep(time.Millisecond) // a handler that takes a while
			o.mu.Lock()
			if !slices.Contains(o.took[key], m.UUID) {
				o.took[key] = append(o.took[key], m.UUID)
				if o.n++; o.n == o.want {
					close(o.enough)
				}
			}
			if o.holds[key] == m.UUID {
				delete(o.holds, key)
			}
			o.mu.Unlock()
			m.Ack()
		}()
	}
}

func (o *order) judge(k *kit, want map[string][]string) {
	k.Helper()
	select {
	case <-o.enough:
	case <-time.After(patience):
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if d := cmp.Diff(want, o.took); d != "" {
		k.Errorf("taken by key (-want +got):\n%s", d)
	}
	for _, c := range o.clashes {
		k.Error(c)
	}
}

// stream publishes n messages for each of some keys and returns what is owed.
func (k *kit) stream(b bus.Bus, keys, n int) map[string][]string {
	want := make(map[string][]string)
	for i := range n {
		for key := range keys {
			name, id := fmt.Sprintf("key%d", key), fmt.Sprintf("%d/%03d", key, i)
			m := message.NewMessage(id, nil)
			m.Metadata.Set(bus.MetaKey, name)
			for deadline := time.Now().Add(patience); ; {
				err := b.Publish("t", m)
				if err == nil {
					break
				}
				if time.Now().After(deadline) {
					k.Fatal(err)
				}
			}
			want[name] = append(want[name], id)
		}
	}
	return want
}

func sharedKeys(k *kit) {
	o := newOrder(8 * 20)
	other := k.another()
	go o.handle(k.join(k.Bus, "g", "t", bus.GroupOptions{Prefetch: 16}))
	go o.handle(k.join(other, "g", "t", bus.GroupOptions{Prefetch: 16}))
	o.judge(k, k.stream(k.Bus, 8, 20))
}

// orphanedKeys: the process that holds the keys dies with messages in its hands.
func orphanedKeys(k *kit) {
	a := k.subscribe(k.ctx, "g", "t", bus.GroupOptions{})
	k.publishKeyed("t", "a", "a1", "a2", "a3")
	k.next(a).Ack()
	k.next(a) // a2 is in its hands
	k.settle()
	other := k.another()
	b := k.join(other, "g", "t", bus.GroupOptions{})
	k.quiet(b)
	k.Bus = k.Crash(k.T)
	ack(k.expect(b, "a2")...)
	ack(k.expect(b, "a3")...)
}

// handOver: what is in hand when a process drains is finished before the next
// process gets what follows it.
func handOver(k *kit) {
	a := k.subscribe(k.ctx, "g", "t", bus.GroupOptions{})
	k.publishKeyed("t", "a", "a1", "a2")
	m := k.next(a)
	other := k.another()
	b := k.join(other, "g", "t", bus.GroupOptions{})
	closed := make(chan error, 1)
	go func() { closed <- k.Bus.Close() }()
	k.quiet2(b)
	m.Ack()
	ack(k.expect(b, "a2")...)
	k.must(<-closed)
}

// quiet2 is quiet for a channel of another process, while the first one closes.
func (k *kit) quiet2(c <-chan *message.Message) {
	k.Helper()
	select {
	case m := <-c:
		k.Fatalf("message %s came too soon", m.UUID)
	case <-time.After(lull):
	}
}

func reconnect(k *kit) {
	c := k.subscribe(k.ctx, "g", "t", bus.GroupOptions{})
	k.publish("t", "1")
	m := k.next(c)
	k.Disconnect(k.T)
	k.publish("t", "2") // waits for the next connection
	m.Ack()             // too late: nobody takes it
	seen := make(map[string]bool)
	for !seen["1"] || !seen["2"] {
		m := k.next(c)
		seen[m.UUID] = true
		m.Ack()
	}
	k.Disconnect(k.T)
	k.publish("t", "3")
	for m = nil; m == nil || m.UUID != "3"; {
		m = k.next(c)
		m.Ack()
	}
}

func cuts(k *kit) {
	o := newOrder(6 * 100)
	other := k.another()
	go o.handle(k.join(k.Bus, "g", "t", bus.GroupOptions{}))
	go o.handle(k.join(other, "g", "t", bus.GroupOptions{}))
	done := make(chan map[string][]string)
	go func() { done <- k.stream(other, 6, 100) }()
	var want map[string][]string
	for want == nil {
		select {
		case want = <-done:
		case <-time.After(150 * time.Millisecond):
			k.Disconnect(k.T)
		}
	}
	// Two processes may hold one message while the broker finds out that the first
	// is cut off; what counts then is the order in which a key's messages are taken.
	o.mu.Lock()
	o.clashes = nil
	o.mu.Unlock()
	o.judge(k, want)
}
