package sqlite

import (
	"context"
	"fmt"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/rows"
)

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
	err = t.s.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "select rev, value from note where owner=? and k=?", func(st *sqlite.Stmt) error {
			rev, sealed = st.ColumnInt64(0), columnBytes(st, 1)
			return nil
		}, t.owner, key)
	})
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
		sealed := t.seal(key, next)
		if err := t.s.submit(ctx, func(w *tx) error { return t.swap(w, key, rev, sealed) }); err != nil {
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

// swap writes sealed (nil deletes) over the revision rev; 0 is no row.
func (t table) swap(w *tx, key string, rev int64, sealed []byte) error {
	var there int64
	err := query(w.conn, "select rev from note where owner=? and k=?", func(st *sqlite.Stmt) error {
		there = st.ColumnInt64(0)
		return nil
	}, t.owner, key)
	switch {
	case err != nil:
		return err
	case there != rev:
		return refuse(rows.ErrOvertaken)
	case sealed == nil:
		return w.exec("delete from note where owner=? and k=?", t.owner, key)
	}
	// A row that was deleted and came again must not look like the old one.
	return w.exec("insert into note(owner, k, rev, value) values(?, ?, ?, ?) on conflict do update set rev=excluded.rev, value=excluded.value",
		t.owner, key, max(rev+1, w.nowMS), sealed)
}

func (t table) List(ctx context.Context, prefix, after string, limit int) ([]store.Row, error) {
	var found []store.Row
	err := t.s.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "select k, value from note where owner=? and k>=? and k>? order by k limit ?", func(st *sqlite.Stmt) error {
			if key := st.ColumnText(0); strings.HasPrefix(key, prefix) {
				found = append(found, store.Row{Key: key, Value: columnBytes(st, 1)})
			}
			return nil
		}, t.owner, prefix, after, limit)
	})
	for i := range found {
		if err != nil {
			break
		}
		found[i].Value, err = t.s.city.Open(found[i].Value, t.bound(found[i].Key))
	}
	if err != nil {
		return nil, fmt.Errorf("listing %q of the table %s: %w", prefix, t.owner, err)
	}
	return found, nil
}
