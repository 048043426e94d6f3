package pagopa

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/httpclient"
	"github.com/dime-bus/dime/internal/xml"
	"github.com/dime-bus/dime/internal/yamldoc"
)

const settings = `
pagopa:
  creditor: "00339370272"
  company: Comune di Venezia
  office: Servizi demografici
  station: 00339370272_01
  segregation: "01"
  iban: IT60X0542811101000000123456
  category: 9/0301109AP/
  services:
    - {id: "00001", subject: "00002", description: Diritti di segreteria, amount: 520}
`

// still is a clock that a test sets.
type still struct{ at atomic.Int64 }

func (s *still) Now() time.Time                  { return time.Unix(s.at.Load(), 0) }
func (s *still) At(_ time.Time, _ func()) func() { return func() {} }
func (s *still) pass(d time.Duration)            { s.at.Add(int64(d / time.Second)) }
func noon() *still                               { s := &still{}; s.at.Store(noonAt().Unix()); return s }
func noonAt() time.Time                          { return time.Date(2026, 11, 24, 11, 0, 0, 0, time.UTC) }

// build makes a connector of the settings, with a platform at url.
func build(t testing.TB, url string, table connectors.Table, at *still, further string) *Connector {
	t.Helper()
	n, ps := yamldoc.Parse("pagopa.yaml", []byte(settings+further))
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	client := httpclient.New(httpclient.Config{})
	t.Cleanup(client.Close)
	c, ps := New(connectors.Spec{
		Name: "pagopa", File: "pagopa.yaml", Node: n, Client: client, City: url,
		Host: connectors.Host{
			Clock: at, Table: func(string) connectors.Table { return table },
			URL: func(face string) string { return "http://" + face + ".example" },
		},
	})
	if c == nil {
		t.Fatal(ps)
	}
	return c
}

func rows() *memory { return &memory{rows: map[string][]byte{}} }

// station is a connector whose station is called without a platform.
type station struct {
	*Connector
	t      testing.TB
	at     *still
	table  *memory
	events map[string]any
	pubs   atomic.Int32
	fail   atomic.Bool
	mu     sync.Mutex
	face   http.Handler
}

func newStation(t testing.TB) *station {
	s := &station{t: t, at: noon(), table: rows(), events: map[string]any{}}
	s.Connector = build(t, "http://127.0.0.1:1", s.table, s.at, "")
	s.face = s.Receive(s.publish)[0].Handler
	return s
}

// publish takes a repeated id once, as the bus does.
func (s *station) publish(_ context.Context, eventType, id string, data any) error {
	s.pubs.Add(1)
	if s.fail.Load() {
		return fmt.Errorf("the disk is full")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, twice := s.events[id]; !twice && eventType == receiptEvent {
		s.events[id] = data
	}
	return nil
}

func (s *station) published() []map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []map[string]any
	for _, e := range s.events {
		out = append(out, e.(map[string]any))
	}
	return out
}

// put stores a position at a stage.
func (s *station) put(at stage, args map[string]any) *position {
	s.t.Helper()
	if args["payer"] == nil {
		args["payer"] = "RSSMRA77L18H501W"
	}
	p, err := s.asked(args, s.at.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	p.IUPD = iupdOf(fmt.Sprint(len(s.table.rows)))
	p.Stage = at
	if at == paid || at == closed {
		p.forget()
	}
	if err := s.number(s.t.Context(), p); err != nil {
		s.t.Fatal(err)
	}
	return p
}

// send calls the station and gives the response's element; it must be valid.
func (s *station) send(action, request string) *xml.Element {
	s.t.Helper()
	w := s.raw(action, "text/xml; charset=utf-8", request)
	if w.Code != http.StatusOK {
		s.t.Fatalf("%d: %s", w.Code, w.Body)
	}
	valid(s.t, w.Body.String())
	el, err := xml.Parse(w.Body.Bytes())
	if err != nil {
		s.t.Fatal(err)
	}
	return el.Child(envelopeSpace, "Body").Children[0]
}

func (s *station) raw(action, kind, request string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, stationPath, strings.NewReader(request))
	r.Header.Set("Content-Type", kind)
	if action != "" {
		r.Header.Set("SOAPAction", `"`+action+`"`)
	}
	w := httptest.NewRecorder()
	s.face.ServeHTTP(w, r)
	return w
}

// code is the fault of a KO, or "OK".
func code(el *xml.Element) string {
	if o := el.Child("", "outcome"); o != nil && o.Text == "OK" {
		return "OK"
	}
	if f := el.Child("", "fault").Child("", "faultCode"); f != nil {
		return f.Text
	}
	return "neither OK nor KO"
}

// envelope wraps a request as the node does.
func envelope(request string) string {
	return `<?xml version="1.0" encoding="utf-8"?><soapenv:Envelope xmlns:soapenv="` + envelopeSpace + `" xmlns:paf="` + nodeSpace + `"><soapenv:Header/><soapenv:Body>` + request + `</soapenv:Body></soapenv:Envelope>`
}

const ids = "<idPA>00339370272</idPA><idBrokerPA>00339370272</idBrokerPA><idStation>00339370272_01</idStation>"

func qr(notice string) string {
	return "<qrCode><fiscalCode>00339370272</fiscalCode><noticeNumber>" + notice + "</noticeNumber></qrCode>"
}

func verifyReq(notice string) string {
	return envelope("<paf:paVerifyPaymentNoticeReq>" + ids + qr(notice) + "</paf:paVerifyPaymentNoticeReq>")
}

func getReq(notice, further string) string {
	return envelope("<paf:paGetPaymentV2Request>" + ids + qr(notice) + further + "</paf:paGetPaymentV2Request>")
}

// receiptOf is the receipt that the node sends of a paid position.
func receiptOf(p *position, id string, mbd []byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<receipt><receiptId>%s</receiptId><noticeNumber>%s</noticeNumber><fiscalCode>00339370272</fiscalCode><outcome>OK</outcome><creditorReferenceId>%s</creditorReferenceId><paymentAmount>%s</paymentAmount><description>x</description><companyName>Comune di Venezia</companyName><debtor><uniqueIdentifier><entityUniqueIdentifierType>F</entityUniqueIdentifierType><entityUniqueIdentifierValue>RSSMRA77L18H501W</entityUniqueIdentifierValue></uniqueIdentifier><fullName>Mario Rossi</fullName><e-mail>m.rossi@example.org</e-mail></debtor><transferList>`,
		id, p.notice(), p.IUV, euros(p.Amount))
	for i, t := range p.Transfers {
		fmt.Fprintf(&b, "<transfer><idTransfer>%d</idTransfer><transferAmount>%s</transferAmount><fiscalCodePA>%s</fiscalCodePA>", i+1, euros(t.Amount), t.Organisation)
		if t.Hash != "" {
			b.WriteString("<MBDAttachment>" + base64Of(mbd) + "</MBDAttachment>")
		} else {
			b.WriteString("<IBAN>" + t.IBAN + "</IBAN>")
		}
		b.WriteString("<remittanceInformation>x</remittanceInformation><transferCategory>x</transferCategory></transfer>")
	}
	b.WriteString(`</transferList><idPSP>PSP01</idPSP><pspFiscalCode>00000000000</pspFiscalCode><PSPCompanyName>Banca di prova</PSPCompanyName><idChannel>C1</idChannel><channelDescription>WISP</channelDescription><paymentMethod>creditCard</paymentMethod><fee>1.50</fee><paymentDateTime>2026-11-24T12:00:00</paymentDateTime><applicationDate>2026-11-24</applicationDate><transferDate>2026-11-25</transferDate><metadata><mapEntry><key>a</key><value>b</value></mapEntry></metadata></receipt>`)
	return b.String()
}

func sendRT(receipt string) string {
	return envelope("<paf:paSendRTV2Request>" + ids + receipt + "</paf:paSendRTV2Request>")
}

func goldenStamp(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/mbd.xml")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// specs is the folder of official files, or "" where it is absent.
func specs() string {
	dir := os.Getenv("DIME_SPECS")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "specs")
	}
	if _, err := os.Stat(dir); err != nil {
		return ""
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return ""
	}
	return abs
}

// valid holds the request or response in an envelope against the official XSD, by
// Debian's xmllint.
func valid(t testing.TB, message string) {
	t.Helper()
	begin, end := strings.Index(message, "Body>"), strings.LastIndex(message, "</soapenv:Body>")
	inner := message[begin+len("Body>") : end]
	cut := strings.IndexAny(inner, " >/")
	prefix := inner[1:strings.IndexByte(inner, ':')]
	doc := inner[:cut] + " xmlns:" + prefix + `="` + nodeSpace + `"` + inner[cut:]
	lint(t, doc, "pagopa-soap/wsdl/xsd/paForNode.xsd")
}

func lint(t testing.TB, doc, xsd string) {
	t.Helper()
	if specs() == "" {
		t.Logf("not checked: the official files are absent, so nothing is validated against %s", xsd)
		return
	}
	cmd := exec.Command("xmllint", "--nonet", "--noout", "--schema", filepath.Join(specs(), xsd), "-")
	cmd.Stdin = strings.NewReader(doc)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("xmllint (Debian: libxml2-utils): %v\n%s\n%s", err, out, doc)
	}
}

// problems are what a file is refused for.
func problems(t *testing.T, file string) string {
	t.Helper()
	n, ps := yamldoc.Parse("pagopa.yaml", []byte(file))
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	_, ps = New(connectors.Spec{Name: "pagopa", File: "pagopa.yaml", Node: n})
	return fmt.Sprint(ps)
}
