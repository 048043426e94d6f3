package sqlite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/seal"
)

// Limits of semantics 6.3.
const (
	maxInline  = 64 << 10
	maxValue   = 8 << 20
	maxCommits = 400_000 // 100,000 records in a commit each, and an undo that waits a few times
	blobPrefix = "sha256:"
)

// prepared is a commit's records, encoded and sealed in the caller's goroutine
// so that the writer only writes.
type prepared struct {
	rows    bool
	names   []byte
	body    []byte // sealed
	spills  []spill
	uses    []string // blobs that the records name
	waits   []waitRow
	unwaits []string
	outbox  []outRow
	taken   []int64
}

type spill struct {
	digest string
	size   int
	sealed []byte
}

type waitRow struct {
	k     [16]byte
	path  string
	since int64
	until any
}

type outRow struct {
	topic  string
	sealed []byte
}

func (s *Store) waitKey(typ, shape, key string) [16]byte {
	return s.keys.Token("wait", typ, shape, key)
}

// prepare encodes rs of a run under its data key; h is its head, in the
// accepting commit.
func (s *Store) prepare(run store.RunID, data *seal.Key, h *head, rs []store.Record) (*prepared, error) {
	p := &prepared{rows: len(rs) > 0 || h != nil}
	var digests []string
	for i := range rs {
		r := &rs[i]
		if len(r.Body) > maxValue {
			return nil, fmt.Errorf("%w: the %s of %q has %d bytes, at most %d fit; hand it on by claim check", store.ErrTooLarge, r.Kind, r.Path, len(r.Body), maxValue)
		}
		p.uses = blobsIn(p.uses, r.Body)
		if len(r.Body) > maxInline {
			if digests == nil {
				digests = make([]string, len(rs))
			}
			sealed := data.Seal(r.Body, seal.Bound('v', int64(run)))
			sum := sha256.Sum256(sealed)
			digests[i] = "v:" + hex.EncodeToString(sum[:])
			p.spills = append(p.spills, spill{digests[i], len(r.Body), sealed})
		}
		if r.Unwait {
			p.unwaits = append(p.unwaits, r.Path)
		}
		if w := r.Wait; w != nil {
			row := waitRow{k: s.waitKey(w.Type, w.Shape, w.Key), path: r.Path}
			if !w.Since.IsZero() {
				row.since = ms(w.Since)
			}
			if !w.Until.IsZero() {
				row.until = ms(w.Until)
			}
			p.waits = append(p.waits, row)
		}
		if r.Taken != 0 {
			p.taken = append(p.taken, r.Taken)
		}
		for _, o := range r.Outbox {
			if len(o.Body) > maxValue {
				return nil, fmt.Errorf("%w: a message for %q has %d bytes, at most %d fit", store.ErrTooLarge, o.Topic, len(o.Body), maxValue)
			}
			p.outbox = append(p.outbox, outRow{o.Topic, data.Seal(packMessage(o.ID, o.Body, o.Meta), seal.Bound('o', int64(run)))})
		}
	}
	if h != nil {
		if len(h.bytes) > maxValue {
			return nil, fmt.Errorf("%w: the request has %d bytes, at most %d fit", store.ErrTooLarge, len(h.bytes), maxValue)
		}
		p.uses = blobsIn(p.uses, h.bytes)
	}
	if p.rows {
		p.names = packNames(rs)
		p.body = data.Seal(packBodies(h, rs, digests), seal.Bound('e', int64(run)))
	}
	return p, nil
}

// blobsIn finds the claim checks that a body names, so that a blob lives as long
// as a run that may read it.
func blobsIn(found []string, body []byte) []string {
	const size = len(blobPrefix) + 2*sha256.Size
	for {
		i := bytes.Index(body, []byte(`"`+blobPrefix))
		if i < 0 || len(body) < i+1+size {
			return found
		}
		d := string(body[i+1 : i+1+size])
		body = body[i+1+len(blobPrefix):]
		if _, err := hex.DecodeString(strings.TrimPrefix(d, blobPrefix)); err == nil {
			found = append(found, d)
		}
	}
}

// save writes the prepared rows of run in o's next place.
func (t *tx) save(run store.RunID, o *owned, p *prepared) error {
	if p.rows {
		if err := t.exec("insert into entry(id, names, body) values(?, ?, ?)", int64(run)<<20|o.seq, p.names, p.body); err != nil {
			return err
		}
		o.seq++
		t.undo = append(t.undo, func() { o.seq-- })
	}
	for _, b := range p.spills {
		if err := t.exec("insert or ignore into blob(digest, size, at, bytes) values(?, ?, ?, ?)", b.digest, b.size, t.nowMS, b.sealed); err != nil {
			return err
		}
		if err := t.exec("insert or ignore into blob_use(digest, run) values(?, ?)", b.digest, run); err != nil {
			return err
		}
	}
	for _, d := range p.uses {
		if err := t.exec("insert or ignore into blob_use(digest, run) values(?, ?)", d, run); err != nil {
			return err
		}
	}
	for _, path := range p.unwaits {
		if err := t.exec("delete from wait where run=? and path=?", run, path); err != nil {
			return err
		}
	}
	for _, e := range p.taken {
		if err := t.exec("delete from held where event=?", e); err != nil {
			return err
		}
		if err := t.exec("insert or ignore into taken(run, event) values(?, ?)", run, e); err != nil {
			return err
		}
	}
	for _, m := range p.outbox {
		if err := t.exec("insert into outbox(run, topic, body, attempts) values(?, ?, ?, 0)", run, m.topic, m.sealed); err != nil {
			return err
		}
		t.wake = true
	}
	for i := range p.waits {
		if err := t.register(run, o, &p.waits[i]); err != nil {
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
