package routetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/pipeline/language"
	"github.com/dime-bus/dime/pipeline/run"
)

// world is everything outside the engine during one variant of a case: the
// systems that operations reach, the bus, and what happened there. It outlives
// the crashes of the engine.
type world struct {
	clock *clock.Virtual
	city  *language.City
	facts *facts
	given map[string]*script

	mu        sync.Mutex
	random    *rand.Rand
	next      map[string]int // answers and arrivals given so far, by name
	called    map[string]int
	happened  map[string]int            // effects carried out, by name
	ledger    map[string]map[string]any // by operation: key -> result of what was carried out
	published map[string]*publication   // by message id
	order     []*publication
	queues    map[string]*queue
	events    int
	complaint []string // what the case's author must mend in `given`
}

type publication struct {
	event string
	data  any
	times int
}

// queue is a durable queue of the bus with its consumer, if one is there.
type queue struct {
	types   map[string]bool
	handle  func(context.Context, run.Message) error
	life    int // grows with each consumer: an older one's deliveries are not settled
	waiting []run.Message
}

func newWorld(c *Case, city *language.City, f *facts, clk *clock.Virtual, seed uint64) *world {
	return &world{
		clock: clk, city: city, facts: f, given: c.given,
		random: rand.New(rand.NewPCG(seed, 0x64696d65)),
		next:   map[string]int{}, called: map[string]int{}, happened: map[string]int{},
		ledger: map[string]map[string]any{}, published: map[string]*publication{}, queues: map[string]*queue{},
	}
}

func (w *world) float() float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.random.Float64()
}

func (w *world) uuid() string {
	w.mu.Lock()
	a, b := w.random.Uint64(), w.random.Uint64()
	w.mu.Unlock()
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", a>>32, a>>16&0xffff, a&0xfff, 0x8000|b>>48&0x3fff, b&0xffffffffffff)
}

// do answers one attempt of an operation as `given` says.
func (w *world) do(ctx context.Context, full string, op *connectors.Operation, c connectors.Call) (any, error) {
	a, known := w.arrive(full, op, c)
	if known != nil {
		return known.result, nil
	}
	if a.latency > 0 {
		if err := clock.Sleep(ctx, w.clock, a.latency); err != nil {
			return nil, &fault.Error{Kind: fault.Timeout, Sent: true, Err: err}
		}
	}
	if a.fault != nil {
		return nil, faultError(a.fault)
	}
	w.carryOut(full, op, c, a.result)
	if a.lost {
		return nil, &fault.Error{Kind: fault.Timeout, Sent: true, Detail: "the answer was lost (given)"}
	}
	return a.result, nil
}

// faultError is the fault that a mocked far side answers with. Only what says
// that nothing was carried out was not sent.
func faultError(f *connectors.Fault) *fault.Error {
	e := &fault.Error{Kind: f.Kind, Name: f.Name, Sent: true, Detail: f.Summary}
	switch f.Kind {
	case fault.Throttled, fault.Unavailable:
		e.Sent = false
	case fault.Contract:
		e.Raw = []byte("{}")
	}
	return e
}

// arrive counts the attempt and picks its answer; known is what a far side that
// deduplicates answers to a key that it has carried out.
func (w *world) arrive(full string, op *connectors.Operation, c connectors.Call) (a answer, known *answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.called[full]++
	if op.Keyed && c.Key != "" {
		if r, ok := w.ledger[full][c.Key]; ok {
			return a, &answer{result: r}
		}
	}
	s := w.given[full]
	if s == nil || len(s.answers) == 0 {
		return w.unasked(full, op, c), nil
	}
	i := min(w.next[full], len(s.answers)-1)
	w.next[full]++
	return s.answers[i], nil
}

// unasked answers for an operation of which `given` says nothing: a found_by
// operation tells what the ledger holds, any other the smallest legal value.
func (w *world) unasked(full string, op *connectors.Operation, c connectors.Call) answer {
	if effect, ok := w.facts.finds[full]; ok {
		if r, there := w.ledger[effect][c.Key]; there {
			return answer{result: r}
		}
		return answer{fault: &connectors.Fault{Kind: fault.NotFound, Summary: "it never happened (given)"}}
	}
	v := sample(op.Out)
	if op.Out != nil {
		if bad := op.Out.Validate(v); len(bad) > 0 {
			w.complain("%s was called, and `given` does not say what it answers (%s)", full, pointed(bad[0]))
		}
	}
	return answer{result: v}
}

// complain notes something that makes the case itself wrong; mu is held.
func (w *world) complain(format string, args ...any) {
	m := fmt.Sprintf(format, args...)
	for _, c := range w.complaint {
		if c == m {
			return
		}
	}
	w.complaint = append(w.complaint, m)
}

// carryOut writes an effect into the ledger. A far side that deduplicates counts
// a key once; any other counts every call that it carried out, so that a double
// is seen.
func (w *world) carryOut(full string, op *connectors.Operation, c connectors.Call, result any) {
	if op.Effect == connectors.Safe {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ledger[full] == nil {
		w.ledger[full] = map[string]any{}
	}
	_, again := w.ledger[full][c.Key]
	if !again || !op.Keyed {
		w.happened[full]++
	}
	if !again {
		w.ledger[full][c.Key] = result
	}
}

// lookUp is what the far side says of a key: whether it was carried out, and
// with what result.
func (w *world) lookUp(full, key string) (any, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r, ok := w.ledger[full][key]
	return r, ok
}

// Publish implements run.Bus: what the engine publishes is what was emitted.
func (w *world) Publish(_ context.Context, ms ...run.Message) error {
	for _, m := range ms {
		data, err := schema.DecodeJSON(m.Body)
		if err != nil {
			return fmt.Errorf("publishing %q: %w", m.Type, err)
		}
		w.mu.Lock()
		p := w.published[m.ID]
		if p == nil {
			p = &publication{event: m.Type, data: data}
			w.published[m.ID] = p
			w.order = append(w.order, p)
			w.happened[m.Type]++
		}
		p.times++
		w.called[m.Type]++
		w.mu.Unlock()
		w.deliver(m)
	}
	return nil
}

// Consume implements run.Bus. Messages that an earlier consumer of the queue did
// not settle come again.
func (w *world) Consume(ctx context.Context, name string, types []string, handle func(context.Context, run.Message) error) (func(), error) {
	w.mu.Lock()
	q := w.queues[name]
	if q == nil {
		q = &queue{}
		w.queues[name] = q
	}
	q.types = map[string]bool{}
	for _, t := range types {
		q.types[t] = true
	}
	q.handle = handle
	q.life++
	life, again := q.life, q.waiting
	q.waiting = nil
	w.mu.Unlock()
	for _, m := range again {
		w.hand(q, m)
	}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if q.life == life {
			q.handle = nil
		}
	}, nil
}

// deliver hands a message to every queue bound to its type.
func (w *world) deliver(m run.Message) {
	w.mu.Lock()
	var qs []*queue
	for _, n := range sortedKeys(w.queues) {
		if q := w.queues[n]; q.types[m.Type] || q.types["*"] {
			qs = append(qs, q)
		}
	}
	w.mu.Unlock()
	for _, q := range qs {
		w.hand(q, m)
	}
}

// hand delivers one message as counted work of the clock, again after a second
// if it was not settled, and to the next consumer if this one has gone.
func (w *world) hand(q *queue, m run.Message) {
	w.mu.Lock()
	handle, life := q.handle, q.life
	if handle == nil {
		q.waiting = append(q.waiting, m)
		w.mu.Unlock()
		return
	}
	w.mu.Unlock()
	w.clock.At(w.clock.Now(), func() {
		if err := handle(context.Background(), m); err == nil {
			return
		}
		w.mu.Lock()
		gone := q.life != life || q.handle == nil
		w.mu.Unlock()
		if gone {
			w.hand(q, m)
			return
		}
		w.clock.At(w.clock.Now().Add(time.Second), func() { w.hand(q, m) })
	})
}

// waiting is told of each wait that was registered, and sends its event.
func (w *world) waiting(x *store.Wait) {
	w.mu.Lock()
	s := w.given[x.Type]
	if s == nil || len(s.arrivals) == 0 {
		w.mu.Unlock()
		return
	}
	i := min(w.next[x.Type], len(s.arrivals)-1)
	w.next[x.Type]++
	a := s.arrivals[i]
	w.events++
	id := fmt.Sprintf("given-%d", w.events)
	w.mu.Unlock()
	if a.never {
		return
	}
	body, err := schema.Canonical(a.data)
	if err != nil {
		w.mu.Lock()
		w.complain("the event %s can't be sent: %v", x.Type, err)
		w.mu.Unlock()
		return
	}
	w.clock.At(a.after.After(w.clock.Now(), w.zone()), func() {
		w.deliver(run.Message{ID: id, Type: x.Type, At: w.clock.Now(), Body: body})
	})
}

func (w *world) zone() *time.Location {
	if w.city.Zone != nil {
		return w.city.Zone
	}
	return time.UTC
}

// started counts a route that was started as a run of its own.
func (w *world) started(o store.Outbox) {
	name, ok := strings.CutPrefix(o.Topic, startWord)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.published[o.ID] != nil {
		return
	}
	w.published[o.ID] = &publication{}
	w.called[routeWord+name]++
	w.happened[routeWord+name]++
}

const startWord = "start:"
