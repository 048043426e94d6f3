package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/dime-bus/dime/config"
	"github.com/dime-bus/dime/internal/bus/client"
	"github.com/dime-bus/dime/internal/bus/client/remote"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/identity"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/telemetry"
	"github.com/dime-bus/dime/pipeline/run"
	"github.com/dime-bus/dime/pipeline/run/unmatched"
)

// program is the bus as the program with this credential may use it, in this
// process: what the modules are handed.
func (s *server) program(secret string) (client.Client, error) {
	who, ok := s.clients.Authenticate(secret)
	if !ok {
		return nil, fault.New(fault.Denied, "no client of config/dime.yaml has this credential")
	}
	return s.local(who), nil
}

func (s *server) local(who *identity.Client) *client.Local {
	return client.NewLocal(who, clientEngine{s.engine, who.Name}, busLog{s.bus}, s.hub, s.eventType, clock.Real{})
}

// answerPrograms answers what programs outside call over the broker, each with its
// own rights. RabbitMQ knows who calls (deploy/rabbitmq/README.md).
func (s *server) answerPrograms(ctx context.Context) error {
	if s.broker == nil || !s.has(config.Worker) {
		return nil
	}
	for _, c := range s.cfg.Clients {
		secret, err := c.Secret.Resolve()
		if err != nil {
			return fmt.Errorf("reading the secret of client %q: %w", c.Name, err)
		}
		who, ok := s.clients.Authenticate(secret)
		if !ok {
			return fmt.Errorf("the credential of client %q is not in force", c.Name)
		}
		go s.broker.Answer(ctx, c.Name, remote.Handler(s.local(who)))
	}
	return nil
}

// eventType says whether the city in force has an event type, and the version
// that its schema gives itself (`x-version`, 1 if it says none).
func (s *server) eventType(name string) (version int, ok bool) {
	e, ok := s.engine.City().Events[name]
	if !ok {
		return 0, false
	}
	v := struct {
		Version int `json:"x-version"`
	}{1}
	if err := json.Unmarshal(e.Schema.Source, &v); err != nil {
		s.log.Error("reading the version of an event's schema", "event", name, "err", err)
	}
	return v.Version, true
}

// maxKey is the longest idempotency key (semantics 4.6).
const maxKey = 200

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
	if len(r.Key) > maxKey {
		return client.Answer{}, fault.New(fault.Invalid, "the key has %d bytes; it may have %d", len(r.Key), maxKey)
	}
	if r.Key != "" {
		// Two programs may choose the same key; a hash keeps name and key within the bound.
		sum := sha256.Sum256([]byte(e.name + "\x00" + r.Key))
		q.Key = "client/" + hex.EncodeToString(sum[:])
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
	return s.metrics.Gauges(append(s.trail.Gauges(),
		telemetry.Gauge{Name: "ready", Help: "1 while requests are taken.", Read: func() float64 { return truth(s.ready.Load()) }},
		telemetry.Gauge{Name: "unmatched_events", Help: "Events about money that no run took and no person settled (dime events ls).", Read: s.unmatchedEvents},
		telemetry.Gauge{Name: "draining", Help: "1 while the bus stops.", Read: func() float64 { return truth(s.engine.Draining()) }},
	)...)
}

func (s *server) unmatchedEvents() float64 {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	es, err := unmatched.List(ctx, s.store, 0, mostCounted)
	if err != nil {
		s.log.Warn("counting the events that no run took", "err", err)
	}
	return float64(len(es))
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
