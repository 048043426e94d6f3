package anagrafe

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// emModiAge is how old a ModI token may be when it arrives: five minutes are
// GovWay's default for iat.
const emModiAge = 5 * time.Minute

// emGovway is a refusal of the gateway, as GovWay words it (FACTS: the type's
// address ends with the status and the title). With which title it refuses a
// token is assumed; InteroperabilityInvalidRequest is confirmed for ModI.
func emGovway(status int, title, detail string) emAnswer {
	a := emAnswer{status: status, header: map[string]string{"GovWay-Transaction-ErrorType": title}, body: map[string]any{
		"type": "https://govway.org/handling-errors/" + strconv.Itoa(status) + "/" + title + ".html", "title": title, "status": status,
		"detail": detail, "govway_id": emNewID(),
	}}
	if status == http.StatusUnauthorized {
		a.header["WWW-Authenticate"] = `Bearer realm="ANPR", error="invalid_token"` // RFC 6750, 3
	}
	return a
}

func emModi(why error) *emAnswer {
	a := emGovway(http.StatusBadRequest, "InteroperabilityInvalidRequest", why.Error())
	return &a
}

func emUnauthorized(title string, why error) *emAnswer {
	a := emGovway(http.StatusUnauthorized, title, why.Error())
	return &a
}

// emVoucher is what a valid voucher grants.
type emVoucher struct {
	client, purpose, digest string
}

// gateway is GovWay before ANPR: the voucher, then ModI's integrity and audit,
// then the service behind.
func (e *Emulator) gateway(c *emCall, code string) emAnswer {
	now := e.cfg.Clock.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mem == nil {
		return emGovway(http.StatusServiceUnavailable, "APIUnavailable", errEmClosed.Error())
	}
	v, refused := e.admit(c, code, now)
	if refused != nil {
		return *refused
	}
	if refused = e.integrity(c, code, v, now); refused != nil {
		return *refused
	}
	if refused = e.audit(c, code, v, now); refused != nil {
		return *refused
	}
	return e.eservice(code, v, c.body)
}

// admit checks the voucher, its binding to a DPoP key, and that it was given for
// this e-service; e.mu is held.
func (e *Emulator) admit(c *emCall, code string, now time.Time) (*emVoucher, *emAnswer) {
	all := c.r.Header.Values("Authorization")
	if len(all) != 1 {
		return nil, emUnauthorized("TokenRequired", emReason("there is not one Authorization header"))
	}
	scheme, token, _ := strings.Cut(all[0], " ")
	bound := strings.EqualFold(scheme, "DPoP")
	if !bound && !strings.EqualFold(scheme, "Bearer") {
		return nil, emUnauthorized("TokenRequired", emReason("the scheme is neither Bearer nor DPoP"))
	}
	j, err := emReadJWS(token)
	if err == nil {
		err = j.shape("at+jwt", []string{"RS256"}, "kid")
	}
	if err == nil && j.header["kid"] != emSignerKID(&e.mem.signer.PublicKey) {
		err = emReason("the voucher's kid is not PDND's")
	}
	if err == nil {
		err = j.verify(&e.mem.signer.PublicKey)
	}
	if err != nil {
		return nil, emUnauthorized("TokenAuthenticationFailed", err)
	}
	if err := j.times(now, 0); err != nil {
		return nil, emUnauthorized("TokenExpired", err)
	}
	v := &emVoucher{client: j.text("client_id"), purpose: j.text("purposeId")}
	if d, _ := j.claims["digest"].(map[string]any); d != nil {
		v.digest, _ = d["value"].(string)
	}
	if of, known := e.far.Purposes[v.purpose]; e.far.Purposes != nil && (!known || of != code) {
		a := emGovway(http.StatusForbidden, "AuthorizationContentDeny", "the voucher's purpose is of another e-service")
		return nil, &a
	}
	cnf, _ := j.claims["cnf"].(map[string]any)
	switch {
	case cnf == nil && bound:
		return nil, emUnauthorized("TokenAuthenticationFailed", emReason("the voucher is not bound to a DPoP key"))
	case cnf != nil && !bound:
		return nil, emUnauthorized("TokenAuthenticationFailed", emReason("a DPoP voucher came as Bearer"))
	case cnf == nil && emServices()[code].dpop:
		return nil, emModi(emReason("the e-service takes DPoP vouchers only"))
	case cnf == nil:
		return v, nil
	}
	p, key, jkt, err := emProof(c.r, now)
	if err == nil {
		if s := emSurplus(p.claims, "htm", "htu", "jti", "iat", "ath", "nonce"); s != "" {
			err = emReason("unexpected claim of the proof: %s", emShort(s))
		}
	}
	if err == nil {
		err = p.verify(key)
	}
	if err == nil && jkt != cnf["jkt"] {
		err = emReason("the proof's key is not the voucher's")
	}
	if err == nil {
		sum := sha256.Sum256([]byte(token))
		if p.text("ath") != base64.RawURLEncoding.EncodeToString(sum[:]) { // RFC 9449, 4.2
			err = emReason("ath is not the voucher's hash")
		}
	}
	if err == nil {
		ok, kept := e.fresh("dpop", jkt, p.text("jti"), now.Add(emProofAge).Unix())
		if kept != nil || !ok {
			err = emReason("the proof's jti has been used already")
		}
	}
	if err != nil {
		a := emUnauthorized("TokenAuthenticationFailed", err)
		a.header["WWW-Authenticate"] = `DPoP error="invalid_dpop_proof", algs="ES256 RS256"` // RFC 9449, 7.1
		return nil, a
	}
	return v, nil
}

// modi reads a ModI token and checks what INTEGRITY_REST_02 and AUDIT_REST_02
// have in common.
func (e *Emulator) modi(c *emCall, header, code string, v *emVoucher, now time.Time, age time.Duration) (*emJWS, error) {
	all := c.r.Header.Values(header)
	if len(all) != 1 {
		return nil, emReason("there is not one %s header", header)
	}
	j, err := emReadJWS(all[0])
	if err != nil {
		return nil, emReason("%s: %w", header, err)
	}
	if err := j.shape("JWT", []string{"RS256"}, "kid"); err != nil {
		return nil, emReason("%s: %w", header, err)
	}
	kid, _ := j.header["kid"].(string)
	key := e.mem.keys[kid]
	if key == nil {
		return nil, emReason("%s: the kid is not registered", header)
	}
	if key.Client != v.client {
		return nil, emReason("%s: the kid is of another client than the voucher", header)
	}
	if err := j.verify(key.public); err != nil {
		return nil, emReason("%s: %w", header, err)
	}
	switch {
	case j.text("iss") != v.client:
		return nil, emReason("%s: iss is not the voucher's client", header)
	case j.text("jti") == "":
		return nil, emReason("%s: jti is missing", header)
	case !e.audience(j.text("aud"), code, c.r):
		return nil, emReason("%s: aud is not the e-service's", header)
	}
	if err := j.times(now, age); err != nil {
		return nil, emReason("%s: %w", header, err)
	}
	return j, nil
}

// audience compares with the e-service's: not its address, for the segment lacks
// -PDND and it ends at /v1 [P]. The host is ANPR's, or the city's own.
func (e *Emulator) audience(aud, code string, r *http.Request) bool {
	end := "/MinInternoPortaANPR/" + code + "-" + emServices()[code].name + "/v1"
	for _, host := range []string{"modipa", "modipa-val"} {
		if aud == "https://"+host+".anpr.interno.it/govway/rest/in"+end {
			return true
		}
	}
	u, err := url.Parse(aud)
	return err == nil && u.Host != "" && u.Host == r.Host && u.RawQuery == "" && u.Fragment == "" &&
		u.EscapedPath() == strings.TrimSuffix(emAskedPath(r), r.URL.EscapedPath())+end
}

// integrity is INTEGRITY_REST_02: Digest is the body's, and every header that
// must be signed is signed as it came.
func (e *Emulator) integrity(c *emCall, code string, v *emVoucher, now time.Time) *emAnswer {
	const header = "Agid-JWT-Signature"
	digests := c.r.Header.Values("Digest")
	if len(digests) != 1 {
		return emModi(emReason("there is not one Digest header"))
	}
	alg, value, _ := strings.Cut(digests[0], "=")
	sum := sha256.Sum256(c.body)
	switch got, err := base64.StdEncoding.Strict().DecodeString(value); {
	case alg != "SHA-256":
		return emModi(emReason("Digest is not SHA-256"))
	case err != nil || len(got) != len(sum):
		return emModi(emReason("Digest is not 32 bytes in base64"))
	case subtle.ConstantTimeCompare(got, sum[:]) != 1:
		return emModi(emReason("Digest is not the body's"))
	}
	kind, params, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" || len(params) > 1 || len(params) == 1 && !strings.EqualFold(params["charset"], "utf-8") {
		a := emGovway(http.StatusUnsupportedMediaType, "ContentTypeNotSupported", "Content-Type is not application/json")
		return &a
	}
	if enc := c.r.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		a := emGovway(http.StatusUnsupportedMediaType, "ContentTypeNotSupported", "Content-Encoding is not identity")
		return &a
	}
	j, err := e.modi(c, header, code, v, now, emModiAge)
	if err != nil {
		return emModi(err)
	}
	if s := emSurplus(j.claims, "iss", "sub", "aud", "jti", "iat", "nbf", "exp", "signed_headers"); s != "" {
		return emModi(emReason("%s: unexpected claim %s", header, emShort(s)))
	}
	if _, there := j.claims["nbf"]; !there {
		return emModi(emReason("%s: nbf is missing", header))
	}
	if j.text("sub") == "" {
		return emModi(emReason("%s: sub is missing", header))
	}
	if err := emSignedHeaders(j.claims["signed_headers"], c.r.Header); err != nil {
		return emModi(emReason("%s: %w", header, err))
	}
	exp, _ := j.second("exp")
	if ok, err := e.fresh("signature", v.client, j.text("jti"), exp); err != nil || !ok {
		return emModi(emReason("%s: jti has been used already", header))
	}
	return nil
}

// emSignedHeaders compares the claim with what came: digest and content-type
// always, content-encoding where there is one, nothing else.
func emSignedHeaders(claim any, got http.Header) error {
	list, ok := claim.([]any)
	if !ok {
		return errors.New("signed_headers is no list")
	}
	must := map[string]string{"digest": got.Get("Digest"), "content-type": got.Get("Content-Type")}
	if enc := got.Values("Content-Encoding"); len(enc) > 0 {
		must["content-encoding"] = enc[0]
	}
	for _, item := range list {
		m, ok := item.(map[string]any)
		if !ok || len(m) != 1 {
			return errors.New("signed_headers holds what is not one header")
		}
		for name, value := range m {
			want, open := must[name]
			if !open {
				return errors.New("signed_headers holds " + emShort(name) + " twice, or it is not there or not in small letters")
			}
			if value != want {
				return errors.New("signed_headers has another " + name + " than came")
			}
			delete(must, name)
		}
	}
	for _, name := range []string{"digest", "content-type", "content-encoding"} {
		if _, left := must[name]; left {
			return errors.New(name + " is not signed")
		}
	}
	return nil
}

// audit is AUDIT_REST_02: the evidence is the one whose digest PDND put into the
// voucher. It may come again as long as that voucher lives, for the voucher names
// it; its jti may not name another evidence.
func (e *Emulator) audit(c *emCall, code string, v *emVoucher, now time.Time) *emAnswer {
	const header = "Agid-JWT-TrackingEvidence"
	j, err := e.modi(c, header, code, v, now, 0)
	if err != nil {
		return emModi(err)
	}
	if s := emSurplus(j.claims, "iss", "sub", "aud", "jti", "iat", "nbf", "exp", "userID", "userLocation", "LoA", "purposeId", "dnonce"); s != "" {
		return emModi(emReason("%s: unexpected claim %s", header, emShort(s)))
	}
	for _, name := range []string{"userID", "userLocation", "LoA"} {
		if j.text(name) == "" {
			return emModi(emReason("%s: %s is missing", header, name))
		}
	}
	if j.text("purposeId") != v.purpose {
		return emModi(emReason("%s: purposeId is not the voucher's", header))
	}
	sum := sha256.Sum256([]byte(j.raw))
	digest := hex.EncodeToString(sum[:])
	switch {
	case v.digest == "":
		return emModi(emReason("%s: the voucher holds no digest", header))
	case v.digest != digest:
		return emModi(emReason("%s: the voucher's digest is of another evidence", header))
	}
	id := "evidence\x00" + v.client + "\x00" + j.text("jti")
	if old, there := e.mem.seen[id]; there {
		if old.Digest != digest {
			return emModi(emReason("%s: jti names another evidence", header))
		}
		return nil
	}
	exp, _ := j.second("exp")
	if err := e.keep(emLine{Seen: &emSeen{ID: id, Until: exp, Digest: digest}}); err != nil {
		a := emGovway(http.StatusServiceUnavailable, "APIUnavailable", "the evidence could not be kept")
		return &a
	}
	return nil
}
