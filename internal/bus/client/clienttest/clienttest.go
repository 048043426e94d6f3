// Package clienttest is the suite that every client.Client must pass: the one
// inside the bus's process, and those that reach it from elsewhere.
package clienttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dime-bus/dime/internal/bus/client"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/identity"
)

// City is what a harness must offer the suite: a city with
//
//   - the route "echo", which answers 200 {"req": REQ, "caller": {kind, subject, tax_code}}
//     and counts its runs; a repeated Key with the same request does not run again;
//   - the route "refuse", which answers 409 with a problem;
//   - the event types "thing.done" (version 2; its data is an object that requires
//     the string "n") and "other.done".
//
// and a client "tester" that may request echo and refuse and "missing-*", publish
// thing.done and missing.done, and subscribe to thing.done and missing.done.
type City struct {
	Client client.Client
	// Runs says how often echo ran.
	Runs func() int
	// Elsewhere publishes as the city does, not through the client.
	Elsewhere func(ctx context.Context, eventType, id string, data any) error
}

// Rights are those of the client "tester".
func Rights() identity.Rights {
	return identity.Rights{Routes: []string{"echo", "refuse", "missing-*"}, Publish: []string{"thing.done", "missing.done"},
		Subscribe: []string{"thing.done", "missing.done"}}
}

// Run judges a client; open makes a fresh city for each test.
func Run(t *testing.T, open func(t *testing.T) City) {
	t.Run("Request", func(t *testing.T) { request(t, open(t)) })
	t.Run("RequestProblem", func(t *testing.T) { requestProblem(t, open(t)) })
	t.Run("Key", func(t *testing.T) { key(t, open(t)) })
	t.Run("Rights", func(t *testing.T) { rights(t, open(t)) })
	t.Run("Missing", func(t *testing.T) { missing(t, open(t)) })
	t.Run("Publish", func(t *testing.T) { publish(t, open(t)) })
	t.Run("Repeated", func(t *testing.T) { repeated(t, open(t)) })
	t.Run("CatchUp", func(t *testing.T) { catchUp(t, open(t)) })
	t.Run("Live", func(t *testing.T) { live(t, open(t)) })
	t.Run("HandlerFails", func(t *testing.T) { handlerFails(t, open(t)) })
	t.Run("Concurrent", func(t *testing.T) { concurrent(t, open(t)) })
}

func kind(t *testing.T, what string, err error, want fault.Kind) {
	t.Helper()
	var f *fault.Error
	if !errors.As(err, &f) || f.Kind != want {
		t.Errorf("%s: got %v, want a fault %s", what, err, want)
	}
}

func request(t *testing.T, c City) {
	a, err := c.Client.Request(t.Context(), client.Request{Route: "echo", Req: map[string]any{"n": 1, "s": "ü"},
		Caller: &identity.Caller{Kind: "citizen", Subject: "s1", TaxCode: "RSSMRA80A01L736U", Assurance: 2}})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"req": map[string]any{"n": 1, "s": "ü"},
		"caller": map[string]any{"kind": "citizen", "subject": "s1", "tax_code": "RSSMRA80A01L736U"}}
	if d := cmp.Diff(want, a.Body); d != "" || a.Status != 200 || a.Problem != nil {
		t.Errorf("status %d, problem %v, body: %s", a.Status, a.Problem, d)
	}
	// Without a caller the program asks for itself.
	a, err = c.Client.Request(t.Context(), client.Request{Route: "echo", Req: map[string]any{}})
	if err != nil {
		t.Fatal(err)
	}
	who, _ := a.Body.(map[string]any)["caller"].(map[string]any)
	if who["kind"] != "module" || who["subject"] != "tester" {
		t.Errorf("the program's own caller is %v", who)
	}
}

func requestProblem(t *testing.T, c City) {
	a, err := c.Client.Request(t.Context(), client.Request{Route: "refuse", Req: map[string]any{}})
	if err != nil {
		t.Fatalf("an answer of 409 is an answer, not an error: %v", err)
	}
	if a.Status != 409 || a.Problem == nil || a.Problem.Status != 409 || a.Problem.Title == "" {
		t.Errorf("got %+v", a)
	}
}

func key(t *testing.T, c City) {
	for range 3 {
		if _, err := c.Client.Request(t.Context(), client.Request{Route: "echo", Req: map[string]any{}, Key: "k1"}); err != nil {
			t.Fatal(err)
		}
	}
	if n := c.Runs(); n != 1 {
		t.Errorf("three requests with one key ran %d times", n)
	}
	_, err := c.Client.Request(t.Context(), client.Request{Route: "echo", Req: map[string]any{}, Key: string(make([]byte, 201))})
	kind(t, "a key of 201 bytes", err, fault.Invalid)
}

// soon ends a subscription that should have been refused, so that the test fails
// and does not hang.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func rights(t *testing.T, c City) {
	_, err := c.Client.Request(t.Context(), client.Request{Route: "not-mine"})
	kind(t, "request", err, fault.Denied)
	kind(t, "publish", c.Client.Publish(t.Context(), "other.done", "1", map[string]any{}), fault.Denied)
	err = c.Client.Subscribe(soon(t), "other.done", 0, func(context.Context, client.Event) error { return nil })
	kind(t, "subscribe", err, fault.Denied)
}

func missing(t *testing.T, c City) {
	_, err := c.Client.Request(t.Context(), client.Request{Route: "missing-route"})
	kind(t, "request", err, fault.NotFound)
	kind(t, "publish", c.Client.Publish(t.Context(), "missing.done", "1", map[string]any{}), fault.NotFound)
	err = c.Client.Subscribe(soon(t), "missing.done", 0, func(context.Context, client.Event) error { return nil })
	kind(t, "subscribe", err, fault.NotFound)
}

func publish(t *testing.T, c City) {
	kind(t, "data that does not fit", c.Client.Publish(t.Context(), "thing.done", "1", map[string]any{"n": 1}), fault.Invalid)
	kind(t, "no id", c.Client.Publish(t.Context(), "thing.done", "", map[string]any{"n": "1"}), fault.Invalid)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Client.Publish(ended, "thing.done", "1", map[string]any{"n": "1"}); err == nil {
		t.Error("published although the caller had gone")
	}
}

// repeated: a Publish that is done again is the same event to its subscribers.
func repeated(t *testing.T, c City) {
	for _, id := range []string{"1", "2", "1", "2", "3"} {
		if err := c.Client.Publish(t.Context(), "thing.done", id, map[string]any{"n": id}); err != nil {
			t.Fatal(err)
		}
	}
	es, err := read(t.Context(), c.Client, 0, 3)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"1", "2", "3"} {
		if es[i].ID != want {
			t.Errorf("event %d is %q, not %q", i, es[i].ID, want)
		}
	}
}

var errEnough = errors.New("enough")

// read takes n events behind a cursor.
func read(ctx context.Context, c client.Client, after client.Cursor, n int) ([]client.Event, error) {
	var out []client.Event
	err := c.Subscribe(ctx, "thing.done", after, func(_ context.Context, e client.Event) error {
		if out = append(out, e); len(out) == n {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return out, err
}

func catchUp(t *testing.T, c City) {
	const n = 250 // more than one page of any implementation's reading
	for i := range n {
		if err := c.Client.Publish(t.Context(), "thing.done", fmt.Sprint("id-", i), map[string]any{"n": fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	first, err := read(t.Context(), c.Client, 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	rest, err := read(t.Context(), c.Client, first[9].Cursor, n-10)
	if err != nil {
		t.Fatal(err)
	}
	last := client.Cursor(0)
	for i, e := range slices.Concat(first, rest) {
		want := client.Event{Cursor: e.Cursor, ID: fmt.Sprint("id-", i), Type: "thing.done", Version: 2, At: e.At, Data: map[string]any{"n": fmt.Sprint(i)}}
		if d := cmp.Diff(want, e); d != "" {
			t.Fatalf("event %d: %s", i, d)
		}
		if e.At.IsZero() || e.Cursor <= last {
			t.Fatalf("event %d: at %v, cursor %d after %d", i, e.At, e.Cursor, last)
		}
		last = e.Cursor
	}
}

func live(t *testing.T, c City) {
	got := make(chan client.Event)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- c.Client.Subscribe(ctx, "thing.done", 0, func(ctx context.Context, e client.Event) error {
			select {
			case got <- e:
			case <-ctx.Done():
			}
			return nil
		})
	}()
	for i := range 20 {
		id := fmt.Sprint(i)
		send := c.Client.Publish
		if i%2 == 1 {
			send = c.Elsewhere
		}
		if err := send(t.Context(), "thing.done", id, map[string]any{"n": id}); err != nil {
			t.Fatal(err)
		}
		if e := <-got; e.ID != id {
			t.Fatalf("event %d: got id %q", i, e.ID)
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}

func handlerFails(t *testing.T, c City) {
	for i := range 3 {
		if err := c.Client.Publish(t.Context(), "thing.done", fmt.Sprint(i), map[string]any{"n": "x"}); err != nil {
			t.Fatal(err)
		}
	}
	boom := errors.New("boom")
	n := 0
	err := c.Client.Subscribe(t.Context(), "thing.done", 0, func(context.Context, client.Event) error {
		if n++; n == 2 {
			return boom
		}
		return nil
	})
	if !errors.Is(err, boom) || n != 2 {
		t.Errorf("after %d events: %v", n, err)
	}
}

func concurrent(t *testing.T, c City) {
	const writers, each = 4, 10
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if err := c.Client.Publish(t.Context(), "thing.done", fmt.Sprint(w, "-", i), map[string]any{"n": "x"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			es, err := read(t.Context(), c.Client, 0, writers*each)
			if err != nil {
				t.Error(err)
				return
			}
			seen := map[string]bool{}
			for _, e := range es {
				seen[e.ID] = true
			}
			if len(seen) != writers*each {
				t.Errorf("%d distinct events of %d", len(seen), writers*each)
			}
		})
	}
	wg.Wait()
	readers.Wait()
}
