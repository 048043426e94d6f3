package anagrafe

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"testing"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/fault"
)

// deadRow is a table whose rows of certificates at ANPR can't be written from the
// n-th write on.
type deadRow struct {
	connectors.Table
	left int
}

var errDisk = errors.New("the disk is full")

func (d *deadRow) Update(ctx context.Context, key string, f func([]byte) ([]byte, error)) error {
	if len(key) > 9 && key[:9] == "issuance/" && d.left >= 0 {
		if d.left == 0 {
			return errDisk
		}
		d.left--
	}
	return d.Table.Update(ctx, key, f)
}

// TestLostAnswer: whatever was lost between ANPR and the archive, the certificate is
// issued once at each, what happened is never called not found, and what did not
// happen is.
func TestLostAnswer(t *testing.T) {
	type world struct {
		*town
		issue map[string]any
		table *deadRow
	}
	sent := func(w *world, want fault.Kind) {
		t.Helper()
		if _, err := do(w.t, w.c, "issue_certificate", "i-1", w.issue); kind(err) != want {
			w.t.Fatalf("got %v, want %s", err, want)
		}
	}
	states := []struct {
		name   string
		happen func(*world)
		anpr   int // certificates that ANPR has issued then
	}{
		{"nothing was sent", func(*world) {}, 0},
		{"killed before the number left", func(w *world) {
			if err := w.c.in6001(t.Context(), func(ctx context.Context, n int64) error {
				return w.c.note(ctx, str(w.issue, "draft"), issuance{Key: "i-1", Number: n})
			}); err != nil {
				w.t.Fatal(err)
			}
		}, 0},
		{"lost on the way there", func(w *world) {
			w.faults.Store("issue_certificate.reset", true)
			sent(w, fault.Unknown)
			w.faults.Delete("issue_certificate.reset")
		}, 0},
		{"the far side failed", func(w *world) {
			w.faults.Store("issue_certificate.server-error", true)
			sent(w, fault.Unknown)
			w.faults.Delete("issue_certificate.server-error")
		}, 0},
		{"refused", func(w *world) {
			w.faults.Store("issue_certificate.refused", true)
			sent(w, fault.Rejected)
			w.faults.Delete("issue_certificate.refused")
		}, 0},
		{"ANPR's answer was lost", func(w *world) {
			w.faults.Store("issue_certificate.late-answer", true)
			sent(w, fault.Unknown)
			w.faults.Delete("issue_certificate.late-answer")
		}, 1},
		{"ANPR's answer can't be read", func(w *world) {
			w.faults.Store("issue_certificate.contract", true)
			sent(w, fault.Contract)
			w.faults.Delete("issue_certificate.contract")
		}, 1},
		{"ANPR's number could not be noted", func(w *world) {
			w.table.left = 1
			sent(w, fault.Unknown)
			w.table.left = -1
		}, 1},
		{"the archive was killed", func(w *world) {
			w.docs.fails = errDisk
			sent(w, fault.Unknown)
		}, 1},
		{"the archive was busy", func(w *world) {
			w.docs.fails = fault.New(fault.Unavailable, "busy")
			sent(w, fault.Unknown)
		}, 1},
		{"both, and the outcome was lost", func(w *world) { sent(w, "") }, 1},
	}
	stamp := base64.StdEncoding.EncodeToString([]byte(StampOf(base64.StdEncoding.EncodeToString(DraftSum[:]))))
	for _, s := range states {
		for _, far := range []struct {
			name string
			set  func(*world)
		}{
			{"as the norm has it", func(*world) {}},
			{"a far side that does not deduplicate", func(w *world) { w.faults.Store("no-dedupe", true) }},
			{"a look-up that tells nothing", func(w *world) { w.deaf = true }},
		} {
			for _, ask := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/%s/asked first %v", s.name, far.name, ask), func(t *testing.T) {
					t.Parallel()
					w := &world{town: newTown(t)}
					w.table = &deadRow{w.c.table, -1}
					w.c.table = w.table
					r, err := do(t, w.c, "residence", "", map[string]any{"tax_code": mario})
					if err != nil {
						t.Fatal(err)
					}
					d, err := do(t, w.c, "prepare_certificate", "p-1", map[string]any{"kind": "residence", "resident": any(r)})
					if err != nil {
						t.Fatal(err)
					}
					w.issue = map[string]any{"draft": d["id"], "stamp": stamp}
					far.set(w)
					s.happen(w)
					issued := func() int {
						es, err := w.e.Effects()
						if err != nil {
							t.Fatal(err)
						}
						for _, e := range es {
							if e.Key != "i-1" {
								t.Errorf("it was issued for the key %q", e.Key)
							}
						}
						return len(es)
					}
					if n := issued(); n != s.anpr {
						t.Fatalf("ANPR has issued %d, want %d", n, s.anpr)
					}
					if ask {
						v, err := do(t, w.c, "certificate", "i-1", w.issue)
						switch {
						case s.anpr == 0 && kind(err) != fault.NotFound:
							t.Errorf("nothing happened, and it tells %v, %v", v, err)
						case s.anpr == 1 && err != nil:
							t.Errorf("it happened, and it tells %v", err)
						}
						if n := issued(); n != s.anpr {
							t.Errorf("asking made %d of %d certificates", n, s.anpr)
						}
					}
					for range 2 {
						if v, err := do(t, w.c, "issue_certificate", "i-1", w.issue); err != nil || v["protocol"] != "VE-2026-0000001" {
							t.Errorf("again: %v, %v", v, err)
						}
					}
					if n := issued(); n != 1 || len(w.docs.issued) != 1 {
						t.Errorf("ANPR issued %d, the archive %d", n, len(w.docs.issued))
					}
					if _, err := do(t, w.c, "certificate", "i-1", w.issue); err != nil {
						t.Errorf("in the end: %v", err)
					}
				})
			}
		}
	}
}

// TestDoubtThatCantBeSettled: while ANPR can't be asked, nothing is sent and nothing
// is called not found.
func TestDoubtThatCantBeSettled(t *testing.T) {
	w := newTown(t)
	r, err := do(t, w.c, "residence", "", map[string]any{"tax_code": mario})
	if err != nil {
		t.Fatal(err)
	}
	d, err := do(t, w.c, "prepare_certificate", "p-1", map[string]any{"kind": "residence", "resident": any(r), "exemption": "art-16-tab-b"})
	if err != nil {
		t.Fatal(err)
	}
	issue := map[string]any{"draft": d["id"]}
	w.faults.Store("issue_certificate.late-answer", true)
	if _, err := do(t, w.c, "issue_certificate", "i-1", issue); kind(err) != fault.Unknown {
		t.Fatal(err)
	}
	w.faults.Delete("issue_certificate.late-answer")
	for f, want := range map[string]fault.Kind{"unavailable": fault.Unavailable, "reset": fault.Unavailable, "denied": fault.Denied, "invalid": fault.Invalid, "contract": fault.Contract} {
		w.faults.Store("certificate."+f, true)
		if _, err := do(t, w.c, "certificate", "i-1", issue); kind(err) != want {
			t.Errorf("%s: %v, want %s", f, err, want)
		}
		if _, err := do(t, w.c, "issue_certificate", "i-1", issue); kind(err) != fault.Unknown {
			t.Errorf("%s: again: %v, want unknown", f, err)
		}
		w.faults.Delete("certificate." + f)
	}
	if es, err := w.e.Effects(); err != nil || len(es) != 1 {
		t.Errorf("%v, %v", es, err)
	}
}

// TestRefusals of service 6001: of who we are and of what we sent are two things,
// whatever the status.
func TestRefusals(t *testing.T) {
	fault1 := func(code string) string {
		return `<S:Envelope xmlns:S="` + envelopeSpace + `" xmlns:wsse="` + securitySpace + `"><S:Body><S:Fault><faultcode>` + code + `</faultcode><faultstring>x</faultstring></S:Fault></S:Body></S:Envelope>`
	}
	for _, c := range []struct {
		status int
		body   string
		kind   fault.Kind
		sent   bool
	}{
		{400, fault1("S:Client"), fault.Invalid, true},
		{500, fault1("S:Client"), fault.Invalid, true},
		{500, fault1("VersionMismatch"), fault.Invalid, true},
		{500, fault1("wsse:FailedAuthentication"), fault.Denied, true},
		{400, fault1("wsse:FailedCheck"), fault.Denied, true},
		{400, fault1("wsu:MessageExpired"), fault.Denied, true},
		{500, fault1("S:Server"), fault.Unknown, true},
		{500, "no XML", fault.Unknown, true},
		{502, "", fault.Unknown, true},
		{400, `{"title":"BadRequest"}`, fault.Invalid, true},
		{401, "", fault.Denied, true},
		{403, "", fault.Denied, true},
		{404, "", fault.Rejected, true},
		{409, "", fault.Conflict, true},
		{429, "", fault.Throttled, false},
		{503, "", fault.Unavailable, false},
		{204, "", fault.Contract, true},
		{302, "", fault.Contract, true},
		{200, fault1("S:Client"), fault.Contract, true},
	} {
		_, err := read6001(answer(c.status, c.body), false)
		if f := fault.From(err); f == nil || f.Kind != c.kind || f.Sent != c.sent {
			t.Errorf("%d %s: %v, want %s, sent %v", c.status, c.body, err, c.kind, c.sent)
		}
	}
}

// TestStampIsJudgedFirst: what the archive would refuse never reaches ANPR.
func TestStampIsJudgedFirst(t *testing.T) {
	w := newTown(t)
	r, err := do(t, w.c, "residence", "", map[string]any{"tax_code": mario})
	if err != nil {
		t.Fatal(err)
	}
	good, other := base64.StdEncoding.EncodeToString(DraftSum[:]), base64.StdEncoding.EncodeToString(make([]byte, 32))
	for i, c := range []struct{ exemption, sum, want string }{
		{"", "", "stamp_missing"}, {"", other, "stamp_mismatch"}, {"art-16-tab-b", good, "stamp_unwanted"},
	} {
		args := map[string]any{"kind": "residence", "resident": any(r)}
		if c.exemption != "" {
			args["exemption"] = c.exemption
		}
		d, err := do(t, w.c, "prepare_certificate", fmt.Sprint("p-", i), args)
		if err != nil {
			t.Fatal(err)
		}
		issue := map[string]any{"draft": d["id"]}
		if c.sum != "" {
			issue["stamp"] = base64.StdEncoding.EncodeToString([]byte(StampOf(c.sum)))
		}
		if _, err := do(t, w.c, "issue_certificate", fmt.Sprint("i-", i), issue); err == nil || fault.From(err).Name != c.want {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
	if es, err := w.e.Effects(); err != nil || len(es) != 0 {
		t.Errorf("%v, %v", es, err)
	}
}
