package erasures

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dime-bus/dime/internal/store"
)

// full is a file on a disk that takes half of what is written to it.
type full struct {
	file
	half, stuck bool
}

func (f *full) WriteString(s string) (int, error) {
	if !f.half {
		return f.file.WriteString(s)
	}
	n, err := f.file.WriteString(s[:len(s)/2])
	return n, errors.Join(err, errors.New("no space left"))
}

func (f *full) Truncate(n int64) error {
	if f.stuck {
		return errors.New("no truncation")
	}
	return f.file.Truncate(n)
}

// What a full disk leaves of a line spoils no other.
func TestAFullDiskLeavesNoHalfLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "list")
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	disk := &full{file: l.f, half: true}
	l.f = disk
	if err := l.Add(store.Erasure{Token: [16]byte{1}}); err == nil {
		t.Fatal("half a line counts as added")
	}
	disk.half = false
	if err := l.Add(store.Erasure{Token: [16]byte{2}}); err != nil {
		t.Fatal(err)
	}
	if es, err := l.All(); err != nil || len(es) != 1 || es[0].Token[0] != 2 {
		t.Fatalf("%v %v", es, err)
	}
	disk.half, disk.stuck = true, true
	if err := l.Add(store.Erasure{Token: [16]byte{3}}); err == nil {
		t.Fatal("half a line counts as added")
	}
	disk.half, disk.stuck = false, false
	if err := l.Add(store.Erasure{Token: [16]byte{4}}); err == nil || !strings.Contains(err.Error(), "starts again") {
		t.Fatalf("a line was added behind half of one: %v", err)
	}
	again, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if es, err := again.All(); err != nil || len(es) != 1 {
		t.Fatalf("%v %v", es, err)
	}
}
