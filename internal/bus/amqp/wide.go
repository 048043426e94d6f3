package amqp

import (
	"bufio"
	"net"
	"sync"
	"time"
)

const (
	wideBuffer = 64 << 10        // of either direction
	lastWords  = 2 * time.Second // what is buffered has to leave when the connection is closed
)

// wide is a connection of few system calls: what is written while an earlier write
// is under way leaves with the next one, and reads take what there is. amqp091
// flushes every frame and reads 4 KiB at a time; the calls, and the packets that the
// broker wakes for, then cost more than the messages.
//
// An error of a write comes back from a later one. Nobody misses it: what was
// written counts only when the broker confirms it.
type wide struct {
	net.Conn
	r *bufio.Reader

	mu      sync.Mutex
	changed sync.Cond // buf, err or closed
	buf     []byte
	err     error
	closed  bool
	done    chan struct{} // nothing is written any more
}

func widen(c net.Conn) net.Conn {
	w := &wide{Conn: c, r: bufio.NewReaderSize(c, wideBuffer), done: make(chan struct{})}
	w.changed.L = &w.mu
	go w.flush()
	return w
}

func (w *wide) Read(p []byte) (int, error) { return w.r.Read(p) }

func (w *wide) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.buf) >= wideBuffer && w.err == nil && !w.closed {
		w.changed.Wait()
	}
	switch {
	case w.err != nil:
		return 0, w.err
	case w.closed:
		return 0, net.ErrClosed
	}
	w.buf = append(w.buf, p...)
	w.changed.Broadcast()
	return len(p), nil
}

func (w *wide) flush() {
	defer close(w.done)
	var out []byte
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		for len(w.buf) == 0 && !w.closed {
			w.changed.Wait()
		}
		if len(w.buf) == 0 {
			return
		}
		out, w.buf = w.buf, out[:0]
		w.changed.Broadcast()
		w.mu.Unlock()
		_, err := w.Conn.Write(out)
		w.mu.Lock()
		if err != nil {
			w.err = err
			w.changed.Broadcast()
			_ = w.Conn.Close() // whoever reads learns of it
			return
		}
	}
}

// Close lets what is buffered leave first.
func (w *wide) Close() error {
	w.mu.Lock()
	w.closed = true
	w.changed.Broadcast()
	w.mu.Unlock()
	_ = w.SetWriteDeadline(time.Now().Add(lastWords)) // a dead peer takes nothing
	<-w.done
	return w.Conn.Close()
}
