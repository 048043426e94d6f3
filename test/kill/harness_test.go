// Package kill ends the real binary with SIGKILL, again and again, under load,
// and then judges by the emulators' raw logs what the world saw.
package kill

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
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

// proc is a process of the binary under test.
type proc struct {
	cmd  *exec.Cmd
	log  *os.File
	done chan struct{}
	err  error
}

func launch(t *testing.T, logFile string, env []string, binary string, args ...string) *proc {
	t.Helper()
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	p := &proc{cmd: exec.Command(binary, args...), log: log, done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.err = p.cmd.Wait(); log.Close(); close(p.done) }()
	return p
}

// alive says whether the process has not ended.
func (p *proc) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// killed waits for the process's end and says whether SIGKILL was its cause.
func (p *proc) killed() bool {
	<-p.done
	var exit *exec.ExitError
	if !errors.As(p.err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// rig is a virtual city that lives on and a bus that is killed.
type rig struct {
	t      *testing.T
	binary string
	dir    string
	city   string // URL
	public string // URL; the same over all lives
	soap   string // host:port, the same over all lives
	admin  string
	token  string
	client *http.Client
	far    *proc

	mu  sync.Mutex
	bus *proc
}

func newRig(t *testing.T, binary string) *rig {
	t.Helper()
	return newRigOn(t, binary, "content", "RSSMRA80A01L736U")
}

// newRigOn serves a copy of a content folder's routes, schemas and config; its
// requests are a citizen's.
func newRigOn(t *testing.T, binary, folder, citizen string) *rig {
	t.Helper()
	r := &rig{t: t, binary: binary, dir: t.TempDir(), client: &http.Client{Timeout: 8 * time.Second,
		Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	for _, part := range []string{"routes", "schemas", "config"} {
		from := filepath.Join(folder, part)
		if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := os.CopyFS(filepath.Join(r.dir, "content", part), os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	ready := filepath.Join(r.dir, "city.ready")
	r.far = launch(t, filepath.Join(r.dir, "city.log"), nil, binary, "city", "--content", filepath.Join(r.dir, "content"),
		"--data", filepath.Join(r.dir, "far"), "--listen", "127.0.0.1:0", "--ready-file", ready)
	t.Cleanup(func() {
		if r.bus != nil && r.bus.alive() { // the test failed in the middle of a life
			_ = r.bus.cmd.Process.Kill()
			<-r.bus.done
		}
		r.far.cmd.Process.Signal(syscall.SIGTERM)
		<-r.far.done
		if t.Failed() {
			r.dump("city.log")
			r.dump("bus.log")
		}
	})
	r.city = r.await(r.far, ready)["city"]
	r.public, r.admin, r.soap = "http://"+freeAddr(t), "http://"+freeAddr(t), freeAddr(t)
	out, err := exec.Command(binary, "token", "--data", filepath.Join(r.dir, "far"), "--citizen", citizen, "--assurance", "2").Output()
	if err != nil {
		t.Fatalf("making a token: %v", err)
	}
	r.token = strings.TrimSpace(string(out))
	return r
}

// freeAddr is a loopback port that was free a moment ago.
func freeAddr(t *testing.T) string {
	t.Helper()
	ports, err := cluster.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", ports[0])
}

func (r *rig) dump(name string) {
	b, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil {
		return
	}
	if len(b) > 8<<10 {
		b = b[len(b)-8<<10:]
	}
	r.t.Logf("end of %s:\n%s", name, b)
}

// await waits for a ready file; the process must live meanwhile.
func (r *rig) await(p *proc, file string) map[string]string {
	r.t.Helper()
	var urls map[string]string
	r.until(30*time.Second, "the ready file "+filepath.Base(file), func() bool {
		if !p.alive() {
			r.dump("bus.log")
			r.dump("city.log")
			r.t.Fatalf("the process ended before it was ready: %v", p.err)
		}
		b, err := os.ReadFile(file)
		return err == nil && json.Unmarshal(b, &urls) == nil
	})
	return urls
}

// until polls a condition up to a deadline.
func (r *rig) until(limit time.Duration, what string, ok func() bool) {
	r.t.Helper()
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			r.t.Fatalf("waited %s for %s", limit, what)
		}
		<-tick.C
	}
}

// start begins a new life of the bus.
func (r *rig) start(env ...string) *proc {
	r.t.Helper()
	ready := filepath.Join(r.dir, "bus.ready")
	os.Remove(ready)
	p := launch(r.t, filepath.Join(r.dir, "bus.log"), append(env, "DIME_TEST_PROBE="+r.probeFile()), r.binary, "serve",
		"--content", filepath.Join(r.dir, "content"), "--data", filepath.Join(r.dir, "bus"), "--city", r.city,
		"--listen", strings.TrimPrefix(r.public, "http://"), "--admin", strings.TrimPrefix(r.admin, "http://"), "--soap", r.soap,
		"--ready-file", ready, "--log", "warn")
	r.mu.Lock()
	r.bus = p
	r.mu.Unlock()
	return p
}

func (r *rig) probeFile() string { return filepath.Join(r.dir, "probe") }

// interrupted reads which commit was under way, or the last one, when the bus died.
func (r *rig) interrupted() (kind, when string) {
	b, err := os.ReadFile(r.probeFile())
	if err != nil {
		return "none", ""
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return "none", ""
	}
	return f[0], f[1]
}

// answer is a response's status and body.
type answer struct {
	status int
	body   map[string]any
}

// ask sends one request; an error is a cut or refused connection.
func (r *rig) ask(ctx context.Context, method, url string, body any) (answer, error) {
	var rd io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return answer{}, err
		}
		rd = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, rd)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Authorization", "Bearer "+r.token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{status: resp.StatusCode}
	_ = json.Unmarshal(b, &a.body) // a 204 has none
	return a, nil
}

// insist sends a request until something final comes back: below 500, or a
// 504 with the run's URL, which then goes on without its caller.
func (r *rig) insist(ctx context.Context, url string, body any) (answer, error) {
	for {
		a, err := r.ask(ctx, http.MethodPost, url, body)
		if err == nil && (a.status < 500 || a.status == http.StatusGatewayTimeout && a.body["run_url"] != nil) {
			return a, nil
		}
		select {
		case <-ctx.Done():
			return a, fmt.Errorf("no answer in time: %w (last status %d)", errors.Join(err, ctx.Err()), a.status)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// get decodes a JSON answer of the city or of the admin face.
func (r *rig) get(url string, into any) error {
	resp, err := r.client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: status %d", url, resp.StatusCode)
	}
	return json.NewDecoder(resp.Body).Decode(into)
}
