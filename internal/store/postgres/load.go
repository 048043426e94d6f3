package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/rows"
)

// Load implements store.Journal.
func (s *Store) Load(ctx context.Context, id store.RunID) (store.Run, []store.Record, error) {
	r, rs, err := s.load(ctx, id)
	if err != nil {
		return r, rs, fmt.Errorf("loading run %d: %w", id, err)
	}
	return r, rs, nil
}

func (s *Store) load(ctx context.Context, id store.RunID) (store.Run, []store.Record, error) {
	var r runRow
	var names, bodies [][]byte
	into, done := r.fields(&r.subject, &r.sealed, &r.wraps, &names, &bodies)
	// One statement: the row and its records are of the same moment.
	err := s.single(ctx, func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, "select "+runColumns+", r.subject, r.sealed_key, "+wrapsOf+`,
			array(select names from entry where id between $1::bigint << 20 and $1::bigint << 20 | 1048575 order by id),
			array(select body from entry where id between $1::bigint << 20 and $1::bigint << 20 | 1048575 order by id) from run r where r.id = $1`, int64(id)).Scan(into...)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return store.Run{}, nil, store.ErrNoRun
	}
	if err != nil {
		return store.Run{}, nil, err
	}
	done()
	data, keyErr := s.openRunKey(r.run.ID, r.subject, r.wraps, r.sealed)
	if keyErr != nil && !errors.Is(keyErr, store.ErrErased) {
		return r.run, nil, keyErr
	}
	if data != nil {
		s.mu.Lock()
		if h := s.held[id]; h != nil && h.data == nil {
			h.data = data
		}
		s.mu.Unlock()
	}
	large := func(digest string) ([]byte, error) { return s.blob(ctx, digest) }
	var rs []store.Record
	for i := range names {
		part, err := rows.UnpackNames(names[i])
		if err == nil && data != nil {
			err = rows.Open(&r.run, data, bodies[i], part, large)
		}
		if err != nil {
			return r.run, nil, fmt.Errorf("reading journal row %d: %w", i, err)
		}
		rs = append(rs, part...)
	}
	return r.run, rs, keyErr
}

// blob reads a row of blob as it is; nil if there is none.
func (s *Store) blob(ctx context.Context, digest string) (b []byte, err error) {
	err = s.single(ctx, func(ctx context.Context) error {
		err := s.pool.QueryRow(ctx, "select bytes from blob where digest = $1", digest).Scan(&b)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	return b, err
}

// Find implements store.Journal. It walks runs from the newest; only the dead
// letters of a route (parked, failed) have an index.
func (s *Store) Find(ctx context.Context, f store.Filter) ([]store.Run, error) {
	if f.Limit <= 0 {
		f.Limit = 100
	}
	var states []int64
	for _, st := range f.States {
		code := rows.StateCode(st)
		if code == 0 {
			return nil, fmt.Errorf("listing runs: %q is no state", st)
		}
		states = append(states, code)
	}
	var out []store.Run
	err := s.query(ctx, func(rs pgx.Rows) error {
		var r runRow
		into, done := r.fields()
		if err := rs.Scan(into...); err != nil {
			return err
		}
		done()
		out = append(out, r.run)
		return nil
	}, "select "+runColumns+` from run r where ($1::bigint = 0 or r.id < $1) and ($2 = '' or r.route = $2) and ($3::bigint[] is null or r.state = any($3))
		order by r.id desc limit $4`, int64(f.Before), f.Route, states, f.Limit)
	if err != nil {
		return nil, fmt.Errorf("listing runs: %w", err)
	}
	return out, nil
}

// OnceRun implements store.Journal.
func (s *Store) OnceRun(ctx context.Context, scope, key string) (id store.RunID, bodyHash []byte, found bool, err error) {
	err = s.query(ctx, func(rs pgx.Rows) error {
		found = true
		return rs.Scan(&id, &bodyHash)
	}, `select o.run, o.body_hash from once o left join run r on r.id = o.run
		where o.k = $1 and (o.until > now_ms($2) or (r.id is not null and r.ended is null))`, token(s.keys.Token("once", scope, key)), s.at())
	if err != nil {
		err = fmt.Errorf("looking up an idempotency key: %w", err)
	}
	return id, bodyHash, found, err
}
