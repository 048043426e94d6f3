package main

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
)

// firstSocket is the first descriptor that a service manager hands over
// (sd_listen_fds(3)).
const firstSocket = 3

// faceNames are the sockets that may be handed over, by FileDescriptorName=.
func faceNames() []string { return []string{"listen", "admin", "soap"} }

// inherited takes the listening sockets that a service manager handed to this
// process, by their names; none where it did not. They outlive the process: what
// connects between two lives of it waits in the socket's queue.
func inherited(getenv func(string) string, pid int) (map[string]net.Listener, error) {
	if getenv("LISTEN_PID") != strconv.Itoa(pid) {
		return nil, nil
	}
	n, err := strconv.Atoi(getenv("LISTEN_FDS"))
	if err != nil || n < 1 || n > 64 {
		return nil, fmt.Errorf("taking the sockets of the service manager: LISTEN_FDS is %q", getenv("LISTEN_FDS"))
	}
	names := strings.Split(getenv("LISTEN_FDNAMES"), ":")
	out := map[string]net.Listener{}
	for i := range n {
		name := ""
		if i < len(names) {
			name = names[i]
		}
		if !slices.Contains(faceNames(), name) || out[name] != nil {
			return nil, fmt.Errorf("taking the sockets of the service manager: socket %d is called %q; set FileDescriptorName= to listen, admin or soap, each once", i+1, name)
		}
		f := os.NewFile(uintptr(firstSocket+i), name)
		l, err := net.FileListener(f)
		if err != nil {
			return nil, fmt.Errorf("taking the socket %q of the service manager: %w", name, err)
		}
		if _, tcp := l.Addr().(*net.TCPAddr); !tcp {
			return nil, fmt.Errorf("taking the socket %q of the service manager: it is %s, not TCP", name, l.Addr().Network())
		}
		if err := f.Close(); err != nil { // the listener has its own copy
			return nil, fmt.Errorf("taking the socket %q of the service manager: %w", name, err)
		}
		out[name] = l
	}
	return out, nil
}

// listen gives a face's socket: the one that was handed over, else its own.
func (s *server) listen(name, addr string) (net.Listener, error) {
	if l := s.handed[name]; l != nil {
		return l, nil
	}
	return listen(name, addr)
}
