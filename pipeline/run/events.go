package run

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/identity"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/pipeline/language"
	"github.com/dime-bus/dime/pipeline/run/codec"
	"github.com/dime-bus/dime/pipeline/run/head"
	"github.com/dime-bus/dime/pipeline/run/shape"
	"github.com/dime-bus/dime/pipeline/run/unmatched"
	"github.com/dime-bus/dime/pipeline/step"
)

// waitsQueue takes every event type that some version waits for.
const waitsQueue = "waits"

// learnShapes indexes the stored events of a type under a new shape.
func (e *Engine) learnShapes(ctx context.Context, r *language.Route) error {
	for _, w := range e.shapes.Learn(r.Waits) {
		paths := strings.Split(w.Shape, ",")
		err := e.store.Reindex(ctx, w.Type, w.Shape, func(body []byte) []store.EventKey {
			v, err := codec.Decode(body)
			if err != nil {
				return nil
			}
			if k, ok := shape.Key(paths, v); ok {
				return []store.EventKey{{Shape: w.Shape, Key: k}}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("indexing stored events of %q: %w", w.Type, err)
		}
	}
	return nil
}

// feeds is what the engine consumes from the bus.
type feeds struct {
	mu    sync.Mutex
	stops map[string]func()
	types map[string]string // queue -> its types, joined
}

func (f *feeds) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for q, s := range f.stops {
		s()
		delete(f.stops, q)
	}
}

// feed binds the queues that the city needs and lets go of the others.
func (e *Engine) feed(ctx context.Context, cs *cityState) error {
	if e.cfg.Bus == nil || e.cfg.NoWork || !e.started.Load() {
		return nil
	}
	want := map[string][]string{}
	if ts := e.kept(cs); len(ts) > 0 {
		want[waitsQueue] = ts
	}
	for name, p := range cs.progs {
		for _, t := range p.route.From {
			if t.Kind == language.Event {
				want["route."+name] = append(want["route."+name], t.Type)
			}
		}
	}
	f := &e.feeds
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stops == nil {
		f.stops, f.types = map[string]func(){}, map[string]string{}
	}
	for q, stop := range f.stops {
		if strings.Join(want[q], ",") != f.types[q] {
			stop()
			delete(f.stops, q)
		}
	}
	for _, q := range sortedKeys(want) {
		if f.stops[q] != nil {
			continue
		}
		handle := e.takeWaited
		if route, ok := strings.CutPrefix(q, "route."); ok {
			handle = func(ctx context.Context, m Message) error { return e.takeTrigger(ctx, route, m) }
		}
		stop, err := e.cfg.Bus.Consume(e.ctx, q, want[q], func(ctx context.Context, m Message) error {
			clock.Enter(e.clock)
			defer clock.Leave(e.clock)
			return handle(ctx, m)
		})
		if err != nil {
			return fmt.Errorf("consuming queue %q: %w", q, err)
		}
		f.stops[q], f.types[q] = stop, strings.Join(want[q], ",")
	}
	return nil
}

// kept lists the event types that the engine stores: those that some version
// waits for, and those about money that begin no route, for one that nobody takes
// is a dead letter (semantics 5.3).
func (e *Engine) kept(cs *cityState) []string {
	ts := e.shapes.Types()
	for t := range cs.city.Events {
		if e.holds(cs, t) {
			ts = append(ts, t)
		}
	}
	slices.Sort(ts)
	return slices.Compact(ts)
}

// holds says whether an event of a type is a dead letter where no run takes it.
func (e *Engine) holds(cs *cityState, t string) bool {
	system, _, _ := strings.Cut(t, ".")
	return unmatched.Pays(cs.city.Connectors[system]) && len(triggered(cs, t)) == 0
}

// takeWaited stores an event and wakes the runs that wait for it, in one
// transaction with the ack.
func (e *Engine) takeWaited(ctx context.Context, m Message) error {
	data, err := codec.Decode(m.Body)
	if err != nil {
		return fmt.Errorf("reading event %q of %q: %w", m.ID, m.Type, err)
	}
	if et := e.City().Events[m.Type]; et != nil && et.Schema != nil {
		data = et.Schema.Coerce(data)
	}
	hold := e.holds(e.city.Load(), m.Type)
	ev := store.Event{ID: m.ID, Type: m.Type, At: e.clock.Now(), Body: m.Body, Ack: m.Ack, Keep: e.keepEvent(m.Type), Hold: hold}
	e.shapes.Index(&ev, data)
	woken, err := e.store.Deliver(ctx, ev)
	if errors.Is(err, store.ErrShapes) { // another process has a route that is not here
		var taught []string
		if taught, err = e.store.Shapes(ctx, m.Type); err == nil {
			for _, s := range taught {
				e.shapes.Learn([]language.WaitShape{{Type: m.Type, Shape: s}})
			}
			e.shapes.Index(&ev, data)
			woken, err = e.store.Deliver(ctx, ev)
		}
	}
	if err != nil {
		return fmt.Errorf("storing event %q of %q: %w", m.ID, m.Type, err)
	}
	if hold && woken == 0 {
		e.log.Warn("an event about money woke no run; it is kept until a run takes it or a person settles it (dime events ls)", "type", m.Type, "id", m.ID)
	}
	e.cfg.Observer.Event(m.Type, woken)
	e.loop.Kick()
	return nil
}

// keepEvent: 7 days, or as long as the longest `for` of its type.
func (e *Engine) keepEvent(t string) time.Duration {
	keep := 7 * 24 * time.Hour
	for _, p := range e.city.Load().progs {
		for _, s := range p.steps.ByPath {
			if s.Word == language.Wait && s.EventType == t {
				if d := time.Duration(s.For.Days)*24*time.Hour + s.For.Elapsed; d > keep {
					keep = d
				}
			}
		}
	}
	return keep
}

// takeTrigger starts a run of a route by an event.
func (e *Engine) takeTrigger(ctx context.Context, route string, m Message) error {
	p := e.city.Load().progs[route]
	if p == nil {
		return fault.New(fault.Unavailable, "route %s is not loaded", route)
	}
	data, err := codec.Decode(m.Body)
	if err != nil {
		return fmt.Errorf("reading event %q of %q: %w", m.ID, m.Type, err)
	}
	if p.route.Req != nil {
		data = p.route.Req.Coerce(data)
	}
	if err := e.background.Enter(ctx, p.route.Priority, p.route.Name); err != nil {
		return err
	}
	defer e.background.Leave()
	return e.runBackground(ctx, p, Request{Route: route, Req: data, Trigger: "event", Key: m.ID, Ack: m.Ack,
		Caller: &identity.Caller{Kind: "event", Subject: m.Type}, Trace: m.Meta["trace"]})
}

// send publishes to the bus, or without one hands the messages to the engine.
func (e *Engine) send(ctx context.Context, ms []Message) error {
	if len(ms) == 0 {
		return nil
	}
	if e.cfg.Bus != nil {
		return e.cfg.Bus.Publish(ctx, ms...)
	}
	for _, m := range ms {
		if err := e.loopBack(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// loopBack is the engine as its own bus: waits first, then every route that the
// event begins.
func (e *Engine) loopBack(ctx context.Context, m Message) error {
	if e.shapes.Waited(m.Type) || e.holds(e.city.Load(), m.Type) {
		if err := e.takeWaited(ctx, m); err != nil {
			return err
		}
	}
	var errs []error
	for _, name := range triggered(e.city.Load(), m.Type) {
		errs = append(errs, e.takeTrigger(ctx, name, m))
	}
	return errors.Join(errs...)
}

// Publish validates an event against schemas/events and puts it on the bus. A
// repeated id is taken once.
func (e *Engine) Publish(ctx context.Context, eventType, id string, data any) error {
	et := e.City().Events[eventType]
	if et == nil {
		return fault.New(fault.NotFound, "there is no event type %q (schemas/events)", eventType)
	}
	if flt := step.Fits(et.Schema, data, "the event"); flt != nil {
		return flt
	}
	if id == "" {
		id = e.cfg.UUID()
	}
	b, err := codec.Append(nil, data)
	if err != nil {
		return fault.New(fault.Invalid, "the event's data is not plain JSON")
	}
	clock.Enter(e.clock)
	defer clock.Leave(e.clock)
	m := Message{ID: id, Type: eventType, At: e.clock.Now(), Body: b}
	if e.cfg.Bus == nil {
		err = e.publishHere(ctx, m)
	} else {
		err = e.cfg.Bus.Publish(ctx, m)
	}
	if err != nil {
		return &fault.Error{Kind: fault.Unavailable, Detail: "the event could not be stored", Err: err}
	}
	return nil
}

// publishHere is Publish without a bus: what waits is woken before it returns,
// what the event begins runs in goroutines of its own.
func (e *Engine) publishHere(ctx context.Context, m Message) error {
	if e.shapes.Waited(m.Type) || e.holds(e.city.Load(), m.Type) {
		if err := e.takeWaited(ctx, m); err != nil {
			return err
		}
	}
	for _, name := range triggered(e.city.Load(), m.Type) {
		e.start(func() {
			for n := 0; ; n++ {
				err := e.takeTrigger(e.ctx, name, m)
				if err == nil || e.ctx.Err() != nil {
					return
				}
				e.log.Warn("an event was not accepted", "route", name, "type", m.Type, "id", m.ID, "error", err)
				if clock.Sleep(e.ctx, e.clock, e.cfg.Ladder[min(n, len(e.cfg.Ladder)-1)]) != nil {
					return
				}
			}
		})
	}
	return nil
}

// triggered lists the routes that an event type begins.
func triggered(cs *cityState, t string) (names []string) {
	for _, name := range sortedKeys(cs.progs) {
		for _, tr := range cs.progs[name].route.From {
			if tr.Kind == language.Event && tr.Type == t {
				names = append(names, name)
			}
		}
	}
	return names
}

// Emit implements step.Effects: the event rides with the run's next commit and
// is published after it, at least once, under the record's id.
func (x *exec) Emit(_ context.Context, path, eventType string, body any) error {
	if et := x.e.City().Events[eventType]; et != nil {
		if flt := step.Fits(et.Schema, body, "the event of "+path); flt != nil {
			x.e.log.Error("an event does not fit its schema", "route", x.p.route.Name, "run", x.publicID(), "step", path, "pointer", flt.Pointer)
			return flt
		}
	}
	b, err := codec.Append(nil, body)
	if err != nil {
		return fault.New(fault.Internal, "the event of %s is not plain JSON", path)
	}
	id := x.e.store.Key("emit", x.publicID(), path, itoa(x.round(path)))
	if x.pipe {
		id = x.e.store.Key("pipe", x.head.Key, path) // a repetition publishes the same ids
	}
	meta := map[string]string{"source": x.p.route.Name}
	if x.head.Trace != "" {
		meta["trace"] = x.head.Trace
	}
	n := &entry{kind: store.OutcomeRec, path: path, round: x.round(path), at: x.now(), in: body,
		hasValue: true, x: map[string]any{"event": eventType}}
	n.outbox = []store.Outbox{{ID: id, Topic: eventType, Body: b, Meta: meta}}
	x.add(n)
	return nil
}

// startTopic is the outbox topic of `start: route.x`.
const startTopic = "start:"

// Start implements step.Effects (semantics 12.2): an outbox row that carries the
// request, caller and subject; the started run's id is set aside here.
func (x *exec) Start(ctx context.Context, path, route string, req any) (string, error) {
	id, err := x.e.newID(ctx)
	if err != nil {
		return "", &errJournal{err}
	}
	pub := x.e.store.PublicID(id)
	m := map[string]any{"req": req, "id": int(id), "parent": x.publicID()}
	if x.caller != nil {
		m["caller"] = x.caller
	}
	b, err := codec.Append(nil, m)
	if err != nil {
		return "", fault.New(fault.Internal, "the request of %s is not plain JSON", path)
	}
	n := &entry{kind: store.OutcomeRec, path: path, round: x.round(path), at: x.now(), in: req, value: pub, hasValue: true,
		x: map[string]any{"target": route}}
	n.outbox = []store.Outbox{{ID: x.e.store.Key("start", x.publicID(), path, itoa(x.round(path))), Topic: startTopic + route, Body: b}}
	x.add(n)
	return pub, nil
}

// begin carries out a `start` row.
func (e *Engine) begin(ctx context.Context, route string, row store.OutboxRow) error {
	p := e.city.Load().progs[strings.TrimPrefix(route, "route.")]
	if p == nil {
		return fault.New(fault.Unavailable, "route %s is not loaded", route)
	}
	v, err := codec.Decode(row.Body)
	if err != nil {
		return err
	}
	m, _ := v.(map[string]any)
	req := m["req"]
	if p.route.Req != nil {
		req = p.route.Req.Coerce(req)
	}
	id, _ := m["id"].(int)
	parent, _ := m["parent"].(string)
	if err := e.background.Enter(e.ctx, p.route.Priority, p.route.Name); err != nil {
		return err
	}
	defer e.background.Leave()
	return e.runBackground(ctx, p, Request{Route: p.route.Name, Req: req, Trigger: "start", Key: row.ID, Caller: head.Caller(m["caller"]),
		id: store.RunID(id), parent: parent})
}
