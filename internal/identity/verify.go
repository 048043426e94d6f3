package identity

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/fault"
)

const sha256Hash = crypto.SHA256

// Verifier checks caller tokens. It is safe for concurrent use and remembers
// what it has verified until the token expires (a signature costs 50 times a
// look-up).
type Verifier struct {
	keys   KeySource
	issuer string
	life   time.Duration
	clock  clock.Clock

	mu   sync.Mutex
	seen map[[32]byte]verified
}

type verified struct {
	caller  *Caller
	expires time.Time
}

const maxSeen = 4096

// NewVerifier accepts tokens of one issuer, signed by a key of keys, that live
// at most life (0: MaxLife).
func NewVerifier(keys KeySource, issuer string, life time.Duration, c clock.Clock) *Verifier {
	if life <= 0 {
		life = MaxLife
	}
	return &Verifier{keys: keys, issuer: issuer, life: life, clock: c, seen: map[[32]byte]verified{}}
}

func denied(format string, args ...any) error { return fault.New(fault.Denied, format, args...) }

// Verify returns the caller in token. The Caller is shared: copy it before
// changing it. A token that is not good is a fault.Denied whose Detail says why;
// a key set that can't be reached is fault.Unavailable.
func (v *Verifier) Verify(ctx context.Context, token string) (*Caller, error) {
	if len(token) > maxToken {
		return nil, denied("the token is longer than %d bytes", maxToken)
	}
	now := v.clock.Now()
	id := sum(token)
	v.mu.Lock()
	known, ok := v.seen[id]
	v.mu.Unlock()
	if ok && now.Before(known.expires) {
		return known.caller, nil
	}
	caller, expires, err := v.verify(ctx, token, now)
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.seen) >= maxSeen {
		clear(v.seen) // cheaper than an order of use, and nothing but time is lost
	}
	v.seen[id] = verified{caller, expires}
	return caller, nil
}

func (v *Verifier) verify(ctx context.Context, token string, now time.Time) (*Caller, time.Time, error) {
	var none time.Time
	kid, alg, err := header(token)
	if err != nil {
		return nil, none, err
	}
	key, pinned, err := v.keys.PublicKey(ctx, kid)
	if errors.Is(err, ErrNoKey) {
		return nil, none, denied("the token's key is not one of the city's")
	}
	if err != nil {
		return nil, none, &fault.Error{Kind: fault.Unavailable, Detail: "the city's keys can't be read now", Err: err}
	}
	// The key decides the algorithm, never the token (RFC 8725 §3.1).
	if alg != pinned {
		return nil, none, denied("the token's algorithm is not its key's")
	}
	signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(pinned)})
	if err != nil {
		return nil, none, denied("the token is not a signed JWT")
	}
	payload, err := signed.Verify(key)
	if err != nil {
		return nil, none, denied("the token's signature is wrong")
	}
	var c claims
	if err := strict(payload, &c); err != nil {
		return nil, none, denied("the token's claims can't be read: %v", err)
	}
	expires := time.Unix(c.Expires, 0)
	issued := time.Unix(c.IssuedAt, 0)
	switch {
	case c.Issuer != v.issuer:
		return nil, none, denied("the token's issuer is not accepted here")
	case c.Audience != Audience:
		return nil, none, denied("the token is not for this bus")
	case c.Expires == 0 || c.IssuedAt == 0:
		return nil, none, denied("the token lacks iat or exp")
	case c.ID == "":
		return nil, none, denied("the token lacks jti")
	case expires.Sub(issued) > v.life:
		return nil, none, denied("the token lives longer than %s", v.life)
	case issued.After(now.Add(skew)):
		return nil, none, denied("the token is issued in the future")
	case !now.Before(expires):
		return nil, none, denied("the token has expired")
	}
	if err := c.Caller.check(); err != nil {
		return nil, none, denied("the token's caller is not valid: %v", err)
	}
	return &c.Caller, expires, nil
}

// header reads the protected header before anything is trusted. Only alg, kid
// and typ may stand in it, so jku, x5u, jwk, x5c and crit are refused.
func header(token string) (kid string, alg Algorithm, err error) {
	first, rest, _ := strings.Cut(token, ".")
	payload, signature, ok := strings.Cut(rest, ".")
	if !ok || strings.Contains(signature, ".") {
		return "", "", denied("the token is not a signed JWT")
	}
	// Strictly, all three: a token has one spelling (RFC 4648 §3.5).
	var parts [3][]byte
	for i, part := range []string{first, payload, signature} {
		b, err := base64.RawURLEncoding.Strict().DecodeString(part)
		if err != nil || strings.ContainsAny(part, "\r\n") {
			return "", "", denied("the token is not a signed JWT")
		}
		parts[i] = b
	}
	var h struct {
		Alg Algorithm `json:"alg"`
		Kid string    `json:"kid"`
		Typ string    `json:"typ"`
	}
	if err := strict(parts[0], &h); err != nil {
		return "", "", denied("the token's header may hold alg, kid and typ only: %v", err)
	}
	switch {
	case h.Typ != TokenType:
		return "", "", denied("the token's typ is not %s", TokenType)
	case h.Kid == "" || len(h.Kid) > 128:
		return "", "", denied("the token names no key")
	case h.Alg != EdDSA && h.Alg != ES256:
		return "", "", denied("the token's algorithm is not accepted")
	}
	return h.Kid, h.Alg, nil
}

// strict decodes JSON without duplicate or unknown members, and with exact case:
// encoding/json alone would take `exp` and `EXP` as one and let the last win.
func strict(b []byte, into any) error {
	if err := noDuplicates(json.NewDecoder(bytes.NewReader(b)), 0); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

func noDuplicates(d *json.Decoder, depth int) error {
	if depth > 8 {
		return errors.New("it is nested too deeply")
	}
	t, err := d.Token()
	if err != nil {
		return errors.New("it is not JSON")
	}
	if open, ok := t.(json.Delim); ok {
		seen := map[string]bool{}
		for d.More() {
			if open == '{' {
				k, err := d.Token()
				if err != nil {
					return errors.New("it is not JSON")
				}
				name, ok := k.(string)
				if !ok || strings.ToLower(name) != name {
					return errors.New("a member's name is not lower-case")
				}
				if seen[name] {
					return errors.New("a member is given twice")
				}
				seen[name] = true
			}
			if err := noDuplicates(d, depth+1); err != nil {
				return err
			}
		}
		if _, err := d.Token(); err != nil {
			return errors.New("it is not JSON")
		}
	}
	if depth == 0 {
		if _, err := d.Token(); err != io.EOF {
			return errors.New("something follows it")
		}
	}
	return nil
}

// keySet is a parsed JWKS.
type keySet map[string]pinnedKey

type pinnedKey struct {
	key any
	alg Algorithm
}

func parseJWKS(b []byte) (keySet, error) {
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(b, &set); err != nil {
		return nil, fmt.Errorf("parsing the key set: %w", err)
	}
	out := keySet{}
	for _, k := range set.Keys {
		alg, err := algorithmOf(k.Key)
		if err != nil || !k.IsPublic() || k.KeyID == "" {
			continue // keys for other uses are no concern of ours
		}
		if k.Algorithm != string(alg) || k.Use != "" && k.Use != "sig" {
			continue
		}
		if _, twice := out[k.KeyID]; twice {
			return nil, fmt.Errorf("parsing the key set: kid %q is there twice", k.KeyID)
		}
		out[k.KeyID] = pinnedKey{k.Key, alg}
	}
	return out, nil
}

func (s keySet) PublicKey(_ context.Context, kid string) (any, Algorithm, error) {
	k, ok := s[kid]
	if !ok {
		return nil, "", ErrNoKey
	}
	return k.key, k.alg, nil
}

// StaticKeys is a key set handed over directly.
func StaticKeys(jwks []byte) (KeySource, error) {
	s, err := parseJWKS(jwks)
	if err != nil {
		return nil, err
	}
	if len(s) == 0 {
		return nil, errors.New("parsing the key set: it has no Ed25519 or P-256 key with kid and alg")
	}
	return s, nil
}

// remoteKeys fetches a JWKS and keeps it for 5 minutes; a kid that is not in it
// fetches again, at most every 10 s, so that a rotation is seen soon and a
// stranger can't make us hammer the city. When the city can't be reached, what
// was fetched serves on.
type remoteKeys struct {
	url    string
	client *http.Client
	clock  clock.Clock

	mu      sync.Mutex
	keys    keySet
	fetched time.Time
	tried   time.Time
}

// RemoteKeys reads the key set at url, when it is needed.
func RemoteKeys(url string, client *http.Client, c clock.Clock) KeySource {
	return &remoteKeys{url: url, client: client, clock: c}
}

func (r *remoteKeys) PublicKey(ctx context.Context, kid string) (any, Algorithm, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock.Now()
	_, known := r.keys[kid]
	fresh := known && now.Sub(r.fetched) < 5*time.Minute
	if !fresh && (r.tried.IsZero() || now.Sub(r.tried) >= 10*time.Second || r.keys == nil) {
		keys, err := r.fetch(ctx)
		switch {
		case err == nil:
			r.keys, r.fetched, r.tried = keys, now, now
		case r.keys == nil:
			return nil, "", err
		default:
			r.tried = now
		}
	}
	return r.keys.PublicKey(ctx, kid)
}

func (r *remoteKeys) fetch(ctx context.Context) (keySet, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url, nil)
	if err != nil {
		return nil, fmt.Errorf("fetching the key set: %w", err)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("fetching the key set: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetching the key set at %q: status %d", r.url, resp.StatusCode)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return nil, fmt.Errorf("fetching the key set: %w", err)
	}
	return parseJWKS(b)
}
