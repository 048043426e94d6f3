package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/sqlite"
)

// openStore opens a journal in the scratch folder.
func openStore(e *env, name string) (*sqlite.Store, error) {
	return sqlite.Open(context.Background(), sqlite.Options{
		Path: filepath.Join(e.dir, name+".db"), MasterKey: []byte("a key for measuring only, 32 byte"), Worker: "bench",
	})
}

// callers runs f from n goroutines for a while and returns calls a second.
func callers(n int, length time.Duration, f func(caller, i int) error) (float64, error) {
	var total atomic.Int64
	errs := make([]error, n)
	var wg sync.WaitGroup
	start := time.Now()
	for c := range n {
		wg.Go(func() {
			for i := 0; time.Since(start) < length; i++ {
				if err := f(c, i); err != nil {
					errs[c] = err
					return
				}
				total.Add(1)
			}
		})
	}
	wg.Wait()
	return float64(total.Load()) / time.Since(start).Seconds(), errors.Join(errs...)
}

// ids hands out reserved run ids, as the engine does.
type ids struct {
	mu         sync.Mutex
	next, last store.RunID
}

func (x *ids) take(s store.Store) (store.RunID, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.next == x.last {
		const block = 4096
		first, err := s.Reserve(context.Background(), block)
		if err != nil {
			return 0, err
		}
		x.next, x.last = first, first+block
	}
	x.next++
	return x.next - 1, nil
}

// acceptOne accepts a run as an effectful route does at its first intent. Half a
// KiB of head and intent is what book-appointment has.
func acceptOne(s store.Store, x *ids, once string) (store.Run, store.Lease, error) {
	id, err := x.take(s)
	if err != nil {
		return store.Run{}, store.Lease{}, err
	}
	r := store.Run{ID: id, Version: "bench", Route: "bench", State: store.Running, Priority: 1,
		Subjects: []string{"RSSMRA80A01L736U"}, Head: head}
	if once != "" {
		r.Once = &store.Once{Scope: "bench", Key: once, BodyHash: []byte("0123456789abcdef0123456789abcdef"), Until: time.Now().Add(7 * 24 * time.Hour)}
	}
	return s.Accept(context.Background(), r, store.Record{Kind: store.Intent, Path: "hold", Round: 1, At: time.Now(), Body: intent})
}

var (
	head   = []byte(`{"caller":{"assurance":2,"channel":"web","kind":"citizen","tax_code":"RSSMRA80A01L736U"},"req":{"office":"san-marco","request_id":"0d6f7a52-3bfa-4a37-9a0f-0e1f2a3b4c5d","service":"carta-identita","slot":"2026-12-01T09:30"},"trigger":"http"}`)
	intent = []byte(`{"args":{"office":"san-marco","service":"carta-identita","slot":"2026-12-01T09:30","tax_code":"RSSMRA80A01L736U"},"give_up":"2026-11-24T10:00:05Z","key":"0d6f7a52-3bfa-4a37-9a0f-0e1f2a3b4c5d"}`)
)

// benchAccept: accepting an effectful run against one durable enqueue of the same
// bytes in the same file.
func benchAccept(e *env) ([]Row, error) {
	s, err := openStore(e, "accept")
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }()
	ctx := context.Background()
	if err := s.Bind(ctx, "bench", "bench.enqueued"); err != nil {
		return nil, err
	}
	body := append(append([]byte(nil), head...), intent...)
	var x ids
	enqueue := func(c, i int) error {
		return s.Publish(ctx, store.Message{ID: fmt.Sprintf("%d-%d-%d", c, i, time.Now().UnixNano()), Topic: "bench.enqueued", Body: body, At: time.Now()})
	}
	accept := func(c, i int) error {
		_, _, err := acceptOne(s, &x, "")
		return err
	}
	once := func(c, i int) error {
		_, _, err := acceptOne(s, &x, fmt.Sprintf("%d-%d-%d", c, i, time.Now().UnixNano()))
		return err
	}
	speeds := map[string][]float64{}
	for range e.rounds {
		for _, m := range []struct {
			name    string
			callers int
			f       func(int, int) error
		}{{"enqueue64", 64, enqueue}, {"accept64", 64, accept}, {"once64", 64, once}, {"enqueue1", 1, enqueue}, {"accept1", 1, accept}} {
			v, err := callers(m.callers, e.length/2, m.f)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", m.name, err)
			}
			speeds[m.name] = append(speeds[m.name], v)
		}
	}
	m := func(name string) float64 { return median(speeds[name]) }
	return []Row{
		rate("accept_run", "runs/s at 64 callers", m("accept64"), m("enqueue64"), 1/1.5),
		rate("accept_run_once", "runs/s at 64 callers", m("once64"), m("enqueue64"), 1/3.5),
		rate("accept_run_1_caller", "runs/s", m("accept1"), m("enqueue1"), 1/1.2),
	}, nil
}

// benchJournal: accepting into a journal of 10 and of 5 million runs.
func benchJournal(e *env) ([]Row, error) {
	small, err := openStore(e, "journal-small")
	if err != nil {
		return nil, err
	}
	defer func() { _ = small.Close() }()
	large, err := openStore(e, "journal-large")
	if err != nil {
		return nil, err
	}
	defer func() {
		_ = large.Close()
		_ = os.Remove(filepath.Join(e.dir, "journal-large.db"))
	}()
	var xs, xl ids
	if err := fill(small, &xs, 10); err != nil {
		return nil, err
	}
	if err := fill(large, &xl, e.rows); err != nil {
		return nil, err
	}
	return grown(e, "journal", small, large, &xs, &xl)
}

// grown accepts into a small and a large journal in turn: this process's time on the
// processor for a run, and how many a second, which counts the disk's time too.
func grown(e *env, name string, small, large store.Store, xs, xl *ids) ([]Row, error) {
	speeds, costs := map[string][]float64{}, map[string][]float64{}
	for i := range e.rounds + 1 {
		for _, m := range []struct {
			name string
			s    store.Store
			x    *ids
			once bool
		}{{"small", small, xs, false}, {"large", large, xl, false}, {"small-once", small, xs, true}, {"large-once", large, xl, true}} {
			before, start := processorTime(), time.Now()
			v, err := callers(64, e.length/2, func(c, i int) error {
				key := ""
				if m.once {
					key = fmt.Sprintf("%d-%d-%d", c, i, time.Now().UnixNano())
				}
				_, _, err := acceptOne(m.s, m.x, key)
				return err
			})
			if err != nil {
				return nil, fmt.Errorf("%s: %w", m.name, err)
			}
			if i > 0 || e.rounds == 1 { // the first round warms both up
				speeds[m.name] = append(speeds[m.name], v)
				costs[m.name] = append(costs[m.name], float64((processorTime()-before).Microseconds())/(v*time.Since(start).Seconds()))
			}
		}
	}
	name = fmt.Sprintf("%s_10_vs_%dk", name, e.rows/1000)
	if e.rows == 5_000_000 {
		name = strings.TrimSuffix(name, fmt.Sprintf("%dk", e.rows/1000)) + "5m"
	}
	return []Row{
		cost(name, "us of processor/run", median(costs["large"]), median(costs["small"]), 1.2),
		cost(name+"_once", "us of processor/run", median(costs["large-once"]), median(costs["small-once"]), 1.6),
		rate(name+"_rate", "runs/s at 64 callers", median(speeds["large"]), median(speeds["small"]), 1/1.2),
		rate(name+"_rate_once", "runs/s at 64 callers", median(speeds["large-once"]), median(speeds["small-once"]), 1/1.6),
	}, nil
}

// fill ends n runs in the journal, half of them accepted under a once key.
func fill(s store.Store, x *ids, n int) error {
	var next atomic.Int64
	ctx := context.Background()
	errs := make([]error, min(n, 256))
	var wg sync.WaitGroup
	for c := range errs {
		wg.Go(func() {
			for {
				i := next.Add(1)
				if i > int64(n) {
					return
				}
				key := ""
				if i%2 == 0 {
					key = fmt.Sprintf("fill-%d", i)
				}
				_, l, err := acceptOne(s, x, key)
				if err == nil {
					err = s.Append(ctx, l, store.Done, "", time.Time{}, store.Record{Kind: store.End, Path: "", Round: 1, At: time.Now(), Body: []byte(`{}`)})
				}
				if err != nil {
					errs[c] = fmt.Errorf("filling the journal: %w", err)
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
