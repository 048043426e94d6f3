package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/dime-bus/dime/bench/control"
)

// serveControl is the far side of startControl: a control server in a process
// of its own, so that its processor time can be told apart.
func serveControl(args []string) error {
	if len(args) < 1 {
		return errors.New("usage: control backend|handwritten BACKEND|slow DURATION|pipe URL")
	}
	var h http.Handler
	switch {
	case args[0] == "backend":
		h = http.HandlerFunc(control.Backend)
	case args[0] == "handwritten" && len(args) == 2:
		h = control.HandWritten(args[1])
	case args[0] == "slow" && len(args) == 2:
		d, err := time.ParseDuration(args[1])
		if err != nil {
			return err
		}
		h = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { time.Sleep(d); control.Backend(w, r) })
	case args[0] == "pipe" && len(args) == 2:
		fmt.Println("pipe")
		return pipeByHand(args[1])
	default:
		return fmt.Errorf("unknown control %q", args)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("http://" + l.Addr().String())
	return http.Serve(l, h)
}

// process is a server under measurement.
type process struct {
	cmd    *exec.Cmd
	url    string // public
	admin  string
	soap   string
	ready  time.Duration // from start to ready
	stderr bytes.Buffer
}

func startControl(e *env, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(e.self, append([]string{"control"}, args...)...)}
	p.cmd.Stderr = &p.stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	buf := make([]byte, 256)
	n, err := out.Read(buf)
	if err != nil {
		p.stop()
		return nil, fmt.Errorf("waiting for control %v: %w: %s", args, err, p.stderr.String())
	}
	p.url = strings.TrimSpace(string(buf[:n]))
	return p, nil
}

// startDime serves a content folder with a data folder of its own.
func startDime(e *env, content, data string, flags ...string) (*process, error) {
	ready := filepath.Join(data, "ready.json")
	if err := os.MkdirAll(data, 0o755); err != nil {
		return nil, err
	}
	_ = os.Remove(ready)
	p := &process{cmd: exec.Command(e.dime, append([]string{"serve", "--content", content, "--data", data,
		"--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--city", "off", "--ready-file", ready}, flags...)...)}
	p.cmd.Stderr, p.cmd.Stdout = &p.stderr, &p.stderr
	start := time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	for time.Since(start) < 60*time.Second {
		if b, err := os.ReadFile(ready); err == nil && len(b) > 0 {
			p.ready = time.Since(start)
			var urls struct{ Public, Admin, Soap string }
			if err := json.Unmarshal(b, &urls); err != nil {
				p.stop()
				return nil, fmt.Errorf("reading the ready file: %w", err)
			}
			p.url, p.admin, p.soap = urls.Public, urls.Admin, urls.Soap
			return p, nil
		}
		time.Sleep(time.Millisecond)
	}
	p.stop()
	return nil, fmt.Errorf("dime did not become ready: %s", p.stderr.String())
}

func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	done := make(chan struct{})
	go func() { _ = p.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(15 * time.Second):
		_ = p.cmd.Process.Kill()
		<-done
	}
}

// cpu is the processor time that the process has used.
func (p *process) cpu() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// Fields after the command's name in parentheses; utime and stime are the
	// 14th and 15th of proc(5), in ticks of 1/100 s.
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	u, err1 := strconv.Atoi(f[11])
	s, err2 := strconv.Atoi(f[12])
	return time.Duration(u+s) * 10 * time.Millisecond, errors.Join(err1, err2)
}

// memory is the resident set in MiB.
func (p *process) memory() (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(v), "kB")))
			return float64(kb) / 1024, err
		}
	}
	return 0, errors.New("no VmRSS in /proc/PID/status")
}

// load sends requests over a number of connections for a while and returns how
// many were answered rightly.
func load(url string, connections int, length time.Duration, body func(n int) []byte, check func(n int, b []byte) error) (int, error) {
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections}}
	defer client.CloseIdleConnections()
	type result struct {
		n   int
		err error
	}
	results := make(chan result, connections)
	end := time.Now().Add(length)
	for c := range connections {
		go func() {
			n := 0
			var buf bytes.Buffer
			for ; time.Now().Before(end); n++ {
				id := c*10_000_000 + n
				if err := post(client, url, body(id), &buf); err != nil {
					results <- result{n, err}
					return
				}
				// Every reply is checked for its length and status, every 64th whole, so
				// that the client stays cheaper than what it measures.
				if n%64 == 0 {
					if err := check(id, buf.Bytes()); err != nil {
						results <- result{n, err}
						return
					}
				}
			}
			results <- result{n, nil}
		}()
	}
	total := 0
	var errs []error
	for range connections {
		r := <-results
		total += r.n
		errs = append(errs, r.err)
	}
	return total, errors.Join(errs...)
}

func post(client *http.Client, url string, body []byte, buf *bytes.Buffer) error {
	resp, err := client.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	buf.Reset()
	if _, err := io.Copy(buf, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 || buf.Len() == 0 && resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("status %d: %.300s", resp.StatusCode, buf.String())
	}
	return nil
}

// copyTree copies a content folder.
func copyTree(from, to string) error { return os.CopyFS(to, os.DirFS(from)) }
