package sqlite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/rows"
)

// Erase implements store.Store: the person's key is destroyed, and with it every
// body that was sealed for that person alone. Blobs that only such runs named go
// too. Skeletons stay (semantics 10.5). A subject who is not known is no error.
func (s *Store) Erase(ctx context.Context, subject string) error {
	if err := s.destroy(ctx, s.personToken(subject), nil); err != nil {
		return fmt.Errorf("erasing a person: %w", err)
	}
	return nil
}

// destroy destroys a person's key; with only, none but that one.
func (s *Store) destroy(ctx context.Context, token [rows.TokenSize]byte, only *[8]byte) error {
	for range 8 {
		known, err := s.destroyNow(ctx, token, only)
		switch {
		case errors.Is(err, errAgain):
			continue
		case err != nil || !known:
			return err
		}
		if err := s.eraseBlobs(ctx, token); err != nil {
			return fmt.Errorf("erasing attachments: %w", err)
		}
		return nil
	}
	return errAgain
}

func (s *Store) destroyNow(ctx context.Context, token [rows.TokenSize]byte, only *[8]byte) (known bool, err error) {
	var wrapped []byte
	err = s.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "select wrapped_key from person where token=? and wrapped_key is not null", func(st *sqlite.Stmt) error {
			wrapped = columnBytes(st, 0)
			return nil
		}, token)
	})
	if err != nil {
		return false, err
	}
	if wrapped == nil && only != nil {
		return false, nil
	}
	if wrapped != nil {
		key, err := s.keys.OpenPerson(token, wrapped)
		if err != nil {
			return false, err
		}
		id := key.ID()
		switch {
		case only != nil && id != *only: // that person came back since
			return false, nil
		case only == nil && s.o.Erasures != nil:
			if err := s.o.Erasures.Add(store.Erasure{Token: token, Key: id, At: s.now()}); err != nil {
				return false, err
			}
		}
	}
	err = s.submit(ctx, func(t *tx) error {
		known = wrapped != nil
		p := s.persons.Get(token)
		if known {
			if err := t.exec("update person set wrapped_key=null, destroyed=? where token=? and wrapped_key=?", t.nowMS, token, wrapped); err != nil {
				return err
			}
			if t.conn.Changes() == 0 {
				return refuse(errAgain)
			}
		}
		if p != nil {
			p.dead = true
			t.undo = append(t.undo, func() { p.dead = false })
			t.after = append(t.after, func() { s.persons.Drop(p.token, p) })
		}
		return nil
	})
	return known, err
}

// Destroyed lists the tokens of persons who have no key any more.
func (s *Store) Destroyed(ctx context.Context) (tokens [][rows.TokenSize]byte, err error) {
	err = s.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "select token from person where wrapped_key is null", func(st *sqlite.Stmt) error {
			if t := columnBytes(st, 0); len(t) == rows.TokenSize {
				tokens = append(tokens, [rows.TokenSize]byte(t))
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("listing destroyed keys: %w", err)
	}
	return tokens, nil
}

// RunsOf implements store.Operations.
func (s *Store) RunsOf(ctx context.Context, subject string) ([]store.Run, error) {
	token := s.personToken(subject)
	var out []store.Run
	err := s.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "select "+runColumns+" from run where subject is not null order by id", func(st *sqlite.Stmt) error {
			tokens := columnBytes(st, 11)
			for t := range slices.Chunk(tokens, rows.TokenSize) {
				if len(t) == rows.TokenSize && [rows.TokenSize]byte(t) == token {
					out = append(out, scanRun(st))
					return nil
				}
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("looking for a person's runs: %w", err)
	}
	return out, nil
}

// Forgets implements store.Operations.
func (s *Store) Forgets() time.Duration { return s.o.Keep }
