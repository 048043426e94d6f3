package main

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/dime-bus/dime/internal/bus/client/clienttest"
	"github.com/dime-bus/dime/internal/store"
)

// suiteCity is what clienttest asks for, as content of the bus itself. echo emits,
// so that its runs are durable and a repeated key finds them.
func suiteCity() map[string]string {
	return map[string]string{
		"routes/suite/echo.yaml": `route: echo
version: 1
about: Answers what it was asked and by whom.
owner: test@comune.example
from:
  http: POST /v1/suite/echo
req: suite/echo
subject: =[]
steps:
  - emit: echo.ran
    with: {n: ran}
  - reply: 200
    with: {req: =req, caller: {kind: =caller.kind, subject: =caller.subject, tax_code: =caller.tax_code}}
`,
		"routes/suite/refuse.yaml": `route: refuse
version: 1
about: Refuses whatever it is asked.
owner: test@comune.example
from:
  http: POST /v1/suite/refuse
req: suite/echo
steps:
  - check: req.s == "what nobody says"
    else: {cancel: refused}
`,
		"schemas/suite/echo.json":        `{"type":"object","additionalProperties":false,"properties":{"n":{"type":"integer"},"s":{"type":"string"}}}`,
		"schemas/events/thing.done.json": `{"type":"object","x-version":2,"additionalProperties":false,"required":["n"],"properties":{"n":{"type":"string"}}}`,
		"schemas/events/other.done.json": `{"type":"object","x-version":1,"additionalProperties":false,"properties":{}}`,
		"schemas/events/echo.ran.json":   `{"type":"object","x-version":1,"additionalProperties":false,"required":["n"],"properties":{"n":{"type":"string"}}}`,
		"config/dime.yaml": `clients:
  tester:
    secret: env:CRM_SECRET
    routes: [echo, refuse, missing-*]
    publish: [thing.done, missing.done]
    subscribe: [thing.done, missing.done]
`,
	}
}

// The bus as a program in its process gets it, through the whole wiring: store,
// bus, engine, credentials and event types.
func TestClientSuiteThroughTheWiring(t *testing.T) {
	clienttest.Run(t, func(t *testing.T) clienttest.City {
		p, s, stop := servedWith(t, filepath.Join(t.TempDir(), "data"), suiteCity())
		t.Cleanup(stop)
		return clienttest.City{
			Client: p,
			Runs: func() int {
				rs, err := s.store.Find(context.Background(), store.Filter{Route: "echo"})
				if err != nil {
					t.Error(err)
				}
				return len(rs)
			},
			Elsewhere: s.engine.Publish,
		}
	})
}
