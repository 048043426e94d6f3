package rows

import (
	"crypto/hmac"
	"fmt"
	"strings"

	"github.com/dime-bus/dime/internal/store/seal"
)

// Sealed is a row that the city's key or the one of all persons has sealed.
type Sealed struct {
	Table string // one of SealedTables
	A, B  string // its key: owner and key of a note, queue and number of a parked message; else A alone
	Token [TokenSize]byte
	Num   int64  // a run's id, an event's message
	Topic string // of a message
	Bytes []byte
}

// SealedTables are the tables of such rows, in the order of the walk over them. The
// rest is sealed by runs' own keys, which hang on these.
func SealedTables() []string {
	return []string{"person", "run", "note", "version", "blob", "event", "msg", "parked"}
}

// Anew is a row's bytes under the newest keys; nil if they are already.
func Anew(keys *seal.Keys, r *Sealed) (b []byte, err error) {
	city := keys.City()
	switch r.Table {
	case "person":
		b, err = keys.RewrapPerson(r.Token, r.Bytes)
	case "run":
		b, err = city.Rewrap(r.Bytes, seal.Bound('r', r.Num))
	case "note":
		b, err = city.Reseal(r.Bytes, []byte("note\x00"+r.A+"\x00"+r.B))
	case "version":
		b, err = city.Reseal(r.Bytes, []byte("version "+r.A))
	case "blob":
		b, err = city.Reseal(r.Bytes, []byte(r.A))
	case "event":
		b, err = city.Reseal(r.Bytes, seal.Bound('m', r.Num))
	case "msg", "parked":
		b, err = city.Reseal(r.Bytes, seal.BoundName('q', r.Topic))
	default:
		err = fmt.Errorf("no rows of %q are sealed", r.Table)
	}
	if err != nil {
		return nil, fmt.Errorf("sealing a row of %s anew: %w", r.Table, err)
	}
	return b, nil
}

// Walk is where Reseal stands, and what it has done.
type Walk struct {
	Table, A, B string
	Found       bool // something of the old keys, in this walk over all tables
	Done        int64
}

// NewWalk stands before the first table.
func NewWalk() Walk { return Walk{Table: SealedTables()[0]} }

// String is what is kept; ReadWalk reads it. A note's key stands last, for it may
// hold anything.
func (w Walk) String() string {
	return fmt.Sprintf("%t\x00%d\x00%s\x00%s\x00%s", w.Found, w.Done, w.Table, w.A, w.B)
}

// ReadWalk reads a walk; ok is false where there is none.
func ReadWalk(b []byte) (w Walk, ok bool, err error) {
	if b == nil {
		return w, false, nil
	}
	parts := strings.SplitN(string(b), "\x00", 5)
	if len(parts) != 5 {
		return w, false, fmt.Errorf("reading how far the keys are changed: %w", ErrPack)
	}
	if _, err := fmt.Sscan(parts[1], &w.Done); err != nil {
		return w, false, fmt.Errorf("reading how far the keys are changed: %w", ErrPack)
	}
	w.Found, w.Table, w.A, w.B = parts[0] == "true", parts[2], parts[3], parts[4]
	return w, true, nil
}

// Next stands behind the rows that were read of a batch of max; more is false when
// all tables were walked over and nothing was found.
func (w Walk) Next(read []Sealed, changed, max int) (_ Walk, more bool) {
	w.Done += int64(changed)
	w.Found = w.Found || changed > 0
	if len(read) == max {
		last := read[len(read)-1]
		w.A, w.B = last.A, last.B
		return w, true
	}
	tables := SealedTables()
	for i, t := range tables {
		if t == w.Table && i+1 < len(tables) {
			return Walk{Table: tables[i+1], Found: w.Found, Done: w.Done}, true
		}
	}
	if !w.Found {
		return Walk{Done: w.Done}, false
	}
	return Walk{Table: tables[0], Done: w.Done}, true
}

// Batch is how many rows of a table are taken at once: blobs and sources are large.
func Batch(table string, max int) int {
	if table == "blob" || table == "version" {
		return min(max, 4)
	}
	return max
}

// Admit enters a store's ring, if it has one, and says what its check must be;
// seal.ErrMaster if this master key does not open the store.
func Admit(keys *seal.Keys, ring, check []byte) (want []byte, err error) {
	word := keys.Token("check")
	if ring != nil {
		if err := keys.Enter(ring); err != nil {
			return nil, err
		}
		// Another word than before the first rotation: a release that knows no ring
		// must not take its key for the right one.
		word = keys.Token("check", "ring")
	}
	if check != nil && !hmac.Equal(check, word[:]) {
		return nil, seal.ErrMaster
	}
	return word[:], nil
}
