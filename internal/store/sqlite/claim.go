package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/rows"
)

// errStop ends a walk over rows.
var errStop = errors.New("enough rows")

const runColumns = "id, version, route, state, reason, prio, epoch, due, started, ended, ord, subject, sealed_key"

func scanRun(st *sqlite.Stmt) store.Run {
	r := store.Run{
		ID: store.RunID(st.ColumnInt64(0)), Version: st.ColumnText(1), Route: st.ColumnText(2), State: rows.StateWord(st.ColumnInt64(3)),
		Reason: st.ColumnText(4), Priority: st.ColumnInt(5), Epoch: st.ColumnInt64(6), Started: rows.FromMS(st.ColumnInt64(8)),
	}
	if !st.ColumnIsNull(7) {
		r.Due = rows.FromMS(st.ColumnInt64(7))
	}
	if !st.ColumnIsNull(9) {
		r.Ended = rows.FromMS(st.ColumnInt64(9))
	}
	return r
}

// recoverRuns finds the runs that somebody held when the last life ended.
func (s *Store) recoverRuns() error {
	return query(s.conn, "select id, prio, route, state, ord from run where state in (2, 4) and due is null", func(st *sqlite.Stmt) error {
		s.owned[store.RunID(st.ColumnInt64(0))] = &owned{prio: st.ColumnInt(1), route: st.ColumnText(2), state: rows.StateWord(st.ColumnInt64(3)), ord: st.ColumnInt64(4), hot: true}
		return nil
	})
}

// take reads a run that nobody alive holds into a new owned, not yet kept.
func (t *tx) take(id store.RunID) (*owned, store.Run, error) {
	if t.s.owned[id].alive(t.now) {
		return nil, store.Run{}, refuse(store.ErrFenced)
	}
	var r store.Run
	o := &owned{waits: true}
	err := t.query("select "+runColumns+" from run where id=?", func(st *sqlite.Stmt) error {
		r, o.ord = scanRun(st), st.ColumnInt64(10)
		return nil
	}, id)
	if err != nil {
		return nil, r, err
	}
	if r.ID == 0 {
		return nil, r, refuse(store.ErrNoRun)
	}
	err = t.query("select max(id) from entry where id between ? and ?", func(st *sqlite.Stmt) error {
		if !st.ColumnIsNull(0) {
			o.seq = st.ColumnInt64(0)&(1<<20-1) + 1
		}
		return nil
	}, int64(id)<<20, int64(id)<<20|(1<<20-1))
	o.state, o.prio, o.route = r.State, r.Priority, r.Route
	o.hot = rows.Hot(r.State) && r.Due.IsZero()
	if old := t.s.owned[id]; old != nil {
		o.data, o.nudged = old.data, old.nudged
	}
	return o, r, err
}

// hold gives a taken run to a worker.
func (t *tx) hold(id store.RunID, o *owned, worker string) store.Lease {
	t.s.epoch++
	o.worker, o.epoch, o.until = worker, t.s.epoch, t.now.Add(t.s.o.LeaseFor)
	t.keep(id, o)
	return store.Lease{Run: id, Epoch: o.epoch, Until: o.until}
}

type candidate struct {
	id    store.RunID
	prio  int
	route string
	due   int64
}

// Claim implements store.Journal.
func (s *Store) Claim(ctx context.Context, worker string, max int) ([]store.Run, []store.Lease, error) {
	if max < 1 {
		return nil, nil, nil
	}
	var runs []store.Run
	var leases []store.Lease
	err := s.submit(ctx, func(t *tx) error {
		found, err := t.claimable(max)
		if err != nil {
			return err
		}
		for _, c := range found {
			o, r, err := t.take(c.id)
			if err != nil {
				return err
			}
			if !o.hot { // a hot run stands in the table as it is; nothing to write
				state := o.state
				if state == store.Queued || state == store.Waiting {
					state = store.Running
				}
				if err := t.exec("update run set state=?, due=null where id=?", rows.StateCode(state), c.id); err != nil {
					return err
				}
				o.state, o.hot, r.State = state, true, state
			}
			o.nudged = false // the claimer looks at its events
			l := t.hold(c.id, o, worker)
			r.Epoch, r.Due = l.Epoch, time.Time{}
			runs, leases = append(runs, r), append(leases, l)
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("claiming runs: %w", err)
	}
	return runs, leases, nil
}

// claimable finds up to max runs in their turns. A run whose owner is gone is due
// since its lease ended.
func (t *tx) claimable(max int) ([]candidate, error) {
	var found []candidate
	for id, o := range t.s.owned {
		if o.hot && !o.alive(t.now) {
			due := int64(0)
			if !o.until.IsZero() {
				due = rows.MS(o.until)
			}
			found = append(found, candidate{id, o.prio, o.route, due})
		}
	}
	for prio := range 3 {
		near := 4*max + 64
		n, err := t.due(&found, prio, near, "select id, route, due from run where prio=? and due is not null and due<=? order by due", prio, t.nowMS)
		if err != nil {
			return nil, err
		}
		if n < near {
			continue
		}
		// Behind a queue that long other routes have their turns all the same.
		for route := ""; ; {
			next := ""
			err := t.query("select min(route) from run where prio=? and due is not null and route>?", func(st *sqlite.Stmt) error {
				next = st.ColumnText(0)
				return nil
			}, prio, route)
			if err != nil {
				return nil, err
			}
			if route = next; route == "" {
				break
			}
			_, err = t.due(&found, prio, max, "select id, route, due from run where prio=? and route=? and due is not null and due<=? order by due", prio, route, t.nowMS)
			if err != nil {
				return nil, err
			}
		}
	}
	slices.SortFunc(found, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.due, b.due), cmp.Compare(a.id, b.id))
	})
	found = slices.CompactFunc(found, func(a, b candidate) bool { return a.id == b.id })
	if len(found) > max {
		t.wake = true // more is left for whoever asks next
	}
	return t.s.share(found, max), nil
}

// due adds up to max due runs that nobody alive holds; n is how many.
func (t *tx) due(found *[]candidate, prio, max int, text string, args ...any) (n int, err error) {
	err = t.query(text, func(st *sqlite.Stmt) error {
		id := store.RunID(st.ColumnInt64(0))
		if t.s.owned[id].alive(t.now) {
			return nil
		}
		*found = append(*found, candidate{id, prio, st.ColumnText(1), st.ColumnInt64(2)})
		if n++; n >= max {
			return errStop
		}
		return nil
	}, args...)
	if errors.Is(err, errStop) {
		err = nil
	}
	return n, err
}

// share gives the classes their turns, and inside a class the routes, one after the
// other (semantics 11.2). What comes is in order already.
func (s *Store) share(found []candidate, max int) []candidate {
	var class [3]map[string][]candidate
	for _, c := range found {
		if class[c.prio] == nil {
			class[c.prio] = map[string][]candidate{}
		}
		class[c.prio][c.route] = append(class[c.prio][c.route], c)
	}
	out := make([]candidate, 0, min(max, len(found)))
	for len(out) < cap(out) {
		p, _ := s.turn.Next(func(p int) bool { return len(class[p]) > 0 })
		first, next := "", ""
		for route := range class[p] {
			if first == "" || route < first {
				first = route
			}
			if route > s.served[p] && (next == "" || route < next) {
				next = route
			}
		}
		route := cmp.Or(next, first)
		s.served[p] = route
		q := class[p][route]
		out = append(out, q[0])
		if len(q) == 1 {
			delete(class[p], route)
		} else {
			class[p][route] = q[1:]
		}
	}
	return out
}

// ClaimOne implements store.Journal.
func (s *Store) ClaimOne(ctx context.Context, worker string, id store.RunID) (store.Run, store.Lease, error) {
	var r store.Run
	var l store.Lease
	err := s.submit(ctx, func(t *tx) error {
		o, row, err := t.take(id)
		if err != nil {
			return err
		}
		r, l = row, t.hold(id, o, worker)
		r.Epoch = l.Epoch
		return nil
	})
	if err != nil {
		return store.Run{}, store.Lease{}, fmt.Errorf("claiming run %d: %w", id, err)
	}
	return r, l, nil
}

// Renew implements store.Journal. Leases live in memory, so it costs no commit.
func (s *Store) Renew(ctx context.Context, ls ...store.Lease) (lost []store.Lease, err error) {
	if s.closed.Load() {
		return nil, store.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	until := s.now().Add(s.o.LeaseFor)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range ls {
		if o := s.owned[l.Run]; o == nil || o.epoch != l.Epoch {
			lost = append(lost, l)
		} else {
			o.until = until
		}
	}
	return lost, nil
}

// Release implements store.Journal.
func (s *Store) Release(ctx context.Context, ls ...store.Lease) error {
	if s.closed.Load() {
		return store.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	for _, l := range ls {
		o := s.owned[l.Run]
		if o == nil || o.epoch != l.Epoch {
			continue
		}
		if !o.hot {
			delete(s.owned, l.Run)
			continue
		}
		s.epoch++
		o.epoch, o.until, o.worker = s.epoch, time.Time{}, ""
	}
	s.mu.Unlock()
	s.wake.Send()
	return nil
}

// NextDue implements store.Journal.
func (s *Store) NextDue(ctx context.Context) (time.Time, bool, error) {
	now := s.now()
	var next time.Time
	found := false
	earlier := func(t time.Time) {
		if !found || t.Before(next) {
			next, found = t, true
		}
	}
	leased := make(map[store.RunID]bool)
	s.mu.Lock()
	for id, o := range s.owned {
		switch {
		case o.alive(now):
			leased[id] = true
			earlier(o.until)
		case o.hot:
			earlier(now)
		}
	}
	s.mu.Unlock()
	err := s.read(ctx, func(c *sqlite.Conn) error {
		for prio := 0; prio <= 2; prio++ {
			err := query(c, "select id, due from run where prio=? and due is not null order by due", func(st *sqlite.Stmt) error {
				if leased[store.RunID(st.ColumnInt64(0))] {
					return nil
				}
				earlier(rows.FromMS(st.ColumnInt64(1)))
				return errStop
			}, prio)
			if err != nil && !errors.Is(err, errStop) {
				return err
			}
		}
		return query(c, "select min(due) from outbox where attempts > 0", func(st *sqlite.Stmt) error {
			if !st.ColumnIsNull(0) {
				earlier(rows.FromMS(st.ColumnInt64(0)))
			}
			return nil
		})
	})
	if err != nil {
		return time.Time{}, false, fmt.Errorf("asking what is due next: %w", err)
	}
	return next, found, nil
}

// Wake implements store.Journal.
func (s *Store) Wake() <-chan struct{} { return s.wake.Channel() }

// OnWake implements store.Journal.
func (s *Store) OnWake(f func()) func() { return s.wake.On(f) }
