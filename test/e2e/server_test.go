// Package e2e speaks to the real binary over real connections, as a stranger
// would who means harm.
package e2e

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

var binFlag = flag.String("dime", filepath.Join("..", "..", "bin", "dime"), "the binary under test")

// server is a running `dime serve --city embedded` with the shipped content.
type server struct {
	dir                 string
	public, admin, city string // URLs
	binary              string
}

// start runs the binary on the shipped content until the test ends.
func start(t *testing.T) *server {
	t.Helper()
	content, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return startOn(t, content)
}

func startOn(t *testing.T, content string) *server {
	t.Helper()
	binary, err := filepath.Abs(*binFlag)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(binary); err != nil {
		t.Fatalf("the binary is missing: run `make build` first: %v", err)
	}
	s := &server{dir: t.TempDir(), binary: binary}
	urls := s.run(t, "log", "serve", "--content", content, "--data", filepath.Join(s.dir, "data"), "--city", "embedded",
		"--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log", "debug")
	s.public, s.admin, s.city = urls["public"], urls["admin"], urls["city"]
	return s
}

// run starts the binary, waits until it is ready and ends it with the test. What it
// writes goes to a file of this name below s.dir. The result is its ready file.
func (s *server) run(t *testing.T, name string, args ...string) map[string]string {
	t.Helper()
	ready, logFile := filepath.Join(s.dir, name+".ready"), filepath.Join(s.dir, name)
	log, err := os.Create(logFile)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(s.binary, append(args, "--ready-file", ready)...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait(); log.Close() }()
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Errorf("the server had ended before the test did: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("the server ended badly: %v", err)
		}
		if t.Failed() {
			b := s.read(t, logFile)
			t.Logf("end of the log:\n%s", b[max(0, len(b)-4<<10):])
		}
	})
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(30 * time.Second)
	for {
		var urls map[string]string
		if b, err := os.ReadFile(ready); err == nil && json.Unmarshal(b, &urls) == nil {
			return urls
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("the server is not ready:\n%s", s.read(t, logFile))
		}
	}
}

func (s *server) logFile() string { return filepath.Join(s.dir, "log") }

func (s *server) read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func (s *server) token(t *testing.T, citizen string) string {
	t.Helper()
	out, err := exec.Command(s.binary, "token", "--data", filepath.Join(s.dir, "data"), "--citizen", citizen, "--assurance", "2").Output()
	if err != nil {
		t.Fatalf("making a token: %v", err)
	}
	return strings.TrimSpace(string(out))
}
