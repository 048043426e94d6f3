package pagopa

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// The payment service provider of the virtual city, which exists nowhere.
const (
	emPSPName = "Banca della città virtuale"
	emPSPCode = "99999999990"
)

const emSignature = "http://www.w3.org/2000/09/xmldsig#"

// stampOf sells a marca da bollo digitale for a document: a marcaDaBollo
// (MarcaDaBollo.xsd) with an enveloped signature. The text is written in the
// form that exclusive canonicalisation gives it, so that what is signed is what
// stands there.
func (e *Emulator) stampOf(hash string, cents int, pay *emPayment) ([]byte, error) {
	sum := sha256.Sum256([]byte(pay.ReceiptID + hash))
	iubd := "01" + fmt.Sprintf("%015d", new(big.Int).Mod(new(big.Int).SetBytes(sum[:8]), big.NewInt(1_000_000_000_000_000)))
	open := `<marcaDaBollo xmlns="http://www.agenziaentrate.gov.it/2014/MarcaDaBollo">`
	inside := "<PSP>" + emTag("CodiceFiscale", emPSPCode) + emTag("Denominazione", emPSPName) + "</PSP>" + emTag("IUBD", iubd) +
		emTag("OraAcquisto", pay.At.In(e.cfg.Zone).Format("2006-01-02T15:04:05-07:00")) + emTag("Importo", emAmount(cents)) + emTag("TipoBollo", "01") +
		`<ImprontaDocumento><DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"></DigestMethod>` +
		`<ds:DigestValue xmlns:ds="` + emSignature + `">` + hash + `</ds:DigestValue></ImprontaDocumento>`
	end := "</marcaDaBollo>"
	whole := sha256.Sum256([]byte(open + inside + end))

	const exclusive = "http://www.w3.org/2001/10/xml-exc-c14n#"
	alg := func(name, value string) string {
		return "<ds:" + name + ` Algorithm="` + value + `"></ds:` + name + ">"
	}
	info := alg("CanonicalizationMethod", exclusive) + alg("SignatureMethod", "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256") +
		`<ds:Reference URI=""><ds:Transforms>` + alg("Transform", emSignature+"enveloped-signature") + alg("Transform", exclusive) + "</ds:Transforms>" +
		alg("DigestMethod", "http://www.w3.org/2001/04/xmlenc#sha256") + "<ds:DigestValue>" + base64.StdEncoding.EncodeToString(whole[:]) + "</ds:DigestValue></ds:Reference>"
	digest := sha256.Sum256([]byte(`<ds:SignedInfo xmlns:ds="` + emSignature + `">` + info + "</ds:SignedInfo>"))
	value, err := rsa.SignPKCS1v15(rand.Reader, e.psp, crypto.SHA256, digest[:])
	if err != nil {
		return nil, fmt.Errorf("signing a stamp: %w", err)
	}
	cert, err := e.pspCertificate(pay.At)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n" + open + inside)
	b.WriteString(`<ds:Signature xmlns:ds="` + emSignature + `"><ds:SignedInfo>` + info + "</ds:SignedInfo><ds:SignatureValue>" +
		base64.StdEncoding.EncodeToString(value) + "</ds:SignatureValue><ds:KeyInfo><ds:X509Data><ds:X509Certificate>" +
		base64.StdEncoding.EncodeToString(cert) + "</ds:X509Certificate></ds:X509Data></ds:KeyInfo></ds:Signature>" + end)
	return []byte(b.String()), nil
}

// pspCertificate is the provider's certificate, signed by itself.
func (e *Emulator) pspCertificate(at time.Time) ([]byte, error) {
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: emPSPName, Organization: []string{emPSPName}},
		NotBefore: at.Add(-24 * time.Hour), NotAfter: at.AddDate(10, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, e.psp.Public(), e.psp)
	if err != nil {
		return nil, fmt.Errorf("making the provider's certificate: %w", err)
	}
	return der, nil
}
