package client_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/dime-bus/dime/internal/bus/client"
	"github.com/dime-bus/dime/internal/bus/client/clienttest"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/identity"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/store"
)

// city is a small one in memory: an engine and the log of the embedded bus.
type city struct {
	mu     sync.Mutex
	runs   int
	once   map[string]client.Answer
	log    map[string][]store.Message
	ids    map[string]bool
	seq    int64
	clock  clock.Clock
	schema *schema.Schema
	hub    *client.Hub
}

func (c *city) Request(_ context.Context, r client.Request) (client.Answer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch r.Route {
	case "refuse":
		return client.Answer{Status: 409, Problem: &client.Problem{Status: 409, Title: "Conflict"}}, nil
	case "echo":
	default:
		return client.Answer{}, fault.New(fault.NotFound, "there is no route %q", r.Route)
	}
	if a, ok := c.once[r.Key]; ok && r.Key != "" {
		return a, nil
	}
	c.runs++
	a := client.Answer{Status: 200, Body: map[string]any{"req": r.Req, "caller": map[string]any{
		"kind": r.Caller.Kind, "subject": r.Caller.Subject, "tax_code": r.Caller.TaxCode}}}
	c.once[r.Key] = a
	return a, nil
}

func (c *city) Publish(ctx context.Context, eventType, id string, data any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if vs := c.schema.Validate(data); len(vs) > 0 {
		return &fault.Error{Kind: fault.Invalid, Pointer: vs[0].Pointer, Detail: vs[0].Message}
	}
	b, err := schema.Canonical(data)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ids[id] {
		return nil
	}
	c.ids[id] = true
	c.seq++
	c.log[eventType] = append(c.log[eventType], store.Message{Seq: c.seq, ID: id, Topic: eventType, Body: b, At: c.clock.Now(), Meta: map[string]string{}})
	return nil
}

func (c *city) Log(_ context.Context, topic string, after int64, max int) ([]store.Message, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []store.Message
	for _, m := range c.log[topic] {
		if m.Seq > after && len(out) < max {
			out = append(out, m)
		}
	}
	return out, nil
}

func TestLocal(t *testing.T) {
	clienttest.Run(t, func(t *testing.T) clienttest.City {
		s, err := schema.Compile("events/thing.done", map[string]any{"type": "object", "required": []any{"n"},
			"properties": map[string]any{"n": map[string]any{"type": "string"}}})
		if err != nil {
			t.Fatal(err)
		}
		c := &city{once: map[string]client.Answer{}, log: map[string][]store.Message{}, ids: map[string]bool{}, clock: clock.Real{}, schema: s, hub: client.NewHub()}
		types := func(name string) (int, bool) {
			v, ok := map[string]int{"thing.done": 2, "other.done": 0}[name]
			return v, ok
		}
		who := &identity.Client{Name: "tester", Kind: "module", Rights: clienttest.Rights()}
		return clienttest.City{
			Client: client.NewLocal(who, c, c, c.hub, types, c.clock),
			Runs:   func() int { c.mu.Lock(); defer c.mu.Unlock(); return c.runs },
			Elsewhere: func(ctx context.Context, eventType, id string, data any) error {
				defer c.hub.Notify(eventType)
				return c.Publish(ctx, eventType, id, data)
			},
		}
	})
}

// A subscriber whose hub was not told still sees what another process stored:
// it looks again when the clock says so.
func TestLooksAgain(t *testing.T) {
	s, err := schema.Compile("events/thing.done", map[string]any{"type": "object"})
	if err != nil {
		t.Fatal(err)
	}
	virtual := clock.NewVirtual(clock.Real{}.Now())
	c := &city{log: map[string][]store.Message{}, ids: map[string]bool{}, clock: virtual, schema: s}
	who := &identity.Client{Name: "tester", Rights: clienttest.Rights()}
	l := client.NewLocal(who, c, c, client.NewHub(), nil, virtual)
	got := make(chan string)
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		done <- l.Subscribe(ctx, "thing.done", 0, func(_ context.Context, e client.Event) error { got <- e.ID; return nil })
	}()
	for i := range 3 {
		if err := c.Publish(t.Context(), "thing.done", fmt.Sprint(i), map[string]any{}); err != nil {
			t.Fatal(err)
		}
		for waiting := true; waiting; {
			select {
			case id := <-got:
				if id != fmt.Sprint(i) {
					t.Fatalf("got %q", id)
				}
				waiting = false
			default:
				if next, ok := virtual.Next(); ok {
					virtual.Advance(next)
				}
			}
		}
	}
	cancel()
	if err := <-done; err == nil {
		t.Error("ended without an error")
	}
}
