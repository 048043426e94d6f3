package kill

import (
	"context"
	"flag"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var handoversFlag = flag.Int("handovers", 4, "how often the bus is replaced behind its socket")

// activate begins a life of the bus on a socket that this test keeps, as systemd
// would; with nil it listens by itself.
func (r *rig) activate(socket *os.File) *proc {
	r.t.Helper()
	if socket == nil {
		p := r.start()
		r.await(p, filepath.Join(r.dir, "bus.ready"))
		return p
	}
	ready := filepath.Join(r.dir, "bus.ready")
	_ = os.Remove(ready) // of the life before
	log, err := os.OpenFile(filepath.Join(r.dir, "bus.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	p := &proc{log: log, done: make(chan struct{})}
	// LISTEN_PID is the process's own number, which exec keeps.
	p.cmd = exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, r.binary, "serve",
		"--content", filepath.Join(r.dir, "content"), "--data", filepath.Join(r.dir, "bus"), "--city", r.city,
		"--listen", "127.0.0.1:1", "--admin", strings.TrimPrefix(r.admin, "http://"), "--soap", r.soap,
		"--ready-file", ready, "--log", "warn")
	p.cmd.Env = append(os.Environ(), "LISTEN_FDS=1", "LISTEN_FDNAMES=listen")
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.ExtraFiles = []*os.File{socket}
	if err := p.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	go func() { p.err = p.cmd.Wait(); log.Close(); close(p.done) }()
	r.mu.Lock()
	r.bus = p
	r.mu.Unlock()
	r.await(p, ready)
	return p
}

// knocking asks at a steady pace, whatever comes back: half of it writes.
type knocking struct {
	r            *rig
	at           string        // URL; where it is not the rig's
	every        time.Duration // 8 ms if zero
	jobs         bool          // effectful runs too
	client       *http.Client
	asked, wrote atomic.Int64
	mu           sync.Mutex
	failed       []string
}

func (k *knocking) run(stop <-chan struct{}) {
	tick := time.NewTicker(max(k.every, 8*time.Millisecond))
	defer tick.Stop()
	var all sync.WaitGroup
	defer all.Wait()
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		case <-tick.C:
			all.Go(func() { k.one(i) })
		}
	}
}

func (k *knocking) one(i int) {
	method, path, body := http.MethodGet, "/openapi.json", ""
	if i%2 == 0 {
		method, path, body = http.MethodPost, "/v1/kill/confirmations", `{"id":"knock-`+strconv.Itoa(i)+`"}`
	}
	if k.jobs && i%4 == 0 {
		path, body = "/v1/kill/jobs", `{"id":"knock-`+strconv.Itoa(i)+`","stamps":[1],"tell":false}`
	}
	at := k.at
	if at == "" {
		at = k.r.public
	}
	req, err := http.NewRequestWithContext(context.Background(), method, at+path, strings.NewReader(body))
	if err != nil {
		k.r.t.Error(err)
		return
	}
	req.GetBody = nil // the transport must not send anything a second time by itself
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+k.r.token)
	k.asked.Add(1)
	resp, err := k.client.Do(req)
	said := ""
	if err != nil {
		said = err.Error()
	} else {
		if resp.StatusCode >= 400 {
			said = resp.Status
		} else if method == http.MethodPost {
			k.wrote.Add(1)
		}
		resp.Body.Close()
	}
	if said != "" {
		k.mu.Lock()
		k.failed = append(k.failed, method+": "+said)
		k.mu.Unlock()
	}
}

// replace ends the bus by SIGTERM n times under load and starts the next one.
func (r *rig) replace(n int, socket *os.File) *knocking {
	r.t.Helper()
	k := &knocking{r: r, client: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 16}}}
	p := r.activate(socket)
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() { defer close(ended); k.run(stop) }()
	for range n {
		before := k.wrote.Load()
		r.until(20*time.Second, "requests that this life answered", func() bool { return k.wrote.Load() > before+20 })
		if !p.alive() {
			r.t.Fatalf("the bus ended by itself: %v", p.err)
		}
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			r.t.Fatal(err)
		}
		<-p.done
		if p.err != nil {
			r.dump("bus.log")
			r.t.Fatalf("SIGTERM did not end the bus well: %v", p.err)
		}
		p = r.activate(socket)
	}
	before := k.wrote.Load()
	r.until(20*time.Second, "requests that the last life answered", func() bool { return k.wrote.Load() > before+20 })
	close(stop)
	<-ended
	return k
}

// One life after the other behind one socket: no request fails, writing ones too.
func TestHandover(t *testing.T) {
	r := newRig(t, binary(t))
	l, err := net.Listen("tcp", strings.TrimPrefix(r.public, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	k := r.replace(*handoversFlag, socket)
	t.Logf("%d requests over %d replacements, %d failed", k.asked.Load(), *handoversFlag, len(k.failed))
	if len(k.failed) > 0 {
		t.Errorf("%d of %d requests failed, the first: %s", len(k.failed), k.asked.Load(), k.failed[0])
	}
	r.stopBus()
}

// The control: whose socket goes with the process must lose requests.
func TestControlWithoutHandover(t *testing.T) {
	r := newRig(t, binary(t))
	if k := r.replace(1, nil); len(k.failed) == 0 {
		t.Errorf("none of %d requests failed although nobody listened for a while: the test is blind", k.asked.Load())
	}
	r.stopBus()
}
