package sqlite_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/sqlite"
	"github.com/dime-bus/dime/internal/store/storetest"
)

func options(path string, c clock.Clock) sqlite.Options {
	return sqlite.Options{Path: path, Clock: c, MasterKey: bytes.Repeat([]byte{7}, 32)}
}

func open(t testing.TB, o sqlite.Options) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func harness(path func(t *testing.T) string) func(t *testing.T) storetest.Harness {
	return func(t *testing.T) storetest.Harness {
		c := clock.NewVirtual(storetest.Start())
		p := path(t)
		s := open(t, options(p, c))
		h := storetest.Harness{Store: s, Clock: c, Lease: 10 * time.Second}
		h.Reopen = func(t *testing.T) store.Store {
			var err error
			if s, err = s.Reopen(context.Background()); err != nil {
				t.Fatal(err)
			}
			return s
		}
		h.Full = func(t *testing.T) store.Store {
			o := options(path(t)+"-full", c)
			if p == sqlite.Memory {
				o.Path = sqlite.Memory
			}
			o.MaxPages = 120
			return open(t, o)
		}
		if p != sqlite.Memory {
			h.OpenWith = func(t *testing.T, master []byte) (store.Store, error) {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				o := options(p, c)
				o.MasterKey = master
				next, err := sqlite.Open(context.Background(), o)
				if err == nil {
					s = next
					t.Cleanup(func() { _ = next.Close() })
				}
				return next, err
			}
			h.AtRest = func(t *testing.T) []byte {
				var all []byte
				for _, name := range []string{p, p + "-wal"} {
					b, err := os.ReadFile(name)
					if err != nil {
						t.Fatal(err)
					}
					all = append(all, b...)
				}
				return all
			}
		}
		return h
	}
}

func TestContractInMemory(t *testing.T) {
	storetest.Run(t, harness(func(*testing.T) string { return sqlite.Memory }))
}

func TestContractInFile(t *testing.T) {
	storetest.Run(t, harness(func(t *testing.T) string { return filepath.Join(t.TempDir(), "dime.db") }))
}

func TestOneProcessOwnsAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dime.db")
	first := open(t, options(path, nil))
	_, err := sqlite.Open(context.Background(), options(path, nil))
	if err == nil || !strings.Contains(err.Error(), path+".lock") || !strings.Contains(err.Error(), "process ") {
		t.Fatalf("a second opening gave %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, options(path, nil))
}

func TestAnotherMasterKeyIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dime.db")
	if err := open(t, options(path, nil)).Close(); err != nil {
		t.Fatal(err)
	}
	for _, key := range [][]byte{bytes.Repeat([]byte{8}, 32), {1, 2}} {
		o := options(path, nil)
		o.MasterKey = key
		if s, err := sqlite.Open(context.Background(), o); err == nil {
			_ = s.Close()
			t.Fatalf("opened with the key %x", key)
		} else if !strings.Contains(err.Error(), "master key") {
			t.Fatal(err)
		}
	}
	open(t, options(path, nil))
}

func TestClosedStoreSaysSo(t *testing.T) {
	s := open(t, options(sqlite.Memory, nil))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	_, _, err := s.Accept(ctx, store.Run{ID: 1, State: store.Running})
	_, _, lerr := s.Load(ctx, 1)
	_, rerr := s.Reserve(ctx, 1)
	for _, err := range []error{err, lerr, rerr, s.Publish(ctx, store.Message{Topic: "t"}), s.Close()} {
		if err != nil && !strings.Contains(err.Error(), store.ErrClosed.Error()) {
			t.Fatal(err)
		}
	}
	if err == nil || lerr == nil || rerr == nil {
		t.Fatal("a closed store works on")
	}
}
