package anagrafe

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"html"
	"mime"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/dime-bus/dime/internal/citizens"
	"github.com/dime-bus/dime/internal/xml"
)

// Service 6001, emissioneCertificato (6001servizioCertificazione.wsdl: document,
// literal, SOAP 1.1). The message is signed as the WS-Security X.509 Certificate
// Token Profile 1.1 has it: a BinarySecurityToken of a registered certificate
// signs the Timestamp and the Body. That ANPR wants just this is assumed; so are
// the codes EC..., and that a request for data (tipoRichiesta 2) under the
// protocolloComune of a certificate answers its protocolloANPR.
const (
	emSOAP = "http://schemas.xmlsoap.org/soap/envelope/"
	emWSSE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
	emWSU  = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
	emDS   = "http://www.w3.org/2000/09/xmldsig#"
	em6001 = "http://sogei.it/ANPR/6001certificazione"

	emExclusive = "http://www.w3.org/2001/10/xml-exc-c14n#"
	emRSASHA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
	emSHA256    = "http://www.w3.org/2001/04/xmlenc#sha256"
	emX509v3    = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-x509-token-profile-1.0#X509v3"

	emStampLife = 5 * time.Minute // between Created and arrival; assumed
)

// emLookUp finds requests that ask for data only, before anything is verified.
var emLookUp = regexp.MustCompile(`<tipoRichiesta>\s*2\s*</tipoRichiesta>`)

// emFault is an error of listaErrori.
type emFault struct{ code, text string }

// emHead is what an answer repeats of testataRichiesta.
type emHead struct {
	service, id, sender, protocol, since string
}

// emSOAPFault is a fault of the envelope or its security. SOAP 1.1, 6.2 would have
// it with HTTP 500; the gateway before the service answers 400 (assumed), so that
// what the caller did wrong is told from the service's own failure.
func emSOAPFault(code string, why error) emAnswer {
	b := `<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="` + emSOAP + `" xmlns:wsse="` + emWSSE + `"><soapenv:Body><soapenv:Fault><faultcode>` +
		code + `</faultcode><faultstring>` + html.EscapeString(why.Error()) + `</faultstring></soapenv:Fault></soapenv:Body></soapenv:Envelope>`
	return emAnswer{status: http.StatusBadRequest, raw: []byte(b), kind: "text/xml; charset=utf-8"}
}

// emTestata is tipoDatoTestataRisposta.
func emTestata(h emHead, now time.Time, operation, outcome string) string {
	or := func(s, d string) string {
		if s == "" {
			return d
		}
		return html.EscapeString(s)
	}
	protocol := ""
	if h.protocol != "" {
		protocol = "<protocolloComune>" + html.EscapeString(h.protocol) + "</protocolloComune>"
	}
	if h.since != "" {
		protocol += "<dataDecorrenza>" + h.since + "</dataDecorrenza>"
	}
	return "<testataRisposta><idOperazioneComune>" + or(h.id, "0") + "</idOperazioneComune><codMittente>999999</codMittente><codDestinatario>" + or(h.sender, "0") +
		"</codDestinatario><operazioneRichiesta>" + h.service + "</operazioneRichiesta><dataOraRichiesta>" + now.UTC().Format("2006-01-02T15:04:05Z") + "</dataOraRichiesta>" + protocol +
		"<idOperazioneANPR>" + operation + "</idOperazioneANPR><esitoOperazione>" + outcome + "</esitoOperazione></testataRisposta>"
}

func emEnvelope(inner string) emAnswer {
	return emAnswer{status: http.StatusOK, kind: "text/xml; charset=utf-8", raw: []byte(`<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="` + emSOAP +
		`"><soapenv:Body><c:Risposta6001 xmlns:c="` + em6001 + `">` + inner + `</c:Risposta6001></soapenv:Body></soapenv:Envelope>`)}
}

// emErrors is listaErrori.
func emErrors(fs ...emFault) string {
	list := ""
	for _, f := range fs {
		list += "<errore><codiceErroreAnomalia>" + f.code + "</codiceErroreAnomalia><tipoErroreAnomalia>E</tipoErroreAnomalia><testoErroreAnomalia>" +
			html.EscapeString(f.text) + "</testoErroreAnomalia></errore>"
	}
	return "<listaErrori>" + list + "</listaErrori>"
}

// emSOAPKO is Risposta6001KO.
func emSOAPKO(h emHead, now time.Time, operation string, fs ...emFault) emAnswer {
	h.service = "6001"
	return emEnvelope("<c:Risposta6001KO>" + emTestata(h, now, operation, "KO") + emErrors(fs...) + "</c:Risposta6001KO>")
}

// soap6001 is POST /soap/6001.
func (e *Emulator) soap6001(c *emCall) emAnswer {
	return e.message(c, xml.Name{Space: em6001, Local: "Richiesta6001"}, func(el *xml.Element, now time.Time) emAnswer {
		q, err := emRead6001(el)
		if err != nil {
			return emSOAPFault("soapenv:Client", err)
		}
		return e.certificate(c, q, now)
	})
}

// message opens an envelope, verifies its security and hands what the Body holds
// to f, which is called with e.mu held.
func (e *Emulator) message(c *emCall, want xml.Name, f func(*xml.Element, time.Time) emAnswer) emAnswer {
	if kind, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type")); err != nil || kind != "text/xml" {
		return emSOAPFault("soapenv:Client", emReason("Content-Type is not text/xml"))
	}
	if len(c.r.Header.Values("Soapaction")) != 1 {
		return emSOAPFault("soapenv:Client", emReason("the SOAPAction header is missing"))
	}
	root, err := xml.Parse(c.body)
	if err != nil {
		return emSOAPFault("soapenv:Client", err)
	}
	if root.Name != (xml.Name{Space: emSOAP, Local: "Envelope"}) {
		return emSOAPFault("soapenv:VersionMismatch", emReason("the document is no envelope of SOAP 1.1"))
	}
	now := e.cfg.Clock.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mem == nil {
		return emGovway(http.StatusServiceUnavailable, "APIUnavailable", errEmClosed.Error())
	}
	tree, err := emTree(c.body)
	if err != nil {
		return emSOAPFault("soapenv:Client", err)
	}
	if code, err := e.secure(tree, now); err != nil {
		return emSOAPFault(code, err)
	}
	body := root.Child(emSOAP, "Body")
	if body == nil || len(body.Children) != 1 || body.Children[0].Name != want {
		return emSOAPFault("soapenv:Client", emReason("the Body is not one %s", want.Local))
	}
	return f(body.Children[0], now)
}

// secure verifies wsse:Security; e.mu is held.
func (e *Emulator) secure(tree *emNode, now time.Time) (code string, err error) {
	const invalid, failed, check = "wsse:InvalidSecurity", "wsse:FailedAuthentication", "wsse:FailedCheck"
	body := tree.child(emSOAP, "Body")
	sec := tree.child(emSOAP, "Header").child(emWSSE, "Security")
	if sec == nil {
		return invalid, errors.New("the Header holds not one Security")
	}
	token, stamp, sig := sec.child(emWSSE, "BinarySecurityToken"), sec.child(emWSU, "Timestamp"), sec.child(emDS, "Signature")
	switch {
	case token == nil || token.attr("", "ValueType") != emX509v3:
		return "wsse:InvalidSecurityToken", errors.New("there is not one BinarySecurityToken of type X509v3")
	case stamp == nil:
		return invalid, errors.New("there is not one Timestamp")
	case sig == nil:
		return invalid, errors.New("there is not one Signature")
	}
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(token.text()), ""))
	if err != nil {
		return "wsse:InvalidSecurityToken", errors.New("the BinarySecurityToken is no base64")
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return "wsse:InvalidSecurityToken", errors.New("the BinarySecurityToken is no certificate")
	}
	key, _ := cert.PublicKey.(*rsa.PublicKey)
	switch {
	case !e.mem.certificates[string(cert.Raw)]:
		return failed, errors.New("the certificate is not registered")
	case now.Before(cert.NotBefore) || now.After(cert.NotAfter):
		return failed, errors.New("the certificate is not valid now")
	case key == nil:
		return failed, errors.New("the certificate holds no RSA key")
	}
	info := sig.child(emDS, "SignedInfo")
	switch {
	case info == nil:
		return invalid, errors.New("SignedInfo is missing")
	case info.child(emDS, "CanonicalizationMethod").attr("", "Algorithm") != emExclusive:
		return "wsse:UnsupportedAlgorithm", errors.New("the canonicalization is not exclusive")
	case info.child(emDS, "SignatureMethod").attr("", "Algorithm") != emRSASHA256:
		return "wsse:UnsupportedAlgorithm", errors.New("the signature method is not rsa-sha256")
	}
	if ref := sig.child(emDS, "KeyInfo").child(emWSSE, "SecurityTokenReference").child(emWSSE, "Reference"); ref == nil || ref.attr("", "URI") != "#"+token.attr(emWSU, "Id") {
		return "wsse:SecurityTokenUnavailable", errors.New("KeyInfo does not name the BinarySecurityToken")
	}
	signed := map[*emNode]bool{}
	for _, ref := range info.all(emDS, "Reference") {
		id := strings.TrimPrefix(ref.attr("", "URI"), "#")
		var of *emNode
		for _, n := range []*emNode{body, stamp, token} {
			if id != "" && n.attr(emWSU, "Id") == id {
				of = n
			}
		}
		// Signature wrapping: the element itself in its place, and its id once.
		if of == nil || tree.count(id) != 1 || !strings.HasPrefix(ref.attr("", "URI"), "#") {
			return check, errors.New("a Reference names neither the Body nor the Timestamp, or an id that is there twice")
		}
		ts := ref.child(emDS, "Transforms").all(emDS, "Transform")
		if len(ts) != 1 || ts[0].attr("", "Algorithm") != emExclusive || len(ts[0].children) > 0 {
			return "wsse:UnsupportedAlgorithm", errors.New("a Reference's transform is not the exclusive canonicalization alone")
		}
		if ref.child(emDS, "DigestMethod").attr("", "Algorithm") != emSHA256 {
			return "wsse:UnsupportedAlgorithm", errors.New("a digest method is not sha256")
		}
		want, err := base64.StdEncoding.DecodeString(ref.child(emDS, "DigestValue").text())
		sum := sha256.Sum256(of.canonical())
		if err != nil || subtle.ConstantTimeCompare(want, sum[:]) != 1 {
			return check, errors.New("the digest of the " + of.local + " is another")
		}
		signed[of] = true
	}
	if body == nil || !signed[body] {
		return check, errors.New("the Body is not signed")
	}
	if !signed[stamp] {
		return check, errors.New("the Timestamp is not signed")
	}
	value, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(sig.child(emDS, "SignatureValue").text()), ""))
	sum := sha256.Sum256(info.canonical())
	if err != nil || rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], value) != nil {
		return check, errors.New("the signature is not valid")
	}
	created, err1 := time.Parse(time.RFC3339, stamp.child(emWSU, "Created").text())
	expires, err2 := time.Parse(time.RFC3339, stamp.child(emWSU, "Expires").text())
	switch {
	case err1 != nil || err2 != nil:
		return "wsu:MessageExpired", errors.New("Created or Expires is missing or no time")
	case created.Truncate(time.Second).After(now):
		return "wsu:MessageExpired", errors.New("Created lies in the future")
	case now.Sub(created) > emStampLife:
		return "wsu:MessageExpired", errors.New("Created is too old")
	case !expires.After(now):
		return "wsu:MessageExpired", errors.New("the message has expired")
	}
	// The same message again is harmless within its life: its idOperazioneComune
	// brings back the earlier answer.
	return "", nil
}

// em6001Request is Richiesta6001 as it was read.
type em6001Request struct {
	head                                                                 emHead
	kinds                                                                []string
	cf, surname, name                                                    string
	applicant, request, abroad, emission, stamp, virtual, fees, feesFree string
	exempt, exemptText, force                                            string
}

func emPattern(p string) func(string) bool { return regexp.MustCompile(`^(?:` + p + `)$`).MatchString }

func emDay(s string) bool { return emPattern(`\d{4}-\d{2}-\d{2}`)(s) }

func emNames(s string) bool { return s != "" && len([]rune(s)) <= 80 }

// emReadHead reads testataRichiesta (tipoDatoTestataRichiesta).
func emReadHead(s *xml.Sequence, service string) (emHead, error) {
	h := emHead{service: service}
	t := xml.In(s.Take("", "testataRichiesta"))
	if err := s.Err(); err != nil {
		return h, err
	}
	h.id = t.Text("", "idOperazioneComune", emPattern(`[0-9a-zA-Z]{1,30}`))
	h.sender = t.Text("", "codMittente", emPattern(`[0-9a-zA-Z ]{1,6}`))
	t.Text("", "codDestinatario", emPattern(`999999`))
	t.Text("", "operazioneRichiesta", emPattern(service))
	t.Text("", "dataOraRichiesta", emPattern(`\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})?`))
	t.Text("", "tipoOperazione", emPattern(`.`))
	h.protocol = t.OptionalText("", "protocolloComune", emPattern(`[0-9a-zA-Z\-_/]{1,20}`))
	t.OptionalText("", "dataProtocolloComune", emDay)
	t.Text("", "tipoInvio", emPattern(`.{1,20}`))
	h.since = t.OptionalText("", "dataDecorrenza", emDay)
	t.OptionalText("", "dataDefinizionePratica", emDay)
	t.OptionalText("", "nomeApplicativo", emNames)
	t.OptionalText("", "versioneApplicativo", emNames)
	t.OptionalText("", "fornitoreApplicativo", emNames)
	return h, t.End()
}

// emReadGeneralita reads what the services look at of tipoGeneralita.
func emReadGeneralita(g *xml.Sequence) (cf, surname, name string, err error) {
	if f := g.Optional("", "codiceFiscale"); f != nil {
		fs := xml.In(f)
		cf = fs.Text("", "codFiscale", emPattern(`[0-9a-zA-Z]{11,16}`))
		fs.OptionalText("", "validitaCF", emPattern(`\d{1,2}`))
		fs.OptionalText("", "dataAttribuzioneValidita", emDay)
		if err := fs.End(); err != nil {
			return "", "", "", err
		}
	}
	if surname = g.OptionalText("", "cognome", emNames); surname == "" {
		g.Text("", "senzaCognome", emPattern(`1`))
	}
	if name = g.OptionalText("", "nome", emNames); name == "" {
		g.Text("", "senzaNome", emPattern(`1`))
	}
	g.OptionalText("", "sesso", emPattern(`[MFNmfn]`))
	g.OptionalText("", "dataNascita", emDay)
	g.OptionalText("", "senzaGiorno", emPattern(`1`))
	g.OptionalText("", "senzaGiornoMese", emPattern(`1`))
	for _, rest := range []string{"luogoNascita", "soggettoAIRE", "annoEspatrio", "idSchedaSoggettoComune", "idSchedaSoggettoANPR", "note"} {
		g.Optional("", rest)
	}
	return cf, surname, name, g.End()
}

// emRead6001 reads a request in the order and with the types of its XSD.
func emRead6001(el *xml.Element) (*em6001Request, error) {
	q := &em6001Request{}
	one, two, five := emPattern(`\d`), emPattern(`\d{1,2}`), emPattern(`\d{1,5}`)
	s := xml.In(el)
	var err error
	if q.head, err = emReadHead(s, "6001"); err != nil {
		return nil, err
	}
	if l := s.Optional("", "linguaCertificato"); l != nil {
		ls := xml.In(l)
		ls.Text("", "tipoLinguaCertificato", emPattern(`[a-zA-Z]{2}`))
		for ls.OptionalText("", "tipoLinguaCertificato", emPattern(`[a-zA-Z]{2}`)) != "" {
			continue
		}
		if err := ls.End(); err != nil {
			return nil, err
		}
	}
	k := xml.In(s.Take("", "listaTipiCertificati"))
	q.kinds = []string{k.Text("", "tipoCertificato", two)}
	for v := k.OptionalText("", "tipoCertificato", two); v != ""; v = k.OptionalText("", "tipoCertificato", two) {
		q.kinds = append(q.kinds, v)
	}
	if err := errors.Join(s.Err(), k.End()); err != nil {
		return nil, err
	}
	s.Optional("", "generalitaRichiedente")
	holder := xml.In(s.Take("", "soggettoIntestatario"))
	g := xml.In(holder.Take("", "generalita"))
	if err := errors.Join(s.Err(), holder.End()); err != nil {
		return nil, err
	}
	if q.cf, q.surname, q.name, err = emReadGeneralita(g); err != nil {
		return nil, err
	}
	d := xml.In(s.Take("", "datiControllo"))
	if err := s.End(); err != nil {
		return nil, err
	}
	d.Text("", "cognomeUffAnagrafe", emNames)
	d.Text("", "nomeUffAnagrafe", emNames)
	q.applicant, q.request, q.abroad = d.Text("", "tipoRichiedente", one), d.Text("", "tipoRichiesta", one), d.Text("", "paEstera", two)
	q.emission, q.stamp, q.virtual = d.Text("", "emissione", one), d.Text("", "bollo", five), d.OptionalText("", "bolloVirtuale", one)
	q.feesFree, q.fees, q.exempt = d.OptionalText("", "esenzioneDiritti", one), d.Text("", "diritti", five), d.OptionalText("", "esenzioneBollo", two)
	q.exemptText = d.OptionalText("", "descrizioneEsenzioneBollo", func(s string) bool { return len([]rune(s)) <= 256 })
	d.Optional("", "listaAnnotazioni")
	q.force = d.OptionalText("", "forzaCertificazione", one)
	d.OptionalText("", "modalita", one)
	d.OptionalText("", "tipoFirmaElettorale", one)
	return q, d.End()
}

// place finds the place of a message in its series; it answers at once where the
// number is no number, comes behind a higher one, or has been answered before.
func (e *Emulator) place(h emHead, ko func(code, format string, args ...any) emAnswer) (series string, id int64, early *emAnswer) {
	no := func(code, text string) (string, int64, *emAnswer) { a := ko(code, "%s", text); return "", 0, &a }
	if e.far.Municipality != "" && h.sender != e.far.Municipality {
		return no("EC010", "codMittente non corrisponde al comune che rilascia")
	}
	id, err := strconv.ParseInt(h.id, 10, 64)
	if err != nil || !emNumeric.MatchString(h.id) {
		return no("EC011", "idOperazioneComune non numerico")
	}
	series = h.service + "\x00" + h.sender
	// tipoDatoTestataRichiesta: "Deve essere numerico e crescente. Se esiste in ANPR,
	// il comune riceve come esito la risposta in precedenza fornita da ANPR con lo
	// stesso ID; se non esiste ed e' inferiore all'ultimo inviato, l'elaborazione
	// termina con errore."
	done := e.mem.done[emDoneKey(series, id)]
	switch {
	case done != nil && !e.cfg.On("no-dedupe"):
		return series, id, &emAnswer{status: done.Status, raw: []byte(done.XML), kind: "text/xml; charset=utf-8"}
	case done == nil && id < e.mem.last[series]:
		return no("EC012", "idOperazioneComune inferiore all'ultimo inviato")
	}
	return series, id, nil
}

// certificate issues a certificate, or tells of one; e.mu is held.
func (e *Emulator) certificate(c *emCall, q *em6001Request, now time.Time) emAnswer {
	operation := strconv.FormatInt(e.mem.operations+1, 10)
	ko := func(code, format string, args ...any) emAnswer {
		return emSOAPKO(q.head, now, operation, emFault{code, fmt.Sprintf(format, args...)})
	}
	series, id, early := e.place(q.head, ko)
	if early != nil {
		return *early
	}
	a, issued := e.decide(q, id, now, operation, ko)
	lines := []emLine{{Done: &emDone{Series: series, ID: id, Status: a.status, XML: string(a.raw)}}}
	if issued != nil {
		issued.Key = c.r.Header.Get("X-Request-Id")
		lines = append(lines, emLine{Issued: issued})
	}
	if err := e.keep(lines...); err != nil {
		return emGovway(http.StatusServiceUnavailable, "APIUnavailable", "the answer could not be kept")
	}
	return a
}

func (e *Emulator) decide(q *em6001Request, id int64, now time.Time, operation string, ko func(string, string, ...any) emAnswer) (emAnswer, *emIssued) {
	p, found := e.registry().ByTaxCode(q.cf)
	switch {
	case q.cf == "":
		return ko("EC013", "codice fiscale dell'intestatario assente"), nil
	case !found || !strings.EqualFold(p.Surname, q.surname) || !strings.EqualFold(p.GivenName, q.name):
		return ko("EC001", "soggetto intestatario non trovato"), nil
	case !strings.Contains("123", q.applicant):
		return ko("EC014", "tipoRichiedente non previsto"), nil
	case q.request != "1" && q.request != "2":
		return ko("EC014", "tipoRichiesta non previsto"), nil
	case !strings.Contains("123", q.emission):
		return ko("EC014", "emissione non prevista"), nil
	}
	if q.request == "1" {
		switch exempt := q.exempt != "" && q.exempt != "0"; {
		case p.Status != citizens.Active:
			return ko("EC002", "soggetto intestatario non iscritto in anagrafe"), nil
		case q.stamp != "0" && q.stamp != "1600": // D.P.R. 642/1972, tariffa, art. 4
			return ko("EC015", "importo del bollo non ammesso"), nil
		case q.stamp != "0" && q.virtual == "":
			return ko("EC016", "modalita' di assolvimento del bollo assente"), nil
		case q.stamp == "0" && !exempt:
			return ko("EC017", "bollo assente senza motivo di esenzione"), nil
		case q.stamp != "0" && exempt:
			return ko("EC018", "bollo ed esenzione indicati insieme"), nil
		case q.exempt == "99" && q.exemptText == "":
			return ko("EC019", "descrizione dell'esenzione assente"), nil
		}
	}
	var issued *emIssued
	number := ""
	switch {
	case q.request == "1" && q.emission != "3": // 3 is a preview
		number = "6001" + fmt.Sprintf("%012d", len(e.mem.issued)+1)
		issued = &emIssued{ID: id, Protocol: q.head.protocol, Number: number, Subject: q.cf, At: now.UTC()}
	case q.request == "2" && q.head.protocol != "":
		for _, x := range e.mem.issued {
			if x.Protocol == q.head.protocol && x.Subject == q.cf {
				number = x.Number
			}
		}
	}
	el := func(name, v string) string {
		if v == "" {
			return ""
		}
		return "<" + name + ">" + html.EscapeString(v) + "</" + name + ">"
	}
	kinds := ""
	for _, k := range q.kinds {
		kinds += el("tipoCertificato", k)
	}
	person := "<generalita><codiceFiscale>" + el("codFiscale", p.TaxCode) + "</codiceFiscale>" + el("cognome", strings.ToUpper(p.Surname)) + el("nome", strings.ToUpper(p.GivenName)) + el("sesso", p.Sex) +
		el("dataNascita", p.Born.Format(time.DateOnly)) + "</generalita>"
	protocol := ""
	if number != "" {
		protocol = "<protocolloANPR>" + el("numeroProtocolloANPR", number) + "</protocolloANPR>"
	}
	return emEnvelope("<c:Risposta6001OK>" + emTestata(q.head, now, operation, "OK") + "<listaTipiCertificato>" + kinds + "</listaTipiCertificato><soggettoIntestatario>" + person +
		"</soggettoIntestatario>" + protocol + "<parametriRichiesta>" + el("tipoRichiedente", q.applicant) + el("tipoRichiesta", q.request) + el("paEstera", q.abroad) +
		el("emissione", q.emission) + el("bollo", q.stamp) + el("bolloVirtuale", q.virtual) + el("esenzioneDiritti", q.feesFree) + el("diritti", q.fees) +
		el("esenzioneBollo", q.exempt) + el("descrizioneEsenzioneBollo", q.exemptText) + el("forzaCertificazione", q.force) + "</parametriRichiesta></c:Risposta6001OK>"), issued
}
