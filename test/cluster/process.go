//go:build linux

package cluster

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a program that dies with this one, however this one dies.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// start starts a program whose output goes to a file.
func start(log string, env []string, name string, args ...string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	c := exec.Command(name, args...)
	c.Env, c.Stdout, c.Stderr = env, out, out
	c.Dir = filepath.Dir(log)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p := &process{cmd: c, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel sends Pdeathsig when the thread ends that started the child
		// (prctl(2), PR_SET_PDEATHSIG), so this thread stays with it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		defer out.Close()
		err := c.Start()
		started <- err
		if err == nil {
			_ = c.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// end sends the signal and waits for the end, which SIGKILL brings about where
// the other did not within 30 s. A process that is gone is no error.
func (p *process) end(s syscall.Signal) error {
	if err := p.signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("ending process %d: %w", p.cmd.Process.Pid, err)
	}
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.done
	}
	return nil
}

// listens says whether the process itself listens at a loopback address.
func (p *process) listens(addr string) (bool, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return false, err
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return false, fmt.Errorf("reading port %q: %w", port, err)
	}
	text, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return false, fmt.Errorf("asking who listens: %w", err)
	}
	var inode string
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) >= 10 && f[3] == "0A" && f[1] == fmt.Sprintf("0100007F:%04X", n) { // 0A: listening (proc(5))
			inode = f[9]
		}
	}
	dir := "/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/fd"
	fds, err := os.ReadDir(dir)
	if err != nil {
		return false, nil //nolint:nilerr // it has ended, which its waiter sees
	}
	for _, fd := range fds {
		if to, err := os.Readlink(filepath.Join(dir, fd.Name())); err == nil && inode != "" && to == "socket:["+inode+"]" {
			return true, nil
		}
	}
	return false, nil
}
