// Package jose signs the JSON Web Tokens that the national platforms ask for. It
// owns the library; what is read and verified is read with another one.
package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/json"
	"fmt"

	"github.com/go-jose/go-jose/v4"
)

// Header of a token. alg follows from the key: RS256 for RSA, ES256 for P-256.
type Header struct {
	Type string // typ
	KID  string // left out where the key itself is embedded
	JWK  bool   // the public key stands in the header (RFC 9449, DPoP)
}

// Sign makes a JWS in the compact form.
func Sign(key crypto.Signer, h Header, claims map[string]any) (string, error) {
	var alg jose.SignatureAlgorithm
	switch key.(type) {
	case *rsa.PrivateKey:
		alg = jose.RS256
	case *ecdsa.PrivateKey:
		alg = jose.ES256
	default:
		return "", fmt.Errorf("signing a token: no algorithm for a %T", key)
	}
	opts := (&jose.SignerOptions{EmbedJWK: h.JWK}).WithType(jose.ContentType(h.Type))
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: h.KID}}, opts)
	if err != nil {
		return "", fmt.Errorf("signing a token: %w", err)
	}
	b, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("signing a token: %w", err)
	}
	s, err := signer.Sign(b)
	if err != nil {
		return "", fmt.Errorf("signing a token: %w", err)
	}
	return s.CompactSerialize()
}

// Public is a public key as a JWK.
func Public(key crypto.PublicKey, kid string) (json.RawMessage, error) {
	b, err := jose.JSONWebKey{Key: key, KeyID: kid, Use: "sig"}.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("writing a public key: %w", err)
	}
	return b, nil
}

// Thumbprint is the key's own name (RFC 7638, SHA-256).
func Thumbprint(key crypto.PublicKey) ([]byte, error) {
	k := jose.JSONWebKey{Key: key}
	b, err := k.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("naming a key: %w", err)
	}
	return b, nil
}
