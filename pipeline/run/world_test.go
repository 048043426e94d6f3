package run

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/identity"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/crash"
	"github.com/dime-bus/dime/internal/store/sqlite"
	"github.com/dime-bus/dime/pipeline/language"
)

var epoch = time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)

// world is the outside of a test: scripted answers, every arrival, and a ledger
// of the effects that were carried out.
type world struct {
	t     testing.TB
	clock *clock.Virtual
	disk  *sqlite.Store
	city  *language.City
	e     *Engine
	plan  crash.Plan
	crash *crash.Store
	cfg   Config

	refuse   func(op string, s store.State, rs []store.Record) error // a commit that the disk does not take
	noClaims atomic.Bool                                             // the store refuses to give runs out

	mu     sync.Mutex
	script map[string][]any
	called map[string]int
	keys   map[string][]string
	order  []string
	ledger map[string]map[string]any // operation -> key -> result
}

func op(name string, e connectors.Effect, keyed bool, foundBy string) *connectors.Operation {
	in, err := schema.CompileBytes("sys."+name+"/in", []byte(`{"type":"object","properties":{"id":{"type":"string"},"n":{"type":"integer"}}}`))
	if err != nil {
		panic(err)
	}
	out, err := schema.CompileBytes("sys."+name+"/out", []byte(`{"type":"object","required":["v"],"properties":{"v":{"type":"string"},"n":{"type":"integer"},"list":{"type":"array","items":{"type":"string"}}}}`))
	if err != nil {
		panic(err)
	}
	return &connectors.Operation{Name: name, Summary: name, In: in, Out: out, Effect: e, Keyed: keyed, FoundBy: foundBy, Basis: "test",
		Faults: []connectors.Fault{{Name: "full", Kind: fault.Rejected}, {Name: "not_found", Kind: fault.NotFound}, {Name: "conflict", Kind: fault.Conflict},
			{Name: "rejected", Kind: fault.Rejected}}}
}

func description() connectors.Description {
	return connectors.Description{Name: "sys", Summary: "a system", Operations: []*connectors.Operation{
		op("read", connectors.Safe, false, ""), op("look", connectors.Safe, false, ""),
		op("hold", connectors.Writes, true, ""), op("pay", connectors.Pays, true, ""),
		op("book", connectors.Writes, false, "look"), op("both", connectors.Writes, true, "look"),
		op("raw", connectors.Writes, false, ""), op("release", connectors.Writes, true, ""), op("refund", connectors.Writes, true, ""),
	}}
}

const reqSchema = `{"type":"object","additionalProperties":false,"properties":{"id":{"type":"string"},"n":{"type":"integer"},"list":{"type":"array","items":{"type":"string"}},"key":{"type":"string"},"at":{"type":"string"}}}`
const eventSchema = `{"type":"object","required":["id"],"properties":{"id":{"type":"string"},"n":{"type":"integer"}}}`

// loadCity checks routes written without their common head.
func loadCity(t testing.TB, routes ...string) *language.City {
	t.Helper()
	fsys := fstest.MapFS{
		"schemas/req.json":                {Data: []byte(reqSchema)},
		"schemas/events/thing.paid.json":  {Data: []byte(eventSchema)},
		"schemas/events/thing.done.json":  {Data: []byte(eventSchema)},
		"schemas/events/sys.paid.json":    {Data: []byte(eventSchema)},
		"schemas/events/thing.other.json": {Data: []byte(eventSchema)},
		"config/purposes.yaml":            {Data: []byte("service:\n  text: {it: a, en: a, de: a, fr: a}\n  legal_basis: law\n  keep: 90d\n")},
		"config/messages.yaml":            {Data: []byte("sorry: {it: no, en: no, de: no, fr: no}\n")},
	}
	for _, r := range routes {
		r = strings.TrimLeft(r, "\n")
		name := strings.Fields(strings.SplitN(r, "\n", 2)[0])[1]
		if !strings.Contains(r, "\nversion:") {
			r = strings.Replace(r, "\n", "\nversion: 1\nabout: A test.\nowner: t@example.org\nreq: req\n", 1)
		}
		fsys["routes/"+name+".yaml"] = &fstest.MapFile{Data: []byte(r)}
	}
	city, ps := language.Load(fsys, language.Options{Connectors: map[string]connectors.Description{"sys": description()}})
	for _, p := range ps {
		if !p.Warning {
			t.Errorf("city: %s", p)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
	return city
}

func newWorld(t testing.TB, routes ...string) *world {
	t.Helper()
	w := newWorldBare(t, routes...)
	w.boot()
	return w
}

func newWorldBare(t testing.TB, routes ...string) *world {
	t.Helper()
	w := &world{t: t, clock: clock.NewVirtual(epoch), script: map[string][]any{}, called: map[string]int{},
		keys: map[string][]string{}, ledger: map[string]map[string]any{}}
	w.city = loadCity(t, routes...)
	disk, err := sqlite.Open(context.Background(), sqlite.Options{Path: sqlite.Memory, Clock: w.clock})
	if err != nil {
		t.Fatal(err)
	}
	w.disk = disk
	t.Cleanup(func() {
		w.e.Stop()
		_ = w.disk.Close()
	})
	return w
}

// boot starts an engine on the disk, as a new process would.
func (w *world) boot() {
	w.t.Helper()
	w.crash = crash.Wrap(w.disk, w.plan)
	cfg := w.cfg
	cfg.Store, cfg.Clock, cfg.Do = flaky{w.crash, w}, w.clock, w.do
	cfg.BaseURL = func() string { return "https://city.test" }
	cfg.Random = func() float64 { return 0 }
	if w.cfg.Recompile != nil {
		cfg.Recompile = w.cfg.Recompile
	}
	e, err := New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.e = e
	if err := e.Swap(w.city); err != nil {
		w.t.Fatal(err)
	}
	if err := e.Start(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

// reboot plays the process's death and the next one's birth.
func (w *world) reboot() {
	w.t.Helper()
	w.crash.Kill()
	w.e.Stop()
	w.plan = crash.Plan{}
	disk, err := w.disk.Reopen(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	w.disk = disk
	w.boot()
}

// do is every connector. A script entry is a map (an answer), a string (a fault
// word, with "sent:" or "done:" before it for what became of the effect), or a
// time.Duration (sleep, then the next entry).
func (w *world) do(ctx context.Context, full string, op *connectors.Operation, c connectors.Call) (any, error) {
	w.mu.Lock()
	name := strings.TrimPrefix(full, "sys.")
	w.called[name]++
	w.order = append(w.order, name)
	w.keys[name] = append(w.keys[name], c.Key)
	var next any
	for {
		q := w.script[name]
		if len(q) == 0 {
			next = nil
			break
		}
		next = q[0]
		if len(q) > 1 {
			w.script[name] = q[1:]
		} else if _, ok := next.(string); ok || len(q) == 1 {
			w.script[name] = q // the last one repeats
		}
		if d, ok := next.(time.Duration); ok {
			w.mu.Unlock()
			if err := clock.Sleep(ctx, w.clock, d); err != nil {
				return nil, err
			}
			w.mu.Lock()
			if len(q) == 1 {
				next = nil
				break
			}
			continue
		}
		break
	}
	defer w.mu.Unlock()
	var key string
	if op.Effect != connectors.Safe {
		key = c.Key
	}
	answer := map[string]any{"v": name + "-" + fmt.Sprint(c.Args["id"])}
	if m, ok := next.(map[string]any); ok {
		answer = m
	}
	if s, ok := next.(string); ok {
		done := strings.HasPrefix(s, "done:")
		s = strings.TrimPrefix(s, "done:")
		sent := done || strings.HasPrefix(s, "sent:")
		s = strings.TrimPrefix(s, "sent:")
		if done {
			w.book(name, key, answer)
		}
		f := &fault.Error{Kind: fault.Kind(s), Sent: sent}
		if !f.Kind.Valid() {
			f.Kind, f.Name = fault.Rejected, s
		}
		return nil, f
	}
	if name == "look" && c.Key != "" {
		for _, of := range []string{"book", "both"} {
			if r, ok := w.ledger[of][c.Key]; ok {
				return r, nil
			}
		}
		if next == nil {
			return nil, fault.New(fault.NotFound, "no such effect")
		}
	}
	w.book(name, key, answer)
	return answer, nil
}

func (w *world) book(name, key string, answer any) {
	if key == "" {
		return
	}
	if w.ledger[name] == nil {
		w.ledger[name] = map[string]any{}
	}
	w.ledger[name][key] = answer
}

func (w *world) effects(name string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.ledger[name])
}

func (w *world) calls(name string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.called[name]
}

func citizen() *identity.Caller {
	return &identity.Caller{Kind: "citizen", Subject: "s-1", Assurance: 2, TaxCode: "RSSMRA80A01L736U"}
}

func http(route string, req map[string]any) Request {
	return Request{Route: route, Req: req, Caller: citizen(), Trigger: "http"}
}

// ask sends a request and advances time until its answer.
func (w *world) ask(r Request) Answer {
	w.t.Helper()
	ch := w.e.Ask(context.Background(), r)
	return w.until(ch)
}

func (w *world) until(ch <-chan Answer) Answer {
	w.t.Helper()
	for range 1000 {
		w.clock.Settle()
		select {
		case a := <-ch:
			return a
		default:
		}
		at, ok := w.clock.Next()
		if !ok {
			w.t.Fatal("nothing will ever answer")
		}
		w.clock.Advance(at)
	}
	w.t.Fatal("no answer after 1000 alarms")
	return Answer{}
}

func (w *world) pass(d time.Duration) {
	w.clock.Advance(w.clock.Now().Add(d))
	w.clock.Settle()
}

// state of the newest durable run.
func (w *world) newest() store.Run {
	w.t.Helper()
	rs, err := w.disk.Find(context.Background(), store.Filter{Limit: 1})
	if err != nil || len(rs) == 0 {
		w.t.Fatalf("no durable run (%v)", err)
	}
	return rs[0]
}

func (w *world) states() string {
	rs, err := w.disk.Find(context.Background(), store.Filter{})
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, r := range rs {
		out = append(out, string(r.State))
	}
	return strings.Join(out, " ")
}

func (w *world) kinds(id store.RunID) string {
	_, rs, err := w.disk.Load(context.Background(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, r := range rs {
		out = append(out, string(r.Kind)+" "+r.Path)
	}
	return strings.Join(out, "\n")
}

func (w *world) publish(typ, id string, data map[string]any) {
	w.t.Helper()
	if err := w.e.Publish(context.Background(), typ, id, data); err != nil {
		w.t.Fatal(err)
	}
	w.clock.Settle()
}

func show(a Answer) string {
	body := a.Body
	if a.Problem != nil {
		body = a.Problem.Type + " " + a.Problem.Detail
	}
	b, _ := json.Marshal(body)
	return fmt.Sprintf("%d %s", a.Status, b)
}

func mapString(v any) string { return fmt.Sprint(v) }
