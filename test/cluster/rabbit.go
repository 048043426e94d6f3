//go:build linux

package cluster

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dime-bus/dime/deploy/rabbitmq"
)

// rabbitBin is where Debian's package rabbitmq-server keeps the programs
// themselves; those in /usr/sbin change the user first.
const rabbitBin = "/usr/lib/rabbitmq/bin"

// RabbitEnv names the variable that holds a running broker as RabbitMQ.Share
// writes it, so that several test binaries use one.
const RabbitEnv = "DIME_TEST_RABBIT"

// bootFor is how long a node may take to take connections.
const bootFor = 90 * time.Second

// RabbitMQ is a private broker of one or several nodes.
type RabbitMQ struct {
	Nodes []*RabbitNode
	// Users holds a password for every user of deploy/rabbitmq/definitions.json.
	Users map[string]string

	dir    string
	epmd   *process
	env    []string
	shared bool
}

// RabbitNode is one node of it.
type RabbitNode struct {
	Name string // of the Erlang node
	Addr string // host:port for AMQP

	r   *RabbitMQ
	dir string
	env []string

	unmount func() error // nil without a small disk

	mu sync.Mutex
	p  *process
}

// Dir is the node's folder.
func (n *RabbitNode) Dir() string { return n.dir }

// RabbitOptions say how it is started.
type RabbitOptions struct {
	Nodes int
	// Set has keys of rabbitmq.conf that differ from deploy/rabbitmq/rabbitmq.conf.
	Set map[string]string
	// Disk is the size in MiB of a disk of its own for each node, which only root can
	// give it (see CanMount); 0: the temporary folder's.
	Disk int
}

// Rabbit starts a broker that ends with the test. With one node it is the one
// that RabbitEnv names, where that is set: use names of your own in it, and stop
// nothing.
func Rabbit(t testing.TB, nodes int) *RabbitMQ {
	t.Helper()
	if s := os.Getenv(RabbitEnv); s != "" && nodes == 1 {
		r, err := sharedRabbit(s)
		if err != nil {
			t.Fatalf("reading %s: %v", RabbitEnv, err)
		}
		return r
	}
	return OwnRabbit(t, RabbitOptions{Nodes: nodes})
}

// OwnRabbit starts a broker for this test alone.
func OwnRabbit(t testing.TB, o RabbitOptions) *RabbitMQ {
	t.Helper()
	r, err := StartRabbit(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// StartRabbit starts a broker and waits until all its nodes take connections.
// Between the choice of its ports and their use another process may take one, so
// what ends for that reason begins again with others.
func StartRabbit(ctx context.Context, o RabbitOptions) (*RabbitMQ, error) {
	return startRabbit(ctx, o, FreePorts)
}

// startTries is how often taken ports are answered with others.
const startTries = 4

func startRabbit(ctx context.Context, o RabbitOptions, choose func(n int) ([]int, error)) (*RabbitMQ, error) {
	if _, err := os.Stat(rabbitBin + "/rabbitmq-server"); err != nil {
		return nil, fmt.Errorf("starting RabbitMQ: %w; install Debian's package rabbitmq-server", err)
	}
	for n := 1; ; n++ {
		// epmd and, from each node, AMQP and Erlang's distribution.
		ports, err := choose(1 + 2*o.Nodes)
		if err != nil {
			return nil, fmt.Errorf("starting RabbitMQ: %w", err)
		}
		r, err := startOn(ctx, o, ports)
		if err == nil || n == startTries || ctx.Err() != nil || !errors.Is(err, errTaken) {
			return r, err
		}
	}
}

// errTaken: another process listens on a port that was free when it was chosen.
var errTaken = errors.New("another process took the port")

// startOn is one attempt; it leaves nothing behind if it fails.
func startOn(ctx context.Context, o RabbitOptions, ports []int) (_ *RabbitMQ, err error) {
	r := &RabbitMQ{Users: make(map[string]string)}
	if r.dir, err = os.MkdirTemp("", "dime-rabbit-"); err != nil {
		return nil, fmt.Errorf("starting RabbitMQ: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	if err := os.WriteFile(r.path(".erlang.cookie"), []byte(rand.Text()), 0o400); err != nil {
		return nil, fmt.Errorf("starting RabbitMQ: %w", err)
	}
	if err := r.definitions(); err != nil {
		return nil, err
	}
	r.env = []string{
		"HOME=" + r.dir, "PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8", "LC_ALL=C.UTF-8",
		"ERL_EPMD_PORT=" + strconv.Itoa(ports[0]), "ERL_EPMD_ADDRESS=127.0.0.1",
		// Both ends of Erlang's distribution; its default is all addresses.
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}",
		"RABBITMQ_CTL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}",
		"RABBITMQ_CTL_DIST_PORT_MIN=20000", "RABBITMQ_CTL_DIST_PORT_MAX=60000",
		"ERL_CRASH_DUMP=" + r.path("crash.dump"), "RABBITMQ_CONF_ENV_FILE=" + r.path("none.conf"), "RUNNING_UNDER_SYSTEMD=true", // so that the script execs the node
	}
	if r.epmd, err = start(r.path("epmd.log"), r.env, "epmd", "-port", strconv.Itoa(ports[0]), "-address", "127.0.0.1"); err != nil {
		return nil, fmt.Errorf("starting RabbitMQ: %w", err)
	}
	if err := awaitPort(ctx, r.epmd, "127.0.0.1:"+strconv.Itoa(ports[0])); err != nil {
		return nil, fmt.Errorf("starting epmd: %w", taken(err, ports[:1]))
	}
	for i := range o.Nodes {
		r.Nodes = append(r.Nodes, &RabbitNode{
			r: r, Name: fmt.Sprintf("dime%d@localhost", i+1), Addr: "127.0.0.1:" + strconv.Itoa(ports[1+2*i]),
			dir: r.path(strconv.Itoa(i + 1)),
		})
	}
	for i, n := range r.Nodes {
		if err := n.prepare(o, ports[1+2*i], ports[2+2*i]); err != nil {
			return nil, fmt.Errorf("preparing RabbitMQ: %w", err)
		}
		if err := n.Start(ctx); err != nil {
			return nil, err
		}
	}
	for i, n := range r.Nodes {
		if err := n.Await(ctx); err != nil {
			return nil, taken(err, ports[1+2*i:3+2*i])
		}
	}
	if err := r.spread(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

// taken adds errTaken to why a program ended if one of its ports is in others'
// hands: its own listeners went with it.
func taken(err error, ports []int) error {
	if !errors.Is(err, errEnded) {
		return err
	}
	for _, p := range ports {
		l, lerr := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(p))
		if lerr != nil {
			return fmt.Errorf("%w: %d, %w", errTaken, p, err)
		}
		_ = l.Close()
	}
	return err
}

// spread gives what the definitions made a member on every node: they are loaded
// by the first node, before there are others (deploy/rabbitmq/README.md).
func (r *RabbitMQ) spread(ctx context.Context) error {
	if len(r.Nodes) < 2 {
		return nil
	}
	first := r.Nodes[0]
	if _, err := first.Ctl(ctx, "await_online_nodes", strconv.Itoa(len(r.Nodes))); err != nil {
		return err
	}
	for _, n := range r.Nodes {
		if _, err := first.tool(ctx, "rabbitmq-queues", "grow", n.Name, "all"); err != nil {
			return err
		}
	}
	return nil
}

func (r *RabbitMQ) path(name string) string { return filepath.Join(r.dir, name) }

// definitions writes the shipped definitions with a password for each user.
func (r *RabbitMQ) definitions() error {
	var d map[string]any
	if err := json.Unmarshal(rabbitmq.Definitions(), &d); err != nil {
		return fmt.Errorf("reading deploy/rabbitmq/definitions.json: %w", err)
	}
	users, _ := d["users"].([]any)
	for _, u := range users {
		u, _ := u.(map[string]any)
		name, _ := u["name"].(string)
		r.Users[name] = rand.Text()
		u["password_hash"] = PasswordHash(r.Users[name])
	}
	b, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("writing definitions: %w", err)
	}
	return os.WriteFile(r.path("definitions.json"), b, 0o600)
}

// PasswordHash is rabbit_password_hashing_sha256 of a password: the form that
// definitions hold (RabbitMQ's guide "Credentials and Passwords").
func PasswordHash(password string) string {
	salt := make([]byte, 4)
	_, _ = rand.Read(salt)
	sum := sha256.Sum256(append(slices.Clone(salt), password...))
	return base64.StdEncoding.EncodeToString(append(salt, sum[:]...))
}

func (n *RabbitNode) prepare(o RabbitOptions, amqp, dist int) error {
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		return err
	}
	if o.Disk > 0 {
		unmount, err := SmallDisk(n.dir, o.Disk)
		if err != nil {
			return err
		}
		n.unmount = unmount
	}
	set := map[string]string{
		"listeners.tcp.default":    "127.0.0.1:" + strconv.Itoa(amqp),
		"load_definitions":         n.r.path("definitions.json"),
		"disk_free_limit.absolute": "512MB",    // a test machine's disk is small
		"raft.wal_max_size_bytes":  "67108864", // the default of 512 MiB is held in memory too
	}
	if o.Nodes > 1 {
		set["cluster_formation.peer_discovery_backend"] = "classic_config"
		for i, m := range n.r.Nodes {
			set["cluster_formation.classic_config.nodes."+strconv.Itoa(i+1)] = m.Name
		}
	}
	for k, v := range o.Set {
		set[k] = v
	}
	files := map[string]string{
		"rabbitmq.conf":   rabbitmq.Configure(set),
		"enabled_plugins": "[].\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(n.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	n.env = append(slices.Clone(n.r.env),
		"RABBITMQ_NODENAME="+n.Name, "RABBITMQ_DIST_PORT="+strconv.Itoa(dist),
		"RABBITMQ_MNESIA_BASE="+filepath.Join(n.dir, "data"), "RABBITMQ_LOG_BASE="+filepath.Join(n.dir, "log"),
		"RABBITMQ_GENERATED_CONFIG_DIR="+filepath.Join(n.dir, "generated"), "RABBITMQ_PID_FILE="+filepath.Join(n.dir, "pid"),
		"RABBITMQ_CONFIG_FILE="+filepath.Join(n.dir, "rabbitmq.conf"), "RABBITMQ_ENABLED_PLUGINS_FILE="+filepath.Join(n.dir, "enabled_plugins"),
		"RABBITMQ_ADVANCED_CONFIG_FILE="+filepath.Join(n.dir, "advanced.config"))
	return nil
}

// URL is where a role of the definitions connects to this node.
func (n *RabbitNode) URL(user string) string {
	u := url.URL{Scheme: "amqp", Host: n.Addr, Path: "/" + rabbitmq.VHost, User: url.UserPassword(user, n.r.Users[user])}
	return u.String()
}

// URLs are those of all nodes.
func (r *RabbitMQ) URLs(user string) []string {
	var us []string
	for _, n := range r.Nodes {
		us = append(us, n.URL(user))
	}
	return us
}

// Start starts the node without waiting for it.
func (n *RabbitNode) Start(context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.p != nil {
		return nil
	}
	p, err := start(filepath.Join(n.dir, "out.log"), n.env, rabbitBin+"/rabbitmq-server")
	if err != nil {
		return fmt.Errorf("starting %s: %w", n.Name, err)
	}
	n.p = p
	return nil
}

// Await waits until the node takes connections: its listener is the last thing
// that a node opens.
func (n *RabbitNode) Await(ctx context.Context) error {
	n.mu.Lock()
	p := n.p
	n.mu.Unlock()
	if p == nil {
		return fmt.Errorf("waiting for %s: it was not started", n.Name)
	}
	if err := awaitPort(ctx, p, n.Addr); err != nil {
		log, _ := os.ReadFile(filepath.Join(n.dir, "out.log"))
		return fmt.Errorf("waiting for %s: %w\n%s", n.Name, err, tail(log, 6000))
	}
	return nil
}

// Signal sends the node's process a signal: SIGSTOP and SIGCONT freeze and thaw it.
func (n *RabbitNode) Signal(s syscall.Signal) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.p == nil {
		return fmt.Errorf("signalling %s: it does not run", n.Name)
	}
	return n.p.signal(s)
}

// Freeze stops the node's process where it stands; Thaw lets it go on.
func (n *RabbitNode) Freeze() error { return n.Signal(syscall.SIGSTOP) }

// Thaw lets a frozen node go on.
func (n *RabbitNode) Thaw() error { return n.Signal(syscall.SIGCONT) }

// Kill ends the node as a power cut would; Stop lets it close its files.
func (n *RabbitNode) Kill() error { return n.end(syscall.SIGKILL) }

// Stop ends the node in order.
func (n *RabbitNode) Stop() error { return n.end(syscall.SIGTERM) }

func (n *RabbitNode) end(s syscall.Signal) error {
	n.mu.Lock()
	p := n.p
	n.p = nil
	n.mu.Unlock()
	if p == nil {
		return fmt.Errorf("ending %s: it does not run", n.Name)
	}
	return p.end(s)
}

// Ctl runs rabbitmqctl on the node.
func (n *RabbitNode) Ctl(ctx context.Context, args ...string) (string, error) {
	return n.tool(ctx, "rabbitmqctl", args...)
}

func (n *RabbitNode) tool(ctx context.Context, name string, args ...string) (string, error) {
	c := exec.CommandContext(ctx, rabbitBin+"/"+name, append([]string{"-q", "-n", n.Name}, args...)...)
	c.Env = append(slices.Clone(n.env), "RABBITMQ_NODENAME="+n.Name)
	c.Dir = n.r.dir
	out, err := c.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("running %s %s: %w: %s", name, args[0], err, out)
	}
	return string(out), nil
}

// CloseConnections has the broker close all connections of the virtual host.
func (n *RabbitNode) CloseConnections(ctx context.Context) error {
	_, err := n.Ctl(ctx, "close_all_connections", "--vhost", rabbitmq.VHost, "a test asked for it")
	return err
}

// Alarm raises or clears the memory alarm, which blocks every connection that
// publishes.
func (n *RabbitNode) Alarm(ctx context.Context, on bool) error {
	f := "clear_alarm({resource_limit, memory, node()})"
	if on {
		f = "set_alarm({{resource_limit, memory, node()}, []})"
	}
	_, err := n.Ctl(ctx, "eval", "rabbit_alarm:"+f+".")
	return err
}

// shared is what Share writes.
type shared struct {
	Nodes []sharedNode      `json:"nodes"`
	Users map[string]string `json:"users"`
	Dir   string            `json:"dir"`
}

type sharedNode struct {
	Name string   `json:"name"`
	Addr string   `json:"addr"`
	Env  []string `json:"env"`
}

// Share is the value of RabbitEnv that leads other processes here.
func (r *RabbitMQ) Share() string {
	s := shared{Users: r.Users, Dir: r.dir}
	for _, n := range r.Nodes {
		s.Nodes = append(s.Nodes, sharedNode{n.Name, n.Addr, n.env})
	}
	b, _ := json.Marshal(s)
	return string(b)
}

func sharedRabbit(text string) (*RabbitMQ, error) {
	var s shared
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return nil, err
	}
	r := &RabbitMQ{Users: s.Users, dir: s.Dir, shared: true}
	for _, n := range s.Nodes {
		r.Nodes = append(r.Nodes, &RabbitNode{r: r, Name: n.Name, Addr: n.Addr, env: n.Env})
	}
	if len(r.Nodes) == 0 {
		return nil, errors.New("it names no node")
	}
	return r, nil
}

// Close kills what was started and removes its data.
func (r *RabbitMQ) Close() error {
	if r.shared {
		return nil
	}
	var errs []error
	for _, n := range r.Nodes {
		n.mu.Lock()
		running := n.p != nil
		n.mu.Unlock()
		if running {
			errs = append(errs, n.Kill())
		}
		if n.unmount != nil {
			errs = append(errs, n.unmount())
			n.unmount = nil
		}
	}
	if r.epmd != nil {
		errs = append(errs, r.epmd.end(syscall.SIGKILL))
	}
	// Helpers of a killed node may still be closing their files.
	for deadline := time.Now().Add(5 * time.Second); ; {
		err := os.RemoveAll(r.dir)
		if err == nil || time.Now().After(deadline) {
			return errors.Join(append(errs, err)...)
		}
	}
}

func tail(b []byte, n int) string {
	s := strings.TrimSpace(string(b))
	return s[max(0, len(s)-n):]
}

var errEnded = errors.New("it has ended")

// awaitPort waits until a process listens: that one, for a port that another took
// is refused to it, which ends it.
func awaitPort(ctx context.Context, p *process, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, bootFor)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err == nil {
			_ = c.Close()
			if mine, err := p.listens(addr); mine || err != nil {
				return err
			}
			err = errors.New("another process does")
		}
		select {
		case <-p.done:
			return errEnded
		case <-ctx.Done():
			return fmt.Errorf("it does not listen on %s: %w", addr, err)
		case <-tick.C:
		}
	}
}
