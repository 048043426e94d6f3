// Package signature verifies XML signatures that are enveloped in the document
// which they sign (XML Signature Syntax and Processing, 2nd edition). RSA and
// ECDSA with SHA-256 or stronger only; one reference, to the whole document or to
// its root's ID; the certificate stands in KeyInfo.
package signature

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/beevik/etree"
	roundtrip "github.com/mattermost/xml-roundtrip-validator"
	dsig "github.com/russellhaering/goxmldsig"

	"github.com/dime-bus/dime/internal/xml"
)

// Space is XML Signature's namespace.
const Space = "http://www.w3.org/2000/09/xmldsig#"

// Trust says whose signatures count.
type Trust struct {
	// Roots that the signer's certificate must lead to; nil takes any certificate:
	// then the signature tells that the document is whole, not whose it is.
	Roots *x509.CertPool
	At    time.Time // when the certificate must have been valid
	ID    string    // the attribute that a reference names: "ID", "Id"
}

// Signed is a document whose signature holds.
type Signed struct {
	Root        *xml.Element // as it was signed, without the signature: nothing else of the document counts
	Certificate *x509.Certificate
}

// strong are the algorithms that a signature may name, by the element that does.
func strong(method, digest string) bool {
	switch method {
	case dsig.RSASHA256SignatureMethod, dsig.RSASHA384SignatureMethod, dsig.RSASHA512SignatureMethod,
		dsig.ECDSASHA256SignatureMethod, dsig.ECDSASHA384SignatureMethod, dsig.ECDSASHA512SignatureMethod:
	default:
		return false
	}
	switch digest {
	case "http://www.w3.org/2001/04/xmlenc#sha256", "http://www.w3.org/2001/04/xmldsig-more#sha384", "http://www.w3.org/2001/04/xmlenc#sha512":
		return true
	}
	return false
}

// Verify checks the signature that is a child of the root. Errors say what is
// wrong and hold nothing of the document.
func Verify(b []byte, trust Trust) (*Signed, error) {
	root, err := xml.Parse(b)
	if err != nil {
		return nil, err
	}
	sig, err := shape(root, trust.ID)
	if err != nil {
		return nil, fmt.Errorf("verifying the signature: %w", err)
	}
	// What the parser that verifies reads must be what the one that signs wrote.
	if err := roundtrip.Validate(bytes.NewReader(b)); err != nil {
		return nil, errors.New("verifying the signature: the document does not survive being read and written")
	}
	signer, others, err := certificates(sig)
	if err != nil {
		return nil, fmt.Errorf("verifying the signature: %w", err)
	}
	if trust.Roots != nil {
		if _, err := signer.Verify(x509.VerifyOptions{Roots: trust.Roots, Intermediates: others, CurrentTime: trust.At, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
			return nil, fmt.Errorf("verifying the signer's certificate: %w", err)
		}
	}
	doc := etree.NewDocument()
	if err := doc.ReadFromBytes(b); err != nil {
		return nil, errors.New("verifying the signature: the document can't be read")
	}
	ctx := dsig.NewDefaultValidationContext(&dsig.MemoryX509CertificateStore{Roots: []*x509.Certificate{signer}})
	ctx.Clock = dsig.NewFakeClockAt(trust.At)
	if trust.ID != "" {
		ctx.IdAttribute = trust.ID
	}
	signed, err := ctx.Validate(doc.Root())
	if err != nil {
		return nil, fmt.Errorf("verifying the signature: %w", err)
	}
	out := etree.NewDocumentWithRoot(signed)
	text, err := out.WriteToBytes()
	if err != nil {
		return nil, fmt.Errorf("writing the signed document: %w", err)
	}
	element, err := xml.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("reading the signed document: %w", err)
	}
	return &Signed{Root: element, Certificate: signer}, nil
}

// shape holds the signature to the one form that is understood.
func shape(root *xml.Element, id string) (*xml.Element, error) {
	var found []*xml.Element
	var walk func(e *xml.Element)
	walk = func(e *xml.Element) {
		if e.Name == (xml.Name{Space: Space, Local: "Signature"}) {
			found = append(found, e)
		}
		for _, c := range e.Children {
			walk(c)
		}
	}
	walk(root)
	sig := root.Child(Space, "Signature")
	if len(found) != 1 || sig == nil {
		return nil, fmt.Errorf("the root must hold one signature and no other be in the document, there are %d", len(found))
	}
	info := sig.Child(Space, "SignedInfo")
	var refs []*xml.Element
	if info != nil {
		for _, c := range info.Children {
			if c.Name == (xml.Name{Space: Space, Local: "Reference"}) {
				refs = append(refs, c)
			}
		}
	}
	if len(refs) != 1 {
		return nil, fmt.Errorf("it must have one reference, it has %d", len(refs))
	}
	if uri := refs[0].Attr("URI"); uri != "" && (id == "" || !strings.HasPrefix(uri, "#") || uri[1:] != root.Attr(id)) {
		return nil, errors.New("its reference is not to the document")
	}
	method, digest := info.Child(Space, "SignatureMethod"), refs[0].Child(Space, "DigestMethod")
	if method == nil || digest == nil || !strong(method.Attr("Algorithm"), digest.Attr("Algorithm")) {
		return nil, errors.New("its algorithms are not RSA or ECDSA with SHA-256 or stronger")
	}
	return sig, nil
}

func certificates(sig *xml.Element) (*x509.Certificate, *x509.CertPool, error) {
	data := sig.Child(Space, "KeyInfo").Child(Space, "X509Data")
	if data == nil {
		return nil, nil, errors.New("it holds no certificate")
	}
	var signer *x509.Certificate
	others := x509.NewCertPool()
	for _, c := range data.Children {
		if c.Name.Local != "X509Certificate" {
			continue
		}
		der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(c.Text), ""))
		if err != nil {
			return nil, nil, errors.New("its certificate is not base64")
		}
		cert, err := x509.ParseCertificate(der)
		switch {
		case err != nil:
			return nil, nil, errors.New("its certificate can't be read")
		case signer == nil:
			signer = cert // xmldsig 4.4.4 leaves the order open; the signer's first is what all write
		default:
			others.AddCert(cert)
		}
	}
	if signer == nil {
		return nil, nil, errors.New("it holds no certificate")
	}
	return signer, others, nil
}
