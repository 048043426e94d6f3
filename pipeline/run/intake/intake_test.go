package intake_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/pipeline/language"
	"github.com/dime-bus/dime/pipeline/run"
	"github.com/dime-bus/dime/pipeline/run/intake"
)

// city is one with routes that are fed by queues: name -> what stands under `queue`.
func city(t *testing.T, routes map[string]string) *language.City {
	t.Helper()
	fsys := fstest.MapFS{
		"schemas/bin.json": {Data: []byte(`{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","additionalProperties":false,"required":["bin","kg"],"properties":{"bin":{"type":"string"},"kg":{"type":"number"}}}`)},
	}
	for name, queue := range routes {
		fsys["routes/"+name+".yaml"] = &fstest.MapFile{Data: []byte("route: " + name + "\nversion: 1\nfrom:\n  queue: " + queue + "\nreq: bin\nsteps:\n  - set: {kg: =req.kg}\n")}
	}
	c, ps := language.Load(fsys, language.Options{Brokers: []string{"contractor"}})
	if language.Refused(ps) {
		t.Fatal(ps)
	}
	return c
}

// engine takes requests and answers as it is told.
type engine struct {
	mu     sync.Mutex
	got    []run.Request
	answer error
}

func (e *engine) Trigger(_ context.Context, r run.Request) <-chan error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.got = append(e.got, r)
	ch := make(chan error, 1)
	ch <- e.answer
	return ch
}

// brokers hands the tests what was subscribed.
type brokers struct {
	subscribed chan *feed
	refuse     error
	refused    chan struct{}
}

type feed struct {
	intake.From
	handle func(context.Context, intake.Message) error
	ctx    context.Context
}

func (b *brokers) Receive(ctx context.Context, f intake.From, handle func(context.Context, intake.Message) error) error {
	if b.refuse != nil {
		b.refused <- struct{}{}
		return b.refuse
	}
	b.subscribed <- &feed{f, handle, ctx}
	<-ctx.Done()
	return nil
}

func newIntake(t *testing.T) (*intake.Intake, *engine, *brokers, *bytes.Buffer) {
	e, b, log := &engine{}, &brokers{subscribed: make(chan *feed, 10), refused: make(chan struct{}, 10)}, &bytes.Buffer{}
	i := intake.New(e, b, clock.Real{}, slog.New(slog.NewTextHandler(log, nil)), 200)
	t.Cleanup(func() { i.Stop(); i.Wait() })
	return i, e, b, log
}

func TestMessages(t *testing.T) {
	i, e, b, log := newIntake(t)
	i.Swap(city(t, map[string]string{"weigh": "contractor/bins"}))
	f := <-b.subscribed
	if d := cmp.Diff(intake.From{Route: "weigh", Broker: "contractor", Queue: "bins"}, f.From); d != "" {
		t.Fatal(d)
	}
	long := `{"bin":"` + strings.Repeat("x", 300) + `","kg":1}`
	for _, c := range []struct {
		what string
		m    intake.Message
		want any
	}{
		{"a message that fits", intake.Message{ID: "1", Body: []byte(`{"bin":"b1","kg":3}`)}, map[string]any{"bin": "b1", "kg": 3.0}},
		{"one that does not is the engine's to refuse", intake.Message{ID: "2", Body: []byte(`{"kg":"many"}`)}, map[string]any{"kg": "many"}},
		{"no JSON", intake.Message{ID: "3", Body: []byte("RSSMRA80A01L736U;3")}, "RSSMRA80A01L736U;3"},
		{"two keys of one name", intake.Message{ID: "4", Body: []byte(`{"kg":1,"kg":2}`)}, `{"kg":1,"kg":2}`},
		{"no text", intake.Message{ID: "5", Body: []byte{0xff, 0x00}}, "base64:/wA="},
		{"nothing", intake.Message{ID: "6"}, ""},
		{"a long one", intake.Message{ID: "7", Body: []byte(long)}, long},
		{"one that nobody survives", intake.Message{ID: "8", Body: []byte(`{"bin":"b1","kg":3}`), Lost: 15}, `{"bin":"b1","kg":3}`},
		{"one without id", intake.Message{Body: []byte(`{"bin":"b1","kg":3}`), Lost: 14}, map[string]any{"bin": "b1", "kg": 3.0}},
	} {
		if err := f.handle(f.ctx, c.m); err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		r := e.got[len(e.got)-1]
		if d := cmp.Diff(c.want, r.Req); d != "" {
			t.Errorf("%s: %s", c.what, d)
		}
		if r.Route != "weigh" || r.Trigger != "queue" || r.Key != c.m.ID || r.Caller.Owner() != "event:contractor/bins" {
			t.Errorf("%s: %+v of %+v", c.what, r, r.Caller)
		}
	}
	if strings.Contains(log.String(), "RSSMRA80A01L736U") {
		t.Errorf("a message's content is in the log: %s", log)
	}
	// What can't be accepted now is not acked.
	e.answer = fault.New(fault.Unavailable, "the store is away")
	if err := f.handle(f.ctx, intake.Message{ID: "9", Body: []byte(`{"bin":"b1","kg":3}`)}); !errors.Is(err, e.answer) {
		t.Error(err)
	}
}

func TestSwap(t *testing.T) {
	i, _, b, _ := newIntake(t)
	i.Swap(city(t, map[string]string{"weigh": "contractor/bins", "count": "{broker: contractor, exchange: bins, keys: [a.*, b]}"}))
	feeds := map[string]*feed{}
	for range 2 {
		f := <-b.subscribed
		feeds[f.Route] = f
	}
	if d := cmp.Diff(intake.From{Route: "count", Broker: "contractor", Exchange: "bins", Keys: []string{"a.*", "b"}}, feeds["count"].From); d != "" {
		t.Fatal(d)
	}
	i.Swap(city(t, map[string]string{"weigh": "contractor/bins", "count": "contractor/bins"}))
	<-feeds["count"].ctx.Done()
	if f := <-b.subscribed; f.Route != "count" || f.Queue != "bins" {
		t.Errorf("%+v", f.From)
	}
	if feeds["weigh"].ctx.Err() != nil || len(b.subscribed) != 0 {
		t.Error("a route that takes from the same queue as before was fed anew")
	}
	i.Stop()
	<-feeds["weigh"].ctx.Done()
	i.Wait()
	i.Swap(city(t, map[string]string{"other": "contractor/bins"}))
	if len(b.subscribed) != 0 {
		t.Error("a stopped intake takes messages")
	}
}

// TestBrokerAway: it is asked again, and again.
func TestBrokerAway(t *testing.T) {
	v := clock.NewVirtual(time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC))
	b := &brokers{refuse: fmt.Errorf("no such broker"), refused: make(chan struct{})}
	i := intake.New(&engine{}, b, v, slog.New(slog.DiscardHandler), 200)
	i.Swap(city(t, map[string]string{"weigh": "contractor/bins"}))
	<-b.refused
	for range 2 {
		for asked := false; !asked; {
			v.Advance(v.Now().Add(time.Second))
			select {
			case <-b.refused:
				asked = true
			default:
			}
		}
	}
	i.Stop()
	i.Wait()
}
