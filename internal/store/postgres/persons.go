package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/rows"
	"github.com/dime-bus/dime/internal/store/seal"
)

// errAgain: a person's key changed, here or in another process, between sealing
// and the commit.
var errAgain = errors.New("a person's key changed meanwhile")

// person is an unwrapped key. The table decides whether it still counts: who
// seals by it hands its wrapped form to the commit, which compares.
type person struct {
	token   [rows.TokenSize]byte
	key     *seal.Key
	wrapped []byte
	fresh   atomic.Bool // no commit is known to hold it
}

func (s *Store) personToken(subject string) [rows.TokenSize]byte {
	return s.keys.Token("person", subject)
}

// personOf finds or makes a person's key.
func (s *Store) personOf(ctx context.Context, token_ [rows.TokenSize]byte) (*person, error) {
	if p := s.persons.Get(token_); p != nil {
		return p, nil
	}
	wrapped, err := s.wrappedOf(ctx, token_)
	if err != nil {
		return nil, err
	}
	if wrapped != nil {
		return s.known(token_, wrapped)
	}
	k, wrapped, err := s.keys.NewPerson(token_)
	if err != nil {
		return nil, err
	}
	p := &person{token: token_, key: k.WithID(), wrapped: wrapped}
	p.fresh.Store(true)
	return s.persons.Add(p.token, p), nil
}

// known is a person's key as the table has it.
func (s *Store) known(token [rows.TokenSize]byte, wrapped []byte) (*person, error) {
	if p := s.persons.Get(token); p != nil {
		if bytes.Equal(p.wrapped, wrapped) {
			return p, nil
		}
		s.persons.Drop(p.token, p)
	}
	k, err := s.keys.OpenPerson(token, wrapped)
	if err != nil {
		return nil, err
	}
	return s.persons.Add(token, &person{token: token, key: k.WithID(), wrapped: wrapped}), nil
}

// runKey makes a run's data key, wrapped for each of its subjects, else for the
// city.
func (s *Store) runKey(ctx context.Context, id store.RunID, subjects []string) (data *seal.Key, sealed []byte, ps []*person, err error) {
	data, raw, err := seal.NewKey()
	if err != nil {
		return nil, nil, nil, err
	}
	if len(subjects) == 0 {
		return data, s.city.Wrap(raw, seal.Bound('r', int64(id))), nil, nil
	}
	for _, name := range subjects {
		p, err := s.personOf(ctx, s.personToken(name))
		if err != nil {
			return nil, nil, nil, err
		}
		ps, sealed = append(ps, p), append(sealed, p.key.Wrap(raw, seal.Bound('r', int64(id)))...)
	}
	return data, sealed, ps, nil
}

// openRunKey unwraps a run's data key by any of its subjects' keys, which are
// given as the table has them now; ErrErased if all of them are gone.
func (s *Store) openRunKey(id store.RunID, subject []pgtype.UUID, wraps [][]byte, sealed []byte) (*seal.Key, error) {
	if len(subject) == 0 {
		k, ok := s.city.Unwrap(sealed, seal.Bound('r', int64(id)))
		if !ok {
			return nil, fmt.Errorf("opening a run's key: %w", seal.ErrSeal)
		}
		return k, nil
	}
	if len(subject)*seal.WrapSize != len(sealed) || len(wraps) != len(subject) {
		return nil, fmt.Errorf("opening a run's key: %w", rows.ErrPack)
	}
	for i, t := range subject {
		if wraps[i] == nil {
			if p := s.persons.Get(t.Bytes); p != nil && !p.fresh.Load() {
				s.persons.Drop(p.token, p) // erased by another process
			}
			continue
		}
		p, err := s.known(t.Bytes, wraps[i])
		if err != nil {
			return nil, err
		}
		if k, ok := p.key.Unwrap(sealed[i*seal.WrapSize:][:seal.WrapSize], seal.Bound('r', int64(id))); ok {
			return k, nil
		}
	}
	return nil, store.ErrErased
}

// wrapsOf selects, for a run r, its persons' keys in the order of its subjects.
const wrapsOf = `array(select p.wrapped_key from unnest(r.subject) with ordinality u(t, n) left join person p on p.token = u.t order by u.n)`
