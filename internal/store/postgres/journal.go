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
	"github.com/dime-bus/dime/internal/store/seal"
)

// Codes of the schema's functions: why they did nothing.
const (
	codeDone = iota
	codeAgain
	codeDuplicate
	codeFull
	codeNoQueue
	codeFenced
	codeTooMany
	codeNoRun
	codeState
	codeShapes
	codeNoVersion
)

// reserveBlock is how many run ids a process sets aside at once.
const reserveBlock = 1 << 14

// Reserve implements store.Journal: ids come from blocks that one commit
// reserves.
func (s *Store) Reserve(ctx context.Context, n int) (store.RunID, error) {
	if n < 1 {
		return 0, fmt.Errorf("reserving %d run ids: at least one", n)
	}
	if err := s.alive(ctx); err != nil {
		return 0, err
	}
	s.mu.Lock()
	if s.nextRun+int64(n) <= s.runsTo {
		first := s.nextRun
		s.nextRun += int64(n)
		s.mu.Unlock()
		return store.RunID(first), nil
	}
	s.mu.Unlock()
	size := int64(n) + reserveBlock
	var to int64
	err := s.single(ctx, func(ctx context.Context) error { // ids that are never used are harmless
		return s.pool.QueryRow(ctx, "update counter set value = value + $1 where name = 'runs' returning value", size).Scan(&to)
	})
	if err != nil {
		return 0, fmt.Errorf("reserving run ids: %w", err)
	}
	s.mu.Lock()
	s.nextRun, s.runsTo = to-size+int64(n), to
	s.mu.Unlock()
	return store.RunID(to - size), nil
}

// savedArgs are the last arguments of the functions that write records.
func savedArgs(p *rows.Prepared) []any {
	var spill, path, topic []string
	var size, since, until []int64
	var large, out [][]byte
	var k []pgtype.UUID
	for _, b := range p.Spills {
		spill, size, large = append(spill, b.Digest), append(size, int64(b.Size)), append(large, b.Sealed)
	}
	for _, o := range p.Outbox {
		topic, out = append(topic, o.Topic), append(out, o.Sealed)
	}
	for _, w := range p.Waits {
		k, path, since, until = append(k, token(w.K)), append(path, w.Path), append(since, w.Since), append(until, w.Until)
	}
	return []any{p.Names, p.Body, spill, size, large, p.Uses, p.Unwaits, p.Taken, topic, out, k, path, since, until}
}

// lockOf is the number of the advisory lock on a look-up key.
func lockOf(k [rows.TokenSize]byte) int64 {
	n := int64(0)
	for _, b := range k[:8] {
		n = n<<8 | int64(b)
	}
	return n
}

func waitLocks(locks []int64, ws []rows.Wait) []int64 {
	for _, w := range ws {
		locks = append(locks, lockOf(w.K))
	}
	return locks
}

// publisher is who the outbox rows of a commit belong to from the beginning: this
// process, if it publishes.
func (s *Store) publisher() any {
	if s.publishes.Load() {
		return s.me
	}
	return nil
}

func nullMS(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return rows.MS(t)
}

func ackArgs(a *store.Ack) (queue, seq any) {
	if a == nil {
		return nil, nil
	}
	return a.Queue, a.ID
}

// Accept implements store.Journal.
func (s *Store) Accept(ctx context.Context, r store.Run, rs ...store.Record) (store.Run, store.Lease, error) {
	for try := 0; ; try++ {
		out, l, err := s.accept(ctx, r, rs)
		if errors.Is(err, errAgain) && try < 10 {
			continue
		}
		if err != nil {
			var d *store.Duplicate
			if !errors.As(err, &d) {
				err = fmt.Errorf("accepting run %d of %s: %w", r.ID, r.Route, err)
			}
			return store.Run{}, store.Lease{}, err
		}
		return out, l, nil
	}
}

func (s *Store) accept(ctx context.Context, r store.Run, rs []store.Record) (store.Run, store.Lease, error) {
	var l store.Lease
	if err := rows.CheckRun(&r); err != nil {
		return r, l, err
	}
	if err := s.alive(ctx); err != nil {
		return r, l, err
	}
	data, sealed, ps, err := s.runKey(ctx, r.ID, r.Subjects)
	if err != nil {
		return r, l, err
	}
	p, err := rows.Prepare(s.keys, r.ID, data, &rows.Head{Bytes: r.Head, OrderKey: r.OrderKey, Subjects: r.Subjects}, rs)
	if err != nil {
		return r, l, err
	}
	j := &job{rank: rankRun, place: int64(r.ID), shares: true, locks: waitLocks(nil, p.Waits), runs: []store.RunID{r.ID}}
	subject, wraps, fresh := []pgtype.UUID{}, [][]byte{}, []bool{}
	for _, x := range ps {
		f := x.fresh.Load()
		subject, wraps, fresh = append(subject, token(x.token)), append(wraps, x.wrapped), append(fresh, f)
		if f {
			j.locks = append(j.locks, lockOf(x.token))
		}
	}
	var once, hash, until, ord any
	if r.Once != nil {
		k := s.keys.Token("once", r.Once.Scope, r.Once.Key)
		once, hash, until = token(k), r.Once.BodyHash, rows.MS(r.Once.Until)
		j.locks = append(j.locks, lockOf(k))
	}
	var number int64
	if r.OrderKey != "" {
		number = s.keys.Number("order", r.Route, r.OrderKey)
		ord, j.locks = number, append(j.locks, number)
	}
	queue, seq := ackArgs(r.Ack)
	j.sql = "select * from accept($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35)"
	j.args = append([]any{s.at(), s.lease(), s.o.Worker, s.publisher(), int64(r.ID), r.Version, r.Route, rows.StateCode(r.State), r.Reason, r.Priority, nullMS(r.Due), ord,
		subject, wraps, fresh, sealed, once, hash, until, queue, seq}, savedArgs(p)...)
	asked, sent := r, s.local.Now()
	j.scan = func(row pgx.Row) error {
		var code, state int
		var epoch, now, due, other *int64
		var same *bool
		if err := row.Scan(&code, &state, &epoch, &now, &due, &other, &same, &j.wake); err != nil {
			return err
		}
		switch code {
		case codeAgain:
			j.refused = errAgain
		case codeDuplicate:
			j.refused = &store.Duplicate{Run: store.RunID(*other), SameBody: *same}
		case codeFull:
			j.refused = store.ErrQueueFull
		case codeNoQueue:
			j.refused = noQueue(r.Ack.Queue)
		default:
			r = asked
			r.State, r.Epoch, r.Started, r.Due = rows.StateWord(int64(state)), *epoch, rows.FromMS(*now), time.Time{}
			if due != nil {
				r.Due = rows.FromMS(*due)
			}
			if r.State.Ended() {
				r.Ended = r.Started
			}
		}
		return nil
	}
	j.after = func() {
		for _, x := range ps {
			x.fresh.Store(false)
		}
		if rows.Hot(r.State) && asked.Due.IsZero() {
			l = store.Lease{Run: r.ID, Epoch: r.Epoch, Until: sent.Add(s.o.LeaseFor)}
			s.keep(r.ID, &held{epoch: r.Epoch, ord: number, data: data})
		}
	}
	if err := s.submit(ctx, j); err != nil {
		if errors.Is(err, errAgain) {
			for _, x := range ps {
				s.persons.Drop(x.token, x)
			}
		}
		return asked, store.Lease{}, err
	}
	return r, l, nil
}

func noQueue(name string) error {
	return fmt.Errorf("settling a delivery: no queue is named %q", name)
}

func (s *Store) keep(id store.RunID, h *held) {
	s.mu.Lock()
	s.held[id] = h
	s.mu.Unlock()
}

// lose forgets a lease, unless a newer one has taken its place.
func (s *Store) lose(l store.Lease) {
	s.mu.Lock()
	if h := s.held[l.Run]; h != nil && h.epoch == l.Epoch {
		delete(s.held, l.Run)
	}
	s.mu.Unlock()
}

// holding is what this process knows of a run by a lease of its own; a lease of
// another process, or of an earlier life, is none.
func (s *Store) holding(ctx context.Context, l store.Lease) (h held, err error) {
	s.mu.Lock()
	x := s.held[l.Run]
	if x == nil || x.epoch != l.Epoch {
		s.mu.Unlock()
		return h, store.ErrFenced
	}
	h = *x
	s.mu.Unlock()
	if h.data != nil {
		return h, nil
	}
	row, err := s.runRow(ctx, l.Run)
	if err != nil {
		return h, err
	}
	h.data, h.ord = row.data, row.ord
	s.mu.Lock()
	x.data, x.ord = h.data, h.ord
	s.mu.Unlock()
	return h, row.keyErr
}

// Append implements store.Journal.
func (s *Store) Append(ctx context.Context, l store.Lease, state store.State, reason string, wake time.Time, rs ...store.Record) error {
	if err := s.append(ctx, l, state, reason, wake, rs); err != nil {
		return fmt.Errorf("writing to run %d: %w", l.Run, err)
	}
	return nil
}

func (s *Store) append(ctx context.Context, l store.Lease, state store.State, reason string, wake time.Time, rs []store.Record) error {
	if rows.StateCode(state) == 0 {
		return fmt.Errorf("%q is no state", state)
	}
	if err := s.alive(ctx); err != nil {
		return err
	}
	h, err := s.holding(ctx, l)
	if err != nil {
		return err
	}
	p, err := rows.Prepare(s.keys, l.Run, h.data, nil, rs)
	if err != nil {
		return err
	}
	j := &job{rank: rankRun, place: int64(l.Run), locks: waitLocks(nil, p.Waits), runs: []store.RunID{l.Run}}
	if h.ord != 0 {
		j.locks = append(j.locks, h.ord)
	}
	j.sql = "select * from append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)"
	j.args = append([]any{s.at(), s.publisher(), int64(l.Run), l.Epoch, rows.StateCode(state), reason, nullMS(wake)}, savedArgs(p)...)
	if p.Version != "" {
		j.shares = true // no version is dropped meanwhile
		j.sql = "select * from append_pinned($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)"
		j.args = append(j.args, p.Version)
	}
	j.scan = func(row pgx.Row) error {
		var code int
		if err := row.Scan(&code, &j.wake); err != nil {
			return err
		}
		switch code {
		case codeFenced:
			j.refused = store.ErrFenced
		case codeNoVersion:
			j.refused = store.ErrNoVersion
		case codeTooMany:
			j.refused = fmt.Errorf("%w: it has made %d commits", store.ErrTooLarge, rows.MaxCommits)
		}
		return nil
	}
	back := !rows.Hot(state) || !wake.IsZero()
	j.after = func() {
		if back {
			s.lose(l)
		}
	}
	err = s.submit(ctx, j)
	if errors.Is(err, store.ErrFenced) {
		s.lose(l)
	}
	return err
}

// Rearm implements store.Journal. Where other runs of its order key live by now,
// it queues behind them, and the lease is zero.
func (s *Store) Rearm(ctx context.Context, id store.RunID, worker string, rs ...store.Record) (store.Run, store.Lease, error) {
	fail := func(err error) (store.Run, store.Lease, error) {
		return store.Run{}, store.Lease{}, fmt.Errorf("starting run %d again: %w", id, err)
	}
	if err := s.alive(ctx); err != nil {
		return fail(err)
	}
	row, err := s.runRow(ctx, id)
	if err == nil {
		err = row.keyErr
	}
	if err != nil {
		return fail(err)
	}
	p, err := rows.Prepare(s.keys, id, row.data, nil, rs)
	if err != nil {
		return fail(err)
	}
	r := row.run
	var l store.Lease
	j := &job{rank: rankRun, place: int64(id), locks: waitLocks(nil, p.Waits), runs: []store.RunID{id}}
	if row.ord != 0 {
		j.locks = append(j.locks, row.ord)
	}
	j.sql = "select * from rearm($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)"
	j.args = append([]any{s.at(), s.lease(), worker, s.publisher(), int64(id)}, savedArgs(p)...)
	sent := s.local.Now()
	j.scan = func(got pgx.Row) error {
		var code int
		var state, epoch *int64
		if err := got.Scan(&code, &state, &epoch, &j.wake); err != nil {
			return err
		}
		switch code {
		case codeNoRun:
			j.refused = store.ErrNoRun
		case codeFenced:
			j.refused = store.ErrFenced
		case codeState:
			j.refused = fmt.Errorf("it is %s, and only a failed run starts again", rows.StateWord(*state))
		default:
			r.State, r.Reason, r.Epoch, r.Ended, r.Due = rows.StateWord(*state), "", *epoch, time.Time{}, time.Time{}
		}
		return nil
	}
	j.after = func() {
		if r.State == store.Running {
			l = store.Lease{Run: id, Epoch: r.Epoch, Until: sent.Add(s.o.LeaseFor)}
			s.keep(id, &held{epoch: r.Epoch, ord: row.ord, data: row.data})
		}
	}
	if err := s.submit(ctx, j); err != nil {
		return fail(err)
	}
	return r, l, nil
}

// runRow is a run as it stands, with its key.
type runRow struct {
	run     store.Run
	ord     int64
	subject []pgtype.UUID
	sealed  []byte
	wraps   [][]byte
	data    *seal.Key
	keyErr  error // ErrErased, or why the key does not open
}

const runColumns = "r.id, r.version, r.route, r.state, r.reason, r.prio, r.epoch, r.due, r.started, r.ended, coalesce(r.ord, 0)"

func (r *runRow) fields(more ...any) (into []any, done func()) {
	var state int64
	var started int64
	var due, ended *int64
	return append([]any{&r.run.ID, &r.run.Version, &r.run.Route, &state, &r.run.Reason, &r.run.Priority, &r.run.Epoch, &due, &started, &ended, &r.ord}, more...), func() {
		r.run.State, r.run.Started, r.run.Due, r.run.Ended = rows.StateWord(state), rows.FromMS(started), time.Time{}, time.Time{}
		if due != nil {
			r.run.Due = rows.FromMS(*due)
		}
		if ended != nil {
			r.run.Ended = rows.FromMS(*ended)
		}
	}
}

func (s *Store) runRow(ctx context.Context, id store.RunID) (r runRow, err error) {
	into, done := r.fields(&r.subject, &r.sealed, &r.wraps)
	err = s.single(ctx, func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, "select "+runColumns+", r.subject, r.sealed_key, "+wrapsOf+" from run r where r.id = $1", int64(id)).Scan(into...)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return r, store.ErrNoRun
	}
	if err != nil {
		return r, fmt.Errorf("reading its row: %w", err)
	}
	done()
	r.data, r.keyErr = s.openRunKey(r.run.ID, r.subject, r.wraps, r.sealed)
	return r, nil
}
