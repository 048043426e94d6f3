package main

import (
	"context"
	"crypto/rand"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/bus/amqp"
	"github.com/dime-bus/dime/internal/bus/client"
	"github.com/dime-bus/dime/internal/bus/client/remote"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/test/cluster"
)

// TestProgramOverRabbitMQ: a program outside reaches the city over its broker, as
// the user of deploy/rabbitmq/README.md, and has the rights of its entry; the city
// is a dime-worker there.
func TestProgramOverRabbitMQ(t *testing.T) {
	r := cluster.OwnRabbit(t, cluster.RabbitOptions{Nodes: 1}) // the city's exchanges have their usual names
	n := r.Nodes[0]
	u, err := url.Parse(n.URL("dime-worker"))
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User("dime-worker")
	t.Setenv("WORKER_SECRET", r.Users["dime-worker"])
	t.Setenv("DIME_BUS", u.String())
	t.Setenv("DIME_BUS_PASSWORD", "env:WORKER_SECRET")
	secret := rand.Text()
	for _, args := range [][]string{
		{"add_user", "dime-client-tester", secret},
		{"set_permissions", "-p", "dime", "dime-client-tester", "^$", `^dime\.group\.client\.tester$`, "^$"},
	} {
		if _, err := n.Ctl(t.Context(), args...); err != nil {
			t.Fatal(err)
		}
	}
	_, _, stop := servedWith(t, filepath.Join(t.TempDir(), "data"), suiteCity())
	defer stop()
	u.User = url.UserPassword("dime-client-tester", secret)
	b := amqp.New(amqp.Options{URLs: amqp.Nodes(u.String()), Guest: true, Log: newLog(t.Output(), "warn")})
	defer b.Close()
	p := remote.New(b, "tester")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var a client.Answer
	for { // until the city's side of it is declared
		if a, err = p.Request(ctx, client.Request{Route: "echo", Req: map[string]any{"n": 1}, Key: "k"}); err == nil || ctx.Err() != nil {
			break
		}
	}
	if who, _ := a.Body.(map[string]any); err != nil || a.Status != 200 || who["caller"].(map[string]any)["subject"] != "tester" {
		t.Fatalf("%v %+v", err, a)
	}
	if err := p.Publish(ctx, "thing.done", "1", map[string]any{"n": "x"}); err != nil {
		t.Fatal(err)
	}
	es, err := p.Read(ctx, "thing.done", 0)
	if err != nil || len(es) != 1 || es[0].ID != "1" || es[0].Version != 2 {
		t.Errorf("%v %+v", err, es)
	}
	err = p.Publish(ctx, "other.done", "2", map[string]any{})
	if f := fault.From(err); f.Kind != fault.Denied || !strings.Contains(f.Detail, "tester") {
		t.Errorf("beyond its rights: %v", err)
	}
}
