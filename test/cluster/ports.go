package cluster

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// FreePorts finds ports of the loopback address that nobody listens on. They lie
// below those from which systems take the ports of outgoing connections (Linux from
// 32768), so that a server which starts again finds its own still free.
func FreePorts(n int) ([]int, error) {
	var ls []net.Listener
	defer func() {
		for _, l := range ls {
			_ = l.Close()
		}
	}()
	var ports []int
	for tries := 0; len(ports) < n; tries++ {
		port := 12000 + rand.IntN(20000) //nolint:gosec // no secret
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			if tries > 100*n {
				return nil, fmt.Errorf("looking for a free port: %w", err)
			}
			continue
		}
		ls, ports = append(ls, l), append(ports, port)
	}
	return ports, nil
}
