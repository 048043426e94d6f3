package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/rows"
	"github.com/dime-bus/dime/internal/store/seal"
)

// owned is what is known of a run that somebody holds, or held when the last
// life ended. Guarded by Store.mu.
type owned struct {
	worker string
	epoch  int64
	until  time.Time // of the lease; zero: nobody's
	state  store.State
	prio   int
	route  string
	ord    int64 // 0: no order
	seq    int64 // the next row of entry
	hot    bool  // running or undoing in the table, with nothing due: only this map finds it
	nudged bool  // an event reached it since its claim
	waits  bool  // it may have rows in wait
	data   *seal.Key
}

func (o *owned) alive(now time.Time) bool { return o != nil && o.until.After(now) }

// keep changes the map of owners and can take it back.
func (t *tx) keep(id store.RunID, o *owned) {
	old, had := t.s.owned[id]
	t.s.owned[id] = o
	t.undo = append(t.undo, func() {
		if had {
			t.s.owned[id] = old
		} else {
			delete(t.s.owned, id)
		}
	})
}

func (t *tx) drop(id store.RunID) {
	old, had := t.s.owned[id]
	if !had {
		return
	}
	delete(t.s.owned, id)
	t.undo = append(t.undo, func() { t.s.owned[id] = old })
}

// Reserve implements store.Journal: ids come from blocks that one commit
// reserves.
func (s *Store) Reserve(ctx context.Context, n int) (store.RunID, error) {
	if n < 1 {
		return 0, fmt.Errorf("reserving %d run ids: at least one", n)
	}
	take := func() (store.RunID, bool) {
		if s.nextRun+int64(n) > s.runsTo {
			return 0, false
		}
		first := s.nextRun
		s.nextRun += int64(n)
		return store.RunID(first), true
	}
	s.mu.Lock()
	first, ok := take()
	s.mu.Unlock()
	if ok {
		if s.closed.Load() {
			return 0, store.ErrClosed
		}
		return first, nil
	}
	err := s.submit(ctx, func(t *tx) error {
		if first, ok = take(); ok {
			return nil
		}
		to := s.nextRun + int64(n) + 1<<16
		if err := t.exec("insert into meta(name, value) values('runs', ?) on conflict do update set value=excluded.value", to); err != nil {
			return err
		}
		old := s.runsTo
		s.runsTo = to
		t.undo = append(t.undo, func() { s.runsTo = old })
		first, _ = take()
		return nil
	})
	return first, err
}

// Accept implements store.Journal.
func (s *Store) Accept(ctx context.Context, r store.Run, rs ...store.Record) (store.Run, store.Lease, error) {
	for try := 0; ; try++ {
		out, l, err := s.accept(ctx, r, rs)
		if errors.Is(err, errAgain) && try < 5 {
			continue
		}
		if err != nil {
			var d *store.Duplicate
			if !errors.As(err, &d) {
				err = fmt.Errorf("accepting run %d of %s: %w", r.ID, r.Route, err)
			}
			return store.Run{}, store.Lease{}, err
		}
		return out, l, nil
	}
}

func (s *Store) accept(ctx context.Context, r store.Run, rs []store.Record) (store.Run, store.Lease, error) {
	if err := rows.CheckRun(&r); err != nil {
		return r, store.Lease{}, err
	}
	data, subject, sealed, ps, err := s.runKey(ctx, r.ID, r.Subjects)
	if err != nil {
		return r, store.Lease{}, err
	}
	p, err := rows.Prepare(s.keys, r.ID, data, &rows.Head{Bytes: r.Head, OrderKey: r.OrderKey, Subjects: r.Subjects}, rs)
	if err != nil {
		return r, store.Lease{}, err
	}
	var once [16]byte
	if r.Once != nil {
		once = s.keys.Token("once", r.Once.Scope, r.Once.Key)
	}
	var ord int64
	if r.OrderKey != "" {
		ord = s.keys.Number("order", r.Route, r.OrderKey)
	}
	var l store.Lease
	asked := r
	err = s.submitAt(ctx, r.ID, func(t *tx) error {
		r = asked
		if err := t.savePersons(ps); err != nil {
			return err
		}
		ahead := 0
		if ord != 0 {
			var err error
			if ahead, err = t.line(ord); err != nil {
				return err
			}
		}
		if r.Once != nil {
			if err := t.claimOnce(once, r.ID, r.Once, ahead > rows.MaxQueued); err != nil {
				return err
			}
		}
		if ahead > rows.MaxQueued {
			return refuse(store.ErrQueueFull)
		}
		if ahead > 0 {
			r.State = store.Queued
		}
		r.Started = rows.FromMS(t.nowMS)
		s.epoch++ // never given twice, so it need not be taken back
		o := &owned{worker: s.o.Worker, epoch: s.epoch, state: r.State, prio: r.Priority, route: r.Route, ord: ord, data: data}
		holds := rows.Hot(r.State) && r.Due.IsZero()
		var due, ended, place, ordered any
		if !r.Due.IsZero() && r.State != store.Queued && !r.State.Ended() {
			due, t.wake = rows.MS(r.Due), true
		}
		if r.State.Ended() {
			r.Ended, ended = r.Started, t.nowMS
		}
		if ord != 0 {
			s.place++
			ordered, place = ord, s.place
			t.join(ord, 1)
		}
		r.Epoch = o.epoch
		if err := t.exec(`insert into run(id, version, route, state, reason, prio, epoch, due, ord, place, subject, sealed_key, started, ended)
			values(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			r.ID, r.Version, r.Route, rows.StateCode(r.State), r.Reason, r.Priority, o.epoch, due, ordered, place, subject, sealed, t.nowMS, ended); err != nil {
			return err
		}
		o.state, o.hot = r.State, holds
		if holds {
			o.until = t.now.Add(s.o.LeaseFor)
			t.keep(r.ID, o)
			l = store.Lease{Run: r.ID, Epoch: o.epoch, Until: o.until}
		}
		if err := t.save(r.ID, o, p); err != nil {
			return err
		}
		if o.nudged && r.State == store.Waiting {
			if err := t.exec("update run set due=? where id=?", t.nowMS, r.ID); err != nil {
				return err
			}
			r.Due, t.wake = rows.FromMS(t.nowMS), true
		}
		return t.settle(r.Ack)
	})
	if err != nil {
		return asked, store.Lease{}, err
	}
	return r, l, nil
}

// claimOnce takes a once key for a run or says who has it. A key whose window is
// over, and whose run has ended, is free again (semantics 4.6).
func (t *tx) claimOnce(k [16]byte, id store.RunID, o *store.Once, full bool) error {
	insert := func() error {
		return t.exec("insert into once(k, run, body_hash, until) values(?, ?, ?, ?) on conflict do nothing", k, id, o.BodyHash, rows.MS(o.Until))
	}
	if !full {
		if err := insert(); err != nil {
			return err
		}
		if t.conn.Changes() == 1 {
			return nil
		}
	}
	var d *store.Duplicate
	var until int64
	err := t.query("select run, body_hash, until from once where k=?", func(st *sqlite.Stmt) error {
		d = &store.Duplicate{Run: store.RunID(st.ColumnInt64(0)), SameBody: bytes.Equal(columnBytes(st, 1), o.BodyHash)}
		until = st.ColumnInt64(2)
		return nil
	}, k)
	if err != nil || d == nil {
		return err
	}
	if until > t.nowMS {
		return refuse(d)
	}
	live := false
	if err := t.query("select 1 from run where id=? and ended is null", func(*sqlite.Stmt) error { live = true; return nil }, d.Run); err != nil {
		return err
	}
	if live {
		return refuse(d)
	}
	if full {
		return nil // the caller refuses for the queue
	}
	return t.exec("update once set run=?, body_hash=?, until=? where k=?", id, o.BodyHash, rows.MS(o.Until), k)
}

// Append implements store.Journal.
func (s *Store) Append(ctx context.Context, l store.Lease, state store.State, reason string, wake time.Time, rs ...store.Record) error {
	if err := s.append(ctx, l, state, reason, wake, rs); err != nil {
		return fmt.Errorf("writing to run %d: %w", l.Run, err)
	}
	return nil
}

func (s *Store) append(ctx context.Context, l store.Lease, state store.State, reason string, wake time.Time, rs []store.Record) error {
	if rows.StateCode(state) == 0 {
		return fmt.Errorf("%q is no state", state)
	}
	if s.closed.Load() {
		return store.ErrClosed
	}
	data, err := s.dataKey(ctx, l)
	if err != nil {
		return err
	}
	p, err := rows.Prepare(s.keys, l.Run, data, nil, rs)
	if err != nil {
		return err
	}
	return s.submit(ctx, func(t *tx) error {
		o := s.owned[l.Run]
		if o == nil || o.epoch != l.Epoch {
			return refuse(store.ErrFenced)
		}
		if o.seq >= rows.MaxCommits {
			return refuse(fmt.Errorf("%w: it has made %d commits", store.ErrTooLarge, o.seq))
		}
		if p.Version != "" {
			if err := t.pin(l.Run, p.Version); err != nil {
				return err
			}
		}
		if err := t.save(l.Run, o, p); err != nil {
			return err
		}
		return t.turn(l.Run, o, state, reason, wake)
	})
}

// pin gives a run another version, if that is stored.
func (t *tx) pin(id store.RunID, version string) error {
	known := false
	if err := t.query("select 1 from version where digest=?", func(*sqlite.Stmt) error { known = true; return nil }, version); err != nil {
		return err
	}
	if !known {
		return refuse(store.ErrNoVersion)
	}
	return t.exec("update run set version=? where id=?", version, id)
}

// turn puts a run into a state after its records.
func (t *tx) turn(id store.RunID, o *owned, state store.State, reason string, wake time.Time) error {
	was := *o
	t.undo = append(t.undo, func() { o.state, o.hot, o.nudged = was.state, was.hot, was.nudged })
	if o.ord != 0 && was.state.Ended() && !state.Ended() {
		t.join(o.ord, 1) // a person's act brought it back
	}
	if rows.Hot(state) && wake.IsZero() {
		if o.hot && state == o.state {
			return nil // the common commit of a run on its way costs one row
		}
		o.state, o.hot = state, true
		// A nudge that came while it was held (a person's act) must outlive the claim.
		return t.exec("update run set state=?, reason=?, due=null, ended=null, epoch=? where id=?", rows.StateCode(state), reason, o.epoch, id)
	}
	var due, ended any
	switch {
	case state.Ended():
		ended = t.nowMS
		if was.state.Ended() { // a person's note on a run that had ended already
			var at int64
			if err := t.query("select ended from run where id=?", func(st *sqlite.Stmt) error { at = st.ColumnInt64(0); return nil }, id); err != nil {
				return err
			}
			ended = at
		}
	case o.nudged && (state == store.Waiting || state == store.Running):
		due = t.nowMS
	case !wake.IsZero():
		due = rows.MS(wake)
	}
	if due != nil {
		t.wake = true
	}
	o.state = state
	if err := t.exec("update run set state=?, reason=?, due=?, ended=?, epoch=? where id=?", rows.StateCode(state), reason, due, ended, o.epoch, id); err != nil {
		return err
	}
	t.drop(id)
	if !state.Ended() {
		return nil
	}
	if o.waits {
		if err := t.exec("delete from wait where run=?", id); err != nil {
			return err
		}
	}
	if o.ord != 0 && !was.state.Ended() {
		t.join(o.ord, -1)
		return t.next(o.ord)
	}
	return nil
}

// line is how many live runs an order key has; counted once, then kept.
func (t *tx) line(ord int64) (n int, err error) {
	if n, ok := t.s.lines[ord]; ok {
		return n, nil
	}
	err = t.query("select count(*) from run where ord=? and ended is null", func(st *sqlite.Stmt) error { n = st.ColumnInt(0); return nil }, ord)
	if err != nil {
		return 0, err
	}
	t.s.lines[ord] = n
	return n, nil
}

// join changes a line that was counted; an empty one is forgotten, and so is one
// whose commit failed.
func (t *tx) join(ord int64, by int) {
	n, ok := t.s.lines[ord]
	if !ok {
		return
	}
	if n += by; n > 0 {
		t.s.lines[ord] = n
	} else {
		delete(t.s.lines, ord)
	}
	t.undo = append(t.undo, func() { delete(t.s.lines, ord) })
}

// next makes the first live run of an order key due if it was only waiting for
// its turn. A parked one holds the key.
func (t *tx) next(ord int64) error {
	var first store.RunID
	var state store.State
	err := t.query("select id, state from run where ord=? and ended is null order by place limit 1", func(st *sqlite.Stmt) error {
		first, state = store.RunID(st.ColumnInt64(0)), rows.StateWord(st.ColumnInt64(1))
		return nil
	}, ord)
	if err != nil || state != store.Queued {
		return err
	}
	t.wake = true
	return t.exec("update run set due=? where id=?", t.nowMS, first)
}

// Rearm implements store.Journal. Where other runs of its order key live by now,
// it queues behind them, and the lease is zero.
func (s *Store) Rearm(ctx context.Context, id store.RunID, worker string, rs ...store.Record) (store.Run, store.Lease, error) {
	fail := func(err error) (store.Run, store.Lease, error) {
		return store.Run{}, store.Lease{}, fmt.Errorf("starting run %d again: %w", id, err)
	}
	data, err := s.loadKey(ctx, id)
	if err != nil {
		return fail(err)
	}
	p, err := rows.Prepare(s.keys, id, data, nil, rs)
	if err != nil {
		return fail(err)
	}
	var r store.Run
	var l store.Lease
	err = s.submit(ctx, func(t *tx) error {
		o, row, err := t.take(id)
		if err != nil {
			return err
		}
		if row.State != store.Failed {
			return refuse(fmt.Errorf("it is %s, and only a failed run starts again", row.State))
		}
		r = row
		o.data = data
		state := store.Running
		var place any
		if o.ord != 0 {
			ahead, err := t.line(o.ord)
			if err != nil {
				return err
			}
			if ahead > 0 {
				state = store.Queued
			}
			t.join(o.ord, 1)
			s.place++
			place = s.place
		}
		s.epoch++
		o.worker, o.epoch, o.state, o.hot = worker, s.epoch, state, state == store.Running
		if err := t.exec("update run set state=?, reason='', due=null, ended=null, epoch=?, place=? where id=?", rows.StateCode(state), o.epoch, place, id); err != nil {
			return err
		}
		r.State, r.Reason, r.Epoch, r.Ended, r.Due = state, "", o.epoch, time.Time{}, time.Time{}
		if o.hot {
			o.until = t.now.Add(s.o.LeaseFor)
			t.keep(id, o)
			l = store.Lease{Run: id, Epoch: o.epoch, Until: o.until}
		}
		return t.save(id, o, p)
	})
	if err != nil {
		return fail(err)
	}
	return r, l, nil
}
