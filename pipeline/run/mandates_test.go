package run

import (
	"context"
	"testing"

	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/identity"
)

// The register is asked, never the token believed; only for others, once a run.
func TestMandates(t *testing.T) {
	const route = `
route: r
from: {http: POST /v1/r}
allow: caller.may_act_for(req.id ?? "") and (caller.may_act_for(req.id ?? "") or req.id == "never")
steps:
  - call: sys.read
    as: got
    with: {id: a}
  - check: caller.may_act_for(req.id ?? "")
    else: {reply: 409}
`
	for _, c := range []struct {
		name, principal string
		caller          identity.Caller
		says            bool
		err             error
		status, asked   int
	}{
		{"for oneself", "A", identity.Caller{Kind: "citizen", Subject: "A", TaxCode: "A"}, false, nil, 204, 0},
		{"with a mandate", "B", identity.Caller{Kind: "citizen", Subject: "A", TaxCode: "A"}, true, nil, 204, 1},
		{"without one", "B", identity.Caller{Kind: "citizen", Subject: "A", TaxCode: "A"}, false, nil, 403, 1},
		{"with a token that claims one", "B", identity.Caller{Kind: "citizen", Subject: "A", TaxCode: "A", ActingFor: "B", Mandate: "M-1"}, false, nil, 403, 1},
		{"as somebody without a tax code", "B", identity.Caller{Kind: "partner", Subject: "x"}, true, nil, 403, 0},
		{"while the register is away", "B", identity.Caller{Kind: "citizen", Subject: "A", TaxCode: "A"}, false, fault.New(fault.Unavailable, "it is away"), 503, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorldBare(t, route)
			asked := 0
			w.cfg.Mandates = func(_ context.Context, deputy, principal, _ string) (bool, error) {
				if asked++; deputy != "A" || principal != "B" {
					t.Errorf("asked whether %s may act for %s", deputy, principal)
				}
				return c.says, c.err
			}
			w.boot()
			q := http("r", map[string]any{"id": c.principal})
			q.Caller = &c.caller
			if a := w.ask(q); a.Status != c.status || asked != c.asked {
				t.Errorf("%s; asked %d times, want %d and %d times", show(a), asked, c.status, c.asked)
			}
		})
	}
}
