package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/rows"
	"github.com/dime-bus/dime/internal/store/seal"
)

// Deliver implements store.Journal. It holds the locks on its keys, as a wait that
// registers does, so that neither misses the other (semantics 5.2).
func (s *Store) Deliver(ctx context.Context, e store.Event) (woken int, err error) {
	if len(e.Body) > rows.MaxValue {
		return 0, fmt.Errorf("delivering %s %q: %w", e.Type, e.ID, store.ErrTooLarge)
	}
	msg := s.keys.Number("event", e.Type, e.ID)
	sealed := s.city.Seal(rows.PackMessage(e.ID, e.Body, nil), seal.Bound('m', msg))
	j := &job{rank: rankRun, locks: []int64{msg}}
	keys := make([][rows.TokenSize]byte, len(e.Keys))
	for i, k := range e.Keys {
		keys[i] = rows.WaitKey(s.keys, e.Type, k.Shape, k.Key)
		j.locks = append(j.locks, lockOf(keys[i]))
	}
	keep := e.Keep
	if keep <= 0 {
		keep = s.o.Keep
	}
	queue, seq := ackArgs(e.Ack)
	j.sql = "select * from deliver($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
	j.args = []any{s.at(), e.Type, msg, nullMS(e.At), keep.Milliseconds(), sealed, e.Hold, tokens(keys), queue, seq, append([]string{}, e.Shapes...)}
	j.scan = func(row pgx.Row) error {
		var code int
		if err := row.Scan(&code, &woken); err != nil {
			return err
		}
		switch code {
		case codeNoQueue:
			j.refused = noQueue(e.Ack.Queue)
		case codeShapes:
			j.refused = store.ErrShapes
		}
		j.wake = woken > 0
		return nil
	}
	if err := s.submit(ctx, j); err != nil {
		return 0, fmt.Errorf("delivering %s %q: %w", e.Type, e.ID, err)
	}
	return woken, nil
}

// stored reads events of a query of id, type, at, msg and body, and opens them.
func (s *Store) stored(ctx context.Context, sql string, args ...any) (out []store.Candidate, err error) {
	err = s.query(ctx, func(rs pgx.Rows) error {
		var c store.Candidate
		var at, msg int64
		var sealed []byte
		if err := rs.Scan(&c.Seq, &c.Type, &at, &msg, &sealed); err != nil {
			return err
		}
		c.At = rows.FromMS(at)
		clear, err := s.city.Open(sealed, seal.Bound('m', msg))
		if err == nil {
			c.ID, c.Body, _, err = rows.UnpackMessage(clear)
		}
		if err != nil {
			return fmt.Errorf("opening stored event %d: %w", c.Seq, err)
		}
		out = append(out, c)
		return nil
	}, sql, args...)
	return out, err
}

// Candidates implements store.Journal.
func (s *Store) Candidates(ctx context.Context, run store.RunID, path string) ([]store.Candidate, error) {
	out, err := s.stored(ctx, `select e.id, e.type, e.at, e.msg, e.body from wait w join event_key k on k.k = w.k join event e on e.id = k.event
		where w.run = $1 and w.path = $2 and e.received >= w.since and not exists (select 1 from taken t where t.run = w.run and t.event = e.id)
		order by e.id`, int64(run), path)
	if err != nil {
		return nil, fmt.Errorf("looking for the events of run %d at %q: %w", run, path, err)
	}
	return out, nil
}

// Held implements store.Journal.
func (s *Store) Held(ctx context.Context, after int64, max int) ([]store.Candidate, error) {
	out, err := s.stored(ctx, "select e.id, e.type, e.at, e.msg, e.body from held h join event e on e.id = h.event where h.event > $1 order by h.event limit $2", after, max)
	if err != nil {
		return nil, fmt.Errorf("listing the events that no run took: %w", err)
	}
	for i := range out {
		out[i].Body = nil
	}
	return out, nil
}

// SettleEvent implements store.Journal.
func (s *Store) SettleEvent(ctx context.Context, seq int64) (was bool, err error) {
	j := &job{rank: rankRun, sql: "with gone as (delete from held where event = $1 returning 1) select exists (select 1 from gone)", args: []any{seq}}
	j.scan = func(row pgx.Row) error { return row.Scan(&was) }
	if err := s.submit(ctx, j); err != nil {
		return false, fmt.Errorf("settling event %d: %w", seq, err)
	}
	return was, nil
}

// Reindex implements store.Journal. A wait that registers between its pages is
// woken by the page that indexes its event.
func (s *Store) Reindex(ctx context.Context, eventType, shape string, keys func([]byte) []store.EventKey) error {
	// From this commit on whoever delivers has to know the shape; what was delivered
	// before is in the pages below.
	if err := s.single(ctx, func(ctx context.Context) error {
		_, err := s.pool.Exec(ctx, "select teach($1, $2)", eventType, shape)
		return err
	}); err != nil {
		return fmt.Errorf("indexing stored events of %s: %w", eventType, err)
	}
	const page = 100
	for after := int64(0); ; {
		var ids, received []int64
		var ks []pgtype.UUID
		var locks []int64
		n := 0
		err := s.query(ctx, func(rs pgx.Rows) error {
			var id, msg, at int64
			var sealed []byte
			if err := rs.Scan(&id, &msg, &at, &sealed); err != nil {
				return err
			}
			after = id
			n++
			clear, err := s.city.Open(sealed, seal.Bound('m', msg))
			if err != nil {
				return fmt.Errorf("opening stored event %d: %w", id, err)
			}
			_, body, _, err := rows.UnpackMessage(clear)
			if err != nil {
				return fmt.Errorf("opening stored event %d: %w", id, err)
			}
			for _, k := range keys(body) {
				key := rows.WaitKey(s.keys, eventType, k.Shape, k.Key)
				ids, received, ks, locks = append(ids, id), append(received, at), append(ks, token(key)), append(locks, lockOf(key))
			}
			return nil
		}, "select id, msg, received, body from event where id > $1 and type = $2 order by id limit $3", after, eventType, page)
		if err == nil && len(ids) > 0 {
			j := &job{rank: rankRun, locks: locks, sql: "select reindex($1, $2, $3, $4)", args: []any{s.at(), ids, ks, received}}
			j.scan = func(row pgx.Row) error {
				var woken int
				err := row.Scan(&woken)
				j.wake = woken > 0
				return err
			}
			err = s.submit(ctx, j)
		}
		if err != nil {
			return fmt.Errorf("indexing stored events of %s: %w", eventType, err)
		}
		if n == 0 {
			return nil
		}
	}
}

// Shapes implements store.Journal.
func (s *Store) Shapes(ctx context.Context, eventType string) (shapes []string, err error) {
	err = s.query(ctx, func(rs pgx.Rows) error {
		var shape string
		err := rs.Scan(&shape)
		shapes = append(shapes, shape)
		return err
	}, "select shape from shape where type = $1 order by shape", eventType)
	if err != nil {
		return nil, fmt.Errorf("reading the shapes of %s: %w", eventType, err)
	}
	return shapes, nil
}

// Outbox implements store.Journal: first what was never tried, in the order of
// the commits, then what was postponed and is due. What it gives is this process's
// until it is published, or until the process no longer says that it lives.
func (s *Store) Outbox(ctx context.Context, max int) ([]store.OutboxRow, error) {
	if err := s.alive(ctx); err != nil {
		return nil, err
	}
	s.publishes.Store(true)
	if err := s.beat(ctx, false); err != nil {
		return nil, fmt.Errorf("reading the outbox: %w", err)
	}
	type row struct {
		o      store.OutboxRow
		sealed []byte
	}
	var found []row
	err := s.query(ctx, func(rs pgx.Rows) error {
		var r row
		if err := rs.Scan(&r.o.Seq, &r.o.Run, &r.o.Topic, &r.o.Attempts, &r.sealed); err != nil {
			return err
		}
		found = append(found, r)
		return nil
	}, "select o_id, o_run, o_topic, o_attempts, o_body from take_outbox($1, $2, $3)", s.at(), s.me, max)
	if err != nil {
		return nil, fmt.Errorf("reading the outbox: %w", err)
	}
	ids := make([]store.RunID, len(found))
	for i, r := range found {
		ids[i] = r.o.Run
	}
	keys, err := s.keysOf(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("reading the outbox: %w", err)
	}
	out := make([]store.OutboxRow, 0, len(found))
	for _, r := range found {
		data, err := keys[r.o.Run].data, keys[r.o.Run].err
		if err == nil {
			var clear []byte
			if clear, err = data.Open(r.sealed, seal.Bound('o', int64(r.o.Run))); err == nil {
				r.o.ID, r.o.Body, r.o.Meta, err = rows.UnpackMessage(clear)
			}
		}
		switch {
		case err == nil:
			out = append(out, r.o)
		case errors.Is(err, store.ErrErased):
			s.o.Log.WarnContext(ctx, "dropping an outbox row of a person who was erased", "run", int64(r.o.Run), "topic", r.o.Topic)
			if err := s.Published(ctx, r.o.Seq); err != nil {
				return nil, err
			}
		case errors.Is(err, seal.ErrSeal), errors.Is(err, rows.ErrPack):
			s.o.Log.ErrorContext(ctx, "leaving an outbox row that does not open", "run", int64(r.o.Run), "topic", r.o.Topic, "row", r.o.Seq, "error", err)
		default:
			return nil, fmt.Errorf("reading the outbox: %w", err)
		}
	}
	return out, nil
}

// runKeyOf is a run's data key, or why it can't be had.
type runKeyOf struct {
	data *seal.Key
	err  error
}

// keysOf finds the data keys of runs: of those that it holds without asking. It is
// a statement of its own because one that calls a function does not see what was
// committed after it began, and the function does.
func (s *Store) keysOf(ctx context.Context, ids []store.RunID) (map[store.RunID]runKeyOf, error) {
	keys := make(map[store.RunID]runKeyOf, len(ids))
	var ask []int64
	for _, id := range ids {
		if _, ok := keys[id]; ok {
			continue
		}
		k := runKeyOf{data: s.dataOf(id)}
		if k.data == nil {
			k.err = fmt.Errorf("opening a run's key: there is no such run: %w", seal.ErrSeal)
			ask = append(ask, int64(id))
		}
		keys[id] = k
	}
	if ask == nil {
		return keys, nil
	}
	err := s.query(ctx, func(rs pgx.Rows) error {
		var id store.RunID
		var subject []pgtype.UUID
		var sealed []byte
		var wraps [][]byte
		if err := rs.Scan(&id, &subject, &sealed, &wraps); err != nil {
			return err
		}
		data, err := s.openRunKey(id, subject, wraps, sealed)
		keys[id] = runKeyOf{data, err}
		return nil
	}, "select r.id, r.subject, r.sealed_key, "+wrapsOf+" from run r where r.id = any($1)", ask)
	return keys, err
}

func (s *Store) dataOf(id store.RunID) *seal.Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.held[id]; h != nil {
		return h.data
	}
	return nil
}

// Published implements store.Journal.
func (s *Store) Published(ctx context.Context, seqs ...int64) error {
	if err := s.submit(ctx, &job{rank: rankQueue, sql: "delete from outbox where id = any($1)", args: []any{seqs}}); err != nil {
		return fmt.Errorf("clearing the outbox: %w", err)
	}
	return nil
}

// Postpone implements store.Journal.
func (s *Store) Postpone(ctx context.Context, seq int64, until time.Time) error {
	j := &job{rank: rankQueue, sql: "update outbox set due = $1, attempts = attempts + 1 where id = $2", args: []any{rows.MS(until), seq}}
	j.after = func() { s.wake.Send() }
	if err := s.submit(ctx, j); err != nil {
		return fmt.Errorf("postponing outbox row %d: %w", seq, err)
	}
	return nil
}

// Fire implements store.Journal.
func (s *Store) Fire(ctx context.Context, route string, at time.Time) (mine bool, err error) {
	j := &job{rank: rankRun, locks: []int64{s.keys.Number("fire", route, fmt.Sprint(rows.MS(at)))},
		sql: "with f as (insert into fired(route, at) values ($1, $2) on conflict do nothing returning 1) select exists (select 1 from f)", args: []any{route, rows.MS(at)}}
	j.scan = func(row pgx.Row) error { return row.Scan(&mine) }
	if err := s.submit(ctx, j); err != nil {
		return false, fmt.Errorf("firing %s: %w", route, err)
	}
	return mine, nil
}

// LastFired implements store.Journal.
func (s *Store) LastFired(ctx context.Context, route string) (at time.Time, found bool, err error) {
	var last *int64
	err = s.single(ctx, func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, "select max(at) from fired where route = $1", route).Scan(&last)
	})
	if err != nil {
		return at, false, fmt.Errorf("reading when %s last fired: %w", route, err)
	}
	if last == nil {
		return at, false, nil
	}
	return rows.FromMS(*last), true, nil
}
