// Package asks lets processes that share a store ask each other: a person's cancel
// reaches the process that owns the run.
package asks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/store"
)

// Owner is the table's.
const Owner = "engine.asks"

// Ask is a cancel that waits for the owner of its run.
type Ask struct {
	As, Reason string
	At         time.Time
	Answer     *Answer
}

// Answer is the owner's: it took the cancel, or Refused says why not.
type Answer struct{ Refused string }

// ErrNobody: the run's owner did not answer in time.
var ErrNobody = errors.New("the run's owner did not answer")

func key(id store.RunID) string { return fmt.Sprintf("%016x", int64(id)) }

// Put asks and waits for the answer until the deadline. Before each look it tries
// by itself: the owner may have let go of the run.
func Put(ctx context.Context, t store.Table, c clock.Clock, deadline time.Time, id store.RunID, a Ask, try func() (bool, error)) (*Answer, error) {
	b, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	if err := t.Update(ctx, key(id), func([]byte) ([]byte, error) { return b, nil }); err != nil {
		return nil, fmt.Errorf("asking a run's owner: %w", err)
	}
	answer, err := await(ctx, t, c, deadline, id, try)
	gone := t.Update(context.WithoutCancel(ctx), key(id), func([]byte) ([]byte, error) { return nil, nil })
	return answer, errors.Join(err, gone)
}

func await(ctx context.Context, t store.Table, c clock.Clock, deadline time.Time, id store.RunID, try func() (bool, error)) (*Answer, error) {
	for c.Now().Before(deadline) {
		if done, err := try(); done || err != nil {
			return nil, err
		}
		v, found, err := t.Get(ctx, key(id))
		var a Ask
		if err == nil && found {
			err = json.Unmarshal(v, &a)
		}
		if err != nil {
			return nil, fmt.Errorf("asking a run's owner: %w", err)
		}
		if a.Answer != nil {
			return a.Answer, nil
		}
		if err := clock.Sleep(ctx, c, 100*time.Millisecond); err != nil {
			return nil, err
		}
	}
	return nil, ErrNobody
}

// stale is when an ask was surely left behind by a process that died.
const stale = 10 * time.Minute

// Each hands what is asked to answer; nil leaves it for another process, or for
// whoever gets the run next.
func Each(ctx context.Context, t store.Table, now time.Time, answer func(store.RunID, Ask) *Answer) error {
	rows, err := t.List(ctx, "", "", 1000)
	if err != nil {
		return fmt.Errorf("reading what this process is asked for: %w", err)
	}
	var errs []error
	for _, row := range rows {
		var id int64
		var a Ask
		if _, err := fmt.Sscanf(row.Key, "%x", &id); err != nil || json.Unmarshal(row.Value, &a) != nil || now.Sub(a.At) > stale {
			errs = append(errs, t.Update(ctx, row.Key, func([]byte) ([]byte, error) { return nil, nil }))
			continue
		}
		if a.Answer != nil {
			continue
		}
		if a.Answer = answer(store.RunID(id), a); a.Answer == nil {
			continue
		}
		b, err := json.Marshal(a)
		if err == nil {
			err = t.Update(ctx, row.Key, func(old []byte) ([]byte, error) {
				if old == nil { // nobody waits any more
					return nil, nil
				}
				return b, nil
			})
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
