package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/rows"
)

// PutVersion implements store.Versions. A known digest keeps its first instant.
func (s *Store) PutVersion(ctx context.Context, v store.Version) error {
	if v.Digest == "" || v.Route == "" {
		return fmt.Errorf("storing a version of %q: it needs a digest and a route", v.Route)
	}
	if len(v.Source) > rows.MaxSource {
		return fmt.Errorf("storing version %d of %s: %w", v.Label, v.Route, store.ErrTooLarge)
	}
	source := s.city.Seal(v.Source, []byte("version "+v.Digest))
	err := s.single(ctx, func(ctx context.Context) error {
		b := &pgx.Batch{} // one transaction
		b.Queue(`insert into version(digest, route, label, source, first, last) values ($1, $2, $3, $4, coalesce($5, now_ms($7)), coalesce($6, now_ms($7)))
			on conflict (digest) do update set last = excluded.last`, v.Digest, v.Route, v.Label, source, nullMS(v.First), nullMS(v.Last), s.at())
		b.Queue("insert into version_use(digest, holder) values ($1, $2) on conflict do nothing", v.Digest, s.me)
		return s.pool.SendBatch(ctx, b).Close()
	})
	if err != nil {
		return fmt.Errorf("storing version %d of %s: %w", v.Label, v.Route, err)
	}
	return nil
}

func (s *Store) versions(ctx context.Context, where, arg string) (out []store.Version, err error) {
	err = s.query(ctx, func(rs pgx.Rows) error {
		var v store.Version
		var sealed []byte
		var first, last int64
		err := rs.Scan(&v.Digest, &v.Route, &v.Label, &sealed, &first, &last)
		if err == nil {
			v.First, v.Last = rows.FromMS(first), rows.FromMS(last)
			v.Source, err = s.city.Open(sealed, []byte("version "+v.Digest))
		}
		out = append(out, v)
		return err
	}, "select digest, route, label, source, first, last from version where "+where, arg)
	return out, err
}

// GetVersion implements store.Versions; store.ErrNoVersion if there is none.
func (s *Store) GetVersion(ctx context.Context, digest string) (store.Version, error) {
	vs, err := s.versions(ctx, "digest = $1", digest)
	if err == nil && len(vs) == 0 {
		err = store.ErrNoVersion
	}
	if err != nil {
		return store.Version{}, fmt.Errorf("reading version %s: %w", digest, err)
	}
	return vs[0], nil
}

// ListVersions implements store.Versions, oldest first; "" lists all routes'.
func (s *Store) ListVersions(ctx context.Context, route string) ([]store.Version, error) {
	vs, err := s.versions(ctx, "$1 = '' or route = $1 order by case when $1 = '' then route end, first, label, digest", route)
	if err != nil {
		return nil, fmt.Errorf("listing versions of %q: %w", route, err)
	}
	return vs, nil
}

// DropVersions implements store.Versions. No run is accepted while it looks and
// deletes; a version that another living process has in force stays, too.
func (s *Store) DropVersions(ctx context.Context, keep map[string]bool) (n int, err error) {
	named := []string{}
	for d, k := range keep {
		if k {
			named = append(named, d)
		}
	}
	j := &job{rank: rankRun, alone: true, sql: "select drop_versions($1, $2)", args: []any{named, s.me}}
	j.scan = func(row pgx.Row) error { return row.Scan(&n) }
	if err := s.submit(ctx, j); err != nil {
		return 0, fmt.Errorf("dropping versions: %w", err)
	}
	return n, nil
}

// PutBlob implements store.Blobs: "sha256:" and 64 hex digits. Equal bytes are
// stored once. A blob that no run has named in its records goes with retention.
func (s *Store) PutBlob(ctx context.Context, b []byte) (string, error) {
	if len(b) > rows.MaxSource {
		return "", fmt.Errorf("storing a blob of %d bytes: %w: at most %d fit", len(b), store.ErrTooLarge, rows.MaxSource)
	}
	sum := sha256.Sum256(b)
	digest := rows.BlobPrefix + hex.EncodeToString(sum[:])
	sealed := s.city.Seal(b, []byte(digest))
	err := s.single(ctx, func(ctx context.Context) error {
		_, err := s.pool.Exec(ctx, "insert into blob(digest, size, at, bytes) values ($1, $2, now_ms($3), $4) on conflict (digest) do update set at = excluded.at", digest, len(b), s.at(), sealed)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("storing a blob of %d bytes: %w", len(b), err)
	}
	return digest, nil
}

// GetBlob implements store.Blobs; store.ErrNoBlob if there is none.
func (s *Store) GetBlob(ctx context.Context, digest string) (b []byte, err error) {
	var sealed []byte
	if strings.HasPrefix(digest, rows.BlobPrefix) {
		sealed, err = s.blob(ctx, digest)
	}
	if err == nil && sealed == nil {
		err = store.ErrNoBlob
	}
	if err == nil {
		b, err = s.city.Open(sealed, []byte(digest))
	}
	if err != nil {
		return nil, fmt.Errorf("reading blob %.80q: %w", digest, err)
	}
	return b, nil
}

// Table implements store.Tables.
func (s *Store) Table(owner string) store.Table { return table{s, owner} }

type table struct {
	s     *Store
	owner string
}

// bound ties a value to its place, so that rows can't be exchanged at rest.
func (t table) bound(key string) []byte { return []byte("note\x00" + t.owner + "\x00" + key) }

func (t table) Get(ctx context.Context, key string) ([]byte, bool, error) {
	v, rev, err := t.load(ctx, key)
	return v, rev != 0, err
}

func (t table) load(ctx context.Context, key string) (value []byte, rev int64, err error) {
	var sealed []byte
	err = t.s.query(ctx, func(rs pgx.Rows) error { return rs.Scan(&rev, &sealed) }, "select rev, value from note where owner = $1 and k = $2", t.owner, key)
	if err == nil && rev != 0 {
		value, err = t.s.city.Open(sealed, t.bound(key))
	}
	if err != nil {
		return nil, 0, fmt.Errorf("reading %q of the table %s: %w", key, t.owner, err)
	}
	return value, rev, nil
}

// Update implements store.Table.
func (t table) Update(ctx context.Context, key string, f func([]byte) ([]byte, error)) error {
	return rows.Swap(func() ([]byte, int64, error) { return t.load(ctx, key) }, f, func(rev int64, next []byte) error {
		j := &job{rank: rankRun, locks: []int64{t.s.keys.Number("note", t.owner, key)}, sql: "select swap_note($1, $2, $3, $4, $5)",
			args: []any{t.s.at(), t.owner, key, rev, t.seal(key, next)}}
		j.scan = func(row pgx.Row) error {
			var code int
			err := row.Scan(&code)
			if code != codeDone {
				j.refused = rows.ErrOvertaken
			}
			return err
		}
		if err := t.s.submit(ctx, j); err != nil {
			return fmt.Errorf("writing %q of the table %s: %w", key, t.owner, err)
		}
		return nil
	})
}

func (t table) seal(key string, value []byte) []byte {
	if value == nil {
		return nil
	}
	return t.s.city.Seal(value, t.bound(key))
}

func (t table) List(ctx context.Context, prefix, after string, limit int) ([]store.Row, error) {
	var found []store.Row
	err := t.s.query(ctx, func(rs pgx.Rows) error {
		var r store.Row
		err := rs.Scan(&r.Key, &r.Value)
		if err == nil {
			r.Value, err = t.s.city.Open(r.Value, t.bound(r.Key))
		}
		found = append(found, r)
		return err
	}, "select k, value from note where owner = $1 and k >= $2 and k > $3 and starts_with(k, $2) order by k limit $4", t.owner, prefix, after, limit)
	if err != nil {
		return nil, fmt.Errorf("listing %q of the table %s: %w", prefix, t.owner, err)
	}
	return found, nil
}

// Expire implements store.Store: it deletes up to max (500 if zero) runs that
// were done or cancelled and have been kept, with all that is theirs; dead
// letters stay until a person has settled them. Along with it go idempotency
// keys whose window is over, events and messages that are no longer kept, fired
// instants, and blobs that no run names. It returns how much it deleted; 0 means
// that there is nothing more.
func (s *Store) Expire(ctx context.Context, keep store.Keep, limit int) (n int, err error) {
	routes := make(map[string]int64, len(keep.Routes))
	for route, at := range keep.Routes {
		routes[route] = rows.MS(at)
	}
	if limit <= 0 {
		limit = 500
	}
	s.mu.Lock()
	from := s.expired
	s.mu.Unlock()
	for {
		var last int64
		err := s.single(ctx, func(ctx context.Context) error {
			return s.pool.QueryRow(ctx, "select * from expire($1, $2, $3, $4, $5, $6, $7)", s.at(), rows.MS(keep.First()), limit, from, s.o.Keep.Milliseconds(), rows.MS(keep.Other), routes).Scan(&n, &last)
		})
		if err != nil {
			return 0, fmt.Errorf("deleting what has expired: %w", err)
		}
		s.mu.Lock()
		s.expired = last
		s.mu.Unlock()
		if n > 0 || from == 0 {
			return n, nil
		}
		from = 0 // the end of the walk: begin again
	}
}
