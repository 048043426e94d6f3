package routetest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/crash"
)

// point is a commit of the journal around which a process dies. It is known by
// what it holds and how often the like came before, not by its number alone: a
// run's commits and those that carry its events away overtake each other.
type point struct {
	op    string // Accept, Append, Rearm, Deliver, Published
	kinds string // of its records
	nth   int    // among those alike, from 1
	n     int    // among the commits of runs, from 1; 0 for others
	after bool   // the commit is done; else it never happens
}

// String says where the process died: "crashed before commit 3 (intent)".
func (p point) String() string {
	when := "before"
	if p.after {
		when = "after"
	}
	switch {
	case p.n > 0 && p.kinds != "":
		return fmt.Sprintf("crashed %s commit %d (%s)", when, p.n, p.kinds)
	case p.n > 0:
		return fmt.Sprintf("crashed %s commit %d (%s)", when, p.n, strings.ToLower(p.op))
	case p.op == "Published":
		return fmt.Sprintf("crashed %s event %d was marked as published", when, p.nth)
	}
	return fmt.Sprintf("crashed %s an event was stored (%s %d)", when, strings.ToLower(p.op), p.nth)
}

// deaths counts the commits of an engine's first life and kills it at the
// wanted one.
type deaths struct {
	wanted *point // nil only counts

	mu    sync.Mutex
	alike map[string]int
	runs  int
	seen  []point
	fired bool
}

// saw is told of each commit before it is done, and says whether to die there.
func (d *deaths) saw(c crash.Commit) (die bool) {
	p := point{op: c.Op, kinds: kinds(c.Kinds)}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.alike == nil {
		d.alike = map[string]int{}
	}
	key := p.op + " " + p.kinds
	d.alike[key]++
	p.nth = d.alike[key]
	if c.Run != 0 {
		d.runs++
		p.n = d.runs
	}
	d.seen = append(d.seen, p)
	if w := d.wanted; w != nil && !d.fired && w.op == p.op && w.kinds == p.kinds && w.nth == p.nth {
		d.fired = true
		return true
	}
	return false
}

func (d *deaths) died() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.fired
}

func (d *deaths) points() []point {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.seen
}

func kinds(ks []store.Kind) string {
	var names []string
	for _, k := range ks {
		names = append(names, string(k))
	}
	return strings.Join(names, ", ")
}

// recorder stands between the store and the crash: it sees what was committed,
// also where the engine never learned of it, and refuses the commit before which
// the process died.
type recorder struct {
	store.Store
	world  *world
	refuse atomic.Bool
}

func (r *recorder) alive() error {
	if r.refuse.Load() {
		return crash.ErrCrashed
	}
	return nil
}

func (r *recorder) Accept(ctx context.Context, x store.Run, rs ...store.Record) (out store.Run, l store.Lease, err error) {
	if err = r.alive(); err != nil {
		return out, l, err
	}
	if out, l, err = r.Store.Accept(ctx, x, rs...); err == nil {
		r.saw(rs)
	}
	return out, l, err
}

func (r *recorder) Append(ctx context.Context, l store.Lease, s store.State, reason string, wake time.Time, rs ...store.Record) error {
	err := r.alive()
	if err != nil {
		return err
	}
	if err = r.Store.Append(ctx, l, s, reason, wake, rs...); err == nil {
		r.saw(rs)
	}
	return err
}

func (r *recorder) Rearm(ctx context.Context, id store.RunID, worker string, rs ...store.Record) (out store.Run, l store.Lease, err error) {
	if err = r.alive(); err != nil {
		return out, l, err
	}
	return r.Store.Rearm(ctx, id, worker, rs...)
}

func (r *recorder) Deliver(ctx context.Context, e store.Event) (int, error) {
	if err := r.alive(); err != nil {
		return 0, err
	}
	return r.Store.Deliver(ctx, e)
}

func (r *recorder) Published(ctx context.Context, seqs ...int64) error {
	if err := r.alive(); err != nil {
		return err
	}
	return r.Store.Published(ctx, seqs...)
}

func (r *recorder) saw(rs []store.Record) {
	for i := range rs {
		for _, o := range rs[i].Outbox {
			r.world.started(o)
		}
		if rs[i].Wait != nil {
			r.world.waiting(rs[i].Wait)
		}
	}
}
