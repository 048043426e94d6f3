package postgres_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/erasures"
	"github.com/dime-bus/dime/test/cluster"
)

// A database that was put back as it was before an erasure gives nothing back.
func TestARestoreGivesBackNoDestroyedKey(t *testing.T) {
	u := cluster.Postgres(t)
	list, err := erasures.Open(filepath.Join(t.TempDir(), "list"))
	if err != nil {
		t.Fatal(err)
	}
	defer list.Close()
	o := options(u, nil)
	o.Erasures = list
	s := open(t, o)
	accept := func(subject string) store.RunID {
		t.Helper()
		id, err := s.Reserve(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Accept(t.Context(), store.Run{ID: id, Version: "v", Route: "r", State: store.Running, Subjects: []string{subject}}); err != nil {
			t.Fatal(err)
		}
		return id
	}
	gone, stays := accept("one"), accept("two")
	sql(t, u, "create table public.person as table dime.person") // the backup
	if err := s.Erase(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	back := accept("one")
	if rs, err := s.RunsOf(t.Context(), "one"); err != nil || len(rs) != 2 || rs[0].ID != gone || rs[1].ID != back {
		t.Fatal(rs, err)
	}
	sql(t, u, "create table public.later as table dime.person", "truncate dime.person", "insert into dime.person select * from public.person")
	s = open(t, o)
	for id, want := range map[store.RunID]error{gone: store.ErrErased, stays: nil} {
		if _, _, err := s.Load(t.Context(), id); !errors.Is(err, want) {
			t.Fatalf("run %d after the restore: %v, want %v", id, err, want)
		}
	}
	if d, err := s.Destroyed(t.Context()); err != nil || len(d) != 1 {
		t.Fatal(d, err)
	}
	// Who came back after the erasure is not erased again.
	sql(t, u, "truncate dime.person", "insert into dime.person select * from public.later")
	s = open(t, o)
	if _, _, err := s.Load(t.Context(), back); err != nil {
		t.Fatal(err)
	}
}
