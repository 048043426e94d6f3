package seal

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// Virtual is the virtual city's seal: its files in dir are made once. Nobody
// outside trusts ca.pem; a real city names the credential of a trust service
// provider instead.
func Virtual(dir, city string, now time.Time) (Credential, error) {
	key, cert := filepath.Join(dir, "seal.key"), filepath.Join(dir, "seal.pem")
	c := Credential{
		Key:         func() ([]byte, error) { return os.ReadFile(key) },
		Certificate: func() ([]byte, error) { return os.ReadFile(cert) },
	}
	// The certificate is written last: where it stands, all stands.
	if _, err := os.Stat(cert); err == nil {
		return c, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return c, fmt.Errorf("looking for the test seal: %w", err)
	}
	if err := makeVirtual(dir, city, now); err != nil {
		return c, fmt.Errorf("making the test seal in %s: %w", filepath.Base(dir), err)
	}
	return c, nil
}

func makeVirtual(dir, city string, now time.Time) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	issuerKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	sealKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	issuer := &x509.Certificate{
		SerialNumber: number(), Subject: pkix.Name{Country: []string{"IT"}, Organization: []string{city}, CommonName: "TEST seal CA of the virtual city"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	ca, err := x509.CreateCertificate(rand.Reader, issuer, issuer, issuerKey.Public(), issuerKey)
	if err != nil {
		return err
	}
	if issuer, err = x509.ParseCertificate(ca); err != nil {
		return err
	}
	cert, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: number(), Subject: pkix.Name{Country: []string{"IT"}, Organization: []string{city}, CommonName: city + " - TEST"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(3, 0, 0),
		// ETSI EN 319 412-3: a seal's key signs and commits.
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment, BasicConstraintsValid: true,
	}, issuer, sealKey.Public(), issuerKey)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(sealKey)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name, kind string
		bytes      []byte
		mode       fs.FileMode
	}{
		{"ca.pem", "CERTIFICATE", ca, 0o644},
		{"seal.key", "PRIVATE KEY", private, 0o600},
		{"seal.pem", "CERTIFICATE", cert, 0o644},
	} {
		path := filepath.Join(dir, f.name)
		if err := os.WriteFile(path+".new", pem.EncodeToMemory(&pem.Block{Type: f.kind, Bytes: f.bytes}), f.mode); err != nil {
			return err
		}
		if err := os.Rename(path+".new", path); err != nil {
			return err
		}
	}
	return nil
}

func number() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b[:])
}
