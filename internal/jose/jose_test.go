package jose

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Debian's python3-jwcrypto accepts what we sign, and refuses it with a claim
// changed.
func TestSign(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	token, err := Sign(rsaKey, Header{Type: "JWT", KID: "k-1"}, map[string]any{"iss": "a", "iat": 1})
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := Public(rsaKey.Public(), "k-1")
	if err != nil {
		t.Fatal(err)
	}
	head := func(token string) map[string]any {
		t.Helper()
		b, err := base64.RawURLEncoding.DecodeString(strings.SplitN(token, ".", 2)[0])
		if err != nil {
			t.Fatal(err)
		}
		var m map[string]any
		if err := json.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	if h := head(token); len(h) != 3 || h["alg"] != "RS256" || h["typ"] != "JWT" || h["kid"] != "k-1" {
		t.Errorf("header %v", h)
	}
	proof, err := Sign(ecKey, Header{Type: "dpop+jwt", JWK: true}, map[string]any{"htm": "POST"})
	if err != nil {
		t.Fatal(err)
	}
	h := head(proof)
	if inside, _ := h["jwk"].(map[string]any); len(h) != 3 || h["alg"] != "ES256" || inside["kty"] != "EC" || inside["d"] != nil {
		t.Errorf("header %v", h)
	}
	verify := func(token string) error {
		dir := t.TempDir()
		for name, b := range map[string][]byte{"token": []byte(token), "jwk": jwk} {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command("/usr/bin/python3", "-c", `import sys
from jwcrypto import jwk, jws
t = jws.JWS(); t.deserialize(open(sys.argv[1] + "/token").read(), jwk.JWK.from_json(open(sys.argv[1] + "/jwk").read()))`, dir)
		var out bytes.Buffer
		cmd.Stderr = &out
		if err := cmd.Run(); err != nil {
			if !strings.Contains(out.String(), "InvalidJWSSignature") {
				t.Fatalf("python3-jwcrypto: %v: %s", err, out.String())
			}
			return err
		}
		return nil
	}
	if err := verify(token); err != nil {
		t.Error(err)
	}
	parts := strings.Split(token, ".")
	parts[1] = base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"b","iat":1}`))
	if verify(strings.Join(parts, ".")) == nil {
		t.Error("a token that was changed is accepted")
	}
	if _, err := Sign(nil, Header{}, nil); err == nil {
		t.Error("signed with no key")
	}
}
