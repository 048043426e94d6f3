package doctor

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)

func certificate(t *testing.T, from, until time.Time) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "city"}, NotBefore: from, NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func level(t *testing.T, fs []Finding, check string) Level {
	t.Helper()
	worst := Level("")
	for _, f := range fs {
		if f.Check == check && (worst == "" || worst == OK || f.Level == Problem) {
			worst = f.Level
		}
		if f.Level != OK && f.Level != Skipped && f.Do == "" {
			t.Errorf("%s: %s: it does not say what to do", f.Check, f.What)
		}
	}
	return worst
}

func TestCertificatesEnd(t *testing.T) {
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		pems []byte
		want Level
	}{
		"good":     {certificate(t, now.Add(-day), now.Add(90*day)), OK},
		"soon":     {certificate(t, now.Add(-day), now.Add(29*day)), Warning},
		"over":     {certificate(t, now.Add(-2*day), now.Add(-day)), Problem},
		"not yet":  {certificate(t, now.Add(day), now.Add(90*day)), Problem},
		"none":     {[]byte("hello"), Problem},
		"no x.509": {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), Problem},
	} {
		if got := level(t, Certificates(name, c.pems, now), "certificates"); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestAFolderIsPrivateWritableAndInTime(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	fs := Folder(dir, time.Now)
	for _, check := range []string{"permissions", "data", "clock"} {
		if got := level(t, fs, check); got != OK {
			t.Errorf("%s: %s: %v", check, got, fs)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if got := level(t, Folder(dir, time.Now), "permissions"); got != Problem {
		t.Errorf("a folder that others may read: %s", got)
	}
	if got := level(t, Folder(dir, func() time.Time { return time.Now().Add(-time.Hour) }), "clock"); got != Problem {
		t.Errorf("a clock that was set back: %s", got)
	}
	if got := level(t, Folder(filepath.Join(dir, "none"), time.Now), "data"); got != Problem {
		t.Errorf("a folder that is not there: %s", got)
	}
}

func TestRoom(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		free, all, freeFiles, files uint64
		want                        Level
	}{
		{50 * gib, 100 * gib, 1, 2, OK}, {9 * gib, 100 * gib, 1, 2, Warning}, {gib / 2, gib, 1, 2, Warning},
		{2 * gib, 100 * gib, 1, 2, Problem}, {100 << 20, 200 << 20, 1, 2, Problem}, {50 * gib, 100 * gib, 1, 100, Problem}, {50 * gib, 100 * gib, 0, 0, OK},
	} {
		if got := level(t, room("x", c.free, c.all, c.freeFiles, c.files), "disk"); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestClocksApart(t *testing.T) {
	for d, want := range map[time.Duration]Level{0: OK, 20 * time.Second: OK, -40 * time.Second: Problem, time.Hour: Problem} {
		if got := Clock("x", now.Add(d), now).Level; got != want {
			t.Errorf("%s: %s", d, got)
		}
	}
}
