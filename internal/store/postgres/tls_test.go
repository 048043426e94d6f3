package postgres_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/store/postgres"
	"github.com/dime-bus/dime/test/cluster"
)

// certificate makes a self-signed one for 127.0.0.1 and its key, as PEM.
func certificate(t *testing.T) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "db.example.it"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	b, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b})
}

// The connection is encrypted and the server's certificate checked, as
// deploy/postgres/README.md says.
func TestTLS(t *testing.T) {
	server := cluster.PostgresFor(t, cluster.PostgresOptions{})
	cert, key := certificate(t)
	data := filepath.Join(server.Dir(), "data")
	owner, err := os.Stat(data)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"server.crt": cert, "server.key": key} { // PostgreSQL's own names for them
		file := filepath.Join(data, name)
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s := owner.Sys().(*syscall.Stat_t)
		if err := os.Chown(file, int(s.Uid), int(s.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(filepath.Join(data, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString("\nssl = on\n")
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	hba := filepath.Join(data, "pg_hba.conf")
	b, err := os.ReadFile(hba)
	if err != nil {
		t.Fatal(err)
	}
	// The first line that fits decides: other sessions than the tests' own may come in over TLS alone.
	if err := os.WriteFile(hba, append([]byte("hostnossl secret all all reject\n"), b...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	sql(t, server.URL("postgres"), "create database secret")
	other, _ := certificate(t)
	roots := map[string]string{}
	for name, b := range map[string][]byte{"right": cert, "wrong": other} {
		roots[name] = filepath.Join(t.TempDir(), name+".pem")
		if err := os.WriteFile(roots[name], b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	u, err := url.Parse(server.URL("secret"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ query, want string }{
		{"sslmode=verify-full&sslrootcert=" + url.QueryEscape(roots["right"]), ""},
		{"sslmode=verify-full&sslrootcert=" + url.QueryEscape(roots["wrong"]), "certificate"},
		{"sslmode=disable", "no encryption"},
	} {
		u.RawQuery = c.query
		s, err := postgres.Open(context.Background(), options(u.String(), nil))
		if err == nil {
			err = s.Close()
		}
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", strings.SplitN(c.query, "&", 2)[0], err, c.want)
		}
	}
}
