package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/rows"
	"github.com/dime-bus/dime/internal/store/seal"
)

// Deliver implements store.Journal. The single writer is the lock on
// (type, shape, key) that semantics 5.2 asks for.
func (s *Store) Deliver(ctx context.Context, e store.Event) (woken int, err error) {
	if len(e.Body) > rows.MaxValue {
		return 0, fmt.Errorf("delivering %s %q: %w", e.Type, e.ID, store.ErrTooLarge)
	}
	msg := s.keys.Number("event", e.Type, e.ID)
	sealed := s.city.Seal(rows.PackMessage(e.ID, e.Body, nil), seal.Bound('m', msg))
	keys := make([][16]byte, len(e.Keys))
	for i, k := range e.Keys {
		keys[i] = rows.WaitKey(s.keys, e.Type, k.Shape, k.Key)
	}
	keep := e.Keep
	if keep <= 0 {
		keep = s.o.Keep
	}
	err = s.submit(ctx, func(t *tx) error {
		woken = 0
		known := false
		if err := t.query("select 1 from event where msg=?", func(*sqlite.Stmt) error { known = true; return nil }, msg); err != nil {
			return err
		}
		if known {
			return t.settle(e.Ack)
		}
		at := e.At
		if at.IsZero() {
			at = t.now
		}
		if err := t.exec("insert into event(type, msg, at, received, until, body) values(?, ?, ?, ?, ?, ?)",
			e.Type, msg, rows.MS(at), t.nowMS, rows.MS(t.now.Add(keep)), sealed); err != nil {
			return err
		}
		id := t.conn.LastInsertRowID()
		if e.Hold {
			if err := t.exec("insert into held(event) values(?)", id); err != nil {
				return err
			}
		}
		for _, k := range keys {
			n, err := t.match(id, k, t.nowMS)
			if err != nil {
				return err
			}
			woken += n
		}
		return t.settle(e.Ack)
	})
	if err != nil {
		return 0, fmt.Errorf("delivering %s %q: %w", e.Type, e.ID, err)
	}
	return woken, nil
}

// match indexes a stored event under a key and makes due whose wait has it.
func (t *tx) match(event int64, k [16]byte, received int64) (woken int, err error) {
	if err := t.exec("insert or ignore into event_key(k, event) values(?, ?)", k, event); err != nil {
		return 0, err
	}
	var runs []store.RunID
	err = t.query("select distinct run from wait where k=? and since<=?", func(st *sqlite.Stmt) error {
		runs = append(runs, store.RunID(st.ColumnInt64(0)))
		return nil
	}, k, received)
	if err != nil {
		return 0, err
	}
	for _, id := range runs {
		if o := t.s.owned[id]; o != nil {
			was := o.nudged
			o.nudged = true
			t.undo = append(t.undo, func() { o.nudged = was })
			if o.hot { // looked for when it rests; after a crash, when it is claimed
				woken++
				continue
			}
		}
		if err := t.exec("update run set due=? where id=? and state in (2, 3)", t.nowMS, id); err != nil {
			return 0, err
		}
		if t.conn.Changes() > 0 {
			woken++
			t.wake = true
		}
	}
	return woken, nil
}

// register stores a wait and looks whether its event came first.
func (t *tx) register(id store.RunID, o *owned, w *rows.Wait) error {
	var until any
	if w.Until != 0 {
		until = w.Until
	}
	if err := t.exec("insert into wait(k, run, path, since, until) values(?, ?, ?, ?, ?) on conflict do update set since=excluded.since, until=excluded.until",
		w.K, id, w.Path, w.Since, until); err != nil {
		return err
	}
	was := o.waits
	o.waits = true
	t.undo = append(t.undo, func() { o.waits = was })
	found := false
	err := t.query(`select 1 from event_key k join event e on e.id=k.event where k.k=? and e.received>=?
		and not exists (select 1 from taken t where t.run=? and t.event=e.id) limit 1`,
		func(*sqlite.Stmt) error { found = true; return nil }, w.K, w.Since, id)
	if err != nil || !found {
		return err
	}
	nudged := o.nudged
	o.nudged = true
	t.undo = append(t.undo, func() { o.nudged = nudged })
	return nil
}

// Candidates implements store.Journal.
func (s *Store) Candidates(ctx context.Context, run store.RunID, path string) ([]store.Candidate, error) {
	type row struct {
		c      store.Candidate
		msg    int64
		sealed []byte
	}
	var found []row
	err := s.read(ctx, func(c *sqlite.Conn) error {
		return query(c, `select e.id, e.type, e.at, e.msg, e.body from wait w join event_key k on k.k=w.k join event e on e.id=k.event
			where w.run=? and w.path=? and e.received>=w.since and not exists (select 1 from taken t where t.run=w.run and t.event=e.id)
			order by e.id`, func(st *sqlite.Stmt) error {
			found = append(found, row{store.Candidate{Seq: st.ColumnInt64(0), Type: st.ColumnText(1), At: rows.FromMS(st.ColumnInt64(2))}, st.ColumnInt64(3), columnBytes(st, 4)})
			return nil
		}, run, path)
	})
	if err != nil {
		return nil, fmt.Errorf("looking for the events of run %d at %q: %w", run, path, err)
	}
	out := make([]store.Candidate, 0, len(found))
	for _, r := range found {
		clear, err := s.city.Open(r.sealed, seal.Bound('m', r.msg))
		if err != nil {
			return nil, fmt.Errorf("opening stored event %d: %w", r.c.Seq, err)
		}
		if r.c.ID, r.c.Body, _, err = rows.UnpackMessage(clear); err != nil {
			return nil, fmt.Errorf("opening stored event %d: %w", r.c.Seq, err)
		}
		out = append(out, r.c)
	}
	return out, nil
}

// Held implements store.Journal.
func (s *Store) Held(ctx context.Context, after int64, max int) ([]store.Candidate, error) {
	var out []store.Candidate
	err := s.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "select e.id, e.type, e.at, e.msg, e.body from held h join event e on e.id=h.event where h.event>? order by h.event limit ?", func(st *sqlite.Stmt) error {
			h := store.Candidate{Seq: st.ColumnInt64(0), Type: st.ColumnText(1), At: rows.FromMS(st.ColumnInt64(2))}
			clear, err := s.city.Open(columnBytes(st, 4), seal.Bound('m', st.ColumnInt64(3)))
			if err == nil {
				h.ID, _, _, err = rows.UnpackMessage(clear)
			}
			if err != nil {
				return fmt.Errorf("opening stored event %d: %w", h.Seq, err)
			}
			out = append(out, h)
			return nil
		}, after, max)
	})
	if err != nil {
		return nil, fmt.Errorf("listing the events that no run took: %w", err)
	}
	return out, nil
}

// SettleEvent implements store.Journal.
func (s *Store) SettleEvent(ctx context.Context, seq int64) (was bool, err error) {
	err = s.submit(ctx, func(t *tx) error {
		if err := t.exec("delete from held where event=?", seq); err != nil {
			return err
		}
		was = t.conn.Changes() > 0
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("settling event %d: %w", seq, err)
	}
	return was, nil
}

// Reindex implements store.Journal. A wait that registers between its pages is
// woken by the page that indexes its event.
func (s *Store) Reindex(ctx context.Context, eventType, shape string, keys func([]byte) []store.EventKey) error {
	err := s.submit(ctx, func(t *tx) error {
		return t.exec("insert or ignore into shape(type, shape) values(?, ?)", eventType, shape)
	})
	if err != nil {
		return fmt.Errorf("indexing stored events of %s: %w", eventType, err)
	}
	type row struct {
		id, msg, received int64
		sealed            []byte
	}
	const page = 200
	for after := int64(0); ; {
		var found []row
		err := s.read(ctx, func(c *sqlite.Conn) error {
			return query(c, "select id, msg, received, body from event where id>? and type=? order by id limit ?", func(st *sqlite.Stmt) error {
				found = append(found, row{st.ColumnInt64(0), st.ColumnInt64(1), st.ColumnInt64(2), columnBytes(st, 3)})
				return nil
			}, after, eventType, page)
		})
		if err != nil {
			return fmt.Errorf("indexing stored events of %s: %w", eventType, err)
		}
		if len(found) == 0 {
			return nil
		}
		type add struct {
			id, received int64
			k            [16]byte
		}
		var adds []add
		for _, r := range found {
			after = r.id
			clear, err := s.city.Open(r.sealed, seal.Bound('m', r.msg))
			if err != nil {
				return fmt.Errorf("indexing stored event %d: %w", r.id, err)
			}
			_, body, _, err := rows.UnpackMessage(clear)
			if err != nil {
				return fmt.Errorf("indexing stored event %d: %w", r.id, err)
			}
			for _, k := range keys(body) {
				adds = append(adds, add{r.id, r.received, rows.WaitKey(s.keys, eventType, k.Shape, k.Key)})
			}
		}
		if len(adds) == 0 {
			continue
		}
		err = s.submit(ctx, func(t *tx) error {
			for _, a := range adds {
				if _, err := t.match(a.id, a.k, a.received); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("indexing stored events of %s: %w", eventType, err)
		}
	}
}

// Shapes implements store.Journal.
func (s *Store) Shapes(ctx context.Context, eventType string) (shapes []string, err error) {
	err = s.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "select shape from shape where type=? order by shape", func(st *sqlite.Stmt) error {
			shapes = append(shapes, st.ColumnText(0))
			return nil
		}, eventType)
	})
	if err != nil {
		return nil, fmt.Errorf("reading the shapes of %s: %w", eventType, err)
	}
	return shapes, nil
}

// Outbox implements store.Journal: first what was never tried, in the order of
// the commits, then what was postponed and is due.
func (s *Store) Outbox(ctx context.Context, max int) ([]store.OutboxRow, error) {
	type row struct {
		o              store.OutboxRow
		sealed         []byte
		subject, wraps []byte
	}
	var found []row
	now := rows.MS(s.now())
	err := s.read(ctx, func(c *sqlite.Conn) error {
		const columns = "select o.id, o.run, o.topic, o.attempts, o.body, r.subject, r.sealed_key from outbox o left join run r on r.id=o.run "
		scan := func(st *sqlite.Stmt) error {
			r := row{sealed: columnBytes(st, 4), subject: columnBytes(st, 5), wraps: columnBytes(st, 6)}
			r.o.Seq, r.o.Run, r.o.Topic, r.o.Attempts = st.ColumnInt64(0), store.RunID(st.ColumnInt64(1)), st.ColumnText(2), st.ColumnInt(3)
			found = append(found, r)
			return nil
		}
		if err := query(c, columns+"where o.attempts=0 order by o.id limit ?", scan, max); err != nil {
			return err
		}
		return query(c, columns+"where o.attempts>0 and o.due<=? order by o.due limit ?", scan, now, max-len(found))
	})
	if err != nil {
		return nil, fmt.Errorf("reading the outbox: %w", err)
	}
	out := make([]store.OutboxRow, 0, len(found))
	for _, r := range found {
		data, err := s.outboxKey(ctx, r.o.Run, r.subject, r.wraps)
		if err == nil {
			var clear []byte
			if clear, err = data.Open(r.sealed, seal.Bound('o', int64(r.o.Run))); err == nil {
				r.o.ID, r.o.Body, r.o.Meta, err = rows.UnpackMessage(clear)
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, store.ErrErased):
			s.o.Log.WarnContext(ctx, "dropping an outbox row of a person who was erased", "run", int64(r.o.Run), "topic", r.o.Topic)
			if err := s.Published(ctx, r.o.Seq); err != nil {
				return nil, err
			}
			continue
		case errors.Is(err, seal.ErrSeal), errors.Is(err, rows.ErrPack):
			s.o.Log.ErrorContext(ctx, "leaving an outbox row that does not open", "run", int64(r.o.Run), "topic", r.o.Topic, "row", r.o.Seq, "error", err)
			continue
		default:
			return nil, fmt.Errorf("reading the outbox: %w", err)
		}
		out = append(out, r.o)
	}
	return out, nil
}

func (s *Store) outboxKey(ctx context.Context, id store.RunID, subject, wraps []byte) (*seal.Key, error) {
	s.mu.Lock()
	o := s.owned[id]
	var data *seal.Key
	if o != nil {
		data = o.data
	}
	s.mu.Unlock()
	if data != nil {
		return data, nil
	}
	return s.openRunKey(ctx, id, subject, wraps)
}

// Published implements store.Journal.
func (s *Store) Published(ctx context.Context, seqs ...int64) error {
	err := s.submit(ctx, func(t *tx) error {
		for _, q := range seqs {
			if err := t.exec("delete from outbox where id=?", q); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("clearing the outbox: %w", err)
	}
	return nil
}

// Postpone implements store.Journal.
func (s *Store) Postpone(ctx context.Context, seq int64, until time.Time) error {
	err := s.submit(ctx, func(t *tx) error {
		t.wake = true
		return t.exec("update outbox set due=?, attempts=attempts+1 where id=?", rows.MS(until), seq)
	})
	if err != nil {
		return fmt.Errorf("postponing outbox row %d: %w", seq, err)
	}
	return nil
}

// Fire implements store.Journal.
func (s *Store) Fire(ctx context.Context, route string, at time.Time) (mine bool, err error) {
	err = s.submit(ctx, func(t *tx) error {
		if err := t.exec("insert into fired(route, at) values(?, ?) on conflict do nothing", route, rows.MS(at)); err != nil {
			return err
		}
		mine = t.conn.Changes() == 1
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("firing %s: %w", route, err)
	}
	return mine, nil
}

// LastFired implements store.Journal.
func (s *Store) LastFired(ctx context.Context, route string) (at time.Time, found bool, err error) {
	err = s.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "select max(at) from fired where route=?", func(st *sqlite.Stmt) error {
			if !st.ColumnIsNull(0) {
				at, found = rows.FromMS(st.ColumnInt64(0)), true
			}
			return nil
		}, route)
	})
	if err != nil {
		err = fmt.Errorf("reading when %s last fired: %w", route, err)
	}
	return at, found, err
}
