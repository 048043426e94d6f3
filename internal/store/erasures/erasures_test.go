package erasures_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/erasures"
)

func erasure(n byte) store.Erasure {
	return store.Erasure{Token: [16]byte{n, 1}, Key: [8]byte{n, 2}, At: time.Date(2026, 11, 24, 8, 0, int(n), 0, time.UTC)}
}

func open(t *testing.T, path string) *erasures.File {
	t.Helper()
	l, err := erasures.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestTheListOutlivesItsProcessAndATornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data.erasures")
	l := open(t, path)
	if err := l.Add(erasure(1), erasure(2)); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("2026-11-24T08:0"); err != nil { // the process died here
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, path)
	if err := l.Add(erasure(3)); err != nil {
		t.Fatal(err)
	}
	got, err := open(t, path).All()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]store.Erasure{erasure(1), erasure(2), erasure(3)}, got); d != "" {
		t.Fatal(d)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", st.Mode(), err)
	}
}

func TestADamagedListIsRefusedAtItsLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data.erasures")
	for _, line := range []string{"yesterday 00 00", "2026-11-24T08:00:00Z 00", "2026-11-24T08:00:00Z " + strings.Repeat("z", 32) + " " + strings.Repeat("0", 16)} {
		if err := os.WriteFile(path, []byte("# head\n"+line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := erasures.Open(path); err == nil || !strings.Contains(err.Error(), path+":2") {
			t.Errorf("%q: %v", line, err)
		}
	}
}
