//go:build linux

package cluster_test

import (
	"context"
	"net"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/dime-bus/dime/test/cluster"
)

func TestPostgresOutlivesAKillAndAStop(t *testing.T) {
	s := cluster.PostgresFor(t, cluster.PostgresOptions{Settings: "work_mem = 5MB"})
	ctx := context.Background()
	at, drop, err := cluster.NewDatabase(ctx, s.URL("postgres"), "template0")
	if err != nil {
		t.Fatal(err)
	}
	one := func(sql string) (out string) {
		t.Helper()
		c, err := pgx.Connect(ctx, at)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close(ctx)
		if err := c.QueryRow(ctx, sql).Scan(&out); err != nil {
			t.Fatal(sql, err)
		}
		return out
	}
	for sql, want := range map[string]string{
		"select current_setting('fsync')": "on", "select current_setting('work_mem')": "5MB",
		"select current_setting('password_encryption')": "scram-sha-256",
	} {
		if got := one(sql); got != want {
			t.Errorf("%s: %s, want %s", sql, got, want)
		}
	}
	one("with x as (select 1) select 'x' from x")
	c, err := pgx.Connect(ctx, at)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exec(ctx, "create table kept as select 'here' as word"); err != nil {
		t.Fatal(err)
	}
	for _, end := range []func() error{s.Kill, s.Stop} {
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port()))); err == nil {
			c.Close()
			t.Fatal("a server that was ended still listens")
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		if got := one("select word from kept"); got != "here" {
			t.Fatal(got)
		}
	}
	if err := drop(ctx); err != nil {
		t.Fatal(err)
	}
	if c, err := pgx.Connect(ctx, at); err == nil {
		c.Close(ctx)
		t.Fatal("a database that was dropped takes connections")
	}
}
