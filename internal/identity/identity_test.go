package identity

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/fault"
)

func start() time.Time { return time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC) }

func pair(t testing.TB, alg Algorithm) (*Signer, *Verifier, *clock.Virtual) {
	t.Helper()
	s, err := NewSigner(alg)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := StaticKeys(s.JWKS())
	if err != nil {
		t.Fatal(err)
	}
	c := clock.NewVirtual(start())
	return s, NewVerifier(keys, CityIssuer, CityTokenLife, c), c
}

func maria() Caller {
	return Caller{Kind: "citizen", Assurance: 2, TaxCode: "RSSMRA80A01L736U", Roles: []string{"a"}, ActingFor: "x", Mandate: "m",
		Organisation: "o", Office: "f", Channel: "web", Language: "de"}
}

func TestRoundTrip(t *testing.T) {
	for _, alg := range []Algorithm{EdDSA, ES256} {
		t.Run(string(alg), func(t *testing.T) {
			s, v, _ := pair(t, alg)
			token, err := s.Issue(maria(), CityIssuer, start(), CityTokenLife)
			if err != nil {
				t.Fatal(err)
			}
			want := maria()
			want.Subject = want.TaxCode
			for range 2 { // the second time from memory
				got, err := v.Verify(t.Context(), token)
				if err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(&want, got); d != "" {
					t.Error(d)
				}
			}
		})
	}
}

func TestIssueRefuses(t *testing.T) {
	s, _, _ := pair(t, EdDSA)
	for name, f := range map[string]func(*Caller) time.Duration{
		"too long a life": func(*Caller) time.Duration { return 2 * time.Hour },
		"no life":         func(*Caller) time.Duration { return 0 },
		"a kind unheard":  func(c *Caller) time.Duration { c.Kind = "king"; return time.Minute },
		"assurance 4":     func(c *Caller) time.Duration { c.Assurance = 4; return time.Minute },
		"nobody":          func(c *Caller) time.Duration { c.TaxCode = ""; return time.Minute },
		"a language":      func(c *Caller) time.Duration { c.Language = "la"; return time.Minute },
		"too large":       func(c *Caller) time.Duration { c.Office = strings.Repeat("x", 9000); return time.Minute },
	} {
		c := maria()
		life := f(&c)
		if _, err := s.Issue(c, CityIssuer, start(), life); err == nil {
			t.Errorf("%s: issued", name)
		}
	}
}

func TestExpires(t *testing.T) {
	s, v, c := pair(t, EdDSA)
	token, err := s.Issue(maria(), CityIssuer, start(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	c.Advance(c.Now().Add(time.Minute))
	if _, err := v.Verify(t.Context(), token); err == nil {
		t.Error("an expired token is accepted from memory")
	}
}

// hand signs any header and payload with the key in a file, as whoever holds it could.
func hand(t *testing.T, file, header, payload string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var key jose.JSONWebKey
	if err := key.UnmarshalJSON(b); err != nil {
		t.Fatal(err)
	}
	var h map[jose.HeaderKey]any
	if err := json.Unmarshal([]byte(header), &h); err != nil {
		t.Fatal(err)
	}
	js, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(key.Algorithm), Key: key.Key}, &jose.SignerOptions{ExtraHeaders: h})
	if err != nil {
		t.Fatal(err)
	}
	sig, err := js.Sign([]byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	out, err := sig.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRefusals(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	s, err := OpenSigner(file)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := StaticKeys(s.JWKS())
	if err != nil {
		t.Fatal(err)
	}
	now := start()
	head := fmt.Sprintf(`{"kid":%q,"typ":%q}`, s.kid, TokenType)
	claim := func(over string) string {
		base := map[string]string{"iss": `"` + CityIssuer + `"`, "aud": `"dime"`, "iat": fmt.Sprint(now.Unix()), "exp": fmt.Sprint(now.Unix() + 600),
			"jti": `"j"`, "caller": `{"kind":"citizen","subject":"s","assurance":2}`}
		if k, v, ok := strings.Cut(over, "="); ok {
			base[k] = v
			if v == "" {
				delete(base, k)
			}
		}
		var parts []string
		for k, v := range base {
			parts = append(parts, fmt.Sprintf("%q:%s", k, v))
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
	sign := func(header, payload string) string { return hand(t, file, header, payload) }
	good := sign(head, claim(""))
	other, err := NewSigner(EdDSA)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := other.Issue(maria(), CityIssuer, now, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good, ".")
	swap := func(header string) string {
		return base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + parts[1] + "." + parts[2]
	}
	tests := []struct{ name, token, want string }{
		{"empty", "", "not a signed JWT"},
		{"two parts", "a.b", "not a signed JWT"},
		{"five parts", "a.b.c.d.e", "not a signed JWT"},
		{"long", strings.Repeat("a", 9000), "longer than"},
		{"alg none", swap(fmt.Sprintf(`{"alg":"none","kid":%q,"typ":%q}`, s.kid, TokenType)), "algorithm"},
		{"alg HS256", swap(fmt.Sprintf(`{"alg":"HS256","kid":%q,"typ":%q}`, s.kid, TokenType)), "algorithm"},
		{"another key's algorithm", swap(fmt.Sprintf(`{"alg":"ES256","kid":%q,"typ":%q}`, s.kid, TokenType)), "not its key's"},
		{"header twice", swap(fmt.Sprintf(`{"alg":"EdDSA","alg":"EdDSA","kid":%q,"typ":%q}`, s.kid, TokenType)), "twice"},
		{"jku", sign(fmt.Sprintf(`{"kid":%q,"typ":%q,"jku":"https://evil.example/"}`, s.kid, TokenType), claim("")), "alg, kid and typ only"},
		{"crit", swap(fmt.Sprintf(`{"alg":"EdDSA","kid":%q,"typ":%q,"crit":["b64"]}`, s.kid, TokenType)), "alg, kid and typ only"},
		{"no kid", sign(fmt.Sprintf(`{"typ":%q}`, TokenType), claim("")), "names no key"},
		{"other kid", sign(fmt.Sprintf(`{"kid":"x","typ":%q}`, TokenType), claim("")), "not one of the city's"},
		{"typ JWT", sign(fmt.Sprintf(`{"kid":%q,"typ":"JWT"}`, s.kid), claim("")), "typ"},
		{"stranger", stranger, "not one of the city's"},
		{"changed payload", parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(claim("jti=\"k\""))) + "." + parts[2], "signature"},
		{"issuer", sign(head, claim(`iss="x"`)), "issuer"},
		{"audience", sign(head, claim(`aud="x"`)), "not for this bus"},
		{"no exp", sign(head, claim("exp=")), "lacks iat or exp"},
		{"no jti", sign(head, claim("jti=")), "lacks jti"},
		{"expired", sign(head, claim(fmt.Sprintf("exp=%d", now.Unix()))), "expired"},
		{"future", sign(head, claim(fmt.Sprintf("iat=%d", now.Unix()+120))), "future"},
		{"long life", sign(head, claim(fmt.Sprintf("exp=%d", now.Unix()+601))), "lives longer"},
		{"kind", sign(head, claim(`caller={"kind":"king","subject":"s"}`)), "caller is not valid"},
		{"claim twice", sign(head, strings.Replace(claim(""), "{", `{"exp":1,`, 1)), "twice"},
		{"claim in capitals", sign(head, strings.Replace(claim(""), "{", `{"EXP":1,`, 1)), "lower-case"},
		{"unknown claim", sign(head, strings.Replace(claim(""), "{", `{"admin":true,`, 1)), "unknown field"},
		{"not JSON", sign(head, "hello"), "not JSON"},
		{"trailing", sign(head, claim("")+"{}"), "follows"},
	}
	v := NewVerifier(keys, CityIssuer, 0, clock.NewVirtual(now))
	if _, err := v.Verify(t.Context(), good); err != nil {
		t.Fatalf("the good one: %v", err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := v.Verify(t.Context(), tt.token)
			var f *fault.Error
			if c != nil || !errors.As(err, &f) || f.Kind != fault.Denied {
				t.Fatalf("got %v, %v", c, err)
			}
			if !strings.Contains(f.Detail, tt.want) {
				t.Errorf("detail %q lacks %q", f.Detail, tt.want)
			}
		})
	}
}

func TestKeyFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "city", "key.jwk")
	a, err := OpenSigner(file)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", info.Mode(), err)
	}
	b, err := OpenSigner(file)
	if err != nil || a.kid != b.kid {
		t.Fatalf("reopened: %v", err)
	}
	if strings.Contains(string(a.JWKS()), `"d"`) {
		t.Error("the key set holds the private half")
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenSigner(file); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that all may read: %v", err)
	}
	for _, bad := range []string{"", "{}", `{"kty":"oct","k":"AAAA","kid":"x","alg":"HS256"}`} {
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenSigner(file); err == nil {
			t.Errorf("%q is accepted as a key", bad)
		}
	}
}

func TestRemoteKeys(t *testing.T) {
	first, second := mustSigner(t), mustSigner(t)
	var now atomic.Pointer[Signer]
	now.Store(first)
	var fetches atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fetches.Add(1)
		s := now.Load()
		if s == nil {
			http.Error(w, "down", 503)
			return
		}
		s.ServeHTTP(w, r)
	}))
	defer srv.Close()
	c := clock.NewVirtual(start())
	v := NewVerifier(RemoteKeys(srv.URL+JWKSPath, srv.Client(), c), CityIssuer, CityTokenLife, c)
	verify := func(s *Signer) error {
		token, err := s.Issue(maria(), CityIssuer, c.Now(), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		_, err = v.Verify(context.Background(), token)
		return err
	}
	step := func(what string, err error, ok bool, n int64) {
		t.Helper()
		if (err == nil) != ok || fetches.Load() != n {
			t.Fatalf("%s: %v after %d fetches, want ok=%v after %d", what, err, fetches.Load(), ok, n)
		}
	}
	step("first", verify(first), true, 1)
	step("again", verify(first), true, 1)
	now.Store(second)
	step("a rotation is not looked for within 10 s", verify(second), false, 1)
	c.Advance(c.Now().Add(10 * time.Second))
	step("then it is", verify(second), true, 2)
	now.Store(nil)
	c.Advance(c.Now().Add(6 * time.Minute))
	step("the city is down: what is known serves", verify(second), true, 3)
	fresh := NewVerifier(RemoteKeys(srv.URL, srv.Client(), c), CityIssuer, CityTokenLife, c)
	token, err := second.Issue(maria(), CityIssuer, c.Now(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	_, err = fresh.Verify(t.Context(), token)
	if f := fault.From(err); f.Kind != fault.Unavailable {
		t.Errorf("no keys at all: %v", err)
	}
}

func mustSigner(t *testing.T) *Signer {
	t.Helper()
	s, err := NewSigner(ES256)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestClients(t *testing.T) {
	secret := strings.Repeat("s", 32)
	cs, err := NewClients([]Credential{
		{Name: "crm", Secret: secret, Rights: Rights{Routes: []string{"book-appointment", "fine-*"}, Publish: []string{"appeal.decided"}, Subscribe: []string{"*"}}},
		{Name: "kb", Secret: strings.Repeat("k", 32)},
	})
	if err != nil {
		t.Fatal(err)
	}
	c, ok := cs.Authenticate(secret)
	if !ok || c.Name != "crm" || c.Caller().Kind != "module" {
		t.Fatalf("%v %v", c, ok)
	}
	for _, bad := range []string{"", "s", strings.Repeat("s", 31), strings.Repeat("s", 33), strings.Repeat("x", 600)} {
		if _, ok := cs.Authenticate(bad); ok {
			t.Errorf("%q is accepted", bad)
		}
	}
	if _, ok := (*Clients)(nil).Authenticate(secret); ok {
		t.Error("no clients at all accept")
	}
	r := c.Rights
	for what, got := range map[string]bool{
		"named": r.MayRequest("book-appointment"), "prefix": r.MayRequest("fine-appeal"), "publish": r.MayPublish("appeal.decided"), "all": r.MaySubscribe("x.y")} {
		if !got {
			t.Errorf("%s is denied", what)
		}
	}
	for what, got := range map[string]bool{
		"longer": r.MayRequest("book-appointment-2"), "other": r.MayRequest("x"), "publish": r.MayPublish("appeal.filed"), "none": (Rights{}).MaySubscribe("x")} {
		if got {
			t.Errorf("%s is granted", what)
		}
	}
	if _, err := NewClients([]Credential{{Name: "a", Secret: "short"}, {Name: "b", Secret: secret}, {Name: "c", Secret: secret}}); err == nil ||
		!strings.Contains(err.Error(), `"a"`) || !strings.Contains(err.Error(), `"c"`) {
		t.Errorf("all mistakes at once: %v", err)
	}
}

func FuzzVerify(f *testing.F) {
	s, v, _ := pair(f, EdDSA)
	good, err := s.Issue(maria(), CityIssuer, start(), time.Minute)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{good, good[:len(good)-2], "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "..", strings.ReplaceAll(good, ".", "..")} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		c, err := v.Verify(context.Background(), token)
		if (c == nil) == (err == nil) {
			t.Fatalf("%v, %v", c, err)
		}
		if err == nil && token != good {
			t.Fatalf("another token than the signed one is accepted: %q", token)
		}
	})
}
