package seal

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)

// verify asks openssl whether cms is a CAdES signature of content.
func verify(t *testing.T, ca string, cms, content []byte) (string, error) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal("openssl is missing (Debian: openssl)")
	}
	dir := t.TempDir()
	sig, body := filepath.Join(dir, "sig.der"), filepath.Join(dir, "content")
	for path, b := range map[string][]byte{sig: cms, body: content} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("openssl", "cms", "-verify", "-cades", "-inform", "DER", "-in", sig, "-content", body, "-binary",
		"-CAfile", ca, "-purpose", "any", "-attime", "1795600800", "-out", os.DevNull).CombinedOutput()
	return string(out), err
}

func seal(t *testing.T, s Sealer, content []byte) []byte {
	t.Helper()
	h, err := s.Ready(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	cms, err := h.Seal(context.Background(), sha256.Sum256(content))
	if err != nil || len(cms) > h.Size() {
		t.Fatalf("%v, %d bytes of %d", err, len(cms), h.Size())
	}
	return cms
}

func TestOpensslAcceptsAndRefuses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "seal")
	c, err := Virtual(dir, "Comune di Venezia", now)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Virtual(dir, "Comune di Venezia", now)
	if err != nil {
		t.Fatal(err)
	}
	s, ca := NewSoftware(func() time.Time { return now }, c), filepath.Join(dir, "ca.pem")
	content := []byte("what was sealed")
	cms := seal(t, NewSoftware(func() time.Time { return now }, again), content)
	if string(cms) != string(seal(t, s, content)) {
		t.Error("an RSA seal of the same content differs")
	}
	if out, err := verify(t, ca, cms, content); err != nil {
		t.Fatalf("openssl refuses: %s", out)
	}
	for i := range content {
		bad := append([]byte(nil), content...)
		bad[i] ^= 1
		if out, err := verify(t, ca, cms, bad); err == nil {
			t.Fatalf("openssl accepts other content: %s", out)
		}
	}
	for i := len(cms) - 256; i < len(cms); i += 15 {
		bad := append([]byte(nil), cms...)
		bad[i] ^= 1
		if out, err := verify(t, ca, bad, content); err == nil {
			t.Fatalf("openssl accepts another signature: %s", out)
		}
	}
	if strings.Contains(string(cms), "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x05") {
		t.Error("the signing-time attribute is there, which PAdES forbids")
	}
}

// pair is a self-signed certificate and its key, in memory.
func pair(t *testing.T, from time.Time) (Credential, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: number(), Subject: pkix.Name{CommonName: from.Format(time.DateOnly)}, NotBefore: from, NotAfter: from.AddDate(1, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature}
	cert, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), crypto.Signer(key))
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	return Credential{
		Key: func() ([]byte, error) {
			return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), nil
		},
		Certificate: func() ([]byte, error) { return certificate, nil },
	}, certificate
}

func TestRotation(t *testing.T) {
	old, oldCert := pair(t, now.AddDate(0, -6, 0))
	next, nextCert := pair(t, now.AddDate(0, 0, 1))
	at := now
	s := NewSoftware(func() time.Time { return at }, next, old)
	signer := func() string {
		cms := string(seal(t, s, []byte("x")))
		for name, c := range map[string][]byte{"old": oldCert, "next": nextCert} {
			if b, _ := pem.Decode(c); strings.Contains(cms, string(b.Bytes)) {
				return name
			}
		}
		return "nobody"
	}
	for _, step := range []struct {
		at   time.Time
		want string
	}{{now, "old"}, {now.AddDate(0, 0, 2), "next"}, {now.AddDate(0, 7, 0), "next"}} {
		if at = step.at; signer() != step.want {
			t.Errorf("at %s: sealed by %s, want %s", at, signer(), step.want)
		}
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, oldCert, 0o600); err != nil {
		t.Fatal(err)
	}
	at = now
	if out, err := verify(t, ca, seal(t, s, []byte("x")), []byte("x")); err != nil {
		t.Errorf("openssl refuses an ECDSA seal: %s", out)
	}
	at = now.AddDate(3, 0, 0)
	if _, err := s.Ready(context.Background()); err == nil || !strings.Contains(err.Error(), "valid from") {
		t.Errorf("an expired pair seals: %v", err)
	}
	if _, err := NewSoftware(func() time.Time { return now }, Credential{Key: old.Key, Certificate: next.Certificate}).Ready(context.Background()); err == nil {
		t.Error("a key seals with another's certificate")
	}
}
