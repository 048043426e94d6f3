package sqlite

import (
	"context"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/rows"
	"github.com/dime-bus/dime/internal/store/seal"
)

// save writes the prepared rows of run in o's next place.
func (t *tx) save(run store.RunID, o *owned, p *rows.Prepared) error {
	if p.Rows {
		if err := t.exec("insert into entry(id, names, body) values(?, ?, ?)", int64(run)<<20|o.seq, p.Names, p.Body); err != nil {
			return err
		}
		o.seq++
		t.undo = append(t.undo, func() { o.seq-- })
	}
	for _, b := range p.Spills {
		if err := t.exec("insert or ignore into blob(digest, size, at, bytes) values(?, ?, ?, ?)", b.Digest, b.Size, t.nowMS, b.Sealed); err != nil {
			return err
		}
		if err := t.exec("insert or ignore into blob_use(digest, run) values(?, ?)", b.Digest, run); err != nil {
			return err
		}
	}
	for _, d := range p.Uses {
		if err := t.exec("insert or ignore into blob_use(digest, run) values(?, ?)", d, run); err != nil {
			return err
		}
	}
	for _, path := range p.Unwaits {
		if err := t.exec("delete from wait where run=? and path=?", run, path); err != nil {
			return err
		}
	}
	for _, e := range p.Taken {
		if err := t.exec("delete from held where event=?", e); err != nil {
			return err
		}
		if err := t.exec("insert or ignore into taken(run, event) values(?, ?)", run, e); err != nil {
			return err
		}
	}
	for _, m := range p.Outbox {
		if err := t.exec("insert into outbox(run, topic, body, attempts) values(?, ?, ?, 0)", run, m.Topic, m.Sealed); err != nil {
			return err
		}
		t.wake = true
	}
	for i := range p.Waits {
		if err := t.register(run, o, &p.Waits[i]); err != nil {
			return err
		}
	}
	return nil
}

// dataKey is the data key of an owned run, read from its row where this life of
// the store has not needed it yet.
func (s *Store) dataKey(ctx context.Context, l store.Lease) (*seal.Key, error) {
	s.mu.Lock()
	o := s.owned[l.Run]
	if o == nil || o.epoch != l.Epoch {
		s.mu.Unlock()
		return nil, store.ErrFenced
	}
	data := o.data
	s.mu.Unlock()
	if data != nil {
		return data, nil
	}
	data, err := s.loadKey(ctx, l.Run)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	o.data = data
	s.mu.Unlock()
	return data, nil
}
