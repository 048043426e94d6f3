package anagrafe

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/dime-bus/dime/internal/httpclient"
	"github.com/dime-bus/dime/internal/jose"
)

// keys are what messages are signed with.
type keys struct {
	mu         sync.Mutex
	registered bool // in the virtual city
}

// signing is a private key and the kid under which PDND knows its public half.
type signing struct {
	kid string
	key *rsa.PrivateKey
}

// station is what a SOAP message is signed with.
type station struct {
	key  *rsa.PrivateKey
	cert []byte // DER
}

// signer is the key that signs now. A secret is read at each use, so that an
// exchanged file counts at once; where the first can't be read, the next one signs.
func (c *Connector) signer(ctx context.Context) (signing, error) {
	if c.city {
		return c.cityKey(ctx)
	}
	errs := []error{errors.New("no signing key is configured: name `keys`, each a kid and a secret")}
	for _, k := range c.cfg.Keys {
		key, err := readKey(k.Secret.Resolve)
		if err == nil {
			return signing{k.KID, key}, nil
		}
		errs = append(errs, fmt.Errorf("key %q: %w", k.KID, err))
	}
	return signing{}, errors.Join(errs...)
}

func readKey(resolve func() (string, error)) (*rsa.PrivateKey, error) {
	text, err := resolve()
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("the secret is no key in PEM")
	}
	if k, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return k, nil
	}
	any8, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the secret is no RSA key in PKCS #1 or #8")
	}
	k, ok := any8.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("the secret is no RSA key")
	}
	return k, nil
}

// signerless is what a call ends with that can't be signed.
func signerless(err error) error {
	return unavailable("the signing key can't be had", err)
}

// station is the certificate that signs SOAP messages now: the first pair that can
// be read, belongs together and is valid today, so that a pair may be laid down one
// file after the other, and a certificate may run out while the next one is there.
func (c *Connector) station(ctx context.Context) (station, error) {
	if c.city {
		k, err := c.cityKey(ctx)
		if err != nil {
			return station{}, err
		}
		der, err := c.cityCertificate(ctx, k.key)
		return station{k.key, der}, err
	}
	errs := []error{errors.New("no station certificate is configured: name `certificates`")}
	for i, p := range c.cfg.Certificates {
		s, err := readStation(p, c.clock.Now())
		if err == nil {
			return s, nil
		}
		errs = append(errs, fmt.Errorf("certificate %d: %w", i+1, err))
	}
	return station{}, errors.Join(errs...)
}

func readStation(p Certificate, now time.Time) (station, error) {
	key, err := readKey(p.Key.Resolve)
	if err != nil {
		return station{}, err
	}
	text, err := p.Certificate.Resolve()
	if err != nil {
		return station{}, err
	}
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" {
		return station{}, errors.New("the certificate is not in PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	switch {
	case err != nil:
		return station{}, errors.New("the certificate can't be read")
	case !key.PublicKey.Equal(cert.PublicKey):
		return station{}, errors.New("the certificate is not the key's")
	case now.Before(cert.NotBefore) || now.After(cert.NotAfter):
		return station{}, errors.New("the certificate is not valid today")
	}
	return station{key, block.Bytes}, nil
}

const keyRow, certificateRow = "city/key", "city/certificate"

// cityKey is a key of the virtual city: made once, kept, and registered at the
// back office as an administrator does on the real platform.
func (c *Connector) cityKey(ctx context.Context) (signing, error) {
	c.keys.mu.Lock()
	defer c.keys.mu.Unlock()
	var der []byte
	err := c.table.Update(ctx, keyRow, func(old []byte) ([]byte, error) {
		if der = old; old != nil {
			return old, nil
		}
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return nil, err
		}
		der = x509.MarshalPKCS1PrivateKey(k)
		return der, nil
	})
	if err != nil {
		return signing{}, fmt.Errorf("keeping the key of the virtual city: %w", err)
	}
	k, err := x509.ParsePKCS1PrivateKey(der)
	if err != nil {
		return signing{}, fmt.Errorf("reading the key of the virtual city: %w", err)
	}
	thumb, err := jose.Thumbprint(k.Public())
	if err != nil {
		return signing{}, err
	}
	s := signing{base64.RawURLEncoding.EncodeToString(thumb), k}
	if c.keys.registered {
		return s, nil
	}
	jwk, err := jose.Public(k.Public(), s.kid)
	if err != nil {
		return signing{}, err
	}
	body, err := json.Marshal(map[string]any{"kid": s.kid, "jwk": jwk, "client_id": c.cfg.ClientID})
	if err != nil {
		return signing{}, err
	}
	if err := c.register(ctx, "/back-office/keys", "application/json", body); err != nil {
		return signing{}, err
	}
	cert, err := c.cityCertificate(ctx, k)
	if err != nil {
		return signing{}, err
	}
	if err := c.register(ctx, "/back-office/certificates", "application/x-pem-file", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})); err != nil {
		return signing{}, err
	}
	c.keys.registered = true
	return s, nil
}

func (c *Connector) cityCertificate(ctx context.Context, key *rsa.PrivateKey) (der []byte, err error) {
	err = c.table.Update(ctx, certificateRow, func(old []byte) ([]byte, error) {
		if der = old; old != nil {
			return old, nil
		}
		now := c.clock.Now()
		t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Postazione del Comune " + c.cfg.Municipality},
			NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature}
		der, err = x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
		return der, err
	})
	if err != nil {
		return nil, fmt.Errorf("keeping the certificate of the virtual city: %w", err)
	}
	return der, nil
}

// forget lets the next call register again: the city may have lost its memory.
func (c *Connector) forget() {
	c.unregister()
	c.vouchers.drop()
}

func (c *Connector) unregister() {
	c.keys.mu.Lock()
	defer c.keys.mu.Unlock()
	c.keys.registered = false
}

func (c *Connector) register(ctx context.Context, path, kind string, body []byte) error {
	resp, err := c.client.Do(ctx, httpclient.Request{Method: http.MethodPost, URL: c.at(path), Safe: true, Header: http.Header{"Content-Type": {kind}}, Body: body})
	if err != nil {
		return err
	}
	if resp.Status > 299 {
		return unavailable(fmt.Sprintf("the virtual city's back office answered %d", resp.Status), nil)
	}
	return nil
}

// at is an address below the base.
func (c *Connector) at(path string) *url.URL {
	u := *c.base
	u.Path = strings.TrimSuffix(u.Path, "/") + path
	return &u
}
