package amqp

import (
	"bufio"
	"net"
	"sync"
	"time"
)

const (
	wideBuffer = 64 << 10        // of reads; and who publishes waits while so much is to be written
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

	mu     sync.Mutex
	wake   sync.Cond // of the writer
	buf    []byte
	room   chan struct{} // closed with the next write; nil while nobody waits for it
	err    error
	closed bool
	done   chan struct{} // nothing is written any more
}

func widen(c net.Conn) *wide {
	w := &wide{Conn: c, r: bufio.NewReaderSize(c, wideBuffer), done: make(chan struct{})}
	w.wake.L = &w.mu
	go w.flush()
	return w
}

func (w *wide) Read(p []byte) (int, error) { return w.r.Read(p) }

// full returns nil, or while there is too much to write a channel that is closed when
// that has changed. Who publishes asks first, for Write itself waits for nobody: a peer
// that takes nothing must not keep anybody beyond his deadline.
func (w *wide) full() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.buf) < wideBuffer || w.err != nil || w.closed {
		return nil
	}
	if w.room == nil {
		w.room = make(chan struct{})
	}
	return w.room
}

// emptied tells who waits in full. w.mu is held.
func (w *wide) emptied() {
	if w.room != nil {
		close(w.room)
		w.room = nil
	}
}

func (w *wide) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.err != nil:
		return 0, w.err
	case w.closed:
		return 0, net.ErrClosed
	}
	w.buf = append(w.buf, p...)
	w.wake.Signal()
	return len(p), nil
}

func (w *wide) flush() {
	defer close(w.done)
	var out []byte
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		for len(w.buf) == 0 && !w.closed {
			w.wake.Wait()
		}
		if len(w.buf) == 0 {
			return
		}
		if cap(out) > 4*wideBuffer { // of large messages that came at once
			out = nil
		}
		out, w.buf = w.buf, out[:0]
		w.emptied()
		w.mu.Unlock()
		_, err := w.Conn.Write(out)
		w.mu.Lock()
		if err != nil {
			w.err = err
			w.emptied()
			_ = w.Conn.Close() // whoever reads learns of it
			return
		}
	}
}

// Close lets what is buffered leave first.
func (w *wide) Close() error {
	w.mu.Lock()
	w.closed = true
	w.emptied()
	w.wake.Signal()
	w.mu.Unlock()
	_ = w.SetWriteDeadline(time.Now().Add(lastWords)) // a dead peer takes nothing
	<-w.done
	return w.Conn.Close()
}
