// Package sqlite keeps the engine's memory in one SQLite file: WAL,
// synchronous=FULL, one writer goroutine with group commit and a small pool of
// readers. One process owns a file, by an exclusive lock beside it; so leases,
// what is in flight and where each queue stands live in memory, and what a
// process knew dies with it: its runs can be claimed at once by the next, whose
// epochs are all higher (semantics 11.4).
package sqlite

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/rows"
	"github.com/dime-bus/dime/internal/store/seal"
)

// Memory as Options.Path keeps everything in memory: no file, no lock, no fsync.
// For tests and the route test runner; Reopen plays the next process.
const Memory = ":memory:"

// Options of Open. Path and MasterKey are required (MasterKey not with Memory).
type Options struct {
	Path      string        // the database file, or Memory
	Clock     clock.Clock   // clock.Real if nil; rules leases, due times and retention
	MasterKey []byte        // 32 random bytes or more; the same for the life of the file
	Worker    string        // who Accept's leases belong to; "worker" if empty
	LeaseFor  time.Duration // 10 s if zero
	Keep      time.Duration // of bus messages and stored events; 7 days if zero
	Log       *slog.Logger  // slog.Default if nil
	MaxPages  int64         // largest number of 4 KiB pages, 0 for no limit; how a test fills the disk
	Readers   int           // connections that read beside the writer; 4 if zero
	// Erasures are destroyed keys: those of a list are destroyed again when the
	// store opens, and Erase adds to it. nil keeps none.
	Erasures store.Erasures
}

func (o *Options) fill() error {
	if o.Path == "" {
		return errors.New("opening the store: no path given")
	}
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	if o.Worker == "" {
		o.Worker = "worker"
	}
	if o.LeaseFor <= 0 {
		o.LeaseFor = 10 * time.Second
	}
	if o.Keep <= 0 {
		o.Keep = 7 * 24 * time.Hour
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Readers <= 0 {
		o.Readers = 4
	}
	if o.Path == Memory && o.MasterKey == nil {
		o.MasterKey = make([]byte, seal.MasterSize)
		if _, err := rand.Read(o.MasterKey); err != nil {
			return fmt.Errorf("making a master key: %w", err)
		}
	}
	return nil
}

// Store implements store.Store.
type Store struct {
	o    Options
	keys *seal.Keys
	city seal.City
	lock *lockFile

	conn    *sqlite.Conn // the writer's; in memory, everybody's
	connMu  sync.Mutex   // held by the writer for a batch, and by readers in memory
	stmts   map[string]*sqlite.Stmt
	readers chan *sqlite.Conn
	opened  atomic.Int32 // of readers

	jobs   chan *job
	quit   chan struct{}
	ended  chan struct{}
	closed atomic.Bool
	sendMu sync.RWMutex // Close waits for senders

	persons rows.Recent[person]
	wake    rows.Signal

	mu      sync.Mutex // everything below; taken by the writer for each job
	owned   map[store.RunID]*owned
	epoch   int64
	turn    store.Turn // of the priority classes; guarded by mu, as
	served  [3]string  // the route that each served last
	place   int64
	lines   map[int64]int // live runs by order key, where counted
	nextRun int64
	runsTo  int64 // ids below are reserved on disk
	queues  map[string]*queue
	seq     int64 // last message
	durable int64 // last one that is committed: what is behind it belongs to the commit at work
	recent  recent
	suspect int64 // messages up to here were in the log when a process died
	topics  map[string]int64
	names   map[int64]string
	expired int64 // where retention's scan stands
}

// Open opens or makes the store. A second process on the same file gets an
// error that names the lock file and the process that holds it.
func Open(ctx context.Context, o Options) (*Store, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	keys, err := seal.New(o.MasterKey)
	if err != nil {
		return nil, fmt.Errorf("opening the store %s: %w", o.Path, err)
	}
	var lock *lockFile
	if o.Path != Memory {
		if lock, err = lockBeside(o.Path); err != nil {
			return nil, err
		}
	}
	conn, err := openConn(o, true)
	if err != nil {
		lock.release()
		return nil, fmt.Errorf("opening the store %s: %w", o.Path, err)
	}
	s, err := start(ctx, o, keys, conn, lock)
	if err != nil {
		_ = conn.Close()
		lock.release()
		return nil, err
	}
	return s, nil
}

func openConn(o Options, write bool) (*sqlite.Conn, error) {
	flags := sqlite.OpenReadWrite | sqlite.OpenCreate
	path := o.Path
	if path == Memory {
		flags |= sqlite.OpenMemory
	} else if write {
		// The file holds sealed bodies but clear names: for its owner alone.
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, err
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
	conn, err := sqlite.OpenConn(path, flags)
	if err != nil {
		return nil, err
	}
	// A once key dirties a leaf of its own: the writer's cache (64 MB at most) spares
	// reading it again, the long log (64 MB) spares writing it at each checkpoint.
	pragmas := "pragma temp_store=memory; pragma cache_size=-2000;"
	if write {
		pragmas = "pragma page_size=4096; pragma temp_store=memory; pragma cache_size=-64000; pragma auto_vacuum=none;"
		if path == Memory {
			pragmas += "pragma journal_mode=memory; pragma synchronous=off;"
		} else {
			pragmas += "pragma journal_mode=wal; pragma synchronous=full; pragma wal_autocheckpoint=16000; pragma locking_mode=normal;"
		}
		if o.MaxPages > 0 {
			pragmas += fmt.Sprintf("pragma max_page_count=%d;", o.MaxPages)
		}
	}
	for _, p := range splitPragmas(pragmas) {
		if err := sqlitex.ExecuteTransient(conn, p, nil); err != nil {
			_ = conn.Close()
			return nil, fmt.Errorf("setting %q: %w", p, err)
		}
	}
	return conn, nil
}

// start makes a Store over a connection: a new life of the same memory.
func start(ctx context.Context, o Options, keys *seal.Keys, conn *sqlite.Conn, lock *lockFile) (*Store, error) {
	s := &Store{
		o: o, keys: keys, city: keys.City(), lock: lock, conn: conn,
		stmts:   make(map[string]*sqlite.Stmt),
		readers: make(chan *sqlite.Conn, o.Readers),
		jobs:    make(chan *job, 2*rows.MaxBatch),
		quit:    make(chan struct{}),
		ended:   make(chan struct{}),
		owned:   make(map[store.RunID]*owned),
		lines:   make(map[int64]int),
		queues:  make(map[string]*queue),
		topics:  make(map[string]int64),
		names:   make(map[int64]string),
	}
	conn.SetInterrupt(ctx.Done())
	if err := s.recover(); err != nil {
		return nil, fmt.Errorf("opening the store %s: %w", o.Path, err)
	}
	conn.SetInterrupt(nil)
	go s.write()
	s.armQueues()
	if err := rows.DestroyAgain(s.o.Erasures, func(who [rows.TokenSize]byte, key *[8]byte) error { return s.destroy(ctx, who, key) }); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the store %s: %w", o.Path, err), s.abandon())
	}
	return s, nil
}

// recover reads what the last life left, and begins a new one.
func (s *Store) recover() (err error) {
	if err := checkSchema(s.conn); err != nil {
		return err
	}
	if err := sqlitex.ExecuteScript(s.conn, schema+auditSchema, nil); err != nil {
		return fmt.Errorf("making tables: %w", err)
	}
	if err := sqlitex.ExecuteTransient(s.conn, fmt.Sprintf("pragma user_version=%d", SchemaVersion), nil); err != nil {
		return fmt.Errorf("marking the schema's version: %w", err)
	}
	end, err := sqlitex.ImmediateTransaction(s.conn)
	if err != nil {
		return err
	}
	defer end(&err)
	check, err := admit(s.conn, s.keys)
	if err != nil {
		return err
	}
	if err := s.setMeta("check", check); err != nil {
		return err
	}
	starts, err := s.metaInt("starts")
	if err != nil {
		return err
	}
	starts++
	if err := s.setMeta("starts", starts); err != nil {
		return err
	}
	s.epoch, s.place = starts<<32, starts<<32
	if s.runsTo, err = s.metaInt("runs"); err != nil {
		return err
	}
	s.nextRun = s.runsTo
	if s.nextRun == 0 {
		s.nextRun, s.runsTo = 1, 1
	}
	if err := s.recoverRuns(); err != nil {
		return fmt.Errorf("reading live runs: %w", err)
	}
	if err := s.recoverQueues(); err != nil {
		return fmt.Errorf("reading queues: %w", err)
	}
	return nil
}

func (s *Store) metaInt(name string) (n int64, err error) {
	err = query(s.conn, "select value from meta where name=?", func(st *sqlite.Stmt) error {
		n = st.ColumnInt64(0)
		return nil
	}, name)
	return n, err
}

func (s *Store) setMeta(name string, v any) error {
	return query(s.conn, "insert into meta(name, value) values(?, ?) on conflict do update set value=excluded.value", nil, name, v)
}

// Close ends the writer after what is queued, and gives the file back.
func (s *Store) Close() error { return s.shut(true) }

// Reopen ends this life of the store without a word to anybody, as a crash does,
// and begins the next one on the same memory or file: a higher epoch, nothing
// leased, nothing in flight. Of the old one every method gives ErrClosed.
func (s *Store) Reopen(ctx context.Context) (*Store, error) {
	if err := s.shut(false); err != nil {
		return nil, err
	}
	if s.o.Path != Memory {
		return Open(ctx, s.o)
	}
	return start(ctx, s.o, s.keys, s.conn, nil)
}

func (s *Store) shut(final bool) error {
	if s.closed.Swap(true) {
		return nil
	}
	s.sendMu.Lock() // no sender is between its check and its send
	close(s.quit)
	s.sendMu.Unlock()
	<-s.ended
	s.wake.Close()
	s.closeQueues()
	if !final && s.o.Path == Memory {
		return nil
	}
	var errs []error
	if final { // what comes again then was no crash's doing
		if err := s.setMeta("closed", 1); err != nil {
			errs = append(errs, fmt.Errorf("closing the store: %w", failure(err)))
		}
	}
	for n := s.opened.Load(); n > 0; n-- {
		errs = append(errs, (<-s.readers).Close())
	}
	if err := s.conn.Close(); err != nil {
		errs = append(errs, fmt.Errorf("closing the store: %w", err))
	}
	s.lock.release()
	return errors.Join(errs...)
}

func (s *Store) now() time.Time { return s.o.Clock.Now() }
