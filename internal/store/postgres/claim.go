package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/rows"
)

// Claim implements store.Journal. It waits for nobody: what another process is
// writing to is not claimed.
func (s *Store) Claim(ctx context.Context, worker string, max int) ([]store.Run, []store.Lease, error) {
	if max < 1 {
		return nil, nil, nil
	}
	s.mu.Lock()
	quota, after := s.turn.Quotas(max), s.served
	s.mu.Unlock()
	var found []runRow
	sent := s.local.Now()
	// A claim whose answer is lost ends with its lease.
	err := s.query(ctx, func(rs pgx.Rows) error {
		var r runRow
		into, done := r.fields()
		if err := rs.Scan(into...); err != nil {
			return err
		}
		done()
		found = append(found, r)
		return nil
	}, "select "+runColumns+" from claim($1, $2, $3, $4, $5, $6) r", s.at(), s.lease(), worker, quota[:], after[:], max)
	if err != nil {
		return nil, nil, fmt.Errorf("claiming runs: %w", err)
	}
	runs, leases := make([]store.Run, 0, len(found)), make([]store.Lease, 0, len(found))
	s.mu.Lock()
	s.turn += store.Turn(len(found))
	for _, r := range found {
		s.served[r.run.Priority] = r.run.Route
		s.held[r.run.ID] = &held{epoch: r.run.Epoch, ord: r.ord}
		runs, leases = append(runs, r.run), append(leases, store.Lease{Run: r.run.ID, Epoch: r.run.Epoch, Until: sent.Add(s.o.LeaseFor)})
	}
	s.mu.Unlock()
	return runs, leases, nil
}

// ClaimOne implements store.Journal.
func (s *Store) ClaimOne(ctx context.Context, worker string, id store.RunID) (store.Run, store.Lease, error) {
	var r runRow
	into, done := r.fields()
	code := 0
	sent := s.local.Now()
	err := s.single(ctx, func(ctx context.Context) (err error) {
		b := &pgx.Batch{} // one transaction
		b.Queue("select claim_one($1, $2, $3, $4)", s.at(), s.lease(), worker, int64(id))
		b.Queue("select "+runColumns+" from run r where r.id = $1", int64(id))
		br := s.pool.SendBatch(ctx, b)
		defer func() { err = errors.Join(err, br.Close()) }()
		if err := br.QueryRow().Scan(&code); err != nil || code != codeDone {
			return err
		}
		return br.QueryRow().Scan(into...)
	})
	switch {
	case err != nil:
	case code == codeNoRun:
		err = store.ErrNoRun
	case code == codeFenced:
		err = store.ErrFenced
	}
	if err != nil {
		return store.Run{}, store.Lease{}, fmt.Errorf("claiming run %d: %w", id, err)
	}
	done()
	s.keep(id, &held{epoch: r.run.Epoch, ord: r.ord})
	return r.run, store.Lease{Run: id, Epoch: r.run.Epoch, Until: sent.Add(s.o.LeaseFor)}, nil
}

func pairs(ls []store.Lease) (ids, epochs []int64) {
	for _, l := range ls {
		ids, epochs = append(ids, int64(l.Run)), append(epochs, l.Epoch)
	}
	return ids, epochs
}

// leases does a function over leases, all of which it can name in one statement,
// and gives the runs for which it was still right.
func (s *Store) leases(ctx context.Context, sql string, args ...any) (map[store.RunID]bool, error) {
	still := make(map[store.RunID]bool)
	err := s.query(ctx, func(rs pgx.Rows) error {
		var id int64
		if err := rs.Scan(&id); err != nil {
			return err
		}
		still[store.RunID(id)] = true
		return nil
	}, sql, args...)
	return still, err
}

// Renew implements store.Journal.
func (s *Store) Renew(ctx context.Context, ls ...store.Lease) (lost []store.Lease, err error) {
	if err := s.alive(ctx); err != nil {
		return nil, err
	}
	mine := make([]store.Lease, 0, len(ls))
	s.mu.Lock()
	for _, l := range ls {
		if h := s.held[l.Run]; h != nil && h.epoch == l.Epoch {
			mine = append(mine, l)
		} else {
			lost = append(lost, l)
		}
	}
	s.mu.Unlock()
	if len(mine) == 0 {
		return lost, nil
	}
	ids, epochs := pairs(mine)
	still, err := s.leases(ctx, "select renew($1, $2, $3, $4)", s.at(), s.lease(), ids, epochs)
	if err != nil {
		return nil, fmt.Errorf("renewing leases: %w", err)
	}
	for _, l := range mine {
		if !still[l.Run] {
			s.lose(l)
			lost = append(lost, l)
		}
	}
	return lost, nil
}

// Release implements store.Journal.
func (s *Store) Release(ctx context.Context, ls ...store.Lease) error {
	if err := s.alive(ctx); err != nil {
		return err
	}
	ids, epochs := pairs(ls)
	for _, l := range ls {
		s.lose(l)
	}
	if _, err := s.leases(ctx, "select release($1, $2)", ids, epochs); err != nil {
		return fmt.Errorf("giving leases back: %w", err)
	}
	s.wake.Send()
	s.tell.wake()
	return nil
}

// NextDue implements store.Journal.
func (s *Store) NextDue(ctx context.Context) (time.Time, bool, error) {
	var at *int64
	err := s.single(ctx, func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, "select next_due($1, $2)", s.at(), s.me).Scan(&at)
	})
	if err != nil {
		return time.Time{}, false, fmt.Errorf("asking what is due next: %w", err)
	}
	if at == nil {
		return time.Time{}, false, nil
	}
	return rows.FromMS(*at), true, nil
}

// Wake implements store.Journal.
func (s *Store) Wake() <-chan struct{} { return s.wake.Channel() }

// OnWake implements store.Journal.
func (s *Store) OnWake(f func()) func() { return s.wake.On(f) }
