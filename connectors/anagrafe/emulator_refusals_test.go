package anagrafe_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// refusal is one request that is wrong in one thing. Where says who must refuse
// it: PDND (the voucher is never given), the gateway, or the service behind it.
type refusal struct {
	name   string
	code   string // e-service; C030 where empty
	where  string // pdnd, gateway, anpr
	spoil  func(a *attempt)
	status int
	err    string // errors[].code, GovWay's title, codiceErroreAnomalia
	why    string // a part of the reason
}

const (
	pdnd, gateway, anpr = "pdnd", "gateway", "anpr"
	invalidRequest      = "InteroperabilityInvalidRequest"
	failed              = "TokenAuthenticationFailed"
)

func drop(claims func(a *attempt) object, name string) func(a *attempt) {
	return func(a *attempt) { delete(claims(a), name) }
}

func set(claims func(a *attempt) object, name string, v any) func(a *attempt) {
	return func(a *attempt) { claims(a)[name] = v }
}

func assertion(a *attempt) object    { return a.assert.claims }
func assertHeader(a *attempt) object { return a.assert.header }
func sigClaims(a *attempt) object    { return a.sig.claims }
func sigHeader(a *attempt) object    { return a.sig.header }
func evClaims(a *attempt) object     { return a.evidence.claims }
func evHeader(a *attempt) object     { return a.evidence.header }
func tokenProof(a *attempt) object   { return a.tokenJWT.claims }
func callProof(a *attempt) object    { return a.proof.claims }
func request(a *attempt) object      { return a.body.(object) }
func criteria(a *attempt) object     { return a.part("criteriRicerca") }
func data(a *attempt) object         { return a.part("datiRichiesta") }

// later is a claim some seconds from now.
func later(claims func(a *attempt) object, name string, seconds int64) func(a *attempt) {
	return func(a *attempt) { claims(a)[name] = a.f.clock.Now().Unix() + seconds }
}

// flip changes the last character but two of a token's part.
func flip(part int) func(string) string {
	return func(s string) string {
		ps := strings.Split(s, ".")
		b := []byte(ps[part])
		i := len(b) / 2
		if b[i] == 'A' {
			b[i] = 'B'
		} else {
			b[i] = 'A'
		}
		ps[part] = string(b)
		return strings.Join(ps, ".")
	}
}

// replayed uses the jti of a call that was accepted.
func replayed(claims func(a *attempt) object) func(a *attempt) {
	return func(a *attempt) {
		before := a.f.attempt(a.code)
		before.ok()
		claims(a)["jti"] = claims(before)["jti"]
		request(a)["idOperazioneClient"] = a.f.number()
	}
}

func signed(h ...any) func(a *attempt) {
	return func(a *attempt) { a.sig.claims["signed_headers"] = h }
}

// digest is the right Digest of the body as it is going to be sent.
func digest(a *attempt) string {
	b, _ := json.Marshal(a.body)
	a.body = string(b)
	return "SHA-256=" + sha(string(b))
}

func refusals() []refusal {
	return []refusal{
		// PDND: the form (RFC 6749, 4.4; RFC 7523, 2.2)
		{"JSON instead of a form", "", pdnd, func(a *attempt) { a.formType = "application/json" }, 400, "015-0001", "Content-Type"},
		{"grant type of a user", "", pdnd, func(a *attempt) { a.form.Set("grant_type", "authorization_code") }, 400, "015-0001", "grant_type"},
		{"no grant type", "", pdnd, func(a *attempt) { a.form.Del("grant_type") }, 400, "015-0001", "grant_type"},
		{"SAML assertion type", "", pdnd, func(a *attempt) {
			a.form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer")
		}, 400, "015-0001", "client_assertion_type"},
		{"client_id no UUID", "", pdnd, func(a *attempt) { a.form.Set("client_id", "venezia") }, 400, "015-0001", "client_id"},
		{"two assertions", "", pdnd, func(a *attempt) { a.form["client_assertion"] = []string{"a", "b"} }, 400, "015-0001", "client_assertion"},
		// PDND: the assertion's form and header
		{"no JWS", "", pdnd, func(a *attempt) { a.assert.raw = "abc" }, 400, "015-0002", "compact"},
		{"padded base64", "", pdnd, func(a *attempt) { a.assert.after = func(s string) string { return s + "==" } }, 400, "015-0002", "signature is no base64url"},
		{"payload no JSON", "", pdnd, func(a *attempt) { a.assert.raw = b64([]byte(`{"alg":"RS256"}`)) + "." + b64([]byte("x")) + ".AA" }, 400, "015-0002", "payload"},
		{"a claim twice", "", pdnd, func(a *attempt) { a.assert.raw = sign(a.assert.header, `{"iss":"a","iss":"b"}`, a.assert.key) }, 400, "015-0002", "payload"},
		{"alg none", "", pdnd, func(a *attempt) { a.assert.header["alg"], a.assert.key = "none", nil }, 400, "015-0002", "alg is not allowed"},
		{"alg HS256", "", pdnd, set(assertHeader, "alg", "HS256"), 400, "015-0002", "alg is not allowed"},
		{"alg RS512", "", pdnd, set(assertHeader, "alg", "RS512"), 400, "015-0002", "alg is not allowed"},
		{"no alg", "", pdnd, drop(assertHeader, "alg"), 400, "015-0002", "alg is missing"},
		{"typ of a voucher", "", pdnd, set(assertHeader, "typ", "at+jwt"), 400, "015-0002", "typ"},
		{"no kid", "", pdnd, drop(assertHeader, "kid"), 400, "015-0002", "kid"},
		{"kid with a space", "", pdnd, set(assertHeader, "kid", "k 1"), 400, "015-0002", "kid"},
		{"key in the header", "", pdnd, set(assertHeader, "jwk", object{"kty": "RSA"}), 400, "015-0002", "header holds"},
		{"crit in the header", "", pdnd, set(assertHeader, "crit", []any{"exp"}), 400, "015-0002", "header holds"},
		// PDND: the assertion's claims; nbf is no claim of it
		{"nbf", "", pdnd, later(assertion, "nbf", 0), 400, "015-0002", "unexpected client assertion payload: nbf"},
		{"surplus claim", "", pdnd, set(assertion, "scope", "all"), 400, "015-0002", "unexpected client assertion payload: scope"},
		{"no iss", "", pdnd, drop(assertion, "iss"), 400, "015-0002", "iss"},
		{"no sub", "", pdnd, drop(assertion, "sub"), 400, "015-0002", "sub"},
		{"iss of another", "", pdnd, set(assertion, "iss", otherOne), 400, "015-0002", "iss is not sub"},
		{"sub no UUID", "", pdnd, set(assertion, "sub", "venezia"), 400, "015-0002", "sub is no UUID"},
		{"sub is not client_id", "", pdnd, func(a *attempt) { a.form.Set("client_id", otherOne) }, 400, "015-0002", "client_id"},
		{"no aud", "", pdnd, drop(assertion, "aud"), 400, "015-0002", "aud"},
		{"aud of the e-service", "", pdnd, set(assertion, "aud", modipa), 400, "015-0002", "aud"},
		{"aud is the endpoint", "", pdnd, set(assertion, "aud", "https://auth.uat.interop.pagopa.it/token.oauth2"), 400, "015-0002", "aud"},
		{"aud is a list", "", pdnd, set(assertion, "aud", []any{"auth.uat.interop.pagopa.it/client-assertion"}), 400, "015-0002", "aud"},
		{"no jti", "", pdnd, drop(assertion, "jti"), 400, "015-0002", "jti"},
		{"no iat", "", pdnd, drop(assertion, "iat"), 400, "015-0002", "iat"},
		{"iat is text", "", pdnd, set(assertion, "iat", "1795000000"), 400, "015-0002", "iat"},
		{"iat with a fraction", "", pdnd, set(assertion, "iat", 1795000000.5), 400, "015-0002", "iat"},
		{"iat a second ahead", "", pdnd, later(assertion, "iat", 1), 400, "015-0002", "iat lies in the future"},
		{"no exp", "", pdnd, drop(assertion, "exp"), 400, "015-0002", "exp"},
		{"expired this second", "", pdnd, later(assertion, "exp", 0), 400, "015-0002", "expired"},
		{"no purposeId", "", pdnd, drop(assertion, "purposeId"), 400, "015-0002", "purposeId"},
		{"purposeId no UUID", "", pdnd, set(assertion, "purposeId", "C030"), 400, "015-0002", "purposeId is no UUID"},
		{"purpose of nobody", "", pdnd, set(assertion, "purposeId", otherOne), 400, "015-0006", "purpose"},
		{"digest is text", "", pdnd, set(assertion, "digest", "00"), 400, "015-0002", "digest is not"},
		{"digest with more", "", pdnd, set(assertion, "digest", object{"alg": "SHA256", "value": strings.Repeat("0", 64), "x": 1}), 400, "015-0002", "digest is not"},
		{"digest of SHA512", "", pdnd, set(assertion, "digest", object{"alg": "SHA512", "value": strings.Repeat("0", 64)}), 400, "015-0002", "digest.alg"},
		{"digest in base64", "", pdnd, set(assertion, "digest", object{"alg": "SHA256", "value": "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg="}), 400, "015-0002", "digest.value"},
		// PDND: the key
		{"kid of nobody", "", pdnd, set(assertHeader, "kid", "k9"), 400, "015-0006", "no key of this kid"},
		{"kid of another client", "", pdnd, set(assertHeader, "kid", "kx"), 400, "015-0006", "no key of this kid"},
		{"signed with another key", "", pdnd, func(a *attempt) { a.assert.key = keys().stranger }, 400, "015-0003", "signature"},
		{"payload changed", "", pdnd, func(a *attempt) {
			a.assert.after = func(s string) string {
				p := strings.Split(s, ".")
				a.assert.claims["jti"] = "other"
				return p[0] + "." + strings.Split(sign(a.assert.header, a.assert.claims, nil), ".")[1] + "." + p[2]
			}
		}, 400, "015-0003", "signature"},
		{"assertion sent again", "", pdnd, replayed(assertion), 400, "015-0002", "jti has been used"},
		// PDND: the DPoP proof (RFC 9449, 4.3 and 5)
		{"proof of typ JWT", "C020", pdnd, func(a *attempt) { a.tokenJWT.header["typ"] = "JWT" }, 400, "015-0009", "typ"},
		{"proof without a key", "C020", pdnd, func(a *attempt) { delete(a.tokenJWT.header, "jwk") }, 400, "015-0009", "jwk"},
		{"proof with a private key", "C020", pdnd, func(a *attempt) { a.tokenJWT.header["jwk"].(object)["d"] = "AQ" }, 400, "015-0009", "private"},
		{"proof with HS256", "C020", pdnd, func(a *attempt) { a.tokenJWT.header["alg"] = "HS256" }, 400, "015-0009", "alg"},
		{"proof for GET", "C020", pdnd, set(tokenProof, "htm", "GET"), 400, "015-0009", "htm"},
		{"proof for another address", "C020", pdnd, set(tokenProof, "htu", "https://auth.interop.pagopa.it/token.oauth2"), 400, "015-0009", "htu"},
		{"proof without iat", "C020", pdnd, drop(tokenProof, "iat"), 400, "015-0009", "iat"},
		{"proof from the future", "C020", pdnd, later(tokenProof, "iat", 1), 400, "015-0009", "iat lies"},
		{"proof too old", "C020", pdnd, later(tokenProof, "iat", -61), 400, "015-0009", "too old"},
		{"proof without jti", "C020", pdnd, drop(tokenProof, "jti"), 400, "015-0009", "jti"},
		{"proof with ath", "C020", pdnd, set(tokenProof, "ath", "x"), 400, "015-0009", "ath"},
		{"proof signed by another key", "C020", pdnd, func(a *attempt) { a.tokenJWT.key = keys().dpop2 }, 400, "015-0010", "signature"},
		{"proof sent again", "C020", pdnd, replayed(tokenProof), 400, "015-0012", "jti"},
		// Gateway: the voucher
		{"no Authorization", "", gateway, without("Authorization"), 401, "TokenRequired", "Authorization"},
		{"basic authorization", "", gateway, header("Authorization", "Basic eDp5"), 401, "TokenRequired", "scheme"},
		{"no token", "", gateway, header("Authorization", "Bearer x"), 401, failed, "compact"},
		{"voucher changed", "", gateway, func(a *attempt) { a.voucher = flip(1) }, 401, failed, ""},
		{"voucher's signature changed", "", gateway, func(a *attempt) { a.voucher = flip(2) }, 401, failed, "signature"},
		{"own JWT as a voucher", "", gateway, func(a *attempt) { a.voucher = func(string) string { return a.assert.String() } }, 401, failed, "typ"},
		{"voucher made at home", "", gateway, func(a *attempt) {
			a.voucher = func(string) string {
				return sign(object{"alg": "RS256", "typ": "at+jwt", "kid": "k1"}, object{"client_id": testClient, "purposeId": purpose030, "iat": 1, "exp": 4e9}, keys().known)
			}
		}, 401, failed, "kid"},
		{"voucher expired", "", gateway, func(a *attempt) {
			a.before = func() {
				a.f.clock.Advance(a.f.clock.Now().Add(600 * time.Second))
				now := a.f.clock.Now().Unix()
				a.sig.claims["iat"], a.sig.claims["nbf"], a.sig.claims["exp"] = now, now, now+60
			}
		}, 401, "TokenExpired", "expired"},
		{"voucher of another purpose", "", gateway, func(a *attempt) { a.path = strings.Replace(a.path, names("C030"), names("C021"), 1) }, 403, "AuthorizationContentDeny", "purpose"},
		// Gateway: DPoP
		{"DPoP voucher as Bearer", "C020", gateway, func(a *attempt) {
			a.header = func(h http.Header) {
				h.Set("Authorization", strings.Replace(h.Get("Authorization"), "DPoP ", "Bearer ", 1))
			}
		}, 401, failed, "as Bearer"},
		{"Bearer voucher as DPoP", "", gateway, func(a *attempt) {
			a.header = func(h http.Header) {
				h.Set("Authorization", strings.Replace(h.Get("Authorization"), "Bearer ", "DPoP ", 1))
			}
		}, 401, failed, "not bound"},
		{"Bearer where only DPoP is taken", "C020", gateway, func(a *attempt) { a.dpop = false }, 400, invalidRequest, "DPoP vouchers only"},
		{"no proof", "C020", gateway, func(a *attempt) { a.proof.absent = true }, 401, failed, "DPoP header"},
		{"two proofs", "C020", gateway, func(a *attempt) { a.header = func(h http.Header) { h.Add("DPoP", "x") } }, 401, failed, "DPoP header"},
		{"proof of another key", "C020", gateway, func(a *attempt) {
			a.proof.header["jwk"], a.proof.key = ecJWK(&keys().dpop2.PublicKey), keys().dpop2
		}, 401, failed, "not the voucher's"},
		{"proof with another signature", "C020", gateway, func(a *attempt) { a.proof.key = keys().dpop2 }, 401, failed, "signature"},
		{"ath of another voucher", "C020", gateway, set(callProof, "ath", b64(make([]byte, 32))), 401, failed, "ath"},
		{"no ath", "C020", gateway, set(callProof, "ath", ""), 401, failed, "ath"},
		{"proof of the token endpoint", "C020", gateway, func(a *attempt) { a.proof.claims["htu"] = a.f.url("/pdnd/token.oauth2") }, 401, failed, "htu"},
		{"proof for PUT", "C020", gateway, set(callProof, "htm", "PUT"), 401, failed, "htm"},
		{"call's proof sent again", "C020", gateway, replayed(callProof), 401, failed, "jti"},
		// Gateway: Digest and INTEGRITY_REST_02
		{"no Digest", "", gateway, without("Digest"), 400, invalidRequest, "Digest"},
		{"Digest of another body", "", gateway, func(a *attempt) { a.digest = "SHA-256=" + sha("{}") }, 400, invalidRequest, "not the body's"},
		{"Digest in hexadecimal", "", gateway, func(a *attempt) { a.digest = "SHA-256=" + strings.Repeat("ab", 32) }, 400, invalidRequest, "base64"},
		{"Digest of SHA-512", "", gateway, func(a *attempt) { a.digest = "SHA-512=AAAA" }, 400, invalidRequest, "SHA-256"},
		{"XML", "", gateway, header("Content-Type", "text/xml"), 415, "ContentTypeNotSupported", "Content-Type"},
		{"compressed", "", gateway, header("Content-Encoding", "gzip"), 415, "ContentTypeNotSupported", "Content-Encoding"},
		{"no signature header", "", gateway, without("Agid-JWT-Signature"), 400, invalidRequest, "Agid-JWT-Signature"},
		{"two signature headers", "", gateway, func(a *attempt) { a.header = func(h http.Header) { h.Add("Agid-JWT-Signature", "x") } }, 400, invalidRequest, "not one Agid-JWT-Signature"},
		{"signature of alg none", "", gateway, func(a *attempt) { a.sig.header["alg"], a.sig.key = "none", nil }, 400, invalidRequest, "alg"},
		{"signature with x5c", "", gateway, set(sigHeader, "x5c", []any{"AA"}), 400, invalidRequest, "header holds"},
		{"signature of typ at+jwt", "", gateway, set(sigHeader, "typ", "at+jwt"), 400, invalidRequest, "typ"},
		{"signature without kid", "", gateway, drop(sigHeader, "kid"), 400, invalidRequest, "kid"},
		{"signature by nobody", "", gateway, set(sigHeader, "kid", "k9"), 400, invalidRequest, "kid is not registered"},
		{"signature by another client", "", gateway, func(a *attempt) { a.sig.header["kid"], a.sig.key = "kx", keys().other }, 400, invalidRequest, "another client"},
		{"signature by another key", "", gateway, func(a *attempt) { a.sig.key = keys().second }, 400, invalidRequest, "signature"},
		{"signature without iss", "", gateway, drop(sigClaims, "iss"), 400, invalidRequest, "iss"},
		{"signature without sub", "", gateway, drop(sigClaims, "sub"), 400, invalidRequest, "sub"},
		{"signature without jti", "", gateway, drop(sigClaims, "jti"), 400, invalidRequest, "jti"},
		{"signature without nbf", "", gateway, drop(sigClaims, "nbf"), 400, invalidRequest, "nbf"},
		{"signature without iat", "", gateway, drop(sigClaims, "iat"), 400, invalidRequest, "iat"},
		{"signature without exp", "", gateway, drop(sigClaims, "exp"), 400, invalidRequest, "exp"},
		{"audience with -PDND", "", gateway, set(sigClaims, "aud", strings.Replace(modipa, "ANPR/", "ANPR-PDND/", 1)+names("C030")+"/v1"), 400, invalidRequest, "aud"},
		{"audience of another e-service", "", gateway, set(sigClaims, "aud", modipa+names("C021")+"/v1"), 400, invalidRequest, "aud"},
		{"audience is the address", "", gateway, set(sigClaims, "aud", modipa+names("C030")+"/v1/anpr-service-e002"), 400, invalidRequest, "aud"},
		{"signature a second ahead", "", gateway, later(sigClaims, "iat", 1), 400, invalidRequest, "iat lies in the future"},
		{"signature not valid yet", "", gateway, later(sigClaims, "nbf", 1), 400, invalidRequest, "nbf"},
		{"signature expired", "", gateway, later(sigClaims, "exp", 0), 400, invalidRequest, "expired"},
		{"signature too old", "", gateway, later(sigClaims, "iat", -301), 400, invalidRequest, "older"},
		{"signature sent again", "", gateway, replayed(sigClaims), 400, invalidRequest, "jti has been used"},
		{"surplus claim of the signature", "", gateway, set(sigClaims, "scope", "all"), 400, invalidRequest, "unexpected claim"},
		{"signed_headers is a map", "", gateway, set(sigClaims, "signed_headers", object{"digest": "x"}), 400, invalidRequest, "no list"},
		{"Digest not signed", "", gateway, signed(object{"content-type": "application/json"}), 400, invalidRequest, "digest is not signed"},
		{"Content-Type not signed", "", gateway, func(a *attempt) { signed(object{"digest": digest(a)})(a) }, 400, invalidRequest, "content-type is not signed"},
		{"Content-Encoding not signed", "", gateway, header("Content-Encoding", "identity"), 400, invalidRequest, "content-encoding is not signed"},
		{"another Digest signed", "", gateway, signed(object{"digest": "SHA-256=" + strings.Repeat("A", 43) + "="}, object{"content-type": "application/json"}), 400, invalidRequest, "another digest"},
		{"another Content-Type signed", "", gateway, func(a *attempt) { signed(object{"digest": digest(a)}, object{"content-type": "text/plain"})(a) }, 400, invalidRequest, "another content-type"},
		{"a header that never came", "", gateway, func(a *attempt) { signed(object{"digest": digest(a)}, object{"x-role": "admin"})(a) }, 400, invalidRequest, "x-role"},
		{"names in capitals", "", gateway, func(a *attempt) { signed(object{"Digest": digest(a)})(a) }, 400, invalidRequest, "small letters"},
		{"a header signed twice", "", gateway, func(a *attempt) { d := digest(a); signed(object{"digest": d}, object{"digest": d})(a) }, 400, invalidRequest, "twice"},
		{"two headers in one entry", "", gateway, func(a *attempt) { signed(object{"digest": digest(a), "content-type": "application/json"})(a) }, 400, invalidRequest, "not one header"},
		// Gateway: AUDIT_REST_02
		{"no evidence", "", gateway, without("Agid-JWT-TrackingEvidence"), 400, invalidRequest, "TrackingEvidence"},
		{"evidence of typ at+jwt", "", gateway, set(evHeader, "typ", "at+jwt"), 400, invalidRequest, "typ"},
		{"evidence with x5c", "", gateway, set(evHeader, "x5c", []any{"AA"}), 400, invalidRequest, "header holds"},
		{"evidence by another key", "", gateway, func(a *attempt) { a.evidence.key = keys().stranger }, 400, invalidRequest, "signature"},
		{"evidence without userID", "", gateway, drop(evClaims, "userID"), 400, invalidRequest, "userID"},
		{"evidence without userLocation", "", gateway, drop(evClaims, "userLocation"), 400, invalidRequest, "userLocation"},
		{"evidence without LoA", "", gateway, drop(evClaims, "LoA"), 400, invalidRequest, "LoA"},
		{"evidence of another purpose", "", gateway, set(evClaims, "purposeId", purpose021), 400, invalidRequest, "purposeId"},
		{"evidence for another e-service", "", gateway, set(evClaims, "aud", modipa+names("C021")+"/v1"), 400, invalidRequest, "aud"},
		{"evidence expired", "", gateway, later(evClaims, "exp", 0), 400, invalidRequest, "expired"},
		{"evidence without jti", "", gateway, drop(evClaims, "jti"), 400, invalidRequest, "jti"},
		{"surplus claim of the evidence", "", gateway, set(evClaims, "name", "Mario"), 400, invalidRequest, "unexpected claim"},
		{"voucher without a digest", "", gateway, set(assertion, "digest", nil), 400, invalidRequest, "no digest"},
		{"evidence of another voucher", "", gateway, set(assertion, "digest", object{"alg": "SHA256", "value": strings.Repeat("0", 64)}), 400, invalidRequest, "another evidence"},
		{"jti of another evidence", "", gateway, func(a *attempt) { replayed(evClaims)(a); a.evidence.claims["userID"] = "operator-2" }, 400, invalidRequest, "names another evidence"},
		// ANPR: the body (C001's OpenAPI; idOperazioneClient)
		{"no JSON", "", anpr, func(a *attempt) { a.body = "{" }, 400, "EN100", ""},
		{"a key twice", "", anpr, func(a *attempt) { a.body = `{"idOperazioneClient":"1","idOperazioneClient":"2"}` }, 400, "EN100", ""},
		{"surplus member", "", anpr, set(func(a *attempt) object { return request(a) }, "x", 1), 400, "EN100", ""},
		{"no number", "", anpr, drop(func(a *attempt) object { return request(a) }, "idOperazioneClient"), 400, "EN101", ""},
		{"number not numeric", "", anpr, set(func(a *attempt) object { return request(a) }, "idOperazioneClient", "A1"), 400, "EN101", ""},
		{"number is a number", "", anpr, set(func(a *attempt) object { return request(a) }, "idOperazioneClient", 5), 400, "EN101", ""},
		{"number lower than the last", "", anpr, func(a *attempt) {
			a.f.n += 5
			before := a.f.attempt(a.code)
			before.ok()
			request(a)["idOperazioneClient"] = fmt.Sprint(a.f.n - 1)
		}, 400, "EN102", "inferiore"},
		{"no criteria", "", anpr, drop(func(a *attempt) object { return request(a) }, "criteriRicerca"), 400, "EN103", ""},
		{"criterion of its own", "", anpr, set(criteria, "email", "x"), 400, "EN103", ""},
		{"by tax code and name", "", anpr, set(criteria, "cognome", "ROSSI"), 400, "EN103", ""},
		{"tax code that is none", "", anpr, set(criteria, "codiceFiscale", "RSSMRA80A01L736X"), 400, "EN108", ""},
		{"C020 by tax code", "C020", anpr, func(a *attempt) { request(a)["criteriRicerca"] = object{"codiceFiscale": mario} }, 400, "EN107", ""},
		{"C020 by an id that is none", "C020", anpr, set(criteria, "idANPR", "1"), 400, "EN108", ""},
		{"no request data", "", anpr, drop(func(a *attempt) object { return request(a) }, "datiRichiesta"), 400, "EN104", ""},
		{"no case number", "", anpr, set(data, "motivoRichiesta", " "), 400, "EN104", ""},
		{"date in Italian", "", anpr, set(data, "dataRiferimentoRichiesta", "24/11/2026"), 400, "EN104", ""},
		{"date of tomorrow", "", anpr, set(data, "dataRiferimentoRichiesta", "2026-11-25"), 400, "EN105", ""},
		{"case of use of another", "", anpr, set(data, "casoUso", "C020"), 400, "EN106", ""},
		{"nobody of this tax code", "", anpr, set(criteria, "codiceFiscale", "DOEJHN99T13Z121S"), 404, "EN122", "nessun risultato|alcun risultato"},
	}
}

func without(name string) func(a *attempt) {
	return func(a *attempt) { a.header = func(h http.Header) { h.Del(name) } }
}

func header(name, v string) func(a *attempt) {
	return func(a *attempt) { a.header = func(h http.Header) { h.Set(name, v) } }
}

// problem is what all three kinds of refusal have in common.
type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Type   string `json:"type"`
	Error  string `json:"error"`
	Errors []struct{ Code, Detail string }
	List   []struct {
		Code string `json:"codiceErroreAnomalia"`
		Text string `json:"testoErroreAnomalia"`
	} `json:"listaErrori"`
}

// TestEmulatorRefuses goes through the table: each is refused by the one who must,
// with its status and its code, and for its own reason.
func TestEmulatorRefuses(t *testing.T) {
	table := refusals()
	if len(table) < 60 {
		t.Fatalf("%d rows, want at least 60", len(table))
	}
	f := newFar(t, "")
	seen := map[string]bool{}
	for _, c := range table {
		if seen[c.name] {
			t.Fatalf("%s is there twice", c.name)
		}
		seen[c.name] = true
		t.Run(c.name, func(t *testing.T) {
			f.t = t
			defer func() { f.t = t }()
			code := c.code
			if code == "" {
				code = "C030"
			}
			a := f.attempt(code)
			c.spoil(a)
			var status int
			var body string
			if c.where == pdnd {
				status, body = a.token()
			} else {
				status, body = a.call()
			}
			var p problem
			if err := json.Unmarshal([]byte(body), &p); err != nil || status != c.status {
				t.Fatalf("got %d %s, want %d %s", status, body, c.status, c.err)
			}
			got, why := p.Title, p.Detail
			switch {
			case c.where == pdnd && len(p.Errors) == 1:
				got, why = p.Errors[0].Code, p.Errors[0].Detail
				if p.Error == "" || p.Status != status {
					t.Errorf("the body is no error of OAuth with PDND's problem: %s", body)
				}
			case c.where == anpr && len(p.List) == 1:
				got, why = p.List[0].Code, p.List[0].Text
			case c.where == gateway && !strings.HasPrefix(p.Type, "https://govway.org/handling-errors/"):
				t.Errorf("the body is no problem of GovWay: %s", body)
			}
			if got != c.err {
				t.Errorf("got %s (%s), want %s", got, why, c.err)
			}
			for _, w := range strings.Split(c.why, "|") {
				if strings.Contains(why, w) {
					return
				}
			}
			t.Errorf("refused because %q, want %q", why, c.why)
		})
	}
	// The table's control: what is not spoilt passes, at the end as at the beginning.
	f.t = t
	for _, code := range []string{"C030", "C020", "C021", "C015"} {
		f.attempt(code).ok()
	}
}

var update = flag.Bool("update-emulator", false, "write EMULATOR.md's tables anew")

// TestEmulatorDocument holds EMULATOR.md's tables to those of the tests.
func TestEmulatorDocument(t *testing.T) {
	cell := func(s string) string { return strings.ReplaceAll(s, "|", "\\|") }
	var b strings.Builder
	who := map[string]string{pdnd: "PDND", gateway: "gateway", anpr: "ANPR"}
	b.WriteString("| # | what is wrong | e-service | refused by | status | code |\n|---|---|---|---|---|---|\n")
	for i, c := range refusals() {
		code := c.code
		if code == "" {
			code = "C030"
		}
		fmt.Fprintf(&b, "| %d | %s | %s | %s | %d | `%s` |\n", i+1, cell(c.name), code, who[c.where], c.status, c.err)
	}
	b.WriteString("\n| # | what is wrong with a message to service 6001 | code |\n|---|---|---|\n")
	for i, c := range messageRefusals() {
		fmt.Fprintf(&b, "| %d | %s | `%s` |\n", i+1, cell(c.name), c.code)
	}
	b.WriteString("\n| # | what is wrong with a message to service 5005, besides its envelope and security | code |\n|---|---|---|\n")
	for i, c := range changeRefusals() {
		fmt.Fprintf(&b, "| %d | %s | `%s` |\n", i+1, cell(c.name), c.code)
	}
	const first, last = "<!-- refusals -->\n", "<!-- /refusals -->"
	have, err := os.ReadFile("EMULATOR.md")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(have), first)
	_, after, ok2 := strings.Cut(rest, last)
	if !ok || !ok2 {
		t.Fatal("EMULATOR.md lacks the markers of its generated part")
	}
	want := before + first + b.String() + last + after
	if *update {
		if err := os.WriteFile("EMULATOR.md", []byte(want), 0o644); err != nil { //nolint:gosec // for all to read
			t.Fatal(err)
		}
		return
	}
	if want != string(have) {
		t.Error("EMULATOR.md is stale: run `go test ./connectors/anagrafe -run EmulatorDocument -update-emulator`")
	}
}
