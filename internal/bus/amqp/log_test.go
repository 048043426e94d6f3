package amqp_test

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/go-cmp/cmp"
	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/dime-bus/dime/internal/bus"
	"github.com/dime-bus/dime/internal/bus/amqp"
	"github.com/dime-bus/dime/internal/store/sqlite"
)

// logged waits until the log has n messages of a topic, and tells their ids.
func logged(t *testing.T, b *amqp.Bus, topic string, n int) (ids []string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		ms, _, err := b.Log(t.Context(), topic, 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		if len(ms) >= n || time.Now().After(deadline) {
			for _, m := range ms {
				ids = append(ids, m.UUID)
			}
			return ids
		}
	}
}

func keepLog(t *testing.T, c *city, topics ...string) *amqp.Bus {
	t.Helper()
	history, err := sqlite.Open(t.Context(), sqlite.Options{Path: sqlite.Memory})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = history.Close() })
	c.o.History = history
	b := c.open(t)
	if err := b.KeepLog(topics...); err != nil {
		t.Fatal(err)
	}
	return b
}

func logOfTopics(t *testing.T, c *city) {
	b := keepLog(t, c, "a.one")
	publish := func(id, topic string) {
		t.Helper()
		if err := b.Publish(topic, message.NewMessage(id, []byte("{}"))); err != nil {
			t.Fatal(err)
		}
	}
	subscribe(t, b, "somebody", "b.two") // or it would be returned
	publish("1", "a.one")
	publish("2", "b.two")
	if err := b.KeepLog("a.one", "b.two"); err != nil {
		t.Fatal(err)
	}
	publish("3", "b.two")
	publish("4", "a.one")
	if d := cmp.Diff([]string{"1", "4"}, logged(t, b, "a.one", 2)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"3"}, logged(t, b, "b.two", 1)); d != "" {
		t.Error(d)
	}
}

// What can't be written down is parked; what came with it is not held up.
func unloggable(t *testing.T, c *city) {
	b := keepLog(t, c, "a.#")
	ch := c.channel(t)
	send := func(id string, h amqp091.Table, body []byte) {
		t.Helper()
		if err := ch.PublishWithContext(t.Context(), c.name+".in", "a.one", false, false, amqp091.Publishing{MessageId: id, Headers: h, Body: body}); err != nil {
			t.Fatal(err)
		}
	}
	send("good-1", nil, []byte("{}"))
	send("every", amqp091.Table{bus.MetaType: "*"}, []byte("{}"))
	send("large", nil, make([]byte, 9<<20))
	send("good-2", nil, []byte("{}"))
	if d := cmp.Diff([]string{"good-1", "good-2"}, logged(t, b, "a.one", 2)); d != "" {
		t.Error(d)
	}
	deadline := time.Now().Add(patience)
	parked := map[string]string{}
	for len(parked) < 2 && time.Now().Before(deadline) {
		parked = c.parked(t, "log")
	}
	if parked["every"] == "" || parked["large"] == "" {
		t.Errorf("parked: %v", parked)
	}
}
