package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/rows"
)

// auditSchema lets nothing be changed by mistake; who means to can drop the
// triggers, and is found by the hashes.
const auditSchema = `
create table if not exists audit(seq integer primary key, at integer not null, who text not null, channel text not null,
  action text not null, target text not null, reason text not null, person blob, sealed blob, detail text not null, hash blob not null);
create trigger if not exists audit_update before update on audit begin select raise(abort, 'the audit is only added to'); end;
create trigger if not exists audit_delete before delete on audit begin select raise(abort, 'the audit is only added to'); end;
`

const auditColumns = "seq, at, who, channel, action, target, reason, person, sealed, detail, hash"

// AppendAudit implements store.Audit.
func (s *Store) AppendAudit(ctx context.Context, e store.AuditEntry) (r store.AuditRow, err error) {
	if r, err = s.auditRow(ctx, e); err == nil {
		err = s.submit(ctx, func(t *tx) (err error) {
			r, err = addAudit(t.conn, t.now, r)
			return err
		})
	}
	if err != nil {
		return r, fmt.Errorf("writing the audit: %w", err)
	}
	return r, nil
}

// auditRow names the entry's person as the table may.
func (s *Store) auditRow(ctx context.Context, e store.AuditEntry) (store.AuditRow, error) {
	r := rowOf(e)
	if e.Person == "" {
		return r, nil
	}
	token := s.personToken(e.Person)
	r.Person = token[:]
	wrapped, err := s.wrappedOf(ctx, token)
	if err != nil || wrapped == nil {
		return r, err
	}
	key, err := s.keys.OpenPerson(token, wrapped)
	if err != nil {
		return r, err
	}
	r.Sealed = key.Seal([]byte(e.Person), store.AuditBound(token))
	return r, nil
}

func rowOf(e store.AuditEntry) store.AuditRow {
	e = e.Clean()
	return store.AuditRow{Who: e.Who, Channel: e.Channel, Action: e.Action, Target: e.Target, Reason: e.Reason, Detail: e.Detail}
}

// wrappedOf is a person's key as the table has it; nil if there is none.
func (s *Store) wrappedOf(ctx context.Context, token [rows.TokenSize]byte) (wrapped []byte, err error) {
	err = s.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "select wrapped_key from person where token=? and wrapped_key is not null", func(st *sqlite.Stmt) error {
			wrapped = columnBytes(st, 0)
			return nil
		}, token)
	})
	return wrapped, err
}

// addAudit adds a row behind the last, within a transaction that may write.
func addAudit(c *sqlite.Conn, now time.Time, r store.AuditRow) (store.AuditRow, error) {
	seq, before, err := auditHead(c)
	if err != nil {
		return r, err
	}
	r.Seq, r.At = seq+1, now.UTC().Truncate(time.Millisecond)
	r.Hash = store.AuditHash(before, r)
	return r, query(c, "insert into audit("+auditColumns+") values(?,?,?,?,?,?,?,?,?,?,?)", nil,
		r.Seq, rows.MS(r.At), r.Who, r.Channel, r.Action, r.Target, r.Reason, r.Person, r.Sealed, r.Detail, r.Hash)
}

func auditHead(c *sqlite.Conn) (seq int64, hash []byte, err error) {
	err = query(c, "select seq, hash from audit order by seq desc limit 1", func(st *sqlite.Stmt) error {
		seq, hash = st.ColumnInt64(0), columnBytes(st, 1)
		return nil
	})
	return seq, hash, err
}

func auditRows(c *sqlite.Conn, after int64, limit int) (out []store.AuditRow, err error) {
	err = query(c, "select "+auditColumns+" from audit where seq>? order by seq limit ?", func(st *sqlite.Stmt) error {
		r := store.AuditRow{Seq: st.ColumnInt64(0), At: time.UnixMilli(st.ColumnInt64(1)).UTC(), Who: st.ColumnText(2), Channel: st.ColumnText(3),
			Action: st.ColumnText(4), Target: st.ColumnText(5), Reason: st.ColumnText(6), Detail: st.ColumnText(9), Hash: columnBytes(st, 10)}
		for i, into := range map[int]*[]byte{7: &r.Person, 8: &r.Sealed} {
			if st.ColumnType(i) != sqlite.TypeNull {
				*into = columnBytes(st, i)
			}
		}
		out = append(out, r)
		return nil
	}, after, limit)
	return out, err
}

// AuditRows implements store.Audit.
func (s *Store) AuditRows(ctx context.Context, after int64, limit int) (out []store.AuditRow, err error) {
	err = s.read(ctx, func(c *sqlite.Conn) (err error) {
		out, err = auditRows(c, after, limit)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the audit: %w", err)
	}
	return out, nil
}

// AuditHead implements store.Audit.
func (s *Store) AuditHead(ctx context.Context) (seq int64, hash []byte, err error) {
	err = s.read(ctx, func(c *sqlite.Conn) (err error) {
		seq, hash, err = auditHead(c)
		return err
	})
	if err != nil {
		return 0, nil, fmt.Errorf("reading the audit's head: %w", err)
	}
	return seq, hash, nil
}

// AuditPerson implements store.Audit.
func (s *Store) AuditPerson(ctx context.Context, r store.AuditRow) (string, error) {
	if len(r.Person) != rows.TokenSize || r.Sealed == nil {
		return "", store.ErrErased
	}
	token := [rows.TokenSize]byte(r.Person)
	wrapped, err := s.wrappedOf(ctx, token)
	if err != nil {
		return "", err
	}
	if wrapped == nil {
		return "", store.ErrErased
	}
	key, err := s.keys.OpenPerson(token, wrapped)
	if err != nil {
		return "", err
	}
	clear, err := key.Open(r.Sealed, store.AuditBound(token))
	if err != nil { // a later key of the same person
		return "", store.ErrErased
	}
	return string(clear), nil
}

// AuditOf hands on every row of a file's audit, in order, while another process
// may be at work on it. It needs no key.
func AuditOf(ctx context.Context, path string, row func(store.AuditRow) error) error {
	return looking(ctx, path, func(c *sqlite.Conn) error {
		return rows.EachAudit(func(after int64, limit int) ([]store.AuditRow, error) { return auditRows(c, after, limit) }, row)
	})
}

// AddAudit writes a row beside the process that has the file, for commands that
// work on the data folder. An entry with a person needs the store itself.
func AddAudit(ctx context.Context, path string, e store.AuditEntry) error {
	if e.Person != "" {
		return errors.New("writing the audit: who names a person needs the keys")
	}
	return looking(ctx, path, func(c *sqlite.Conn) (err error) {
		if err := sqlitex.ExecuteScript(c, auditSchema, nil); err != nil {
			return err
		}
		end, err := sqlitex.ImmediateTransaction(c)
		if err != nil {
			return err
		}
		defer end(&err)
		_, err = addAudit(c, time.Now(), rowOf(e))
		return failure(err)
	})
}

var _ store.Audit = (*Store)(nil)
