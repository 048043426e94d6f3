package anagrafe_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A caller of service 6001 that writes its message in the canonical form at once,
// and therefore needs no canonicalization to sign it.

const (
	soapSpace = "http://schemas.xmlsoap.org/soap/envelope/"
	wsseSpace = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
	wsuSpace  = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
	dsSpace   = "http://www.w3.org/2000/09/xmldsig#"
	space6001 = "http://sogei.it/ANPR/6001certificazione"
	exclusive = "http://www.w3.org/2001/10/xml-exc-c14n#"
	rsaSHA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
	xmlSHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"
	x509v3    = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-x509-token-profile-1.0#X509v3"
)

// certificate is a municipality's, for a key of the test.
func certificate(t testing.TB, k *rsa.PrivateKey, until time.Time) []byte {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Comune, test"}, NotBefore: begin().Add(-time.Hour), NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (f *far) registerCertificate(der []byte) {
	f.t.Helper()
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if status, _, body := f.do("POST", f.url("/back-office/certificates"), nil, string(b)); status != 201 && status != 204 {
		f.t.Fatalf("registering a certificate: %d %s", status, body)
	}
}

// message is a request for a certificate in the making. It is right as it is; a
// test spoils one thing, before or after it is signed.
type message struct {
	f                      *far
	key                    *rsa.PrivateKey
	der                    []byte
	head, holder, control  string
	kinds                  string
	created, expires       string
	refs                   []string // ids of what is signed
	sigMethod, digest, c14 string
	content                func(string) string // of the Body, before it is signed
	after                  func(string) string // of the finished message
	contentType            string
	action                 bool
	requestID              string
}

func (f *far) message(der []byte) *message {
	now := f.clock.Now()
	return &message{f: f, key: keys().known, der: der, kinds: "<tipoCertificato>1</tipoCertificato>",
		head: "<idOperazioneComune>" + f.number() + "</idOperazioneComune><codMittente>027042</codMittente><codDestinatario>999999</codDestinatario><operazioneRichiesta>6001</operazioneRichiesta>" +
			"<dataOraRichiesta>2026-11-24T10:00:00+01:00</dataOraRichiesta><tipoOperazione>C</tipoOperazione><protocolloComune>VE-1</protocolloComune><tipoInvio>TEST</tipoInvio>",
		holder: "<codiceFiscale><codFiscale>" + mario + "</codFiscale></codiceFiscale><cognome>ROSSI</cognome><nome>MARIO</nome>",
		control: "<cognomeUffAnagrafe>BIANCHI</cognomeUffAnagrafe><nomeUffAnagrafe>ADA</nomeUffAnagrafe><tipoRichiedente>2</tipoRichiedente><tipoRichiesta>1</tipoRichiesta>" +
			"<paEstera>0</paEstera><emissione>2</emissione><bollo>1600</bollo><bolloVirtuale>2</bolloVirtuale><diritti>0</diritti>",
		created: now.Format(time.RFC3339), expires: now.Add(time.Minute).Format(time.RFC3339), refs: []string{"T", "B"},
		sigMethod: rsaSHA256, digest: xmlSHA256, c14: exclusive, contentType: "text/xml; charset=utf-8", action: true, requestID: "key-1"}
}

func (m *message) String() string {
	const s, wsu, ds, wsse = ` xmlns:S="` + soapSpace + `"`, ` xmlns:wsu="` + wsuSpace + `"`, ` xmlns:ds="` + dsSpace + `"`, ` xmlns:wsse="` + wsseSpace + `"`
	content := `<c:Richiesta6001 xmlns:c="` + space6001 + `"><testataRichiesta>` + m.head + `</testataRichiesta><listaTipiCertificati>` + m.kinds + `</listaTipiCertificati>` +
		`<soggettoIntestatario><generalita>` + m.holder + `</generalita></soggettoIntestatario><datiControllo>` + m.control + `</datiControllo></c:Richiesta6001>`
	if m.content != nil {
		content = m.content(content)
	}
	signed := map[string]string{
		"B": `<S:Body` + s + wsu + ` wsu:Id="B">` + content + `</S:Body>`,
		"T": `<wsu:Timestamp` + wsu + ` wsu:Id="T"><wsu:Created>` + m.created + `</wsu:Created><wsu:Expires>` + m.expires + `</wsu:Expires></wsu:Timestamp>`,
	}
	info := `<ds:SignedInfo` + ds + `><ds:CanonicalizationMethod Algorithm="` + m.c14 + `"></ds:CanonicalizationMethod><ds:SignatureMethod Algorithm="` + m.sigMethod + `"></ds:SignatureMethod>`
	for _, id := range m.refs {
		info += `<ds:Reference URI="#` + id + `"><ds:Transforms><ds:Transform Algorithm="` + exclusive + `"></ds:Transform></ds:Transforms><ds:DigestMethod Algorithm="` + m.digest +
			`"></ds:DigestMethod><ds:DigestValue>` + sha(signed[id]) + `</ds:DigestValue></ds:Reference>`
	}
	info += `</ds:SignedInfo>`
	sum := sha256.Sum256([]byte(info))
	sig, err := rsa.SignPKCS1v15(rand.Reader, m.key, crypto.SHA256, sum[:])
	if err != nil {
		m.f.t.Fatal(err)
	}
	out := `<?xml version="1.0" encoding="UTF-8"?><S:Envelope` + s + `><S:Header><wsse:Security` + wsse + `><wsse:BinarySecurityToken` + wsu + ` wsu:Id="X" ValueType="` + x509v3 + `">` +
		base64.StdEncoding.EncodeToString(m.der) + `</wsse:BinarySecurityToken>` + signed["T"] + `<ds:Signature` + ds + `>` + info + `<ds:SignatureValue>` + base64.StdEncoding.EncodeToString(sig) +
		`</ds:SignatureValue><ds:KeyInfo><wsse:SecurityTokenReference><wsse:Reference URI="#X"></wsse:Reference></wsse:SecurityTokenReference></ds:KeyInfo></ds:Signature></wsse:Security></S:Header>` + signed["B"] + `</S:Envelope>`
	if m.after != nil {
		out = m.after(out)
	}
	return out
}

func (m *message) send() (int, string) {
	m.f.t.Helper()
	h := http.Header{"Content-Type": {m.contentType}, "X-Request-Id": {m.requestID}}
	if m.action {
		h["Soapaction"] = []string{`""`}
	}
	status, _, body := m.f.do("POST", m.f.url("/soap/6001"), h, m.String())
	return status, body
}

// swap replaces a part of a message that must be there.
func swap(old, with string) func(string) string {
	return func(s string) string {
		if !strings.Contains(s, old) {
			panic("the message holds no " + old)
		}
		return strings.Replace(s, old, with, 1)
	}
}

func (f *far) effects() int {
	f.t.Helper()
	rows, err := f.e.Effects()
	if err != nil {
		f.t.Fatal(err)
	}
	return len(rows)
}

func TestEmulatorIssues(t *testing.T) {
	f := newFar(t, "")
	der := certificate(t, keys().known, begin().Add(time.Hour))
	f.registerCertificate(der)

	lookUp := func() string {
		m := f.message(der)
		m.control = swap("<tipoRichiesta>1<", "<tipoRichiesta>2<")(m.control)
		status, body := m.send()
		if status != 200 || !strings.Contains(body, "Risposta6001OK") {
			t.Fatalf("the look-up: %d %s", status, body)
		}
		return body
	}
	if strings.Contains(lookUp(), "numeroProtocolloANPR") {
		t.Error("a certificate is known before it was issued")
	}
	m := f.message(der)
	status, first := m.send()
	if status != 200 || !strings.Contains(first, "<numeroProtocolloANPR>6001000000000001<") {
		t.Fatalf("got %d %s", status, first)
	}
	validate(t, first)
	rows, _ := f.e.Effects()
	if len(rows) != 1 || rows[0].Key != "key-1" || rows[0].Subject != mario || rows[0].Operation != "issue_certificate" {
		t.Errorf("the ledger is %v", rows)
	}
	// The same message again, and the same number with another content.
	if _, again := m.send(); again != first {
		t.Errorf("the repetition answered %s", again)
	}
	m.holder = swap("MARIO", "LUIGI")(m.holder)
	if _, again := m.send(); again != first || f.effects() != 1 {
		t.Errorf("the repeated number answered %s, %d effects", again, f.effects())
	}
	if !strings.Contains(lookUp(), "<numeroProtocolloANPR>6001000000000001<") {
		t.Error("the look-up does not tell of the certificate")
	}
	preview := f.message(der)
	preview.control = swap("<emissione>2<", "<emissione>3<")(preview.control)
	if status, body := preview.send(); status != 200 || f.effects() != 1 {
		t.Errorf("a preview had an effect: %d %s", status, body)
	}
	f.switchOn("no-dedupe", true)
	again := f.message(der)
	again.send()
	again.send()
	if f.effects() != 3 {
		t.Errorf("without deduplication there are %d effects, want 3", f.effects())
	}
	f.switchOn("no-dedupe", false)
	f.switchOn("issue_certificate.not_found", true)
	if status, body := f.message(der).send(); status != 200 || !strings.Contains(body, "EC001") {
		t.Errorf("got %d %s", status, body)
	} else {
		validate(t, body)
	}
	for _, a := range f.seen {
		if strings.HasSuffix(a.Path, "6001") && a.Operation != "issue_certificate" && a.Operation != "certificate_of" {
			t.Errorf("recorded as %q", a.Operation)
		}
	}
}

// TestEmulatorTakesXMLSec1 verifies what xmlsec1 has signed: white space, comments,
// CDATA, references, attributes out of order, default namespaces and namespaces
// that are not used.
func TestEmulatorTakesXMLSec1(t *testing.T) {
	b, err := os.ReadFile("testdata/emulator/signed-by-xmlsec1.xml")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := os.ReadFile("testdata/emulator/municipality.pem")
	if err != nil {
		t.Fatal(err)
	}
	f := newFar(t, "")
	f.clock.Advance(time.Date(2026, 11, 24, 12, 1, 0, 0, time.UTC))
	if status, _, body := f.do("POST", f.url("/back-office/certificates"), nil, string(cert)); status != 201 {
		t.Fatalf("got %d %s", status, body)
	}
	h := func() http.Header { return http.Header{"Content-Type": {"text/xml"}, "Soapaction": {`""`}} }
	if status, _, body := f.do("POST", f.url("/soap/6001"), h(), string(b)); status != 200 || !strings.Contains(body, "Risposta6001OK") {
		t.Errorf("got %d %s", status, body)
	}
	for _, change := range []string{"<nome>MARIO", "1 &lt; 2", "a=\"1\"", "2026-11-24T12:05:00Z", "<altri>"} {
		s := string(b)
		if strings.Contains(s, change) {
			s = strings.Replace(s, change, change[:len(change)-1]+"x"+change[len(change)-1:], 1)
		} else {
			continue // xmlsec1 wrote it otherwise
		}
		if status, _, body := f.do("POST", f.url("/soap/6001"), h(), s); status != 400 || !strings.Contains(body, "FailedCheck") {
			t.Errorf("with %q changed: %d %s", change, status, body)
		}
	}
}

// messageRefusal is a message that is wrong in one thing.
type messageRefusal struct {
	name, code, why string
	spoil           func(*message)
}

// messageRefusals are what service 6001 refuses: with a SOAP fault where the
// envelope or its security is wrong, with Risposta6001KO for the rest (EC...).
func messageRefusals() []messageRefusal {
	head := func(old, with string) func(*message) { return func(m *message) { m.head = swap(old, with)(m.head) } }
	control := func(old, with string) func(*message) {
		return func(m *message) { m.control = swap(old, with)(m.control) }
	}
	after := func(old, with string) func(*message) { return func(m *message) { m.after = swap(old, with) } }
	at := func(d time.Duration) string { return begin().Add(d).Format(time.RFC3339) }
	return []messageRefusal{
		{"JSON", "soapenv:Client", "Content-Type", func(m *message) { m.contentType = "application/json" }},
		{"SOAP 1.2", "soapenv:Client", "Content-Type", func(m *message) { m.contentType = "application/soap+xml" }},
		{"no SOAPAction", "soapenv:Client", "SOAPAction", func(m *message) { m.action = false }},
		{"a DOCTYPE", "soapenv:Client", "DOCTYPE", after(`?>`, `?><!DOCTYPE a [<!ENTITY b "c">]>`)},
		{"not well-formed", "soapenv:Client", "", after(`</S:Envelope>`, ``)},
		{"another envelope", "soapenv:VersionMismatch", "envelope", func(m *message) {
			m.after = func(string) string { return `<a/>` }
		}},
		{"no security", "wsse:InvalidSecurity", "Security", func(m *message) {
			m.after = func(s string) string {
				i, j := strings.Index(s, "<wsse:Security"), strings.Index(s, "</S:Header>")
				return s[:i] + s[j:]
			}
		}},
		{"no signature", "wsse:InvalidSecurity", "Signature", func(m *message) {
			m.after = func(s string) string {
				i, j := strings.Index(s, "<ds:Signature "), strings.Index(s, "</wsse:Security>")
				return s[:i] + s[j:]
			}
		}},
		{"a token of another type", "wsse:InvalidSecurityToken", "BinarySecurityToken", after("#X509v3", "#PKCS7")},
		{"a token that is no certificate", "wsse:InvalidSecurityToken", "no certificate", func(m *message) { m.der = []byte("x") }},
		{"certificate of nobody", "wsse:FailedAuthentication", "registered", func(m *message) {
			m.der, m.key = certificate(m.f.t, keys().second, begin().Add(time.Hour)), keys().second
		}},
		{"another key than the certificate's", "wsse:FailedCheck", "signature", func(m *message) { m.key = keys().second }},
		{"SHA-1", "wsse:UnsupportedAlgorithm", "digest", func(m *message) { m.digest = "http://www.w3.org/2000/09/xmldsig#sha1" }},
		{"rsa-sha1", "wsse:UnsupportedAlgorithm", "signature method", func(m *message) { m.sigMethod = "http://www.w3.org/2000/09/xmldsig#rsa-sha1" }},
		{"inclusive canonicalization", "wsse:UnsupportedAlgorithm", "canonicalization", func(m *message) { m.c14 = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315" }},
		{"Body not signed", "wsse:FailedCheck", "Body is not signed", func(m *message) { m.refs = []string{"T"} }},
		{"Timestamp not signed", "wsse:FailedCheck", "Timestamp is not signed", func(m *message) { m.refs = []string{"B"} }},
		{"Body changed", "wsse:FailedCheck", "digest of the Body", after("MARIO", "LUIGI")},
		{"Timestamp changed", "wsse:FailedCheck", "digest of the Timestamp", func(m *message) { m.after = swap(m.expires, at(2*time.Minute)) }},
		{"SignedInfo changed", "wsse:FailedCheck", "", after(`<ds:SignatureMethod`, `<!-- --> <ds:SignatureMethod`)},
		{"the signed Body moved away", "wsse:FailedCheck", "Reference", func(m *message) {
			m.after = func(s string) string {
				i := strings.Index(s, "<S:Body")
				body := strings.TrimSuffix(s[i:], "</S:Envelope>")
				forged := strings.Replace(strings.Replace(body, "MARIO", "LUIGI", 1), `wsu:Id="B"`, `wsu:Id="C"`, 1)
				return strings.Replace(s[:i], "</S:Header>", "<w>"+body+"</w></S:Header>", 1) + forged + "</S:Envelope>"
			}
		}},
		{"two elements of one id", "wsse:FailedCheck", "twice", after("</S:Header>", `<w xmlns:u="`+wsuSpace+`" u:Id="B"></w></S:Header>`)},
		{"created in the future", "wsu:MessageExpired", "future", func(m *message) { m.created = at(time.Second) }},
		{"created long ago", "wsu:MessageExpired", "too old", func(m *message) { m.created = at(-6 * time.Minute) }},
		{"expired", "wsu:MessageExpired", "expired", func(m *message) { m.expires = at(0) }},
		{"no time", "wsu:MessageExpired", "no time", func(m *message) { m.created = "today" }},
		{"another message", "soapenv:Client", "Richiesta6001", func(m *message) { m.content = func(string) string { return `<a></a>` } }},
		{"two messages", "soapenv:Client", "Richiesta6001", func(m *message) { m.content = func(s string) string { return s + s } }},
		{"no number", "soapenv:Client", "idOperazioneComune", func(m *message) { m.head = m.head[strings.Index(m.head, "<codMittente>"):] }},
		{"for another than ANPR", "soapenv:Client", "codDestinatario", head("999999", "999998")},
		{"another operation", "soapenv:Client", "operazioneRichiesta", head(">6001<", ">3001<")},
		{"protocol too long", "soapenv:Client", "protocolloComune", head("VE-1", "VE-123456789012345678")},
		{"out of order", "soapenv:Client", "tipoOperazione", head("<tipoOperazione>C</tipoOperazione><protocolloComune>VE-1</protocolloComune>", "<protocolloComune>VE-1</protocolloComune><tipoOperazione>C</tipoOperazione>")},
		{"no type of certificate", "soapenv:Client", "tipoCertificato", func(m *message) { m.kinds = "" }},
		{"no name", "soapenv:Client", "senzaNome", func(m *message) { m.holder = swap("<nome>MARIO</nome>", "")(m.holder) }},
		{"surplus element", "soapenv:Client", "not expected", control("<diritti>0</diritti>", "<diritti>0</diritti><x>1</x>")},
		{"stamp in euro", "soapenv:Client", "bollo", control(">1600<", ">16,00<")},
		{"from another municipality", "EC010", "", head("027042", "015146")},
		{"number not numeric", "EC011", "", func(m *message) { m.head = swap("<idOperazioneComune>", "<idOperazioneComune>A")(m.head) }},
		{"number lower than the last", "EC012", "", func(m *message) {
			m.f.n += 5
			late := m.f.message(m.der)
			late.control = swap("<tipoRichiesta>1<", "<tipoRichiesta>2<")(late.control)
			late.send()
			i, j := strings.Index(m.head, "Comune>")+7, strings.Index(m.head, "</")
			m.head = m.head[:i] + fmt.Sprint(m.f.n-1) + m.head[j:]
		}},
		{"no tax code", "EC013", "", func(m *message) { m.holder = m.holder[strings.Index(m.holder, "<cognome>"):] }},
		{"name of another", "EC001", "", func(m *message) { m.holder = swap("MARIO", "LUIGI")(m.holder) }},
		{"applicant of no kind", "EC014", "", control("<tipoRichiedente>2<", "<tipoRichiedente>9<")},
		{"request of no kind", "EC014", "", control("<tipoRichiesta>1<", "<tipoRichiesta>5<")},
		{"stamp of another amount", "EC015", "", control(">1600<", ">1462<")},
		{"stamp without its way", "EC016", "", control("<bolloVirtuale>2</bolloVirtuale>", "")},
		{"neither stamp nor exemption", "EC017", "", control(">1600<", ">0<")},
		{"stamp and exemption", "EC018", "", control("<diritti>0</diritti>", "<diritti>0</diritti><esenzioneBollo>1</esenzioneBollo>")},
		{"other exemption unnamed", "EC019", "", control("<bollo>1600</bollo><bolloVirtuale>2</bolloVirtuale><diritti>0</diritti>", "<bollo>0</bollo><diritti>0</diritti><esenzioneBollo>99</esenzioneBollo>")},
	}
}

// TestEmulatorRefusesMessages goes through the table.
func TestEmulatorRefusesMessages(t *testing.T) {
	f := newFar(t, "")
	der := certificate(t, keys().known, begin().Add(time.Hour))
	f.registerCertificate(der)
	f.message(der).send()
	before := f.effects()
	for _, c := range messageRefusals() {
		t.Run(c.name, func(t *testing.T) {
			f.t = t
			defer func() { f.t = t }()
			m := f.message(der)
			c.spoil(m)
			status, body := m.send()
			if strings.HasPrefix(c.code, "EC") {
				if status != 200 || !strings.Contains(body, "<codiceErroreAnomalia>"+c.code+"<") || !strings.Contains(body, "<esitoOperazione>KO<") {
					t.Fatalf("got %d %s, want %s", status, body, c.code)
				}
				validate(t, body)
				return
			}
			_, reason, _ := strings.Cut(body, "<faultstring>")
			if status != 400 || !strings.Contains(body, "<faultcode>"+c.code+"<") || !strings.Contains(reason, c.why) {
				t.Fatalf("got %d %s, want %s because of %q", status, body, c.code, c.why)
			}
		})
	}
	f.t = t
	if got := f.effects(); got != before {
		t.Errorf("refusals had %d effects", got-before)
	}
	if status, body := f.message(der).send(); status != 200 || !strings.Contains(body, "Risposta6001OK") {
		t.Errorf("what is not spoilt: %d %s", status, body)
	}
	// A certificate that has run out since it was registered.
	f.clock.Advance(begin().Add(2 * time.Hour))
	if status, body := f.message(der).send(); status != 400 || !strings.Contains(body, "FailedAuthentication") {
		t.Errorf("an expired certificate: %d %s", status, body)
	}
}

// validate checks an answer's Risposta6001 against the official XSD.
func validate(t *testing.T, envelope string) {
	t.Helper()
	validateXML(t, envelope, "c:Risposta6001", "</soapenv:Body>")
}

func validateXML(t *testing.T, envelope, root, end string) {
	t.Helper()
	validateWith(t, "6001certificazione.xsd", envelope, root, end)
}

// validateWith checks the element root of an envelope against an official XSD.
func validateWith(t *testing.T, name, envelope, root, end string) {
	t.Helper()
	specs := os.Getenv("DIME_SPECS")
	if specs == "" {
		specs = filepath.Join("..", "..", "..", "shared", "specs")
	}
	xsd := filepath.Join(specs, "anpr-soap", "comuni", name)
	if _, err := os.Stat(xsd); err != nil {
		t.Logf("not checked: the official %s is absent", filepath.Base(xsd))
		return
	}
	lint, err := exec.LookPath("xmllint")
	if err != nil {
		t.Log("not checked: xmllint is absent")
		return
	}
	i, j := strings.Index(envelope, "<"+root+" "), strings.Index(envelope, end)
	if i < 0 || j < i {
		t.Fatalf("no %s in %s", root, envelope)
	}
	cmd := exec.CommandContext(t.Context(), lint, "--noout", "--nonet", "--schema", xsd, "-")
	cmd.Stdin = strings.NewReader(envelope[i:j])
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("it is not of the official schema: %v\n%s\n%s", err, out, envelope[i:j])
	}
}
