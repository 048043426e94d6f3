package run

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/store"
)

// flaky is a store whose disk is full whenever the world says so.
type flaky struct {
	store.Store
	w *world
}

func (f flaky) no(op string, s store.State, rs []store.Record) error {
	if f.w.refuse == nil {
		return nil
	}
	return f.w.refuse(op, s, rs)
}

func (f flaky) Accept(ctx context.Context, r store.Run, rs ...store.Record) (store.Run, store.Lease, error) {
	if err := f.no("accept", r.State, rs); err != nil {
		return store.Run{}, store.Lease{}, err
	}
	return f.Store.Accept(ctx, r, rs...)
}

func (f flaky) Append(ctx context.Context, l store.Lease, s store.State, reason string, wake time.Time, rs ...store.Record) error {
	if err := f.no("append", s, rs); err != nil {
		return err
	}
	return f.Store.Append(ctx, l, s, reason, wake, rs...)
}

func (f flaky) Fire(ctx context.Context, route string, at time.Time) (bool, error) {
	if err := f.no("fire", "", nil); err != nil {
		return false, err
	}
	return f.Store.Fire(ctx, route, at)
}

func (f flaky) Renew(ctx context.Context, ls ...store.Lease) ([]store.Lease, error) {
	if err := f.no("renew", "", nil); err != nil {
		return nil, err
	}
	return f.Store.Renew(ctx, ls...)
}

func (f flaky) Claim(ctx context.Context, worker string, n int) ([]store.Run, []store.Lease, error) {
	if f.w.noClaims.Load() {
		return nil, nil, store.ErrFull
	}
	return f.Store.Claim(ctx, worker, n)
}

// lines counts what is logged at a level.
type lines struct {
	slog.Handler
	n     *atomic.Int64
	level slog.Level
}

func (l lines) Enabled(context.Context, slog.Level) bool { return true }

func (l lines) Handle(_ context.Context, r slog.Record) error {
	if r.Level == l.level {
		l.n.Add(1)
	}
	return nil
}

// A store that fails for an hour is one line in the log, is seen from outside, and
// what waited goes on when it works again.
func TestFailingStoreIsSaidOnce(t *testing.T) {
	w := newWorldBare(t, "route: r\nfrom: {http: POST /v1/r}\nsteps:\n  - reply: 202\n  - delay: 1m\n")
	var errors atomic.Int64
	w.cfg.Log = slog.New(lines{slog.DiscardHandler, &errors, slog.LevelError})
	w.boot()
	ch := w.e.Ask(context.Background(), http("r", map[string]any{}))
	w.clock.Settle()
	w.noClaims.Store(true)
	w.pass(time.Hour)
	if err := w.e.Failing(); err == nil || errors.Load() != 1 {
		t.Errorf("failing: %v; %d lines in the log", err, errors.Load())
	}
	w.noClaims.Store(false)
	w.pass(10 * time.Second)
	if err := w.e.Failing(); err != nil || w.states() != "done" {
		t.Errorf("afterwards: %v, %s", err, w.states())
	}
	<-ch
}
