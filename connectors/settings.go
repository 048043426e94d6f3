package connectors

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dime-bus/dime/internal/yamldoc"
)

// Settings is what every HTTP backend's config/connectors/NAME.yaml may say,
// beside what its kind adds.
type Settings struct {
	About    string
	BaseURL  string // "" or "city:" means the virtual city's
	Emulate  bool   // false: `emulate: false`, called at base_url although a city runs
	Policy   Policy
	Headers  []Header
	BasePos  yamldoc.Pos
	Position yamldoc.Pos
}

// SettingsFields are the fields that ReadSettings understands.
func SettingsFields() []string {
	return []string{"about", "base_url", "emulate", "timeout", "retry", "in_flight", "rate", "breaker", "headers"}
}

// Header is sent with every request. Its value is written in the file or, as
// `secret: env:NAME` or `secret: file:PATH`, kept out of it.
type Header struct {
	Name   string
	Value  string
	Secret Secret
}

// Secret is a reference to a secret, resolved when it is used so that a rotated
// file is read anew. Every formatter prints ***.
type Secret struct{ ref string }

// NewSecret checks the reference's form: env:NAME or file:PATH.
func NewSecret(ref string) (Secret, error) {
	kind, rest, ok := strings.Cut(ref, ":")
	if !ok || rest == "" || kind != "env" && kind != "file" {
		return Secret{}, fmt.Errorf("a secret is a reference, env:NAME or file:PATH, never the value itself")
	}
	return Secret{ref}, nil
}

// IsZero says that there is none.
func (s Secret) IsZero() bool { return s.ref == "" }

// Resolve reads the secret. The error names the reference, never the value.
func (s Secret) Resolve() (string, error) {
	kind, rest, _ := strings.Cut(s.ref, ":")
	if kind == "env" {
		v, ok := os.LookupEnv(rest)
		if !ok || v == "" {
			return "", fmt.Errorf("resolving secret: the environment variable %s is not set", rest)
		}
		return v, nil
	}
	b, err := os.ReadFile(filepath.Clean(rest))
	if err != nil {
		return "", fmt.Errorf("resolving secret from file: %w", err)
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}

func (Secret) String() string               { return "***" }
func (Secret) GoString() string             { return "***" }
func (Secret) Format(f fmt.State, _ rune)   { _, _ = f.Write([]byte("***")) }
func (Secret) MarshalText() ([]byte, error) { return []byte("***"), nil }

// ApplyHeaders sets hs on h.
func ApplyHeaders(h http.Header, hs []Header) error {
	for _, x := range hs {
		v := x.Value
		if !x.Secret.IsZero() {
			var err error
			if v, err = x.Secret.Resolve(); err != nil {
				return err
			}
		}
		h[x.Name] = []string{v}
	}
	return nil
}

// ReadSettings reads the common fields of a connector's file; further names the
// kind's own fields, so that only what nobody knows is refused.
func ReadSettings(n *yamldoc.Node, further ...string) (Settings, []yamldoc.Problem) {
	var s Settings
	s.Emulate = true
	s.Position = n.Pos
	ps := n.Unknown(append(SettingsFields(), further...)...)
	var f struct {
		About    string        `yaml:"about"`
		BaseURL  string        `yaml:"base_url"`
		Emulate  *bool         `yaml:"emulate"`
		InFlight int           `yaml:"in_flight"`
		Rate     float64       `yaml:"rate"`
		Timeout  time.Duration `yaml:"timeout"`
		Breaker  struct {
			Failures int           `yaml:"failures"`
			Window   int           `yaml:"window"`
			Pause    time.Duration `yaml:"pause"`
		} `yaml:"breaker"`
	}
	ps = append(ps, pick(n, "about", "base_url", "emulate", "in_flight", "rate", "timeout", "breaker").Decode(&f)...)
	s.About, s.BaseURL = f.About, strings.TrimSuffix(f.BaseURL, "/")
	if f.Emulate != nil {
		s.Emulate = *f.Emulate
	}
	s.Policy = Policy{Timeout: f.Timeout, InFlight: f.InFlight, Rate: f.Rate,
		Failures: f.Breaker.Failures, Window: f.Breaker.Window, Pause: f.Breaker.Pause}
	if s.Policy.Failures > 0 && s.Policy.Window == 0 {
		s.Policy.Window = 2 * s.Policy.Failures
	}
	for _, c := range []struct {
		field string
		bad   bool
	}{
		{"timeout", f.Timeout < 0}, {"in_flight", f.InFlight < 0}, {"rate", f.Rate < 0},
		{"breaker", f.Breaker.Failures < 0 || f.Breaker.Window < 0 || f.Breaker.Pause < 0},
	} {
		if c.bad {
			ps = append(ps, n.Get(c.field).Problem("value", "`"+c.field+"` can't be negative"))
		}
	}
	ps = append(ps, ReadRetry(n.Get("retry"), &s.Policy)...)
	s.BasePos = n.Pos
	if b := n.Get("base_url"); b != nil {
		s.BasePos = b.Pos
		if s.BaseURL != "" && s.BaseURL != "city:" {
			u, err := url.Parse(s.BaseURL)
			switch {
			case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
				ps = append(ps, b.Problem("value", "`base_url` must be an http or https URL such as https://host/path, or `city:` for the virtual city"))
			case u.User != nil || u.RawQuery != "" || u.Fragment != "":
				ps = append(ps, b.Problem("value", "`base_url` holds scheme, host and path only: credentials belong under `headers` as `secret: env:NAME`"))
			}
		}
	}
	if h := n.Get("headers"); !h.IsNull() {
		hs, hp := readHeaders(h)
		s.Headers, ps = hs, append(ps, hp...)
	}
	return s, ps
}

// ReadRetry reads `retry: 3` or `retry: {attempts: 3, backoff: 100ms}`.
func ReadRetry(n *yamldoc.Node, p *Policy) []yamldoc.Problem {
	if n.IsNull() {
		return nil
	}
	var r struct {
		Attempts int           `yaml:"attempts"`
		Backoff  time.Duration `yaml:"backoff"`
	}
	if n.Kind == yamldoc.Scalar {
		v, msg := n.Value(yamldoc.WantInt)
		i, ok := v.(int)
		if msg != "" || !ok {
			return []yamldoc.Problem{n.Problem("type", "`retry` is the number of attempts, or {attempts: 3, backoff: 100ms}")}
		}
		r.Attempts = i
	} else if ps := n.Decode(&r); len(ps) > 0 {
		return ps
	}
	if r.Attempts < 0 || r.Attempts > 20 || r.Backoff < 0 {
		return []yamldoc.Problem{n.Problem("value", "`retry.attempts` counts all attempts, the first included: 1 to 20; `backoff` can't be negative")}
	}
	p.Attempts, p.Backoff = r.Attempts, r.Backoff
	return nil
}

func readHeaders(n *yamldoc.Node) (hs []Header, ps []yamldoc.Problem) {
	if n.Kind != yamldoc.Map {
		return nil, []yamldoc.Problem{n.Problem("type", "`headers` is a map of header names to values or {secret: env:NAME}")}
	}
	for _, p := range n.Pairs {
		h := Header{Name: http.CanonicalHeaderKey(p.Key.Text)}
		if !validHeaderName(p.Key.Text) {
			ps = append(ps, p.Key.Problem("value", fmt.Sprintf("%q is not a header name", p.Key.Text)))
			continue
		}
		if p.Value.Kind == yamldoc.Scalar {
			h.Value = p.Value.Text
			if strings.ContainsAny(h.Value, "\r\n\x00") {
				ps = append(ps, p.Value.Problem("value", "a header's value is one line"))
				continue
			}
			switch strings.ToLower(h.Name) {
			case "authorization", "cookie", "ocp-apim-subscription-key", "x-api-key":
				ps = append(ps, p.Value.Problem("secret", "a credential does not belong in the file: write {secret: env:NAME} or {secret: file:PATH}"))
				continue
			}
			hs = append(hs, h)
			continue
		}
		var v struct {
			Secret string `yaml:"secret,required"`
		}
		if vp := p.Value.Decode(&v); len(vp) > 0 {
			ps = append(ps, vp...)
			continue
		}
		sec, err := NewSecret(v.Secret)
		if err != nil {
			ps = append(ps, p.Value.Get("secret").Problem("secret", err.Error()))
			continue
		}
		h.Secret = sec
		hs = append(hs, h)
	}
	return hs, ps
}

func validHeaderName(s string) bool {
	if s == "" {
		return false
	}
	for _, c := range s {
		if c <= ' ' || c >= 0x7f || strings.ContainsRune(`()<>@,;:\"/[]?={}`, c) {
			return false
		}
	}
	return true
}

// pick is n with only the named keys, for a Decode that leaves the others to
// somebody else.
func pick(n *yamldoc.Node, keys ...string) *yamldoc.Node {
	m := &yamldoc.Node{Pos: n.Pos, Kind: yamldoc.Map}
	for _, p := range n.Pairs {
		for _, k := range keys {
			if p.Key.Text == k {
				m.Pairs = append(m.Pairs, p)
			}
		}
	}
	return m
}
