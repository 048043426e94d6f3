package sqlite

import (
	"container/heap"
	"context"
	"errors"
	"fmt"

	"zombiezen.com/go/sqlite"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/rows"
)

// ParkMessage implements store.Queues. The body is copied, so that a parked
// message outlives the log until a person has decided.
func (s *Store) ParkMessage(ctx context.Context, a store.Ack, reason string) error {
	err := s.submit(ctx, func(t *tx) error {
		q := s.queues[a.Queue]
		if q == nil {
			return refuse(fmt.Errorf("no queue is named %q", a.Queue))
		}
		f, ok := q.flight[a.ID]
		if !ok {
			return nil
		}
		if err := t.exec(`insert or replace into parked(queue, seq, topic, at, attempts, reason, body)
			select ?, seq, topic, at, ?, ?, body from msg where seq=?`, q.id, f.attempts+1, reason, a.ID); err != nil {
			return err
		}
		if t.conn.Changes() == 0 {
			return refuse(fmt.Errorf("message %d is gone from the log", a.ID))
		}
		return t.settleOne(q, a.ID)
	})
	if err != nil {
		return fmt.Errorf("parking message %d of %q: %w", a.ID, a.Queue, err)
	}
	return nil
}

// Parked implements store.Queues.
func (s *Store) Parked(ctx context.Context, name string) ([]store.Message, error) {
	type row struct {
		m      store.Message
		sealed []byte
	}
	var found []row
	err := s.read(ctx, func(c *sqlite.Conn) error {
		return query(c, `select p.seq, t.name, p.at, p.attempts, p.reason, p.body from parked p join queue q on q.id=p.queue join topic t on t.id=p.topic
			where q.name=? order by p.seq`, func(st *sqlite.Stmt) error {
			found = append(found, row{store.Message{Seq: st.ColumnInt64(0), Topic: st.ColumnText(1), At: rows.FromMS(st.ColumnInt64(2)),
				Attempts: st.ColumnInt(3), Reason: st.ColumnText(4)}, columnBytes(st, 5)})
			return nil
		}, name)
	})
	if err != nil {
		return nil, fmt.Errorf("listing what is parked of %q: %w", name, err)
	}
	out := make([]store.Message, 0, len(found))
	for _, r := range found {
		m, err := s.openMessage(r.m.Seq, r.m.Topic, r.sealed)
		if err != nil {
			return nil, err
		}
		r.m.ID, r.m.Body, r.m.Meta = m.ID, m.Body, m.Meta
		out = append(out, r.m)
	}
	return out, nil
}

// Unpark implements store.Queues. The message takes its old number, and so its
// old place, as one that comes again; if the log has forgotten it, it is put back.
func (s *Store) Unpark(ctx context.Context, a store.Ack) error {
	err := s.submit(ctx, func(t *tx) error {
		q := s.queues[a.Queue]
		if q == nil {
			return refuse(fmt.Errorf("no queue is named %q", a.Queue))
		}
		if err := t.exec("insert or ignore into msg(seq, topic, at, body) select seq, topic, at, body from parked where queue=? and seq=?", q.id, a.ID); err != nil {
			return err
		}
		if err := t.exec("delete from parked where queue=? and seq=?", q.id, a.ID); err != nil {
			return err
		}
		if t.conn.Changes() == 0 {
			return refuse(errors.New("no such parked message"))
		}
		if err := t.exec("insert or replace into again(queue, seq, due, attempts) values(?, ?, ?, 0)", q.id, a.ID, t.nowMS); err != nil {
			return err
		}
		r := retry{a.ID, t.nowMS, 0}
		t.after = append(t.after, func() {
			s.mu.Lock()
			heap.Push(&q.again, r)
			s.mu.Unlock()
			q.signal.Send()
		})
		return nil
	})
	if err != nil {
		return fmt.Errorf("taking message %d of %q up again: %w", a.ID, a.Queue, err)
	}
	return nil
}

// Depth implements store.Queues: what is not settled, in flight included.
func (s *Store) Depth(ctx context.Context, name string) (int, error) {
	s.mu.Lock()
	q := s.queues[name]
	if q == nil || q.id == 0 {
		s.mu.Unlock()
		return 0, fmt.Errorf("measuring queue %q: no such queue; bind it first", name)
	}
	n := len(q.ready) + len(q.again) + len(q.returned) + len(q.flight)
	after, last := q.loaded, s.seq
	topics := s.topicIDs(q)
	s.mu.Unlock()
	if after >= last {
		return n, nil
	}
	err := s.read(ctx, func(c *sqlite.Conn) error {
		count := func(st *sqlite.Stmt) error { n += st.ColumnInt(0); return nil }
		if topics == nil {
			return query(c, "select count(*) from msg where seq>? and seq<=?", count, after, last)
		}
		for _, t := range topics {
			if err := query(c, "select count(*) from msg where topic=? and seq>? and seq<=?", count, t, after, last); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("measuring queue %q: %w", name, err)
	}
	return n, nil
}

// Log implements store.Queues. A cursor is a message's Seq, so it survives
// restarts and does not care who else reads.
func (s *Store) Log(ctx context.Context, topic string, after int64, max int) ([]store.Message, error) {
	if max < 1 {
		return nil, nil
	}
	q := &queue{topics: []string{topic}}
	s.mu.Lock()
	ids := s.topicIDs(q)
	s.mu.Unlock()
	var out []store.Message
	err := s.read(ctx, func(c *sqlite.Conn) (err error) {
		out, err = s.readLog(c, ids, after, 1<<62, max)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the log of %s: %w", topic, err)
	}
	return out, nil
}
