//go:build unix

package sqlite

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// lockFile is the exclusive lock beside the database. SQLite's own locks would
// let two processes take turns, and each would trust what it has in memory.
type lockFile struct{ f *os.File }

func lockBeside(path string) (*lockFile, error) {
	name := path + ".lock"
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the store %s: making its lock file: %w", path, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		b, _ := io.ReadAll(io.LimitReader(f, 32))
		_ = f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("opening the store %s: locking %s: %w", path, name, err)
		}
		who := "another process"
		if pid := strings.TrimSpace(string(b)); pid != "" {
			who = "process " + pid
		}
		return nil, fmt.Errorf("opening the store %s: %s holds %s; stop it, or give this one another --data", path, who, name)
	}
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(fmt.Sprintf("%d\n", os.Getpid())), 0)
	}
	return &lockFile{f}, nil
}

// release frees the lock; the file stays, for removing it would let a third
// process lock a file that a second one has already opened.
func (l *lockFile) release() {
	if l != nil {
		_ = l.f.Close()
	}
}
