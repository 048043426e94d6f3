package anagrafe

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/jose"
)

// sent is a request as it left.
type sent struct {
	path   string
	header http.Header
	body   []byte
}

// wire records what the connector sends while f works.
func wire(t *testing.T, f func(*town)) (*town, []sent) {
	t.Helper()
	w := newTown(t)
	var mu sync.Mutex
	var all []sent
	w.watching(func(r *http.Request, body []byte) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, sent{r.URL.Path, r.Header.Clone(), body})
	})
	f(w)
	return w, all
}

// TestTokensOutside: Debian's python3-jwcrypto accepts one token of each kind, and
// none with a claim changed; then what stands in them is held to FACTS' norms: PDND's
// manual, RFC 9449, ModI's INTEGRITY_REST_02 and AUDIT_REST_02.
func TestTokensOutside(t *testing.T) {
	w, all := wire(t, func(w *town) {
		if _, err := do(w.t, w.c, "residence", "", map[string]any{"tax_code": mario}); err != nil {
			w.t.Fatal(err)
		}
	})
	var asked, called *sent // of C020: the voucher and the call
	for i := range all {
		switch {
		case strings.HasSuffix(all[i].path, "/token.oauth2"):
			asked = &all[i]
		case strings.Contains(all[i].path, "C020"):
			called = &all[i]
		}
	}
	if asked == nil || called == nil {
		t.Fatalf("%d requests, and not all that are needed", len(all))
	}
	form, err := url.ParseQuery(string(asked.body))
	if err != nil {
		t.Fatal(err)
	}
	key, err := w.c.cityKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := jose.Public(key.key.Public(), key.kid)
	if err != nil {
		t.Fatal(err)
	}
	evidence := called.header.Get("Agid-JWT-TrackingEvidence")
	tokens := []string{form.Get("client_assertion"), asked.header.Get("DPoP"), called.header.Get("DPoP"), called.header.Get("Agid-JWT-Signature"), evidence}
	read := outside(t, jwk, tokens)
	seen := map[string]bool{}
	holds := func(i int, typ string, claims ...string) map[string]any {
		t.Helper()
		var names []string
		for k := range read[i].Claims {
			names = append(names, k)
		}
		slices.Sort(names)
		slices.Sort(claims)
		if !slices.Equal(names, claims) {
			t.Errorf("token %d has the claims %v, want %v", i, names, claims)
		}
		header := []string{"alg RS256", "kid " + key.kid}
		if typ == "dpop+jwt" {
			header = []string{"alg ES256"}
		}
		for _, h := range append(header, "typ "+typ) {
			if k, v, _ := strings.Cut(h, " "); read[i].Header[k] != v {
				t.Errorf("token %d: %s is %v, want %s", i, k, read[i].Header[k], v)
			}
		}
		if len(read[i].Header) != 3 {
			t.Errorf("token %d has the header %v", i, read[i].Header)
		}
		jti, _ := read[i].Claims["jti"].(string)
		if jti == "" || seen[jti] {
			t.Errorf("token %d: the jti %q is none or not its own", i, jti)
		}
		seen[jti] = true
		return read[i].Claims
	}
	const client = "7d1f1b1e-6f0a-4a53-9c43-0e5d6a1f2b3c"
	equal := func(what string, got, want any) {
		t.Helper()
		if got != want {
			t.Errorf("%s is %v, want %v", what, got, want)
		}
	}
	sum := sha256.Sum256([]byte(evidence))
	a := holds(0, "JWT", "iss", "sub", "aud", "jti", "iat", "exp", "purposeId", "digest")
	equal("iss", a["iss"], client)
	equal("sub", a["sub"], client)
	equal("aud", a["aud"], "auth.interop.pagopa.it/client-assertion")
	digest, _ := a["digest"].(map[string]any)
	equal("digest.alg", digest["alg"], "SHA256")
	equal("digest.value", digest["value"], hex.EncodeToString(sum[:]))
	equal("digest's members", len(digest), 2)

	p := holds(1, "dpop+jwt", "htm", "htu", "iat", "jti")
	equal("htm", p["htm"], "POST")
	equal("htu", p["htu"], w.url+"/anagrafe/pdnd/token.oauth2")
	p = holds(2, "dpop+jwt", "htm", "htu", "iat", "jti", "ath")
	_, voucher, _ := strings.Cut(called.header.Get("Authorization"), "DPoP ")
	hash := sha256.Sum256([]byte(voucher))
	equal("ath", p["ath"], base64.RawURLEncoding.EncodeToString(hash[:]))
	equal("htu", p["htu"], w.url+called.path)

	s := holds(3, "JWT", "iss", "sub", "aud", "jti", "iat", "nbf", "exp", "signed_headers")
	body := sha256.Sum256(called.body)
	equal("Digest", called.header.Get("Digest"), "SHA-256="+base64.StdEncoding.EncodeToString(body[:]))
	headers, _ := json.Marshal(s["signed_headers"])
	equal("signed_headers", string(headers), `[{"digest":"`+called.header.Get("Digest")+`"},{"content-type":"`+called.header.Get("Content-Type")+`"}]`)
	audience := w.url + "/anagrafe/MinInternoPortaANPR/C020-servizioAccertamentoResidenza/v1"
	equal("aud", s["aud"], audience)
	e := holds(4, "JWT", "iss", "aud", "jti", "iat", "nbf", "exp", "userID", "userLocation", "LoA", "purposeId")
	equal("aud", e["aud"], audience)
	equal("purposeId", e["purposeId"], a["purposeId"])
}

// token is one as python3-jwcrypto read it.
type token struct {
	OK      bool
	Changed bool // accepted with a claim changed
	Header  map[string]any
	Claims  map[string]any
}

func outside(t *testing.T, jwk []byte, tokens []string) (read []token) {
	t.Helper()
	in, err := json.Marshal(map[string]any{"jwk": json.RawMessage(jwk), "tokens": tokens})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", "-c", `import sys, json
from jwcrypto import jwk, jws
from jwcrypto.common import base64url_encode, base64url_decode
given = json.load(sys.stdin)
def accepted(token, key):
    t = jws.JWS()
    try:
        t.deserialize(token, key)
        return True
    except jws.InvalidJWSSignature:
        return False
out = []
for token in given["tokens"]:
    h, c, s = token.split(".")
    header, claims = json.loads(base64url_decode(h)), json.loads(base64url_decode(c))
    inside = header.pop("jwk", None)
    key = jwk.JWK(**(inside or given["jwk"]))
    if inside:
        header["jwk"] = key.has_private
    other = dict(claims, jti="another")
    changed = h + "." + base64url_encode(json.dumps(other)) + "." + s
    out.append({"OK": accepted(token, key), "Changed": accepted(changed, key), "Header": header, "Claims": claims})
json.dump(out, sys.stdout)`)
	cmd.Stdin = bytes.NewReader(in)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	b, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(b, &read)
	}
	if err != nil || len(read) != len(tokens) {
		t.Fatalf("python3-jwcrypto: %v: %s", err, complaint.String())
	}
	for i, r := range read {
		if !r.OK || r.Changed {
			t.Errorf("token %d is accepted: %v; with a claim changed: %v", i, r.OK, r.Changed)
		}
		if r.Header["jwk"] == true {
			t.Errorf("token %d carries a private key", i)
		}
	}
	return read
}

// TestMessageOutside: xmlsec1 accepts our message to service 6001, and none of which
// anything that is signed was changed; xmllint finds the official schema in it.
func TestMessageOutside(t *testing.T) {
	w, all := wire(t, func(w *town) {
		r, err := do(w.t, w.c, "residence", "", map[string]any{"tax_code": mario})
		if err != nil {
			w.t.Fatal(err)
		}
		r["surname"] = "D'Angelo"
		d, err := do(w.t, w.c, "prepare_certificate", "p-1", map[string]any{"kind": "residence", "resident": any(r), "exemption": "art-16-tab-b"})
		if err != nil {
			w.t.Fatal(err)
		}
		// The name is not the holder's: ANPR says no to what it has read.
		if _, err := do(w.t, w.c, "issue_certificate", "i-1", map[string]any{"draft": d["id"]}); kind(err) != fault.NotFound {
			w.t.Errorf("for another name: %v", err)
		}
	})
	message := string(all[len(all)-1].body)
	s, err := w.c.station(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(s.cert)
	if err != nil {
		t.Fatal(err)
	}
	pkix, err := x509.MarshalPKIXPublicKey(cert.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	verify := func(message string) ([]byte, error) {
		dir := t.TempDir()
		for name, b := range map[string][]byte{"message.xml": []byte(message), "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pkix})} {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return exec.CommandContext(t.Context(), "xmlsec1", "--verify", "--pubkey-pem", filepath.Join(dir, "key.pem"),
			"--id-attr:Id", envelopeSpace+":Body", "--id-attr:Id", utilitySpace+":Timestamp", filepath.Join(dir, "message.xml")).CombinedOutput()
	}
	if out, err := verify(message); err != nil {
		t.Fatalf("xmlsec1: %v: %s", err, out)
	}
	for _, part := range [][2]string{{"<codFiscale>RSS", "<codFiscale>RSA"}, {"<wsu:Created>20", "<wsu:Created>19"}, {"<ds:DigestValue>", "<ds:DigestValue>A"}} {
		if _, err := verify(strings.Replace(message, part[0], part[1], 1)); err == nil {
			t.Errorf("xmlsec1 accepts it with %s", part[1])
		}
	}
	specs := os.Getenv("DIME_SPECS")
	if specs == "" {
		specs = filepath.Join("..", "..", "..", "shared", "specs")
	}
	xsd := filepath.Join(specs, "anpr-soap", "comuni", "6001certificazione.xsd")
	if _, err := os.Stat(xsd); err != nil {
		t.Log("not checked: the official 6001certificazione.xsd is absent")
		return
	}
	i, j := strings.Index(message, "<c:Richiesta6001"), strings.Index(message, "</soapenv:Body>")
	lint := exec.CommandContext(t.Context(), "xmllint", "--noout", "--nonet", "--schema", xsd, "-")
	lint.Stdin = strings.NewReader(message[i:j])
	if out, err := lint.CombinedOutput(); err != nil {
		t.Errorf("xmllint: %v: %s", err, out)
	}
}

// TestCanonicalText: whatever a text holds, it leaves in the form that the far side canonicalises it to.
func TestCanonicalText(t *testing.T) {
	for _, text := range []string{"D'Angelo", `a "b" & <c>`, "Nicolò Čović", "a\tb\nc\rd\r\n", "]]>", "\x00\x1f\ufffe\xff", "𝒳 é"} {
		element := tag("a", text)
		tree, err := emTree([]byte(element))
		if err != nil {
			t.Errorf("%q: %v", text, err)
		} else if got := string(tree.canonical()); got != element {
			t.Errorf("%q is written %s, and its canonical form is %s", text, element, got)
		}
	}
}
