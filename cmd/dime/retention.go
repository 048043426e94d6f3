package main

import (
	"context"
	"time"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/store"
)

// Retention (semantics 10.6): what it deletes at a time, how often it looks, and
// how long runs are kept whose route is gone.
const (
	retentionPage  = 500
	retentionEvery = time.Hour
	retentionElse  = 90 * 24 * time.Hour
)

// retain deletes what has been kept long enough, until ctx ends.
func (s *server) retain(ctx context.Context) {
	for {
		pause := retentionEvery
		n, err := s.expire(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			s.log.Warn("deleting what has been kept long enough", "error", err)
		case n > 0:
			pause = 50 * time.Millisecond // in batches between the runs' commits
		}
		if clock.Sleep(ctx, clock.Real{}, pause) != nil {
			return
		}
	}
}

// expire deletes one batch of everything.
func (s *server) expire(ctx context.Context) (n int, err error) {
	now := time.Now()
	keep := store.Keep{Routes: map[string]time.Time{}, Other: now.Add(-retentionElse)}
	inForce := map[string]bool{}
	for _, r := range s.engine.Routes() {
		keep.Routes[r.Route.Name] = now.AddDate(0, 0, -r.Route.Keep.Days).Add(-r.Route.Keep.Elapsed)
		inForce[r.Digest] = true
	}
	if n, err = s.store.Expire(ctx, keep, retentionPage); err != nil {
		return n, err
	}
	if s.documents != nil {
		drafts, err := s.documents.Expire(ctx, retentionPage)
		if n += drafts; err != nil {
			return n, err
		}
	}
	if n == 0 {
		_, err = s.store.DropVersions(ctx, inForce)
	}
	return n, err
}
