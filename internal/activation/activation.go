// Package activation takes the listening sockets that a service manager holds for a
// program (systemd.socket(5)).
package activation

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

// Sockets takes those that were handed to process pid, by their names, which must be
// among those given; none where there was no service manager. They outlive the
// process: what connects between two lives of it waits in the socket's queue.
func Sockets(getenv func(string) string, pid int, names ...string) (map[string]net.Listener, error) {
	if getenv("LISTEN_PID") != strconv.Itoa(pid) {
		return nil, nil
	}
	n, err := strconv.Atoi(getenv("LISTEN_FDS"))
	if err != nil || n < 1 || n > 64 {
		return nil, fmt.Errorf("taking the sockets of the service manager: LISTEN_FDS is %q", getenv("LISTEN_FDS"))
	}
	given := strings.Split(getenv("LISTEN_FDNAMES"), ":")
	out := map[string]net.Listener{}
	for i := range n {
		name := ""
		if i < len(given) {
			name = given[i]
		}
		if !slices.Contains(names, name) || out[name] != nil {
			return nil, fmt.Errorf("taking the sockets of the service manager: socket %d is called %q; set FileDescriptorName= to one of %s, each once", i+1, name, strings.Join(names, ", "))
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
