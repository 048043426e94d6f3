//go:build linux

// Command cmd runs private servers until it is ended, for `make run` and for the
// tests of several packages:
//
//	go run ./test/cluster/cmd rabbit|postgres|both [--nodes N] [--ready-file F]
//
// It writes what a shell can source, once all of them take connections:
// DIME_TEST_RABBIT and DIME_TEST_POSTGRES for tests, DIME_RABBIT_URLS and
// DIME_POSTGRES_URL for a bus that plays all roles. Nothing outlives it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/dime-bus/dime/test/cluster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	what := ""
	if len(args) > 0 {
		what, args = args[0], args[1:]
	}
	if what != "rabbit" && what != "postgres" && what != "both" {
		return fmt.Errorf("say what to start: rabbit, postgres or both; not %q", what)
	}
	fs := flag.NewFlagSet("cluster", flag.ContinueOnError)
	ready := fs.String("ready-file", "", "where to write how the servers are reached")
	nodes := fs.Int("nodes", 1, "of RabbitMQ")
	if err := fs.Parse(args); err != nil {
		return err
	}
	var lines strings.Builder
	if what != "postgres" {
		r, err := cluster.StartRabbit(ctx, cluster.RabbitOptions{Nodes: *nodes})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, r.Close()) }()
		fmt.Fprintf(&lines, "%s=%s\n", cluster.RabbitEnv, quote(r.Share()))
		fmt.Fprintf(&lines, "DIME_RABBIT_URLS=%s\n", quote(strings.Join(r.URLs("dime-worker"), ",")))
	}
	if what != "rabbit" {
		dir, err := os.MkdirTemp("", "dime-postgres-")
		if err != nil {
			return fmt.Errorf("starting PostgreSQL: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		p, err := cluster.StartPostgres(filepath.Join(dir, "pg"), cluster.PostgresOptions{})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, p.Stop()) }()
		fmt.Fprintf(&lines, "%s=%s\n", cluster.PostgresEnv, quote(p.URL("postgres")))
		fmt.Fprintf(&lines, "DIME_POSTGRES_URL=%s\n", quote(p.URL("postgres")))
	}
	if *ready == "" {
		fmt.Print(lines.String())
	} else if err := writeWhole(*ready, lines.String()); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// quote is a word of a POSIX shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// writeWhole writes a file that is there whole or not at all. It holds passwords.
func writeWhole(name, text string) error {
	part := name + ".part"
	if err := os.WriteFile(part, []byte(text), 0o600); err != nil {
		return fmt.Errorf("writing the ready file: %w", err)
	}
	if err := os.Rename(part, name); err != nil {
		return fmt.Errorf("writing the ready file: %w", err)
	}
	return nil
}
