//go:build linux

// Package cluster starts what the tests need beside Dime: private servers on free
// loopback ports, in temporary folders, from Debian's packages. It touches no
// service of the system.
package cluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// PostgresEnv holds the URL of a server that test binaries share, as a role that
// may create databases.
const PostgresEnv = "DIME_TEST_POSTGRES"

// postgresBin is where Debian keeps the server's programs: they are on nobody's PATH.
const postgresBin = "/usr/lib/postgresql/15/bin"

// PostgresOptions of StartPostgres.
type PostgresOptions struct {
	// Unsafe turns fsync off: for tests that never cut the power and need speed.
	Unsafe bool
	// Settings go behind ours in postgresql.conf: lines of that file.
	Settings string
	Port     int // a free one if zero
	// Disk is the size in MiB of a disk of its own for the cluster's folder, which
	// only root can give it (see CanMount); 0: the folder's.
	Disk int
}

// PostgresServer is a private server. Its methods are for one goroutine.
type PostgresServer struct {
	dir, password string
	port          int
	cmd           *exec.Cmd
	log           *os.File
	exited        chan struct{}
	unmounts      func() error // nil without a small disk
}

// StartPostgres makes a cluster in dir, which must be empty and is made if it is
// missing, and starts it. The superuser is dime_test.
func StartPostgres(dir string, o PostgresOptions) (*PostgresServer, error) {
	if _, err := os.Stat(filepath.Join(postgresBin, "postgres")); err != nil {
		return nil, fmt.Errorf("looking for PostgreSQL 15: %w (Debian: apt-get install postgresql-15)", err)
	}
	s := &PostgresServer{dir: dir, port: o.Port}
	var secret [16]byte
	_, _ = rand.Read(secret[:]) // never fails since Go 1.24
	s.password = hex.EncodeToString(secret[:])
	if s.port == 0 {
		ports, err := FreePorts(1)
		if err != nil {
			return nil, err
		}
		s.port = ports[0]
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the cluster's folder: %w", err)
	}
	segments := "--wal-segsize=16"
	if o.Disk > 0 {
		unmount, err := SmallDisk(dir, o.Disk)
		if err != nil {
			return nil, err
		}
		s.unmounts, segments = unmount, "--wal-segsize=1"
		o.Settings = "min_wal_size = 4MB\nmax_wal_size = 8MB\n" + o.Settings
	}
	if err := s.make(dir, segments, o); err != nil {
		return nil, errors.Join(err, s.unmount())
	}
	return s, nil
}

// Dir is the cluster's folder.
func (s *PostgresServer) Dir() string { return s.dir }

// Running says whether the server's process lives.
func (s *PostgresServer) Running() bool {
	select {
	case <-s.exited:
		return false
	default:
		return true
	}
}

// Close kills the server and takes its small disk away.
func (s *PostgresServer) Close() error { return errors.Join(s.Kill(), s.unmount()) }

func (s *PostgresServer) unmount() error {
	if s.unmounts == nil {
		return nil
	}
	unmount := s.unmounts
	s.unmounts = nil
	return unmount()
}

// make fills the folder and starts the server.
func (s *PostgresServer) make(dir, segments string, o PostgresOptions) error {
	pw := filepath.Join(dir, "pw")
	if err := os.WriteFile(pw, []byte(s.password), 0o600); err != nil {
		return fmt.Errorf("writing the cluster's password: %w", err)
	}
	who, err := runner()
	if err != nil {
		return err
	}
	if who != nil { // the server refuses to run as root
		if err := giveTo(who, dir, pw); err != nil {
			return err
		}
	}
	init := exec.Command(filepath.Join(postgresBin, "initdb"), "--pgdata", filepath.Join(dir, "data"), "--username=dime_test",
		"--pwfile", pw, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions", "--no-sync", segments)
	init.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	init.Dir = dir
	if out, err := init.CombinedOutput(); err != nil {
		return fmt.Errorf("making a cluster: %w: %s", err, out)
	}
	fsync := "on"
	if o.Unsafe {
		fsync = "off"
	}
	conf := fmt.Sprintf(`
listen_addresses = '127.0.0.1'
port = %d
unix_socket_directories = ''
fsync = %s
max_connections = 200
shared_buffers = 64MB
max_wal_size = 256MB
log_min_messages = warning
%s
`, s.port, fsync, o.Settings)
	f, err := os.OpenFile(filepath.Join(dir, "data", "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("writing the cluster's settings: %w", err)
	}
	_, err = f.WriteString(conf)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing the cluster's settings: %w", err)
	}
	return s.Start()
}

// runner is who runs the server where the test is root; nil: the test itself.
func runner() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("looking for a user to run PostgreSQL, which refuses root: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// giveTo gives the paths to who, and lets it pass through the temporary folders
// above them, which are the test's alone.
func giveTo(who *syscall.Credential, paths ...string) error {
	for _, p := range paths {
		if err := os.Chown(p, int(who.Uid), int(who.Gid)); err != nil {
			return fmt.Errorf("giving the cluster's folder to its user: %w", err)
		}
	}
	for d := filepath.Dir(paths[0]); strings.HasPrefix(d, os.TempDir()+"/"); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o711); err != nil {
			return fmt.Errorf("opening the way to the cluster's folder: %w", err)
		}
	}
	return nil
}

// Start starts the server, also after Stop or Kill, and waits until it answers.
func (s *PostgresServer) Start() error {
	who, err := runner()
	if err != nil {
		return err
	}
	if s.log, err = os.OpenFile(s.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return fmt.Errorf("opening the server's log: %w", err)
	}
	cmd := exec.Command(filepath.Join(postgresBin, "postgres"), "-D", filepath.Join(s.dir, "data"))
	cmd.Stdout, cmd.Stderr, cmd.Dir = s.log, s.log, s.dir
	// A test that is killed must not leave a server behind: it dies with the thread
	// that started it, and quickly. A terminal's Ctrl-C is for that one alone.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who, Pdeathsig: syscall.SIGQUIT, Setpgid: true}
	exited := make(chan struct{})
	started := make(chan error)
	go func() {
		// Pdeathsig is of the thread: this goroutine keeps it until the server has ended.
		runtime.LockOSThread()
		defer s.log.Close()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(exited)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("starting PostgreSQL: %w", err)
	}
	s.cmd, s.exited = cmd, exited
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		c, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			return c.Close(ctx)
		}
		select {
		case <-exited:
			return fmt.Errorf("starting PostgreSQL: it ended at once: %s", s.tail())
		case <-ctx.Done():
			return fmt.Errorf("starting PostgreSQL: it does not answer: %w: %s", err, s.tail())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *PostgresServer) tail() string {
	b, _ := os.ReadFile(s.LogFile()) // what is missing of an explanation is no error of its own
	return string(b[max(0, len(b)-2000):])
}

// LogFile is where the server writes its messages.
func (s *PostgresServer) LogFile() string { return filepath.Join(s.dir, "server.log") }

// URL is a database's, as the superuser.
func (s *PostgresServer) URL(database string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword("dime_test", s.password),
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)), Path: "/" + database, RawQuery: "sslmode=disable"}
	return u.String()
}

// City makes the database dime and runs the SQL that makes its roles dime_owner and
// dime (deploy/postgres/roles.sql), which get this server's password.
func (s *PostgresServer) City(ctx context.Context, roles string) (err error) {
	run := func(database string, statements ...string) (err error) {
		c, err := pgx.Connect(ctx, s.URL(database))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.Close(ctx)) }()
		for _, sql := range statements {
			if _, err := c.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	}
	if err = run("postgres", "create database dime"); err == nil {
		err = run("dime", roles, "alter role dime_owner password '"+s.password+"'", "alter role dime password '"+s.password+"'")
	}
	if err != nil {
		return fmt.Errorf("making the city's database: %w", err)
	}
	return nil
}

// Password is every role's.
func (s *PostgresServer) Password() string { return s.password }

// Port is where the server listens.
func (s *PostgresServer) Port() int { return s.port }

// Stop shuts the server down as an operator does who is in a hurry (fast mode):
// sessions are ended, what was committed is written.
func (s *PostgresServer) Stop() error { return s.end(syscall.SIGINT) }

// Kill ends the server at once: it recovers from its log when it starts again.
func (s *PostgresServer) Kill() error { return s.end(syscall.SIGQUIT) }

func (s *PostgresServer) end(sig syscall.Signal) error {
	if err := s.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("ending PostgreSQL: %w", err)
	}
	select {
	case <-s.exited:
		return nil
	case <-time.After(30 * time.Second):
		return fmt.Errorf("ending PostgreSQL: it goes on: %s", s.tail())
	}
}

// Restart is Stop and Start.
func (s *PostgresServer) Restart() error {
	if err := s.Stop(); err != nil {
		return err
	}
	return s.Start()
}

// NewDatabase makes a database beside the one that at names, as a copy of template
// (empty: "template0"), and gives its URL and how to drop it.
func NewDatabase(ctx context.Context, at, template string) (fresh string, drop func(context.Context) error, err error) {
	u, err := url.Parse(at)
	if err != nil {
		return "", nil, errors.New("reading the server's URL: it is none") // the error would show the password
	}
	var b [6]byte
	_, _ = rand.Read(b[:])
	name := "dime_" + hex.EncodeToString(b[:])
	run := func(ctx context.Context, sql string) error {
		c, err := pgx.Connect(ctx, at)
		if err != nil {
			return err
		}
		_, err = c.Exec(ctx, sql)
		return errors.Join(err, c.Close(ctx))
	}
	if err := run(ctx, "create database "+name+" template "+template); err != nil {
		return "", nil, fmt.Errorf("making a database: %w", err)
	}
	u.Path = "/" + name
	return u.String(), func(ctx context.Context) error { return run(ctx, "drop database if exists "+name+" with (force)") }, nil
}

// Postgres gives the URL of an empty database of its own, on the shared server
// if there is one, else on one that lives as long as the test.
func Postgres(t testing.TB) string {
	t.Helper()
	return copyOfPostgres(t, sharedPostgres(t), "template0")
}

func sharedPostgres(t testing.TB) string {
	t.Helper()
	if at := os.Getenv(PostgresEnv); at != "" {
		return at
	}
	return PostgresFor(t, PostgresOptions{}).URL("postgres")
}

// Template says how PostgresLike's databases are made.
type Template struct {
	Name string                 // of the database that is copied, made once a server
	Fill func(url string) error // makes it of an empty one
	// Clean is SQL that makes a used copy as good as new, which is cheaper than
	// another one; empty: each test gets a fresh copy.
	Clean string
}

// PostgresLike is Postgres with a database that is a copy of a template.
func PostgresLike(t testing.TB, like Template) string {
	t.Helper()
	ctx := context.Background()
	at := sharedPostgres(t)
	if err := postgresTemplate(ctx, at, like.Name, like.Fill); err != nil {
		t.Fatal(err)
	}
	if like.Clean == "" {
		return copyOfPostgres(t, at, like.Name)
	}
	name, err := usedPostgres(ctx, at, like.Name, "")
	if err != nil {
		t.Fatal(err)
	}
	if name == "" {
		fresh, _, err := NewDatabase(ctx, at, like.Name) // goes with the server
		if err != nil {
			t.Fatal(err)
		}
		name = fresh
	}
	t.Cleanup(func() {
		c, err := pgx.Connect(ctx, name)
		if err == nil {
			_, err = c.Exec(ctx, like.Clean)
			err = errors.Join(err, c.Close(ctx))
		}
		if err == nil {
			_, err = usedPostgres(ctx, at, like.Name, name)
		}
		if err != nil {
			t.Errorf("cleaning a database for the next test: %v", err)
		}
	})
	return name
}

// usedPostgres notes a cleaned copy for the next test, or gives one; "" if there is
// none.
func usedPostgres(ctx context.Context, at, template, clean string) (name string, err error) {
	c, err := pgx.Connect(ctx, at)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, c.Close(ctx)) }()
	if _, err := c.Exec(ctx, // two at once collide in the catalogue, "if not exists" or not
		"begin; select pg_advisory_xact_lock(hashtext('cleaned')); create table if not exists cleaned(template text, url text); commit"); err != nil {
		var p *pgconn.PgError // two tests at once
		if !errors.As(err, &p) || p.Code != "23505" && p.Code != "42P07" {
			return "", err
		}
	}
	if clean != "" {
		_, err = c.Exec(ctx, "insert into cleaned values ($1, $2)", template, clean)
		return "", err
	}
	err = c.QueryRow(ctx, "delete from cleaned where ctid = (select ctid from cleaned where template = $1 limit 1 for update skip locked) returning url", template).Scan(&name)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return name, err
}

func postgresTemplate(ctx context.Context, at, name string, fill func(url string) error) (err error) {
	c, err := pgx.Connect(ctx, at)
	if err != nil {
		return fmt.Errorf("making a database to copy: %w", err)
	}
	defer func() { err = errors.Join(err, c.Close(ctx)) }()
	var there bool
	for _, step := range []func() error{
		func() error { _, err := c.Exec(ctx, "select pg_advisory_lock(hashtext($1))", name); return err }, // until the session ends
		func() error {
			return c.QueryRow(ctx, "select exists (select 1 from pg_database where datname = $1 and datistemplate)", name).Scan(&there)
		},
		func() error {
			if there {
				return nil
			}
			u, err := url.Parse(at)
			if err != nil {
				return errors.New("the server's URL is none") // the error would show the password
			}
			u.Path = "/" + name
			id := pgx.Identifier{name}.Sanitize()
			for _, sql := range []string{"drop database if exists " + id + " with (force)", "create database " + id + " template template0"} {
				if _, err := c.Exec(ctx, sql); err != nil {
					return err
				}
			}
			if err := fill(u.String()); err != nil {
				return err
			}
			_, err = c.Exec(ctx, "alter database "+id+" is_template true")
			return err
		},
	} {
		if err := step(); err != nil {
			return fmt.Errorf("making a database to copy: %w", err)
		}
	}
	return nil
}

func copyOfPostgres(t testing.TB, at, template string) string {
	t.Helper()
	fresh, drop, err := NewDatabase(context.Background(), at, template)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := drop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return fresh
}

// PostgresFor starts a server that lives as long as the test.
func PostgresFor(t testing.TB, o PostgresOptions) *PostgresServer {
	t.Helper()
	s, err := StartPostgres(filepath.Join(t.TempDir(), "pg"), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// PostgresMain is a TestMain's body for a package whose tests share one server:
// os.Exit(cluster.PostgresMain(m)). fsync is off: who tests crashes of the server
// itself starts one with PostgresFor.
func PostgresMain(m interface{ Run() int }) (code int) {
	if os.Getenv(PostgresEnv) != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "dime-pg-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "making a folder for PostgreSQL:", err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	s, err := StartPostgres(filepath.Join(dir, "pg"), PostgresOptions{Unsafe: true})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var once sync.Once
	end := func() { once.Do(func() { _ = s.Kill() }) }
	defer end()
	if err := os.Setenv(PostgresEnv, s.URL("postgres")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code = m.Run()
	if b, err := os.ReadFile(s.LogFile()); err == nil && bytes.Contains(b, []byte("PANIC")) {
		fmt.Fprintf(os.Stderr, "PostgreSQL panicked: %s\n", s.tail())
		code = 1
	}
	return code
}

// Rewrite replaces a piece of a function's text, which must be there.
func (s *PostgresServer) Rewrite(ctx context.Context, database, schema, function, old, by string) (err error) {
	c, err := pgx.Connect(ctx, s.URL(database))
	if err != nil {
		return fmt.Errorf("rewriting %s.%s: %w", schema, function, err)
	}
	defer func() { err = errors.Join(err, c.Close(ctx)) }()
	var def string
	err = c.QueryRow(ctx, "select pg_get_functiondef(p.oid) from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = $1 and p.proname = $2",
		schema, function).Scan(&def)
	if err == nil && !strings.Contains(def, old) {
		err = fmt.Errorf("it does not say %q", old)
	}
	if err == nil {
		_, err = c.Exec(ctx, "set search_path = "+pgx.Identifier{schema}.Sanitize()+"; "+strings.Replace(def, old, by, 1))
	}
	if err != nil {
		return fmt.Errorf("rewriting %s.%s: %w", schema, function, err)
	}
	return nil
}
