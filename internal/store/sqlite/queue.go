package sqlite

import (
	"container/heap"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/rows"
)

// The embedded bus. A message is one row of msg, whoever gets it. A queue is a
// place in that log: all up to head was handed out, and of that all is settled
// but pending. So a delivery costs no row, and the acks of a commit cost one row
// a queue. What comes again later has a row in again; what is parked has one,
// with its body, in parked.
//
// What was published is handed out from memory; behind a reader that does not
// keep up, from the table.
const (
	maxReady      = 4096     // messages kept in memory a queue
	maxReadyBytes = 16 << 20 // and their bodies
)

// queue is guarded by Store.mu.
type queue struct {
	id     int64
	name   string
	topics []string
	first  int64 // messages up to here are before its time

	head     int64 // as on disk
	pending  []int64
	handed   int64              // highest seq handed out or settled; >= head
	flight   map[int64]inflight // handed out, not settled
	again    retries
	returned []store.Message // unhandled by a subscriber that closed; ascending

	ready  []store.Message // next in the log, ascending
	bytes  int
	loaded int64 // the log up to here is in ready or behind it

	signal *rows.Signal
	stop   func() // of the alarm for what comes again
	alarm  time.Time
}

type inflight struct {
	again    bool // has a row in again
	attempts int
}

// retry is a row of again, without its body.
type retry struct {
	seq, due int64
	attempts int
}

type retries []retry

func (r retries) Len() int { return len(r) }
func (r retries) Less(i, j int) bool {
	return r[i].due < r[j].due || r[i].due == r[j].due && r[i].seq < r[j].seq
}
func (r retries) Swap(i, j int) { r[i], r[j] = r[j], r[i] }
func (r *retries) Push(x any)   { *r = append(*r, x.(retry)) }
func (r *retries) Pop() any {
	old := *r
	x := old[len(old)-1]
	*r = old[:len(old)-1]
	return x
}

func (q *queue) takes(topic string) bool {
	for _, p := range q.topics {
		if p == "*" || p == topic || strings.HasSuffix(p, ".*") && strings.HasPrefix(topic, p[:len(p)-1]) {
			return true
		}
	}
	return false
}

func (q *queue) push(m store.Message) {
	q.ready = append(q.ready, m)
	q.bytes += len(m.Body)
	q.loaded = m.Seq
}

func (q *queue) full() bool { return len(q.ready) >= maxReady || q.bytes >= maxReadyBytes }

// inHands as the due instant of a row of again: it was handed out, and a process
// that dies meanwhile has spent a delivery on it.
const inHands = -1

// recoverQueues reads where the queues stood. What was in somebody's hands comes
// again, and a crash counts as a delivery: who kills the process each time is
// parked in the end. After a Close nothing is counted.
//
// The first delivery is only known to the file when a later commit wrote the
// queue's place. So after a crash what the log still holds is suspect: see
// Store.note.
func (s *Store) recoverQueues() error {
	closed, err := s.metaInt("closed")
	if err != nil {
		return err
	}
	if err := s.setMeta("closed", 0); err != nil {
		return err
	}
	spent := 1 - closed
	err = query(s.conn, "select id, name from topic", func(st *sqlite.Stmt) error {
		s.topics[st.ColumnText(1)], s.names[st.ColumnInt64(0)] = st.ColumnInt64(0), st.ColumnText(1)
		return nil
	})
	if err != nil {
		return err
	}
	if err := query(s.conn, "select max(seq) from msg", func(st *sqlite.Stmt) error { s.seq = st.ColumnInt64(0); return nil }); err != nil {
		return err
	}
	kept, err := s.metaInt("seq") // of messages that retention deleted
	if err != nil {
		return err
	}
	s.seq = max(s.seq, kept)
	s.durable = s.seq
	if spent > 0 {
		s.suspect = s.seq
	}
	var qs []*queue
	err = query(s.conn, "select id, name, topics, first, head, pending from queue", func(st *sqlite.Stmt) error {
		q := &queue{id: st.ColumnInt64(0), name: st.ColumnText(1), first: st.ColumnInt64(3), head: st.ColumnInt64(4), flight: map[int64]inflight{}, signal: &rows.Signal{}}
		if err := json.Unmarshal([]byte(st.ColumnText(2)), &q.topics); err != nil {
			return fmt.Errorf("reading the topics of queue %q: %w", q.name, err)
		}
		var err error
		if q.pending, err = rows.UnpackSeqs(columnBytes(st, 5)); err != nil {
			return fmt.Errorf("reading queue %q: %w", q.name, err)
		}
		q.handed, q.loaded = q.head, q.head
		qs = append(qs, q)
		return nil
	})
	if err != nil {
		return err
	}
	now := rows.MS(s.now())
	for _, q := range qs {
		if err := query(s.conn, "update again set due=?, attempts=attempts+? where queue=? and due=?", nil, now, spent, q.id, inHands); err != nil {
			return err
		}
		for _, seq := range q.pending {
			if err := query(s.conn, "insert or ignore into again(queue, seq, due, attempts) values(?, ?, ?, ?)", nil, q.id, seq, now, spent); err != nil {
				return err
			}
		}
		if len(q.pending) > 0 {
			q.pending = nil
			if err := query(s.conn, "update queue set pending=? where id=?", nil, rows.PackSeqs(nil), q.id); err != nil {
				return err
			}
		}
		err := query(s.conn, "select seq, due, attempts from again where queue=?", func(st *sqlite.Stmt) error {
			q.again = append(q.again, retry{st.ColumnInt64(0), st.ColumnInt64(1), st.ColumnInt(2)})
			return nil
		}, q.id)
		if err != nil {
			return err
		}
		heap.Init(&q.again)
		s.queues[q.name] = q
	}
	return nil
}

func (s *Store) armQueues() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.queues {
		s.arm(q)
	}
}

// arm sets the alarm for the first message that comes again.
func (s *Store) arm(q *queue) {
	if len(q.again) == 0 {
		return
	}
	due := rows.FromMS(q.again[0].due)
	if q.stop != nil && !due.Before(q.alarm) {
		return
	}
	if q.stop != nil {
		q.stop()
	}
	q.alarm = due
	q.stop = s.o.Clock.At(due, func() {
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

// queueNamed finds a queue, or makes its memory for listeners that come before
// Bind. Store.mu is held.
func (s *Store) queueNamed(name string) *queue {
	q := s.queues[name]
	if q == nil {
		q = &queue{name: name, flight: map[int64]inflight{}, signal: &rows.Signal{}}
		s.queues[name] = q
	}
	return q
}

// Bind implements store.Queues. More topics add to those bound before.
func (s *Store) Bind(ctx context.Context, name string, topics ...string) error {
	if name == "" || len(topics) == 0 {
		return fmt.Errorf("binding queue %q: it needs a name and a topic", name)
	}
	s.mu.Lock()
	same := false
	if q := s.queues[name]; q != nil && q.id != 0 {
		same = !slices.ContainsFunc(topics, func(t string) bool { return !slices.Contains(q.topics, t) })
	}
	s.mu.Unlock()
	if same {
		return nil
	}
	err := s.submit(ctx, func(t *tx) error {
		q := s.queueNamed(name)
		was := *q
		t.undo = append(t.undo, func() {
			q.id, q.topics, q.first, q.head, q.handed = was.id, was.topics, was.first, was.head, was.handed
			q.loaded, q.ready, q.bytes, q.returned = was.loaded, was.ready, was.bytes, was.returned
		})
		all := slices.Clone(q.topics)
		for _, topic := range topics {
			if !slices.Contains(all, topic) {
				all = append(all, topic)
			}
		}
		text, err := json.Marshal(all)
		if err != nil {
			return err
		}
		if q.id == 0 {
			q.first, q.head, q.handed, q.loaded = s.seq, s.seq, s.seq, s.seq
			if err := t.exec("insert into queue(name, topics, first, head, pending) values(?, ?, ?, ?, ?)", name, string(text), q.first, q.head, rows.PackSeqs(nil)); err != nil {
				return err
			}
			q.id = t.conn.LastInsertRowID()
		} else {
			// A new topic counts from now on: what the queue has not read yet becomes
			// an explicit list, or older messages of the topic would slip in.
			if err := t.loadAll(q); err != nil {
				return err
			}
			q.returned = append(slices.Clone(q.returned), q.ready...)
			q.ready, q.bytes, q.loaded, q.handed = nil, 0, s.seq, s.seq
			t.touch(q)
			if err := t.exec("update queue set topics=? where id=?", string(text), q.id); err != nil {
				return err
			}
		}
		q.topics = all
		return nil
	})
	if err != nil {
		return fmt.Errorf("binding queue %q: %w", name, err)
	}
	return nil
}

// settle takes deliveries out of their queues in this commit.
func (t *tx) settle(acks ...*store.Ack) error {
	for _, a := range acks {
		if a == nil {
			continue
		}
		q := t.s.queues[a.Queue]
		if q == nil || q.id == 0 {
			return refuse(fmt.Errorf("settling a delivery: no queue is named %q", a.Queue))
		}
		if err := t.settleOne(q, a.ID); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) settleOne(q *queue, seq int64) error {
	f, flying := q.flight[seq]
	if flying {
		delete(q.flight, seq)
		t.undo = append(t.undo, func() { q.flight[seq] = f })
		if !f.again {
			t.touch(q)
			return nil
		}
		return t.exec("delete from again where queue=? and seq=?", q.id, seq)
	}
	// Late: the process died, or the subscriber closed, since it was handed out.
	if i := slices.IndexFunc(q.again, func(r retry) bool { return r.seq == seq }); i >= 0 {
		r := q.again[i]
		heap.Remove(&q.again, i)
		t.undo = append(t.undo, func() { heap.Push(&q.again, r) })
		return t.exec("delete from again where queue=? and seq=?", q.id, seq)
	}
	if i := slices.IndexFunc(q.returned, func(m store.Message) bool { return m.Seq == seq }); i >= 0 {
		old := q.returned
		q.returned = slices.Delete(slices.Clone(old), i, i+1)
		t.undo = append(t.undo, func() { q.returned = old })
		t.touch(q)
		return nil
	}
	if i := slices.IndexFunc(q.ready, func(m store.Message) bool { return m.Seq == seq }); i >= 0 {
		// What is before it in the log must count as handed out, or head would
		// pass it by.
		old, had, bytes := q.ready, q.handed, q.bytes
		q.returned = append(q.returned, old[:i]...)
		q.ready = slices.Clone(old[i+1:])
		q.handed = max(q.handed, seq)
		n := i
		for _, m := range old[:i+1] {
			q.bytes -= len(m.Body)
		}
		t.undo = append(t.undo, func() {
			q.returned = q.returned[:len(q.returned)-n]
			q.ready, q.handed, q.bytes = old, had, bytes
		})
		t.touch(q)
	}
	return nil
}

// touch notes a queue whose row this commit must write.
func (t *tx) touch(q *queue) {
	if t.touched == nil {
		t.touched = make(map[*queue]struct{}, 2)
	}
	t.touched[q] = struct{}{}
}

// saveQueues writes where the touched queues stand now.
func (t *tx) saveQueues() error {
	for q := range t.touched {
		pending := make([]int64, 0, len(q.flight)+len(q.returned))
		for seq, f := range q.flight {
			if !f.again {
				pending = append(pending, seq)
			}
		}
		for _, m := range q.returned {
			pending = append(pending, m.Seq)
		}
		slices.Sort(pending)
		head := q.handed
		oldHead, oldPending := q.head, q.pending
		q.head, q.pending = head, pending
		t.undo = append(t.undo, func() { q.head, q.pending = oldHead, oldPending })
		if err := t.exec("update queue set head=?, pending=? where id=?", head, rows.PackSeqs(pending), q.id); err != nil {
			return err
		}
	}
	return nil
}

// meant says whether any of the acks still means something, so that an ack
// after the commit that settled it costs nothing.
func (s *Store) meant(acks []store.Ack) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range acks {
		q := s.queues[a.Queue]
		if q == nil || q.id == 0 {
			return true // the commit will say so
		}
		if _, ok := q.flight[a.ID]; ok || a.ID > q.handed {
			return true
		}
		if len(q.again)+len(q.returned) > 0 {
			return true
		}
	}
	return false
}

// Settle implements store.Queues.
func (s *Store) Settle(ctx context.Context, acks ...store.Ack) error {
	if s.closed.Load() {
		return store.ErrClosed
	}
	if !s.meant(acks) {
		return nil
	}
	err := s.submit(ctx, func(t *tx) error {
		for i := range acks {
			if err := t.settle(&acks[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("settling deliveries: %w", err)
	}
	return nil
}

// Again implements store.Queues.
func (s *Store) Again(ctx context.Context, a store.Ack, due time.Time) error {
	err := s.submit(ctx, func(t *tx) error {
		q := s.queues[a.Queue]
		if q == nil {
			return refuse(fmt.Errorf("no queue is named %q", a.Queue))
		}
		f, ok := q.flight[a.ID]
		if !ok {
			return nil
		}
		attempts := f.attempts + 1
		if err := t.exec("insert into again(queue, seq, due, attempts) values(?, ?, ?, ?) on conflict do update set due=excluded.due, attempts=excluded.attempts",
			q.id, a.ID, rows.MS(due), attempts); err != nil {
			return err
		}
		if !f.again {
			t.touch(q)
		}
		delete(q.flight, a.ID)
		t.undo = append(t.undo, func() { q.flight[a.ID] = f })
		r := retry{a.ID, rows.MS(due), attempts}
		t.after = append(t.after, func() {
			s.mu.Lock()
			heap.Push(&q.again, r)
			s.arm(q)
			s.mu.Unlock()
		})
		return nil
	})
	if err != nil {
		return fmt.Errorf("returning message %d to %q: %w", a.ID, a.Queue, err)
	}
	return nil
}

// Unreceive implements store.Queues. It is memory alone: on disk the deliveries
// were never gone.
func (s *Store) Unreceive(ctx context.Context, acks ...store.Ack) error {
	if s.closed.Load() {
		return store.ErrClosed
	}
	seqs := make(map[string][]int64)
	for _, a := range acks {
		seqs[a.Queue] = append(seqs[a.Queue], a.ID)
	}
	for name, list := range seqs {
		if err := s.unreceive(ctx, name, list); err != nil {
			return fmt.Errorf("giving messages back to %q: %w", name, err)
		}
	}
	return nil
}
