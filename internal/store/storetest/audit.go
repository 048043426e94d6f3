package storetest

import (
	"bytes"
	"fmt"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dime-bus/dime/internal/store"
)

const audited = "BNCLCU85T10A562S"

func auditTests() []entry {
	return []entry{{"audit", audit}, {"audit after an erasure", auditErased}}
}

func (k *kit) audit() store.Audit {
	k.Helper()
	a, ok := k.Store.(store.Audit)
	if !ok {
		k.Fatal("the store keeps no audit")
	}
	return a
}

// chained reads everything and recomputes each hash.
func (k *kit) chained(want int) []store.AuditRow {
	k.Helper()
	rs, err := k.audit().AuditRows(k.ctx, 0, 10_000)
	k.must(err)
	if len(rs) != want {
		k.Fatalf("%d rows, want %d", len(rs), want)
	}
	var before []byte
	for i, r := range rs {
		if r.Seq != int64(i+1) {
			k.Fatalf("row %d has the number %d", i+1, r.Seq)
		}
		if !bytes.Equal(r.Hash, store.AuditHash(before, r)) {
			k.Fatalf("row %d has not the hash that it should: %+v", r.Seq, r)
		}
		before = r.Hash
	}
	seq, hash, err := k.audit().AuditHead(k.ctx)
	k.must(err)
	if seq != int64(want) || !bytes.Equal(hash, before) {
		k.Fatalf("the head is %d %x, the last row %d %x", seq, hash, want, before)
	}
	return rs
}

func audit(k *kit) {
	k.chained(0)
	first, err := k.audit().AppendAudit(k.ctx, store.AuditEntry{Who: "anna \x00\xff", Channel: "admin", Action: "runs.replay", Target: "r1", Reason: "perché sì", Detail: `{"from":"a"}`})
	k.must(err)
	if !first.At.Equal(Start()) {
		k.Errorf("it stands at %s", first.At)
	}
	k.pass(1500 * time.Millisecond)
	_, err = k.audit().AppendAudit(k.ctx, store.AuditEntry{Who: "", Action: "x", Reason: string(bytes.Repeat([]byte("è"), 10_000))})
	k.must(err)
	k.crash()
	rs := k.chained(2)
	if d := cmp.Diff(first, rs[0]); d != "" {
		k.Errorf("the first row (-as answered +as read):\n%s", d)
	}
	if rs, err := k.audit().AuditRows(k.ctx, 1, 1); err != nil || len(rs) != 1 || rs[0].Seq != 2 {
		k.Errorf("behind the first: %v, %v", rs, err)
	}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 5 {
				if _, err := k.audit().AppendAudit(k.ctx, store.AuditEntry{Who: fmt.Sprint(i), Action: "a", Target: fmt.Sprint(j)}); err != nil {
					k.Error(err)
				}
			}
		})
	}
	all.Wait()
	k.chained(42)
}

// A person stands in the audit by token and under that person's key; when the key
// is destroyed the chain is what it was.
func auditErased(k *kit) {
	r := k.run()
	r.Subjects = []string{audited}
	k.accept(r)
	row, err := k.audit().AppendAudit(k.ctx, store.AuditEntry{Who: "anna", Action: "subjects.export", Person: audited})
	k.must(err)
	again, err := k.audit().AppendAudit(k.ctx, store.AuditEntry{Who: "anna", Action: "subjects.erase", Person: audited})
	k.must(err)
	if !bytes.Equal(row.Person, again.Person) || len(row.Person) != 16 {
		k.Errorf("tokens %x and %x", row.Person, again.Person)
	}
	if who, err := k.audit().AuditPerson(k.ctx, row); err != nil || who != audited {
		k.Errorf("the row names %q, %v", who, err)
	}
	if k.AtRest != nil && bytes.Contains(k.AtRest(k.T), []byte(audited)) {
		k.Error("a codice fiscale is readable at rest")
	}
	before := k.chained(2)
	k.must(k.Store.Erase(k.ctx, audited))
	k.crash()
	if d := cmp.Diff(before, k.chained(2)); d != "" {
		k.Errorf("an erasure changed the audit:\n%s", d)
	}
	_, err = k.audit().AuditPerson(k.ctx, row)
	k.is(err, store.ErrErased)
	unknown, err := k.audit().AppendAudit(k.ctx, store.AuditEntry{Who: "anna", Action: "subjects.export", Person: audited})
	k.must(err)
	if !bytes.Equal(unknown.Person, row.Person) || unknown.Sealed != nil {
		k.Errorf("of a person without a key: %x sealed %x", unknown.Person, unknown.Sealed)
	}
}

// Processes add to one chain.
func auditSeveral(k *kit) {
	second := k.Second(k.T).(store.Audit)
	var all sync.WaitGroup
	for _, a := range []store.Audit{k.audit(), second} {
		all.Go(func() {
			for j := range 20 {
				if _, err := a.AppendAudit(k.ctx, store.AuditEntry{Who: "w", Action: "a", Target: fmt.Sprint(j)}); err != nil {
					k.Error(err)
				}
			}
		})
	}
	all.Wait()
	k.chained(40)
}
