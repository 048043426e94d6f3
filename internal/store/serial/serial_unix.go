//go:build unix

// Package serial gives numbers that leave one after the other, also among several
// processes of a machine: some far sides refuse a number that is lower than the
// last one that they saw.
package serial

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
)

// Numbers is a folder with one file for each series.
type Numbers struct {
	dir string

	mu   sync.Mutex
	turn map[string]chan struct{} // of this process's callers, by series
}

// Open makes the folder if it is missing.
func Open(dir string) (*Numbers, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening the series of numbers: %w", err)
	}
	return &Numbers{dir: dir, turn: map[string]chan struct{}{}}, nil
}

var form = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// Next calls f with a number above every one given before in the series, at least
// floor. The number is durable before f begins and is not given again whatever
// becomes of f, and no other caller's f of the series runs meanwhile, in no
// process. ctx ends the waiting for the turn among this process's callers.
func (n *Numbers) Next(ctx context.Context, series string, floor int64, f func(ctx context.Context, number int64) error) error {
	if !form.MatchString(series) {
		return badName(series)
	}
	turn := n.turnOf(series)
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-turn }()
	file, err := os.OpenFile(filepath.Join(n.dir, series), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("taking a number of %s: %w", series, err)
	}
	defer func() { _ = file.Close() }() // frees the lock; the number was synced
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("taking a number of %s: waiting for the other processes: %w", series, err)
	}
	number, err := advance(file, floor)
	if err != nil {
		return fmt.Errorf("taking a number of %s: %w", series, err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return f(ctx, number)
}

// advance replaces the number in the file by the next one: eight bytes in one
// write, which a crash leaves whole or as they were.
func advance(file *os.File, floor int64) (int64, error) {
	var b [8]byte
	_, err := file.ReadAt(b[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	next := max(int64(binary.BigEndian.Uint64(b[:]))+1, floor, 1) //nolint:gosec // we wrote it: it fits
	binary.BigEndian.PutUint64(b[:], uint64(next))                //nolint:gosec // not negative
	if _, err := file.WriteAt(b[:], 0); err != nil {
		return 0, err
	}
	return next, file.Sync()
}

func (n *Numbers) turnOf(series string) chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := n.turn[series]
	if t == nil {
		t = make(chan struct{}, 1)
		n.turn[series] = t
	}
	return t
}
