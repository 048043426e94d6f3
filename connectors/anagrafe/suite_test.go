package anagrafe_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http/httptest"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/connectors/anagrafe"
	"github.com/dime-bus/dime/connectors/city"
	"github.com/dime-bus/dime/connectors/connectortest"
	"github.com/dime-bus/dime/internal/citizens"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/httpclient"
	"github.com/dime-bus/dime/internal/yamldoc"
)

// rows is a connector's memory that two connectors share.
type rows struct {
	mu sync.Mutex
	by map[string][]byte
}

func (m *rows) Get(_ context.Context, key string) ([]byte, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.by[key]
	return b, ok, nil
}

func (m *rows) Update(_ context.Context, key string, f func([]byte) ([]byte, error)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, err := f(m.by[key])
	if err == nil {
		m.by[key] = b
	}
	return err
}

func (m *rows) List(context.Context, string, func(string, []byte) error) error { return nil }

// municipality is the connector, its archive and the city that plays its far side.
type municipality struct {
	connectortest.Setup
	n      int64
	nobody int // people asked for so far
}

func newMunicipality(t *testing.T) *municipality {
	t.Helper()
	n, ps := yamldoc.Parse("anagrafe.yaml", []byte(`
anagrafe:
  client_id: `+testClient+`
  municipality: "027042"
  officer: {surname: Verdi, name: Giuseppe}
  purposes: {C015: `+purpose015+`, C020: `+purpose020+`, C021: `+purpose021+`, C030: `+purpose030+`}
`))
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	client := httpclient.New(httpclient.Config{})
	shared, archive := &rows{by: map[string][]byte{}}, anagrafe.NewArchive()
	build := func(url string) *anagrafe.Connector {
		host := connectors.Host{Clock: clock.Real{}, Documents: archive, Table: func(string) connectors.Table { return shared }}
		c, ps := anagrafe.New(connectors.Spec{Name: "anagrafe", File: "anagrafe.yaml", Node: n, Client: client, Host: host, City: url})
		if c == nil {
			t.Fatal(ps)
		}
		return c
	}
	var at atomic.Value
	far, ps := city.New(city.Config{FS: os.DirFS("../.."), Connectors: map[string]connectors.Connector{"anagrafe": build("")}, Data: t.TempDir(), URL: func() string { return at.Load().(string) }})
	if far == nil {
		t.Fatal(ps)
	}
	srv := httptest.NewServer(far.Handler())
	at.Store(srv.URL)
	t.Cleanup(func() {
		client.Close()
		srv.CloseClientConnections()
		srv.Close()
		_ = far.Close()
	})
	m := &municipality{}
	m.Setup = connectortest.Setup{Connector: build(srv.URL), City: far, Nowhere: build(connectortest.NobodysURL), Args: m.args, Provoke: m.provoke,
		Own: []string{"prepare_certificate", "draft"}}
	return m
}

func (m *municipality) do(op, key string, args map[string]any) (any, error) {
	for _, o := range m.Connector.Describe().Operations {
		if o.Name == op {
			return o.Do(context.Background(), connectors.Call{Key: key, Args: args, Attempt: 1, GiveUp: time.Now().Add(time.Minute)})
		}
	}
	return nil, fmt.Errorf("no operation %s", op)
}

// resident is somebody resident whom nobody has asked for yet: others have no
// family sheet, and C021 is not asked for them.
func (m *municipality) resident(t *testing.T) citizens.Person {
	t.Helper()
	for _, p := range m.City.Citizens()[m.nobody:] {
		if m.nobody++; p.Status == citizens.Active {
			return p
		}
	}
	t.Fatal("nobody is left")
	return citizens.Person{}
}

func (m *municipality) draft(t *testing.T, exemption string) string {
	t.Helper()
	v, err := m.do("prepare_certificate", fmt.Sprint("p-", atomic.AddInt64(&m.n, 1)), m.content(t, exemption))
	if err != nil {
		t.Fatal(err)
	}
	return v.(map[string]any)["id"].(string)
}

func (m *municipality) content(t *testing.T, exemption string) map[string]any {
	t.Helper()
	p := m.resident(t)
	args := map[string]any{"kind": "residence", "resident": map[string]any{"tax_code": p.TaxCode, "surname": p.Surname, "given_name": p.GivenName}}
	if exemption != "" {
		args["exemption"] = exemption
	}
	return args
}

func (m *municipality) args(t *testing.T, op string) map[string]any {
	t.Helper()
	switch op {
	case "prepare_certificate", "draft":
		return m.content(t, "art-16-tab-b")
	case "issue_certificate":
		return map[string]any{"draft": m.draft(t, "art-16-tab-b")}
	case "certificate":
		// In doubt, so that the far side must be asked.
		args := map[string]any{"draft": m.draft(t, "art-16-tab-b")}
		if err := m.City.Switch("anagrafe.issue_certificate.late-answer", true); err != nil {
			t.Fatal(err)
		}
		_, _ = m.do("issue_certificate", fmt.Sprint("i-", args["draft"]), args)
		if err := m.City.Switch("anagrafe.issue_certificate.late-answer", false); err != nil {
			t.Fatal(err)
		}
		return args
	}
	return m.further(t, op)
}

func (m *municipality) provoke(t *testing.T, op, fault string) map[string]any {
	t.Helper()
	stamped := func(exemption string, sum [32]byte) map[string]any {
		return map[string]any{"draft": m.draft(t, exemption), "stamp": base64.StdEncoding.EncodeToString([]byte(anagrafe.StampOf(base64.StdEncoding.EncodeToString(sum[:]))))}
	}
	switch op + "." + fault {
	case "draft.no_draft":
		return m.content(t, "")
	case "issue_certificate.no_draft", "certificate.no_certificate":
		return map[string]any{"draft": "none"}
	case "issue_certificate.stamp_missing":
		return map[string]any{"draft": m.draft(t, "")}
	case "issue_certificate.stamp_unwanted":
		return stamped("art-16-tab-b", anagrafe.DraftSum)
	case "issue_certificate.stamp_mismatch":
		return stamped("", [32]byte{9})
	}
	return nil
}

func TestConnector(t *testing.T) {
	connectortest.Run(t, func(t *testing.T) connectortest.Setup { return newMunicipality(t).Setup })
}

// further are the arguments of what is asked by tax code.
func (m *municipality) further(t *testing.T, op string) map[string]any {
	t.Helper()
	args := map[string]any{"tax_code": m.resident(t).TaxCode}
	if op == "change_residence" {
		to := m.resident(t)
		args["since"], args["protocol"] = time.Now().Format(time.DateOnly), fmt.Sprint("VE-", atomic.AddInt64(&m.n, 1))
		args["address"] = map[string]any{"street": to.Address.Street, "number": to.Address.Number, "postal_code": to.Address.PostalCode}
		if to.Address.Sestiere != "" {
			args["address"].(map[string]any)["sestiere"] = to.Address.Sestiere
		}
	}
	return args
}
