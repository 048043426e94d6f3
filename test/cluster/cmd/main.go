//go:build linux

// Command cmd runs private servers until it is ended, for `make run`, for a look
// at many processes, and for the tests of several packages:
//
//	go run ./test/cluster/cmd rabbit|postgres|both [--nodes N] [--ready-file F] [-- COMMAND [ARG]...]
//
// They are made as deploy/ says, on free ports of the loopback address. Once all of
// them answer it writes how a bus reaches them, for a shell to read, or runs COMMAND
// with that in its environment and ends with it:
//
//	DIME_BUS DIME_BUS_PASSWORD        RabbitMQ as dime-worker: for a process of all roles
//	GATEWAY_BUS, WORKER_BUS           RabbitMQ as dime-gateway, dime-worker; their passwords
//	GATEWAY_SECRET, WORKER_SECRET
//	DIME_STORE DIME_STORE_PASSWORD    PostgreSQL as dime
//	OWNER_STORE, STORE_SECRET         as dime_owner, for dime migrate; the password of both
//	DIME_TEST_RABBIT, DIME_TEST_POSTGRES   for the tests
//
// Nothing outlives it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/dime-bus/dime/deploy/postgres"
	"github.com/dime-bus/dime/test/cluster"
)

func main() {
	runtime.LockOSThread() // COMMAND dies with the thread that starts it (prctl(2), PR_SET_PDEATHSIG)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	var ended *exec.ExitError
	if errors.As(err, &ended) && ended.ExitCode() > 0 {
		os.Exit(ended.ExitCode()) // it has said why
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

// variable is a line of what a shell can read.
type variable struct{ name, value string }

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
	var vars []variable
	if what != "postgres" {
		r, err := cluster.StartRabbit(ctx, cluster.RabbitOptions{Nodes: *nodes})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, r.Close()) }()
		vars = append(vars, variable{cluster.RabbitEnv, r.Share()})
		for _, role := range []string{"gateway", "worker"} {
			us, err := without(r.URLs("dime-" + role)...)
			if err != nil {
				return err
			}
			vars = append(vars, variable{strings.ToUpper(role) + "_BUS", us}, variable{strings.ToUpper(role) + "_SECRET", r.Users["dime-"+role]})
			if role == "worker" {
				vars = append(vars, variable{"DIME_BUS", us}, variable{"DIME_BUS_PASSWORD", "env:WORKER_SECRET"})
			}
		}
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
		if err := p.City(ctx, postgres.Roles()); err != nil {
			return err
		}
		u, err := url.Parse(p.URL("dime"))
		if err != nil {
			return err
		}
		u.User = url.User("dime")
		vars = append(vars, variable{cluster.PostgresEnv, p.URL("postgres")}, variable{"DIME_STORE", u.String()},
			variable{"DIME_STORE_PASSWORD", "env:STORE_SECRET"}, variable{"STORE_SECRET", p.Password()})
		u.User = url.User("dime_owner")
		vars = append(vars, variable{"OWNER_STORE", u.String()})
	}
	var lines strings.Builder
	for _, v := range vars {
		fmt.Fprintf(&lines, "export %s=%s\n", v.name, quote(v.value))
	}
	switch {
	case *ready != "":
		if err := writeWhole(*ready, lines.String()); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.Remove(*ready)) }()
	case fs.NArg() == 0:
		fmt.Print(lines.String())
	}
	if fs.NArg() > 0 {
		return runCommand(ctx, fs.Args(), vars)
	}
	<-ctx.Done()
	return nil
}

// runCommand runs a command until it ends; what ends this program is passed on to
// it, so that the servers live until it has finished with them.
func runCommand(ctx context.Context, args []string, vars []variable) error {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = os.Environ()
	for _, v := range vars {
		cmd.Env = append(cmd.Env, v.name+"="+v.value)
	}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	// A group of its own: a terminal's Ctrl-C comes once, from here.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("running %s: %w", args[0], err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("ending %s: %w", args[0], err)
	}
	return <-ended
}

// without are URLs without their passwords, which Dime does not take from a URL.
func without(urls ...string) (string, error) {
	for i, text := range urls {
		u, err := url.Parse(text)
		if err != nil {
			return "", err
		}
		u.User = url.User(u.User.Username())
		urls[i] = u.String()
	}
	return strings.Join(urls, ","), nil
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
