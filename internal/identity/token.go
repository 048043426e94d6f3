package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// TokenType is the `typ` of a caller token (RFC 8725 §3.11: explicit typing,
	// so that no other JWT of the city can pass for one).
	TokenType = "dime-caller+jwt"
	// Audience is who caller tokens are for.
	Audience = "dime"
	// CityIssuer is the `iss` of the tokens that the virtual city's key signs.
	CityIssuer = "urn:dime:virtual-city"

	// MaxLife is how long a caller token may live, from `iat` to `exp`.
	MaxLife = 10 * time.Minute
	// CityTokenLife is what `dime token` gives and what a verifier of the virtual
	// city accepts. It is longer than MaxLife because the token stands for the
	// session of a synthetic citizen in the hands of a person who tries the city
	// at a terminal; no such key is accepted with `--city off`.
	CityTokenLife = time.Hour

	maxToken = 8 << 10
	skew     = 60 * time.Second
)

// Algorithm is a signature algorithm that caller tokens may use.
type Algorithm string

const (
	EdDSA Algorithm = "EdDSA"
	ES256 Algorithm = "ES256"
)

// Signer issues caller tokens with one key. It is safe for concurrent use.
type Signer struct {
	kid    string
	alg    Algorithm
	signer jose.Signer
	public jose.JSONWebKey
}

// NewSigner makes a fresh key, kept in memory only.
func NewSigner(alg Algorithm) (*Signer, error) {
	key, err := newKey(alg)
	if err != nil {
		return nil, err
	}
	return signerOf(key)
}

// OpenSigner reads the private key (a JWK) in file, or makes one there that only
// its owner may read (mode 0600, folder 0700). A key file that others can read
// is refused.
func OpenSigner(file string) (*Signer, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return createSigner(file)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the city's key: %w", err)
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("reading the city's key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("reading the city's key: %q may be read by others (mode %04o); run chmod 600 on it, or remove it to get a new one", file, info.Mode().Perm())
	}
	var key jose.JSONWebKey
	if err := key.UnmarshalJSON(b); err != nil {
		return nil, fmt.Errorf("reading the city's key in %q: %w", file, err)
	}
	s, err := signerOf(&key)
	if err != nil {
		return nil, fmt.Errorf("reading the city's key in %q: %w", file, err)
	}
	return s, nil
}

func createSigner(file string) (*Signer, error) {
	key, err := newKey(EdDSA)
	if err != nil {
		return nil, err
	}
	b, err := key.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("encoding the city's key: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, fmt.Errorf("creating the city's key: %w", err)
	}
	// Written beside and linked, so that two processes starting at once end with
	// one key, and a crash leaves none that is half written.
	tmp, err := os.CreateTemp(filepath.Dir(file), ".key-*")
	if err != nil {
		return nil, fmt.Errorf("creating the city's key: %w", err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = tmp.Write(b)
	err = errors.Join(err, tmp.Chmod(0o600), tmp.Sync(), tmp.Close())
	if err != nil {
		return nil, fmt.Errorf("creating the city's key: %w", err)
	}
	if err := os.Link(tmp.Name(), file); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return OpenSigner(file)
		}
		return nil, fmt.Errorf("creating the city's key: %w", err)
	}
	return signerOf(key)
}

func newKey(alg Algorithm) (*jose.JSONWebKey, error) {
	var private any
	var err error
	switch alg {
	case EdDSA:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	case ES256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	default:
		return nil, fmt.Errorf("making a key: algorithm %q is not one of EdDSA, ES256", alg)
	}
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	key := &jose.JSONWebKey{Key: private, Algorithm: string(alg), Use: "sig"}
	// RFC 7638 thumbprint: the same key has the same kid everywhere.
	sum, err := key.Thumbprint(sha256Hash)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	key.KeyID = base64.RawURLEncoding.EncodeToString(sum)
	return key, nil
}

func signerOf(key *jose.JSONWebKey) (*Signer, error) {
	alg, err := algorithmOf(key.Key)
	if err != nil {
		return nil, err
	}
	if key.IsPublic() {
		return nil, errors.New("it is a public key; a private one is needed")
	}
	if key.KeyID == "" || key.Algorithm != string(alg) {
		return nil, fmt.Errorf("the key needs a `kid` and `alg: %s`", alg)
	}
	js, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(alg), Key: key},
		(&jose.SignerOptions{}).WithType(TokenType))
	if err != nil {
		return nil, fmt.Errorf("using the key: %w", err)
	}
	return &Signer{kid: key.KeyID, alg: alg, signer: js, public: key.Public()}, nil
}

func algorithmOf(key any) (Algorithm, error) {
	switch k := key.(type) {
	case ed25519.PrivateKey, ed25519.PublicKey:
		return EdDSA, nil
	case *ecdsa.PrivateKey:
		if k.Curve == elliptic.P256() {
			return ES256, nil
		}
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return ES256, nil
		}
	}
	return "", errors.New("only Ed25519 and P-256 keys sign caller tokens")
}

// claims is the whole payload; no other member is accepted.
type claims struct {
	Issuer   string `json:"iss"`
	Audience string `json:"aud"`
	IssuedAt int64  `json:"iat"`
	Expires  int64  `json:"exp"`
	ID       string `json:"jti"`
	Caller   Caller `json:"caller"`
}

// Issue signs a token for c that lives from now for life (at most
// CityTokenLife). A citizen without a Subject gets the tax code as one.
func (s *Signer) Issue(c Caller, issuer string, now time.Time, life time.Duration) (string, error) {
	if life <= 0 || life > CityTokenLife {
		return "", fmt.Errorf("issuing a caller token: it may live at most %s, not %s", CityTokenLife, life)
	}
	if c.Subject == "" {
		c.Subject = c.TaxCode
	}
	if err := c.check(); err != nil {
		return "", fmt.Errorf("issuing a caller token: %w", err)
	}
	payload, err := json.Marshal(claims{
		Issuer: issuer, Audience: Audience, IssuedAt: now.Unix(), Expires: now.Add(life).Unix(),
		ID: rand.Text(), Caller: c,
	})
	if err != nil {
		return "", fmt.Errorf("issuing a caller token: %w", err)
	}
	signed, err := s.signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("issuing a caller token: %w", err)
	}
	out, err := signed.CompactSerialize()
	if err != nil {
		return "", fmt.Errorf("issuing a caller token: %w", err)
	}
	if len(out) > maxToken {
		return "", fmt.Errorf("issuing a caller token: it is %d bytes, more than %d", len(out), maxToken)
	}
	return out, nil
}

// JWKS is the public half as a JSON Web Key Set (RFC 7517 §5).
func (s *Signer) JWKS() []byte {
	b, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{s.public}})
	if err != nil { // a key that signs can be encoded
		return []byte(`{"keys":[]}`)
	}
	return b
}

// JWKSPath is where the city shows its keys (RFC 8615).
const JWKSPath = "/.well-known/jwks.json"

// ServeHTTP answers GET JWKSPath.
func (s *Signer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Content-Type", "application/jwk-set+json")
	w.Header().Set("Cache-Control", "max-age=300")
	_, _ = w.Write(s.JWKS()) // the client may be gone
}

// KeySource finds public keys by their exact `kid`.
type KeySource interface {
	// PublicKey returns the key and the one algorithm it may be used with;
	// ErrNoKey when the set surely has no such key.
	PublicKey(ctx context.Context, kid string) (key any, alg Algorithm, err error)
}

// ErrNoKey says that a key set has no key of that `kid`.
var ErrNoKey = errors.New("no key of that kid")

func sum(token string) [sha256.Size]byte { return sha256.Sum256([]byte(token)) }
