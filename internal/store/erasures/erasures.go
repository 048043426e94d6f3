// Package erasures keeps the list of destroyed persons' keys in a file beside the
// data folder, never in it: it only grows, and it must survive what a backup is
// restored after (semantics 10.5). A line is an instant, a look-up token and a
// key's id, and tells nobody whose they were.
package erasures

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/dime-bus/dime/internal/store"
)

const head = "# Keys of persons that were destroyed: instant, token, key. Keep this file apart from the backups;\n# dime restore destroys these keys again. Only dime adds lines.\n"

// Beside is the list of a data folder.
func Beside(data string) (string, error) {
	abs, err := filepath.Abs(data)
	if err != nil {
		return "", fmt.Errorf("finding the list of erasures: %w", err)
	}
	return abs + ".erasures", nil
}

// File is a list on disk. It may be used by many goroutines of one process.
type File struct {
	path string
	mu   sync.Mutex
	f    file
	size int64
	torn error // why the file's end is not to be relied on
}

// file is what is needed of an os.File.
type file interface {
	io.StringWriter
	io.Closer
	Sync() error
	Truncate(size int64) error
}

// Open opens the list, or makes an empty one. What a crash left of a last line is
// cut off: its erasure had not been done.
func Open(path string) (_ *File, err error) {
	_, statErr := os.Stat(path)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the list of erasures: %w", err)
	}
	l := &File{path: path, f: f}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if errors.Is(statErr, fs.ErrNotExist) {
		if err := l.write(head); err != nil {
			return nil, err
		}
		if err := syncFolder(filepath.Dir(path)); err != nil {
			return nil, fmt.Errorf("making the list of erasures %s: %w", path, err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the list of erasures: %w", err)
	}
	if whole := bytes.LastIndexByte(b, '\n') + 1; whole < len(b) {
		if err := f.Truncate(int64(whole)); err != nil {
			return nil, fmt.Errorf("cutting a torn line off the list of erasures %s: %w", path, err)
		}
		b = b[:whole]
	}
	l.size = int64(len(b))
	if _, err := parse(path, b); err != nil {
		return nil, err
	}
	return l, nil
}

// Read gives the lines of a list without opening it for more.
func Read(path string) ([]store.Erasure, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the list of erasures: %w", err)
	}
	return parse(path, b[:bytes.LastIndexByte(b, '\n')+1])
}

// Add implements store.Erasures.
func (l *File) Add(es ...store.Erasure) error {
	var b strings.Builder
	for _, e := range es {
		fmt.Fprintf(&b, "%s %x %x\n", e.At.UTC().Format(time.RFC3339), e.Token, e.Key)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.write(b.String())
}

func (l *File) write(s string) error {
	if l.torn != nil {
		return l.torn
	}
	_, err := l.f.WriteString(s)
	if err == nil {
		err = l.f.Sync()
	}
	if err == nil {
		l.size += int64(len(s))
		return nil
	}
	err = fmt.Errorf("adding to the list of erasures %s: %w", l.path, err)
	// Half a line at the end would make one with the next.
	if terr := l.f.Truncate(l.size); terr != nil {
		l.torn = fmt.Errorf("the list of erasures %s takes nothing more until dime starts again: %w", l.path, errors.Join(err, terr))
		return l.torn
	}
	return err
}

// All implements store.Erasures.
func (l *File) All() ([]store.Erasure, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Read(l.path)
}

// Close gives the file back.
func (l *File) Close() error { return l.f.Close() }

func parse(path string, b []byte) ([]store.Erasure, error) {
	var out []store.Erasure
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		e, ok := parseLine(line)
		if !ok {
			return nil, fmt.Errorf("reading the list of erasures: %s:%d is not an instant, a token and a key; put back the file as dime wrote it", path, n)
		}
		out = append(out, e)
	}
	return out, nil
}

func parseLine(line string) (e store.Erasure, ok bool) {
	fields := strings.Fields(line)
	if len(fields) != 3 {
		return e, false
	}
	at, err := time.Parse(time.RFC3339, fields[0])
	if err != nil {
		return e, false
	}
	token, terr := hex.DecodeString(fields[1])
	key, kerr := hex.DecodeString(fields[2])
	if terr != nil || kerr != nil || len(token) != len(e.Token) || len(key) != len(e.Key) {
		return e, false
	}
	return store.Erasure{Token: [16]byte(token), Key: [8]byte(key), At: at}, true
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
