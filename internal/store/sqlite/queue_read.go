package sqlite

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"

	"zombiezen.com/go/sqlite"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/rows"
	"github.com/dime-bus/dime/internal/store/seal"
)

// Publish implements store.Queues.
func (s *Store) Publish(ctx context.Context, ms_ ...store.Message) error {
	if len(ms_) == 0 {
		return nil
	}
	sealed := make([][]byte, len(ms_))
	for i := range ms_ {
		m := &ms_[i]
		if m.Topic == "" || m.Topic == "*" {
			return fmt.Errorf("publishing message %q: %w: %q", m.ID, store.ErrTopic, m.Topic)
		}
		if len(m.Body) > rows.MaxValue {
			return fmt.Errorf("publishing to %s: %w: the body has %d bytes, at most %d fit", m.Topic, store.ErrTooLarge, len(m.Body), rows.MaxValue)
		}
		sealed[i] = s.city.Seal(rows.PackMessage(m.ID, m.Body, m.Meta), seal.BoundName('q', m.Topic))
	}
	err := s.submit(ctx, func(t *tx) error {
		first := s.seq
		t.undo = append(t.undo, func() { s.seq = first })
		for i := range ms_ {
			topic, err := t.topic(ms_[i].Topic)
			if err != nil {
				return err
			}
			if again, err := t.repeated(topic, ms_[i].ID); err != nil {
				return err
			} else if again {
				continue
			}
			at := ms_[i].At
			if at.IsZero() {
				at = t.now
			}
			s.seq++
			if err := t.exec("insert into msg(seq, topic, at, body) values(?, ?, ?, ?)", s.seq, topic, rows.MS(at), sealed[i]); err != nil {
				return err
			}
			m := ms_[i]
			m.Seq, m.Attempts, m.At = s.seq, 0, rows.FromMS(rows.MS(at))
			t.published = append(t.published, m)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("publishing to %s: %w", ms_[0].Topic, err)
	}
	return nil
}

// topic is a topic's number.
func (t *tx) topic(name string) (int64, error) {
	s := t.s
	if id, ok := s.topics[name]; ok {
		return id, nil
	}
	if err := t.exec("insert into topic(name) values(?)", name); err != nil {
		return 0, err
	}
	id := t.conn.LastInsertRowID()
	s.topics[name], s.names[id] = id, name
	t.undo = append(t.undo, func() { delete(s.topics, name); delete(s.names, id) })
	return id, nil
}

// spread hands what was committed to the queues in memory, as far as they have
// room and have read all before it.
func (s *Store) spread(ms []store.Message) {
	var tell []*queue
	s.mu.Lock()
	s.durable = ms[len(ms)-1].Seq
	for _, q := range s.queues {
		if q.id == 0 {
			continue
		}
		found := false
		for i := range ms {
			m := &ms[i]
			if q.loaded != m.Seq-1 {
				found = found || q.takes(m.Topic)
				continue // behind, and read from the table in its turn; or read already
			}
			if !q.takes(m.Topic) {
				q.loaded = m.Seq
				if len(q.ready)+len(q.flight)+len(q.returned) == 0 {
					q.handed = m.Seq // nothing of it is here; the place moves on with the next ack
				}
				continue
			}
			found = true
			if !q.full() {
				q.push(*m)
			}
		}
		if found {
			tell = append(tell, q)
		}
	}
	s.mu.Unlock()
	for _, q := range tell {
		q.signal.Send()
	}
}

// Receive implements store.Queues: what came back first, then the log.
func (s *Store) Receive(ctx context.Context, name string, max int) ([]store.Message, error) {
	if s.closed.Load() {
		return nil, store.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if max < 1 {
		return nil, nil
	}
	out, err := s.receive(ctx, name, max)
	if err != nil {
		return nil, fmt.Errorf("receiving from %q: %w", name, err)
	}
	return out, nil
}

// receive takes messages, and before it hands out one that may have killed a
// process, makes that durable.
func (s *Store) receive(ctx context.Context, name string, max int) ([]store.Message, error) {
	out, retried, err := s.pick(ctx, name, max)
	if err != nil || len(out) == 0 {
		return nil, err
	}
	if err := s.note(ctx, name, out, retried); err != nil {
		acks := make([]int64, len(out))
		for i := range out {
			acks[i] = out[i].Seq
		}
		return nil, errors.Join(err, s.unreceive(context.WithoutCancel(ctx), name, acks))
	}
	return out, nil
}

// note writes down that messages are handed out, where a crash must count as a
// delivery or a poison message would kill the process for ever: those that come
// again (the first retried of ms), and those that the log held when the last
// life ended in a crash, which may have been their doing. All others cost no
// commit of their own: their place rides with the queue's next ack.
func (s *Store) note(ctx context.Context, name string, ms []store.Message, retried int) error {
	s.mu.Lock()
	suspect := s.suspect
	s.mu.Unlock()
	if retried == 0 && ms[0].Seq > suspect { // ascending behind what came again
		return nil
	}
	return s.submit(ctx, func(t *tx) error {
		q := s.queues[name]
		for _, m := range ms[:retried] {
			if err := t.exec("update again set due=? where queue=? and seq=?", inHands, q.id, m.Seq); err != nil {
				return err
			}
		}
		if len(ms) > retried {
			t.touch(q)
		}
		return nil
	})
}

// pick takes messages out of memory: what came back first, then the log. retried
// of them, at the front, have a row in again.
func (s *Store) pick(ctx context.Context, name string, max int) (out []store.Message, retried int, err error) {
	now := rows.MS(s.now())
	var old []retry
	s.mu.Lock()
	q := s.queues[name]
	if q == nil || q.id == 0 {
		s.mu.Unlock()
		return nil, 0, errors.New("no such queue; bind it first")
	}
	for len(q.again) > 0 && q.again[0].due <= now && len(old) < max {
		r := heap.Pop(&q.again).(retry)
		q.flight[r.seq] = inflight{again: true, attempts: r.attempts}
		old = append(old, r)
	}
	s.arm(q)
	s.mu.Unlock()
	if len(old) > 0 {
		for _, r := range old {
			m, err := s.message(ctx, r.seq)
			if err != nil {
				s.mu.Lock()
				for _, r := range old {
					delete(q.flight, r.seq)
					heap.Push(&q.again, r)
				}
				s.mu.Unlock()
				return nil, 0, err
			}
			m.Attempts = r.attempts
			out = append(out, m)
		}
	}
	for len(out) < max {
		s.mu.Lock()
		n := len(q.returned)
		if n > max-len(out) {
			n = max - len(out)
		}
		for _, m := range q.returned[:n] {
			q.flight[m.Seq] = inflight{attempts: m.Attempts}
			out = append(out, m)
		}
		q.returned = slices.Clone(q.returned[n:])
		n = min(len(q.ready), max-len(out))
		for i := range q.ready[:n] {
			m := q.ready[i]
			q.ready[i] = store.Message{}
			q.flight[m.Seq] = inflight{}
			q.handed = m.Seq
			q.bytes -= len(m.Body)
			out = append(out, m)
		}
		q.ready = q.ready[n:]
		if len(q.ready) == 0 {
			q.ready = nil
		}
		behind := len(q.ready) == 0 && q.loaded < s.durable
		s.mu.Unlock()
		if !behind || len(out) == max {
			break
		}
		more, err := s.loadMore(ctx, q)
		if err != nil && len(out) == 0 {
			return nil, 0, err
		}
		if err != nil || !more {
			break
		}
	}
	return out, len(old), nil //nolint:nilerr // what was found is handed out; the next call meets the error
}

// loadMore reads the next page of a queue that fell behind. It reports whether
// there may be something to hand out now.
func (s *Store) loadMore(ctx context.Context, q *queue) (bool, error) {
	s.mu.Lock()
	after := q.loaded
	topics := s.topicIDs(q)
	s.mu.Unlock()
	var page []store.Message
	var last int64
	err := s.read(ctx, func(c *sqlite.Conn) (err error) {
		// A topic that is new since is behind last, and so on the next page.
		if err := query(c, "select max(seq) from msg", func(st *sqlite.Stmt) error { last = st.ColumnInt64(0); return nil }); err != nil {
			return err
		}
		page, err = s.readLog(c, topics, after, last, maxReady/4)
		return err
	})
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.loaded != after || len(q.ready) > 0 {
		return true, nil // somebody else was quicker
	}
	if len(page) == maxReady/4 {
		last = page[len(page)-1].Seq
	}
	for i := range page {
		if !q.takes(page[i].Topic) {
			continue
		}
		if q.full() {
			return true, nil
		}
		q.push(page[i])
	}
	q.loaded = max(q.loaded, last)
	return len(q.ready) > 0, nil
}

// loadAll reads everything that a queue has not read, within a commit.
func (t *tx) loadAll(q *queue) error {
	page, err := t.s.readLog(t.conn, t.s.topicIDs(q), q.loaded, t.s.seq, -1)
	if err != nil {
		return err
	}
	q.ready = slices.Clone(q.ready)
	for _, m := range page {
		q.push(m)
	}
	return nil
}

// topicIDs lists the known topics that a queue takes; nil means all.
func (s *Store) topicIDs(q *queue) []int64 {
	if slices.Contains(q.topics, "*") {
		return nil
	}
	ids := []int64{}
	for name, id := range s.topics {
		if q.takes(name) {
			ids = append(ids, id)
		}
	}
	return ids
}

// readLog reads messages of topics behind after, up to last, in order.
func (s *Store) readLog(c *sqlite.Conn, topics []int64, after, last int64, limit int) ([]store.Message, error) {
	type row struct {
		seq, topic, at int64
		body           []byte
	}
	var found []row
	scan := func(st *sqlite.Stmt) error {
		found = append(found, row{st.ColumnInt64(0), st.ColumnInt64(1), st.ColumnInt64(2), columnBytes(st, 3)})
		return nil
	}
	if topics == nil {
		if err := query(c, "select seq, topic, at, body from msg where seq>? and seq<=? order by seq limit ?", scan, after, last, limit); err != nil {
			return nil, err
		}
	}
	for _, topic := range topics {
		if err := query(c, "select seq, topic, at, body from msg where topic=? and seq>? and seq<=? order by seq limit ?", scan, topic, after, last, limit); err != nil {
			return nil, err
		}
	}
	if len(topics) > 1 {
		sort.Slice(found, func(i, j int) bool { return found[i].seq < found[j].seq })
		if limit >= 0 && len(found) > limit {
			found = found[:limit]
		}
	}
	names := make(map[int64]string, 4)
	out := make([]store.Message, 0, len(found))
	for _, r := range found {
		if names[r.topic] == "" {
			err := query(c, "select name from topic where id=?", func(st *sqlite.Stmt) error { names[r.topic] = st.ColumnText(0); return nil }, r.topic)
			if err != nil {
				return nil, err
			}
		}
		m, err := s.openMessage(r.seq, names[r.topic], r.body)
		if err != nil {
			return nil, err
		}
		m.At = rows.FromMS(r.at)
		out = append(out, m)
	}
	return out, nil
}

// openMessage opens what Publish sealed: bound to its topic, with its id inside. Its
// number is given at the commit, after the sealing.
func (s *Store) openMessage(seq int64, topic string, sealed []byte) (store.Message, error) {
	clear, err := s.city.Open(sealed, seal.BoundName('q', topic))
	if err != nil {
		return store.Message{}, fmt.Errorf("opening message %d: %w", seq, err)
	}
	m := store.Message{Seq: seq, Topic: topic}
	if m.ID, m.Body, m.Meta, err = rows.UnpackMessage(clear); err != nil {
		return store.Message{}, fmt.Errorf("opening message %d: %w", seq, err)
	}
	return m, nil
}

// message reads one.
func (s *Store) message(ctx context.Context, seq int64) (m store.Message, err error) {
	var sealed []byte
	var at int64
	var topic string
	err = s.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "select m.body, m.at, t.name from msg m join topic t on t.id=m.topic where m.seq=?", func(st *sqlite.Stmt) error {
			sealed, at, topic = columnBytes(st, 0), st.ColumnInt64(1), st.ColumnText(2)
			return nil
		}, seq)
	})
	if err != nil {
		return m, err
	}
	if sealed == nil {
		return m, fmt.Errorf("message %d is gone from the log", seq)
	}
	if m, err = s.openMessage(seq, topic, sealed); err != nil {
		return m, err
	}
	m.At = rows.FromMS(at)
	return m, nil
}

func (s *Store) unreceive(ctx context.Context, name string, seqs []int64) error {
	var back []store.Message
	for _, seq := range seqs {
		s.mu.Lock()
		q := s.queues[name]
		var f inflight
		ok := false
		if q != nil {
			f, ok = q.flight[seq]
		}
		s.mu.Unlock()
		if !ok {
			continue
		}
		m, err := s.message(ctx, seq)
		if err != nil {
			return err
		}
		m.Attempts = f.attempts
		back = append(back, m)
	}
	s.mu.Lock()
	q := s.queues[name]
	for _, m := range back {
		f, ok := q.flight[m.Seq]
		if !ok {
			continue // settled meanwhile
		}
		delete(q.flight, m.Seq)
		if f.again {
			heap.Push(&q.again, retry{m.Seq, rows.MS(s.now()), f.attempts})
			s.arm(q)
		} else {
			q.returned = append(q.returned, m)
		}
	}
	if q != nil {
		sort.Slice(q.returned, func(i, j int) bool { return q.returned[i].Seq < q.returned[j].Seq })
	}
	s.mu.Unlock()
	if len(back) > 0 {
		q.signal.Send()
	}
	return nil
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
