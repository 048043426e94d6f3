package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/postgres"
	"github.com/dime-bus/dime/internal/store/storetest"
	"github.com/dime-bus/dime/test/cluster"
)

// nextFiles are this binary's migrations and the next release's.
func nextFiles(t testing.TB) fs.FS {
	t.Helper()
	out := fstest.MapFS{}
	for _, dir := range []string{"migrations", "testdata/next"} {
		names, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			b, err := os.ReadFile(dir + "/" + n.Name())
			if err != nil {
				t.Fatal(err)
			}
			out[n.Name()] = &fstest.MapFile{Data: b}
		}
	}
	return out
}

// This binary on the schema of a later one: the part of the suite that reaches most.
func TestThePreviousBinaryRunsOnTheNextSchema(t *testing.T) {
	storetest.Several(t, harness(func(t testing.TB) string {
		return cluster.PostgresLike(t, cluster.Template{Name: "dime_next", Clean: clean, Fill: func(url string) error {
			return postgres.MigrateFiles(context.Background(), url, nextFiles(t))
		}})
	}))
}

// walk does what a city does with a store, once.
func walk(ctx context.Context, s *postgres.Store) error {
	id, err := s.Reserve(ctx, 1)
	if err != nil {
		return err
	}
	if err := errors.Join(s.PutVersion(ctx, store.Version{Digest: "v", Route: "r", Label: 1, Source: []byte("{}"), First: time.Now(), Last: time.Now()}),
		s.Bind(ctx, "q", "t")); err != nil {
		return err
	}
	_, l, err := s.Accept(ctx, store.Run{ID: id, Version: "v", Route: "r", State: store.Running, Subjects: []string{"RSSMRA80A01L736U"}, OrderKey: "k",
		Once: &store.Once{Scope: "s", Key: "k", Until: time.Now().Add(time.Hour)}}, store.Record{Kind: store.Intent, Path: "a", Body: []byte("1")})
	if err != nil {
		return err
	}
	if err := s.Append(ctx, l, store.Waiting, "", time.Time{}, store.Record{Kind: store.Rest, Path: "w", Body: []byte("2"),
		Wait: &store.Wait{Type: "t", Shape: "s", Key: "k"}, Outbox: []store.Outbox{{ID: "o", Topic: "t", Body: []byte("1")}}}); err != nil {
		return err
	}
	if n, err := s.Deliver(ctx, store.Event{ID: "e", Type: "t", Body: []byte("1"), Keys: []store.EventKey{{Shape: "s", Key: "k"}}}); err != nil || n != 1 {
		return fmt.Errorf("an event woke %d runs: %w", n, err)
	}
	if _, ls, err := s.Claim(ctx, "w", 1); err != nil || len(ls) != 1 {
		return fmt.Errorf("claimed %d runs: %w", len(ls), err)
	}
	if out, err := s.Outbox(ctx, 1); err != nil || len(out) != 1 {
		return fmt.Errorf("%d outbox rows: %w", len(out), err)
	}
	if err := s.Publish(ctx, store.Message{ID: "m", Topic: "t", Body: []byte("1")}); err != nil {
		return err
	}
	if ms, err := s.Receive(ctx, "q", 1); err != nil || len(ms) != 1 {
		return fmt.Errorf("received %d messages: %w", len(ms), err)
	}
	if r, rs, err := s.Load(ctx, id); err != nil || len(rs) != 2 || len(r.Subjects) != 1 {
		return fmt.Errorf("%d records: %w", len(rs), err)
	}
	return nil
}

// A later schema that does more than add is seen: by this, and so by the suite that
// TestThePreviousBinaryRunsOnTheNextSchema runs.
func TestAMigrationThatDoesMoreThanAddIsSeen(t *testing.T) {
	on := func(name string, statements ...string) error {
		files := nextFiles(t).(fstest.MapFS)
		files["99999_more.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\n" + strings.Join(statements, ";\n") + ";\n")}
		u := cluster.Postgres(t)
		if err := postgres.MigrateFiles(t.Context(), u, files); err != nil {
			t.Fatal(name, err)
		}
		o := options(u, nil)
		o.Migrate, o.Patience = false, 50*time.Millisecond
		s, err := postgres.Open(t.Context(), o)
		if err != nil {
			return err
		}
		defer s.Close()
		return walk(t.Context(), s)
	}
	if err := on("only adds", "select 1"); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		"alter table run drop column reason cascade",
		"alter table run rename column version to pinned",
		"alter table entry rename to record",
		"alter table entry add column bytes bigint not null",
		"alter table outbox alter column shard drop default",
		"alter table once add column owner text not null",
		"alter table event add constraint short check (length(type) < 1)",
		"drop function publish",
		"alter sequence epoch rename to generation",
	} {
		if err := on(sql, sql); err == nil {
			t.Errorf("the present binary runs on a schema where %q took place: nobody would see it", sql)
		}
	}
}

func TestASchemaThatDoesNotFitSaysWhatToDo(t *testing.T) {
	u := cluster.Postgres(t)
	o := options(u, nil)
	open(t, o) // migrates
	o.Migrate = false
	refused := func(want string) {
		t.Helper()
		s, err := postgres.Open(context.Background(), o)
		if err == nil {
			_ = s.Close()
			t.Fatal("opened")
		}
		if !strings.Contains(err.Error(), want) {
			t.Fatal(err)
		}
	}
	open(t, o)
	sql(t, u, fmt.Sprintf("update dime.meta set number = %d where name = 'needs'", postgres.SchemaVersion+1))
	refused("install the newer release")
	sql(t, u, "update dime.meta set number = 0 where name = 'needs'", fmt.Sprintf("delete from dime.schema_version where version_id = %d", postgres.SchemaVersion))
	refused("run dime migrate")
	sql(t, u, "alter database "+databaseOf(t, u)+" set synchronous_commit = off", fmt.Sprintf("insert into dime.schema_version(version_id, is_applied) values (%d, true)", postgres.SchemaVersion))
	refused("synchronous_commit")
}

func databaseOf(t testing.TB, raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u.Path[1:]
}

// Processes that start at once migrate once, and again changes nothing.
func TestMigrationsWaitForEachOther(t *testing.T) {
	u := cluster.Postgres(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := postgres.Migrate(context.Background(), u, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	names, err := os.ReadDir("migrations")
	if err != nil {
		t.Fatal(err)
	}
	if last := names[len(names)-1].Name(); !strings.HasPrefix(last, fmt.Sprintf("%04d_", postgres.SchemaVersion)) {
		t.Fatalf("this binary needs version %d, and the last migration is %s", postgres.SchemaVersion, last)
	}
	open(t, options(u, nil))
}

// clean makes a database as a migration left it.
const clean = `do $$ begin
	execute (select 'truncate ' || string_agg(format('dime.%I', tablename), ', ') || ' restart identity' from pg_tables
		where schemaname = 'dime' and tablename not in ('schema_version', 'counter', 'meta'));
	update dime.counter set value = case name when 'runs' then 1 else 0 end;
	delete from dime.meta where name <> 'needs';
	alter sequence dime.epoch restart;
	alter sequence dime.place restart;
end $$`

// asRole is a database made as deploy/postgres/roles.sql says, and its URL as the
// role that runs Dime.
func asRole(t testing.TB) string {
	t.Helper()
	roles, err := os.ReadFile("../../../deploy/postgres/roles.sql")
	if err != nil {
		t.Fatal(err)
	}
	u := cluster.PostgresLike(t, cluster.Template{Name: "dime_roles", Clean: clean, Fill: func(url string) error {
		ctx := context.Background()
		c, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		defer c.Close(ctx)
		for _, sql := range []string{string(roles), string(roles), "alter role dime_owner password 'owner'", "alter role dime password 'run'"} {
			if _, err := c.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return postgres.Migrate(ctx, as(t, url, "dime_owner", "owner"), nil)
	}})
	// What a copy of a database does not take along.
	sql(t, u, "revoke all on database "+databaseOf(t, u)+" from public", "grant connect on database "+databaseOf(t, u)+" to dime, dime_owner")
	return as(t, u, "dime", "run")
}

func as(t testing.TB, raw, role, password string) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(role, password)
	return u.String()
}

// The role that runs Dime can do all that the store does (TestContract runs as
// that role), and nothing else.
func TestTheRunningRoleChangesNoTable(t *testing.T) {
	u := asRole(t)
	s, err := postgres.Open(t.Context(), postgres.Options{URL: u, MasterKey: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c, err := pgx.Connect(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	for _, sql := range []string{
		"create table dime.mine(a int)", "create table public.mine(a int)", "create temp table mine(a int)", "create schema mine",
		"drop table dime.run", "alter table dime.run add column a int", "truncate dime.run", "create index mine on dime.run(reason)",
		"create or replace function dime.now_ms(p_now bigint) returns bigint language sql as $$ select 1::bigint $$",
		"create trigger mine before insert on dime.run for each row execute function suppress_redundant_updates_trigger()",
		"create role mine", "alter role dime superuser", "copy dime.run to program 'cat'", "select pg_read_file('/etc/passwd')", "set role dime_owner",
	} {
		_, err := c.Exec(t.Context(), sql)
		var p *pgconn.PgError
		if !errors.As(err, &p) || p.Code != "42501" {
			t.Errorf("%s: %v, want that permission is denied (42501)", sql, err)
		}
	}
	if err := postgres.Migrate(t.Context(), u, nil); err != nil {
		t.Errorf("a migration that finds nothing to do: %v", err)
	}
}

// What deploy/postgres/dime.conf says is taken by a server as it stands.
func TestSettings(t *testing.T) {
	conf, err := os.ReadFile("../../../deploy/postgres/dime.conf")
	if err != nil {
		t.Fatal(err)
	}
	small := "shared_buffers = 32MB\n" // the tests' machine is no database server
	server := cluster.PostgresFor(t, cluster.PostgresOptions{Settings: string(conf) + small})
	c, err := pgx.Connect(t.Context(), server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	rs, err := c.Query(t.Context(), "select name from pg_file_settings where error is not null or not applied and name not in ('shared_buffers', 'fsync', 'max_connections', 'max_wal_size')")
	if err != nil {
		t.Fatal(err)
	}
	bad, err := pgx.CollectRows(rs, pgx.RowTo[string])
	if err != nil || len(bad) > 0 {
		t.Fatal(bad, err)
	}
	var got []string
	for _, name := range []string{"synchronous_commit", "fsync", "max_locks_per_transaction", "log_parameter_max_length_on_error"} {
		var v string
		if err := c.QueryRow(t.Context(), "select current_setting($1)", name).Scan(&v); err != nil {
			t.Fatal(err)
		}
		got = append(got, v)
	}
	if !slices.Equal(got, []string{"on", "on", "256", "0"}) {
		t.Fatal(got)
	}
}
