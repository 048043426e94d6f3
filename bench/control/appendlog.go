package control

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
)

// AppendLog is the limit of a durable queue on this disk: records appended to
// one file, those that wait together sharing one fdatasync.
type AppendLog struct {
	f     *os.File
	in    chan appendReq
	done  chan struct{}
	close sync.Once
}

type appendReq struct {
	b   []byte
	ack chan error
}

// OpenAppendLog creates the file.
func OpenAppendLog(path string) (*AppendLog, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the append log: %w", err)
	}
	l := &AppendLog{f: f, in: make(chan appendReq, 512), done: make(chan struct{})}
	go l.write()
	return l, nil
}

// Append returns when b is on the disk.
func (l *AppendLog) Append(b []byte) error {
	ack := make(chan error, 1)
	l.in <- appendReq{b, ack}
	return <-ack
}

// Close waits for what was appended.
func (l *AppendLog) Close() error {
	l.close.Do(func() { close(l.in) })
	<-l.done
	return l.f.Close()
}

func (l *AppendLog) write() {
	defer close(l.done)
	var buf []byte
	var waiting []chan error
	for r := range l.in {
		buf, waiting = frame(buf[:0], r.b), append(waiting[:0], r.ack)
	more:
		for len(waiting) < 512 {
			select {
			case r, ok := <-l.in:
				if !ok {
					break more
				}
				buf, waiting = frame(buf, r.b), append(waiting, r.ack)
			default:
				break more
			}
		}
		_, err := l.f.Write(buf)
		err = errors.Join(err, syscall.Fdatasync(int(l.f.Fd())))
		for _, w := range waiting {
			w <- err
		}
	}
}

func frame(buf, b []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(buf, uint32(len(b))), b...)
}
