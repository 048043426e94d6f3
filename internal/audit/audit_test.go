package audit_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/audit"
	"github.com/dime-bus/dime/internal/store"
)

const someone = "RSSMRA80A01L736U"

var start = time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // a constant that the language has no word for

// chain is n rows as a store would have written them.
func chain(n int) []store.AuditRow {
	var out []store.AuditRow
	var before []byte
	for i := range n {
		r := store.AuditRow{Seq: int64(i + 1), At: start.Add(time.Duration(i) * time.Minute), Who: fmt.Sprintf("anna %d", i%3), Channel: "admin",
			Action: "runs.replay", Target: fmt.Sprint(i), Reason: "perché <sì> & no \u2028", Detail: `{"of":1}`}
		if i%2 == 0 {
			r.Person, r.Sealed = bytes.Repeat([]byte{byte(i)}, 16), []byte{1, 2, byte(i)}
		}
		r.Hash = store.AuditHash(before, r)
		before = r.Hash
		out = append(out, r)
	}
	return out
}

func mark(r store.AuditRow) audit.Mark {
	return audit.Mark{City: "Venezia", Seq: r.Seq, Hash: hex.EncodeToString(r.Hash), At: r.At}
}

func verify(rows []store.AuditRow, marks ...audit.Mark) audit.Result {
	v := audit.NewVerifier(marks)
	for _, r := range rows {
		_ = v.Row(r)
	}
	return v.Result()
}

func TestAWholeChainIsWhole(t *testing.T) {
	for n := range 12 {
		rows := chain(n)
		var marks []audit.Mark
		for _, r := range rows {
			marks = append(marks, mark(r))
		}
		if r := verify(rows, marks...); !r.Whole() || r.Rows != int64(n) || r.Last != int64(n) {
			t.Errorf("%d rows: %+v", n, r)
		}
	}
}

// rechain makes the hashes fit again from a row on: what somebody does who knows how.
func rechain(rows []store.AuditRow, from int) {
	var before []byte
	if from > 0 {
		before = rows[from-1].Hash
	}
	for i := from; i < len(rows); i++ {
		rows[i].Hash = store.AuditHash(before, rows[i])
		before = rows[i].Hash
	}
}

// Whatever is done to the rows is found. Where somebody writes the list anew from
// some row on, or cuts its end off, only the witness knows; and it does.
func TestWhateverIsChangedIsFound(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test
	edits := map[string]func(r *store.AuditRow){
		"seq": func(r *store.AuditRow) { r.Seq += 100 }, "at": func(r *store.AuditRow) { r.At = r.At.Add(time.Millisecond) },
		"who": func(r *store.AuditRow) { r.Who += "x" }, "channel": func(r *store.AuditRow) { r.Channel = "" },
		"action": func(r *store.AuditRow) { r.Action = "runs.skip" }, "target": func(r *store.AuditRow) { r.Target, r.Reason = r.Target+r.Reason[:1], r.Reason[1:] },
		"reason": func(r *store.AuditRow) { r.Reason = "" }, "person": func(r *store.AuditRow) { r.Person = append([]byte{9}, r.Person...) },
		"sealed": func(r *store.AuditRow) { r.Sealed = append(r.Sealed[:len(r.Sealed):len(r.Sealed)], 9) }, "detail": func(r *store.AuditRow) { r.Detail = "{}" },
		"hash": func(r *store.AuditRow) { r.Hash = bytes.Repeat([]byte{1}, 32) },
	}
	tried := 0
	for range 200 {
		n := 3 + rnd.IntN(30)
		whole := chain(n)
		marks := []audit.Mark{mark(whole[rnd.IntN(n)]), mark(whole[n-1])}
		i, j := rnd.IntN(n-1), rnd.IntN(n-1)
		for what, edit := range edits {
			rows := slices.Clone(whole)
			edit(&rows[i])
			if r := verify(rows); r.Whole() || !slices.ContainsFunc(r.Findings, func(f audit.Finding) bool { return f.Seq >= whole[i].Seq && strings.Contains(f.What, "row") }) {
				t.Fatalf("an edit of %s in row %d of %d is not found: %+v", what, i+1, n, r)
			}
			tried++
			if what == "hash" {
				continue // made anew it is what it was
			}
			rechain(rows, i)
			if r := verify(rows, marks...); r.Whole() {
				t.Fatalf("an edit of %s in row %d of %d, with all hashes made anew, is not found by the witness: %+v", what, i+1, n, r)
			}
			tried++
		}
		without := slices.Delete(slices.Clone(whole), i, i+1)
		if r := verify(without); r.Whole() || r.Findings[0].Seq != whole[i].Seq {
			t.Fatalf("row %d of %d was deleted: %+v", i+1, n, r)
		}
		if i != j {
			swapped := slices.Clone(whole)
			swapped[i], swapped[j] = swapped[j], swapped[i]
			if verify(swapped).Whole() {
				t.Fatalf("rows %d and %d of %d were swapped: not found", i+1, j+1, n)
			}
			swapped[i].Seq, swapped[j].Seq = swapped[j].Seq, swapped[i].Seq
			if verify(swapped).Whole() {
				t.Fatalf("what rows %d and %d of %d say was swapped: not found", i+1, j+1, n)
			}
		}
		twice := slices.Insert(slices.Clone(whole), i+1, whole[i])
		if verify(twice).Whole() {
			t.Fatalf("row %d of %d stands there twice: not found", i+1, n)
		}
		short := whole[:n-1-i]
		if !verify(short).Whole() {
			t.Fatalf("a list that was cut off can't be told from a shorter one without a witness: %+v", verify(short))
		}
		if r := verify(short, marks...); r.Whole() || r.Findings[len(r.Findings)-1].Seq != int64(len(short)+1) {
			t.Fatalf("%d of %d rows were cut off: %+v", i+1, n, r)
		}
		if r := verify(nil, marks...); r.Whole() {
			t.Fatal("all rows were cut off: not found")
		}
		tried += 6
	}
	t.Logf("%d changes were found", tried)
}

func exported(t *testing.T, rows []store.AuditRow, after int64, before string, last, head int, hash string) string {
	t.Helper()
	var b bytes.Buffer
	if err := audit.Write(&b, audit.Head{Format: audit.Format, City: "Venezia", At: start, After: after, Before: before, Last: int64(last), Head: int64(head), HeadHash: hash}); err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if err := audit.Write(&b, audit.LineOf(r)); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

func read(text string, marks ...audit.Mark) (audit.Result, error) {
	v := audit.NewVerifier(marks)
	err := audit.Read(strings.NewReader(text), v.Part, v.Row)
	return v.Result(), err
}

func TestAnExportIsVerified(t *testing.T) {
	rows := chain(20)
	hash := func(i int) string { return hex.EncodeToString(rows[i-1].Hash) }
	whole := exported(t, rows, 0, "", 20, 20, hash(20))
	part := exported(t, rows[4:10], 4, hash(4), 10, 20, hash(20))
	all := []audit.Mark{mark(rows[2]), mark(rows[7]), mark(rows[19])}
	for name, text := range map[string]string{"whole": whole, "part": part, "empty": exported(t, nil, 20, hash(20), 0, 20, hash(20))} {
		if r, err := read(text, all...); err != nil || !r.Whole() {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	lines := strings.SplitAfter(part, "\n")
	for i := 1; i < 7; i++ {
		for j, c := range []byte(lines[i]) {
			if c < 'a' || c > 'f' {
				continue
			}
			b := []byte(lines[i])
			b[j] = c ^ 3 // another letter, so that the line mostly stays JSON
			bad := strings.Join(slices.Concat(lines[:i], []string{string(b)}, lines[i+1:]), "")
			if r, err := read(bad); err == nil && r.Whole() {
				t.Fatalf("line %d changed at %d is not found: %s", i, j, b)
			}
		}
		if r, err := read(strings.Join(slices.Delete(slices.Clone(lines), i, i+1), "")); err != nil || r.Whole() {
			t.Errorf("line %d is gone: %+v, %v", i, r, err)
		}
	}
	if r, err := read(part, append(all, audit.Mark{Seq: 21, Hash: "00", At: start})...); err != nil || r.Whole() {
		t.Errorf("the witness saw a row 21: %+v, %v", r, err)
	}
	for _, bad := range []string{"", "{}\n", "nonsense", whole + "nonsense\n", whole + "{}{}\n", whole + `{"seq":21,"sheep":1}` + "\n"} {
		if _, err := read(bad); err == nil {
			t.Errorf("%.20q is taken", bad)
		}
	}
}

func TestNoCodiceFiscaleIsWritten(t *testing.T) {
	e, err := audit.Entry(audit.Admin, audit.Act{Who: "anna", Action: "a", Target: someone, Reason: "for rssmra80a01l736u, not RSSMRAUL01L736U",
		Person: " " + strings.ToLower(someone), Detail: map[string]any{"to": someone, "list": []any{"x", someone}, "deep": map[string]any{"a": []string{"RSSMRA80A01L73SX"}}}})
	if err != nil {
		t.Fatal(err)
	}
	if e.Person != someone {
		t.Errorf("the person is %q", e.Person)
	}
	e.Person = ""
	if s := strings.ToUpper(fmt.Sprintf("%+v", e)); strings.Contains(s, someone) || strings.Contains(s, "RSSMRA80A01L73SX") || strings.Count(s, "[CODICE FISCALE]") != 5 {
		t.Errorf("the entry is %s", s)
	}
	if s := "run r37rid5bngp5aaaaaaaaaai of book-appointment, protocol 2026/0001234"; audit.Hide(s) != s {
		t.Errorf("hidden is %q", audit.Hide(s))
	}
	if e, err := audit.Entry(audit.Admin, audit.Act{Person: "nobody"}); err != nil || e.Person != "" {
		t.Errorf("%+v, %v", e, err)
	}
}

func FuzzRead(f *testing.F) {
	rows := chain(3)
	var b bytes.Buffer
	_ = audit.Write(&b, audit.Head{Format: audit.Format})
	for _, r := range rows {
		_ = audit.Write(&b, audit.LineOf(r))
	}
	f.Add(b.String())
	f.Add(`{"format":"dime/audit/1"}` + "\n{}\n")
	f.Fuzz(func(_ *testing.T, text string) {
		_, _ = read(text)
		_, _ = audit.ReadMarks(strings.NewReader(text))
	})
}
