// Package occurrence says when timers fire and delays end (semantics 5.6, 5.7).
package occurrence

import (
	"errors"
	"sync"
	"time"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/pipeline/language"
)

// After gives a trigger's first firing after an instant.
func After(tr language.Trigger, zone *time.Location) (func(time.Time) time.Time, error) {
	if tr.Kind == language.Every {
		if tr.Every <= 0 {
			return nil, errors.New("`every` needs a positive duration")
		}
		return func(t time.Time) time.Time { return t.Add(tr.Every) }, nil
	}
	c, err := clock.ParseCron(tr.Cron)
	if err != nil {
		return nil, err
	}
	if zone == nil {
		zone = time.UTC
	}
	return func(t time.Time) time.Time { return c.Next(t, zone) }, nil
}

// Missed is the last occurrence in (after, now]; zero if none.
func Missed(next func(time.Time) time.Time, after, now time.Time) (at time.Time) {
	// Years of downtime at a minute's pattern are not walked: two days suffice to
	// find the latest one of any pattern that fires daily.
	if from := now.Add(-49 * time.Hour); from.After(after) && !next(from).After(now) {
		after = from
	}
	for {
		t := next(after)
		if t.IsZero() || t.After(now) {
			return at
		}
		at, after = t, t
	}
}

// Set is the occurrences that this process is at work on; its zero value is ready.
type Set struct {
	mu sync.Mutex
	by map[string]map[time.Time]bool
}

// Begin says whether nobody in this process is at work on an occurrence yet.
func (s *Set) Begin(key string, at time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by == nil {
		s.by = map[string]map[time.Time]bool{}
	}
	if s.by[key] == nil {
		s.by[key] = map[time.Time]bool{}
	}
	if s.by[key][at] {
		return false
	}
	s.by[key][at] = true
	return true
}

// End lets go of an occurrence.
func (s *Set) End(key string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.by[key], at)
}

// Latest says whether no later occurrence of the key is at work.
func (s *Set) Latest(key string, at time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for o := range s.by[key] {
		if o.After(at) {
			return false
		}
	}
	return true
}
