package crash

import (
	"context"
	"time"

	"github.com/dime-bus/dime/internal/store"
)

// What follows is not counted: it loses nothing of a run when it is lost. Each
// method fails once the process has died.

func (s *Store) Reserve(ctx context.Context, n int) (store.RunID, error) {
	if err := s.alive(); err != nil {
		return 0, err
	}
	return s.Store.Reserve(ctx, n)
}

func (s *Store) Claim(ctx context.Context, worker string, max int) ([]store.Run, []store.Lease, error) {
	if err := s.alive(); err != nil {
		return nil, nil, err
	}
	return s.Store.Claim(ctx, worker, max)
}

func (s *Store) ClaimOne(ctx context.Context, worker string, id store.RunID) (store.Run, store.Lease, error) {
	if err := s.alive(); err != nil {
		return store.Run{}, store.Lease{}, err
	}
	return s.Store.ClaimOne(ctx, worker, id)
}

func (s *Store) Renew(ctx context.Context, ls ...store.Lease) ([]store.Lease, error) {
	if err := s.alive(); err != nil {
		return nil, err
	}
	return s.Store.Renew(ctx, ls...)
}

func (s *Store) Release(ctx context.Context, ls ...store.Lease) error {
	if err := s.alive(); err != nil {
		return err
	}
	return s.Store.Release(ctx, ls...)
}

func (s *Store) NextDue(ctx context.Context) (time.Time, bool, error) {
	if err := s.alive(); err != nil {
		return time.Time{}, false, err
	}
	return s.Store.NextDue(ctx)
}

// Wake never receives after the crash; it is fed by OnWake so that a dead
// process cannot steal the value from the one that resumes.
func (s *Store) Wake() <-chan struct{} {
	s.once.Do(func() {
		s.OnWake(func() {
			select {
			case s.wake <- struct{}{}:
			default:
			}
		})
	})
	return s.wake
}

func (s *Store) OnWake(f func()) func() {
	return s.hook(s.Store.OnWake(func() {
		if !s.Dead() {
			f()
		}
	}))
}

func (s *Store) OnReady(queue string, f func()) func() {
	return s.hook(s.Store.OnReady(queue, func() {
		if !s.Dead() {
			f()
		}
	}))
}

func (s *Store) Ready(queue string) <-chan struct{} {
	s.mu.Lock()
	c, ok := s.ready[queue]
	if !ok {
		c = make(chan struct{}, 1)
		s.ready[queue] = c
	}
	s.mu.Unlock()
	if !ok {
		s.OnReady(queue, func() {
			select {
			case c <- struct{}{}:
			default:
			}
		})
	}
	return c
}

func (s *Store) hook(stop func()) func() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		stop()
		return func() {}
	}
	s.stop = append(s.stop, stop)
	return stop
}

func (s *Store) Load(ctx context.Context, id store.RunID) (store.Run, []store.Record, error) {
	if err := s.alive(); err != nil {
		return store.Run{}, nil, err
	}
	return s.Store.Load(ctx, id)
}

func (s *Store) Find(ctx context.Context, f store.Filter) ([]store.Run, error) {
	if err := s.alive(); err != nil {
		return nil, err
	}
	return s.Store.Find(ctx, f)
}

func (s *Store) OnceRun(ctx context.Context, scope, key string) (store.RunID, []byte, bool, error) {
	if err := s.alive(); err != nil {
		return 0, nil, false, err
	}
	return s.Store.OnceRun(ctx, scope, key)
}

func (s *Store) Candidates(ctx context.Context, run store.RunID, path string) ([]store.Candidate, error) {
	if err := s.alive(); err != nil {
		return nil, err
	}
	return s.Store.Candidates(ctx, run, path)
}

func (s *Store) Reindex(ctx context.Context, eventType, shape string, keys func([]byte) []store.EventKey) error {
	if err := s.alive(); err != nil {
		return err
	}
	return s.Store.Reindex(ctx, eventType, shape, keys)
}

func (s *Store) Outbox(ctx context.Context, max int) ([]store.OutboxRow, error) {
	if err := s.alive(); err != nil {
		return nil, err
	}
	return s.Store.Outbox(ctx, max)
}

func (s *Store) Postpone(ctx context.Context, seq int64, until time.Time) error {
	if err := s.alive(); err != nil {
		return err
	}
	return s.Store.Postpone(ctx, seq, until)
}

func (s *Store) Fire(ctx context.Context, route string, at time.Time) (bool, error) {
	if err := s.alive(); err != nil {
		return false, err
	}
	return s.Store.Fire(ctx, route, at)
}

func (s *Store) LastFired(ctx context.Context, route string) (time.Time, bool, error) {
	if err := s.alive(); err != nil {
		return time.Time{}, false, err
	}
	return s.Store.LastFired(ctx, route)
}

func (s *Store) PutVersion(ctx context.Context, v store.Version) error {
	if err := s.alive(); err != nil {
		return err
	}
	return s.Store.PutVersion(ctx, v)
}

func (s *Store) GetVersion(ctx context.Context, digest string) (store.Version, error) {
	if err := s.alive(); err != nil {
		return store.Version{}, err
	}
	return s.Store.GetVersion(ctx, digest)
}

func (s *Store) ListVersions(ctx context.Context, route string) ([]store.Version, error) {
	if err := s.alive(); err != nil {
		return nil, err
	}
	return s.Store.ListVersions(ctx, route)
}

func (s *Store) DropVersions(ctx context.Context, keep map[string]bool) (int, error) {
	if err := s.alive(); err != nil {
		return 0, err
	}
	return s.Store.DropVersions(ctx, keep)
}

func (s *Store) PutBlob(ctx context.Context, b []byte) (string, error) {
	if err := s.alive(); err != nil {
		return "", err
	}
	return s.Store.PutBlob(ctx, b)
}

func (s *Store) GetBlob(ctx context.Context, digest string) ([]byte, error) {
	if err := s.alive(); err != nil {
		return nil, err
	}
	return s.Store.GetBlob(ctx, digest)
}

func (s *Store) Bind(ctx context.Context, queue string, topics ...string) error {
	if err := s.alive(); err != nil {
		return err
	}
	return s.Store.Bind(ctx, queue, topics...)
}

func (s *Store) Receive(ctx context.Context, queue string, max int) ([]store.Message, error) {
	if err := s.alive(); err != nil {
		return nil, err
	}
	return s.Store.Receive(ctx, queue, max)
}

func (s *Store) Settle(ctx context.Context, acks ...store.Ack) error {
	if err := s.alive(); err != nil {
		return err
	}
	return s.Store.Settle(ctx, acks...)
}

func (s *Store) Again(ctx context.Context, a store.Ack, due time.Time) error {
	if err := s.alive(); err != nil {
		return err
	}
	return s.Store.Again(ctx, a, due)
}

func (s *Store) Unreceive(ctx context.Context, acks ...store.Ack) error {
	if err := s.alive(); err != nil {
		return err
	}
	return s.Store.Unreceive(ctx, acks...)
}

func (s *Store) ParkMessage(ctx context.Context, a store.Ack, reason string) error {
	if err := s.alive(); err != nil {
		return err
	}
	return s.Store.ParkMessage(ctx, a, reason)
}

func (s *Store) Parked(ctx context.Context, queue string) ([]store.Message, error) {
	if err := s.alive(); err != nil {
		return nil, err
	}
	return s.Store.Parked(ctx, queue)
}

func (s *Store) Unpark(ctx context.Context, a store.Ack) error {
	if err := s.alive(); err != nil {
		return err
	}
	return s.Store.Unpark(ctx, a)
}

func (s *Store) Depth(ctx context.Context, queue string) (int, error) {
	if err := s.alive(); err != nil {
		return 0, err
	}
	return s.Store.Depth(ctx, queue)
}

func (s *Store) Log(ctx context.Context, topic string, after int64, max int) ([]store.Message, error) {
	if err := s.alive(); err != nil {
		return nil, err
	}
	return s.Store.Log(ctx, topic, after, max)
}

func (s *Store) Erase(ctx context.Context, subject string) error {
	if err := s.alive(); err != nil {
		return err
	}
	return s.Store.Erase(ctx, subject)
}

func (s *Store) Expire(ctx context.Context, keep store.Keep, max int) (int, error) {
	if err := s.alive(); err != nil {
		return 0, err
	}
	return s.Store.Expire(ctx, keep, max)
}

// Close of a crashed process does nothing: nobody was there to close.
func (s *Store) Close() error {
	if s.Dead() {
		return nil
	}
	return s.Store.Close()
}
