// Package rows is what every store puts into its rows: how records are packed
// and sealed, the numbers of the states, the run's public id, the limits, and the
// bell that tells listeners of a commit. The stores differ in how they commit, not
// in what.
package rows

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/seal"
)

// Limits of semantics 5.4, 6.2 and 6.3.
const (
	MaxBatch   = 512 // jobs of a commit
	MaxInline  = 64 << 10
	MaxValue   = 8 << 20
	MaxSource  = 32 << 20 // of a version or a blob
	MaxCommits = 400_000  // 100,000 records in a commit each, and an undo that waits a few times
	MaxQueued  = 1000     // behind one order key
	BlobPrefix = "sha256:"
	TokenSize  = 16 // of a look-up key
)

// stateWords stand by their number in tables and in the partial indexes.
var stateWords = [...]store.State{0: "", 1: store.Queued, 2: store.Running, 3: store.Waiting, 4: store.Undoing,
	5: store.Parked, 6: store.Done, 7: store.Cancelled, 8: store.Failed, 9: store.Settled}

// StateCode is a state's number; 0 for what is none.
func StateCode(s store.State) int64 {
	for i, w := range stateWords {
		if w == s && i > 0 {
			return int64(i)
		}
	}
	return 0
}

// StateWord is the opposite of StateCode.
func StateWord(n int64) store.State {
	if n > 0 && n < int64(len(stateWords)) {
		return stateWords[n]
	}
	return ""
}

// Hot says whether a run in that state is on its way, in somebody's hands.
func Hot(s store.State) bool { return s == store.Running || s == store.Undoing }

// MS is an instant as tables keep it; FromMS is its opposite.
func MS(t time.Time) int64 { return t.UnixMilli() }

// FromMS reads an instant of a table.
func FromMS(n int64) time.Time { return time.UnixMilli(n).UTC() }

// PublicID is the MAC and the number, in base 32: no index is needed to find a
// run by it, and none can be guessed.
func PublicID(keys *seal.Keys, id store.RunID) string {
	tag := keys.Tag("run", uint64(id))
	var b [14]byte
	copy(b[:8], tag[:])
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(id))
	copy(b[8:], n[2:])
	return publicEncoding().EncodeToString(b[:])
}

// ParseID is the opposite of PublicID; store.ErrNoRun for anything else.
func ParseID(keys *seal.Keys, id string) (store.RunID, error) {
	b, err := publicEncoding().DecodeString(id)
	if err != nil || len(b) != 14 {
		return 0, store.ErrNoRun
	}
	var n [8]byte
	copy(n[2:], b[8:])
	run := store.RunID(binary.BigEndian.Uint64(n[:]))
	if PublicID(keys, run) != id {
		return 0, store.ErrNoRun
	}
	return run, nil
}

func publicEncoding() *base32.Encoding {
	return base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
}

// WaitKey is a wait's or an event's look-up key under one shape.
func WaitKey(keys *seal.Keys, typ, shape, key string) [TokenSize]byte {
	return keys.Token("wait", typ, shape, key)
}

// Prepared is a commit's records, encoded and sealed in the caller's goroutine
// so that the writer only writes.
type Prepared struct {
	Rows    bool // Names and Body are to be written
	Names   []byte
	Body    []byte // sealed
	Spills  []Spill
	Uses    []string // blobs that the records name
	Waits   []Wait
	Unwaits []string
	Outbox  []Out
	Taken   []int64
	Version string // the run is pinned to from here on; "" where it stays
}

// Spill is a value with a row of its own.
type Spill struct {
	Digest string
	Size   int
	Sealed []byte
}

// Wait is a row of wait; a zero Until never ends.
type Wait struct {
	K            [TokenSize]byte
	Path         string
	Since, Until int64
}

// Out is a row of the outbox.
type Out struct {
	Topic  string
	Sealed []byte
}

// Prepare encodes rs of a run under its data key; h is its head, in the
// accepting commit.
func Prepare(keys *seal.Keys, run store.RunID, data *seal.Key, h *Head, rs []store.Record) (*Prepared, error) {
	p := &Prepared{Rows: len(rs) > 0 || h != nil}
	var digests []string
	for i := range rs {
		r := &rs[i]
		if len(r.Body) > MaxValue {
			return nil, fmt.Errorf("%w: the %s of %q has %d bytes, at most %d fit; hand it on by claim check", store.ErrTooLarge, r.Kind, r.Path, len(r.Body), MaxValue)
		}
		p.Uses = blobsIn(p.Uses, r.Body)
		if len(r.Body) > MaxInline {
			if digests == nil {
				digests = make([]string, len(rs))
			}
			sealed := data.Seal(r.Body, seal.Bound('v', int64(run)))
			sum := sha256.Sum256(sealed)
			digests[i] = "v:" + hex.EncodeToString(sum[:])
			p.Spills = append(p.Spills, Spill{digests[i], len(r.Body), sealed})
		}
		if r.Unwait {
			p.Unwaits = append(p.Unwaits, r.Path)
		}
		if w := r.Wait; w != nil {
			row := Wait{K: WaitKey(keys, w.Type, w.Shape, w.Key), Path: r.Path}
			if !w.Since.IsZero() {
				row.Since = MS(w.Since)
			}
			if !w.Until.IsZero() {
				row.Until = MS(w.Until)
			}
			p.Waits = append(p.Waits, row)
		}
		if r.Taken != 0 {
			p.Taken = append(p.Taken, r.Taken)
		}
		if r.Version != "" {
			p.Version = r.Version
		}
		for _, o := range r.Outbox {
			if len(o.Body) > MaxValue {
				return nil, fmt.Errorf("%w: a message for %q has %d bytes, at most %d fit", store.ErrTooLarge, o.Topic, len(o.Body), MaxValue)
			}
			p.Outbox = append(p.Outbox, Out{o.Topic, data.Seal(PackMessage(o.ID, o.Body, o.Meta), seal.Bound('o', int64(run)))})
		}
	}
	if h != nil {
		if len(h.Bytes) > MaxValue {
			return nil, fmt.Errorf("%w: the request has %d bytes, at most %d fit", store.ErrTooLarge, len(h.Bytes), MaxValue)
		}
		p.Uses = blobsIn(p.Uses, h.Bytes)
	}
	if p.Rows {
		p.Names = PackNames(rs)
		p.Body = data.Seal(PackBodies(h, rs, digests), seal.Bound('e', int64(run)))
	}
	return p, nil
}

// blobsIn finds the claim checks that a body names, so that a blob lives as long
// as a run that may read it.
func blobsIn(found []string, body []byte) []string {
	const size = len(BlobPrefix) + 2*sha256.Size
	for {
		i := bytes.Index(body, []byte(`"`+BlobPrefix))
		if i < 0 || len(body) < i+1+size {
			return found
		}
		d := string(body[i+1 : i+1+size])
		body = body[i+1+len(BlobPrefix):]
		if _, err := hex.DecodeString(strings.TrimPrefix(d, BlobPrefix)); err == nil {
			found = append(found, d)
		}
	}
}

// CheckRun refuses a run that no store could accept.
func CheckRun(r *store.Run) error {
	switch {
	case r.ID <= 0:
		return fmt.Errorf("its id was not reserved")
	case StateCode(r.State) == 0:
		return fmt.Errorf("%q is no state", r.State)
	case r.Priority < 0 || r.Priority > 2:
		return fmt.Errorf("priority %d is not 0, 1 or 2", r.Priority)
	}
	return nil
}

// Open reads a sealed journal row into its records' bodies, and a first row's
// head into r. large reads a value that has a row of its own.
func Open(r *store.Run, data *seal.Key, sealed []byte, rs []store.Record, large func(digest string) ([]byte, error)) error {
	clear, err := data.Open(sealed, seal.Bound('e', int64(r.ID)))
	if err != nil {
		return err
	}
	h, digests, err := UnpackBodies(clear, rs)
	if err != nil {
		return err
	}
	if h != nil {
		r.Head, r.OrderKey, r.Subjects = h.Bytes, h.OrderKey, h.Subjects
	}
	for j, d := range digests {
		if d == "" {
			continue
		}
		b, err := large(d)
		if err == nil && b == nil {
			err = store.ErrNoBlob
		}
		if err == nil {
			rs[j].Body, err = data.Open(b, seal.Bound('v', int64(r.ID)))
		}
		if err != nil {
			return fmt.Errorf("reading the large value of %q: %w", rs[j].Path, err)
		}
	}
	return nil
}
