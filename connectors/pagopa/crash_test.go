package pagopa

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/fault"
)

// failing is a table whose n-th write from now fails, before it is written or
// after: a crash, or a disk that is full, as the connector sees it.
type failing struct {
	*memory
	n     int
	after bool
}

var errDisk = errors.New("the disk is full")

func (f *failing) Update(ctx context.Context, key string, g func([]byte) ([]byte, error)) error {
	f.n--
	if f.n == 0 && !f.after {
		return errDisk
	}
	err := f.memory.Update(ctx, key, g)
	if f.n == 0 && err == nil {
		return errDisk
	}
	return err
}

// TestEveryWriteMayFail: whichever write fails, what is done again under the same
// key or receipt ends as if it had not: one position, one event, never an OK for
// what is not durable.
func TestEveryWriteMayFail(t *testing.T) {
	for _, after := range []bool{false, true} {
		for n := 1; n <= 12; n++ {
			g := newGPD(t)
			table := &failing{memory: rows(), after: after}
			c := build(t, g.url, table, noon(), "")
			events := map[string]bool{}
			face := c.Receive(func(_ context.Context, _, id string, _ any) error { events[id] = true; return nil })[0].Handler
			send := func(request string) string {
				r := httptest.NewRequest(http.MethodPost, stationPath, strings.NewReader(request))
				r.Header.Set("Content-Type", "text/xml")
				w := httptest.NewRecorder()
				face.ServeHTTP(w, r)
				_, rest, _ := strings.Cut(w.Body.String(), "<faultCode>")
				got, _, _ := strings.Cut(rest, "<")
				return got
			}
			do := func(op, key string, args map[string]any) (map[string]any, error) {
				for _, o := range c.desc.Operations {
					if o.Name == op {
						v, err := o.Do(t.Context(), connectors.Call{Key: key, Args: args, Attempt: 1})
						m, _ := v.(map[string]any)
						return m, err
					}
				}
				return nil, errors.New(op)
			}
			again := func(op, key string, args map[string]any) map[string]any {
				t.Helper()
				v, err := do(op, key, args)
				if err != nil {
					// What may have happened must never be told as surely not happened.
					if f := fault.From(err); !f.Sent && op == "open_position" && len(g.has) > 0 {
						t.Fatalf("write %d, after %v: %s is open at GPD and yet: %v", n, after, op, f)
					}
					if v, err = do(op, key, args); err != nil {
						t.Fatalf("write %d, after %v: %s again: %v", n, after, op, err)
					}
				}
				return v
			}
			table.n = n
			v := again("open_position", "k", map[string]any{"payer": "RSSMRA77L18H501W", "amount": 520})
			if len(g.has) != 1 {
				t.Fatalf("write %d, after %v: %d positions", n, after, len(g.has))
			}
			p, err := c.load(t.Context(), v["iuv"].(string))
			if err != nil || p == nil || p.Stage != open {
				t.Fatalf("write %d, after %v: %+v, %v", n, after, p, err)
			}
			for _, request := range []string{getReq(p.notice(), ""), sendRT(receiptOf(p, "rt-1", nil)), sendRT(receiptOf(p, "rt-1", nil))} {
				got := send(request)
				if got == "PAA_SYSTEM_ERROR" {
					got = send(request)
				}
				if got != "" {
					t.Fatalf("write %d, after %v: %s", n, after, got)
				}
			}
			if len(events) != 1 {
				t.Fatalf("write %d, after %v: %d events", n, after, len(events))
			}
			if p, err := c.load(t.Context(), p.IUV); err != nil || p.Stage != paid {
				t.Fatalf("write %d, after %v: %+v, %v", n, after, p, err)
			}
			// And taking one back.
			table.n = 0
			v = again("open_position", "k2", map[string]any{"payer": "RSSMRA77L18H501W", "amount": 520})
			table.n = n
			if v = again("close_position", "c", map[string]any{"iuv": v["iuv"]}); v["state"] != "INVALID" {
				t.Fatalf("write %d, after %v: %v", n, after, v)
			}
			if got := send(verifyReq(v["notice_number"].(string))); got != "PAA_PAGAMENTO_ANNULLATO" {
				t.Fatalf("write %d, after %v: %q", n, after, got)
			}
		}
	}
}
