package amqp_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/go-cmp/cmp"
	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/dime-bus/dime/internal/bus"
	"github.com/dime-bus/dime/internal/bus/amqp"
)

func foreign(t *testing.T, c *city) {
	b := c.open(t)
	ch := c.channel(t)
	queue := c.name + "-theirs"
	if _, err := ch.QueueDeclare(queue, true, false, false, false, nil); err != nil { // a classic queue
		t.Fatal(err)
	}
	send := func(id string, h amqp091.Table) {
		if err := ch.PublishWithContext(t.Context(), "", queue, false, false, amqp091.Publishing{MessageId: id, Headers: h, Body: []byte(id)}); err != nil {
			t.Fatal(err)
		}
	}
	in, err := b.Foreign(t.Context(), amqp.Source{Queue: queue}, bus.GroupOptions{})
	if err != nil {
		t.Fatal(err)
	}
	send("1", nil)
	send("2", amqp091.Table{"count": int32(7), "nested": amqp091.Table{"a": "b"}, "when": time.Unix(0, 0)})
	got := map[string]*message.Message{}
	for range 2 {
		m := next(t, in)
		got[m.UUID] = m
	}
	if d := cmp.Diff("7", got["2"].Metadata.Get("count")); d != "" {
		t.Fatal(d)
	}
	got["1"].Nack()
	bus.Park(got["2"], "not for us")
	m := next(t, in)
	if m.UUID != "1" || bus.Attempts(m) != 1 {
		t.Fatalf("%s with %d attempts", m.UUID, bus.Attempts(m))
	}
	m.Ack()
	deadline := time.Now().Add(patience)
	parked := func() map[string]string { return c.parked(t, "foreign."+queue) }
	for len(parked()) == 0 && time.Now().Before(deadline) {
	}
	if d := cmp.Diff(map[string]string{"2": "not for us"}, parked()); d != "" {
		t.Fatal(d)
	}
	b.Settle(t)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if dv, ok, err := ch.Get(queue, true); err != nil || ok {
		t.Fatalf("%s is left: %v", dv.MessageId, err)
	}
}

// exchange: what others send through an exchange of theirs waits in a queue of
// ours; a guest declares nothing else.
func exchange(t *testing.T, c *city) {
	ch := c.channel(t)
	theirs := c.name + "-events"
	if err := ch.ExchangeDeclare(theirs, "topic", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	c.o.Guest = true
	b := c.open(t)
	from := amqp.Source{Queue: "weigh", Exchange: theirs, Keys: []string{"bin.*", "lorry"}}
	in, err := b.Foreign(t.Context(), from, bus.GroupOptions{})
	if err != nil {
		t.Fatal(err)
	}
	send := func(key, id string) {
		if err := ch.PublishWithContext(t.Context(), theirs, key, false, false, amqp091.Publishing{MessageId: id, Body: []byte(key)}); err != nil {
			t.Fatal(err)
		}
	}
	send("bin.full", "1")
	send("street.full", "2")
	send("lorry", "")
	m := next(t, in)
	if m.UUID != "1" || bus.Nameless(m) || string(m.Payload) != "bin.full" || bus.Lost(m) != 0 {
		t.Fatal(m.UUID, bus.Nameless(m), string(m.Payload), bus.Lost(m))
	}
	m.Ack()
	m = next(t, in)
	if !bus.Nameless(m) || m.UUID == "" || string(m.Payload) != "lorry" {
		t.Fatal(m.UUID, bus.Nameless(m), string(m.Payload))
	}
	// Whoever dies with a message in hand is counted.
	b.Settle(t)
	b.Kill()
	b = c.open(t)
	if in, err = b.Foreign(t.Context(), from, bus.GroupOptions{}); err != nil {
		t.Fatal(err)
	}
	m = next(t, in)
	if string(m.Payload) != "lorry" || bus.Lost(m) != 1 || bus.Attempts(m) != 1 {
		t.Fatal(string(m.Payload), bus.Lost(m), bus.Attempts(m))
	}
	m.Nack()
	if m = next(t, in); bus.Lost(m) != 1 || bus.Attempts(m) != 2 {
		t.Fatalf("after a nack %d of %d attempts are lost ones", bus.Lost(m), bus.Attempts(m))
	}
	m.Ack()
	for x, want := range map[string]bool{c.name + ".in": false, c.name + ".alt": false, theirs: true} {
		probe := c.channel(t)
		if err := probe.ExchangeDeclarePassive(x, "topic", true, false, false, false, nil); (err == nil) != want {
			t.Errorf("exchange %s: %v", x, err)
		}
	}
}

// inOrder: two processes take from one queue, one message at a time, and a message
// that is refused holds up those behind it.
func inOrder(t *testing.T, c *city) {
	ch := c.channel(t)
	theirs := c.name + "-events"
	if err := ch.ExchangeDeclare(theirs, "fanout", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	c.o.Guest = true
	from := amqp.Source{Queue: "weigh", Exchange: theirs, Keys: []string{""}, InOrder: true}
	join := func() (*amqp.Bus, <-chan *message.Message) {
		b := c.open(t)
		in, err := b.Foreign(t.Context(), from, bus.GroupOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return b, in
	}
	first, a := join()
	const n = 12
	for i := range n {
		if err := ch.PublishWithContext(t.Context(), theirs, "", false, false, amqp091.Publishing{MessageId: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	m := next(t, a)
	_, b := join()
	var got []string
	refused, left := false, false
	for len(got) < n {
		select {
		case x := <-a:
			t.Fatalf("%s came while %s was in hand", x.UUID, m.UUID)
		case x := <-b:
			t.Fatalf("%s came while %s was in hand", x.UUID, m.UUID)
		case <-time.After(5 * time.Millisecond):
		}
		switch {
		case len(got) == 3 && !refused:
			refused = true
			m.Nack()
		case len(got) == 6 && !left:
			left = true
			done := make(chan error, 1)
			go func() { done <- first.Close() }()
			got = append(got, m.UUID)
			m.Ack()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			a = nil
		default:
			got = append(got, m.UUID)
			m.Ack()
		}
		if len(got) == n {
			break
		}
		select {
		case m = <-a:
		case m = <-b:
		case <-time.After(patience):
			t.Fatalf("no message came after %v", got)
		}
		if m == nil {
			m = next(t, b)
		}
	}
	var want []string
	for i := range n {
		want = append(want, fmt.Sprint(i))
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
	if _, err := first.Foreign(t.Context(), amqp.Source{Queue: "theirs", InOrder: true}, bus.GroupOptions{}); err == nil {
		t.Error("a queue of others keeps an order over several processes")
	}
}
