package e2e

import (
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/dime-bus/dime/test/cluster"
)

// sender is who stands in the messages, and nowhere else.
const sender = "BNCGLI92M41L736X"

// weighing is content on top of the shipped one: a route that a contractor's
// broker feeds.
func weighing(t *testing.T, brokerURL, queue string) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"config/dime.yaml", "config/cfg.schema.json"} {
		b, err := os.ReadFile(filepath.Join("../..", filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		if name == "config/dime.yaml" {
			text += "\nbrokers:\n  contractor: {urls: [\"" + brokerURL + "\"], password: \"env:CONTRACTOR_PASSWORD\"}\n"
		}
		write(name, text)
	}
	write("schemas/bins/weighed.json", `{"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "additionalProperties": false,
		"required": ["tax_code", "kg"], "properties": {"tax_code": {"type": "string", "x-personal": true}, "kg": {"type": "number"}}}`)
	write("routes/weigh.yaml", `route: weigh
version: 1
about: What the contractor weighed.
from:
  queue: contractor/`+queue+`
req: bins/weighed
subject: =req.tax_code
purpose: certificate-issue
steps:
  - delay: 1s
`)
	return dir
}

// TestQueue: a contractor's broker feeds a route of the real binary. What fits
// becomes a run, once for each id; what does not becomes a dead letter; nothing is
// left in the queue, and no content in the log.
func TestQueue(t *testing.T) {
	r := cluster.Rabbit(t, 1)
	const user = "dime-admin" // of the contractor's broker, which is like ours
	u, err := url.Parse(r.Nodes[0].URL(user))
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(user)
	t.Setenv("CONTRACTOR_PASSWORD", r.Users[user])
	conn, err := amqp091.Dial(r.Nodes[0].URL(user))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	queue := "bins." + filepath.Base(t.TempDir()) + "." + time.Now().Format("150405.000000")
	if _, err := ch.QueueDeclare(queue, true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	send := func(id, body string) {
		t.Helper()
		if err := ch.PublishWithContext(t.Context(), "", queue, false, false, amqp091.Publishing{MessageId: id, DeliveryMode: amqp091.Persistent, Body: []byte(body)}); err != nil {
			t.Fatal(err)
		}
	}
	// Some wait there before the city comes, some come later.
	send("w-1", `{"tax_code": "`+sender+`", "kg": 12.5}`)
	send("w-1", `{"tax_code": "`+sender+`", "kg": 12.5}`)
	send("w-2", sender+";12.5")
	t.Cleanup(func() { // when the city has ended, so that what it had not acked is back
		q, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
		if err != nil || q.Messages > 0 {
			t.Errorf("%d messages are left in the queue (%v)", q.Messages, err)
		}
	})
	s := startOn(t, weighing(t, u.String(), queue))
	send("w-3", `{"tax_code": "`+sender+`", "kg": "a lot"}`)
	send("w-1", `{"tax_code": "`+sender+`", "kg": 12.5}`)
	send("w-4", `{"tax_code": "`+sender+`", "kg": 3}`)
	states := func() map[string]int {
		t.Helper()
		out, err := exec.Command(s.binary, "runs", "ls", "--admin", s.admin, "--route", "weigh", "-o", "json").Output()
		if err != nil {
			t.Fatalf("dime runs ls: %v", err)
		}
		var runs []struct{ State string }
		if err := json.Unmarshal(out, &runs); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		n := map[string]int{}
		for _, r := range runs {
			n[r.State]++
		}
		return n
	}
	deadline := time.Now().Add(30 * time.Second)
	for n := states(); n["done"] < 2 || n["failed"] < 2; n = states() {
		if time.Now().After(deadline) {
			t.Fatalf("the runs are %v", n)
		}
	}
	if n := states(); n["done"] != 2 || n["failed"] != 2 || len(n) != 2 {
		t.Errorf("the runs are %v, want two done and two dead letters", n)
	}
	for _, what := range []string{sender, r.Users[user]} {
		if strings.Contains(s.read(t, s.logFile()), what) {
			t.Errorf("%q is in the log", what)
		}
	}
}
