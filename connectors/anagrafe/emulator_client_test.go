package anagrafe_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/connectors/anagrafe"
	"github.com/dime-bus/dime/internal/citizens"
	"github.com/dime-bus/dime/internal/document"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/httpclient"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/yamldoc"
)

// exchange is a request of the connector and what the far side said to it.
type exchange struct {
	path, request string
	status        int
	answer        string
}

type recorder struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (r *recorder) WriteHeader(status int) { r.status = status; r.ResponseWriter.WriteHeader(status) }

func (r *recorder) Write(b []byte) (int, error) { r.body.Write(b); return r.ResponseWriter.Write(b) }

// Unwrap lets the faults cut the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) Flush() { _ = http.NewResponseController(r.ResponseWriter).Flush() }

// TestEmulatorNeverRefusesTheConnector is the other half of the table: the
// emulator, which refuses every row of it, looks at all that the connector sends.
func TestEmulatorNeverRefusesTheConnector(t *testing.T) {
	var mu sync.Mutex
	var all []exchange
	on := map[string]bool{}
	var far connectors.Emulator
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(b))
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		http.StripPrefix("/anagrafe", far).ServeHTTP(rec, r)
		mu.Lock()
		defer mu.Unlock()
		all = append(all, exchange{r.URL.Path, string(b), rec.status, rec.body.String()})
	}))
	defer srv.Close()
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
	defer client.Close()
	c, ps := anagrafe.New(connectors.Spec{Name: "anagrafe", File: "anagrafe.yaml", Node: n, Client: client, City: srv.URL, Host: connectors.Host{Documents: papers{}}})
	if c == nil {
		t.Fatal(ps)
	}
	var err error
	far, err = c.Emulator(connectors.EmulatorConfig{Citizens: register, On: func(f string) bool { mu.Lock(); defer mu.Unlock(); return on[f] }})
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()

	ops := map[string]*connectors.Operation{}
	for _, o := range c.Describe().Operations {
		ops[o.Name] = o
	}
	ask := func(op, cf string) error {
		_, err := ops[op].Do(t.Context(), connectors.Call{Args: map[string]any{"tax_code": cf}, Attempt: 1})
		return err
	}
	// People of every status, foreign births and omocodes among them.
	left := map[citizens.Status]int{citizens.Active: 20, citizens.Emigrated: 4, citizens.Deceased: 4, citizens.Untraceable: 4}
	var wg sync.WaitGroup
	for _, p := range register().All() {
		if left[p.Status] == 0 {
			continue
		}
		left[p.Status]--
		for _, op := range []string{"person", "residence", "family"} {
			wg.Add(1)
			go func() { // also side by side: the numbers must not overtake one another
				defer wg.Done()
				if err := ask(op, p.TaxCode); err != nil {
					t.Errorf("%s of somebody %s: %v", op, p.Status, err)
				}
			}()
		}
	}
	wg.Wait()
	if err := ask("residence", "DOEJHN99T13Z121S"); fault.From(err) == nil || fault.From(err).Kind != fault.NotFound {
		t.Errorf("somebody unknown: %v", err)
	}
	// What went wrong on the way does not make the next request wrong.
	for _, f := range []string{"residence.late-answer", "residence.unavailable", "c030.server-error", "pdnd.late-answer"} {
		mu.Lock()
		on[f] = true
		mu.Unlock()
		_ = ask("residence", register().All()[40].TaxCode)
		mu.Lock()
		on[f] = false
		mu.Unlock()
		if err := ask("residence", register().All()[40].TaxCode); err != nil {
			t.Errorf("after %s: %v", f, err)
		}
	}

	do := func(op, key string, args map[string]any) (map[string]any, error) {
		v, err := ops[op].Do(t.Context(), connectors.Call{Key: key, Args: args, Attempt: 1})
		m, _ := v.(map[string]any)
		return m, err
	}
	// Certificates, with and without a stamp's exemption, one of them asked for
	// again after its answer was lost.
	for i, p := range register().All()[:4] {
		key := fmt.Sprint("key-", i)
		resident, err := do("residence", "", map[string]any{"tax_code": p.TaxCode})
		if err != nil {
			t.Fatal(err)
		}
		args := map[string]any{"kind": "residence", "resident": resident}
		if i%2 == 0 {
			args["exemption"] = "art-16-tab-b"
		}
		if _, err := do("prepare_certificate", key, args); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		on["issue_certificate.late-answer"] = i == 3
		mu.Unlock()
		issue := map[string]any{"draft": "d-" + key}
		if i%2 == 1 {
			issue["stamp"] = base64.StdEncoding.EncodeToString([]byte(anagrafe.StampOf(base64.StdEncoding.EncodeToString(make([]byte, 32)))))
		}
		_, err = do("issue_certificate", key, issue)
		mu.Lock()
		on["issue_certificate.late-answer"] = false
		mu.Unlock()
		if i == 3 {
			issue := map[string]any{"draft": "d-" + key}
			if i%2 == 1 {
				issue["stamp"] = base64.StdEncoding.EncodeToString([]byte(anagrafe.StampOf(base64.StdEncoding.EncodeToString(make([]byte, 32)))))
			}
			_, err = do("issue_certificate", key, issue)
		}
		if err != nil {
			t.Errorf("certificate %d: %v", i, err)
		}
	}
	if rows, err := far.Effects(); err != nil || len(rows) != 4 {
		t.Errorf("%d certificates were issued, want 4 (%v)", len(rows), err)
	}

	mu.Lock()
	defer mu.Unlock()
	check := official(t)
	messages := 0
	asked := 0
	for _, x := range all {
		told := strings.Contains(x.answer, "switched on by the operator") || strings.Contains(x.answer, "EN122")
		if x.status >= 400 && !told {
			t.Errorf("%s was refused: %d %s", x.path, x.status, x.answer)
		}
		if strings.HasSuffix(x.path, "/soap/6001") {
			if messages++; strings.Contains(x.answer, "6001KO") {
				t.Errorf("service 6001 refused: %s", x.answer)
			}
			if messages <= 3 {
				validateXML(t, x.request, "c:Richiesta6001", "</soapenv:Body>")
			}
		}
		if strings.HasSuffix(x.path, "/anpr-service-e002") {
			asked++
			check("RichiestaE002", x.request)
			switch {
			case x.status == http.StatusOK:
				check("RispostaE002OK", x.answer)
			case strings.Contains(x.answer, "listaErrori"):
				check("RispostaKO", x.answer)
			}
		}
	}
	if messages < 4 {
		t.Errorf("only %d messages to service 6001 were looked at", messages)
	}
	if asked < 60 {
		t.Errorf("only %d requests were looked at", asked)
	}
}

// papers is an archive of documents that is always content.
type papers struct{}

func (papers) Prepare(_ context.Context, key string, _ document.Content) (document.Draft, error) {
	return document.Draft{ID: "d-" + key, Until: time.Now().Add(time.Hour)}, nil
}

func (papers) Prepared(_ context.Context, key string) (document.Draft, error) {
	return document.Draft{ID: "d-" + key, Until: time.Now().Add(time.Hour)}, nil
}

func (papers) Issue(context.Context, string, string, *document.Stamp) (document.Issued, error) {
	return document.Issued{Code: "C", Protocol: "VE-2026-1", URL: "/c/1", VerifyURL: "/verifica/1"}, nil
}

func (papers) IssuedBy(context.Context, string) (document.Issued, error) {
	return document.Issued{}, fault.New(fault.NotFound, "not issued")
}

// official checks bodies against C001's OpenAPI, the one that ANPR has published,
// with every object closed: a name that is not in it is an error.
func official(t *testing.T) func(name, body string) {
	t.Helper()
	specs := os.Getenv("DIME_SPECS")
	if specs == "" {
		specs = filepath.Join("..", "..", "..", "shared", "specs")
	}
	b, err := os.ReadFile(filepath.Join(specs, "anpr-pdnd", "C001-servizioNotifica.yaml"))
	if err != nil {
		t.Log("not checked: C001's OpenAPI is absent")
		return func(string, string) {}
	}
	n, ps := yamldoc.Parse("C001.yaml", b, yamldoc.OpenAPI())
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	v, ps := n.Any()
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	schemas := at(v, "components", "schemas")
	shut(schemas)
	text, err := json.Marshal(schemas)
	if err != nil {
		t.Fatal(err)
	}
	defs := strings.ReplaceAll(string(text), "#/components/schemas/", "#/$defs/")
	compiled := map[string]*schema.Schema{}
	return func(name, body string) {
		t.Helper()
		s := compiled[name]
		if s == nil {
			if s, err = schema.CompileBytes(name, fmt.Appendf(nil, `{"$ref":"#/$defs/%s","$defs":%s}`, name, defs)); err != nil {
				t.Fatal(err)
			}
			if _, bad := s.Decode([]byte(`{"unknown":1}`)); len(bad) == 0 {
				t.Fatalf("the check of %s lets anything through", name)
			}
			compiled[name] = s
		}
		if _, bad := s.Decode([]byte(body)); len(bad) > 0 {
			t.Errorf("no %s: %v in %s", name, bad, body)
		}
	}
}

// shut forbids unknown members wherever a schema names some, and drops what
// OpenAPI writes beside a schema.
func shut(v any) {
	switch v := v.(type) {
	case map[string]any:
		if _, ok := v["properties"].(map[string]any); ok {
			v["additionalProperties"] = false
		}
		for k, x := range v {
			if _, text := x.(string); text && (k == "format" || k == "example" || k == "description" || strings.HasPrefix(k, "x-")) {
				delete(v, k)
				continue
			}
			shut(x)
		}
	case []any:
		for _, x := range v {
			shut(x)
		}
	}
}

// TestEmulatorOfficial checks what the emulator answers to anybody.
func TestEmulatorOfficial(t *testing.T) {
	check := official(t)
	f := newFar(t, "")
	for _, code := range []string{"C015", "C020", "C021", "C030"} {
		b, _ := json.Marshal(f.attempt(code).ok())
		check("RispostaE002OK", string(b))
	}
	a := f.attempt("C030")
	a.part("criteriRicerca")["codiceFiscale"] = "DOEJHN99T13Z121S"
	_, body := a.call()
	check("RispostaKO", body)
}
