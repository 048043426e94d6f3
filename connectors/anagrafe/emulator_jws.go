package anagrafe

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/dime-bus/dime/internal/schema"
)

// emJWS is a JWS in the compact form (RFC 7515, 7.1), as it came in.
type emJWS struct {
	raw            string
	header, claims map[string]any
	signed, sig    []byte
}

// emReason is why something is refused, in the words of the table of tests.
func emReason(format string, args ...any) error { return fmt.Errorf(format, args...) }

func emReadJWS(raw string) (*emJWS, error) {
	if len(raw) > 16<<10 {
		return nil, errors.New("the token is longer than 16 KiB")
	}
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		return nil, errors.New("the token is no JWS in the compact form")
	}
	j := &emJWS{raw: raw, signed: []byte(parts[0] + "." + parts[1])}
	var err error
	if j.header, err = emObject(parts[0]); err != nil {
		return nil, errors.New("the token's header is no JSON object in base64url")
	}
	if j.claims, err = emObject(parts[1]); err != nil {
		return nil, errors.New("the token's payload is no JSON object in base64url")
	}
	if j.sig, err = base64.RawURLEncoding.Strict().DecodeString(parts[2]); err != nil {
		return nil, errors.New("the token's signature is no base64url")
	}
	return j, nil
}

func emObject(part string) (map[string]any, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil {
		return nil, err
	}
	v, err := schema.DecodeJSON(b)
	if err != nil {
		return nil, err
	}
	o, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("no object")
	}
	return o, nil
}

// verify checks the signature with the algorithm that the header names, which
// the caller has allowed.
func (j *emJWS) verify(key any) error {
	sum := sha256.Sum256(j.signed)
	switch k := key.(type) {
	case *rsa.PublicKey:
		if j.header["alg"] != "RS256" {
			return errors.New("alg does not fit the key")
		}
		if rsa.VerifyPKCS1v15(k, crypto.SHA256, sum[:], j.sig) == nil {
			return nil
		}
	case *ecdsa.PublicKey:
		if j.header["alg"] != "ES256" {
			return errors.New("alg does not fit the key")
		}
		if len(j.sig) == 64 && ecdsa.Verify(k, sum[:], new(big.Int).SetBytes(j.sig[:32]), new(big.Int).SetBytes(j.sig[32:])) {
			return nil
		}
	}
	return errors.New("the signature is not valid")
}

// text is a claim that must be a string.
func (j *emJWS) text(name string) string {
	s, _ := j.claims[name].(string)
	return s
}

// second is a claim that must be a NumericDate of whole seconds.
func (j *emJWS) second(name string) (int64, bool) {
	switch n := j.claims[name].(type) {
	case int:
		return int64(n), true
	case int64:
		return n, true
	}
	return 0, false
}

// surplus names a member that the allowed ones lack, or "".
func emSurplus(m map[string]any, allowed ...string) string {
	var extra []string
	for k := range m {
		if !slices.Contains(allowed, k) {
			extra = append(extra, k)
		}
	}
	if len(extra) == 0 {
		return ""
	}
	slices.Sort(extra)
	return extra[0]
}

// times checks iat, nbf where there is one, and exp against the far side's clock,
// without tolerance: GovWay refuses what was issued a second ahead of it [P].
func (j *emJWS) times(now time.Time, age time.Duration) error {
	iat, ok := j.second("iat")
	if !ok {
		return errors.New("iat is missing or no whole number")
	}
	exp, ok := j.second("exp")
	if !ok {
		return errors.New("exp is missing or no whole number")
	}
	at := now.Unix()
	switch {
	case iat > at:
		return errors.New("iat lies in the future")
	case exp <= at:
		return errors.New("the token has expired")
	case exp <= iat:
		return errors.New("exp is not after iat")
	case age > 0 && at-iat > int64(age/time.Second):
		return fmt.Errorf("iat is older than %d seconds", int64(age/time.Second))
	}
	if _, there := j.claims["nbf"]; there {
		if nbf, ok := j.second("nbf"); !ok || nbf > at {
			return errors.New("nbf lies in the future or is no whole number")
		}
	}
	return nil
}

// emPublic reads a public JWK (RFC 7517, RFC 7518 6) and its thumbprint (RFC 7638).
func emPublic(v any) (key any, thumbprint string, err error) {
	m, ok := v.(map[string]any)
	if !ok {
		return nil, "", errors.New("the jwk is no object")
	}
	for _, secret := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		if _, there := m[secret]; there {
			return nil, "", errors.New("the jwk holds a private key")
		}
	}
	if use, there := m["use"]; there && use != "sig" {
		return nil, "", errors.New("the jwk is not for signatures")
	}
	number := func(name string) *big.Int {
		s, _ := m[name].(string)
		b, err := base64.RawURLEncoding.Strict().DecodeString(s)
		if err != nil || len(b) == 0 {
			return nil
		}
		return new(big.Int).SetBytes(b)
	}
	var canonical string
	switch m["kty"] {
	case "RSA":
		n, exp := number("n"), number("e")
		if n == nil || exp == nil || !exp.IsInt64() || exp.Int64() < 3 || exp.Int64() > 1<<31-1 || exp.Bit(0) == 0 {
			return nil, "", errors.New("the jwk's n or e is no number")
		}
		if n.BitLen() < 2048 || n.BitLen() > 8192 {
			return nil, "", errors.New("the jwk's key is shorter than 2048 bits or longer than 8192")
		}
		key = &rsa.PublicKey{N: n, E: int(exp.Int64())}
		canonical = fmt.Sprintf(`{"e":"%s","kty":"RSA","n":"%s"}`, m["e"], m["n"])
	case "EC":
		x, y := number("x"), number("y")
		if m["crv"] != "P-256" || x == nil || y == nil || x.BitLen() > 256 || y.BitLen() > 256 {
			return nil, "", errors.New("the jwk is no point of P-256")
		}
		point := append([]byte{4}, append(x.FillBytes(make([]byte, 32)), y.FillBytes(make([]byte, 32))...)...)
		k, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
		if err != nil {
			return nil, "", errors.New("the jwk is no point of P-256")
		}
		key = k
		canonical = fmt.Sprintf(`{"crv":"P-256","kty":"EC","x":"%s","y":"%s"}`, m["x"], m["y"])
	default:
		return nil, "", errors.New("the jwk is neither RSA nor EC")
	}
	sum := sha256.Sum256([]byte(canonical))
	return key, base64.RawURLEncoding.EncodeToString(sum[:]), nil
}

var (
	emUUID = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	emKID  = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)
	emHex  = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// header checks that the header has exactly these members.
func (j *emJWS) shape(typ string, algorithms []string, members ...string) error {
	alg, there := j.header["alg"].(string)
	switch {
	case !there:
		return errors.New("alg is missing")
	case !slices.Contains(algorithms, alg):
		return errors.New("alg is not allowed")
	case j.header["typ"] != typ:
		return errors.New("typ is not " + typ)
	}
	if s := emSurplus(j.header, append([]string{"alg", "typ"}, members...)...); s != "" {
		return errors.New("the header holds a member that is not allowed: " + emShort(s))
	}
	return nil
}

// emShort is a name out of a request, cut to where it can be shown.
func emShort(s string) string {
	if len(s) > 40 {
		return s[:40]
	}
	return s
}

// fresh takes an identifier once until its token expires; e.mu is held.
func (e *Emulator) fresh(kind, client, jti string, until int64) (bool, error) {
	if jti == "" || len(jti) > 256 {
		return false, nil
	}
	id := kind + "\x00" + client + "\x00" + jti
	if _, used := e.mem.seen[id]; used {
		return false, nil
	}
	e.mem.forget(e.cfg.Clock.Now().Unix())
	return true, e.keep(emLine{Seen: &emSeen{ID: id, Until: until}})
}
