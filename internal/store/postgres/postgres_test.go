package postgres_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/postgres"
	"github.com/dime-bus/dime/internal/store/storetest"
	"github.com/dime-bus/dime/test/cluster"
)

func TestMain(m *testing.M) { os.Exit(cluster.PostgresMain(m)) }

func options(url string, c clock.Clock) postgres.Options {
	return postgres.Options{URL: url, Clock: c, MasterKey: bytes.Repeat([]byte{7}, 32), Migrate: !strings.Contains(url, "//dime:"), Pool: 4, Poll: time.Hour,
		Log: slog.New(slog.DiscardHandler)}
}

func open(t testing.TB, o postgres.Options) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// sql does statements beside the store.
func sql(t testing.TB, url string, statements ...string) {
	t.Helper()
	ctx := context.Background()
	c, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(ctx)
	for _, s := range statements {
		if _, err := c.Exec(ctx, s); err != nil {
			t.Fatal(s, err)
		}
	}
}

// harness is a store on a database that make gives.
func harness(make func(t testing.TB) string) func(t *testing.T) storetest.Harness {
	return func(t *testing.T) storetest.Harness {
		u := make(t)
		c := clock.NewVirtual(storetest.Start())
		h := storetest.Harness{Store: open(t, options(u, c)), Clock: c, Lease: 10 * time.Second}
		// The old process is left as it is: nobody tells the database. What it had is
		// free when its lease is over.
		h.Reopen = func(t *testing.T) store.Store {
			c.Advance(c.Now().Add(h.Lease))
			return open(t, options(u, c))
		}
		h.OpenWith = func(t *testing.T, master []byte) (store.Store, error) {
			c.Advance(c.Now().Add(h.Lease))
			o := options(u, c)
			o.MasterKey = master
			s, err := postgres.Open(context.Background(), o)
			if err == nil {
				t.Cleanup(func() { _ = s.Close() })
			}
			return s, err
		}
		h.Second = func(t *testing.T) store.Store { return open(t, options(u, c)) }
		h.Full = func(t *testing.T) store.Store {
			o := options(cluster.Postgres(t), c)
			s := open(t, o)
			// What a server says that can't extend a file, once the table has grown.
			sql(t, o.URL, `create function dime.full() returns trigger language plpgsql as $$ begin
				if (select count(*) from dime.entry) > 40 then raise exception 'could not extend file' using errcode = 'disk_full'; end if; return new; end $$`,
				"create trigger disk before insert on dime.entry for each row execute function dime.full()")
			return s
		}
		h.AtRest = func(t *testing.T) []byte { return dump(t, u) }
		return h
	}
}

// dump is every value of every table, as bytes.
func dump(t testing.TB, url string) []byte {
	t.Helper()
	ctx := context.Background()
	c, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(ctx)
	rs, err := c.Query(ctx, "select quote_ident(tablename) from pg_tables where schemaname = 'dime'")
	if err != nil {
		t.Fatal(err)
	}
	names, err := pgx.CollectRows(rs, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	for _, n := range names {
		if _, err := c.PgConn().CopyTo(ctx, &all, "copy dime."+n+" to stdout (format binary)"); err != nil {
			t.Fatal(err)
		}
	}
	return all.Bytes()
}

// The suite runs as the role that runs Dime, on the schema as its owner made it.
func TestContract(t *testing.T) {
	storetest.Run(t, harness(func(t testing.TB) string { return asRole(t) }))
}

func TestAnotherMasterKeyIsRefused(t *testing.T) {
	o := options(cluster.Postgres(t), nil)
	open(t, o)
	for _, key := range [][]byte{bytes.Repeat([]byte{8}, 32), {1, 2}} {
		o.MasterKey = key
		if s, err := postgres.Open(context.Background(), o); err == nil {
			_ = s.Close()
			t.Fatalf("opened with the key %x", key)
		} else if !strings.Contains(err.Error(), "master key") {
			t.Fatal(err)
		}
	}
}

func TestClosedStoreSaysSo(t *testing.T) {
	s := open(t, options(cluster.Postgres(t), nil))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	_, _, err := s.Accept(ctx, store.Run{ID: 1, State: store.Running})
	_, _, lerr := s.Load(ctx, 1)
	_, rerr := s.Reserve(ctx, 1)
	for _, err := range []error{err, lerr, rerr, s.Publish(ctx, store.Message{Topic: "t"})} {
		if err == nil || !strings.Contains(err.Error(), store.ErrClosed.Error()) {
			t.Error(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAWrongURLSaysWhatToDo(t *testing.T) {
	for _, c := range []struct{ url, want string }{
		{"", "no URL"},
		{"postgres://dime:hidden@%zz/x", "postgres://user@host"},
		{"postgres://dime:hidden@127.0.0.1:1/x?connect_timeout=2", "refused"},
	} {
		_, err := postgres.Open(context.Background(), postgres.Options{URL: c.url, MasterKey: make([]byte, 32)})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%q: %v", c.url, err)
		}
	}
	o := options(cluster.Postgres(t), nil)
	o.Migrate = false
	if _, err := postgres.Open(context.Background(), o); err == nil || !strings.Contains(err.Error(), "dime migrate") {
		t.Error(err)
	}
}
