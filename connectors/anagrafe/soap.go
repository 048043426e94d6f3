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
	"strings"
	"time"
	"unicode"

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
	tokenProfile  = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-x509-token-profile-1.0#X509v3"
	base64Binary  = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-soap-message-security-1.0#Base64Binary"
	exclusiveC14N = "http://www.w3.org/2001/10/xml-exc-c14n#"
	rsaSHA256     = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
	sha256Digest  = "http://www.w3.org/2001/04/xmlenc#sha256"
	messageLife   = 4 * time.Minute
)

// tag is an element with a text as the canonical form has it (Canonical XML 1.0,
// 2.3): an apostrophe stays one, unlike what encoding/xml writes.
func tag(name, text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == '\uFFFE' || r == '\uFFFF' {
			return '\uFFFD' // no character of XML
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	return "<" + name + ">" + strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "\r", "&#xD;").Replace(text) + "</" + name + ">"
}

// post signs a request and sends it; one without a key asks only.
func (c *Connector) post(ctx context.Context, to *url.URL, request, key string) (*httpclient.Response, error) {
	return c.transmit(ctx, to, request, key, key == "")
}

// transmit signs a request and sends it; safe says that it can change nothing.
func (c *Connector) transmit(ctx context.Context, to *url.URL, request, key string, safe bool) (*httpclient.Response, error) {
	s, err := c.station(ctx)
	if err != nil {
		return nil, unavailable("the station's certificate can't be had", err)
	}
	message, err := sign(s, request, c.clock.Now().Add(-behind))
	if err != nil {
		return nil, unavailable("the message can't be signed", err)
	}
	h := http.Header{"Content-Type": {"text/xml; charset=utf-8"}, "Soapaction": {`""`}, "Accept": {"text/xml"}}
	if key != "" {
		h["X-Request-Id"] = []string{key}
	}
	return c.client.Do(ctx, httpclient.Request{Method: http.MethodPost, URL: to, Safe: safe, Header: h, Body: []byte(message)})
}

// soapURL is a service's address: below the city's, or the configured one.
func (c *Connector) soapURL(inCity, configured string) (*url.URL, error) {
	if c.city {
		return c.at(inCity), nil
	}
	u, err := url.Parse(configured)
	if err == nil && u.Host == "" {
		err = fmt.Errorf("it has no host")
	}
	return u, err
}

// shipment is tipoInvio: TEST or PROD, and ANPR refuses what is not of its kind.
func (c *Connector) shipment() string {
	if c.city {
		return "TEST"
	}
	return "PROD"
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

// soapRefusal reads an answer that is no 200: nil where it is one. A SOAP fault of
// the security (wsse, wsu) is about who we are; Client and VersionMismatch are about
// what we sent (SOAP 1.1, 4.4.1). Both were refused, whatever the status: SOAP 1.1,
// 6.2 has them with 500.
func soapRefusal(service string, resp *httpclient.Response, safe bool) *fault.Error {
	if resp.Status == http.StatusOK {
		return nil
	}
	space, code := soapFault(resp.Body)
	no := func(k fault.Kind) *fault.Error {
		detail := fmt.Sprintf("service %s refused the message with %d", service, resp.Status)
		if code != "" {
			detail += " " + code
		}
		return &fault.Error{Kind: k, Sent: true, Detail: detail}
	}
	switch {
	case space == securitySpace || space == utilitySpace:
		return no(fault.Denied)
	case space == envelopeSpace && (code == "Client" || code == "VersionMismatch" || code == "MustUnderstand"):
		return no(fault.Invalid)
	}
	f := httpclient.FaultOf(resp.Status, safe, resp.Header)
	switch {
	case f == nil:
		return broken(resp.Body, fmt.Sprintf("service %s answered %d, which its contract does not have", service, resp.Status))
	case f.Kind == fault.NotFound: // of an address, never of a person
		return no(fault.Rejected)
	case f.Kind == fault.Invalid || f.Kind == fault.Denied || f.Kind == fault.Conflict:
		return no(f.Kind)
	}
	return f
}

// soapFault is a SOAP fault's code. Its prefix is read by custom: what it is bound
// to is gone once the text is read.
func soapFault(body []byte) (space, code string) {
	root, err := xml.Parse(body)
	if err != nil || root.Name != (xml.Name{Space: envelopeSpace, Local: "Envelope"}) {
		return "", ""
	}
	in := root.Child(envelopeSpace, "Body")
	if in == nil {
		return "", ""
	}
	if in = in.Child(envelopeSpace, "Fault"); in == nil {
		return "", ""
	}
	if in = in.Child("", "faultcode"); in == nil {
		return "", ""
	}
	prefix, local, ok := strings.Cut(strings.TrimSpace(in.Text), ":")
	if !ok {
		prefix, local = "", prefix
	}
	if len(local) > 40 || strings.ContainsFunc(local, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '.' }) {
		return "", ""
	}
	switch prefix {
	case "wsse":
		return securitySpace, local
	case "wsu":
		return utilitySpace, local
	}
	return envelopeSpace, local
}
