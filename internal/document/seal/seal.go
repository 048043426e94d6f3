// Package seal makes the electronic seal of a legal person (Regulation (EU)
// 910/2014, art. 35) over a document: a detached CAdES signature for PAdES-B-B.
package seal

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// Sealer is where the city's seal is: in this process, in an HSM, at a trust
// service provider.
type Sealer interface {
	// Ready picks the certificate that seals now.
	Ready(ctx context.Context) (Hand, error)
}

// Hand is one certificate and its key.
type Hand interface {
	// Size is the most bytes that Seal's CMS takes.
	Size() int
	// Seal signs a SHA-256.
	Seal(ctx context.Context, digest [32]byte) ([]byte, error)
}

// Credential names a key and its certificate with the chain below the root, in
// PEM. They are read at each use, so that a rotated pair counts at once.
type Credential struct {
	Key, Certificate func() ([]byte, error)
}

// Software seals with keys that the process reads.
type Software struct {
	now         func() time.Time
	credentials []Credential
}

// NewSoftware takes one or more credentials. While one replaces another both are
// named: of those that are valid, the newest seals.
func NewSoftware(now func() time.Time, credentials ...Credential) *Software {
	return &Software{now, credentials}
}

type hand struct {
	key   crypto.Signer
	chain []*x509.Certificate
	size  int
}

// Ready implements Sealer.
func (s *Software) Ready(context.Context) (Hand, error) {
	now := s.now()
	var best *hand
	var problems []error
	for i, c := range s.credentials {
		h, err := c.read()
		if err == nil && (now.Before(h.chain[0].NotBefore) || now.After(h.chain[0].NotAfter)) {
			err = fmt.Errorf("its certificate is valid from %s to %s only", h.chain[0].NotBefore.Format(time.DateOnly), h.chain[0].NotAfter.Format(time.DateOnly))
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("credential %d: %w", i+1, err))
			continue
		}
		if best == nil || h.chain[0].NotBefore.After(best.chain[0].NotBefore) {
			best = h
		}
	}
	if best == nil {
		return nil, fmt.Errorf("choosing the seal's certificate: none of %d can seal; name a valid pair: %w", len(s.credentials), errors.Join(problems...))
	}
	return best, nil
}

func (c Credential) read() (*hand, error) {
	b, err := c.Certificate()
	if err != nil {
		return nil, fmt.Errorf("reading its certificate: %w", err)
	}
	h := &hand{}
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("reading its certificate: %w", err)
		}
		h.chain = append(h.chain, cert)
	}
	if len(h.chain) == 0 {
		return nil, errors.New("reading its certificate: no PEM block")
	}
	if b, err = c.Key(); err != nil {
		return nil, fmt.Errorf("reading its key: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, errors.New("reading its key: no PEM block")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("reading its key: it is not PKCS #8; openssl pkcs8 -topk8 -nodes writes it so")
	}
	var ok bool
	if h.key, ok = key.(crypto.Signer); !ok {
		return nil, errors.New("reading its key: it can't sign")
	}
	public, ok := h.key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(h.chain[0].PublicKey) {
		return nil, errors.New("the key is not that of the first certificate")
	}
	room, err := signatureRoom(h.key)
	if err != nil {
		return nil, err
	}
	h.size = len(encode(h.chain, signedAttributes([32]byte{}, h.chain[0]), make([]byte, room)))
	return h, nil
}

func (h *hand) Size() int { return h.size }

func (h *hand) Seal(_ context.Context, digest [32]byte) ([]byte, error) {
	attributes := signedAttributes(digest, h.chain[0])
	signature, err := sign(h.key, attributes)
	if err != nil {
		return nil, err
	}
	return encode(h.chain, attributes, signature), nil
}
