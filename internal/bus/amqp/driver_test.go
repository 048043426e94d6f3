package amqp_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	watermillamqp "github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/go-cmp/cmp"
	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/dime-bus/dime/internal/bus"
	"github.com/dime-bus/dime/internal/bus/amqp"
)

const patience = 30 * time.Second

func next(t *testing.T, c <-chan *message.Message) *message.Message {
	t.Helper()
	select {
	case m, ok := <-c:
		if !ok {
			t.Fatal("the channel was closed")
		}
		return m
	case <-time.After(patience):
		t.Fatal("no message came")
		return nil
	}
}

func subscribe(t *testing.T, b *amqp.Bus, group string, topics ...string) <-chan *message.Message {
	t.Helper()
	c, err := b.Group(group, bus.GroupOptions{}).SubscribeTopics(t.Context(), topics...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// watermillConfig is what a program of somebody else's configures to meet our bus.
func (c *city) watermillConfig() watermillamqp.Config {
	return watermillamqp.Config{
		Connection: watermillamqp.ConnectionConfig{AmqpURI: c.r.Nodes[0].URL("dime-admin")},
		Marshaler:  watermillamqp.DefaultMarshaler{},
		Exchange: watermillamqp.ExchangeConfig{
			GenerateName: func(string) string { return c.name + ".in" }, Type: "topic", Durable: true,
			Arguments: amqp091.Table{"alternate-exchange": c.name + ".alt"},
		},
		Queue: watermillamqp.QueueConfig{
			GenerateName: func(topic string) string { return c.name + ".theirs." + topic }, Durable: true,
			Arguments: amqp091.Table{"x-queue-type": "quorum"},
		},
		QueueBind:       watermillamqp.QueueBindConfig{GenerateRoutingKey: func(topic string) string { return topic }},
		Publish:         watermillamqp.PublishConfig{GenerateRoutingKey: func(topic string) string { return topic }, ConfirmDelivery: true},
		Consume:         watermillamqp.ConsumeConfig{Qos: watermillamqp.QosConfig{PrefetchCount: 10}},
		TopologyBuilder: &watermillamqp.DefaultTopologyBuilder{},
	}
}

func fromWatermill(t *testing.T, c *city) {
	b := c.open(t)
	in := subscribe(t, b, "g", "person.*")
	theirs, err := watermillamqp.NewPublisher(c.watermillConfig(), watermill.NopLogger{})
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	for _, key := range []string{"", "k"} {
		m := message.NewMessage("id"+key, []byte(`{"a":1}`))
		m.Metadata.Set("source", "elsewhere")
		if key != "" {
			m.Metadata.Set(bus.MetaKey, key)
		}
		if err := theirs.Publish("person.moved", m); err != nil {
			t.Fatal(err)
		}
		got := next(t, in)
		got.Nack() // and once more, out of the ladder or the lane
		got = next(t, in)
		got.Ack()
		if got.UUID != m.UUID || string(got.Payload) != string(m.Payload) || bus.Attempts(got) != 1 {
			t.Fatalf("%s %s after %d", got.UUID, got.Payload, bus.Attempts(got))
		}
		if got.Metadata.Get(bus.MetaTime) == "" {
			t.Fatal("it has no time")
		}
		delete(got.Metadata, bus.MetaTime)
		want := message.Metadata{"source": "elsewhere", bus.MetaType: "person.moved"}
		if key != "" {
			want[bus.MetaKey] = key
		}
		if d := cmp.Diff(want, got.Metadata); d != "" {
			t.Fatalf("metadata (-want +got):\n%s", d)
		}
	}
}

func toWatermill(t *testing.T, c *city) {
	b := c.open(t)
	subscribe(t, b, "g", "t") // declares the bus
	for _, exchange := range []string{".in", ".keyed"} {
		config := c.watermillConfig()
		config.Exchange.GenerateName = func(string) string { return c.name + exchange }
		theirs, err := watermillamqp.NewSubscriber(config, watermill.NopLogger{})
		if err != nil {
			t.Fatal(err)
		}
		defer theirs.Close()
		in, err := theirs.Subscribe(t.Context(), "person.moved")
		if err != nil {
			t.Fatal(err)
		}
		m := message.NewMessage("1", []byte(`{"a":1}`))
		want := message.Metadata{bus.MetaType: "person.moved", bus.MetaTime: "2026-11-24T08:00:00Z"}
		if exchange == ".keyed" {
			want[bus.MetaKey] = "k"
		}
		for k, v := range want {
			m.Metadata.Set(k, v)
		}
		if err := b.Publish("person.moved", m); err != nil {
			t.Fatal(err)
		}
		got := next(t, in)
		got.Ack()
		if d := cmp.Diff(want, got.Metadata); d != "" || got.UUID != "1" || string(got.Payload) != `{"a":1}` {
			t.Fatal(d, got.UUID, string(got.Payload))
		}
		if err := theirs.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func returned(t *testing.T, c *city) {
	b := c.open(t)
	err := b.PublishTo("", c.name+".nowhere", message.NewMessage("1", nil))
	if !errors.Is(err, amqp.ErrReturned) {
		t.Fatal(err)
	}
	ch := c.channel(t)
	if _, err := ch.QueueDeclare(c.name+".somewhere", false, true, false, false, nil); err != nil {
		t.Fatal(err)
	}
	if err := b.PublishTo("", c.name+".somewhere", message.NewMessage("1", nil)); err != nil {
		t.Fatal(err)
	}
}

// fates: returns and confirms of many callers cross each other on one channel.
func fates(t *testing.T, c *city) {
	b := c.open(t)
	ch := c.channel(t)
	if _, err := ch.QueueDeclare(c.name+".somewhere", false, true, false, false, nil); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 400 {
		wg.Go(func() {
			key := c.name + ".somewhere"
			if i%2 == 1 {
				key = c.name + ".nowhere"
			}
			err := b.PublishTo("", key, message.NewMessage(fmt.Sprint(i), nil))
			if i%2 == 0 && err != nil || i%2 == 1 && !errors.Is(err, amqp.ErrReturned) {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	wg.Wait()
}

func full(t *testing.T, c *city) {
	b := c.open(t)
	subscribe(t, b, "g", "other")
	ch := c.channel(t)
	if _, err := ch.QueueDeclare(c.name+".small", true, false, false, false, amqp091.Table{
		"x-queue-type": "quorum", "x-max-length": int32(1), "x-overflow": "reject-publish",
	}); err != nil {
		t.Fatal(err)
	}
	if err := ch.QueueBind(c.name+".small", "t", c.name+".in", false, nil); err != nil {
		t.Fatal(err)
	}
	// Quorum queues refuse soon after they are full, not at once.
	var err error
	for i := 0; err == nil && i < 1000; i++ {
		err = b.Publish("t", message.NewMessage(fmt.Sprint(i), nil))
	}
	if !errors.Is(err, amqp.ErrFull) {
		t.Fatal(err)
	}
	for { // when there is room again
		if _, err := ch.QueuePurge(c.name+".small", false); err != nil {
			t.Fatal(err)
		}
		if err := b.Publish("t", message.NewMessage("after", nil)); err == nil {
			return
		} else if !errors.Is(err, amqp.ErrFull) {
			t.Fatal(err)
		}
	}
}

func deleted(t *testing.T, c *city) {
	b := c.open(t)
	in := subscribe(t, b, "g", "t")
	ch := c.channel(t)
	if _, err := ch.QueueDelete(c.name+".group.g", false, false, false); err != nil {
		t.Fatal(err)
	}
	// Until it is there again the topic has no queue of the group's.
	for deadline := time.Now().Add(patience); ; {
		if err := b.Publish("t", message.NewMessage("1", nil)); err != nil && !errors.Is(err, amqp.ErrReturned) {
			t.Fatal(err)
		}
		select {
		case m := <-in:
			m.Ack()
			return
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatal("the group gets nothing any more")
		}
	}
}

func topics(t *testing.T, c *city) {
	b := c.open(t)
	in := subscribe(t, b, "g", "a.*", "b")
	for _, topic := range []string{"a", "a.x", "a.x.y", "ax", "b", "b.x"} {
		if err := b.Publish(topic, message.NewMessage(topic, nil)); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"a.x", "a.x.y", "b"} {
		m := next(t, in)
		m.Ack()
		if m.UUID != want {
			t.Fatalf("%s came, want %s", m.UUID, want)
		}
	}
	if err := b.Publish(string(make([]byte, 256)), message.NewMessage("1", nil)); err == nil {
		t.Fatal("a topic of 256 bytes is published")
	}
}

// brittle is a connection of which one write fails before its end is noticed.
type brittle struct {
	net.Conn
	broken *atomic.Bool
}

func (b brittle) Write(p []byte) (int, error) {
	if b.broken.CompareAndSwap(true, false) {
		return 0, &net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE}
	}
	return b.Conn.Write(p)
}

// unwritten: a message that could not be written goes over the next connection.
func unwritten(t *testing.T, c *city) {
	broken := new(atomic.Bool)
	c.o.Dial = func(network, addr string) (net.Conn, error) {
		conn, err := amqp091.DefaultDial(5*time.Second)(network, addr)
		return brittle{conn, broken}, err
	}
	b := c.open(t)
	for i := range 3 {
		if err := b.Publish("t", message.NewMessage(fmt.Sprint(i), nil)); err != nil && !errors.Is(err, amqp.ErrReturned) {
			t.Fatal(err)
		}
		broken.Store(true)
	}
}

// Metadata that no frame takes is refused before it costs others their connection.
func bulky(t *testing.T, c *city) {
	b := c.open(t)
	in := subscribe(t, b, "g", "t")
	for _, meta := range []message.Metadata{{"k": strings.Repeat("x", 200<<10)}, {strings.Repeat("k", 300): "x"}} {
		m := message.NewMessage("1", nil)
		m.Metadata = meta
		if err := b.Publish("t", m); err == nil || !strings.Contains(err.Error(), "fit") {
			t.Fatal(err)
		}
	}
	m := message.NewMessage("2", nil)
	m.Metadata.Set("k", strings.Repeat("x", 60<<10))
	if err := b.Publish("t", m); err != nil {
		t.Fatal(err)
	}
	if got := next(t, in); got.UUID != "2" || len(got.Metadata.Get("k")) != 60<<10 {
		t.Fatal(got.UUID)
	}
}

func late(t *testing.T, c *city) {
	c.o.PublishTimeout = 50 * time.Millisecond
	c.o.URLs = amqp.Nodes("amqp://nobody:secret@127.0.0.1:1/")
	b := c.open(t)
	err := b.Publish("t", message.NewMessage("1", nil))
	if !errors.Is(err, amqp.ErrUnconfirmed) {
		t.Fatal(err)
	}
	m := message.NewMessage("2", nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m.SetContext(ctx)
	if err := b.Publish("t", m); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := b.Ready(); err == nil {
		t.Fatal("it is ready without a broker")
	}
}

func away(t *testing.T, c *city) {
	n := new(network)
	c.o.DrainFor = -1
	b := c.process(n)
	in, err := b.Group("g", bus.GroupOptions{}).SubscribeTopics(t.Context(), "t")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Publish("t", message.NewMessage("1", nil)); err != nil {
		t.Fatal(err)
	}
	next(t, in).Nack()
	n.cut(true)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.Publish("t", message.NewMessage("1", nil)); !errors.Is(err, amqp.ErrClosed) {
		t.Fatal(err)
	}
}
