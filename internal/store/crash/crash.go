// Package crash lets a test kill the process that uses a store at a chosen
// commit without killing the test: the wrapped store does the commit or does it
// not, and from then on every method fails, as if the process had gone. The
// store beneath lives on and can be opened again by whoever resumes.
package crash

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/dime-bus/dime/internal/store"
)

// ErrCrashed is what every method gives after the crash.
var ErrCrashed = errors.New("the process crashed here")

// Commit describes one durable step that was counted.
type Commit struct {
	N     int          // from 1, in the order of arrival
	Op    string       // Accept, Append, Rearm, Deliver, Publish, Published
	Run   store.RunID  // 0 where the step is no run's
	Kinds []store.Kind // of its records
}

// Plan says where the process dies. A zero At never crashes and only counts.
type Plan struct {
	At    int  // the commit's number
	After bool // the commit is done, its answer is lost; else it never happens
	// Seen is called for each counted commit before it is done; nil for nobody.
	Seen func(Commit)
	// Crashed is called once, when the process dies; it must not call the store.
	Crashed func(Commit)
}

// Store is a store.Store that dies by its plan.
type Store struct {
	store.Store
	plan Plan

	mu   sync.Mutex
	n    int
	dead bool
	stop []func()
	once sync.Once
	wake chan struct{}

	ready map[string]chan struct{}
}

// Wrap returns s under a plan. Counted are the commits that carry a run, an
// event or a message forward: Accept, Append, Rearm, Deliver, Publish and
// Published. Each is counted once whatever became of it.
func Wrap(s store.Store, p Plan) *Store {
	return &Store{Store: s, plan: p, wake: make(chan struct{}, 1), ready: map[string]chan struct{}{}}
}

// Commits is how many were counted.
func (s *Store) Commits() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

// Dead says whether the crash has happened.
func (s *Store) Dead() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dead
}

// Kill crashes at once, between commits.
func (s *Store) Kill() { s.die(Commit{N: s.Commits()}) }

func (s *Store) die(c Commit) {
	s.mu.Lock()
	was := s.dead
	s.dead = true
	stop := s.stop
	s.stop = nil
	s.mu.Unlock()
	if was {
		return
	}
	for _, f := range stop {
		f()
	}
	if s.plan.Crashed != nil {
		s.plan.Crashed(c)
	}
}

func (s *Store) alive() error {
	if s.Dead() {
		return ErrCrashed
	}
	return nil
}

// commit does f as the next counted step.
func (s *Store) commit(op string, run store.RunID, rs []store.Record, f func() error) error {
	s.mu.Lock()
	if s.dead {
		s.mu.Unlock()
		return ErrCrashed
	}
	s.n++
	c := Commit{N: s.n, Op: op, Run: run}
	s.mu.Unlock()
	for _, r := range rs {
		c.Kinds = append(c.Kinds, r.Kind)
	}
	if s.plan.Seen != nil {
		s.plan.Seen(c)
	}
	if c.N == s.plan.At && !s.plan.After {
		s.die(c)
		return ErrCrashed
	}
	err := f()
	if c.N == s.plan.At {
		s.die(c)
		return ErrCrashed
	}
	if err == nil && s.Dead() {
		return ErrCrashed
	}
	return err
}

func (s *Store) Accept(ctx context.Context, r store.Run, rs ...store.Record) (out store.Run, l store.Lease, err error) {
	err = s.commit("Accept", r.ID, rs, func() (e error) {
		out, l, e = s.Store.Accept(ctx, r, rs...)
		return e
	})
	return out, l, err
}

func (s *Store) Append(ctx context.Context, l store.Lease, st store.State, reason string, wake time.Time, rs ...store.Record) error {
	return s.commit("Append", l.Run, rs, func() error { return s.Store.Append(ctx, l, st, reason, wake, rs...) })
}

func (s *Store) Rearm(ctx context.Context, id store.RunID, worker string, rs ...store.Record) (out store.Run, l store.Lease, err error) {
	err = s.commit("Rearm", id, rs, func() (e error) {
		out, l, e = s.Store.Rearm(ctx, id, worker, rs...)
		return e
	})
	return out, l, err
}

func (s *Store) Deliver(ctx context.Context, e store.Event) (woken int, err error) {
	err = s.commit("Deliver", 0, nil, func() (err error) {
		woken, err = s.Store.Deliver(ctx, e)
		return err
	})
	return woken, err
}

func (s *Store) Publish(ctx context.Context, ms ...store.Message) error {
	return s.commit("Publish", 0, nil, func() error { return s.Store.Publish(ctx, ms...) })
}

func (s *Store) Published(ctx context.Context, seqs ...int64) error {
	return s.commit("Published", 0, nil, func() error { return s.Store.Published(ctx, seqs...) })
}
