package amqp

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"strconv"
	"sync"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/dime-bus/dime/internal/clock"
)

const (
	dialFor   = 5 * time.Second  // TCP, TLS and AMQP's handshake
	heartbeat = 10 * time.Second // a silent peer is dead after two
	firstWait = 50 * time.Millisecond
	lastWait  = 5 * time.Second
)

// link is a connection that is made again whenever it is lost.
type link struct {
	b       *Bus
	purpose string
	declare func(*amqp091.Connection) error // before anybody may use a connection
	wg      sync.WaitGroup

	mu      sync.Mutex
	conn    *amqp091.Connection
	wide    *wide         // that conn writes to
	changed chan struct{} // closed at every change
	last    error         // why there is no connection
	blocked bool
}

func newLink(b *Bus, purpose string, declare func(*amqp091.Connection) error) *link {
	l := &link{b: b, purpose: purpose, declare: declare, changed: make(chan struct{}), last: errors.New("not connected yet")}
	l.wg.Add(1)
	go l.supervise()
	return l
}

func (l *link) set(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	close(l.changed)
	l.changed = make(chan struct{})
}

// await returns the connection as soon as there is one.
func (l *link) await(ctx context.Context) (*amqp091.Connection, error) {
	conn, _, err := l.awaitWide(ctx)
	return conn, err
}

func (l *link) awaitWide(ctx context.Context) (*amqp091.Connection, *wide, error) {
	for {
		l.mu.Lock()
		conn, w, changed, last := l.conn, l.wide, l.changed, l.last
		l.mu.Unlock()
		if conn != nil {
			return conn, w, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("no connection to the broker: %w", last)
		case <-l.b.ctx.Done():
			return nil, nil, ErrClosed
		}
	}
}

func (l *link) ready() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil {
		return l.last
	}
	if l.blocked {
		return ErrBlocked
	}
	return nil
}

func (l *link) down() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conn == nil || l.conn.IsClosed()
}

// lostChannel logs what the broker had against a channel; a lost connection takes
// all of its channels with it and is logged once.
func (b *Bus) lostChannel(of string, err *amqp091.Error) {
	if err != nil && err.Server && err.Code != amqp091.ConnectionForced {
		b.o.Log.Warn("the broker closed a channel", "of", of, "error", err)
	}
}

func (l *link) isBlocked() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.blocked
}

func (l *link) supervise() {
	defer l.wg.Done()
	wait := firstWait
	for turn := rand.IntN(1 << 16); l.b.ctx.Err() == nil; turn++ {
		conn, w, err := l.dial(turn)
		if err != nil {
			l.set(func() { l.last = err })
			l.b.o.Log.Warn("connecting to the broker", "purpose", l.purpose, "error", err)
			// Full jitter: many processes lose one broker at one instant.
			if clock.Sleep(l.b.ctx, l.b.o.Clock, time.Duration(rand.Int64N(int64(wait)))+wait/2) != nil {
				return
			}
			wait = min(2*wait, lastWait)
			continue
		}
		began := l.b.o.Clock.Now()
		l.hold(conn, w)
		if l.b.o.Clock.Now().Sub(began) > lastWait {
			wait = firstWait
			continue
		}
		// What is lost as soon as it is used is not asked for at once.
		if clock.Sleep(l.b.ctx, l.b.o.Clock, time.Duration(rand.Int64N(int64(wait)))) != nil {
			return
		}
		wait = min(2*wait, lastWait)
	}
}

// dial connects to one of the nodes and declares what is needed.
func (l *link) dial(turn int) (conn *amqp091.Connection, w *wide, err error) {
	urls, err := l.b.o.URLs(l.b.ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("asking where the broker is: %w", err)
	}
	if len(urls) == 0 {
		return nil, nil, errors.New("connecting to the broker: no URL was given")
	}
	uri, err := amqp091.ParseURI(urls[turn%len(urls)])
	if err != nil {
		var ue *url.Error // holds the URL, and that the password
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, nil, fmt.Errorf("reading the broker's URL: %w", err)
	}
	addr := net.JoinHostPort(uri.Host, strconv.Itoa(uri.Port))
	dial := l.b.o.Dial
	if dial == nil {
		dial = amqp091.DefaultDial(dialFor)
	}
	p := amqp091.NewConnectionProperties()
	p.SetClientConnectionName(l.b.o.Name + " " + l.purpose)
	conn, err = amqp091.DialConfig(urls[turn%len(urls)], amqp091.Config{
		Heartbeat: heartbeat, Properties: p, Dial: func(network, addr string) (net.Conn, error) {
			c, err := dial(network, addr)
			if err != nil {
				return nil, err
			}
			w = widen(c)
			return w, nil
		},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("connecting to the broker at %s: %w", addr, err)
	}
	if err := l.declare(conn); err != nil {
		_ = conn.Close()
		return nil, nil, fmt.Errorf("declaring on the broker at %s: %w", addr, err)
	}
	return conn, w, nil
}

// hold lets others use a connection until it is lost. Who does not read these
// notices stops amqp091's reader.
func (l *link) hold(conn *amqp091.Connection, w *wide) {
	lost := conn.NotifyClose(make(chan *amqp091.Error, 1))
	blocked := conn.NotifyBlocked(make(chan amqp091.Blocking, 8))
	l.set(func() { l.conn, l.wide, l.blocked = conn, w, false })
	l.b.o.Log.Info("connected to the broker", "purpose", l.purpose, "address", conn.RemoteAddr().String())
	for {
		select {
		case x, ok := <-blocked:
			if !ok {
				blocked = nil
				continue
			}
			if x.Active {
				l.b.o.Log.Warn("the broker takes no messages now", "reason", x.Reason)
			}
			l.set(func() { l.blocked = x.Active })
		case err := <-lost:
			why := errors.New("the connection was closed")
			if err != nil {
				why = err
				l.b.o.Log.Warn("lost the broker", "purpose", l.purpose, "error", err)
			}
			l.set(func() { l.conn, l.blocked, l.last = nil, false, why })
			return
		case <-l.b.ctx.Done():
			l.set(func() { l.conn, l.last = nil, ErrClosed })
			// Unanswered, a close would wait for ever: the broker may be frozen.
			_ = conn.CloseDeadline(time.Now().Add(time.Second))
			return
		}
	}
}
