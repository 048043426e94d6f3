package rabbitmq_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/dime-bus/dime/deploy/rabbitmq"
	"github.com/dime-bus/dime/test/cluster"
)

func TestConfigure(t *testing.T) {
	got := rabbitmq.Configure(map[string]string{"heartbeat": "3", "log.file": "x.log"})
	if !strings.Contains(got, "\nheartbeat = 3\n") || strings.Contains(got, "heartbeat = 10") || !strings.HasSuffix(got, "log.file = x.log\n") {
		t.Fatal(got)
	}
}

// TestBroker loads what a city installs and finds it in the broker, no more and no less.
func TestBroker(t *testing.T) {
	r := cluster.OwnRabbit(t, cluster.RabbitOptions{Nodes: 1})
	n := r.Nodes[0]
	file := filepath.Join(t.TempDir(), "exported.json")
	if _, err := n.Ctl(t.Context(), "export_definitions", file); err != nil {
		t.Fatal(err)
	}
	exported, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	have, want := read(t, exported), read(t, rabbitmq.Definitions())
	for kind := range want {
		for what := range want[kind] {
			if !have[kind][what] {
				t.Errorf("the broker lacks of %s: %s", kind, what)
			}
		}
		for what := range have[kind] {
			if !want[kind][what] {
				t.Errorf("the broker has besides, of %s: %s", kind, what)
			}
		}
	}
	t.Run("roles", func(t *testing.T) { roles(t, r) })
	t.Run("no guest", func(t *testing.T) {
		for _, who := range []string{"guest:guest@", "dime-admin:@", "dime-worker:@"} {
			if c, err := amqp091.Dial("amqp://" + who + n.Addr + "/"); err == nil {
				_ = c.Close()
				t.Errorf("%s gets in", who)
			}
		}
	})
}

// read makes comparable texts of the definitions, by kind.
func read(t *testing.T, b []byte) map[string]map[string]bool {
	var d map[string]json.RawMessage
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	out := make(map[string]map[string]bool)
	for _, kind := range []string{"vhosts", "users", "permissions", "topic_permissions", "policies", "exchanges", "queues", "bindings"} {
		out[kind] = make(map[string]bool)
		var list []map[string]any
		if err := json.Unmarshal(d[kind], &list); err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		for _, x := range list {
			// Passwords are the installation's, the rest is what brokers add.
			for _, k := range []string{"password_hash", "hashing_algorithm", "limits", "metadata", "internal", "type"} {
				if k != "type" || kind == "queues" {
					delete(x, k)
				}
			}
			if x["vhost"] == "" {
				continue
			}
			text, err := json.Marshal(x)
			if err != nil {
				t.Fatal(err)
			}
			out[kind][string(text)] = true
		}
	}
	return out
}

// roles tries what each role must be able to do, and what it must not.
func roles(t *testing.T, r *cluster.RabbitMQ) {
	quorum := amqp091.Table{"x-queue-type": "quorum"}
	declare := func(q string) func(*amqp091.Channel) error {
		return func(ch *amqp091.Channel) error {
			_, err := ch.QueueDeclare(q, true, false, false, false, quorum)
			return err
		}
	}
	bind := func(x string) func(*amqp091.Channel) error {
		return func(ch *amqp091.Channel) error {
			if err := ch.ExchangeDeclare(x, "headers", true, false, true, false, nil); err != nil {
				return err
			}
			return ch.ExchangeBind(x, "a.b", "dime.in", false, nil)
		}
	}
	consume := func(q string, args amqp091.Table) func(*amqp091.Channel) error {
		return func(ch *amqp091.Channel) error {
			if err := ch.Qos(1, 0, false); err != nil {
				return err
			}
			_, err := ch.Consume(q, "", false, false, false, false, args)
			return err
		}
	}
	publish := func(x, key string) func(*amqp091.Channel) error {
		return func(ch *amqp091.Channel) error {
			if err := ch.Confirm(false); err != nil {
				return err
			}
			dc, err := ch.PublishWithDeferredConfirm(x, key, true, false, amqp091.Publishing{Body: []byte("{}")})
			if err != nil {
				return err
			}
			lost := ch.NotifyClose(make(chan *amqp091.Error, 1))
			if !dc.Wait() {
				return <-lost
			}
			return nil
		}
	}
	remove := func(ch *amqp091.Channel) error {
		_, err := ch.QueueDelete("dime.again.1s", false, false, false)
		return err
	}
	for _, c := range []struct {
		user, what string
		may        bool
		do         func(*amqp091.Channel) error
	}{
		{"dime-admin", "make another bus", true, declare("other.queue")},
		{"dime-worker", "declare a group's queue", true, declare("dime.group.r")},
		{"dime-worker", "declare a module's queue", true, declare("dime.group.module.crm")},
		{"dime-worker", "bind a group", true, bind("dime.group.r")},
		{"dime-worker", "consume a group's queue", true, consume("dime.group.r", nil)},
		{"dime-worker", "publish an event", true, publish("dime.in", "a.b")},
		{"dime-worker", "park a message", true, publish("", "dime.group.r")},
		{"dime-worker", "put a message into a rung", true, publish("dime.again.1s", "dime.group.r")},
		{"dime-worker", "declare a queue beside the bus", false, declare("elsewhere")},
		{"dime-worker", "delete a rung", false, remove},
		{"dime-worker", "empty a rung", false, consume("dime.again.1s", nil)},
		{"dime-gateway", "publish an event", true, publish("dime.in", "a.b")},
		{"dime-gateway", "publish an event with an order key", true, publish("dime.keyed", "a.b")},
		{"dime-gateway", "consume a group's queue", false, consume("dime.group.r", nil)},
		{"dime-gateway", "declare a queue", false, declare("dime.group.mine")},
		{"dime-gateway", "publish past the topics", false, publish("", "dime.group.r")},
		{"dime-timers", "publish an event", true, publish("dime.in", "a.b")},
		{"dime-timers", "consume a group's queue", false, consume("dime.group.r", nil)},
		{"dime-module", "publish an event", true, publish("dime.in", "a.b")},
		{"dime-module", "declare its queue", true, declare("dime.group.module.crm")},
		{"dime-module", "bind its group", true, bind("dime.group.module.crm")},
		{"dime-module", "consume its queue", true, consume("dime.group.module.crm", nil)},
		{"dime-module", "consume a route's queue", false, consume("dime.group.r", nil)},
		{"dime-module", "declare a route's queue", false, declare("dime.group.s")},
	} {
		conn, err := amqp091.Dial(r.Nodes[0].URL(c.user))
		if err != nil {
			t.Fatal(err)
		}
		ch, err := conn.Channel()
		if err != nil {
			t.Fatal(err)
		}
		err = c.do(ch)
		if c.may && err != nil {
			t.Errorf("%s must %s: %v", c.user, c.what, err)
		}
		if !c.may {
			var e *amqp091.Error
			if !errors.As(err, &e) || e.Code != amqp091.AccessRefused {
				t.Errorf("%s must not %s: %v", c.user, c.what, err)
			}
		}
		_ = conn.Close()
	}
}
