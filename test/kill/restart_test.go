package kill

import (
	"bufio"
	"flag"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

var restartsFlag = flag.Int("restarts", 10, "how often a gateway behind haproxy is replaced")

// haproxy runs the configuration that cities install.
type haproxy struct {
	f      *fleet
	url    string
	socket string
}

func newHAProxy(f *fleet) *haproxy {
	f.t.Helper()
	const program = "/usr/sbin/haproxy"
	if _, err := os.Stat(program); err != nil {
		f.t.Fatalf("looking for haproxy: %v (Debian: apt-get install haproxy)", err)
	}
	addr := freeAddr(f.t)
	h := &haproxy{f: f, url: "http://" + addr, socket: filepath.Join(f.scratch(), "haproxy.sock")}
	p := launch(f.t, filepath.Join(f.dir, "haproxy.log"), []string{"DIME_HAPROXY_SOCKET=" + h.socket, "DIME_PUBLIC=" + addr,
		"DIME_GATEWAY_1=" + f.members[0].public, "DIME_GATEWAY_2=" + f.members[1].public},
		program, "-db", "-f", filepath.Join("..", "..", "deploy", "haproxy", "haproxy.cfg"))
	f.t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		if f.t.Failed() {
			f.dump("haproxy.log")
		}
	})
	return h
}

// state is what haproxy thinks of a server: UP, DOWN or on the way ("UP 1/2").
func (h *haproxy) state(server string) string {
	c, err := net.Dial("unix", h.socket)
	if err != nil {
		return ""
	}
	defer c.Close()
	if _, err := c.Write([]byte("show stat gateways 4 -1\n")); err != nil {
		return ""
	}
	for in := bufio.NewScanner(c); in.Scan(); {
		if f := strings.Split(in.Text(), ","); len(f) > 17 && f[1] == server {
			return f[17]
		}
	}
	return ""
}

func (h *haproxy) await(m *member, state string) {
	h.f.t.Helper()
	h.f.until(60*time.Second, "haproxy to find "+m.name+" "+state, func() bool { return h.state(m.name) == state })
}

// knock begins a steady load through haproxy; end stops it and gives what failed.
func (h *haproxy) knock() (k *knocking, end func() []string) {
	k = &knocking{r: h.f.rig, at: h.url, every: 25 * time.Millisecond, jobs: true,
		client: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 16}}}
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() { defer close(ended); k.run(stop) }()
	return k, func() []string {
		close(stop)
		<-ended
		return k.failed
	}
}

// terminate ends a member's life by SIGTERM, which must end well.
func (f *fleet) terminate(m *member) {
	f.t.Helper()
	p := m.proc()
	if !p.alive() {
		f.t.Fatalf("%s ended by itself: %v", m.name, p.err)
	}
	if err := m.signal(syscall.SIGTERM); err != nil {
		f.t.Fatal(err)
	}
	f.until(60*time.Second, m.name+" to end", func() bool { return !p.alive() })
	if p.err != nil {
		f.t.Fatalf("SIGTERM did not end %s well: %v", m.name, p.err)
	}
}

// Two gateways behind haproxy, which repeats nothing, are replaced in turn under a
// steady load that writes: no request fails. A worker is replaced now and then too.
// The control, a gateway that goes without notice, must lose some.
func TestRestarts(t *testing.T) {
	f := newFleet(t, "content", "RSSMRA80A01L736U", 1, 2, 1)
	f.notice("2s")
	f.configure("lease", "10s") // a city's own: no lease ends here because the machine is busy
	f.configure("renew", "3s")
	f.startAll()
	h := newHAProxy(f)
	gateways, worker := f.members[:2], f.members[2]
	for _, m := range gateways {
		h.await(m, "UP")
	}
	k, end := h.knock()
	answered := func(more int64) {
		t.Helper()
		before := k.wrote.Load()
		f.until(60*time.Second, "requests that were answered", func() bool { return k.wrote.Load() > before+more })
	}
	for i := range *restartsFlag {
		answered(10)
		if i%3 == 2 {
			f.terminate(worker)
			worker.start()
		}
		f.terminate(gateways[i%2])
		h.await(gateways[i%2], "DOWN")
		f.startAll()
		h.await(gateways[i%2], "UP")
	}
	answered(10)
	failed := end()
	t.Logf("%d requests over %d replacements, %d wrote, %d failed", k.asked.Load(), *restartsFlag, k.wrote.Load(), len(failed))
	if len(failed) > 0 {
		kinds := map[string]int{}
		for _, said := range failed {
			kinds[said]++
		}
		t.Errorf("%d of %d requests failed: %s", len(failed), k.asked.Load(), list(kinds))
	}
	f.until(60*time.Second, "all runs to end", func() bool {
		var list runList
		err := f.get(f.admin+"/runs?state=queued&state=running&state=waiting&state=undoing&limit=1", &list)
		return err == nil && len(list.Runs) == 0
	})
	if runs := f.allRuns(); int64(len(runs)) < k.wrote.Load() {
		t.Errorf("%d requests were accepted and %d runs are there", k.wrote.Load(), len(runs))
	}

	// The control.
	f.notice("1ms")
	f.terminate(gateways[0])
	f.startAll()
	h.await(gateways[0], "UP")
	k, end = h.knock()
	answered(10)
	f.terminate(gateways[0])
	h.await(gateways[0], "DOWN")
	answered(10)
	if failed := end(); len(failed) == 0 {
		t.Errorf("none of %d requests failed although a gateway went without notice: the test is blind", k.asked.Load())
	}
}

// notice has the processes that start from here on give so much of it.
func (f *fleet) notice(d string) { f.configure("notice", d) }

// configure sets one of the engine's settings for the processes that start from
// here on.
func (f *fleet) configure(key, value string) {
	f.t.Helper()
	name := filepath.Join(f.dir, "content", "config", "dime.yaml")
	b, err := os.ReadFile(name)
	if err != nil {
		f.t.Fatal(err)
	}
	var lines []string
	for line := range strings.SplitSeq(string(b), "\n") {
		if !strings.HasPrefix(line, "  "+key+":") {
			lines = append(lines, line)
		}
		if line == "engine:" {
			lines = append(lines, "  "+key+": "+value)
		}
	}
	if err := os.WriteFile(name, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		f.t.Fatal(err)
	}
}
