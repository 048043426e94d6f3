package seal

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
)

// The object identifiers of RFC 5652, RFC 5035 and RFC 5754.
const (
	oidData                 = "\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01"
	oidSignedData           = "\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02"
	oidContentType          = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x03"
	oidMessageDigest        = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x04"
	oidSigningCertificateV2 = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x02\x2f"
	oidSHA256               = "\x60\x86\x48\x01\x65\x03\x04\x02\x01"
	oidRSA                  = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01"
	oidECDSAWithSHA256      = "\x2a\x86\x48\xce\x3d\x04\x03\x02"
)

const (
	tagSequence = 0x30
	tagSet      = 0x31
	tagOID      = 0x06
	tagOctets   = 0x04
	tagContext0 = 0xa0
	tagContext4 = 0xa4
)

// der writes one element: tag, length, content.
func der(tag byte, content ...[]byte) []byte {
	body := bytes.Join(content, nil)
	b, err := asn1.Marshal(asn1.RawValue{Class: int(tag >> 6), Tag: int(tag & 0x1f), IsCompound: tag&0x20 != 0, Bytes: body})
	if err != nil {
		panic(err) // a RawValue of known tags always marshals
	}
	return b
}

func oid(s string) []byte { return der(tagOID, []byte(s)) }

func integer(n byte) []byte { return []byte{2, 1, n} }

// signedAttributes are those that PAdES-B-B asks for (ETSI EN 319 142-1, table 1):
// content type, digest and the signer's certificate, and no signing time.
func signedAttributes(digest [32]byte, cert *x509.Certificate) []byte {
	hash := sha256.Sum256(cert.Raw)
	// RFC 5035: SHA-256 is the default hash algorithm and is left out.
	id := der(tagSequence, der(tagOctets, hash[:]),
		der(tagSequence, der(tagSequence, der(tagContext4, cert.RawIssuer)), serial(cert)))
	attributes := [][]byte{
		der(tagSequence, oid(oidContentType), der(tagSet, oid(oidData))),
		der(tagSequence, oid(oidMessageDigest), der(tagSet, der(tagOctets, digest[:]))),
		der(tagSequence, oid(oidSigningCertificateV2), der(tagSet, der(tagSequence, der(tagSequence, id)))),
	}
	slices.SortFunc(attributes, bytes.Compare) // DER of a SET OF
	return bytes.Join(attributes, nil)
}

func serial(c *x509.Certificate) []byte {
	b, err := asn1.Marshal(c.SerialNumber)
	if err != nil {
		panic(err) // an integer always marshals
	}
	return b
}

// sign makes the signature over the attributes in their SET form (RFC 5652, 5.4).
func sign(key crypto.Signer, attributes []byte) ([]byte, error) {
	sum := sha256.Sum256(der(tagSet, attributes))
	s, err := key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("signing with the seal's key: %w", err)
	}
	return s, nil
}

// signatureRoom is the most bytes that a signature of the key takes.
func signatureRoom(key crypto.Signer) (int, error) {
	switch k := key.Public().(type) {
	case *rsa.PublicKey:
		if k.Size() < 256 {
			return 0, errors.New("the seal's RSA key has less than 2048 bits")
		}
		return k.Size(), nil
	case *ecdsa.PublicKey:
		return 2*((k.Params().BitSize+7)/8+1) + 8, nil
	}
	return 0, errors.New("the seal's key is neither RSA nor ECDSA")
}

// encode writes the detached SignedData (RFC 5652, 5.1).
func encode(chain []*x509.Certificate, attributes, signature []byte) []byte {
	algorithm := der(tagSequence, oid(oidRSA), []byte{5, 0})
	if _, ec := chain[0].PublicKey.(*ecdsa.PublicKey); ec {
		algorithm = der(tagSequence, oid(oidECDSAWithSHA256))
	}
	sha := der(tagSequence, oid(oidSHA256))
	certificates := make([][]byte, len(chain))
	for i, c := range chain {
		certificates[i] = c.Raw
	}
	slices.SortFunc(certificates, bytes.Compare)
	signer := der(tagSequence, integer(1),
		der(tagSequence, chain[0].RawIssuer, serial(chain[0])),
		sha, der(tagContext0, attributes), algorithm, der(tagOctets, signature))
	data := der(tagSequence, integer(1), der(tagSet, sha),
		der(tagSequence, oid(oidData)), der(tagContext0, certificates...), der(tagSet, signer))
	return der(tagSequence, oid(oidSignedData), der(tagContext0, data))
}
