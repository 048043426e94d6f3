// Package storetest judges implementations of store.Store: what the engine
// relies on, written for the harder case of several workers, lost leases,
// commits out of order, redelivery, crashes and erasure. Run it with the race
// detector.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/store"
)

// Harness is one store under test, with an empty memory.
type Harness struct {
	Store store.Store
	Clock *clock.Virtual // the store's own
	Lease time.Duration  // its lease time
	// Reopen ends the process without a word and starts the next one on the same
	// memory; the old store must not be used after it. Where a lease outlives its
	// process, its time passes in here.
	Reopen func(t *testing.T) store.Store
	// Second starts another process on the same memory, beside the first; nil where
	// the memory belongs to one process alone.
	Second func(t *testing.T) store.Store
	// OpenWith ends the process as Reopen does and starts the next one with a master
	// key; nil where the memory ends with the process.
	OpenWith func(t *testing.T, master []byte) (store.Store, error)
	// AtRest gives all bytes that the store has written, for the search of
	// canaries; nil if it keeps none.
	AtRest func(t *testing.T) []byte
	// Full opens a store whose disk is soon full; nil if that can't be done.
	Full func(t *testing.T) store.Store
}

// Start is the instant at which a harness's clock should stand.
func Start() time.Time { return time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC) }

// Run runs the suite; open makes a fresh store for each test.
func Run(t *testing.T, open func(t *testing.T) Harness) {
	for _, group := range [][]entry{journalTests(), orderTests(), eventTests(), keepTests(), queueTests(), rotateTests(), auditTests()} {
		for _, e := range group {
			t.Run(e.name, func(t *testing.T) {
				t.Parallel()
				h := open(t)
				k := &kit{T: t, Harness: h, ctx: context.Background()}
				t.Cleanup(func() { _ = k.Store.Close() })
				e.f(k)
			})
		}
	}
	t.Run("several processes", func(t *testing.T) { Several(t, open) })
}

// Several is the part of the suite that opens two processes on one memory.
func Several(t *testing.T, open func(t *testing.T) Harness) {
	for _, e := range severalTests() {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			h := open(t)
			k := &kit{T: t, Harness: h, ctx: context.Background()}
			t.Cleanup(func() { _ = k.Store.Close() })
			if h.Second == nil {
				t.Log("not asked: the memory belongs to one process")
				return
			}
			e.f(k)
		})
	}
}

type entry struct {
	name string
	f    func(k *kit)
}

// kit is a test with its store and short words for what every test does.
type kit struct {
	*testing.T
	Harness
	ctx context.Context
}

func (k *kit) crash() { k.Helper(); k.Store = k.Harness.Reopen(k.T) }

func (k *kit) must(err error) {
	k.Helper()
	if err != nil {
		k.Fatal(err)
	}
}

func (k *kit) is(err, want error) {
	k.Helper()
	if !errors.Is(err, want) {
		k.Fatalf("got error %v, want %v", err, want)
	}
}

func (k *kit) id() store.RunID {
	k.Helper()
	id, err := k.Store.Reserve(k.ctx, 1)
	k.must(err)
	return id
}

// run is a run that is about to be accepted.
func (k *kit) run() store.Run {
	k.Helper()
	return store.Run{ID: k.id(), Version: "v1", Route: "route", State: store.Running, Priority: 1, Head: []byte(`{"req":1}`)}
}

func (k *kit) accept(r store.Run, rs ...store.Record) (store.Run, store.Lease) {
	k.Helper()
	out, l, err := k.Store.Accept(k.ctx, r, rs...)
	k.must(err)
	return out, l
}

func (k *kit) append(l store.Lease, s store.State, wake time.Time, rs ...store.Record) {
	k.Helper()
	k.must(k.Store.Append(k.ctx, l, s, "", wake, rs...))
}

// waiting accepts a run and lays it to rest.
func (k *kit) waiting(r store.Run, wake time.Time, rs ...store.Record) store.Run {
	k.Helper()
	out, l := k.accept(r)
	k.append(l, store.Waiting, wake, rs...)
	return out
}

func (k *kit) claim(worker string) map[store.RunID]store.Lease {
	k.Helper()
	_, ls, err := k.Store.Claim(k.ctx, worker, 100)
	k.must(err)
	out := make(map[store.RunID]store.Lease)
	for _, l := range ls {
		out[l.Run] = l
	}
	return out
}

func (k *kit) claimed(worker string, want ...store.RunID) map[store.RunID]store.Lease {
	k.Helper()
	got := k.claim(worker)
	if len(got) != len(want) {
		k.Fatalf("claimed %v, want %v", got, want)
	}
	for _, id := range want {
		if _, ok := got[id]; !ok {
			k.Fatalf("claimed %v, want %v", got, want)
		}
	}
	return got
}

func (k *kit) load(id store.RunID) (store.Run, []store.Record) {
	k.Helper()
	r, rs, err := k.Store.Load(k.ctx, id)
	k.must(err)
	return r, rs
}

func (k *kit) state(id store.RunID, want store.State) {
	k.Helper()
	if r, _ := k.load(id); r.State != want {
		k.Fatalf("run %d is %s, want %s", id, r.State, want)
	}
}

func (k *kit) pass(d time.Duration) { k.Clock.Advance(k.Clock.Now().Add(d)) }

func rec(kind store.Kind, path, body string) store.Record {
	return store.Record{Kind: kind, Path: path, At: Start(), Body: []byte(body)}
}

func paths(rs []store.Record) (out []string) {
	for _, r := range rs {
		out = append(out, fmt.Sprintf("%s %s", r.Kind, r.Path))
	}
	return out
}
