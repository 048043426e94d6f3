package sqlite

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/rows"
	"github.com/dime-bus/dime/internal/store/seal"
)

func (s *Store) loadKey(ctx context.Context, id store.RunID) (*seal.Key, error) {
	var subject, sealed []byte
	found := false
	err := s.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "select subject, sealed_key from run where id=?", func(st *sqlite.Stmt) error {
			subject, sealed, found = columnBytes(st, 0), columnBytes(st, 1), true
			return nil
		}, id)
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading its key: %w", err)
	case !found:
		return nil, store.ErrNoRun
	}
	return s.openRunKey(ctx, id, subject, sealed)
}

// Load implements store.Journal.
func (s *Store) Load(ctx context.Context, id store.RunID) (store.Run, []store.Record, error) {
	r, rs, err := s.load(ctx, id)
	if err != nil {
		return r, rs, fmt.Errorf("loading run %d: %w", id, err)
	}
	return r, rs, nil
}

func (s *Store) load(ctx context.Context, id store.RunID) (r store.Run, rs []store.Record, err error) {
	type row struct{ names, body []byte }
	var subject, sealed []byte
	var lines []row
	err = s.read(ctx, func(c *sqlite.Conn) error {
		// One transaction: the row and its records are of the same moment.
		if s.o.Path != Memory {
			if err := query(c, "begin", nil); err != nil {
				return err
			}
			defer func() { _ = query(c, "commit", nil) }()
		}
		err := query(c, "select "+runColumns+" from run where id=?", func(st *sqlite.Stmt) error {
			r, subject, sealed = scanRun(st), columnBytes(st, 11), columnBytes(st, 12)
			return nil
		}, id)
		if err != nil {
			return err
		}
		if r.ID == 0 {
			return store.ErrNoRun
		}
		return query(c, "select names, body from entry where id between ? and ? order by id", func(st *sqlite.Stmt) error {
			lines = append(lines, row{columnBytes(st, 0), columnBytes(st, 1)})
			return nil
		}, int64(id)<<20, int64(id)<<20|(1<<20-1))
	})
	if err != nil {
		return store.Run{}, nil, err
	}
	s.mu.Lock()
	if o := s.owned[id]; o != nil && o.epoch != 0 {
		r.Epoch = o.epoch
	}
	s.mu.Unlock()
	data, keyErr := s.openRunKey(ctx, id, subject, sealed)
	if keyErr != nil && !errors.Is(keyErr, store.ErrErased) {
		return r, nil, keyErr
	}
	large := func(digest string) (b []byte, err error) {
		err = s.read(ctx, func(c *sqlite.Conn) error {
			return query(c, "select bytes from blob where digest=?", func(st *sqlite.Stmt) error { b = columnBytes(st, 0); return nil }, digest)
		})
		return b, err
	}
	for i, row := range lines {
		part, err := rows.UnpackNames(row.names)
		if err != nil {
			return r, nil, fmt.Errorf("reading journal row %d: %w", i, err)
		}
		if data != nil {
			if err := rows.Open(&r, data, row.body, part, large); err != nil {
				return r, nil, fmt.Errorf("reading journal row %d: %w", i, err)
			}
		}
		rs = append(rs, part...)
	}
	return r, rs, keyErr
}

// Find implements store.Journal. It walks runs from the newest; only the dead
// letters of a route (parked, failed) have an index.
func (s *Store) Find(ctx context.Context, f store.Filter) ([]store.Run, error) {
	if f.Limit <= 0 {
		f.Limit = 100
	}
	var where []string
	var args []any
	if f.Before > 0 {
		where, args = append(where, "id < ?"), append(args, f.Before)
	}
	if f.Route != "" {
		where, args = append(where, "route = ?"), append(args, f.Route)
	}
	if len(f.States) > 0 {
		marks := make([]string, len(f.States))
		for i, st := range f.States {
			code := rows.StateCode(st)
			if code == 0 {
				return nil, fmt.Errorf("listing runs: %q is no state", st)
			}
			marks[i], args = "?", append(args, code)
		}
		where = append(where, "state in ("+strings.Join(marks, ",")+")")
	}
	sql := "select " + runColumns + " from run"
	if len(where) > 0 {
		sql += " where " + strings.Join(where, " and ")
	}
	sql += " order by id desc limit ?"
	args = append(args, f.Limit)
	var out []store.Run
	err := s.read(ctx, func(c *sqlite.Conn) error {
		return query(c, sql, func(st *sqlite.Stmt) error { out = append(out, scanRun(st)); return nil }, args...)
	})
	if err != nil {
		return nil, fmt.Errorf("listing runs: %w", err)
	}
	return out, nil
}

// OnceRun implements store.Journal.
func (s *Store) OnceRun(ctx context.Context, scope, key string) (id store.RunID, bodyHash []byte, found bool, err error) {
	now := rows.MS(s.now())
	err = s.read(ctx, func(c *sqlite.Conn) error {
		return query(c, `select o.run, o.body_hash from once o left join run r on r.id=o.run
			where o.k=? and (o.until > ? or (r.id is not null and r.ended is null))`, func(st *sqlite.Stmt) error {
			id, bodyHash, found = store.RunID(st.ColumnInt64(0)), columnBytes(st, 1), true
			return nil
		}, s.keys.Token("once", scope, key), now)
	})
	if err != nil {
		err = fmt.Errorf("looking up an idempotency key: %w", err)
	}
	return id, bodyHash, found, err
}
