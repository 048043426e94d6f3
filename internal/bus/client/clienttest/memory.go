package clienttest

import (
	"context"
	"encoding/json"
	"sync"

	"github.com/dime-bus/dime/internal/bus/client"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/identity"
	"github.com/dime-bus/dime/internal/store"
)

// Memory is a small city in memory, as the suite asks for it: an engine and the log
// of a bus.
type Memory struct {
	Hub *client.Hub

	clock clock.Clock
	mu    sync.Mutex
	runs  int
	once  map[string]client.Answer
	log   map[string][]store.Message
	ids   map[string]bool
	seq   int64
}

// NewMemory makes one without runs and events.
func NewMemory(c clock.Clock) *Memory {
	return &Memory{Hub: client.NewHub(), clock: c, once: map[string]client.Answer{}, log: map[string][]store.Message{}, ids: map[string]bool{}}
}

// Local is the client of a program that has the suite's rights, in this process.
func (c *Memory) Local(program string) *client.Local {
	types := func(name string) (int, bool) {
		v, ok := map[string]int{"thing.done": 2, "other.done": 0}[name]
		return v, ok
	}
	return client.NewLocal(&identity.Client{Name: program, Kind: "module", Rights: Rights()}, c, c, c.Hub, types, c.clock)
}

// City is what the suite judges: c reached by a client.
func (c *Memory) City(by client.Client) City {
	return City{
		Client: by,
		Runs:   func() int { c.mu.Lock(); defer c.mu.Unlock(); return c.runs },
		Elsewhere: func(ctx context.Context, eventType, id string, data any) error {
			defer c.Hub.Notify(eventType)
			return c.Publish(ctx, eventType, id, data)
		},
	}
}

// Request implements client.Engine.
func (c *Memory) Request(_ context.Context, r client.Request) (client.Answer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch r.Route {
	case "refuse":
		return client.Answer{Status: 409, Problem: &client.Problem{Status: 409, Title: "Conflict", Errors: []client.FieldError{{Pointer: "/n", Message: "no"}}}}, nil
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

// Publish implements client.Engine.
func (c *Memory) Publish(ctx context.Context, eventType, id string, data any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m, _ := data.(map[string]any)
	if _, ok := m["n"].(string); !ok {
		return &fault.Error{Kind: fault.Invalid, Pointer: "/n", Detail: "must be a string"}
	}
	b, err := json.Marshal(data)
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

// Log implements client.Log.
func (c *Memory) Log(_ context.Context, topic string, after int64, max int) ([]store.Message, error) {
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
