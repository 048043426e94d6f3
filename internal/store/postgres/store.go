// Package postgres keeps the engine's memory in PostgreSQL 15 or later, for any
// number of processes at once. What several processes need stands in the tables:
// leases and epochs, what is in whose hands, who lives. Instants are the
// database's, so that no worker's clock rules another's lease.
//
// A process groups the commits of its callers: each is one call of a function of
// the schema, a batch of them one transaction. Locks are taken in one order (look-up
// keys, then runs, then the log of messages), so that processes wait for each
// other without deadlocks; claims wait for nobody. When the connection breaks in a
// commit, the batch's mark is read behind its lock: whether it took place is
// looked up, never guessed.
package postgres

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/rows"
	"github.com/dime-bus/dime/internal/store/seal"
)

// Options of Open. URL and MasterKey are required.
type Options struct {
	URL       string // postgres://user@host/database?sslmode=verify-full; the schema is dime
	MasterKey []byte // 32 random bytes or more; the same for the life of the database
	Worker    string // who the leases belong to, for people to read; "worker" if empty
	LeaseFor  time.Duration
	Log       *slog.Logger // slog.Default if nil

	// Password is asked at each connecting, so that a rotated secret counts at once;
	// nil where the URL has it.
	Password func(ctx context.Context) (string, error)
	// Migrate brings the schema up to date first, which the schema's owner may; else
	// a schema that is too old is an error.
	Migrate bool

	// Erasures are destroyed keys: those of a list are destroyed again when the
	// store opens, and Erase adds to it. nil keeps none.
	Erasures store.Erasures

	Keep     time.Duration // of bus messages and stored events; 7 days if zero
	Clock    clock.Clock   // nil is the database's; a test's virtual one rules in its place
	Writers  int           // transactions under way at once; 2 if zero
	Pool     int           // connections beside the writers' and the listener's; 8 if zero
	Poll     time.Duration // how often is looked for what no notification told; 5 s if zero
	Patience time.Duration // how long a commit waits for a database that is away; 5 s if zero
	Doubt    time.Duration // how long is asked whether a commit took place; 30 s if zero
}

func (o *Options) fill() error {
	if o.URL == "" {
		return errors.New("opening the store: no URL given")
	}
	for d, or := range map[*time.Duration]time.Duration{&o.LeaseFor: 10 * time.Second, &o.Keep: 7 * 24 * time.Hour,
		&o.Poll: 5 * time.Second, &o.Patience: 5 * time.Second, &o.Doubt: 30 * time.Second} {
		if *d <= 0 {
			*d = or
		}
	}
	for n, or := range map[*int]int{&o.Writers: 2, &o.Pool: 8} {
		if *n <= 0 {
			*n = or
		}
	}
	if o.Worker == "" {
		o.Worker = "worker"
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return nil
}

// Store implements store.Store.
type Store struct {
	o     Options
	local clock.Clock
	keys  *seal.Keys
	city  seal.City
	pool  *pgxpool.Pool
	locks *pgxpool.Pool // see Lock
	me    int64         // this process's number, new with each Open

	jobs   chan *job
	quit   chan struct{} // Close was called
	ended  sync.WaitGroup
	sendMu sync.RWMutex // Close waits for senders
	closed atomic.Bool
	stop   context.CancelFunc // of listener and heart
	ctx    context.Context

	persons   rows.Recent[person]
	wake      rows.Signal
	tell      telling
	publishes atomic.Bool // Outbox was asked: what this process commits it publishes

	mu      sync.Mutex // everything below
	held    map[store.RunID]*held
	turn    store.Turn // of the priority classes
	served  [3]string  // the route that each served last
	nextRun int64
	runsTo  int64
	queues  map[string]*queue
	ring    []byte    // as the keys were entered; nil before the first rotation
	beaten  time.Time // the last heartbeat, by the local clock
	expired int64     // where retention's scan stands
}

// held is a run that this process has a lease of.
type held struct {
	epoch int64
	ord   int64
	data  *seal.Key
}

// Open connects, checks schema and master key, and begins to listen.
func Open(ctx context.Context, o Options) (*Store, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	keys, err := seal.New(o.MasterKey)
	if err != nil {
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	if o.Migrate {
		if err := Migrate(ctx, o.URL, o.Password); err != nil {
			return nil, err
		}
	}
	s := &Store{
		o: o, local: o.Clock, keys: keys, city: keys.City(), me: number(),
		jobs: make(chan *job, 2*rows.MaxBatch), quit: make(chan struct{}),
		held: make(map[store.RunID]*held), queues: make(map[string]*queue),
	}
	if s.local == nil {
		s.local = clock.Real{}
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	if s.pool, err = s.connectPool(ctx, s.o.Pool, nil); err != nil {
		s.stop()
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	if s.locks, err = s.connectPool(ctx, lockConnections, map[string]string{"idle_session_timeout": lockIdle}); err != nil {
		s.stop()
		s.pool.Close()
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	if err := s.begin(ctx); err != nil {
		s.stop()
		s.pool.Close()
		s.locks.Close()
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	return s, nil
}

// number is a random positive one.
func number() int64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return int64(binary.BigEndian.Uint64(b[:])>>1) | 1
}

// begin checks what must be right before anything is written, and starts what
// runs beside the callers.
func (s *Store) begin(ctx context.Context) error {
	if err := checkSchema(ctx, s.pool); err != nil {
		return err
	}
	var durable, fsync string
	if err := s.pool.QueryRow(ctx, "select current_setting('synchronous_commit'), current_setting('fsync')").Scan(&durable, &fsync); err != nil {
		return err
	}
	if durable == "off" {
		return errors.New("synchronous_commit is off: what is accepted would not be durable; turn it on for this role or database")
	}
	if fsync == "off" {
		s.o.Log.Warn("the database runs with fsync off: a power cut may lose what was accepted")
	}
	if err := s.admit(ctx); err != nil {
		return err
	}
	if err := s.beat(ctx, true); err != nil {
		return err
	}
	l, err := s.connect(ctx)
	if err != nil {
		return err
	}
	if _, err := l.Exec(ctx, "listen "+channel); err != nil {
		_ = l.Close(ctx)
		return err
	}
	for range s.o.Writers {
		w := &writer{s: s, id: number()} // it connects when it has something to write
		s.ended.Add(1)
		go w.run()
	}
	s.tell.init()
	s.ended.Add(3)
	go s.listen(l)
	go s.notify()
	go s.heart()
	if err := rows.DestroyAgain(s.o.Erasures, func(who [rows.TokenSize]byte, key *[8]byte) error { return s.destroy(ctx, who, key) }); err != nil {
		return errors.Join(err, s.Close())
	}
	return nil
}

// Skew is how far this machine's clock is ahead of the database's. A worker whose
// clock differs by over 2 s is not ready (semantics 5.7).
func (s *Store) Skew(ctx context.Context) (time.Duration, error) {
	before := time.Now()
	var n int64
	if err := s.pool.QueryRow(ctx, "select now_ms(null)").Scan(&n); err != nil {
		return 0, fmt.Errorf("asking the database for its time: %w", failure(err))
	}
	return before.Add(time.Since(before) / 2).Sub(time.UnixMilli(n)), nil
}

// Close ends the writers after what is queued, and gives back what this process
// holds: its runs can be claimed at once, its deliveries come again uncounted.
func (s *Store) Close() error {
	s.sendMu.Lock()
	if s.closed.Swap(true) {
		s.sendMu.Unlock()
		return nil
	}
	close(s.quit)
	s.sendMu.Unlock()
	s.stop()
	s.ended.Wait()
	s.wake.Close()
	s.closeQueues()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var err error
	s.mu.Lock()
	var runs, epochs []int64
	for id, h := range s.held {
		runs, epochs = append(runs, int64(id)), append(epochs, h.epoch)
	}
	s.mu.Unlock()
	b := &pgx.Batch{}
	b.Queue("select count(*) from release($1, $2)", runs, epochs)
	b.Queue("update delivery set holder = null where holder = $1", s.me)
	b.Queue("update outbox set holder = null where holder = $1", s.me)
	b.Queue("delete from version_use where holder = $1", s.me)
	b.Queue("delete from worker where id = $1", s.me)
	b.Queue("select pg_notify($1, $2)", channel, fmt.Sprintf("%d w", s.me)) // the others take it now, not when they look by themselves
	if err = s.pool.SendBatch(ctx, b).Close(); err != nil {
		err = fmt.Errorf("closing the store: giving back what it holds: %w", failure(err))
	}
	s.pool.Close()
	s.locks.Close()
	return err
}

// at is the instant that rules in the place of the database's clock: a test's.
func (s *Store) at() *int64 {
	if s.o.Clock == nil {
		return nil
	}
	n := rows.MS(s.o.Clock.Now())
	return &n
}

func (s *Store) lease() int64 { return s.o.LeaseFor.Milliseconds() }

func (s *Store) alive(ctx context.Context) error {
	if s.closed.Load() {
		return store.ErrClosed
	}
	return ctx.Err()
}

// PublicID implements store.Store.
func (s *Store) PublicID(id store.RunID) string { return rows.PublicID(s.keys, id) }

// ParseID implements store.Store.
func (s *Store) ParseID(id string) (store.RunID, error) { return rows.ParseID(s.keys, id) }

// Key derives a stable UUID of parts from the store's secret.
func (s *Store) Key(parts ...string) string { return s.keys.UUID("key", parts...) }
