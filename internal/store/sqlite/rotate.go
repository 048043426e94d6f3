package sqlite

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"zombiezen.com/go/sqlite"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/rows"
	"github.com/dime-bus/dime/internal/store/seal"
)

// admit enters a file's keys and says what its check must be; ErrMasterKey if the
// master key is not of this file.
func admit(c *sqlite.Conn, keys *seal.Keys) (check []byte, err error) {
	ring, err := metaOf(c, "ring")
	if err != nil {
		return nil, err
	}
	if check, err = metaOf(c, "check"); err != nil {
		return nil, err
	}
	check, err = rows.Admit(keys, ring, check)
	if errors.Is(err, seal.ErrMaster) {
		return nil, ErrMasterKey
	}
	return check, err
}

func metaOf(c *sqlite.Conn, name string) (b []byte, err error) {
	err = query(c, "select value from meta where name=?", func(st *sqlite.Stmt) error {
		b = columnBytes(st, 0)
		return nil
	}, name)
	return b, err
}

func (t *tx) setMeta(name string, v []byte) error {
	return t.exec("insert into meta(name, value) values(?, ?) on conflict do update set value=excluded.value", name, v)
}

// sealedRows says how the rows of each table of rows.SealedTables are read behind a
// key, and written if they are still what was read.
type sealedRows struct {
	count, read, write string
	key                func(a, b string) ([]any, error)
}

func sealedIn(table string) sealedRows {
	text := func(a, _ string) ([]any, error) { return []any{a}, nil }
	number := func(a, _ string) ([]any, error) {
		if a == "" {
			return []any{int64(-1)}, nil
		}
		n, err := strconv.ParseInt(a, 10, 64)
		return []any{n}, err
	}
	return map[string]sealedRows{
		"person": {"person where wrapped_key is not null",
			"select hex(token), '', wrapped_key, 0, '' from person where token > ? and wrapped_key is not null order by token limit ?",
			"update person set wrapped_key=? where token=? and wrapped_key=?",
			func(a, _ string) ([]any, error) {
				b, err := hex.DecodeString(a)
				return []any{append([]byte{}, b...)}, err // no key is empty bytes, not null
			}},
		"run": {"run where subject is null",
			"select id, '', sealed_key, id, '' from run where id > ? and subject is null order by id limit ?",
			"update run set sealed_key=? where id=? and sealed_key=?", number},
		"note": {"note",
			"select owner, k, value, 0, '' from note where (owner, k) > (?, ?) order by owner, k limit ?",
			"update note set value=? where owner=? and k=? and value=?",
			func(a, b string) ([]any, error) { return []any{a, b}, nil }},
		"version": {"version",
			"select digest, '', source, 0, '' from version where digest > ? order by digest limit ?",
			"update version set source=? where digest=? and source=?", text},
		"blob": {"blob where digest >= 'sha256:' and digest < 'sha256;'",
			"select digest, '', bytes, 0, '' from blob where digest > ? and digest >= 'sha256:' and digest < 'sha256;' order by digest limit ?",
			"update blob set bytes=? where digest=? and bytes=?", text},
		"event": {"event",
			"select id, '', body, msg, '' from event where id > ? order by id limit ?",
			"update event set body=? where id=? and body=?", number},
		"msg": {"msg",
			"select m.seq, '', m.body, 0, t.name from msg m join topic t on t.id=m.topic where m.seq > ? order by m.seq limit ?",
			"update msg set body=? where seq=? and body=?", number},
		"parked": {"parked",
			"select p.queue, p.seq, p.body, 0, t.name from parked p join topic t on t.id=p.topic where (p.queue, p.seq) > (?, ?) order by p.queue, p.seq limit ?",
			"update parked set body=? where queue=? and seq=? and body=?",
			func(a, b string) ([]any, error) {
				x, err := number(a, "")
				if err != nil {
					return nil, err
				}
				y, err := number(b, "")
				return append(x, y...), err
			}},
	}[table]
}

// Keys implements store.Keyring.
func (s *Store) Keys(ctx context.Context) (k store.KeyState, err error) {
	k.Generation, k.Opened = s.keys.Generation(), s.keys.Opened()
	err = s.read(ctx, func(c *sqlite.Conn) error {
		ring, err := metaOf(c, "ring")
		if err != nil {
			return err
		}
		if k.Masters = []string{k.Opened}; ring != nil {
			if k.Masters, err = seal.Masters(ring); err != nil {
				return err
			}
		}
		kept, err := metaOf(c, "walk")
		if err != nil {
			return err
		}
		w, _, err := rows.ReadWalk(kept)
		if err != nil {
			return err
		}
		k.Walk, k.Done = w.Table, w.Done
		for _, table := range rows.SealedTables() {
			n, err := number(c, "select count(*) from "+sealedIn(table).count)
			if err != nil {
				return err
			}
			k.Rows += n
		}
		return nil
	})
	if err != nil {
		return k, fmt.Errorf("looking at the keys: %w", err)
	}
	return k, nil
}

// BeginRotation implements store.Keyring.
func (s *Store) BeginRotation(ctx context.Context, master []byte) error {
	var next []byte
	err := s.submit(ctx, func(t *tx) error {
		ring, err := metaOf(t.conn, "ring")
		if err != nil {
			return err
		}
		if next, err = s.keys.Next(ring, master); err != nil {
			return refuse(err)
		}
		if bytes.Equal(next, ring) {
			return nil // begun before
		}
		check := s.keys.Token("check", "ring")
		for name, v := range map[string][]byte{"ring": next, "check": check[:], "walk": []byte(rows.NewWalk().String())} {
			if err := t.setMeta(name, v); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = s.keys.Enter(next)
	}
	if err != nil {
		return fmt.Errorf("beginning to change the keys: %w", err)
	}
	return nil
}

// Reseal implements store.Keyring. Rows are opened and sealed beside the writer,
// and written if they are still what was read.
func (s *Store) Reseal(ctx context.Context, limit int) (more bool, err error) {
	var w rows.Walk
	var read []rows.Sealed
	var in sealedRows
	n := 0
	err = s.read(ctx, func(c *sqlite.Conn) error {
		kept, err := metaOf(c, "walk")
		if err != nil {
			return err
		}
		if w, more, err = rows.ReadWalk(kept); err != nil || w.Table == "" {
			more = false
			return err
		}
		in, n = sealedIn(w.Table), rows.Batch(w.Table, limit)
		args, err := in.key(w.A, w.B)
		if err != nil {
			return err
		}
		return query(c, in.read, func(st *sqlite.Stmt) error {
			r := rows.Sealed{Table: w.Table, A: st.ColumnText(0), B: st.ColumnText(1), Bytes: columnBytes(st, 2), Num: st.ColumnInt64(3), Topic: st.ColumnText(4)}
			if w.Table == "person" {
				b, err := hex.DecodeString(r.A)
				if err != nil || len(b) != rows.TokenSize {
					return rows.ErrPack
				}
				r.Token = [rows.TokenSize]byte(b)
			}
			read = append(read, r)
			return nil
		}, append(args, n)...)
	})
	if err != nil || !more {
		return false, s.resealing(err)
	}
	var changes [][]any
	for i := range read {
		b, err := rows.Anew(s.keys, &read[i])
		if err != nil {
			return false, s.resealing(err)
		}
		if b == nil {
			continue
		}
		args, err := in.key(read[i].A, read[i].B)
		if err != nil {
			return false, s.resealing(err)
		}
		changes = append(changes, append(append([]any{b}, args...), read[i].Bytes))
	}
	next, more := w.Next(read, len(changes), n)
	err = s.submit(ctx, func(t *tx) error {
		for _, c := range changes {
			if err := t.exec(in.write, c...); err != nil {
				return err
			}
		}
		return t.setMeta("walk", []byte(next.String()))
	})
	return more, s.resealing(err)
}

func (s *Store) resealing(err error) error {
	if err != nil {
		return fmt.Errorf("changing the keys: %w", err)
	}
	return nil
}

// FinishRotation implements store.Keyring.
func (s *Store) FinishRotation(ctx context.Context) error {
	err := s.submit(ctx, func(t *tx) error {
		kept, err := metaOf(t.conn, "walk")
		if err != nil {
			return err
		}
		w, _, err := rows.ReadWalk(kept)
		if err != nil {
			return err
		}
		if w.Table != "" {
			return refuse(store.ErrResealing)
		}
		ring, err := metaOf(t.conn, "ring")
		if err != nil || ring == nil {
			return err
		}
		if ring, err = seal.Last(ring); err != nil {
			return err
		}
		return t.setMeta("ring", ring)
	})
	if err != nil {
		return fmt.Errorf("finishing the change of the keys: %w", err)
	}
	return nil
}

var _ store.Keyring = (*Store)(nil)
