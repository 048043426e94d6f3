package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dime-bus/dime/internal/store/rows"
)

// channel carries what the other processes should know: "w" a run is due or the
// outbox has a row, "q NAME" a queue has a message; before it the sender's number.
const channel = "dime"

// telling gathers what the others should know. It goes out in transactions of its
// own behind the commits: NOTIFY inside one would make all that notify commit one
// after the other. What is lost with the process, the others' polling finds.
type telling struct {
	mu     sync.Mutex
	runs   bool
	queues map[string]bool
	kick   chan struct{}
}

func (t *telling) init() { t.kick, t.queues = make(chan struct{}, 1), make(map[string]bool) }

func (t *telling) wake() {
	t.mu.Lock()
	t.runs = true
	t.mu.Unlock()
	t.send()
}

func (t *telling) queue(names ...string) {
	t.mu.Lock()
	for _, n := range names {
		t.queues[n] = true
	}
	t.mu.Unlock()
	t.send()
}

func (t *telling) send() {
	select {
	case t.kick <- struct{}{}:
	default:
	}
}

func (t *telling) take() (out []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.runs {
		out = append(out, "w")
	}
	for q := range t.queues {
		out = append(out, "q "+q)
	}
	t.runs = false
	clear(t.queues)
	return out
}

func (s *Store) notify() {
	defer s.ended.Done()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.tell.kick:
		}
		words := s.tell.take()
		for i := range words {
			words[i] = fmt.Sprintf("%d %s", s.me, words[i])
		}
		if _, err := s.pool.Exec(s.ctx, "select pg_notify($1, w) from unnest($2::text[]) w", channel, words); err != nil && s.ctx.Err() == nil {
			s.o.Log.Warn("telling the other processes; they will look by themselves", "error", failure(err))
		}
	}
}

// listen hears the others, and looks by itself now and then.
func (s *Store) listen(c *pgx.Conn) {
	defer s.ended.Done()
	defer func() {
		if c != nil {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			_ = c.Close(ctx)
			cancel()
		}
	}()
	for try := 0; s.ctx.Err() == nil; {
		if c == nil {
			var err error
			if c, err = s.connect(s.ctx); err == nil {
				_, err = c.Exec(s.ctx, "listen "+channel)
			}
			if err != nil {
				if c != nil {
					_ = c.Close(s.ctx)
					c = nil
				}
				if s.ctx.Err() == nil && try == 0 {
					s.o.Log.Warn("listening to the other processes", "error", failure(err))
				}
				try++
				s.sleep(pause(try))
				continue
			}
			try = 0
			s.sendAll() // what was said meanwhile was not heard
		}
		ctx, cancel := context.WithTimeout(s.ctx, s.o.Poll)
		n, err := c.WaitForNotification(ctx)
		polled := errors.Is(ctx.Err(), context.DeadlineExceeded)
		cancel()
		switch {
		case err == nil:
			s.heard(n.Payload)
		case s.ctx.Err() != nil:
		case polled && !c.IsClosed():
			s.sendAll()
		default:
			_ = c.Close(s.ctx)
			c = nil
		}
	}
}

func (s *Store) sleep(d time.Duration) {
	select {
	case <-s.ctx.Done():
	case <-time.After(d):
	}
}

func (s *Store) heard(payload string) {
	from, word, _ := strings.Cut(payload, " ")
	if from == fmt.Sprint(s.me) {
		return // it was told directly
	}
	if name, ok := strings.CutPrefix(word, "q "); ok {
		s.mu.Lock()
		q := s.queues[name]
		s.mu.Unlock()
		if q != nil {
			q.signal.Send()
		}
		return
	}
	s.wake.Send()
}

func (s *Store) sendAll() {
	s.wake.Send()
	s.mu.Lock()
	qs := slices.Collect(maps.Values(s.queues))
	s.mu.Unlock()
	for _, q := range qs {
		q.signal.Send()
	}
}

// heart says that this process lives, and frees what the dead had in their hands.
func (s *Store) heart() {
	defer s.ended.Done()
	if s.o.Clock != nil {
		return // a clock that a test moves: beat is called where it matters
	}
	for s.ctx.Err() == nil {
		s.sleep(s.o.LeaseFor / 3)
		if s.ctx.Err() != nil {
			return
		}
		if err := s.beat(s.ctx, true); err != nil && s.ctx.Err() == nil {
			s.o.Log.Error("saying that this process lives", "error", err)
		}
	}
}

// beat is one heartbeat, if it is time for one.
func (s *Store) beat(ctx context.Context, now bool) error {
	at := s.local.Now()
	s.mu.Lock()
	due := now || at.Sub(s.beaten) >= s.o.LeaseFor/3
	s.mu.Unlock()
	if !due {
		return nil
	}
	var freed int64
	var ring []byte
	err := s.pool.QueryRow(ctx, "select beat($1, $2, $3, $4), (select value from meta where name = 'ring')", s.at(), s.lease(), s.me, s.o.Worker).Scan(&freed, &ring)
	if err != nil {
		return failure(err)
	}
	if err := s.enter(ring); err != nil {
		return err
	}
	s.mu.Lock()
	s.beaten = at
	s.mu.Unlock()
	if freed > 0 {
		s.sendAll()
		s.tell.wake()
	}
	return nil
}

// queue is what this process knows of one: who listens, and when it is next due.
type queue struct {
	signal rows.Signal
	stop   func() // of the alarm for what comes again
	alarm  time.Time
}

// queueNamed finds a queue's memory, or makes it. s.mu is held.
func (s *Store) queueNamed(name string) *queue {
	q := s.queues[name]
	if q == nil {
		q = &queue{}
		s.queues[name] = q
	}
	return q
}

// arm sets the alarm for the first message that comes again.
func (s *Store) arm(name string, due time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queueNamed(name)
	if q.stop != nil && !due.Before(q.alarm) {
		return
	}
	if q.stop != nil {
		q.stop()
	}
	q.alarm = due
	q.stop = s.local.At(due, func() {
		s.mu.Lock()
		q.stop = nil
		s.mu.Unlock()
		q.signal.Send()
	})
}

func (s *Store) closeQueues() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.queues {
		q.signal.Close()
		if q.stop != nil {
			q.stop()
		}
	}
}
