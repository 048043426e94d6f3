package all_test

import (
	"context"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/connectors/all"
	"github.com/dime-bus/dime/connectors/city"
	"github.com/dime-bus/dime/connectors/connectortest"
	"github.com/dime-bus/dime/internal/httpclient"
)

// the far sides and the connectors of a content folder, wired by true HTTP.
func wire(t *testing.T, name string) connectortest.Setup {
	t.Helper()
	content := only(t, name)
	c, ps := city.New(city.Config{FS: content, Data: t.TempDir()})
	if c == nil {
		t.Fatal(ps)
	}
	srv := httptest.NewServer(c.Handler())
	client := httpclient.New(httpclient.Config{})
	t.Cleanup(func() { client.Close(); srv.CloseClientConnections(); srv.Close(); _ = c.Close() })
	s := connectortest.Setup{City: c}
	for url, to := range map[string]*connectors.Connector{srv.URL: &s.Connector, connectortest.NobodysURL: &s.Nowhere} {
		cs, ps := all.Build(content, all.Deps{Client: client, City: url})
		if cs[name] == nil {
			t.Fatalf("no connector %s: %v", name, ps)
		}
		*to = cs[name]
	}
	return s
}

// only is the shipped content with this connector alone, for the suite begins
// with a fresh city for every operation.
func only(t *testing.T, name string) fs.FS {
	t.Helper()
	shipped := os.DirFS("../..")
	content := fstest.MapFS{}
	for _, ext := range []string{".yaml", ".openapi.yaml", ".state.yaml"} {
		file := all.Dir + "/" + name + ext
		b, err := fs.ReadFile(shipped, file)
		if err != nil {
			t.Fatal(err)
		}
		content[file] = &fstest.MapFile{Data: b}
	}
	return content
}

type world struct {
	connectortest.Setup
	n int
}

// call carries out an operation and returns its result.
func (w *world) call(t *testing.T, op string, args map[string]any) map[string]any {
	t.Helper()
	for _, o := range w.Connector.Describe().Operations {
		if o.Name == op {
			w.n++
			v, err := o.Do(context.Background(), connectors.Call{Key: fmt.Sprintf("prepare-%s-%d", t.Name(), w.n), Args: args})
			if err != nil {
				t.Fatalf("preparing with %s: %v", op, err)
			}
			m, _ := v.(map[string]any)
			return m
		}
	}
	t.Fatalf("no operation %s", op)
	return nil
}

const mario = "RSSMRA80A01L736U"

func TestAgenda(t *testing.T) {
	connectortest.Run(t, func(t *testing.T) connectortest.Setup {
		w := &world{Setup: wire(t, "agenda")}
		ask := func(t *testing.T) map[string]any {
			slots := w.call(t, "slots", map[string]any{"office": "anagrafe-mestre"})["slots"].([]any)
			return map[string]any{"slot": slots[0].(map[string]any)["id"], "tax_code": mario, "service": "certificates"}
		}
		w.Setup.Args = func(t *testing.T, op string) map[string]any {
			switch op {
			case "offices":
				return map[string]any{"service": "marriage"}
			case "slots":
				return map[string]any{"office": "anagrafe-lido"}
			case "appointments":
				return map[string]any{"on": "2026-12-01"}
			case "hold":
				return ask(t)
			case "hold_by_key":
				w.call(t, "hold", ask(t))
				return map[string]any{"key": fmt.Sprintf("prepare-%s-%d", t.Name(), w.n)}
			case "appointment_of_hold":
				hold := w.call(t, "hold", ask(t))["id"]
				w.call(t, "confirm", map[string]any{"hold": hold})
				return map[string]any{"hold": hold}
			}
			return map[string]any{"hold": w.call(t, "hold", ask(t))["id"]}
		}
		return w.Setup
	})
}

func TestSanzioni(t *testing.T) {
	connectortest.Run(t, func(t *testing.T) connectortest.Setup {
		w := &world{Setup: wire(t, "sanzioni")}
		fine := 0
		ask := func() map[string]any {
			fine++
			return map[string]any{"fine": fmt.Sprintf("V-2026-50%03d", fine), "tax_code": mario, "grounds": "other"}
		}
		w.Setup.Args = func(t *testing.T, op string) map[string]any {
			switch op {
			case "fines":
				return map[string]any{"tax_code": mario, "status": "open"}
			case "fine", "amount_due":
				return map[string]any{"fine": "V-2026-00102"}
			case "submit_appeal":
				return ask()
			case "appeal_by_key":
				w.call(t, "submit_appeal", ask())
				return map[string]any{"key": fmt.Sprintf("prepare-%s-%d", t.Name(), w.n)}
			case "record_decision":
				return map[string]any{"appeal": w.call(t, "submit_appeal", ask())["id"], "outcome": "refused"}
			case "decision":
				appeal := w.call(t, "submit_appeal", ask())["id"]
				w.call(t, "record_decision", map[string]any{"appeal": appeal, "outcome": "accepted", "reason": "Permesso valido."})
				return map[string]any{"appeal": appeal}
			case "record_payment", "payment":
				fine++
				args := map[string]any{"fine": fmt.Sprintf("V-2026-50%03d", fine)}
				full := map[string]any{"fine": args["fine"], "amount": 5850, "iuv": "01011100007347557", "paid_at": "2026-11-24T10:00:00Z"}
				if op == "record_payment" {
					return full
				}
				w.call(t, "record_payment", full)
				return args
			case "notify_office":
				return map[string]any{"office": "appeals", "subject": "R-000001", "text": "Ricorso da esaminare."}
			}
			return map[string]any{"appeal": w.call(t, "submit_appeal", ask())["id"]}
		}
		return w.Setup
	})
}

func TestStradario(t *testing.T) {
	connectortest.Run(t, func(t *testing.T) connectortest.Setup {
		s := wire(t, "stradario")
		s.Args = func(_ *testing.T, op string) map[string]any {
			return map[string]map[string]any{
				"search_address":    {"q": "san marco", "sestiere": "san-marco", "limit": 2},
				"address":           {"id": "A00001"},
				"address_by_number": {"sestiere": "dorsoduro", "number": "3024/A"},
				"street":            {"id": "S0019"},
			}[op]
		}
		return s
	})
}

func TestSegnalazioni(t *testing.T) {
	connectortest.Run(t, func(t *testing.T) connectortest.Setup {
		w := &world{Setup: wire(t, "segnalazioni")}
		ask := map[string]any{"category": "paving", "text": "Masegno sconnesso in calle", "position": map[string]any{"lat": 45.43, "lon": 12.33}}
		w.Setup.Args = func(t *testing.T, op string) map[string]any {
			switch op {
			case "open_case":
				return ask
			case "case_by_key":
				w.call(t, "open_case", ask)
				return map[string]any{"key": fmt.Sprintf("prepare-%s-%d", t.Name(), w.n)}
			}
			return map[string]any{"number": w.call(t, "open_case", ask)["number"]}
		}
		return w.Setup
	})
}

func TestProtocollo(t *testing.T) {
	connectortest.Run(t, func(t *testing.T) connectortest.Setup {
		w := &world{Setup: wire(t, "protocollo")}
		ask := map[string]any{"direction": "outgoing", "subject": "Certificato di residenza", "office": "Anagrafe", "sha256": strings.Repeat("ab", 32)}
		w.Setup.Args = func(t *testing.T, op string) map[string]any {
			switch op {
			case "register":
				return ask
			case "registration_by_key":
				w.call(t, "register", ask)
				return map[string]any{"key": fmt.Sprintf("prepare-%s-%d", t.Name(), w.n)}
			}
			args := map[string]any{"protocol": w.call(t, "register", ask)["protocol"]}
			if op == "annul" {
				args["reason"] = "Registrato due volte"
			}
			return args
		}
		return w.Setup
	})
}

func TestDeleghe(t *testing.T) {
	connectortest.Run(t, func(t *testing.T) connectortest.Setup {
		s := wire(t, "deleghe")
		s.Args = func(_ *testing.T, op string) map[string]any {
			return map[string]map[string]any{
				"mandate":     {"deputy": mario, "principal": "RSSLCU12C09L736S", "purpose": "certificate-issue"},
				"mandates_of": {"deputy": mario},
			}[op]
		}
		return s
	})
}

// Who may act for whom: parents for their children while these are minors, a
// deputy in his purposes and his time, nobody else.
func TestMandates(t *testing.T) {
	const wife, son, grown, giulia = "VNLNNA82E54L736U", "RSSLCU12C09L736S", "RSSSRA05P61L736V", "BNCGLI92M41L736X"
	w := &world{Setup: wire(t, "deleghe")}
	for _, c := range []struct {
		deputy, principal, purpose, kind string
	}{
		{mario, son, "certificate-issue", "parent"},
		{wife, son, "anything", "parent"},
		{mario, grown, "certificate-issue", ""},
		{son, mario, "certificate-issue", ""},
		{wife, mario, "payment", "mandate"},
		{wife, mario, "change-of-address", ""},
		{mario, wife, "payment", ""},
		{mario, giulia, "change-of-address", "mandate"},
		{giulia, mario, "payment", ""}, // it has ended
		{mario, "TSTCTD80A01L736B", "payment", ""},
	} {
		a := w.call(t, "mandate", map[string]any{"deputy": c.deputy, "principal": c.principal, "purpose": c.purpose})
		kind, _ := a["kind"].(string)
		if a["valid"] != (c.kind != "") || kind != c.kind {
			t.Errorf("%s for %s in %s: %v, want %q", c.deputy, c.principal, c.purpose, a, c.kind)
		}
	}
}
