package amqp_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/dime-bus/dime/internal/bus"
	"github.com/dime-bus/dime/internal/bus/amqp"
	"github.com/dime-bus/dime/test/cluster"
)

// TestOwnBroker does to a broker what others who share it would not forgive.
func TestOwnBroker(t *testing.T) {
	r := cluster.OwnRabbit(t, cluster.RabbitOptions{Nodes: 1})
	for _, e := range []struct {
		name string
		f    func(t *testing.T, c *city)
	}{
		{"a blocked broker is refused fast, and acks go on", blocked},
		{"a frozen broker costs the deadline", frozen},
		{"the broker closes all connections", closeAll},
		{"nothing is lost when the broker is killed", killed},
	} {
		t.Run(e.name, func(t *testing.T) { e.f(t, newCity(t, r)) })
	}
}

func blocked(t *testing.T, c *city) {
	c.o.PublishTimeout = time.Second
	b := c.open(t)
	in := subscribe(t, b, "g", "t")
	for _, id := range []string{"1", "2"} {
		if err := b.Publish("t", message.NewMessage(id, nil)); err != nil {
			t.Fatal(err)
		}
	}
	first := next(t, in)
	n := c.r.Nodes[0]
	if err := n.Alarm(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	// The broker says so at the first publication.
	var err error
	for deadline := time.Now().Add(patience); !errors.Is(err, amqp.ErrBlocked); {
		if err = b.Publish("t", message.NewMessage("3", nil)); time.Now().After(deadline) {
			t.Fatalf("the last answer is %v", err)
		}
	}
	if err := b.Ready(); !errors.Is(err, amqp.ErrBlocked) {
		t.Fatal(err)
	}
	first.Ack()
	next(t, in).Ack()
	b.Settle(t)
	if err := n.Alarm(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; {
		if err = b.Publish("t", message.NewMessage("4", nil)); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	for m := next(t, in); ; m = next(t, in) { // "3" may have come through
		m.Ack()
		if m.UUID == "4" {
			return
		}
	}
}

func frozen(t *testing.T, c *city) {
	c.o.PublishTimeout = 200 * time.Millisecond
	b := c.open(t)
	in := subscribe(t, b, "g", "t")
	n := c.r.Nodes[0]
	if err := n.Freeze(); err != nil {
		t.Fatal(err)
	}
	err := b.Publish("t", message.NewMessage("1", nil))
	if terr := n.Thaw(); terr != nil {
		t.Fatal(terr)
	}
	if !errors.Is(err, amqp.ErrUnconfirmed) {
		t.Fatal(err)
	}
	m := next(t, in) // its fate was open, and this is it
	m.Ack()
	if m.UUID != "1" {
		t.Fatal(m.UUID)
	}
}

func closeAll(t *testing.T, c *city) {
	b := c.open(t)
	in := subscribe(t, b, "g", "t")
	if err := b.Publish("t", message.NewMessage("1", nil)); err != nil {
		t.Fatal(err)
	}
	next(t, in).Ack() // perhaps too late for the broker to hear it
	if err := c.r.Nodes[0].CloseConnections(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Publish("t", message.NewMessage("2", nil)); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for !seen["2"] {
		m := next(t, in)
		seen[m.UUID] = true
		m.Ack()
	}
}

func killed(t *testing.T, c *city) {
	b := c.open(t)
	loseNothing(t, c, b, 1)
}

// TestThreeNodes kills each node of a cluster once, under load.
func TestThreeNodes(t *testing.T) {
	r := cluster.OwnRabbit(t, cluster.RabbitOptions{Nodes: 3})
	c := newCity(t, r)
	b := c.open(t)
	loseNothing(t, c, b, 3)
}

// loseNothing publishes and receives while nodes are killed, one after another,
// and asks for all that was confirmed, in the order of each key.
func loseNothing(t *testing.T, c *city, b *amqp.Bus, kills int) {
	const publishers = 4
	in := subscribe(t, b, "g", "t")
	var (
		mu        sync.Mutex
		confirmed = make(map[string]bool)
		took      = make(map[string]bool)
		last      = make(map[string]int)
		wrong     []string
		wg        sync.WaitGroup
		stop      = make(chan struct{})
		moved     = make(chan struct{}, 1)
	)
	for p := range publishers {
		key := fmt.Sprint("key", p)
		wg.Go(func() {
			for i := 1; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				m := message.NewMessage(fmt.Sprintf("%d/%d", p, i), nil)
				if p%2 == 0 {
					m.Metadata.Set(bus.MetaKey, key)
				}
				for { // the outbox's part
					err := b.Publish("t", m)
					if err == nil {
						break
					}
					select {
					case <-stop:
						return
					default:
					}
				}
				mu.Lock()
				confirmed[m.UUID] = true
				mu.Unlock()
			}
		})
	}
	go func() {
		for m := range in {
			var p, i int
			_, err := fmt.Sscanf(m.UUID, "%d/%d", &p, &i)
			mu.Lock()
			if key := m.Metadata.Get(bus.MetaKey); err == nil && key != "" && !took[m.UUID] {
				if i != last[key]+1 {
					wrong = append(wrong, fmt.Sprintf("%s: %d after %d", key, i, last[key]))
				}
				last[key] = i
			}
			took[m.UUID] = true
			mu.Unlock()
			m.Ack()
			select {
			case moved <- struct{}{}:
			default:
			}
		}
	}()
	progress := func(what string) { // something is confirmed and received since now
		t.Helper()
		mu.Lock()
		n, k := len(confirmed), len(took)
		mu.Unlock()
		for deadline := time.After(2 * patience); ; {
			select {
			case <-moved:
			case <-deadline:
				mu.Lock()
				n, k = len(confirmed)-n, len(took)-k
				mu.Unlock()
				t.Fatalf("%s %d messages were confirmed and %d received", what, n, k)
			}
			mu.Lock()
			ok := len(confirmed) > n+20 && len(took) > k+20
			mu.Unlock()
			if ok {
				return
			}
		}
	}
	progress("before the harm")
	// RabbitMQ 3.10 forgets a quorum queue whose node is killed within half a second
	// of its declaration, before ra's table of names is on the disk.
	for _, n := range c.r.Nodes {
		if _, err := n.Ctl(t.Context(), "eval", "[dets:sync(T) || T <- dets:all()]."); err != nil {
			t.Fatal(err)
		}
	}
	for i := range kills {
		n := c.r.Nodes[i%len(c.r.Nodes)]
		for _, step := range []func() error{
			n.Kill,
			func() error { return n.Start(t.Context()) },
			func() error { return n.Await(t.Context()) },
		} {
			if err := step(); err != nil {
				t.Fatal(err)
			}
		}
		progress("after the harm")
	}
	close(stop)
	wg.Wait()
	missing := func() (n int) {
		mu.Lock()
		defer mu.Unlock()
		for id := range confirmed {
			if !took[id] {
				n++
			}
		}
		return n
	}
	for deadline := time.After(patience); missing() > 0; {
		select {
		case <-moved:
		case <-deadline:
			t.Fatalf("%d of %d confirmed messages are lost", missing(), len(confirmed))
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for _, w := range wrong {
		t.Error(w)
	}
	t.Logf("%d confirmed, %d received", len(confirmed), len(took))
}
