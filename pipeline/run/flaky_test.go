package run

import (
	"context"
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
