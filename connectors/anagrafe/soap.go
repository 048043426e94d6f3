package anagrafe

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	stdxml "encoding/xml"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/httpclient"
	"github.com/dime-bus/dime/internal/xml"
)

// The message security is assumed: WS-Security 1.1, X.509 Certificate Token
// Profile, Timestamp and Body signed. The documents' fragments are written in the
// form that exclusive canonicalisation gives them, so that the text that is hashed
// is the text that is sent.
const (
	envelopeSpace = "http://schemas.xmlsoap.org/soap/envelope/"
	securitySpace = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
	utilitySpace  = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
	serviceSpace  = "http://sogei.it/ANPR/6001certificazione"
	tokenProfile  = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-x509-token-profile-1.0#X509v3"
	base64Binary  = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-soap-message-security-1.0#Base64Binary"
	exclusiveC14N = "http://www.w3.org/2001/10/xml-exc-c14n#"
	rsaSHA256     = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
	sha256Digest  = "http://www.w3.org/2001/04/xmlenc#sha256"
	messageLife   = 4 * time.Minute
	stampCents    = "1600"
)

// certificateKind is tipoCertificato of the register's table of certificates; the
// numbers are assumed.
func certificateKind(kind string) string {
	return map[string]string{"residence": "5", "civil-status": "7", "family": "8"}[kind]
}

func tag(name, text string) string {
	var b strings.Builder
	_ = stdxml.EscapeText(&b, []byte(text)) // a strings.Builder takes all
	return "<" + name + ">" + b.String() + "</" + name + ">"
}

// certify has ANPR issue the certificate of a draft, once: it is asked for under a
// protocolloComune made of the draft, and looked for under it first.
func (c *Connector) certify(ctx context.Context, call connectors.Call, draft string, p prepared) error {
	protocol := protocolOf(draft)
	if number, err := c.ask6001(ctx, call, protocol, p, true); err != nil || number != "" {
		return err
	}
	number, err := c.ask6001(ctx, call, protocol, p, false)
	if err == nil && number == "" {
		return broken(nil, "ANPR issued a certificate and gave it no number")
	}
	return err
}

// protocolOf is at most twenty letters and digits, always the same for a draft.
func protocolOf(draft string) string {
	sum := sha256.Sum256([]byte("protocolloComune\x00" + draft))
	return fmt.Sprintf("%X", sum[:10])
}

// ask6001 sends emissioneCertificato: look asks for what was issued under the
// protocol, without issuing anything. It returns numeroProtocolloANPR, "" for none.
func (c *Connector) ask6001(ctx context.Context, call connectors.Call, protocol string, p prepared, look bool) (number string, err error) {
	err = c.numbers.Next(ctx, c.desc.Name+"-6001-"+c.cfg.Municipality, c.clock.Now().UnixMilli(), func(ctx context.Context, n int64) error {
		s, err := c.station(ctx)
		if err != nil {
			return unavailable("the station's certificate can't be had", err)
		}
		body := c.request6001(n, protocol, p, look)
		message, err := sign(s, body, c.clock.Now().Add(-behind))
		if err != nil {
			return unavailable("the message can't be signed", err)
		}
		to, err := c.soapURL()
		if err != nil {
			return unavailable("`soap_url` is no address", err)
		}
		h := http.Header{"Content-Type": {"text/xml; charset=utf-8"}, "Soapaction": {`""`}, "Accept": {"text/xml"}}
		if !look {
			h["X-Request-Id"] = []string{call.Key}
		}
		resp, err := c.client.Do(ctx, httpclient.Request{Method: http.MethodPost, URL: to, Safe: look, Header: h, Body: []byte(message)})
		if err != nil {
			return err
		}
		number, err = c.read6001(resp, look)
		return err
	})
	return number, err
}

func (c *Connector) soapURL() (*url.URL, error) {
	if c.city {
		return c.at("/soap/6001"), nil
	}
	u, err := url.Parse(c.cfg.SoapURL)
	if err == nil && u.Host == "" {
		err = fmt.Errorf("it has no host")
	}
	return u, err
}

// request6001 is Richiesta6001 (6001certificazione.xsd), in its canonical form.
func (c *Connector) request6001(n int64, protocol string, p prepared, look bool) string {
	kind, stamp, virtual, exempt, why := "1", stampCents, tag("bolloVirtuale", "1"), "", ""
	if look {
		kind = "2"
	}
	if p.Exemption != "" {
		stamp, virtual, exempt, why = "0", "", tag("esenzioneBollo", "99"), tag("descrizioneEsenzioneBollo", "D.P.R. 642/1972, tab. B: "+p.Exemption)
	}
	return `<c:Richiesta6001 xmlns:c="` + serviceSpace + `"><testataRichiesta>` + tag("idOperazioneComune", strconv.FormatInt(n, 10)) +
		tag("codMittente", c.cfg.Municipality) + tag("codDestinatario", "999999") + tag("operazioneRichiesta", "6001") +
		tag("dataOraRichiesta", c.clock.Now().UTC().Format("2006-01-02T15:04:05Z")) + tag("tipoOperazione", "C") + tag("protocolloComune", protocol) +
		tag("tipoInvio", "TEST") + tag("nomeApplicativo", "Dime") + "</testataRichiesta>" +
		"<listaTipiCertificati>" + tag("tipoCertificato", certificateKind(p.Kind)) + "</listaTipiCertificati>" +
		"<soggettoIntestatario><generalita><codiceFiscale>" + tag("codFiscale", p.Holder) + "</codiceFiscale>" + tag("cognome", strings.ToUpper(p.Surname)) + tag("nome", strings.ToUpper(p.Given)) +
		"</generalita></soggettoIntestatario>" +
		"<datiControllo>" + tag("cognomeUffAnagrafe", c.cfg.Officer.Surname) + tag("nomeUffAnagrafe", c.cfg.Officer.Name) + tag("tipoRichiedente", "2") + tag("tipoRichiesta", kind) +
		tag("paEstera", "0") + tag("emissione", "1") + tag("bollo", stamp) + virtual + tag("diritti", "0") + exempt + why + "</datiControllo></c:Richiesta6001>"
}

// sign puts a request into an envelope whose Timestamp and Body are signed.
func sign(s station, request string, now time.Time) (string, error) {
	body := `<soapenv:Body xmlns:soapenv="` + envelopeSpace + `" xmlns:wsu="` + utilitySpace + `" wsu:Id="body">` + request + `</soapenv:Body>`
	stamp := `<wsu:Timestamp xmlns:wsu="` + utilitySpace + `" wsu:Id="timestamp">` + tag("wsu:Created", now.UTC().Format("2006-01-02T15:04:05Z")) +
		tag("wsu:Expires", now.Add(messageLife).UTC().Format("2006-01-02T15:04:05Z")) + "</wsu:Timestamp>"
	alg := func(name, value string) string {
		return "<ds:" + name + ` Algorithm="` + value + `"></ds:` + name + ">"
	}
	reference := func(id, text string) string {
		sum := sha256.Sum256([]byte(text))
		return `<ds:Reference URI="#` + id + `"><ds:Transforms>` + alg("Transform", exclusiveC14N) + "</ds:Transforms>" + alg("DigestMethod", sha256Digest) +
			"<ds:DigestValue>" + base64.StdEncoding.EncodeToString(sum[:]) + "</ds:DigestValue></ds:Reference>"
	}
	info := `<ds:SignedInfo xmlns:ds="` + signatureSpace + `">` + alg("CanonicalizationMethod", exclusiveC14N) + alg("SignatureMethod", rsaSHA256) +
		reference("timestamp", stamp) + reference("body", body) + "</ds:SignedInfo>"
	sum := sha256.Sum256([]byte(info))
	value, err := rsa.SignPKCS1v15(rand.Reader, s.key, crypto.SHA256, sum[:])
	if err != nil {
		return "", fmt.Errorf("signing a SOAP message: %w", err)
	}
	security := `<wsse:Security xmlns:wsse="` + securitySpace + `" soapenv:mustUnderstand="1">` +
		`<wsse:BinarySecurityToken xmlns:wsu="` + utilitySpace + `" EncodingType="` + base64Binary + `" ValueType="` + tokenProfile + `" wsu:Id="token">` + base64.StdEncoding.EncodeToString(s.cert) + "</wsse:BinarySecurityToken>" +
		stamp + `<ds:Signature xmlns:ds="` + signatureSpace + `">` + info + "<ds:SignatureValue>" + base64.StdEncoding.EncodeToString(value) + "</ds:SignatureValue><ds:KeyInfo>" +
		`<wsse:SecurityTokenReference><wsse:Reference URI="#token" ValueType="` + tokenProfile + `"></wsse:Reference></wsse:SecurityTokenReference></ds:KeyInfo></ds:Signature></wsse:Security>`
	return `<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<soapenv:Envelope xmlns:soapenv="` + envelopeSpace + `"><soapenv:Header>` + security + "</soapenv:Header>" + body + "</soapenv:Envelope>", nil
}

// read6001 reads Risposta6001: the certificate's number, or why there is none.
func (c *Connector) read6001(resp *httpclient.Response, look bool) (string, error) {
	sent := !look
	if resp.Status != http.StatusOK {
		if f := httpclient.FaultOf(resp.Status, look, resp.Header); f != nil && (f.Kind.Row().Transient || f.Kind == fault.Unknown) {
			return "", f
		}
		return "", &fault.Error{Kind: fault.Denied, Sent: true, Detail: fmt.Sprintf("service 6001 refused the message with %d", resp.Status)}
	}
	root, err := xml.Parse(resp.Body)
	if err != nil {
		return "", broken(resp.Body, "service 6001 answered no XML that can be read")
	}
	var answer *xml.Element
	if root.Name == (xml.Name{Space: envelopeSpace, Local: "Envelope"}) {
		if body := root.Child(envelopeSpace, "Body"); body != nil && len(body.Children) == 1 {
			answer = body.Children[0]
		}
	}
	if answer == nil || answer.Name != (xml.Name{Space: serviceSpace, Local: "Risposta6001"}) {
		return "", broken(resp.Body, "service 6001 answered no Risposta6001")
	}
	text := func(e *xml.Element, path ...string) string {
		for _, local := range path {
			if e == nil {
				return ""
			}
			e = e.Child("", local)
		}
		if e == nil {
			return ""
		}
		return strings.TrimSpace(e.Text)
	}
	if ok := answer.Child(serviceSpace, "Risposta6001OK"); ok != nil {
		if text(ok, "testataRisposta", "esitoOperazione") != "OK" {
			return "", broken(resp.Body, "service 6001 says OK and does not")
		}
		return text(ok, "protocolloANPR", "numeroProtocolloANPR"), nil
	}
	ko := answer.Child(serviceSpace, "Risposta6001KO")
	if ko == nil {
		return "", broken(resp.Body, "service 6001 answered neither OK nor KO")
	}
	code := text(ko, "listaErrori", "errore", "codiceErroreAnomalia")
	if code == "EC001" {
		return "", &fault.Error{Kind: fault.NotFound, Sent: sent, Detail: "service 6001 does not know the holder"}
	}
	return "", &fault.Error{Kind: fault.Rejected, Name: "refused", Sent: true, Detail: fmt.Sprintf("ANPR does not issue the certificate: %.10s", code)}
}
