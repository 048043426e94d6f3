package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/rows"
)

const (
	auditAdd     = "select o_seq, o_at, o_hash from audit_add($1, $2, $3, $4, $5, $6, $7, $8, $9)"
	auditSelect  = "select seq, at, who, channel, action, target, reason, person, sealed, detail, hash from audit where seq > $1 order by seq limit $2"
	auditHeadRow = "select seq, hash from audit order by seq desc limit 1"
)

// auditArgs are those of audit_add.
func auditArgs(now *int64, r store.AuditRow) []any {
	var who pgtype.UUID
	if len(r.Person) == rows.TokenSize {
		who = token([rows.TokenSize]byte(r.Person))
	}
	return []any{now, r.Who, r.Channel, r.Action, r.Target, r.Reason, who, r.Sealed, r.Detail}
}

func scanAdded(row pgx.Row, r *store.AuditRow) error {
	var at int64
	err := row.Scan(&r.Seq, &at, &r.Hash)
	r.At = time.UnixMilli(at).UTC()
	return err
}

// AppendAudit implements store.Audit.
func (s *Store) AppendAudit(ctx context.Context, e store.AuditEntry) (store.AuditRow, error) {
	r, err := s.auditRow(ctx, e)
	if err == nil {
		j := &job{rank: rankAudit, sql: auditAdd, args: auditArgs(s.at(), r)}
		j.scan = func(row pgx.Row) error { return scanAdded(row, &r) }
		err = s.submit(ctx, j)
	}
	if err != nil {
		return r, fmt.Errorf("writing the audit: %w", err)
	}
	return r, nil
}

// auditRow names the entry's person as the table may.
func (s *Store) auditRow(ctx context.Context, e store.AuditEntry) (store.AuditRow, error) {
	r := auditRowOf(e)
	if e.Person == "" {
		return r, nil
	}
	who := s.personToken(e.Person)
	r.Person = who[:]
	wrapped, err := s.wrappedOf(ctx, who)
	if err != nil || wrapped == nil {
		return r, err
	}
	key, err := s.keys.OpenPerson(who, wrapped)
	if err != nil {
		return r, err
	}
	r.Sealed = key.Seal([]byte(e.Person), store.AuditBound(who))
	return r, nil
}

func auditRowOf(e store.AuditEntry) store.AuditRow {
	e = e.Clean()
	return store.AuditRow{Who: e.Who, Channel: e.Channel, Action: e.Action, Target: e.Target, Reason: e.Reason, Detail: e.Detail}
}

func scanAudit(rs pgx.Rows, out *[]store.AuditRow) error {
	var r store.AuditRow
	var at int64
	var person pgtype.UUID
	if err := rs.Scan(&r.Seq, &at, &r.Who, &r.Channel, &r.Action, &r.Target, &r.Reason, &person, &r.Sealed, &r.Detail, &r.Hash); err != nil {
		return err
	}
	r.At = time.UnixMilli(at).UTC()
	if person.Valid {
		r.Person = person.Bytes[:]
	}
	*out = append(*out, r)
	return nil
}

// AuditRows implements store.Audit.
func (s *Store) AuditRows(ctx context.Context, after int64, limit int) (out []store.AuditRow, err error) {
	err = s.query(ctx, func(rs pgx.Rows) error { return scanAudit(rs, &out) }, auditSelect, after, limit)
	if err != nil {
		return nil, fmt.Errorf("reading the audit: %w", err)
	}
	return out, nil
}

// AuditHead implements store.Audit.
func (s *Store) AuditHead(ctx context.Context) (seq int64, hash []byte, err error) {
	err = s.query(ctx, func(rs pgx.Rows) error { return rs.Scan(&seq, &hash) }, auditHeadRow)
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
	who := [rows.TokenSize]byte(r.Person)
	wrapped, err := s.wrappedOf(ctx, who)
	if err != nil {
		return "", err
	}
	if wrapped == nil {
		return "", store.ErrErased
	}
	key, err := s.keys.OpenPerson(who, wrapped)
	if err != nil {
		return "", err
	}
	clear, err := key.Open(r.Sealed, store.AuditBound(who))
	if err != nil { // a later key of the same person
		return "", store.ErrErased
	}
	return string(clear), nil
}

// AuditOf hands on every row of a database's audit, in order, beside the processes
// that are at work. It needs no key.
func AuditOf(ctx context.Context, url string, password func(context.Context) (string, error), row func(store.AuditRow) error) error {
	return looking(ctx, url, password, func(p *pgxpool.Pool) error {
		return rows.EachAudit(func(after int64, limit int) (out []store.AuditRow, err error) {
			rs, err := p.Query(ctx, auditSelect, after, limit)
			if err != nil {
				return nil, failure(err)
			}
			err = each(rs, func(rs pgx.Rows) error { return scanAudit(rs, &out) })
			return out, failure(err)
		}, row)
	})
}

// AddAudit writes a row over a connection of its own, for commands that work on
// the database. An entry with a person needs the store itself.
func AddAudit(ctx context.Context, url string, password func(context.Context) (string, error), e store.AuditEntry) error {
	if e.Person != "" {
		return errors.New("writing the audit: who names a person needs the keys")
	}
	return looking(ctx, url, password, func(p *pgxpool.Pool) error {
		r := auditRowOf(e)
		return failure(scanAdded(p.QueryRow(ctx, auditAdd, auditArgs(nil, r)...), &r))
	})
}

var _ store.Audit = (*Store)(nil)
