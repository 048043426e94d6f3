package postgres

import (
	"bytes"
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

// errMaster says that the configured key does not open the store.
var errMaster = errors.New("the master key is not the one that this store was made with, or was rotated to; set master_key to that one")

// admit enters the store's keys, or makes the check of a new store.
func (s *Store) admit(ctx context.Context) error {
	var ring, check []byte
	look := func() error {
		return s.pool.QueryRow(ctx, "select (select value from meta where name = 'ring'), (select value from meta where name = 'check')").Scan(&ring, &check)
	}
	if err := look(); err != nil {
		return failure(err)
	}
	want, err := rows.Admit(s.keys, ring, check)
	if err == nil && check == nil {
		if _, err := s.pool.Exec(ctx, "insert into meta(name, value) values ('check', $1) on conflict (name) do nothing", want); err != nil {
			return failure(err)
		}
		if err := look(); err != nil { // another process may have been quicker, with another key
			return failure(err)
		}
		_, err = rows.Admit(s.keys, ring, check)
	}
	if errors.Is(err, seal.ErrMaster) {
		return errMaster
	}
	if err != nil {
		return err
	}
	s.ring = ring
	s.keys.Reload = s.reload
	return nil
}

// enter takes a ring that another process has brought.
func (s *Store) enter(ring []byte) error {
	s.mu.Lock()
	same := bytes.Equal(ring, s.ring)
	s.mu.Unlock()
	if same || ring == nil {
		return nil
	}
	switch err := s.keys.Enter(ring); {
	case errors.Is(err, seal.ErrMaster):
		// The rotation was finished: what this process knows is all that there is, until
		// the next one. It needs the new master key when it starts again.
		s.o.Log.Warn("the master key that this process was started with opens the store no more: set master_key to the new one before it starts again")
	case err != nil:
		return fmt.Errorf("entering new keys: %w", err)
	}
	s.mu.Lock()
	s.ring = ring
	s.mu.Unlock()
	return nil
}

// reload looks for a newer ring over a connection of its own: who asks may hold one
// of the pool.
func (s *Store) reload() {
	ctx, cancel := context.WithTimeout(s.ctx, 5*time.Second)
	defer cancel()
	c, err := s.connect(ctx)
	if err != nil {
		return // who asked says what does not open
	}
	defer func() { _ = c.Close(ctx) }()
	var ring []byte
	if err := c.QueryRow(ctx, "select value from meta where name = 'ring'").Scan(&ring); err != nil {
		return
	}
	if err := s.enter(ring); err != nil {
		s.o.Log.Error("entering new keys", "error", err)
	}
}

// sealedRows says how the rows of each table of rows.SealedTables are read behind a
// key ($1, $2), and written ($1 to $4: keys, old, new) if they are still what was read and
// nobody else is at them: those are found by the next walk.
type sealedRows struct{ count, read, write string }

func sealedIn(table string) sealedRows {
	const none = "00000000-0000-0000-0000-000000000000"
	const changes = " from unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[]) u(a, b, old, new) join "
	// write is made of the table's column, its key's columns and how they are written.
	write := func(table, column, match, lock string) string {
		return "with l as (select u.a, u.b, u.new" + changes + table + " x on " + match + " where x." + column + " = u.old order by " + lock +
			" for no key update of x skip locked) update " + table + " x set " + column + " = u.new from l u where " + match
	}
	number := func(column string) string {
		return column + " > coalesce(nullif($1::text, '')::bigint, -1) and $2::text is not null"
	}
	return map[string]sealedRows{
		"person": {"person where wrapped_key is not null",
			"select token::text, '', wrapped_key, 0::bigint, '', token as t from person x where token > coalesce(nullif($1::text, ''), '" + none + "')::uuid and $2::text is not null and wrapped_key is not null order by x.token limit $3",
			write("person", "wrapped_key", "x.token = u.a::uuid", "x.token")},
		"run": {"run where subject = '{}'",
			"select id::text, '', sealed_key, id, '', null::uuid from run x where " + number("id") + " and subject = '{}' order by x.id limit $3",
			write("run", "sealed_key", "x.id = u.a::bigint", "x.id")},
		"note": {"note",
			"select owner, k, value, 0::bigint, '', null::uuid from note where (owner, k) > ($1::text, $2::text) order by owner, k limit $3",
			write("note", "value", "x.owner = u.a and x.k = u.b", "x.owner, x.k")},
		"version": {"version",
			"select digest, '', source, 0::bigint, '', null::uuid from version where digest > $1::text and $2::text is not null order by digest limit $3",
			write("version", "source", "x.digest = u.a", "x.digest")},
		"blob": {"blob where digest like 'sha256:%'",
			"select digest, '', bytes, 0::bigint, '', null::uuid from blob where digest > $1::text and $2::text is not null and digest like 'sha256:%' order by digest limit $3",
			write("blob", "bytes", "x.digest = u.a", "x.digest")},
		"event": {"event",
			"select id::text, '', body, msg, '', null::uuid from event x where " + number("id") + " order by x.id limit $3",
			write("event", "body", "x.id = u.a::bigint", "x.id")},
		"msg": {"msg",
			"select seq::text, '', body, 0::bigint, topic, null::uuid from msg x where " + number("seq") + " order by x.seq limit $3",
			write("msg", "body", "x.seq = u.a::bigint", "x.seq")},
		"parked": {"parked",
			"select queue::text, seq::text, body, 0::bigint, topic, null::uuid from parked x where (queue, seq) > (coalesce(nullif($1::text, '')::int, -1), coalesce(nullif($2::text, '')::bigint, -1)) order by x.queue, x.seq limit $3",
			write("parked", "body", "x.queue = u.a::int and x.seq = u.b::bigint", "x.queue, x.seq")},
	}[table]
}

// Keys implements store.Keyring.
func (s *Store) Keys(ctx context.Context) (k store.KeyState, err error) {
	var ring, kept []byte
	err = s.single(ctx, func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, "select (select value from meta where name = 'ring'), (select value from meta where name = 'walk')").Scan(&ring, &kept)
	})
	if err == nil {
		err = s.enter(ring)
	}
	k.Generation, k.Opened = s.keys.Generation(), s.keys.Opened()
	if k.Masters = []string{k.Opened}; err == nil && ring != nil {
		k.Masters, err = seal.Masters(ring)
	}
	if err == nil {
		var w rows.Walk
		w, _, err = rows.ReadWalk(kept)
		k.Walk, k.Done = w.Table, w.Done
	}
	for _, table := range rows.SealedTables() {
		if err != nil {
			break
		}
		err = s.query(ctx, func(rs pgx.Rows) error {
			var n int64
			err := rs.Scan(&n)
			k.Rows += n
			return err
		}, "select count(*) from "+sealedIn(table).count)
	}
	if err != nil {
		return k, fmt.Errorf("looking at the keys: %w", err)
	}
	return k, nil
}

// ringLock is a reserved number among the advisory locks: who changes the keys.
const ringLock = 0x64696d66

// change does f in one transaction, alone among those who change the keys; f may run
// again.
func (s *Store) change(ctx context.Context, f func(tx pgx.Tx) error) error {
	return s.single(ctx, func(ctx context.Context) error {
		return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock($1)", int64(ringLock)); err != nil {
				return err
			}
			return f(tx)
		})
	})
}

func metaOf(ctx context.Context, tx pgx.Tx, name string) (b []byte, err error) {
	err = tx.QueryRow(ctx, "select value from meta where name = $1", name).Scan(&b)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return b, err
}

func setMeta(ctx context.Context, tx pgx.Tx, name string, v []byte) error {
	_, err := tx.Exec(ctx, "insert into meta(name, value) values ($1, $2) on conflict (name) do update set value = excluded.value", name, v)
	return err
}

// BeginRotation implements store.Keyring.
func (s *Store) BeginRotation(ctx context.Context, master []byte) error {
	var next []byte
	err := s.change(ctx, func(tx pgx.Tx) error {
		ring, err := metaOf(ctx, tx, "ring")
		if err != nil {
			return err
		}
		if next, err = s.keys.Next(ring, master); err != nil || bytes.Equal(next, ring) { // begun before
			return err
		}
		check := s.keys.Token("check", "ring")
		for name, v := range map[string][]byte{"ring": next, "check": check[:], "walk": []byte(rows.NewWalk().String())} {
			if err := setMeta(ctx, tx, name, v); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = s.enter(next)
	}
	if err != nil {
		return fmt.Errorf("beginning to change the keys: %w", err)
	}
	return nil
}

// Reseal implements store.Keyring. Processes that do so at once take turns.
func (s *Store) Reseal(ctx context.Context, limit int) (more bool, err error) {
	err = s.change(ctx, func(tx pgx.Tx) error {
		kept, err := metaOf(ctx, tx, "walk")
		if err != nil {
			return err
		}
		w, there, err := rows.ReadWalk(kept)
		if err != nil || !there || w.Table == "" {
			more = false
			return err
		}
		in, n := sealedIn(w.Table), rows.Batch(w.Table, limit)
		rs, err := tx.Query(ctx, in.read, w.A, w.B, n)
		if err != nil {
			return err
		}
		read, err := pgx.CollectRows(rs, func(row pgx.CollectableRow) (rows.Sealed, error) {
			r := rows.Sealed{Table: w.Table}
			var t pgtype.UUID
			err := row.Scan(&r.A, &r.B, &r.Bytes, &r.Num, &r.Topic, &t)
			r.Token = t.Bytes
			return r, err
		})
		if err != nil {
			return err
		}
		var as, bs []string
		var olds, news [][]byte
		for i := range read {
			b, err := rows.Anew(s.keys, &read[i])
			if err != nil {
				return err
			}
			if b != nil {
				as, bs, olds, news = append(as, read[i].A), append(bs, read[i].B), append(olds, read[i].Bytes), append(news, b)
			}
		}
		if len(as) > 0 {
			if _, err := tx.Exec(ctx, in.write, as, bs, olds, news); err != nil {
				return err
			}
		}
		next, again := w.Next(read, len(as), n)
		more = again
		return setMeta(ctx, tx, "walk", []byte(next.String()))
	})
	if err != nil {
		return false, fmt.Errorf("changing the keys: %w", err)
	}
	return more, nil
}

// FinishRotation implements store.Keyring.
func (s *Store) FinishRotation(ctx context.Context) error {
	err := s.change(ctx, func(tx pgx.Tx) error {
		kept, err := metaOf(ctx, tx, "walk")
		if err != nil {
			return err
		}
		w, _, err := rows.ReadWalk(kept)
		if err != nil {
			return err
		}
		if w.Table != "" {
			return store.ErrResealing
		}
		ring, err := metaOf(ctx, tx, "ring")
		if err != nil || ring == nil {
			return err
		}
		if ring, err = seal.Last(ring); err != nil {
			return err
		}
		return setMeta(ctx, tx, "ring", ring)
	})
	if err != nil {
		return fmt.Errorf("finishing the change of the keys: %w", err)
	}
	return nil
}

var _ store.Keyring = (*Store)(nil)
