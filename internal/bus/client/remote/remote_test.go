package remote_test

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/dime-bus/dime/internal/bus/amqp"
	"github.com/dime-bus/dime/internal/bus/client"
	"github.com/dime-bus/dime/internal/bus/client/clienttest"
	"github.com/dime-bus/dime/internal/bus/client/remote"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/test/cluster"
)

// programs are the URLs of users who may call as one program, by its name.
type programs map[string]string

// program makes a user as deploy/rabbitmq/README.md does, for the buses of all
// tests, since rabbitmqctl takes seconds.
func program(t *testing.T, r *cluster.RabbitMQ, name string) string {
	t.Helper()
	user, secret := newName()+"-client-"+name, rand.Text()
	for _, args := range [][]string{
		{"add_user", user, secret},
		{"set_permissions", "-p", "dime", user, "^$", `^r[a-z0-9]{8}\.group\.client\.` + name + `$`, "^$"},
	} {
		if _, err := r.Nodes[0].Ctl(t.Context(), args...); err != nil {
			t.Fatal(err)
		}
	}
	u, err := url.Parse(r.Nodes[0].URL("dime-admin"))
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, secret)
	return u.String()
}

func open(t *testing.T, name, at string, guest bool) *amqp.Bus {
	b := amqp.New(amqp.Options{URLs: amqp.Nodes(at), Name: name, Guest: guest, DrainFor: -1, PublishTimeout: 20 * time.Second,
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))})
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func newName() string { return "r" + strings.ToLower(rand.Text()[:8]) }

// desk answers a program's calls with a city's client.
func desk(t *testing.T, b *amqp.Bus, c *clienttest.Memory, name string) {
	local := c.Local(name)
	var ended sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	ended.Go(func() { b.Answer(ctx, name, remote.Handler(local)) })
	t.Cleanup(func() { cancel(); ended.Wait() })
}

// asked waits until somebody answers: before that a call is returned.
func asked(t *testing.T, c *remote.Client) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		_, err := c.Request(t.Context(), client.Request{Route: "not-mine"})
		if f := fault.From(err); f.Kind == fault.Denied {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func TestRemote(t *testing.T) {
	r := cluster.Rabbit(t, 1)
	ps := programs{"tester": program(t, r, "tester"), "museum": program(t, r, "museum")}
	t.Run("past the exchange", func(t *testing.T) { smuggled(t, r) })
	t.Run("contract", func(t *testing.T) {
		clienttest.Run(t, func(t *testing.T) clienttest.City {
			name, c := newName(), clienttest.NewMemory(clock.Real{})
			desk(t, open(t, name, r.Nodes[0].URL("dime-admin"), false), c, "tester")
			p := remote.New(open(t, name, ps["tester"], true), "tester")
			asked(t, p)
			return c.City(p)
		})
	})
	t.Run("another's desk", func(t *testing.T) { others(t, r, ps) })
	t.Run("a plain program", func(t *testing.T) { plain(t, r, ps) })
	t.Run("nobody is there", func(t *testing.T) { nobody(t, r, ps) })
}

// others: a program can't call as another, and its user reaches nothing else.
func others(t *testing.T, r *cluster.RabbitMQ, ps programs) {
	name, c := newName(), clienttest.NewMemory(clock.Real{})
	city := open(t, name, r.Nodes[0].URL("dime-admin"), false)
	desk(t, city, c, "tester")
	at := ps["museum"]
	desk(t, city, c, "museum")
	b := open(t, name, at, true)
	asked(t, remote.New(b, "museum"))
	if _, err := b.Call(t.Context(), "tester", "request", []byte("{}")); !errors.Is(err, amqp.ErrDenied) {
		t.Errorf("a call as another program: %v", err)
	}
	for what, do := range map[string]func(*amqp091.Channel) error{
		"publish an event past its rights": func(ch *amqp091.Channel) error {
			return ch.PublishWithContext(t.Context(), name+".in", "thing.done", false, false, amqp091.Publishing{})
		},
		"publish to a queue": func(ch *amqp091.Channel) error {
			return ch.PublishWithContext(t.Context(), "", name+".group.client.tester", false, false, amqp091.Publishing{})
		},
		"read its desk": func(ch *amqp091.Channel) error {
			_, err := ch.Consume(name+".group.client.museum", "", true, false, false, false, nil)
			return err
		},
		"declare a queue": func(ch *amqp091.Channel) error {
			_, err := ch.QueueDeclare(name+".mine", false, true, false, false, nil)
			return err
		},
	} {
		conn, err := amqp091.Dial(at)
		if err != nil {
			t.Fatal(err)
		}
		ch, err := conn.Channel()
		if err != nil {
			t.Fatal(err)
		}
		lost := ch.NotifyClose(make(chan *amqp091.Error, 1))
		if err := do(ch); err == nil {
			_ = ch.Qos(1, 0, false) // an answer, or the refusal of what came before
		}
		select {
		case e := <-lost:
			if e == nil || e.Code != amqp091.AccessRefused {
				t.Errorf("%s: %v", what, e)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("it may %s", what)
		}
		_ = conn.Close()
	}
}

// plain speaks the protocol by hand, rightly and wrongly.
func plain(t *testing.T, r *cluster.RabbitMQ, ps programs) {
	name, c := newName(), clienttest.NewMemory(clock.Real{})
	city := open(t, name, r.Nodes[0].URL("dime-admin"), false)
	desk(t, city, c, "tester")
	at := ps["tester"]
	asked(t, remote.New(open(t, name, at, true), "tester"))
	conn, err := amqp091.Dial(at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	replies, err := ch.Consume("amq.rabbitmq.reply-to", "", true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []struct{ kind, body, want string }{
		{"publish", `{"event": "thing.done", "id": "1", "data": {"n": "x"}}`, `{}`},
		{"read", `{"event": "thing.done"}`, `"id":"1","type":"thing.done","version":2`},
		{"publish", `{"event": "thing.done", "id": "2", "data": {"n": 1}}`, `{"fault":{"kind":"invalid","detail":"must be a string","pointer":"/n"}}`},
		{"publish", `{"event": "other.done", "id": "3", "data": {}}`, `"kind":"denied"`},
		{"request", `{"route": "echo", "req": {}, "route": "refuse"}`, `"kind":"invalid"`},
		{"request", `{"route": 3}`, `"kind":"invalid"`},
		{"request", `no JSON`, `"kind":"invalid"`},
		{"request", `{"route": "refuse"}`, `"errors":[{"pointer":"/n","message":"no"}]`},
		{"delete", `{}`, `can be request, publish or read`},
	} {
		if err := ch.PublishWithContext(t.Context(), name+".group.client.tester", "", true, false, amqp091.Publishing{
			Type: e.kind, ReplyTo: "amq.rabbitmq.reply-to", CorrelationId: e.body, Body: []byte(e.body)}); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-replies:
			if got.CorrelationId != e.body || !strings.Contains(string(got.Body), e.want) {
				t.Errorf("%s %s: %s", e.kind, e.body, got.Body)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%s %s: no answer", e.kind, e.body)
		}
	}
	// An answer goes to whoever asked, and into no queue that a call names.
	admin, err := amqp091.Dial(r.Nodes[0].URL("dime-admin"))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	spy, err := admin.Channel()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := spy.QueueDeclare(name+".spied", false, true, false, false, nil); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{name + ".spied", "amq.rabbitmq.reply-to"} {
		if err := ch.PublishWithContext(t.Context(), name+".group.client.tester", "", true, false, amqp091.Publishing{
			Type: "read", ReplyTo: to, CorrelationId: to, Body: []byte(`{"event": "thing.done"}`)}); err != nil {
			t.Fatal(err)
		}
	}
	if got := <-replies; got.CorrelationId != "amq.rabbitmq.reply-to" {
		t.Errorf("answered %q", got.CorrelationId)
	}
	if _, ok, err := spy.Get(name+".spied", true); err != nil || ok {
		t.Errorf("a call's answer is in a queue of somebody else's (%v)", err)
	}
}

// nobody: a call that no worker can take is not waited for.
func nobody(t *testing.T, r *cluster.RabbitMQ, ps programs) {
	name := newName()
	at := ps["tester"]
	p := remote.New(open(t, name, at, true), "tester")
	err := p.Publish(t.Context(), "thing.done", "1", map[string]any{"n": "x"})
	if f := fault.From(err); f.Kind != fault.Unavailable {
		t.Errorf("without an exchange: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := p.Publish(ctx, "thing.done", "1", map[string]any{"n": "x"}); err == nil {
		t.Error("published, to nobody")
	}
}

// smuggled: who may write to the queue of a program's calls past its exchange, as
// workers and modules may, is nobody's program.
func smuggled(t *testing.T, r *cluster.RabbitMQ) {
	name := newName()
	at := r.Nodes[0].URL("dime-admin")
	city := open(t, name, at, false)
	got := make(chan string, 4)
	var ended sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	ended.Go(func() {
		city.Answer(ctx, "third", func(_ context.Context, kind string, _ []byte) []byte { got <- kind; return nil })
	})
	t.Cleanup(func() { cancel(); ended.Wait() })
	conn, err := amqp091.Dial(at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	desk := name + ".group.client.third"
	var ch *amqp091.Channel
	for deadline := time.Now().Add(30 * time.Second); ; {
		if ch, err = conn.Channel(); err != nil {
			t.Fatal(err)
		}
		q, err := ch.QueueDeclarePassive(desk, true, false, false, false, nil)
		if err == nil && q.Consumers > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nobody answers", err)
		}
	}
	for _, to := range [][2]string{{"", "smuggled"}, {desk, "proper"}} {
		if err := ch.PublishWithContext(t.Context(), to[0], desk, false, false, amqp091.Publishing{Type: to[1]}); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case kind := <-got:
		if kind != "proper" {
			t.Errorf("a %s call was carried out", kind)
		}
	case <-time.After(30 * time.Second):
		t.Error("no call came")
	}
}
