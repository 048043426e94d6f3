package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/backup"
	"github.com/dime-bus/dime/internal/store/erasures"
	"github.com/dime-bus/dime/internal/store/sqlite"
)

// master is the key of every store here; a backup must not hold it.
func master() []byte { return bytes.Repeat([]byte("master key "), 3) }

type place struct {
	dir, data string
	list      *erasures.File
}

func newPlace(t *testing.T) place {
	t.Helper()
	dir := t.TempDir()
	l, err := erasures.Open(filepath.Join(dir, "data.erasures"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	p := place{dir, filepath.Join(dir, "data"), l}
	for name, text := range map[string]string{"data/numbers/anpr": "7", "data/seal/seal.key": "key", "data/city/arrivals.jsonl": "{}", "data.master-key": string(master())} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p place) open(t *testing.T, data string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(context.Background(), sqlite.Options{Path: filepath.Join(data, backup.Database), MasterKey: master(), Erasures: p.list})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func accept(t *testing.T, s *sqlite.Store, subject string) store.RunID {
	t.Helper()
	ctx := context.Background()
	id, err := s.Reserve(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	r := store.Run{ID: id, Version: "v", Route: "r", State: store.Waiting, Head: []byte(`{"req":1}`)}
	if subject != "" {
		r.Subjects = []string{subject}
	}
	if _, _, err := s.Accept(ctx, r, store.Record{Kind: store.Result, Path: "a", Body: []byte(`{"v":"secret"}`)}); err != nil {
		t.Fatal(err)
	}
	return id
}

func write(t *testing.T, p place, name string) (string, backup.Manifest) {
	t.Helper()
	file := filepath.Join(p.dir, name)
	m, err := backup.Write(context.Background(), p.data, file, "test")
	if err != nil {
		t.Fatal(err)
	}
	return file, m
}

// What a backup promises: the whole folder but the keys, in one state.
func TestABackupOfALiveStoreComesBack(t *testing.T) {
	p := newPlace(t)
	s := p.open(t, p.data)
	id := accept(t, s, "ann")
	file, m := write(t, p, "one.backup")
	var names []string
	for _, f := range m.Files {
		names = append(names, f.Name)
	}
	if d := cmp.Diff([]string{"dime.db", "numbers/anpr", "seal/seal.key"}, names); d != "" {
		t.Fatal(d)
	}
	if m.Runs != 1 || m.Live != 1 || m.Schema != sqlite.SchemaVersion {
		t.Fatalf("%+v", m)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b, master()) || bytes.Contains(b, []byte("secret")) {
		t.Fatal("the backup holds the master key, or what it seals")
	}
	later := accept(t, s, "ann")

	to := filepath.Join(p.dir, "again")
	if _, err := backup.Restore(context.Background(), file, to, nil); err != nil {
		t.Fatal(err)
	}
	r := p.open(t, to)
	if _, rs, err := r.Load(context.Background(), id); err != nil || !strings.Contains(string(rs[0].Body), "secret") {
		t.Fatalf("%v, %v", rs, err)
	}
	if _, _, err := r.Load(context.Background(), later); !errors.Is(err, store.ErrNoRun) {
		t.Fatalf("a run from after the backup: %v", err)
	}
	// That number was given, and the far sides have seen the keys made from it.
	if next := accept(t, r, "bob"); next <= later {
		t.Fatalf("after the restore a run gets the number %d, and %d was given before", next, later)
	}
	if b, err := os.ReadFile(filepath.Join(to, "numbers", "anpr")); err != nil || string(b) != "7" {
		t.Fatalf("%q, %v", b, err)
	}
}

// Semantics 10.5: a restore brings no destroyed key back.
func TestAPersonErasedAfterTheBackupStaysErased(t *testing.T) {
	p := newPlace(t)
	s := p.open(t, p.data)
	ctx := context.Background()
	ann, bob := accept(t, s, "ann"), accept(t, s, "bob")
	file, _ := write(t, p, "one.backup")
	if err := s.Erase(ctx, "ann"); err != nil {
		t.Fatal(err)
	}
	came := accept(t, s, "ann") // she came back, with another key
	second, _ := write(t, p, "two.backup")

	for _, c := range []struct {
		file   string
		gone   []store.RunID
		stands []store.RunID
	}{
		{file, []store.RunID{ann}, []store.RunID{bob}},
		{second, []store.RunID{ann}, []store.RunID{bob, came}},
	} {
		to := filepath.Join(t.TempDir(), "data")
		if _, err := backup.Restore(ctx, c.file, to, nil); err != nil {
			t.Fatal(err)
		}
		for range 2 { // and after each restart
			r := p.open(t, to)
			for _, id := range c.gone {
				if _, rs, err := r.Load(ctx, id); !errors.Is(err, store.ErrErased) || len(rs[0].Body) > 0 {
					t.Fatalf("run %d of who was erased: %v", id, err)
				}
			}
			for _, id := range c.stands {
				if _, _, err := r.Load(ctx, id); err != nil {
					t.Fatalf("run %d: %v", id, err)
				}
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
		}
		// The control: without the list the key is back.
		q := newPlace(t)
		to = filepath.Join(t.TempDir(), "data")
		if _, err := backup.Restore(ctx, file, to, nil); err != nil {
			t.Fatal(err)
		}
		if _, _, err := q.open(t, to).Load(ctx, ann); err != nil {
			t.Fatalf("without the list nothing destroys the key: %v", err)
		}
	}
}

// While runs are accepted: one state, with all that was accepted before it.
func TestABackupUnderLoadIsWhole(t *testing.T) {
	p := newPlace(t)
	s := p.open(t, p.data)
	ctx, stop := context.WithCancel(context.Background())
	var done atomic.Int64
	ended := make(chan error, 4)
	for w := range 4 {
		go func() {
			for i := 0; ctx.Err() == nil; i++ {
				id, err := s.Reserve(context.Background(), 1)
				if err == nil {
					_, _, err = s.Accept(context.Background(), store.Run{ID: id, Version: "v", Route: "r", State: store.Waiting, Subjects: []string{fmt.Sprint(w, i%50)}},
						store.Record{Kind: store.Result, Path: "a", Body: bytes.Repeat([]byte("x"), 2000)})
				}
				if err != nil {
					ended <- err
					return
				}
				done.Add(1)
			}
			ended <- nil
		}()
	}
	for end := time.Now().Add(time.Minute); done.Load() < 200 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	for i := range 3 {
		before := done.Load()
		file, m := write(t, p, fmt.Sprintf("%d.backup", i))
		if m.Runs < before {
			t.Errorf("%d runs were accepted before the backup, and it holds %d", before, m.Runs)
		}
		if _, err := backup.Verify(file); err != nil {
			t.Error(err)
		}
	}
	stop()
	for range 4 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestARestoreRefuses(t *testing.T) {
	p := newPlace(t)
	s := p.open(t, p.data)
	accept(t, s, "ann")
	file, _ := write(t, p, "one.backup")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if _, err := backup.Restore(ctx, file, p.data, nil); !errors.Is(err, backup.ErrNotEmpty) {
		t.Errorf("into a folder in use: %v", err)
	}
	if _, err := backup.Write(ctx, p.data, file, "test"); err == nil {
		t.Error("a second backup replaced the first")
	}
	flipped := bytes.Clone(whole)
	flipped[len(flipped)/2] ^= 1
	for name, b := range map[string][]byte{"torn": whole[:len(whole)/2], "flipped": flipped, "empty": nil, "other": []byte("hello")} {
		bad := filepath.Join(p.dir, name)
		if err := os.WriteFile(bad, b, 0o600); err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(p.dir, name+"-data")
		if _, err := backup.Restore(ctx, bad, to, nil); err == nil {
			t.Errorf("a backup that is %s was restored", name)
		}
		if _, err := os.Stat(to); !os.IsNotExist(err) {
			t.Errorf("a restore that failed left %s: %v", to, err)
		}
	}
	left, err := filepath.Glob(filepath.Join(p.dir, ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
