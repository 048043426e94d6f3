package amqp_test

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/dime-bus/dime/internal/bus"
	"github.com/dime-bus/dime/internal/bus/amqp"
	"github.com/dime-bus/dime/internal/bus/bustest"
	"github.com/dime-bus/dime/internal/store/sqlite"
	"github.com/dime-bus/dime/test/cluster"
)

// TestRabbitMQ runs all that shares one broker.
func TestRabbitMQ(t *testing.T) {
	r := cluster.Rabbit(t, 1)
	t.Run("contract", func(t *testing.T) { contract(t, r) })
	for _, e := range []struct {
		name string
		f    func(t *testing.T, c *city)
	}{
		{"a plain watermill-amqp program publishes to us", fromWatermill},
		{"a plain watermill-amqp program receives from us", toWatermill},
		{"what no queue takes is an error", returned},
		{"each message hears its own fate", fates},
		{"a full queue is an error", full},
		{"a queue of others is consumed as it is", foreign},
		{"an exchange of others is bound to a queue of ours", exchange},
		{"a queue of ours keeps the order of others' messages", inOrder},
		{"a queue that was deleted is declared again", deleted},
		{"patterns take what they say", topics},
		{"a publication whose write fails is repeated", unwritten},
		{"a publication keeps to its deadline", late},
		{"metadata that no frame takes is refused", bulky},
		{"a closed bus lets go while the broker is away", away},
		{"the log has the topics that are asked for", logOfTopics},
		{"what does not fit the log is parked", unloggable},
	} {
		t.Run(e.name, func(t *testing.T) { e.f(t, newCity(t, r)) })
	}
}

// network lets a test cut a bus's connections.
type network struct {
	mu    sync.Mutex
	dead  bool
	conns []net.Conn
}

func (n *network) dial(nw, addr string) (net.Conn, error) {
	c, err := amqp091.DefaultDial(5*time.Second)(nw, addr)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dead {
		if err == nil {
			_ = c.Close()
		}
		return nil, errors.New("this process is dead")
	}
	if err == nil {
		n.conns = append(n.conns, c)
	}
	return c, err
}

func (n *network) cut(dead bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dead = dead
	for _, c := range n.conns {
		_ = c.Close()
	}
	n.conns = nil
}

// city is a bus name of its own on a broker, and the processes in it.
type city struct {
	r    *cluster.RabbitMQ
	name string
	o    amqp.Options
}

func newCity(t testing.TB, r *cluster.RabbitMQ) *city {
	name := "t" + strings.ToLower(rand.Text()[:8])
	return &city{r: r, name: name, o: amqp.Options{
		URLs: amqp.Nodes(r.URLs("dime-admin")...), Name: name, Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
		DeliveryLimit: 4, DrainFor: 20 * time.Second, PublishTimeout: 20 * time.Second,
		Rungs: []time.Duration{200 * time.Millisecond},
	}}
}

func (c *city) process(n *network) *amqp.Bus {
	o := c.o
	o.Dial = n.dial
	b := amqp.New(o)
	if o.History != nil {
		if err := b.KeepLog("*"); err != nil {
			o.Log.Error("keeping the log", "error", err)
		}
	}
	return b
}

func (c *city) open(t testing.TB) *amqp.Bus {
	b := amqp.New(c.o)
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// channel is a channel of a plain amqp091 program.
func (c *city) channel(t testing.TB) *amqp091.Channel {
	conn, err := amqp091.Dial(c.r.Nodes[0].URL("dime-admin"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

func (c *city) parked(t *testing.T, queue string) map[string]string {
	conn, err := amqp091.Dial(c.r.Nodes[0].URL("dime-admin"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]string)
	for {
		dv, ok, err := ch.Get(c.name+".group."+queue+".dlq", false)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return out
		}
		reason, _ := dv.Headers["_dime_reason"].(string)
		if deaths, ok := dv.Headers["x-death"].([]any); ok && reason == "" {
			reason, _ = deaths[0].(amqp091.Table)["reason"].(string)
		}
		out[dv.MessageId] = reason
	}
}

func contract(t *testing.T, r *cluster.RabbitMQ) {
	bustest.Run(t, func(t *testing.T) bustest.Harness {
		c := newCity(t, r)
		history, err := sqlite.Open(context.Background(), sqlite.Options{Path: sqlite.Memory})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = history.Close() })
		c.o.History = history
		h := bustest.Harness{Backoff: c.o.Rungs[0], Limit: c.o.DeliveryLimit, Repeats: true, Parked: c.parked}
		n := new(network)
		now := c.process(n)
		h.Bus = now
		h.Settle = func(t *testing.T) { now.Settle(t) }
		h.Crash = func(*testing.T) bus.Bus {
			n.cut(true)
			now.Kill()
			n = new(network)
			now = c.process(n)
			return now
		}
		h.Another = func(*testing.T) bus.Bus { return c.process(new(network)) }
		h.Disconnect = func(*testing.T) { n.cut(false) }
		return h
	})
}
