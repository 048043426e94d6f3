package sqlite

import (
	"errors"
	"slices"

	"zombiezen.com/go/sqlite"

	"github.com/dime-bus/dime/internal/store"
)

// maxRepeatBytes bounds what the first publishing of a life reads of the log.
const maxRepeatBytes = 16 << 20

// msgID is a message's id within its topic.
type msgID struct {
	topic int64
	id    string
}

// recent knows the ids of the latest messages, so that one which is published
// again is stored once. An index over all ids would be random (semantics 13) and
// dearer than the message. Guarded by Store.mu.
type recent struct {
	read  bool // what the log held when the store was opened
	ring  []msgID
	at    int
	known map[msgID]struct{}
}

// put remembers an id and gives the one that it drives out.
func (r *recent) put(m msgID) (out msgID) {
	if r.known == nil {
		r.ring, r.known = make([]msgID, store.RepeatWindow), make(map[msgID]struct{}, store.RepeatWindow)
	}
	out = r.ring[r.at]
	delete(r.known, out)
	r.ring[r.at] = m
	r.known[m] = struct{}{}
	r.at = (r.at + 1) % len(r.ring)
	return out
}

// back takes the latest put back.
func (r *recent) back(out msgID) {
	r.at = (r.at + len(r.ring) - 1) % len(r.ring)
	delete(r.known, r.ring[r.at])
	if r.ring[r.at] = out; out != (msgID{}) {
		r.known[out] = struct{}{}
	}
}

// repeated says whether a message is among the latest, and remembers it if not.
// A message without an id is never another's repetition.
func (t *tx) repeated(topic int64, id string) (bool, error) {
	r := &t.s.recent
	if !r.read {
		if err := t.readRecent(); err != nil {
			return false, err
		}
	}
	if id == "" {
		return false, nil
	}
	m := msgID{topic, id}
	if _, ok := r.known[m]; ok {
		return true, nil
	}
	out := r.put(m)
	t.undo = append(t.undo, func() { r.back(out) })
	return false, nil
}

// readRecent brings the latest ids of the log into memory: what was published
// before a crash and not yet settled in the outbox comes again after it.
func (t *tx) readRecent() error {
	var ids []msgID
	bytes := 0
	err := t.query("select seq, topic, body from msg order by seq desc limit ?", func(st *sqlite.Stmt) error {
		if bytes += st.ColumnLen(2); bytes > maxRepeatBytes {
			return errStop
		}
		m, err := t.s.openMessage(st.ColumnInt64(0), t.s.names[st.ColumnInt64(1)], columnBytes(st, 2))
		if err == nil && m.ID != "" { // one that does not open is its reader's to report
			ids = append(ids, msgID{st.ColumnInt64(1), m.ID})
		}
		return nil
	}, store.RepeatWindow)
	if err != nil && !errors.Is(err, errStop) {
		return err
	}
	for _, m := range slices.Backward(ids) {
		if _, ok := t.s.recent.known[m]; !ok { // a log of before ids were compared may hold one twice
			t.s.recent.put(m)
		}
	}
	t.s.recent.read = true
	return nil
}
