package mutualtls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// pair makes a self-signed certificate that is its own CA.
func pair(t *testing.T, name string) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	c := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	pk, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pk})
}

func TestSoapFaceAsksForACertificate(t *testing.T) {
	dir := t.TempDir()
	files := Files{Certificate: filepath.Join(dir, "c"), Key: filepath.Join(dir, "k"), ClientCA: filepath.Join(dir, "ca")}
	put := func(name string, b []byte, at time.Time) {
		t.Helper()
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, at, at); err != nil {
			t.Fatal(err)
		}
	}
	ours, ourKey := pair(t, "dime")
	node, nodeKey := pair(t, "node")
	at := time.Now().Add(-time.Hour)
	put(files.Certificate, ours, at)
	put(files.Key, ourKey, at)
	put(files.ClientCA, node, at)

	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := Listen(plain, files)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {}), ReadHeaderTimeout: time.Second}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()

	ask := func(server []byte, client, clientKey []byte) error {
		t.Helper()
		c := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
		c.RootCAs.AppendCertsFromPEM(server)
		if client != nil {
			p, err := tls.X509KeyPair(client, clientKey)
			if err != nil {
				t.Fatal(err)
			}
			c.Certificates = []tls.Certificate{p}
		}
		h := &http.Client{Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}}
		r, err := h.Get("https://" + plain.Addr().String() + "/")
		if err == nil {
			_ = r.Body.Close()
		}
		return err
	}
	if err := ask(ours, node, nodeKey); err != nil {
		t.Error(err)
	}
	if ask(ours, nil, nil) == nil {
		t.Error("somebody without a certificate got in")
	}
	stranger, strangerKey := pair(t, "stranger")
	if ask(ours, stranger, strangerKey) == nil {
		t.Error("a stranger's certificate got in")
	}

	next, nextKey := pair(t, "dime")
	put(files.Certificate, next, at.Add(time.Minute)) // the key is still the old one
	if err := ask(ours, node, nodeKey); err != nil {
		t.Errorf("while the new files are not whole, the old ones stay: %v", err)
	}
	put(files.Key, nextKey, at.Add(time.Minute))
	if err := ask(next, node, nodeKey); err != nil {
		t.Errorf("after the exchange: %v", err)
	}
	put(files.ClientCA, append(node, stranger...), at.Add(time.Minute))
	if err := ask(next, stranger, strangerKey); err != nil {
		t.Errorf("two authorities at once: %v", err)
	}
}
