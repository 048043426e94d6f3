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
)

// Erase implements store.Store: the person's key is destroyed, and with it every
// body that was sealed for that person alone. Blobs that only such runs named go
// too. Skeletons stay (semantics 10.5). A subject who is not known is no error.
// Other processes meet it at their next look at the person's row, which every
// accept and every load is.
func (s *Store) Erase(ctx context.Context, subject string) error {
	if err := s.destroy(ctx, s.personToken(subject), nil); err != nil {
		return fmt.Errorf("erasing a person: %w", err)
	}
	return nil
}

// destroy destroys a person's key; with only, none but that one.
func (s *Store) destroy(ctx context.Context, who [rows.TokenSize]byte, only *[8]byte) error {
	for range 8 {
		wrapped, err := s.wrappedOf(ctx, who)
		if err != nil {
			return err
		}
		if p := s.persons.Get(who); p != nil && only == nil {
			s.persons.Drop(p.token, p)
		}
		if wrapped == nil {
			return nil
		}
		key, err := s.keys.OpenPerson(who, wrapped)
		if err != nil {
			return err
		}
		id := key.ID()
		switch {
		case only != nil && id != *only: // that person came back since
			return nil
		case only == nil && s.o.Erasures != nil:
			if err := s.o.Erasures.Add(store.Erasure{Token: who, Key: id, At: s.local.Now()}); err != nil {
				return err
			}
		}
		var gone bool
		j := &job{rank: rankQueue, locks: []int64{lockOf(who)}, sql: "select erase($1, $2, $3)", args: []any{s.at(), token(who), wrapped}}
		j.scan = func(row pgx.Row) error { return row.Scan(&gone) }
		if err := s.submit(ctx, j); err != nil || gone {
			return err
		}
	}
	return errAgain
}

// wrappedOf is a person's key as the table has it; nil if there is none.
func (s *Store) wrappedOf(ctx context.Context, who [rows.TokenSize]byte) (wrapped []byte, err error) {
	err = s.single(ctx, func(ctx context.Context) error {
		err := s.pool.QueryRow(ctx, "select wrapped_key from person where token = $1", token(who)).Scan(&wrapped)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading a person's key: %w", err)
	}
	return wrapped, nil
}

// Destroyed lists the tokens of persons who have no key any more.
func (s *Store) Destroyed(ctx context.Context) (out [][rows.TokenSize]byte, err error) {
	err = s.query(ctx, func(rs pgx.Rows) error {
		var t pgtype.UUID
		err := rs.Scan(&t)
		out = append(out, t.Bytes)
		return err
	}, "select token from person where wrapped_key is null")
	if err != nil {
		return nil, fmt.Errorf("listing destroyed keys: %w", err)
	}
	return out, nil
}

// RunsOf implements store.Operations.
func (s *Store) RunsOf(ctx context.Context, subject string) (out []store.Run, err error) {
	err = s.query(ctx, func(rs pgx.Rows) error {
		var r runRow
		into, done := r.fields()
		if err := rs.Scan(into...); err != nil {
			return err
		}
		done()
		out = append(out, r.run)
		return nil
	}, "select "+runColumns+" from run r where $1 = any(r.subject) order by r.id", token(s.personToken(subject)))
	if err != nil {
		return nil, fmt.Errorf("looking for a person's runs: %w", err)
	}
	return out, nil
}

// Forgets implements store.Operations.
func (s *Store) Forgets() time.Duration { return s.o.Keep }

var (
	_ store.Store      = (*Store)(nil)
	_ store.Operations = (*Store)(nil)
)
