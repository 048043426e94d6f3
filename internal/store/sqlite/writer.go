package sqlite

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/rows"
)

// job is one caller's work in a commit. apply says no (fenced, duplicate, no
// such run) by a *refusal before it has written anything, and is then out of the
// batch alone; any other error fails the whole commit.
type job struct {
	apply func(*tx) error
	place int64 // where in the tables it writes: the run's id, 0 for what does not matter
	err   error
	done  chan struct{}
}

// refusal is a logical no.
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }

func refuse(err error) error { return &refusal{err} }

// tx is a batch. What a job changes in memory it changes at once, so that the
// next job of the batch sees it, and leaves here how to take it back.
type tx struct {
	s       *Store
	conn    *sqlite.Conn
	now     time.Time
	nowMS   int64
	undo    []func()
	after   []func() // once durable, before the callers are answered
	wake    bool
	touched map[*queue]struct{}

	published []store.Message // ascending
}

// exec runs a statement that stays prepared for the life of the store.
func (t *tx) exec(sql string, args ...any) error { return t.query(sql, nil, args...) }

func (t *tx) query(sql string, row func(*sqlite.Stmt) error, args ...any) error {
	st := t.s.stmts[sql]
	if st == nil {
		var err error
		if st, err = t.conn.Prepare(sql); err != nil {
			return err
		}
		t.s.stmts[sql] = st
	}
	return runStmt(st, row, args...)
}

// submit hands work to the writer and waits until it is durable. The wait does
// not end with ctx: a commit that was begun is not undone by impatience, and the
// caller must learn how it went. It lasts one fsync.
func (s *Store) submit(ctx context.Context, apply func(*tx) error) error {
	return s.submitAt(ctx, 0, apply)
}

// submitAt is submit of what writes rows of a run that is new: see attempt.
func (s *Store) submitAt(ctx context.Context, run store.RunID, apply func(*tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	j := &job{apply: apply, place: int64(run), done: make(chan struct{})}
	s.sendMu.RLock()
	if s.closed.Load() {
		s.sendMu.RUnlock()
		return store.ErrClosed
	}
	select {
	case s.jobs <- j:
		s.sendMu.RUnlock()
	case <-ctx.Done():
		s.sendMu.RUnlock()
		return ctx.Err()
	}
	<-j.done
	return j.err
}

func (s *Store) write() {
	defer close(s.ended)
	batch := make([]*job, 0, rows.MaxBatch)
	for {
		select {
		case j := <-s.jobs:
			batch = append(batch[:0], j)
		case <-s.quit:
			for { // what was sent before Close is still done
				select {
				case j := <-s.jobs:
					batch = s.commit(append(batch[:0], j))
				default:
					return
				}
			}
		}
		batch = s.commit(batch)
	}
}

// gather takes what is queued. Those just answered are about to ask again: to
// let them run first costs microseconds and spares an fsync for one job alone.
func (s *Store) gather(batch []*job) []*job {
	for yielded := 0; len(batch) < rows.MaxBatch; {
		select {
		case j := <-s.jobs:
			batch = append(batch, j)
			yielded = 0
			continue
		default:
		}
		if yielded++; yielded > 10 {
			break
		}
		runtime.Gosched()
	}
	return batch
}

// commit does a batch and what comes meanwhile, and returns its memory.
func (s *Store) commit(batch []*job) []*job {
	s.connMu.Lock()
	now := s.now()
	t := &tx{s: s, conn: s.conn, now: now, nowMS: rows.MS(now)}
	batch, err := s.attempt(t, batch)
	if err != nil {
		s.mu.Lock()
		for i := len(t.undo) - 1; i >= 0; i-- {
			t.undo[i]()
		}
		s.mu.Unlock()
		err = fmt.Errorf("committing to the store: %w", failure(err))
	}
	s.connMu.Unlock()
	if err == nil {
		for _, f := range t.after {
			f()
		}
		if len(t.published) > 0 {
			s.spread(t.published)
		}
		if t.wake {
			s.wake.Send()
		}
	}
	for _, j := range batch {
		if err != nil && j.err == nil {
			j.err = err
		}
		close(j.done)
	}
	return batch
}

// attempt does a batch in one transaction, and with it whoever comes while it is
// at work: on another processor they get ready meanwhile.
func (s *Store) attempt(t *tx, batch []*job) (_ []*job, err error) {
	if err := t.exec("begin immediate"); err != nil {
		return batch, err
	}
	defer func() {
		if err != nil && !t.conn.AutocommitEnabled() {
			if rerr := t.exec("rollback"); rerr != nil {
				s.o.Log.Error("rolling back a commit", "error", rerr)
			}
		}
	}()
	for applied := 0; applied < len(batch); {
		next := batch[applied:]
		applied = len(batch)
		// Ids are handed out before the commit and come in any order; a row behind all
		// others fills a page to its end, one between them splits it. The jobs of a
		// batch are concurrent, so their order is free.
		slices.SortStableFunc(next, func(a, b *job) int { return cmp.Compare(a.place, b.place) })
		for _, j := range next {
			s.mu.Lock()
			err := j.apply(t)
			s.mu.Unlock()
			if r, ok := err.(*refusal); ok { //nolint:errorlint // a refusal is never wrapped: this is the hot path
				j.err = r.err
				continue
			}
			if err != nil {
				return batch, err
			}
		}
		batch = s.gather(batch)
	}
	s.mu.Lock()
	err = t.saveQueues()
	s.mu.Unlock()
	if err != nil {
		return batch, err
	}
	return batch, t.exec("commit")
}
