package anagrafe

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/httpclient"
	"github.com/dime-bus/dime/internal/jose"
	"github.com/dime-bus/dime/internal/schema"
)

const (
	assertionLife = 5 * time.Minute
	evidenceLife  = time.Hour       // longer than any voucher: the evidence comes with each call
	signatureLife = 4 * time.Minute // trust.md: no token above ten
	behind        = 2 * time.Second // iat lies back: the gateways take none from the future, not by a second
	early         = 30 * time.Second
)

// voucher is an access token of PDND for one e-service, with the evidence whose
// digest stands in it (AUDIT_REST_02) and the key to which it is bound (RFC 9449).
type voucher struct {
	kid      string // of the key that signed the evidence
	token    string
	evidence string
	proof    *ecdsa.PrivateKey
	until    time.Time
}

type vouchers struct {
	mu sync.Mutex
	by map[string]voucher // e-service
}

func (v *vouchers) drop() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.by = nil
}

// voucherFor gives a voucher that lives a while yet, asking PDND for a new one
// where there is none. One that was asked for with another key than the one that
// signs now is left to the calls that have it: that key may be taken back soon. A
// series of numbers lets one call at once ask for an e-service's.
func (c *Connector) voucherFor(ctx context.Context, code string, key signing) (voucher, error) {
	c.vouchers.mu.Lock()
	v, ok := c.vouchers.by[code]
	c.vouchers.mu.Unlock()
	if ok && v.kid == key.kid && c.clock.Now().Add(early).Before(v.until) {
		return v, nil
	}
	v, err := c.ask(ctx, code, key)
	if err != nil && c.city && fault.From(err).Kind == fault.Denied {
		// The city may have begun anew and know our key no more.
		c.unregister()
		if key, err = c.signer(ctx); err == nil {
			v, err = c.ask(ctx, code, key)
		}
	}
	if err != nil {
		return voucher{}, err
	}
	c.vouchers.mu.Lock()
	defer c.vouchers.mu.Unlock()
	if c.vouchers.by == nil {
		c.vouchers.by = map[string]voucher{}
	}
	c.vouchers.by[code] = v
	return v, nil
}

// ask gets a DPoP voucher with tracking data: the evidence is made first, for the
// assertion names its SHA-256 in hexadecimal (PDND manual, "voucher con
// informazioni aggiuntive"; ModI, AUDIT_REST_02).
func (c *Connector) ask(ctx context.Context, code string, key signing) (v voucher, err error) {
	now := c.clock.Now().Add(-behind)
	v.kid = key.kid
	if v.evidence, err = jose.Sign(key.key, jose.Header{Type: "JWT", KID: key.kid}, map[string]any{
		"iss": c.cfg.ClientID, "aud": c.audience(code), "jti": uuid(), "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(evidenceLife).Unix(),
		"userID": c.cfg.User, "userLocation": c.cfg.Location, "LoA": c.cfg.LoA, "purposeId": c.cfg.Purposes[code],
	}); err != nil {
		return v, unavailable("the tracking evidence can't be signed", err)
	}
	sum := sha256.Sum256([]byte(v.evidence))
	// Exactly these claims: PDND refuses any other, nbf too.
	assertion, err := jose.Sign(key.key, jose.Header{Type: "JWT", KID: key.kid}, map[string]any{
		"iss": c.cfg.ClientID, "sub": c.cfg.ClientID, "aud": c.cfg.Audience, "jti": uuid(), "iat": now.Unix(), "exp": now.Add(assertionLife).Unix(),
		"purposeId": c.cfg.Purposes[code], "digest": map[string]any{"alg": "SHA256", "value": hex.EncodeToString(sum[:])},
	})
	if err != nil {
		return v, unavailable("the client assertion can't be signed", err)
	}
	to, err := c.tokenURL()
	if err != nil {
		return v, unavailable("`token_url` is no address", err)
	}
	if v.proof, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return v, unavailable("no DPoP key can be made", err)
	}
	proof, err := c.proof(v.proof, http.MethodPost, to, "")
	if err != nil {
		return v, err
	}
	form := url.Values{"client_id": {c.cfg.ClientID}, "client_assertion": {assertion}, "grant_type": {"client_credentials"},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}}
	resp, err := c.client.Do(ctx, httpclient.Request{Method: http.MethodPost, URL: to, Safe: true, Body: []byte(form.Encode()), Header: http.Header{
		"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"application/json"}, "Dpop": {proof},
	}})
	if err != nil {
		return v, err
	}
	life, token, f := readToken(resp)
	if f != nil {
		return v, f
	}
	v.token, v.until = token, c.clock.Now().Add(life)
	return v, nil
}

func (c *Connector) tokenURL() (*url.URL, error) {
	if c.city {
		return c.at("/pdnd/token.oauth2"), nil
	}
	return url.Parse(c.cfg.TokenURL)
}

// readToken reads an answer of token.oauth2: the voucher, or a Problem with
// errors[].code.
func readToken(resp *httpclient.Response) (time.Duration, string, *fault.Error) {
	v, err := schema.DecodeJSON(resp.Body)
	m, _ := v.(map[string]any)
	if resp.Status != http.StatusOK {
		if f := httpclient.FaultOf(resp.Status, true, resp.Header); f != nil && f.Kind.Row().Transient {
			return 0, "", f
		}
		detail := fmt.Sprintf("PDND gave no voucher: it answered %d", resp.Status)
		if es, _ := m["errors"].([]any); len(es) > 0 {
			if e, _ := es[0].(map[string]any); e != nil {
				detail += fmt.Sprintf(" (%.20v)", e["code"]) // its words may repeat what we sent
			}
		}
		return 0, "", &fault.Error{Kind: fault.Denied, Sent: true, Detail: detail}
	}
	token, _ := m["access_token"].(string)
	kind, _ := m["token_type"].(string)
	life, _ := m["expires_in"].(int)
	if err != nil || token == "" || kind != "DPoP" || life < 1 || len(token) > 8<<10 {
		return 0, "", &fault.Error{Kind: fault.Contract, Sent: true, Raw: resp.Body[:min(len(resp.Body), 4<<10)], Detail: "PDND's answer is no DPoP voucher"}
	}
	return time.Duration(min(life, 3600)) * time.Second, token, nil
}

// proof is a DPoP proof (RFC 9449, 4.2); with a token it carries its hash.
func (c *Connector) proof(key *ecdsa.PrivateKey, method string, to *url.URL, token string) (string, error) {
	claims := map[string]any{"htm": method, "htu": to.String(), "iat": c.clock.Now().Add(-behind).Unix(), "jti": uuid()}
	if token != "" {
		sum := sha256.Sum256([]byte(token))
		claims["ath"] = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	p, err := jose.Sign(key, jose.Header{Type: "dpop+jwt", JWK: true}, claims)
	if err != nil {
		return "", unavailable("the DPoP proof can't be signed", err)
	}
	return p, nil
}
