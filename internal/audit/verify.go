package audit

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/dime-bus/dime/internal/store"
)

// Mark is what a witness is told: that the chain ended so at an instant.
type Mark struct {
	City string    `json:"city"`
	Seq  int64     `json:"seq"`
	Hash string    `json:"hash"`
	At   time.Time `json:"at"`
}

// ReadMarks reads a witness's file: a mark a line. A line without its end is a
// write that was cut off, and no mark.
func ReadMarks(in io.Reader) ([]Mark, error) {
	sc := bufio.NewScanner(in)
	sc.Buffer(nil, maxLine)
	var out []Mark
	for n := 1; sc.Scan(); n++ {
		if !bytes.HasSuffix(sc.Bytes(), []byte("}")) {
			continue
		}
		var m Mark
		if err := strict(sc.Bytes(), &m); err != nil {
			return nil, fmt.Errorf("line %d is no mark: %w", n, err)
		}
		out = append(out, m)
	}
	return out, sc.Err()
}

// Finding is one thing that is not as it was written.
type Finding struct {
	Seq  int64  `json:"seq"`
	What string `json:"what"`
}

// Result is what a verification saw.
type Result struct {
	First    int64     `json:"first"`
	Last     int64     `json:"last"`
	Rows     int64     `json:"rows"`
	Hash     string    `json:"hash"` // of the last row
	Marks    int       `json:"marks"`
	Findings []Finding `json:"findings"`
	More     int       `json:"more,omitempty"` // findings beyond those that are listed
}

// listed bounds the findings that are kept.
const listed = 100

// Verifier takes the rows of a chain in the order in which they are kept.
type Verifier struct {
	res     Result
	marks   map[int64][]Mark
	highest Mark
	head    *Head // of an export
	before  []byte
	prev    int64
	begun   bool
	restore string // what the last restore said of itself
}

// NewVerifier makes one for a whole chain.
func NewVerifier(marks []Mark) *Verifier {
	v := &Verifier{marks: map[int64][]Mark{}, res: Result{Marks: len(marks), Findings: []Finding{}}}
	for _, m := range marks {
		v.marks[m.Seq] = append(v.marks[m.Seq], m)
		if m.Seq > v.highest.Seq {
			v.highest = m
		}
	}
	return v
}

// Part says that an export follows, which may begin behind the chain's first row.
func (v *Verifier) Part(h Head) error {
	before, err := hex.DecodeString(h.Before)
	if err != nil {
		return fmt.Errorf("the first line's `before` is no hash: %w", err)
	}
	v.head, v.prev = &h, h.After
	if h.After > 0 {
		v.before = before
	}
	return nil
}

func (v *Verifier) find(seq int64, format string, args ...any) {
	if len(v.res.Findings) >= listed {
		v.res.More++
		return
	}
	v.res.Findings = append(v.res.Findings, Finding{seq, fmt.Sprintf(format, args...)})
}

// Row takes the next row.
func (v *Verifier) Row(r store.AuditRow) error {
	v.res.Rows++
	if !v.begun {
		v.res.First = r.Seq
	}
	v.begun = true
	switch {
	case r.Seq <= v.prev:
		v.find(r.Seq, "row %d stands behind row %d: rows were put in another order, or twice", r.Seq, v.prev)
	case r.Seq == v.prev+2:
		v.find(r.Seq-1, "row %d is missing", r.Seq-1)
	case r.Seq > v.prev+1:
		v.find(v.prev+1, "rows %d to %d are missing", v.prev+1, r.Seq-1)
	case !bytes.Equal(store.AuditHash(v.before, r), r.Hash):
		if v.prev == 0 {
			v.find(r.Seq, "row %d is not what was written: its hash does not fit it", r.Seq)
		} else {
			v.find(r.Seq, "row %d does not carry the hash of what it says behind row %d: one of the two was changed", r.Seq, v.prev)
		}
	}
	for _, m := range v.marks[r.Seq] {
		if m.Hash != hex.EncodeToString(r.Hash) {
			v.find(r.Seq, "row %d is not the one that the witness saw at %s: rows up to it were replaced%s", r.Seq, m.At.UTC().Format(time.RFC3339), v.restore)
			break
		}
	}
	if r.Action == ActionRestore {
		v.restore = fmt.Sprintf(" (row %d says that a backup was restored at %s: what came behind the backup is gone by that)", r.Seq, r.At.UTC().Format(time.RFC3339))
	}
	if r.Seq > v.prev { // what stands at a wrong place is not what follows was written behind
		v.prev, v.before = r.Seq, r.Hash
	}
	return nil
}

// ActionRestore is the action of a restore's row.
const ActionRestore = "store.restore"

// Result ends the verification.
func (v *Verifier) Result() Result {
	v.res.Last = v.prev
	v.res.Hash = hex.EncodeToString(v.before)
	end := v.prev
	if h := v.head; h != nil {
		if v.prev < h.Last {
			v.find(v.prev+1, "rows %d to %d are missing: the export says that it holds them", v.prev+1, h.Last)
		}
		if h.Last > 0 && v.prev > h.Last {
			v.find(v.prev, "row %d is beyond the last that the export says it holds, %d", v.prev, h.Last)
		}
		if v.prev == h.Head && h.Head > 0 && v.res.Hash != h.HeadHash {
			v.find(v.prev, "row %d is not the head that the export names", v.prev)
		}
		end = max(v.prev, h.Head)
	}
	if m := v.highest; m.Seq > end {
		v.find(end+1, "the witness saw row %d at %s, and the last one is %d: rows %d to %d were cut off%s",
			m.Seq, m.At.UTC().Format(time.RFC3339), end, end+1, m.Seq, v.restore)
	}
	slices.SortStableFunc(v.res.Findings, func(a, b Finding) int { return int(a.Seq - b.Seq) })
	return v.res
}

// Whole says that nothing was found.
func (r Result) Whole() bool { return len(r.Findings) == 0 }
