package main

import (
	"context"
	"time"

	"github.com/dime-bus/dime/internal/bus/client"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/telemetry"
	"github.com/dime-bus/dime/pipeline/run"
)

// program is the bus as the program with this credential may use it, in this
// process: what the modules are handed.
func (s *server) program(secret string) (client.Client, error) {
	who, ok := s.clients.Authenticate(secret)
	if !ok {
		return nil, fault.New(fault.Denied, "no client of config/dime.yaml has this credential")
	}
	return client.NewLocal(who, clientEngine{s.engine, who.Name}, s.store, s.hub, s.eventType, clock.Real{}), nil
}

// eventType says whether the city in force has an event type. Schemas of events
// are versioned by name (semantics 1), so the first version is the only one.
func (s *server) eventType(name string) (version int, ok bool) {
	_, ok = s.engine.City().Events[name]
	return 1, ok
}

// clientEngine is the engine as one program of the bus sees it.
type clientEngine struct {
	engine *run.Engine
	name   string
}

func (e clientEngine) Request(ctx context.Context, r client.Request) (client.Answer, error) {
	if e.engine.City().Routes[r.Route] == nil {
		return client.Answer{}, fault.New(fault.NotFound, "there is no route %q", r.Route)
	}
	q := run.Request{Route: r.Route, Req: r.Req, Caller: r.Caller, Trigger: "client"}
	if r.Key != "" {
		q.Key = "client/" + e.name + "/" + r.Key // two programs may choose the same key
	}
	q.Deadline, _ = ctx.Deadline()
	a := e.engine.Request(ctx, q)
	out := client.Answer{Status: a.Status, Body: a.Body, Header: a.Header, Run: a.Run}
	if p := a.Problem; p != nil {
		out.Problem = &client.Problem{Type: p.Type, Title: p.Title, Status: p.Status, Detail: p.Detail, Say: p.Say, URL: p.URL}
		for _, f := range p.Errors {
			out.Problem.Errors = append(out.Problem.Errors, client.FieldError(f))
		}
	}
	return out, ctx.Err()
}

func (e clientEngine) Publish(ctx context.Context, eventType, id string, data any) error {
	return e.engine.Publish(ctx, eventType, id, data)
}

// dead are the states that a person must look at; the store has an index of them.
func dead() []store.State { return []store.State{store.Parked, store.Failed} }

// mostCounted bounds what a look at the metrics reads.
const mostCounted = 10_000

// gauges are read when metrics are asked for.
func (s *server) gauges() error {
	err := s.metrics.StateCounts(func() map[string]int {
		out := map[string]int{}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		for _, state := range dead() {
			runs, err := s.store.Find(ctx, store.Filter{States: []store.State{state}, Limit: mostCounted})
			if err != nil {
				s.log.Warn("counting runs for the metrics", "state", state, "err", err)
				continue
			}
			out[string(state)] = len(runs)
		}
		return out
	})
	if err != nil {
		return err
	}
	truth := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	return s.metrics.Gauges(
		telemetry.Gauge{Name: "ready", Help: "1 while requests are taken.", Read: func() float64 { return truth(s.ready.Load()) }},
		telemetry.Gauge{Name: "draining", Help: "1 while the bus stops.", Read: func() float64 { return truth(s.engine.Draining()) }},
	)
}

// status are the facts of GET /status besides its routes.
func (s *server) status() map[string]any {
	v := thisVersion()
	u := s.urls()
	return map[string]any{
		"name": s.cfg.Name, "version": v.Version, "revision": v.Revision, "go": v.Go,
		"public": u.Public, "admin": u.Admin, "city": u.City,
		"ready": s.ready.Load(), "draining": s.engine.Draining(), "clients": s.programNames(),
	}
}

func (s *server) programNames() []string {
	names := []string{}
	for _, c := range s.cfg.Clients {
		names = append(names, c.Name)
	}
	return names
}
