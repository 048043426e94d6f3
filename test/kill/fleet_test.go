package kill

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dime-bus/dime/test/cluster"
)

// fleet is a city on many processes: gateways and workers over one PostgreSQL and
// a RabbitMQ, behind one address each for the public and the admin face.
type fleet struct {
	*rig
	pg      *cluster.PostgresServer
	mq      *cluster.RabbitMQ
	store   string   // URL without its password
	between *toxic   // between the processes and PostgreSQL
	env     []string // of every process
	members []*member
	fronts  map[string]*front
}

// member is a process of the fleet over all its lives.
type member struct {
	name, roles, user   string
	public, admin, soap string // host:port
	f                   *fleet
	mu                  sync.Mutex
	p                   *proc
	lives               int
}

func newFleet(t *testing.T, folder, citizen string, nodes, gateways, workers int, env ...string) *fleet {
	t.Helper()
	return newFleetOn(t, folder, citizen, cluster.RabbitOptions{Nodes: nodes}, cluster.PostgresOptions{}, gateways, workers, env...)
}

func newFleetOn(t *testing.T, folder, citizen string, broker cluster.RabbitOptions, database cluster.PostgresOptions, gateways, workers int, env ...string) *fleet {
	t.Helper()
	f := &fleet{rig: newRigOn(t, binary(t), folder, citizen), env: env, fronts: map[string]*front{}}
	ready := make(chan error, 1)
	go func() { // both take seconds to start
		mq, err := cluster.StartRabbit(context.Background(), broker)
		f.mq = mq
		ready <- err
	}()
	pg, err := cluster.StartPostgres(filepath.Join(f.scratch(), "postgres"), database)
	if err == nil {
		f.pg = pg
	}
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.mq.Close() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.pg.Close() })
	f.secrets()
	for kind, addr := range map[string]string{"public": f.public, "admin": f.admin} {
		f.fronts[kind] = newFront(t, strings.TrimPrefix(addr, "http://"))
	}
	for i := range gateways {
		f.add(fmt.Sprintf("gateway-%d", i+1), "gateway", "dime-gateway")
	}
	for i := range workers {
		f.add(fmt.Sprintf("worker-%d", i+1), "worker,timers", "dime-worker")
	}
	t.Cleanup(func() {
		for _, m := range f.members {
			m.kill()
			if t.Failed() {
				f.dump(m.name + ".log")
			}
		}
	})
	return f
}

// scratch is a folder that the database's own user may enter.
func (f *fleet) scratch() string {
	dir, err := os.MkdirTemp("", "dime-fleet-")
	if err != nil {
		f.t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // the server runs as another user
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// secrets makes the city's database as deploy/postgres/README.md says, and writes
// what the processes are told by reference.
func (f *fleet) secrets() {
	f.t.Helper()
	roles, err := os.ReadFile(filepath.Join("..", "..", "deploy", "postgres", "roles.sql"))
	if err != nil {
		f.t.Fatal(err)
	}
	if err := f.pg.City(f.t.Context(), string(roles)); err != nil {
		f.t.Fatal(err)
	}
	u, err := url.Parse(f.pg.URL("dime"))
	if err != nil {
		f.t.Fatal(err)
	}
	u.User = url.User("dime")
	f.between = newToxic(f.t, "postgres", u.Host)
	u.Host = f.between.addr
	f.store = u.String()
	files := map[string]string{"store": f.pg.Password(), "master": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}
	for user, secret := range f.mq.Users {
		files[user] = secret
	}
	for name, secret := range files {
		if err := os.WriteFile(filepath.Join(f.dir, name+".secret"), []byte(secret), 0o600); err != nil {
			f.t.Fatal(err)
		}
	}
	// The schema's owner makes the tables; the fleet works as a role that can change none.
	owner := *u
	owner.User = url.User("dime_owner")
	if out, err := exec.Command(f.binary, "migrate", "--store", owner.String(), "--store-password", f.secret("store")).CombinedOutput(); err != nil {
		f.t.Fatalf("migrating: %v: %s", err, out)
	}
}

func (f *fleet) secret(name string) string { return "file:" + filepath.Join(f.dir, name+".secret") }

func (f *fleet) add(name, roles, user string) *member {
	m := &member{name: name, roles: roles, user: user, f: f, admin: freeAddr(f.t)}
	if strings.HasPrefix(roles, "gateway") {
		m.public, m.soap = freeAddr(f.t), freeAddr(f.t)
		f.fronts["public"].to(m.public)
	} else {
		f.fronts["admin"].to(m.admin)
	}
	f.members = append(f.members, m)
	return m
}

func (m *member) ready() string { return filepath.Join(m.f.dir, m.name+".ready") }

// start begins a life without waiting for it.
func (m *member) start(env ...string) *proc {
	f := m.f
	_ = os.Remove(m.ready())
	var nodes []string
	for _, n := range f.mq.Nodes {
		nodes = append(nodes, "amqp://"+m.user+"@"+n.Addr+"/dime")
	}
	args := []string{"serve", "--content", filepath.Join(f.dir, "content"), "--data", filepath.Join(f.dir, m.name), "--city", f.city,
		"--roles", m.roles, "--store", f.store, "--store-password", f.secret("store"),
		"--bus", strings.Join(nodes, ","), "--bus-password", f.secret(m.user), "--master-key", f.secret("master"),
		"--base-url", f.public, "--admin", m.admin, "--ready-file", m.ready(), "--log", "warn"}
	if m.public != "" {
		args = append(args, "--listen", m.public, "--soap", m.soap)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lives++
	m.p = launch(f.t, filepath.Join(f.dir, m.name+".log"), append(append([]string(nil), f.env...), env...), f.binary, args...)
	return m.p
}

// up says whether the member's ready file names this life.
func (m *member) up() bool {
	b, err := os.ReadFile(m.ready())
	var urls map[string]string
	return err == nil && json.Unmarshal(b, &urls) == nil
}

func (m *member) proc() *proc {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.p
}

func (m *member) signal(s syscall.Signal) error { return m.proc().cmd.Process.Signal(s) }

// kill ends the present life, if there is one.
func (m *member) kill() {
	if p := m.proc(); p != nil && p.alive() {
		_ = p.cmd.Process.Signal(syscall.SIGCONT)
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// startAll starts who is not there and waits until all are.
func (f *fleet) startAll(env ...string) {
	f.t.Helper()
	for _, m := range f.members {
		if p := m.proc(); p == nil || !p.alive() {
			m.start(env...)
		}
	}
	for _, m := range f.members {
		f.until(60*time.Second, m.name+" to be ready", func() bool {
			if p := m.proc(); !p.alive() {
				f.dump(m.name + ".log")
				f.t.Fatalf("%s ended before it was ready: %v", m.name, p.err)
			}
			return m.up()
		})
	}
}

// front passes connections on to whoever takes them, in turn.
type front struct {
	mu   sync.Mutex
	back []string
	next int
}

func newFront(t *testing.T, addr string) *front {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	f := &front{}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go f.pass(c)
		}
	}()
	return f
}

func (f *front) to(addr string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.back = append(f.back, addr)
}

func (f *front) pass(c net.Conn) {
	defer c.Close()
	f.mu.Lock()
	back := append([]string(nil), f.back...)
	f.next++
	first := f.next
	f.mu.Unlock()
	for i := range back {
		b, err := net.DialTimeout("tcp", back[(first+i)%len(back)], time.Second)
		if err != nil {
			continue
		}
		defer b.Close()
		done := make(chan struct{}, 2)
		for _, way := range [][2]net.Conn{{c, b}, {b, c}} {
			go func() {
				_, _ = io.Copy(way[0], way[1])
				_ = way[0].(*net.TCPConn).CloseWrite()
				done <- struct{}{}
			}()
		}
		<-done
		<-done
		return
	}
}
