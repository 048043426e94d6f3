package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// readyFile says to other programs that this one answers, and where. It is there
// while that is so, and at no other time: what an earlier process left behind,
// killed as it may have been, is gone before anything is loaded.
type readyFile struct {
	name  string // "" where nobody asked for one
	wrote []byte
}

// newReadyFile removes what lies under the names, the last of which is the one to
// write; an empty one counts for nothing.
func newReadyFile(names ...string) (*readyFile, error) {
	r := &readyFile{}
	for _, name := range names {
		if name == "" {
			continue
		}
		r.name = name
		info, err := os.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && info.IsDir() {
			return nil, fmt.Errorf("the ready file %s is a folder: give --ready-file another name", name)
		}
		if err == nil {
			err = os.Remove(name)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("removing the ready file %s that an earlier process left: %w", name, err)
		}
	}
	return r, nil
}

// write says that everything answers.
func (r *readyFile) write(u urls) error {
	if r.name == "" {
		return nil
	}
	b, err := json.Marshal(u)
	if err != nil {
		return err
	}
	r.wrote = append(b, '\n')
	return writeWhole(r.name, r.wrote, 0o644)
}

// withdraw takes the word back, unless another process has written its own there.
func (r *readyFile) withdraw() error {
	if r.wrote == nil {
		return nil
	}
	b, err := os.ReadFile(r.name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !bytes.Equal(b, r.wrote) {
		return nil
	}
	if err == nil {
		err = os.Remove(r.name)
	}
	if err != nil {
		return fmt.Errorf("removing the ready file %s: %w", r.name, err)
	}
	r.wrote = nil
	return nil
}
