package sqlite_test

import (
	"path/filepath"
	"strings"
	"testing"

	zombie "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/dime-bus/dime/internal/audit"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/sqlite"
)

// What is written into the file by hand is refused by mistake and found on purpose;
// commands write beside the process that has the file.
func TestTheAuditOfAFile(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "dime.db")
	s, err := sqlite.Open(ctx, sqlite.Options{Path: path, MasterKey: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, who := range []string{"anna", "bruno", "carla"} {
		if _, err := s.AppendAudit(ctx, store.AuditEntry{Who: who, Action: "a"}); err != nil {
			t.Fatal(err)
		}
		if err := sqlite.AddAudit(ctx, path, store.AuditEntry{Who: who, Action: "beside"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := sqlite.AddAudit(ctx, path, store.AuditEntry{Action: "a", Person: "RSSMRA80A01L736U"}); err == nil {
		t.Error("a person was named without the keys")
	}
	verify := func() audit.Result {
		t.Helper()
		v := audit.NewVerifier(nil)
		if err := sqlite.AuditOf(ctx, path, v.Row); err != nil {
			t.Fatal(err)
		}
		return v.Result()
	}
	if r := verify(); !r.Whole() || r.Rows != 6 {
		t.Fatalf("%+v", r)
	}
	c, err := zombie.OpenConn(path, zombie.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, sql := range []string{"update audit set who='x' where seq=3", "delete from audit where seq=3"} {
		if err := sqlitex.ExecuteTransient(c, sql, nil); err == nil || !strings.Contains(err.Error(), "only added to") {
			t.Errorf("%s: %v", sql, err)
		}
	}
	for _, sql := range []string{"drop trigger audit_update", "drop trigger audit_delete", "update audit set reason='y' where seq=3"} {
		if err := sqlitex.ExecuteTransient(c, sql, nil); err != nil {
			t.Fatal(err)
		}
	}
	if r := verify(); len(r.Findings) != 1 || r.Findings[0].Seq != 3 {
		t.Errorf("row 3 was changed: %+v", r)
	}
	if err := sqlitex.ExecuteTransient(c, "delete from audit where seq=3", nil); err != nil {
		t.Fatal(err)
	}
	if r := verify(); len(r.Findings) != 1 || r.Findings[0].What != "row 3 is missing" {
		t.Errorf("row 3 was deleted: %+v", r)
	}
	if err := sqlitex.ExecuteTransient(c, "insert into audit select -7, at, who, channel, action, target, reason, person, sealed, detail, hash from audit where seq=1", nil); err != nil {
		t.Fatal(err)
	}
	if r := verify(); len(r.Findings) != 2 || r.Findings[0].Seq != -7 {
		t.Errorf("a row was put in front: %+v", r)
	}
}
