package anagrafe

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/dime-bus/dime/internal/schema"
)

// The words of PDND's authorization server (token.oauth2). The codes are those of
// its public source, pagopa/interop-be-monorepo; that each of them answers 400 is
// assumed.
const (
	emBadRequest   = "015-0001" // form: assertion type, grant type, client_id
	emBadAssertion = "015-0002" // claims and header of the client assertion
	emBadSignature = "015-0003"
	emNoEntry      = "015-0006" // no key or purpose of this client
	emBadDPoP      = "015-0009"
	emBadDPoPSig   = "015-0010"
	emUsedDPoP     = "015-0012"
)

const (
	emVoucherLife = 600 * time.Second // of C020's vouchers [P]
	emProofAge    = 60 * time.Second  // RFC 9449, 11.1: a short time after iat; how short is assumed
	emIssuer      = "interop.pagopa.it"
)

// emPDND is PDND's Problem (pdnd-v2.yaml) with the OAuth error of RFC 6749, 5.2.
func emPDND(code string, why error) emAnswer {
	word := "invalid_client"
	switch code {
	case emBadRequest:
		word = "invalid_request"
	case emBadDPoP, emBadDPoPSig, emUsedDPoP:
		word = "invalid_dpop_proof" // RFC 9449, 5
	}
	return emAnswer{status: http.StatusBadRequest, body: map[string]any{
		"type": "about:blank", "status": http.StatusBadRequest, "title": "The request contains bad syntax or cannot be fulfilled.",
		"error": word, "errors": []any{map[string]any{"code": code, "detail": why.Error()}},
	}}
}

func emBackOffice(status int, why string) emAnswer {
	return emAnswer{status: status, body: map[string]any{"type": "about:blank", "status": status, "title": http.StatusText(status), "detail": why}}
}

// registerKey is PDND's back office, where an administrator uploads a public key.
func (e *Emulator) registerKey(c *emCall) emAnswer {
	v, err := schema.DecodeJSON(c.body)
	o, _ := v.(map[string]any)
	if err != nil || o == nil {
		return emBackOffice(http.StatusBadRequest, "the body is no JSON object")
	}
	if s := emSurplus(o, "kid", "jwk", "client_id"); s != "" {
		return emBackOffice(http.StatusBadRequest, "unknown member "+emShort(s))
	}
	kid, _ := o["kid"].(string)
	client, _ := o["client_id"].(string)
	if !emKID.MatchString(kid) {
		return emBackOffice(http.StatusBadRequest, "kid is not 1 to 128 letters, digits, - and _")
	}
	if !emUUID.MatchString(client) {
		return emBackOffice(http.StatusBadRequest, "client_id is no UUID")
	}
	key, _, err := emPublic(o["jwk"])
	if err != nil {
		return emBackOffice(http.StatusBadRequest, err.Error())
	}
	public, ok := key.(*rsa.PublicKey)
	if !ok {
		return emBackOffice(http.StatusBadRequest, "PDND takes RSA keys only")
	}
	if m, _ := o["jwk"].(map[string]any); m["alg"] != nil && m["alg"] != "RS256" || m["kid"] != nil && m["kid"] != kid {
		return emBackOffice(http.StatusBadRequest, "the jwk's alg or kid is another")
	}
	pkix, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return emBackOffice(http.StatusBadRequest, "the jwk's key can't be kept")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mem == nil {
		return emBackOffice(http.StatusServiceUnavailable, errEmClosed.Error())
	}
	if old := e.mem.keys[kid]; old != nil {
		if old.Client == client && old.public.Equal(public) {
			return emAnswer{status: http.StatusNoContent}
		}
		return emBackOffice(http.StatusConflict, "the kid belongs to another key")
	}
	if err := e.keep(emLine{Key: &emKey{KID: kid, Client: client, PKIX: pkix}}); err != nil {
		return emBackOffice(http.StatusServiceUnavailable, "the key could not be kept")
	}
	return emAnswer{status: http.StatusCreated, body: map[string]any{"kid": kid, "client_id": client}}
}

func (e *Emulator) removeKey(c *emCall) emAnswer {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mem == nil || e.mem.keys[c.r.PathValue("kid")] == nil {
		return emBackOffice(http.StatusNotFound, "no key has this kid")
	}
	if err := e.keep(emLine{Key: &emKey{KID: c.r.PathValue("kid")}}); err != nil {
		return emBackOffice(http.StatusServiceUnavailable, "the key could not be removed")
	}
	return emAnswer{status: http.StatusNoContent}
}

// registerCertificate is ANPR's back office, where the certificate of a
// municipality's station is made known.
func (e *Emulator) registerCertificate(c *emCall) emAnswer {
	block, rest := pem.Decode(c.body)
	if block == nil || block.Type != "CERTIFICATE" || strings.TrimSpace(string(rest)) != "" {
		return emBackOffice(http.StatusBadRequest, "the body is not one certificate in PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return emBackOffice(http.StatusBadRequest, "the certificate can't be read")
	}
	if k, ok := cert.PublicKey.(*rsa.PublicKey); !ok || k.N.BitLen() < 2048 {
		return emBackOffice(http.StatusBadRequest, "the certificate's key is not RSA of at least 2048 bits")
	}
	if now := e.cfg.Clock.Now(); now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
		return emBackOffice(http.StatusBadRequest, "the certificate is not valid today")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mem == nil {
		return emBackOffice(http.StatusServiceUnavailable, errEmClosed.Error())
	}
	if e.mem.certificates[string(cert.Raw)] {
		return emAnswer{status: http.StatusNoContent}
	}
	if err := e.keep(emLine{Certificate: cert.Raw}); err != nil {
		return emBackOffice(http.StatusServiceUnavailable, "the certificate could not be kept")
	}
	return emAnswer{status: http.StatusCreated}
}

// jwks publishes the key that vouchers are signed with.
func (e *Emulator) jwks(*emCall) emAnswer {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mem == nil {
		return emBackOffice(http.StatusServiceUnavailable, errEmClosed.Error())
	}
	k := &e.mem.signer.PublicKey
	return emAnswer{status: http.StatusOK, body: map[string]any{"keys": []any{map[string]any{
		"kty": "RSA", "use": "sig", "alg": "RS256", "kid": emSignerKID(k),
		"n": base64.RawURLEncoding.EncodeToString(k.N.Bytes()), "e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(k.E)).Bytes()),
	}}}}
}

func emSignerKID(k *rsa.PublicKey) string {
	sum := sha256.Sum256(k.N.Bytes())
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// token is POST /token.oauth2.
func (e *Emulator) token(c *emCall) emAnswer {
	if kind, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type")); err != nil || kind != "application/x-www-form-urlencoded" {
		return emPDND(emBadRequest, emReason("Content-Type is not application/x-www-form-urlencoded"))
	}
	form, err := url.ParseQuery(string(c.body))
	if err != nil {
		return emPDND(emBadRequest, emReason("the form can't be read"))
	}
	for _, name := range []string{"client_assertion", "client_assertion_type", "grant_type"} {
		if len(form[name]) != 1 {
			return emPDND(emBadRequest, emReason("%s is not there once", name))
		}
	}
	if len(form["client_id"]) > 1 {
		return emPDND(emBadRequest, emReason("client_id is there twice"))
	}
	switch client := form.Get("client_id"); {
	case form.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer":
		return emPDND(emBadRequest, emReason("client_assertion_type is not jwt-bearer"))
	case form.Get("grant_type") != "client_credentials":
		return emPDND(emBadRequest, emReason("grant_type is not client_credentials"))
	case client != "" && !emUUID.MatchString(client):
		return emPDND(emBadRequest, emReason("client_id is no UUID"))
	}
	j, err := emReadJWS(form.Get("client_assertion"))
	if err != nil {
		return emPDND(emBadAssertion, err)
	}
	now := e.cfg.Clock.Now()
	if err := emAssertion(j, form.Get("client_id"), now); err != nil {
		return emPDND(emBadAssertion, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mem == nil {
		return emPDND(emNoEntry, errEmClosed)
	}
	key := e.mem.keys[j.header["kid"].(string)]
	if key == nil || key.Client != j.text("sub") {
		return emPDND(emNoEntry, emReason("the client has no key of this kid"))
	}
	if err := j.verify(key.public); err != nil {
		return emPDND(emBadSignature, err)
	}
	eservice, known := e.far.Purposes[j.text("purposeId")]
	if e.far.Purposes != nil && !known {
		return emPDND(emNoEntry, emReason("the client has no such purpose"))
	}
	jkt := ""
	if len(c.r.Header.Values("Dpop")) > 0 {
		var refused *emAnswer
		if jkt, refused = e.tokenProof(c.r, now); refused != nil {
			return *refused
		}
	}
	exp, _ := j.second("exp")
	if ok, err := e.fresh("assertion", key.Client, j.text("jti"), exp); err != nil || !ok {
		return emPDND(emBadAssertion, emReason("jti has been used already"))
	}
	return e.voucher(j, key.Client, eservice, jkt, now)
}

// emAssertion checks the client assertion's header and claims, in the order of
// PDND's own validation.
func emAssertion(j *emJWS, client string, now time.Time) error {
	if err := j.shape("JWT", []string{"RS256"}, "kid"); err != nil {
		return err
	}
	if kid, ok := j.header["kid"].(string); !ok || !emKID.MatchString(kid) {
		return errors.New("kid is missing or not of its form")
	}
	if s := emSurplus(j.claims, "iss", "sub", "aud", "jti", "iat", "exp", "purposeId", "digest"); s != "" {
		return errors.New("unexpected client assertion payload: " + emShort(s))
	}
	for _, name := range []string{"iss", "sub", "jti", "purposeId"} {
		if j.text(name) == "" {
			return errors.New(name + " is missing or no string")
		}
	}
	switch sub := j.text("sub"); {
	case !emUUID.MatchString(sub):
		return errors.New("sub is no UUID")
	case j.text("iss") != sub:
		return errors.New("iss is not sub")
	case client != "" && client != sub:
		return errors.New("sub is not client_id")
	case !emUUID.MatchString(j.text("purposeId")):
		return errors.New("purposeId is no UUID")
	}
	// One environment's audience, never an e-service's.
	if aud := j.text("aud"); aud == "" {
		return errors.New("aud is missing or no string")
	} else if aud != "auth.interop.pagopa.it/client-assertion" && aud != "auth.uat.interop.pagopa.it/client-assertion" {
		return errors.New("aud is not the authorization server's")
	}
	if d, there := j.claims["digest"]; there {
		m, ok := d.(map[string]any)
		if !ok || len(m) != 2 {
			return errors.New("digest is not {alg, value}")
		}
		if m["alg"] != "SHA256" {
			return errors.New("digest.alg is not SHA256")
		}
		if v, _ := m["value"].(string); !emHex.MatchString(v) {
			return errors.New("digest.value is not 64 hexadecimal digits")
		}
	}
	return j.times(now, 0)
}

// tokenProof checks the proof that comes with a request for a DPoP voucher (RFC
// 9449, 5); e.mu is held.
func (e *Emulator) tokenProof(r *http.Request, now time.Time) (jkt string, refused *emAnswer) {
	no := func(code string, err error) (string, *emAnswer) {
		a := emPDND(code, err)
		return "", &a
	}
	j, key, jkt, err := emProof(r, now)
	if err != nil {
		return no(emBadDPoP, err)
	}
	if s := emSurplus(j.claims, "htm", "htu", "jti", "iat", "nonce"); s != "" {
		return no(emBadDPoP, emReason("unexpected claim of the proof: %s", emShort(s)))
	}
	if err := j.verify(key); err != nil {
		return no(emBadDPoPSig, err)
	}
	if ok, err := e.fresh("dpop", jkt, j.text("jti"), now.Add(emProofAge).Unix()); err != nil || !ok {
		return no(emUsedDPoP, emReason("the proof's jti has been used already"))
	}
	return jkt, nil
}

// emProof reads a DPoP proof and checks what holds at both ends (RFC 9449, 4.3);
// the signature and the jti are left to the caller.
func emProof(r *http.Request, now time.Time) (j *emJWS, key any, jkt string, err error) {
	all := r.Header.Values("Dpop")
	if len(all) != 1 {
		return nil, nil, "", errors.New("there is not one DPoP header")
	}
	if j, err = emReadJWS(all[0]); err != nil {
		return nil, nil, "", err
	}
	if err = j.shape("dpop+jwt", []string{"ES256", "RS256"}, "jwk"); err != nil {
		return nil, nil, "", err
	}
	if key, jkt, err = emPublic(j.header["jwk"]); err != nil {
		return nil, nil, "", err
	}
	if j.text("htm") != r.Method {
		return nil, nil, "", errors.New("htm is not the request's method")
	}
	u, err := url.Parse(j.text("htu"))
	if err != nil || u.Host != r.Host || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" || u.EscapedPath() != emAskedPath(r) {
		return nil, nil, "", errors.New("htu is not the request's address")
	}
	if j.text("jti") == "" {
		return nil, nil, "", errors.New("the proof's jti is missing")
	}
	iat, ok := j.second("iat")
	switch at := now.Unix(); {
	case !ok:
		return nil, nil, "", errors.New("the proof's iat is missing or no whole number")
	case iat > at:
		return nil, nil, "", errors.New("the proof's iat lies in the future")
	case at-iat > int64(emProofAge/time.Second):
		return nil, nil, "", errors.New("the proof's iat is too old")
	}
	return j, key, jkt, nil
}

// emAskedPath is the path as the caller wrote it: the city takes the emulator's
// prefix away from URL, never from RequestURI.
func emAskedPath(r *http.Request) string {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	if u, err := url.Parse(path); err == nil && u.Host != "" {
		return u.EscapedPath()
	}
	return path
}

// voucher signs what the e-services are asked with.
func (e *Emulator) voucher(j *emJWS, client, eservice, jkt string, now time.Time) emAnswer {
	iat := now.Unix()
	kind := "Bearer"
	claims := map[string]any{
		"iss": emIssuer, "sub": client, "client_id": client, "aud": "https://modipa-val.anpr.interno.it/govway/rest/in/MinInternoPortaANPR",
		"jti": emNewID(), "iat": iat, "nbf": iat, "exp": iat + int64(emVoucherLife/time.Second),
		"purposeId": j.text("purposeId"), "consumerId": emDerived("consumer", client), "producerId": emDerived("producer", "ANPR"),
		"eserviceId": emDerived("eservice", eservice), "descriptorId": emDerived("descriptor", eservice),
	}
	if d, there := j.claims["digest"]; there {
		claims["digest"] = d
	}
	if jkt != "" {
		kind = "DPoP"
		claims["cnf"] = map[string]any{"jkt": jkt} // RFC 9449, 6.1
	}
	key := e.mem.signer
	token, err := emSign(key, map[string]any{"alg": "RS256", "typ": "at+jwt", "kid": emSignerKID(&key.PublicKey)}, claims)
	if err != nil {
		return emBackOffice(http.StatusServiceUnavailable, "the voucher could not be signed")
	}
	return emAnswer{status: http.StatusOK, body: map[string]any{"access_token": token, "token_type": kind, "expires_in": int64(emVoucherLife / time.Second)}}
}

func emSign(key *rsa.PrivateKey, header, claims map[string]any) (string, error) {
	h, err := json.Marshal(header)
	if err != nil {
		return "", err
	}
	p, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	s := base64.RawURLEncoding.EncodeToString(h) + "." + base64.RawURLEncoding.EncodeToString(p)
	sum := sha256.Sum256([]byte(s))
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		return "", err
	}
	return s + "." + base64.RawURLEncoding.EncodeToString(sig), nil
}

// emNewID is a random UUID.
func emNewID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return emForm(b[:], 4)
}

// emDerived is a UUID that stays the same for the same thing.
func emDerived(kind, of string) string {
	sum := sha256.Sum256([]byte(kind + "\x00" + of))
	return emForm(sum[:16], 5)
}

func emForm(b []byte, version byte) string {
	b = slices.Clone(b)
	b[6], b[8] = b[6]&0x0f|version<<4, b[8]&0x3f|0x80
	const digits = "0123456789abcdef"
	var s []byte
	for i, c := range b {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			s = append(s, '-')
		}
		s = append(s, digits[c>>4], digits[c&15])
	}
	return string(s)
}
