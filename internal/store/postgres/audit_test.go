package postgres_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/dime-bus/dime/internal/audit"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/postgres"
	"github.com/dime-bus/dime/test/cluster"
)

// What is written into the database by hand is refused by mistake and found on
// purpose; commands write beside the processes that are at work.
func TestTheAuditOfADatabase(t *testing.T) {
	ctx, u := t.Context(), cluster.Postgres(t)
	s := open(t, options(u, nil))
	for _, who := range []string{"anna", "bruno", "carla"} {
		if _, err := s.AppendAudit(ctx, store.AuditEntry{Who: who, Action: "a", Person: "RSSMRA80A01L736U"}); err != nil {
			t.Fatal(err)
		}
		if err := postgres.AddAudit(ctx, u, nil, store.AuditEntry{Who: who, Action: "beside", Reason: "perché"}); err != nil {
			t.Fatal(err)
		}
	}
	verify := func() audit.Result {
		t.Helper()
		v := audit.NewVerifier(nil)
		if err := postgres.AuditOf(ctx, u, nil, v.Row); err != nil {
			t.Fatal(err)
		}
		return v.Result()
	}
	if r := verify(); !r.Whole() || r.Rows != 6 {
		t.Fatalf("%+v", r)
	}
	c, err := pgx.Connect(ctx, u)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(ctx)
	for _, sql := range []string{"update dime.audit set who = 'x' where seq = 3", "delete from dime.audit where seq = 3"} {
		if _, err := c.Exec(ctx, sql); err == nil || !strings.Contains(err.Error(), "only added to") {
			t.Errorf("%s: %v", sql, err)
		}
	}
	sql(t, u, "drop trigger audit_stays on dime.audit", "update dime.audit set reason = 'y' where seq = 3")
	if r := verify(); len(r.Findings) != 1 || r.Findings[0].Seq != 3 {
		t.Errorf("row 3 was changed: %+v", r)
	}
	sql(t, u, "delete from dime.audit where seq = 3")
	if r := verify(); len(r.Findings) != 1 || r.Findings[0].What != "row 3 is missing" {
		t.Errorf("row 3 was deleted: %+v", r)
	}
}
