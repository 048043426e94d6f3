package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/rows"
	"github.com/dime-bus/dime/internal/store/seal"
)

// Bind implements store.Queues. More topics add to those bound before.
func (s *Store) Bind(ctx context.Context, name string, topics ...string) error {
	if name == "" || len(topics) == 0 {
		return fmt.Errorf("binding queue %q: it needs a name and a topic", name)
	}
	j := &job{rank: rankQueue, locks: []int64{s.keys.Number("queue", name)}, args: []any{name, topics},
		sql: `insert into queue(name, topics) values ($1, $2) on conflict (name) do update
			set topics = queue.topics || array(select t from unnest(excluded.topics) t where t <> all(queue.topics))`}
	if err := s.submit(ctx, j); err != nil {
		return fmt.Errorf("binding queue %q: %w", name, err)
	}
	return nil
}

// Publish implements store.Queues.
func (s *Store) Publish(ctx context.Context, ms ...store.Message) error {
	if len(ms) == 0 {
		return nil
	}
	var topics []string
	var mids, ats []*int64
	var bodies [][]byte
	for i := range ms {
		m := &ms[i]
		if m.Topic == "" || m.Topic == "*" {
			return fmt.Errorf("publishing message %q: %w: %q", m.ID, store.ErrTopic, m.Topic)
		}
		if len(m.Body) > rows.MaxValue {
			return fmt.Errorf("publishing to %s: %w: the body has %d bytes, at most %d fit", m.Topic, store.ErrTooLarge, len(m.Body), rows.MaxValue)
		}
		var mid, at *int64
		if m.ID != "" {
			n := s.keys.Number("message", m.Topic, m.ID)
			mid = &n
		}
		if !m.At.IsZero() {
			n := rows.MS(m.At)
			at = &n
		}
		topics, mids, ats = append(topics, m.Topic), append(mids, mid), append(ats, at)
		bodies = append(bodies, s.city.Seal(rows.PackMessage(m.ID, m.Body, m.Meta), seal.BoundName('q', m.Topic)))
	}
	var names []string
	j := &job{rank: rankLog, sql: "select publish($1, $2, $3, $4, $5, $6)", args: []any{s.at(), topics, mids, ats, bodies, int64(store.RepeatWindow)}}
	j.scan = func(row pgx.Row) error { return row.Scan(&names) }
	j.after = func() {
		for _, n := range names {
			s.mu.Lock()
			q := s.queues[n]
			s.mu.Unlock()
			if q != nil {
				q.signal.Send()
			}
		}
		if len(names) > 0 {
			s.tell.queue(names...)
		}
	}
	if err := s.submit(ctx, j); err != nil {
		return fmt.Errorf("publishing to %s: %w", ms[0].Topic, err)
	}
	return nil
}

// Receive implements store.Queues: what came back first, then the log. What it
// gives is this process's until it is settled, or until the process no longer
// says that it lives.
func (s *Store) Receive(ctx context.Context, name string, max int) ([]store.Message, error) {
	if err := s.alive(ctx); err != nil {
		return nil, err
	}
	if max < 1 {
		return nil, nil
	}
	if err := s.beat(ctx, false); err != nil {
		return nil, fmt.Errorf("receiving from %q: %w", name, err)
	}
	type row struct {
		m      store.Message
		sealed []byte
	}
	var found []row
	var next *int64
	err := s.query(ctx, func(rs pgx.Rows) error {
		var seq, at *int64
		var topic *string
		var attempts *int
		var r row
		if err := rs.Scan(&seq, &topic, &at, &attempts, &r.sealed, &next); err != nil || next != nil {
			return err
		}
		r.m = store.Message{Seq: *seq, Topic: *topic, At: rows.FromMS(*at), Attempts: *attempts}
		found = append(found, r)
		return nil
	}, "select * from receive($1, $2, $3, $4)", s.at(), s.me, name, max)
	if err != nil {
		return nil, fmt.Errorf("receiving from %q: %w", name, err)
	}
	if next != nil {
		s.arm(name, rows.FromMS(*next))
	}
	out := make([]store.Message, 0, len(found))
	for _, r := range found {
		if err := s.openMessage(&r.m, r.sealed); err != nil {
			return nil, fmt.Errorf("receiving from %q: %w", name, err)
		}
		out = append(out, r.m)
	}
	return out, nil
}

func (s *Store) openMessage(m *store.Message, sealed []byte) error {
	clear, err := s.city.Open(sealed, seal.BoundName('q', m.Topic))
	if err == nil {
		m.ID, m.Body, m.Meta, err = rows.UnpackMessage(clear)
	}
	if err != nil {
		return fmt.Errorf("opening message %d: %w", m.Seq, err)
	}
	return nil
}

// Settle implements store.Queues.
func (s *Store) Settle(ctx context.Context, acks ...store.Ack) error {
	if len(acks) == 0 {
		return s.alive(ctx)
	}
	names, seqs := make([]string, len(acks)), make([]int64, len(acks))
	for i, a := range acks {
		names[i], seqs[i] = a.Queue, a.ID
	}
	j := &job{rank: rankQueue, sql: "select settle($1, $2)", args: []any{names, seqs}}
	j.scan = func(row pgx.Row) error {
		var code int
		err := row.Scan(&code)
		if code != codeDone {
			j.refused = errors.New("one of their queues is not bound")
		}
		return err
	}
	if err := s.submit(ctx, j); err != nil {
		return fmt.Errorf("settling deliveries: %w", err)
	}
	return nil
}

// Again implements store.Queues.
func (s *Store) Again(ctx context.Context, a store.Ack, due time.Time) error {
	j := &job{rank: rankQueue, sql: `update delivery d set holder = null, due = $4, attempts = attempts + 1 from queue q
		where q.name = $1 and d.queue = q.id and d.seq = $2 and d.holder = $3`, args: []any{a.Queue, a.ID, s.me, rows.MS(due)}}
	j.after = func() { s.arm(a.Queue, due) }
	if err := s.submit(ctx, j); err != nil {
		return fmt.Errorf("returning message %d to %q: %w", a.ID, a.Queue, err)
	}
	return nil
}

// Unreceive implements store.Queues.
func (s *Store) Unreceive(ctx context.Context, acks ...store.Ack) error {
	if err := s.alive(ctx); err != nil {
		return err
	}
	names := make(map[string][]int64)
	for _, a := range acks {
		names[a.Queue] = append(names[a.Queue], a.ID)
	}
	for name, seqs := range names {
		err := s.query(ctx, nil, "update delivery d set holder = null from queue q where q.name = $1 and d.queue = q.id and d.seq = any($2) and d.holder = $3", name, seqs, s.me)
		if err != nil {
			return fmt.Errorf("giving messages back to %q: %w", name, err)
		}
		s.ready(name)
		s.tell.queue(name)
	}
	return nil
}

func (s *Store) ready(name string) {
	s.mu.Lock()
	q := s.queueNamed(name)
	s.mu.Unlock()
	q.signal.Send()
}

// ParkMessage implements store.Queues. The body is copied, so that a parked
// message outlives the log until a person has decided.
func (s *Store) ParkMessage(ctx context.Context, a store.Ack, reason string) error {
	j := &job{rank: rankQueue, sql: "select park($1, $2, $3, $4)", args: []any{s.me, a.Queue, a.ID, reason}}
	j.scan = queueCode(j, a)
	if err := s.submit(ctx, j); err != nil {
		return fmt.Errorf("parking message %d of %q: %w", a.ID, a.Queue, err)
	}
	return nil
}

func queueCode(j *job, a store.Ack) func(pgx.Row) error {
	return func(row pgx.Row) error {
		var code int
		err := row.Scan(&code)
		switch code {
		case codeNoQueue:
			j.refused = fmt.Errorf("no queue is named %q", a.Queue)
		case codeNoRun:
			j.refused = errors.New("no such parked message")
		}
		return err
	}
}

// Parked implements store.Queues.
func (s *Store) Parked(ctx context.Context, name string) ([]store.Message, error) {
	var out []store.Message
	err := s.query(ctx, func(rs pgx.Rows) error {
		var m store.Message
		var at int64
		var sealed []byte
		if err := rs.Scan(&m.Seq, &m.Topic, &at, &m.Attempts, &m.Reason, &sealed); err != nil {
			return err
		}
		m.At = rows.FromMS(at)
		out = append(out, m)
		return s.openMessage(&out[len(out)-1], sealed)
	}, "select p.seq, p.topic, p.at, p.attempts, p.reason, p.body from parked p join queue q on q.id = p.queue where q.name = $1 order by p.seq", name)
	if err != nil {
		return nil, fmt.Errorf("listing what is parked of %q: %w", name, err)
	}
	return out, nil
}

// Unpark implements store.Queues. The message keeps its number; if the log has
// forgotten it, it is put back.
func (s *Store) Unpark(ctx context.Context, a store.Ack) error {
	j := &job{rank: rankQueue, sql: "select unpark($1, $2, $3)", args: []any{s.at(), a.Queue, a.ID}}
	j.scan = queueCode(j, a)
	j.after = func() { s.ready(a.Queue); s.tell.queue(a.Queue) }
	if err := s.submit(ctx, j); err != nil {
		return fmt.Errorf("taking message %d of %q up again: %w", a.ID, a.Queue, err)
	}
	return nil
}

// Depth implements store.Queues: what is not settled, in flight included.
func (s *Store) Depth(ctx context.Context, name string) (n int, err error) {
	known := false
	err = s.single(ctx, func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, "select exists (select 1 from queue where name = $1), (select count(*) from delivery d join queue q on q.id = d.queue where q.name = $1)", name).Scan(&known, &n)
	})
	if err == nil && !known {
		err = errors.New("no such queue; bind it first")
	}
	if err != nil {
		return 0, fmt.Errorf("measuring queue %q: %w", name, err)
	}
	return n, nil
}

// Log implements store.Queues. Numbers go by commit, so a cursor passes nothing by.
func (s *Store) Log(ctx context.Context, topic string, after int64, max int) ([]store.Message, error) {
	if max < 1 {
		return nil, nil
	}
	var out []store.Message
	err := s.query(ctx, func(rs pgx.Rows) error {
		var m store.Message
		var at int64
		var sealed []byte
		if err := rs.Scan(&m.Seq, &m.Topic, &at, &sealed); err != nil {
			return err
		}
		m.At = rows.FromMS(at)
		out = append(out, m)
		return s.openMessage(&out[len(out)-1], sealed)
	}, `select seq, topic, at, body from msg where seq > $2 and (topic = $1 or $1 = '*' or $1 like '%.*' and starts_with(topic, left($1, -1))) order by seq limit $3`, topic, after, max)
	if err != nil {
		return nil, fmt.Errorf("reading the log of %s: %w", topic, err)
	}
	return out, nil
}

// Ready implements store.Queues.
func (s *Store) Ready(name string) <-chan struct{} {
	s.mu.Lock()
	q := s.queueNamed(name)
	s.mu.Unlock()
	return q.signal.Channel()
}

// OnReady implements store.Queues.
func (s *Store) OnReady(name string, f func()) func() {
	s.mu.Lock()
	q := s.queueNamed(name)
	s.mu.Unlock()
	return q.signal.On(f)
}
