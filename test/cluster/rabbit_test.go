//go:build linux

package cluster

import (
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestRabbit starts three nodes, ends and revives one, and leaves nothing behind.
func TestRabbit(t *testing.T) {
	r, err := StartRabbit(t.Context(), RabbitOptions{Nodes: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	first, second := r.Nodes[0], r.Nodes[1]
	status := func() string {
		out, err := first.Ctl(t.Context(), "cluster_status", "--formatter", "json")
		if err != nil {
			t.Fatal(err)
		}
		_, running, _ := strings.Cut(out, `"running_nodes":`)
		running, _, _ = strings.Cut(running, "]")
		return running
	}
	if s := status(); strings.Count(s, "@localhost") != 3 {
		t.Fatalf("running nodes: %s", s)
	}
	for _, n := range r.Nodes {
		loopback(t, n.p.cmd.Process.Pid)
	}
	if err := second.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := second.Thaw(); err != nil {
		t.Fatal(err)
	}
	if err := second.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := net.DialTimeout("tcp", second.Addr, time.Second); err == nil {
		t.Fatal("a killed node takes connections")
	}
	if err := second.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := second.Await(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := status(); strings.Count(s, "@localhost") != 3 {
		t.Fatalf("running nodes after a kill and a start: %s", s)
	}
	pids := []int{r.epmd.cmd.Process.Pid}
	for _, n := range r.Nodes {
		pids = append(pids, n.p.cmd.Process.Pid)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, 0); err == nil {
			t.Errorf("process %d is left", pid)
		}
	}
	if _, err := os.Stat(r.dir); !os.IsNotExist(err) {
		t.Errorf("the data is left: %v", err)
	}
}

// TestRabbitPortTaken: whichever of its ports another process takes between the
// choice and the use, the broker starts on others, and the failed attempts leave
// nothing behind.
func TestRabbitPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	takes := func(which ...int) (choose func(int) ([]int, error), tries *int) {
		tries = new(int)
		return func(n int) ([]int, error) {
			ports, err := FreePorts(n)
			if *tries < len(which) && err == nil {
				ports[which[*tries]] = l.Addr().(*net.TCPAddr).Port
			}
			*tries++
			return ports, err
		}, tries
	}
	left := func() int {
		fs, err := os.ReadDir(os.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		return len(fs)
	}
	t.Setenv("TMPDIR", t.TempDir())
	choose, tries := takes(0, 1, 2) // epmd, AMQP, Erlang's distribution
	r, err := startRabbit(t.Context(), RabbitOptions{Nodes: 1}, choose)
	if err != nil {
		t.Fatal(err)
	}
	if *tries != 4 || left() != 1 {
		t.Errorf("started at attempt %d, beside %d folders", *tries, left()-1)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	choose, _ = takes(0, 0, 0, 0)
	if _, err := startRabbit(t.Context(), RabbitOptions{Nodes: 1}, choose); !errors.Is(err, errTaken) || left() != 0 {
		t.Errorf("got %v, and %d folders are left", err, left())
	}
}

// loopback checks that a process listens on the loopback address alone.
func loopback(t *testing.T, pid int) {
	t.Helper()
	inodes := sockets(t, pid)
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) < 10 || f[3] != "0A" || !inodes[f[9]] { // 0A: listening (proc(5))
				continue
			}
			if !strings.HasPrefix(f[1], "0100007F:") && !strings.HasPrefix(f[1], "00000000000000000000000001000000:") {
				t.Errorf("process %d listens on %s", pid, f[1])
			}
		}
	}
}

func sockets(t *testing.T, pid int) map[string]bool {
	t.Helper()
	dir := "/proc/" + strconv.Itoa(pid) + "/fd"
	fds, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]bool)
	for _, fd := range fds {
		to, err := os.Readlink(dir + "/" + fd.Name())
		if s, ok := strings.CutPrefix(to, "socket:["); ok && err == nil {
			out[strings.TrimSuffix(s, "]")] = true
		}
	}
	if len(out) == 0 {
		t.Fatalf("process %d has no sockets", pid)
	}
	return out
}
