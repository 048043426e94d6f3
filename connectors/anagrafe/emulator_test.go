package anagrafe_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/connectors/anagrafe"
	"github.com/dime-bus/dime/internal/citizens"
	"github.com/dime-bus/dime/internal/clock"
)

// A caller that signs by itself, with the standard library: the connector must
// not be the one to say what the emulator has to accept.

const (
	testClient = "11111111-2222-4333-8444-555555555555"
	otherOne   = "99999999-2222-4333-8444-555555555555"
	purpose020 = "00000000-0000-4000-8000-000000000020"
	purpose030 = "00000000-0000-4000-8000-000000000030"
	purpose021 = "00000000-0000-4000-8000-000000000021"
	purpose015 = "00000000-0000-4000-8000-000000000015"
	mario      = "RSSMRA80A01L736U"
	modipa     = "https://modipa-val.anpr.interno.it/govway/rest/in/MinInternoPortaANPR/"
)

func purposes() map[string]string {
	return map[string]string{purpose015: "C015", purpose020: "C020", purpose021: "C021", purpose030: "C030"}
}

// keys are made once for all tests of the package.
var keys = sync.OnceValue(func() (k struct {
	known, second, stranger, other *rsa.PrivateKey
	dpop, dpop2                    *ecdsa.PrivateKey
}) {
	for _, p := range []**rsa.PrivateKey{&k.known, &k.second, &k.stranger, &k.other} {
		*p, _ = rsa.GenerateKey(rand.Reader, 2048)
	}
	k.dpop, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	k.dpop2, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return k
})

type object = map[string]any

// far is a running emulator with its callers' keys registered.
type far struct {
	t     testing.TB
	e     *anagrafe.Emulator
	side  anagrafe.FarSide
	cfg   connectors.EmulatorConfig
	srv   *httptest.Server
	clock *clock.Virtual
	on    map[string]bool
	mu    sync.Mutex
	seen  []connectors.Arrival
	n     int64 // numbers given out so far
	jtis  int
}

func begin() time.Time { return time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC) }

func people() *citizens.Register { return citizens.New("test") }

var register = sync.OnceValue(people)

func newFar(t testing.TB, data string) *far {
	t.Helper()
	f := &far{t: t, clock: clock.NewVirtual(begin()), on: map[string]bool{}}
	f.side = anagrafe.FarSide{Name: "anagrafe", Purposes: purposes(), Municipality: "027042", Operations: []*connectors.Operation{
		{Name: "person"}, {Name: "residence"}, {Name: "family"}, {Name: "issue_certificate", FoundBy: "certificate_of"},
	}}
	f.cfg = connectors.EmulatorConfig{Data: data, Clock: f.clock, Citizens: register,
		On: func(name string) bool { f.mu.Lock(); defer f.mu.Unlock(); return f.on[name] },
		Record: func(a connectors.Arrival) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.seen = append(f.seen, a)
			return nil
		}}
	f.e = anagrafe.NewEmulator(f.side, f.cfg)
	f.srv = httptest.NewServer(http.StripPrefix("/anagrafe", f.e))
	t.Cleanup(func() { f.srv.CloseClientConnections(); f.srv.Close(); _ = f.e.Close() })
	k := keys()
	f.registerKey("k1", testClient, &k.known.PublicKey)
	f.registerKey("k2", testClient, &k.second.PublicKey)
	f.registerKey("kx", otherOne, &k.other.PublicKey)
	return f
}

func (f *far) url(path string) string { return f.srv.URL + "/anagrafe" + path }

func (f *far) switchOn(name string, on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on[name] = on
}

// do sends a request and returns the status, the header and the body.
func (f *far) do(method, at string, header http.Header, body string) (int, http.Header, string) {
	f.t.Helper()
	r, err := http.NewRequest(method, at, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	r.Header = header
	if r.Header == nil {
		r.Header = http.Header{}
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		f.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return res.StatusCode, res.Header, string(b)
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func rsaJWK(k *rsa.PublicKey) object {
	return object{"kty": "RSA", "n": b64(k.N.Bytes()), "e": b64(big.NewInt(int64(k.E)).Bytes())}
}

func ecJWK(k *ecdsa.PublicKey) object {
	p, err := k.Bytes()
	if err != nil {
		panic(err)
	}
	return object{"kty": "EC", "crv": "P-256", "x": b64(p[1:33]), "y": b64(p[33:])}
}

func (f *far) registerKey(kid, client string, k *rsa.PublicKey) {
	f.t.Helper()
	b, _ := json.Marshal(object{"kid": kid, "client_id": client, "jwk": rsaJWK(k)})
	if status, _, body := f.do("POST", f.url("/back-office/keys"), nil, string(b)); status != 201 && status != 204 {
		f.t.Fatalf("registering %s: %d %s", kid, status, body)
	}
}

// sign makes a JWS; key is an RSA or EC key, a []byte (HS256), or nil (no signature).
func sign(header, claims any, key any) string {
	h, _ := json.Marshal(header)
	c, _ := json.Marshal(claims)
	if raw, ok := claims.(string); ok {
		c = []byte(raw)
	}
	in := b64(h) + "." + b64(c)
	sum := sha256.Sum256([]byte(in))
	var sig []byte
	switch k := key.(type) {
	case *rsa.PrivateKey:
		sig, _ = rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA256, sum[:])
	case *ecdsa.PrivateKey:
		r, s, _ := ecdsa.Sign(rand.Reader, k, sum[:])
		sig = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	}
	return in + "." + b64(sig)
}

// token is a JWS in the making.
type token struct {
	header, claims object
	key            any
	raw            string              // in place of all that, where not ""
	after          func(string) string // what becomes of the finished token
	absent         bool
}

func (k *token) String() string {
	s := k.raw
	if s == "" {
		s = sign(k.header, k.claims, k.key)
	}
	if k.after != nil {
		s = k.after(s)
	}
	return s
}

// attempt is one call of an e-service with all that leads to it. It is right as it
// is; a test spoils one thing.
type attempt struct {
	f        *far
	code     string
	dpop     bool
	assert   token
	evidence token
	sig      token
	tokenJWT token // proof for the token endpoint
	proof    token // proof for the gateway
	form     url.Values
	formType string
	body     any // JSON, or a string as it is
	digest   string
	header   func(http.Header) // the last word on the call's headers
	voucher  func(string) string
	before   func() // after the voucher was given, before the call
	path     string
}

func (f *far) jti() string { f.jtis++; return fmt.Sprintf("jti-%d", f.jtis) }

func (f *far) number() string { f.n++; return fmt.Sprint(f.n) }

func names(code string) string {
	return map[string]string{"C015": "C015-servizioAccertamentoGeneralita", "C020": "C020-servizioAccertamentoResidenza",
		"C021": "C021-servizioAccertamentoStatoFamiglia", "C030": "C030-servizioAccertamentoIdUnicoNazionale"}[code]
}

func idOf(cf string) string {
	p, _ := register().ByTaxCode(cf)
	return p.IDANPR
}

func (f *far) attempt(code string) *attempt {
	k := keys()
	now := f.clock.Now().Unix()
	a := &attempt{f: f, code: code, dpop: code == "C020", formType: "application/x-www-form-urlencoded"}
	purpose := map[string]string{"C015": purpose015, "C020": purpose020, "C021": purpose021, "C030": purpose030}[code]
	a.path = "/MinInternoPortaANPR-PDND/" + names(code) + "/v1/anpr-service-e002"
	aud := modipa + names(code) + "/v1"
	head := func() object { return object{"alg": "RS256", "typ": "JWT", "kid": "k1"} }
	a.assert = token{header: head(), key: k.known, claims: object{"iss": testClient, "sub": testClient, "aud": "auth.uat.interop.pagopa.it/client-assertion",
		"jti": f.jti(), "iat": now, "exp": now + 300, "purposeId": purpose}}
	a.evidence = token{header: head(), key: k.known, claims: object{"iss": testClient, "sub": testClient, "aud": aud, "jti": f.jti(), "iat": now, "exp": now + 600,
		"userID": "operator-1", "userLocation": "station-1", "LoA": "LoA3", "purposeId": purpose}}
	a.sig = token{header: head(), key: k.known, claims: object{"iss": testClient, "sub": testClient, "aud": aud, "jti": f.jti(), "iat": now, "nbf": now, "exp": now + 60}}
	a.tokenJWT = token{header: object{"typ": "dpop+jwt", "alg": "ES256", "jwk": ecJWK(&k.dpop.PublicKey)}, key: k.dpop,
		claims: object{"htm": "POST", "htu": f.url("/pdnd/token.oauth2"), "jti": f.jti(), "iat": now}}
	a.proof = token{header: object{"typ": "dpop+jwt", "alg": "ES256", "jwk": ecJWK(&k.dpop.PublicKey)}, key: k.dpop,
		claims: object{"htm": "POST", "htu": f.url(a.path), "jti": f.jti(), "iat": now}}
	a.form = url.Values{"client_id": {testClient}, "client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "grant_type": {"client_credentials"}}
	find := object{"idANPR": idOf(mario)}
	if code == "C030" {
		find = object{"codiceFiscale": mario}
	}
	a.body = object{"idOperazioneClient": f.number(), "criteriRicerca": find,
		"datiRichiesta": object{"dataRiferimentoRichiesta": "2026-11-24", "motivoRichiesta": "VE-1", "casoUso": code}}
	return a
}

// part is a member of the request's body.
func (a *attempt) part(name string) object { return a.body.(object)[name].(object) }

// token asks for the voucher.
func (a *attempt) token() (int, string) {
	a.f.t.Helper()
	if a.evidence.raw == "" { // frozen, for its digest goes into the assertion
		a.evidence.raw = a.evidence.String()
		a.evidence.after = nil
	}
	if _, there := a.assert.claims["digest"]; !there {
		sum := sha256.Sum256([]byte(a.evidence.raw))
		a.assert.claims["digest"] = object{"alg": "SHA256", "value": hex.EncodeToString(sum[:])}
	}
	if a.assert.claims["digest"] == nil {
		delete(a.assert.claims, "digest")
	}
	if !a.form.Has("client_assertion") {
		a.form.Set("client_assertion", a.assert.String())
	}
	h := http.Header{"Content-Type": {a.formType}}
	if a.dpop && !a.tokenJWT.absent {
		h.Set("DPoP", a.tokenJWT.String())
	}
	status, _, body := a.f.do("POST", a.f.url("/pdnd/token.oauth2"), h, a.form.Encode())
	return status, body
}

// call asks for the voucher and then the e-service.
func (a *attempt) call() (int, string) {
	a.f.t.Helper()
	status, answer := a.token()
	if status != 200 {
		a.f.t.Fatalf("no voucher: %d %s", status, answer)
	}
	var t struct {
		Token string `json:"access_token"`
		Type  string `json:"token_type"`
		Life  int    `json:"expires_in"`
	}
	if err := json.Unmarshal([]byte(answer), &t); err != nil || t.Life != 600 {
		a.f.t.Fatalf("the voucher's answer: %s", answer)
	}
	if a.before != nil {
		a.before()
	}
	body, ok := a.body.(string)
	if !ok {
		b, _ := json.Marshal(a.body)
		body = string(b)
	}
	if a.digest == "" {
		sum := sha256.Sum256([]byte(body))
		a.digest = "SHA-256=" + base64.StdEncoding.EncodeToString(sum[:])
	}
	if a.sig.claims["signed_headers"] == nil {
		a.sig.claims["signed_headers"] = []any{object{"digest": a.digest}, object{"content-type": "application/json"}}
	}
	voucher := t.Token
	if a.voucher != nil {
		voucher = a.voucher(voucher)
	}
	h := http.Header{"Content-Type": {"application/json"}, "Digest": {a.digest}, "Authorization": {t.Type + " " + voucher},
		http.CanonicalHeaderKey("Agid-JWT-Signature"): {a.sig.String()}, http.CanonicalHeaderKey("Agid-JWT-TrackingEvidence"): {a.evidence.String()}}
	if a.dpop && !a.proof.absent {
		if _, there := a.proof.claims["ath"]; !there {
			sum := sha256.Sum256([]byte(voucher))
			a.proof.claims["ath"] = b64(sum[:])
		}
		h.Set("DPoP", a.proof.String())
	}
	if a.header != nil {
		a.header(h)
	}
	status, header, got := a.f.do("POST", a.f.url(a.path), h, body)
	for _, name := range []string{"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"} {
		if header.Get(name) == "" {
			a.f.t.Errorf("the answer lacks %s (ModI)", name)
		}
	}
	return status, got
}

func (a *attempt) ok() object {
	a.f.t.Helper()
	status, body := a.call()
	var o object
	if err := json.Unmarshal([]byte(body), &o); err != nil || status != 200 {
		a.f.t.Fatalf("got %d %s", status, body)
	}
	return o
}

// at walks through objects and lists.
func at(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			o, _ := v.(object)
			v = o[p]
		case int:
			l, _ := v.([]any)
			if p >= len(l) {
				return nil
			}
			v = l[p]
		}
	}
	return v
}

// FuzzEmulator sends anything to every address: no panic, no 5xx.
func FuzzEmulator(f *testing.F) {
	fs := newFar(f, "")
	good := fs.attempt("C030")
	good.token()
	for i, s := range []string{good.form.Encode(), `{"idOperazioneClient":"1","criteriRicerca":{"idANPR":1}}`, `{"kid":"a","jwk":{"kty":"RSA","n":"AA","e":"AQAB"}}`, "<a/>", "a.b.c", "\x00"} {
		f.Add(uint8(i), s, good.evidence.raw, s)
	}
	f.Add(uint8(5), "<soapenv:Envelope/>", "", "")
	paths := []string{"/pdnd/token.oauth2", "/MinInternoPortaANPR-PDND/C030-servizioAccertamentoIdUnicoNazionale/v1/anpr-service-e002", "/back-office/keys", "/back-office/certificates", "/nowhere", "/soap/6001"}
	f.Fuzz(func(t *testing.T, to uint8, body, token, other string) {
		r := httptest.NewRequest("POST", paths[int(to)%len(paths)], bytes.NewReader([]byte(body)))
		r.Header.Set("Content-Type", []string{"application/x-www-form-urlencoded", "application/json", "text/xml"}[len(body)%3])
		if to%2 == 0 {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		if paths[int(to)%len(paths)] == "/soap/6001" {
			r.Header.Set("Content-Type", "text/xml")
		}
		r.Header.Set("SOAPAction", "")
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("DPoP", other)
		r.Header.Set("Digest", other)
		r.Header.Set("Agid-JWT-Signature", token)
		r.Header.Set("Agid-JWT-TrackingEvidence", other)
		w := httptest.NewRecorder()
		fs.e.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Errorf("%s answered %d", r.URL.Path, w.Code)
		}
	})
}

func sha(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.StdEncoding.EncodeToString(sum[:])
}
