package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dime-bus/dime/internal/store"
)

// maxBatch is how many jobs one transaction takes: fewer than semantics 6.2 allows,
// for each may hold a lock in the server's table.
const maxBatch = 256

// rank is the order of the jobs in a transaction, and so of their locks.
const (
	rankRun = iota
	rankQueue
	rankLog   // numbers messages: everybody waits for it
	rankAudit // behind all others, for the same reason
)

// job is one caller's call of a function of the schema in a group commit.
type job struct {
	sql    string
	args   []any
	locks  []int64 // advisory, on look-up keys; taken before all else, in order
	shares bool    // the versions' lock, with others
	alone  bool    // the versions' lock, alone
	rank   int
	place  int64               // the run's number, by which row locks are ordered
	scan   func(pgx.Row) error // reads the answer; it may run twice
	after  func()              // once durable, before the caller is answered

	refused error // by scan: the function said no, and wrote nothing
	wake    bool  // by scan: a run is due or the outbox has a row
	runs    []store.RunID

	err  error
	done chan struct{}
}

// versionsLock is a reserved number among the advisory locks.
const versionsLock = 0x64696d65

// submit hands a job to the writers and waits until it is durable. The wait does
// not end with ctx: a commit that was begun is not undone by impatience, and the
// caller must learn how it went.
func (s *Store) submit(ctx context.Context, j *job) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	j.done = make(chan struct{})
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

// writer commits batches over a connection of its own.
type writer struct {
	s     *Store
	id    int64 // of its mark
	batch int64
	conn  *pgx.Conn
}

func (w *writer) run() {
	defer w.s.ended.Done()
	defer func() {
		if w.conn != nil {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			_ = w.conn.Close(ctx)
			cancel()
		}
	}()
	batch := make([]*job, 0, maxBatch)
	for {
		select {
		case j := <-w.s.jobs:
			batch = append(batch[:0], j)
		case <-w.s.quit:
			for { // what was sent before Close is still done
				select {
				case j := <-w.s.jobs:
					w.commit(append(batch[:0], j))
				default:
					return
				}
			}
		}
		batch = w.gather(batch)
		w.commit(batch)
	}
}

// gather takes what is queued. Those just answered are about to ask again: to
// let them run first costs microseconds and spares an fsync for one job alone.
func (w *writer) gather(batch []*job) []*job {
	for yielded := 0; len(batch) < maxBatch; {
		select {
		case j := <-w.s.jobs:
			batch = append(batch, j)
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

// commit does a batch to its end and answers its callers.
func (w *writer) commit(batch []*job) {
	slices.SortStableFunc(batch, func(a, b *job) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.place, b.place))
	})
	err := w.persist(batch)
	if err != nil && definite(err) && len(batch) > 1 {
		// One of them can't be done; the others must not suffer for it.
		for _, j := range batch {
			w.finish([]*job{j}, w.persist([]*job{j}))
		}
		return
	}
	w.finish(batch, err)
}

func (w *writer) finish(batch []*job, err error) {
	if errors.Is(err, errDoubt) {
		w.s.forget(batch)
	}
	wake := errors.Is(err, errDoubt) // it may have taken place
	for _, j := range batch {
		switch {
		case err != nil:
			j.err = fmt.Errorf("committing to the store: %w", failure(err))
		case j.refused != nil:
			j.err = j.refused
		default:
			wake = wake || j.wake
			if j.after != nil {
				j.after()
			}
		}
	}
	if wake {
		w.s.wake.Send()
		w.s.tell.wake()
	}
	for _, j := range batch {
		close(j.done)
	}
}

// errDoubt: the connection broke in the commit, and the database does not come
// back to be asked. The runs of the batch are given up, so that nobody here writes
// on a guess; whoever claims them finds what is true in their journals.
var errDoubt = errors.New("whether the commit took place could not be learned in time")

// errUndone: the transaction surely did not take place.
var errUndone = errors.New("the connection broke before the commit")

// persist does a batch in one transaction, again while that may help.
func (w *writer) persist(batch []*job) error {
	until := time.Now().Add(w.s.o.Patience)
	for try := 0; ; try++ {
		committing, err := w.attempt(batch)
		if err != nil && committing && !definite(err) {
			err = w.look(err)
		}
		if err == nil {
			return nil
		}
		if errors.Is(err, errDoubt) || !errors.Is(err, errUndone) && !passing(err) || time.Now().After(until) {
			return err
		}
		time.Sleep(pause(try))
	}
}

// attempt does a batch once. committing says that the commit was sent, so that an
// error leaves its outcome open.
func (w *writer) attempt(batch []*job) (committing bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 35*time.Second) // behind the server's own time-outs
	defer cancel()
	if w.conn == nil || w.conn.IsClosed() {
		if w.conn, err = w.s.connect(ctx); err != nil {
			w.conn = nil
			return false, err
		}
	}
	w.batch++
	b := &pgx.Batch{}
	b.Queue("begin")
	b.Queue("insert into mark(writer, batch, at) values ($1, $2, now_ms($3)) on conflict (writer) do update set batch = excluded.batch, at = excluded.at",
		w.id, w.batch, w.s.at())
	locks, shares, alone := locksOf(batch)
	if alone {
		b.Queue("select pg_advisory_xact_lock($1)", int64(versionsLock))
	} else if shares {
		b.Queue("select pg_advisory_xact_lock_shared($1)", int64(versionsLock))
	}
	if len(locks) > 0 {
		b.Queue("select pg_advisory_xact_lock(k) from unnest($1::bigint[]) k", locks)
	}
	before := b.Len()
	for _, j := range batch {
		j.refused, j.wake = nil, false
		b.Queue(j.sql, j.args...)
	}
	err = w.send(ctx, b, before, batch)
	if err != nil {
		w.rollback(ctx)
		return false, err
	}
	tag, err := w.conn.Exec(ctx, "commit")
	if err == nil && tag.String() != "COMMIT" {
		return false, fmt.Errorf("the database answered a commit with %s", tag)
	}
	return true, err
}

// send sends all statements at once and reads all answers.
func (w *writer) send(ctx context.Context, b *pgx.Batch, before int, batch []*job) (err error) {
	br := w.conn.SendBatch(ctx, b)
	defer func() {
		if cerr := br.Close(); err == nil {
			err = cerr
		}
	}()
	for range before {
		if _, err := br.Exec(); err != nil {
			return err
		}
	}
	for _, j := range batch {
		if j.scan == nil {
			if _, err := br.Exec(); err != nil {
				return err
			}
			continue
		}
		if err := j.scan(br.QueryRow()); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) rollback(ctx context.Context) {
	if w.conn.IsClosed() {
		return
	}
	if _, err := w.conn.Exec(ctx, "rollback"); err != nil {
		_ = w.conn.Close(ctx) // the session ends, and its transaction with it
	}
}

func locksOf(batch []*job) (locks []int64, shares, alone bool) {
	for _, j := range batch {
		locks = append(locks, j.locks...)
		shares, alone = shares || j.shares, alone || j.alone
	}
	slices.Sort(locks)
	return slices.Compact(locks), shares, alone
}

// look learns whether the batch whose commit was cut off took place. The old
// session may still be at it: the mark is read behind the lock that it holds.
func (w *writer) look(cut error) error {
	if w.conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_ = w.conn.Close(ctx)
		cancel()
		w.conn = nil
	}
	until := time.Now().Add(w.s.o.Doubt)
	for try := 0; ; try++ {
		found, err := w.mark()
		if err == nil {
			if found == w.batch {
				return nil
			}
			return fmt.Errorf("%w: %w", errUndone, cut)
		}
		if time.Now().After(until) {
			return fmt.Errorf("%w: %w", errDoubt, err)
		}
		time.Sleep(pause(try))
	}
}

func (w *writer) mark() (batch int64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := w.s.connect(ctx)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			drop(c)
			return
		}
		w.conn = c
	}()
	err = c.QueryRow(ctx, "select batch from mark where writer = $1 for update", w.id).Scan(&batch)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil // not even the first came through
	}
	return batch, err
}

// forget gives up the runs of a batch in doubt.
func (s *Store) forget(batch []*job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range batch {
		for _, id := range j.runs {
			delete(s.held, id)
		}
	}
}
