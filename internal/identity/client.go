package identity

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// check says whether a caller makes sense, so that no half-filled identity gets
// into a run's head.
func (c *Caller) check() error {
	switch c.Kind {
	case "citizen", "operator", "desk", "partner", "module", "timer", "event":
	default:
		return fmt.Errorf("kind %q is not one of citizen, operator, desk, partner, module, timer, event", c.Kind)
	}
	if c.Assurance < 0 || c.Assurance > 3 {
		return fmt.Errorf("assurance is %d, not 0 to 3", c.Assurance)
	}
	if c.Subject == "" {
		return errors.New("it has no subject")
	}
	switch c.Language {
	case "", "it", "en", "de", "fr":
	default:
		return fmt.Errorf("language %q is not one of it, en, de, fr", c.Language)
	}
	return nil
}

// Rights are what a program may do on the bus: names, or patterns that end in
// `.*` or `-*`, or `*`. What is not named is denied.
type Rights struct {
	Routes    []string // routes it may request
	Publish   []string // event types it may publish
	Subscribe []string // event types it may read
}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if prefix, ok := strings.CutSuffix(p, "*"); ok {
			return strings.HasPrefix(name, prefix)
		}
		return p == name
	})
}

// MayRequest says whether the route is among the rights.
func (r Rights) MayRequest(route string) bool { return matches(r.Routes, route) }

// MayPublish says whether the event type is among the rights.
func (r Rights) MayPublish(eventType string) bool { return matches(r.Publish, eventType) }

// MaySubscribe says whether the event type is among the rights.
func (r Rights) MaySubscribe(eventType string) bool { return matches(r.Subscribe, eventType) }

// Client is a program with a credential of its own.
type Client struct {
	Name   string
	Kind   string // "module" or "partner"; what its own caller is
	Rights Rights
}

// Caller is who the client is when it acts for nobody else.
func (c *Client) Caller() *Caller {
	return &Caller{Kind: c.Kind, Subject: c.Name, Organisation: c.Name, Channel: "client"}
}

// Clients knows the credentials of all programs. It is immutable.
type Clients struct {
	salt   []byte
	byHash map[[sha256.Size]byte]*Client
}

// MinSecret is the shortest secret a client may have, in bytes.
const MinSecret = 24

// Credential is a client with its secret, as configuration resolved it.
type Credential struct {
	Name   string
	Kind   string // "" is "module"
	Secret string
	Rights Rights
}

// NewClients takes all credentials at once. Secrets are kept only as HMACs under
// a key of this process, so that looking one up takes the same time whether its
// first bytes are right or not.
func NewClients(all []Credential) (*Clients, error) {
	out := &Clients{salt: make([]byte, 32), byHash: make(map[[sha256.Size]byte]*Client, len(all))}
	if _, err := rand.Read(out.salt); err != nil {
		return nil, fmt.Errorf("preparing client credentials: %w", err)
	}
	var errs []error
	for _, c := range all {
		if len(c.Secret) < MinSecret {
			errs = append(errs, fmt.Errorf("client %q: its secret is shorter than %d bytes; make one with `openssl rand -base64 32`", c.Name, MinSecret))
			continue
		}
		h := out.hash(c.Secret)
		if other, taken := out.byHash[h]; taken {
			errs = append(errs, fmt.Errorf("client %q: its secret is also that of %q; give each its own", c.Name, other.Name))
			continue
		}
		if c.Kind == "" {
			c.Kind = "module"
		}
		out.byHash[h] = &Client{Name: c.Name, Kind: c.Kind, Rights: c.Rights}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return out, nil
}

func (c *Clients) hash(secret string) (out [sha256.Size]byte) {
	m := hmac.New(sha256.New, c.salt)
	m.Write([]byte(secret))
	m.Sum(out[:0])
	return out
}

// Authenticate finds the client that a bearer secret belongs to.
func (c *Clients) Authenticate(secret string) (*Client, bool) {
	if c == nil || len(c.byHash) == 0 || len(secret) < MinSecret || len(secret) > 512 {
		return nil, false
	}
	client, ok := c.byHash[c.hash(secret)]
	return client, ok
}
