package serial

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/dime-bus/dime/internal/store"
)

// Owner is the table of Shared.
const Owner = "engine.numbers"

// Locker gives a name to one process at a time.
type Locker interface {
	Lock(ctx context.Context, name string) (unlock func(), err error)
}

// Shared is the numbers of processes that share a store, on any number of machines.
type Shared struct {
	table store.Table
	lock  Locker

	mu   sync.Mutex
	turn map[string]chan struct{}
}

// NewShared keeps the numbers in a table of the name Owner.
func NewShared(t store.Table, l Locker) *Shared {
	return &Shared{table: t, lock: l, turn: map[string]chan struct{}{}}
}

// Next is as that of Numbers. Where the connection to the store breaks while f is
// at work, another process may begin with the next number before f is over.
func (n *Shared) Next(ctx context.Context, series string, floor int64, f func(ctx context.Context, number int64) error) error {
	if !form.MatchString(series) {
		return badName(series)
	}
	n.mu.Lock()
	turn := n.turn[series]
	if turn == nil {
		turn = make(chan struct{}, 1)
		n.turn[series] = turn
	}
	n.mu.Unlock()
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-turn }()
	unlock, err := n.lock.Lock(ctx, "serial."+series)
	if err != nil {
		return fmt.Errorf("taking a number of %s: %w", series, err)
	}
	defer unlock()
	var number int64
	err = n.table.Update(ctx, series, func(old []byte) ([]byte, error) {
		number = max(1, floor)
		if len(old) == 8 {
			number = max(int64(binary.BigEndian.Uint64(old))+1, floor, 1) //nolint:gosec // we wrote it: it fits
		}
		return binary.BigEndian.AppendUint64(nil, uint64(number)), nil //nolint:gosec // not negative
	})
	if err != nil {
		return fmt.Errorf("taking a number of %s: %w", series, err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return f(ctx, number)
}

func badName(series string) error {
	return fmt.Errorf("taking a number: the series %q has a name of other characters than letters, digits, '.', '_' and '-'", series)
}
