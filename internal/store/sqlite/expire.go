package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/rows"
)

// eraseBlobs walks the runs, for the subject has no index.
func (s *Store) eraseBlobs(ctx context.Context, token [rows.TokenSize]byte) error {
	var runs []store.RunID
	err := s.read(ctx, func(c *sqlite.Conn) error {
		// Only runs that name blobs matter; there are few.
		return query(c, "select distinct u.run, r.subject from blob_use u join run r on r.id=u.run", func(st *sqlite.Stmt) error {
			if sub := columnBytes(st, 1); len(sub) == rows.TokenSize && [rows.TokenSize]byte(sub) == token {
				runs = append(runs, store.RunID(st.ColumnInt64(0)))
			}
			return nil
		})
	})
	if err != nil || len(runs) == 0 {
		return err
	}
	return s.submit(ctx, func(t *tx) error {
		for _, id := range runs {
			if err := t.freeBlobs(id, 1<<62); err != nil {
				return err
			}
		}
		return nil
	})
}

// freeBlobs drops a run's claims on blobs, and the blobs that nobody else claims
// and that were put before an instant: a younger one may be on its way to a run.
func (t *tx) freeBlobs(id store.RunID, before int64) error {
	var digests []string
	if err := t.query("select digest from blob_use where run=?", func(st *sqlite.Stmt) error { digests = append(digests, st.ColumnText(0)); return nil }, id); err != nil {
		return err
	}
	if len(digests) == 0 {
		return nil
	}
	if err := t.exec("delete from blob_use where run=?", id); err != nil {
		return err
	}
	for _, d := range digests {
		if strings.HasPrefix(d, "v:") {
			before = 1 << 62 // a record's own value
		}
		if err := t.exec("delete from blob where digest=? and at<? and not exists (select 1 from blob_use u where u.digest=blob.digest)", d, before); err != nil {
			return err
		}
	}
	return nil
}

// Expire implements store.Store: it deletes up to max (500 if zero) runs that
// were done, cancelled or settled and have been kept, with all that is theirs; dead
// letters stay until a person has settled them. Along with it go idempotency
// keys whose window is over, events and messages that are no longer kept, fired
// instants, and blobs that no run names. It returns how much it deleted; 0 means
// that there is nothing more.
func (s *Store) Expire(ctx context.Context, keep store.Keep, limit int) (int, error) {
	if limit <= 0 {
		limit = 500
	}
	before := keep.First()
	runs, err := s.expiredRuns(ctx, keep, limit)
	if err != nil {
		return 0, fmt.Errorf("looking for expired runs: %w", err)
	}
	rest, err := s.expiredRest(ctx, before, limit)
	if err != nil {
		return 0, fmt.Errorf("looking for what has expired: %w", err)
	}
	n := 0
	err = s.submit(ctx, func(t *tx) error {
		n = 0
		for _, id := range runs {
			if s.owned[id].alive(t.now) {
				continue
			}
			if err := t.deleteRun(id, rows.MS(before)); err != nil {
				return err
			}
			n++
		}
		for _, r := range rest {
			if err := t.exec(r.sql, r.args...); err != nil {
				return err
			}
			n += t.conn.Changes() * r.counts
		}
		m, err := t.expireLog(limit)
		n += m
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("deleting what has expired: %w", err)
	}
	return n, nil
}

type deletion struct {
	sql    string
	args   []any
	counts int
}

// expiredRest looks, beside the writer, for what is no run; the deletions look
// again, for it may have been used meanwhile.
func (s *Store) expiredRest(ctx context.Context, before time.Time, limit int) (ds []deletion, err error) {
	now := rows.MS(s.now())
	err = s.read(ctx, func(c *sqlite.Conn) error {
		err := query(c, `select o.k from once o left join run r on r.id=o.run where o.until<? and (r.id is null or r.ended is not null) limit ?`,
			func(st *sqlite.Stmt) error {
				ds = append(ds, deletion{"delete from once where k=? and until<?", []any{columnBytes(st, 0), now}, 1})
				return nil
			}, now, limit)
		if err != nil {
			return err
		}
		err = query(c, "select e.id, k.k from event e left join event_key k on k.event=e.id where e.until<? and e.id not in (select event from held) limit ?", func(st *sqlite.Stmt) error {
			id := st.ColumnInt64(0)
			if !st.ColumnIsNull(1) {
				ds = append(ds, deletion{"delete from event_key where k=? and event=?", []any{columnBytes(st, 1), id}, 0})
			}
			ds = append(ds, deletion{"delete from event where id=?", []any{id}, 1})
			return nil
		}, now, limit)
		if err != nil {
			return err
		}
		err = query(c, "select route, max(at) from fired group by route having min(at)<?", func(st *sqlite.Stmt) error {
			// The last instant of a route says what was missed while nobody was there.
			ds = append(ds, deletion{"delete from fired where route=? and at<? and at<?", []any{st.ColumnText(0), rows.MS(before), st.ColumnInt64(1)}, 0})
			return nil
		}, rows.MS(before))
		if err != nil {
			return err
		}
		return query(c, "select digest from blob b where at<? and not exists (select 1 from blob_use u where u.digest=b.digest) limit ?", func(st *sqlite.Stmt) error {
			ds = append(ds, deletion{"delete from blob where digest=? and at<? and not exists (select 1 from blob_use u where u.digest=blob.digest)",
				[]any{st.ColumnText(0), rows.MS(before)}, 1})
			return nil
		}, rows.MS(before), limit)
	})
	return ds, err
}

// expiredRuns goes on with its walk by id where the last call stopped.
func (s *Store) expiredRuns(ctx context.Context, keep store.Keep, limit int) (runs []store.RunID, err error) {
	routes := make(map[string]int64, len(keep.Routes))
	for route, at := range keep.Routes {
		routes[route] = rows.MS(at)
	}
	own, err := json.Marshal(routes)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	from := s.expired
	s.mu.Unlock()
	for {
		err = s.read(ctx, func(c *sqlite.Conn) error {
			return query(c, `select id from run where id>? and state in (6, 7, 9) and ended<coalesce((select j.value from json_each(?) j where j.key=route), ?) and not exists (select 1 from outbox o where o.run=run.id)
				order by id limit ?`, func(st *sqlite.Stmt) error {
				runs = append(runs, store.RunID(st.ColumnInt64(0)))
				return nil
			}, from, string(own), rows.MS(keep.Other), limit)
		})
		if err != nil || len(runs) > 0 || from == 0 {
			break
		}
		from = 0 // the end: begin again
	}
	s.mu.Lock()
	s.expired = 0
	if len(runs) == limit {
		s.expired = int64(runs[len(runs)-1])
	}
	s.mu.Unlock()
	return runs, err
}

func (t *tx) deleteRun(id store.RunID, before int64) error {
	if err := t.freeBlobs(id, before); err != nil {
		return err
	}
	for _, sql := range []string{
		"delete from wait where run=?", "delete from taken where run=?", "delete from run where id=?",
	} {
		if err := t.exec(sql, id); err != nil {
			return err
		}
	}
	return t.exec("delete from entry where id between ? and ?", int64(id)<<20, int64(id)<<20|(1<<20-1))
}

// expireLog deletes messages that are older than Options.Keep and that no queue
// still needs.
func (t *tx) expireLog(limit int) (n int, err error) {
	s := t.s
	low := s.seq + 1
	for _, q := range s.queues {
		if q.id == 0 {
			continue
		}
		low = min(low, q.handed+1)
		for _, m := range q.returned {
			low = min(low, m.Seq)
		}
		for seq := range q.flight {
			low = min(low, seq)
		}
		for _, r := range q.again {
			low = min(low, r.seq)
		}
	}
	if err := t.exec("delete from msg where seq in (select seq from msg where seq<? and at<? order by seq limit ?)",
		low, rows.MS(t.now.Add(-s.o.Keep)), limit); err != nil {
		return n, err
	}
	if gone := t.conn.Changes(); gone > 0 {
		n += gone
		err = t.exec("insert into meta(name, value) values('seq', ?) on conflict do update set value=excluded.value", s.seq)
	}
	return n, err
}
