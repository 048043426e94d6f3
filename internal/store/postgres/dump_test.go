package postgres_test

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/erasures"
	"github.com/dime-bus/dime/internal/store/postgres"
	"github.com/dime-bus/dime/test/cluster"
)

// tool is a program of the newest installed PostgreSQL.
func tool(t *testing.T, name string, args ...string) {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if err != nil || len(found) == 0 {
		t.Fatalf("%s of PostgreSQL is not installed (%v)", name, err)
	}
	slices.Sort(found)
	if out, err := exec.CommandContext(t.Context(), found[len(found)-1], args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// The steps of deploy/postgres/README.md: a dump of a database at work, an erasure
// after it, and the restore into another database.
func TestADumpIsRestoredAsDocumented(t *testing.T) {
	from, to := cluster.Postgres(t), cluster.Postgres(t)
	list, err := erasures.Open(filepath.Join(t.TempDir(), "list"))
	if err != nil {
		t.Fatal(err)
	}
	defer list.Close()
	o := options(from, nil)
	o.Erasures = list
	s := open(t, o)
	ctx := context.Background()
	accept := func(s *postgres.Store, subject string) (store.RunID, store.Lease) {
		t.Helper()
		id, err := s.Reserve(ctx, 1)
		if err != nil {
			t.Fatal(err)
		}
		_, l, err := s.Accept(ctx, store.Run{ID: id, Version: "v", Route: "r", State: store.Running, Subjects: []string{subject}}, store.Record{Kind: store.Intent, Path: "a", Body: []byte("1")})
		if err != nil {
			t.Fatal(err)
		}
		return id, l
	}
	gone, _ := accept(s, "one")
	stays, l := accept(s, "two")
	if err := s.Append(ctx, l, store.Waiting, "", time.Now(), store.Record{Kind: store.OutcomeRec, Path: "a", Body: []byte("2")}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "dime.dump")
	tool(t, "pg_dump", "--format=custom", "--schema=dime", "--file="+file, from)
	if err := s.Erase(ctx, "one"); err != nil {
		t.Fatal(err)
	}
	late, _ := accept(s, "three") // behind the dump: its effects have keys that a far side has seen
	tool(t, "pg_restore", "--exit-on-error", "--no-owner", "--dbname="+to, file)
	sql(t, to, "update dime.counter set value = value + 1000000000 where name = 'runs'")

	o.URL, o.Migrate = to, false
	back := open(t, o)
	if _, _, err := back.Load(ctx, gone); !errors.Is(err, store.ErrErased) {
		t.Fatalf("the erased person's run after the restore: %v", err)
	}
	if _, rs, err := back.Load(ctx, stays); err != nil || len(rs) != 2 || string(rs[1].Body) != "2" {
		t.Fatal(rs, err)
	}
	_, ls, err := back.Claim(ctx, "w", 10)
	if err != nil || !slices.ContainsFunc(ls, func(l store.Lease) bool { return l.Run == stays }) {
		t.Fatalf("what was due does not go on: %v, %v", ls, err)
	}
	if next, _ := accept(back, "four"); next <= late {
		t.Fatalf("run %d after the restore has a number that run %d had", next, late)
	}
	f, err := postgres.Look(ctx, to, nil)
	if err != nil || f.Schema != postgres.SchemaVersion || f.Denied != 0 || f.Live < 3 || len(f.Versions) != 1 || f.Ahead.Abs() > time.Minute || f.Workers < 1 {
		t.Fatalf("%+v, %v", f, err)
	}
}
