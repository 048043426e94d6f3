package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/dime-bus/dime/internal/bus"
	"github.com/dime-bus/dime/internal/bus/client"
	"github.com/dime-bus/dime/internal/gateway"
	"github.com/dime-bus/dime/internal/identity"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/pipeline/language"
	"github.com/dime-bus/dime/pipeline/run"
)

// The engine and the gateway do not know each other (architecture, rule 5): these
// few conversions are all that stands between them.

// publicEngine is the engine as the public face sees it.
type publicEngine struct{ *run.Engine }

func (e publicEngine) Request(ctx context.Context, r gateway.Request) gateway.Answer {
	a := e.Engine.Request(ctx, run.Request{
		Route: r.Route, Req: r.Req, Caller: r.Caller, Trigger: "http",
		Deadline: r.Deadline, Key: r.Key, Trace: r.Trace,
	})
	return gateway.Answer{Status: a.Status, Body: a.Body, Problem: problemOf(a.Problem), Header: a.Header, Run: a.Run, Say: a.Say}
}

func (e publicEngine) View(ctx context.Context, id string, caller *identity.Caller) (gateway.View, error) {
	v, err := e.Engine.View(ctx, id, caller)
	return gateway.View(v), err
}

func problemOf(p *run.Problem) *gateway.Problem {
	if p == nil {
		return nil
	}
	out := &gateway.Problem{Type: p.Type, Title: p.Title, Status: p.Status, Detail: p.Detail, Run: p.Run, URL: p.URL, Say: p.Say}
	for _, f := range p.Errors {
		out.Errors = append(out.Errors, gateway.FieldError(f))
	}
	return out
}

// adminEngine is the engine as the admin face sees it.
type adminEngine struct{ e *run.Engine }

func (x adminEngine) List(ctx context.Context, f gateway.Filter) ([]gateway.Run, error) {
	rs, err := x.e.Runs(ctx, run.Filter{Route: f.Route, States: f.States, Before: f.Before, Limit: f.Limit})
	out := make([]gateway.Run, len(rs))
	for i, r := range rs {
		out[i] = gateway.Run(r)
	}
	return out, err
}

func (x adminEngine) Show(ctx context.Context, id string) (gateway.Detail, error) {
	d, err := x.e.Show(ctx, id)
	out := gateway.Detail{Run: gateway.Run(d.Summary), Digest: d.Digest, Volatile: d.Volatile, Lines: make([]gateway.Line, len(d.Lines))}
	for i, l := range d.Lines {
		out.Lines[i] = gateway.Line(l)
	}
	return out, err
}

func (x adminEngine) Cancel(ctx context.Context, id string, a gateway.Act) (any, error) {
	return x.e.Cancel(ctx, id, run.Act(a))
}

func (x adminEngine) Replay(ctx context.Context, id string, a gateway.Act) (any, error) {
	return x.e.Replay(ctx, id, run.Act(a))
}

func (x adminEngine) Skip(ctx context.Context, id string, a gateway.Act) (any, error) {
	return x.e.Skip(ctx, id, run.Act(a))
}

func (x adminEngine) Settle(ctx context.Context, id string, a gateway.Act) (any, error) {
	return x.e.Settle(ctx, id, run.Act(a))
}

func (x adminEngine) Resolve(ctx context.Context, id string, a gateway.Act) (any, error) {
	return x.e.Resolve(ctx, id, run.Act(a))
}

// engineBus is the city's bus as the engine sees it.
type engineBus struct {
	bus bus.Bus
	hub *client.Hub // told of everything published, whoever published it
}

func (b engineBus) Publish(ctx context.Context, ms ...run.Message) error {
	byTopic := map[string][]*message.Message{}
	for _, m := range ms {
		w := message.NewMessage(m.ID, m.Body)
		w.SetContext(ctx)
		for k, v := range m.Meta {
			w.Metadata.Set(k, v)
		}
		w.Metadata.Set(bus.MetaType, m.Type)
		w.Metadata.Set(bus.MetaTime, m.At.UTC().Format(time.RFC3339Nano))
		byTopic[m.Type] = append(byTopic[m.Type], w)
	}
	for topic, ws := range byTopic {
		if err := b.bus.Publish(topic, ws...); err != nil {
			return fmt.Errorf("publishing %s: %w", topic, err)
		}
		b.hub.Notify(topic)
	}
	return nil
}

func (b engineBus) Consume(ctx context.Context, queue string, types []string, handle func(context.Context, run.Message) error) (func(), error) {
	ctx, cancel := context.WithCancel(ctx)
	deliveries, err := b.bus.Group(queue, bus.GroupOptions{}).SubscribeTopics(ctx, types...)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("subscribing %s: %w", queue, err)
	}
	go func() {
		for m := range deliveries {
			// One goroutine a delivery: the group's prefetch bounds them, and messages
			// of one order key come one after another.
			go func() {
				if err := handle(m.Context(), received(m)); err != nil {
					m.Nack()
					return
				}
				m.Ack()
			}()
		}
	}()
	return cancel, nil
}

func received(m *message.Message) run.Message {
	at, err := time.Parse(time.RFC3339Nano, m.Metadata.Get(bus.MetaTime))
	if err != nil {
		at = time.Time{}
	}
	var ack *store.Ack
	if a := bus.AckOf(m); a != nil {
		ack = a
	}
	return run.Message{ID: m.UUID, Type: m.Metadata.Get(bus.MetaType), At: at, Body: m.Payload, Meta: m.Metadata, Ack: ack}
}

// publicCity is a checked city as the gateway shows it.
func publicCity(c *language.City) gateway.City {
	out := gateway.City{Messages: c.Messages}
	for _, r := range c.Routes {
		g := gateway.Route{
			Name: r.Name, Label: r.Label, Digest: r.Digest, About: r.About, Owner: r.Owner, File: r.File,
			Req: r.Req, Resp: r.Resp, Result: r.Result, Safe: r.Safe, Allow: r.Allow != nil, Once: r.Once != nil,
			Replies: replies(r.Steps),
		}
		for _, t := range r.From {
			g.Triggers = append(g.Triggers, gateway.Trigger{
				Kind: string(t.Kind), Method: t.Method, Path: t.Path, Headers: t.Headers, About: triggerAbout(t)})
		}
		out.Routes = append(out.Routes, g)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Connectors)) {
		d := c.Connectors[name]
		g := gateway.Connector{Name: d.Name, Summary: d.Summary, Warnings: d.Warnings}
		for _, op := range d.Operations {
			o := gateway.Operation{
				Name: op.Name, Summary: op.Summary, Effect: string(op.Effect), Keyed: op.Keyed, FoundBy: op.FoundBy, Basis: op.Basis,
				In: gateway.FieldsOf(op.In), Out: gateway.FieldsOf(op.Out)}
			for _, f := range op.Faults {
				o.Faults = append(o.Faults, gateway.Fault{Name: f.Name, Kind: string(f.Kind), Summary: f.Summary})
			}
			g.Operations = append(g.Operations, o)
		}
		out.Connectors = append(out.Connectors, g)
	}
	return out
}

func triggerAbout(t language.Trigger) string {
	switch t.Kind {
	case language.HTTP:
		return t.Method + " " + t.Path
	case language.Event:
		return t.Type
	case language.Cron:
		return t.Cron
	case language.Every:
		return t.Every.String()
	case language.Queue:
		return t.Source()
	}
	return "called by other routes"
}

// replies collects the statuses that a route's steps may answer with.
func replies(steps []*language.Step) []int {
	var out []int
	outcome := func(o *language.Outcome) {
		if o != nil && o.End == language.ReplyEnd {
			out = append(out, o.Status)
		}
	}
	for _, s := range steps {
		if s.Word == language.ReplyW {
			out = append(out, s.Status)
		}
		outcome(s.Else)
		for _, o := range s.Errors {
			outcome(o)
		}
		for _, c := range s.Cases {
			out = append(out, replies(c.Steps)...)
		}
		for _, b := range s.Branches {
			out = append(out, replies(b.Steps)...)
		}
		out = append(out, replies(s.Otherwise)...)
		out = append(out, replies(s.Steps)...)
	}
	return out
}
