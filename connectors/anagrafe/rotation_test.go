package anagrafe

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/citizens"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/httpclient"
	"github.com/dime-bus/dime/internal/jose"
	"github.com/dime-bus/dime/internal/yamldoc"
)

// pair is a key with a certificate, in PEM.
type pair struct {
	key       *rsa.PrivateKey
	der       []byte
	pem, cert string
}

func newPair(t *testing.T, until time.Time) pair {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(until.UnixNano()), Subject: pkix.Name{CommonName: "Postazione"}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	return pair{k, der, string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)})),
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
}

// real is a connector outside the virtual city, whose far side is the emulator all
// the same.
func real(t *testing.T, w *town, further string) *Connector {
	t.Helper()
	n, ps := yamldoc.Parse("anagrafe.yaml", []byte(strings.TrimRight(settings, "\n")+"\n"+
		"  token_url: "+w.url+"/anagrafe/pdnd/token.oauth2\n  soap_url: "+w.url+"/anagrafe/soap/6001\n"+further+"base_url: "+w.url+"/anagrafe\n"))
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	client := httpclient.New(httpclient.Config{})
	t.Cleanup(client.Close)
	c, ps := New(connectors.Spec{Name: "anagrafe", File: "anagrafe.yaml", Node: n, Client: client, City: connectors.CityOff,
		Host: connectors.Host{Clock: clock.Real{}, Documents: w.docs}})
	if c == nil {
		t.Fatal(ps)
	}
	return c
}

// backOffice does what an administrator does there.
func (w *town) backOffice(method, path, body string) {
	w.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	rec := httptest.NewRecorder()
	w.e.ServeHTTP(rec, r)
	if rec.Code > 299 {
		w.t.Fatalf("the back office answered %d: %s", rec.Code, rec.Body)
	}
}

func (w *town) registerKey(kid string, k *rsa.PrivateKey) {
	w.t.Helper()
	jwk, err := jose.Public(k.Public(), kid)
	if err != nil {
		w.t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{"kid": kid, "jwk": jwk, "client_id": "7d1f1b1e-6f0a-4a53-9c43-0e5d6a1f2b3c"})
	if err != nil {
		w.t.Fatal(err)
	}
	w.backOffice("POST", "/back-office/keys", string(body))
}

func lay(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

func kidOf(t *testing.T, token string) string {
	b, err := base64.RawURLEncoding.DecodeString(strings.SplitN(token, ".", 2)[0])
	var h struct{ KID string }
	if err == nil {
		err = json.Unmarshal(b, &h)
	}
	if err != nil {
		t.Error(err)
	}
	return h.KID
}

// TestKeysRotate: the next key's file is laid down while calls are under way. Those
// that have the old key's tokens finish with them, the next ones use the new key, and
// when the old one is taken back nobody needs it.
func TestKeysRotate(t *testing.T) {
	w := newTown(t)
	old, next := newPair(t, time.Now().Add(time.Hour)), newPair(t, time.Now().Add(time.Hour))
	dir := t.TempDir()
	lay(t, filepath.Join(dir, "old.pem"), old.pem)
	w.registerKey("kid-old", old.key)
	w.registerKey("kid-next", next.key)
	var mu sync.Mutex
	used := map[string]int{} // by the kids of signature and evidence
	swapped := false
	w.watching(func(r *http.Request, _ []byte) {
		sig := r.Header.Get("Agid-JWT-Signature")
		if sig == "" {
			return
		}
		kids := kidOf(t, sig) + " " + kidOf(t, r.Header.Get("Agid-JWT-TrackingEvidence"))
		mu.Lock()
		defer mu.Unlock()
		if used[kids]++; used["kid-old kid-old"] == 12 && !swapped {
			// In the middle of a call that the old key has signed.
			swapped = true
			lay(t, filepath.Join(dir, "next.pem"), next.pem)
		}
	})
	c := real(t, w, fmt.Sprintf("  keys:\n    - {kid: kid-next, secret: \"file:%s/next.pem\"}\n    - {kid: kid-old, secret: \"file:%s/old.pem\"}\n", dir, dir))
	people := citizens.New("").All()
	load := func(from, to int) {
		var wg sync.WaitGroup
		for i := from; i < to; i++ {
			wg.Go(func() {
				if _, err := do(t, c, "residence", "", map[string]any{"tax_code": people[i].TaxCode}); err != nil {
					t.Errorf("caller %d: %v", i, err)
				}
			})
		}
		wg.Wait()
	}
	load(0, 24)
	w.backOffice("DELETE", "/back-office/keys/kid-old", "")
	if err := os.Remove(filepath.Join(dir, "old.pem")); err != nil {
		t.Fatal(err)
	}
	load(24, 32)
	mu.Lock()
	defer mu.Unlock()
	if used["kid-old kid-old"] < 12 || used["kid-next kid-next"] < 16 {
		t.Errorf("calls by their keys: %v", used)
	}
	for _, s := range w.seen {
		if !strings.HasPrefix(s, "200") && !strings.HasPrefix(s, "201") && !strings.HasPrefix(s, "204") {
			t.Errorf("the far side refused what we sent: %s", s)
		}
	}
	// No key at all: it is said what is missing, and nothing is sent.
	if err := os.Remove(filepath.Join(dir, "next.pem")); err != nil {
		t.Fatal(err)
	}
	if _, err := do(t, c, "person", "", map[string]any{"tax_code": people[0].TaxCode}); err == nil || !strings.Contains(err.Error(), "kid-next") || strings.Contains(err.Error(), "PRIVATE") {
		t.Errorf("without a key: %v", err)
	}
}

// TestCertificatesRotate: the station's certificate is exchanged one file after the
// other; a pair that is half there, or whose certificate has run out, is passed over.
func TestCertificatesRotate(t *testing.T) {
	w := newTown(t)
	gone, old, next := newPair(t, time.Now().Add(-24*time.Hour)), newPair(t, time.Now().Add(time.Hour)), newPair(t, time.Now().Add(2*time.Hour))
	dir := t.TempDir()
	for name, text := range map[string]string{"gone.key": gone.pem, "gone.crt": gone.cert, "old.key": old.pem, "signing.pem": old.pem} {
		lay(t, filepath.Join(dir, name), text)
	}
	t.Setenv("ANAGRAFE_TEST_CERTIFICATE", old.cert) // a reference may also be to the environment
	w.registerKey("kid", old.key)
	for _, p := range []pair{old, next} {
		w.backOffice("POST", "/back-office/certificates", p.cert)
	}
	var used []string
	w.watching(func(r *http.Request, body []byte) {
		if !strings.HasSuffix(r.URL.Path, "/soap/6001") {
			return
		}
		for name, p := range map[string]pair{"gone": gone, "old": old, "next": next} {
			if bytes.Contains(body, []byte(base64.StdEncoding.EncodeToString(p.der))) {
				used = append(used, name)
			}
		}
	})
	c := real(t, w, fmt.Sprintf("  keys: [{kid: kid, secret: \"file:%[1]s/signing.pem\"}]\n  certificates:\n    - {certificate: \"file:%[1]s/gone.crt\", key: \"file:%[1]s/gone.key\"}\n"+
		"    - {certificate: \"file:%[1]s/next.crt\", key: \"file:%[1]s/next.key\"}\n    - {certificate: \"env:ANAGRAFE_TEST_CERTIFICATE\", key: \"file:%[1]s/old.key\"}\n", dir))
	r, err := do(t, c, "residence", "", map[string]any{"tax_code": mario})
	if err != nil {
		t.Fatal(err)
	}
	issue := func(i int) {
		t.Helper()
		d, err := do(t, c, "prepare_certificate", fmt.Sprint("p-", i), map[string]any{"kind": "residence", "resident": any(r), "exemption": "art-16-tab-b"})
		if err == nil {
			_, err = do(t, c, "issue_certificate", fmt.Sprint("i-", i), map[string]any{"draft": d["id"]})
		}
		if err != nil {
			t.Errorf("certificate %d: %v", i, err)
		}
	}
	issue(1)
	lay(t, filepath.Join(dir, "next.crt"), old.cert) // another key's
	lay(t, filepath.Join(dir, "next.key"), next.pem)
	issue(2)
	lay(t, filepath.Join(dir, "next.crt"), next.cert)
	issue(3)
	if got := strings.Join(used, " "); got != "old old next" {
		t.Errorf("messages were signed by %s", got)
	}
	if es, err := w.e.Effects(); err != nil || len(es) != 3 {
		t.Errorf("%v, %v", es, err)
	}
}
