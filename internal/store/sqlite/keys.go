package sqlite

import (
	"context"
	"errors"
	"fmt"

	"zombiezen.com/go/sqlite"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/rows"
	"github.com/dime-bus/dime/internal/store/seal"
)

// errAgain: a person's key changed between sealing and the commit.
var errAgain = errors.New("a person's key changed meanwhile")

// person is an unwrapped key. One that no commit holds yet must not be
// forgotten, or a second key would be made for the same person.
type person struct {
	token   [rows.TokenSize]byte
	key     *seal.Key
	wrapped []byte // nil once durable; guarded by Store.mu after creation
	dead    bool   // erased; guarded by Store.mu
}

func (s *Store) personToken(subject string) [rows.TokenSize]byte {
	return s.keys.Token("person", subject)
}

// person finds or makes a person's key; with make false nil means that there is
// none (any more).
func (s *Store) person(ctx context.Context, token [rows.TokenSize]byte, create bool) (*person, error) {
	if p := s.persons.Get(token); p != nil {
		return p, nil
	}
	var wrapped []byte
	err := s.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "select wrapped_key from person where token=? and wrapped_key is not null", func(st *sqlite.Stmt) error {
			wrapped = columnBytes(st, 0)
			return nil
		}, token)
	})
	if err != nil {
		return nil, fmt.Errorf("reading a person's key: %w", err)
	}
	if wrapped != nil {
		k, err := s.keys.OpenPerson(token, wrapped)
		if err != nil {
			return nil, err
		}
		return s.persons.Add(token, &person{token: token, key: k.WithID()}), nil
	}
	if !create {
		return nil, nil
	}
	k, wrapped, err := s.keys.NewPerson(token)
	if err != nil {
		return nil, err
	}
	return s.persons.Add(token, &person{token: token, key: k.WithID(), wrapped: wrapped}), nil
}

// runKey makes a run's data key, wrapped for each of its subjects, else for the
// city: subject is their tokens and sealed their wraps, in one order.
func (s *Store) runKey(ctx context.Context, id store.RunID, subjects []string) (data *seal.Key, subject, sealed []byte, ps []*person, err error) {
	data, raw, err := seal.NewKey()
	if err != nil {
		return nil, nil, nil, nil, err
	}
	if len(subjects) == 0 {
		return data, nil, s.city.Wrap(raw, seal.Bound('r', int64(id))), nil, nil
	}
	for _, name := range subjects {
		p, err := s.person(ctx, s.personToken(name), true)
		if err != nil {
			return nil, nil, nil, nil, err
		}
		ps = append(ps, p)
		subject = append(subject, p.token[:]...)
		sealed = append(sealed, p.key.Wrap(raw, seal.Bound('r', int64(id)))...)
	}
	return data, subject, sealed, ps, nil
}

// openRunKey unwraps a run's data key by any of its subjects' keys; ErrErased if
// all of them are gone.
func (s *Store) openRunKey(ctx context.Context, id store.RunID, subject, sealed []byte) (*seal.Key, error) {
	if len(subject) == 0 {
		k, ok := s.city.Unwrap(sealed, seal.Bound('r', int64(id)))
		if !ok {
			return nil, fmt.Errorf("opening a run's key: %w", seal.ErrSeal)
		}
		return k, nil
	}
	if len(subject)/rows.TokenSize*seal.WrapSize != len(sealed) || len(subject)%rows.TokenSize != 0 {
		return nil, fmt.Errorf("opening a run's key: %w", rows.ErrPack)
	}
	for i := 0; i*rows.TokenSize < len(subject); i++ {
		p, err := s.person(ctx, [rows.TokenSize]byte(subject[i*rows.TokenSize:][:rows.TokenSize]), false)
		if err != nil {
			return nil, err
		}
		if p == nil {
			continue
		}
		if k, ok := p.key.Unwrap(sealed[i*seal.WrapSize:][:seal.WrapSize], seal.Bound('r', int64(id))); ok {
			return k, nil
		}
	}
	return nil, store.ErrErased
}

// savePersons makes new persons' keys durable with the run that needs them.
func (t *tx) savePersons(ps []*person) error {
	for _, p := range ps {
		if p.dead {
			return refuse(errAgain)
		}
	}
	for _, p := range ps {
		if p.wrapped == nil {
			continue
		}
		held := p.wrapped
		if err := t.exec("insert into person(token, wrapped_key) values(?, ?) on conflict do update set wrapped_key=excluded.wrapped_key where wrapped_key is null",
			p.token, held); err != nil {
			return err
		}
		if t.conn.Changes() == 0 { // somebody else's key was stored while ours was forgotten
			p.dead = true
			t.s.persons.Drop(p.token, p)
			return refuse(errAgain)
		}
		p.wrapped = nil
		t.undo = append(t.undo, func() { p.wrapped = held })
	}
	return nil
}

// PublicID implements store.Store.
func (s *Store) PublicID(id store.RunID) string { return rows.PublicID(s.keys, id) }

// ParseID implements store.Store.
func (s *Store) ParseID(id string) (store.RunID, error) { return rows.ParseID(s.keys, id) }

// Key derives a stable UUID of parts from the store's secret.
func (s *Store) Key(parts ...string) string { return s.keys.UUID("key", parts...) }
