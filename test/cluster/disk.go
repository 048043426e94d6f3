//go:build linux

package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// CanMount says whether a folder can be given a small disk of its own here.
func CanMount(dir string) error {
	if os.Geteuid() != 0 {
		return errors.New("only root can mount a small disk")
	}
	if err := mount(dir, 1); err != nil {
		return err
	}
	return syscall.Unmount(dir, syscall.MNT_DETACH)
}

func mount(dir string, mib int) error {
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mib)); err != nil {
		return fmt.Errorf("mounting a small disk: %w", err)
	}
	return nil
}

// SmallDisk gives dir, which is made if it is missing, a disk of its own of so many
// MiB, until unmount.
func SmallDisk(dir string, mib int) (unmount func() error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making a small disk's folder: %w", err)
	}
	if err := mount(dir, mib); err != nil {
		return nil, err
	}
	return func() error { return syscall.Unmount(dir, syscall.MNT_DETACH) }, nil
}

// DiskLeft is how many bytes dir's disk still takes.
func DiskLeft(dir string) (int64, error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return 0, fmt.Errorf("looking at the small disk: %w", err)
	}
	return int64(fs.Bavail) * fs.Bsize, nil //nolint:gosec // a small disk's blocks
}

// FillDisk puts somebody else's file on dir's disk that leaves so many bytes, until
// free. dir must be on a small disk.
func FillDisk(dir string, leave int64) (free func() error, err error) {
	left, err := DiskLeft(dir)
	if err != nil {
		return nil, err
	}
	room := left - leave
	if room > 1<<30 {
		return nil, fmt.Errorf("filling a disk: %s has %d MiB of room, so it is no small one", dir, room>>20)
	}
	name := filepath.Join(dir, "filler")
	// Who else writes to the disk may have been faster.
	if err := os.WriteFile(name, make([]byte, max(room, 0)), 0o600); err != nil && !errors.Is(err, syscall.ENOSPC) {
		return nil, fmt.Errorf("filling a disk: %w", errors.Join(err, os.Remove(name)))
	}
	return func() error { return os.Remove(name) }, nil
}
