package config

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
)

// Secret is a reference to a secret: `env:NAME` or `file:PATH`. It is resolved
// only at use; no formatter, encoder or logger prints more than the stars.
type Secret struct{ ref string }

// ParseSecret checks a reference. The value itself is not accepted, so that no
// secret ever stands in a file of the city's content.
func ParseSecret(ref string) (Secret, error) {
	scheme, rest, ok := strings.Cut(ref, ":")
	if !ok || rest == "" || scheme != "env" && scheme != "file" {
		return Secret{}, errors.New("a secret is a reference, `env:NAME` or `file:PATH`, never the value itself")
	}
	return Secret{ref}, nil
}

// Set says whether there is a reference at all.
func (s Secret) Set() bool { return s.ref != "" }

// File is the path of a `file:` reference, for a look at who may read it; "" if it
// is none.
func (s Secret) File() string {
	if path, ok := strings.CutPrefix(s.ref, "file:"); ok {
		return path
	}
	return ""
}

// Resolve reads the secret now; the text after its last newline is cut off.
func (s Secret) Resolve() (string, error) {
	scheme, rest, _ := strings.Cut(s.ref, ":")
	switch scheme {
	case "env":
		v, ok := os.LookupEnv(rest)
		if !ok || v == "" {
			return "", fmt.Errorf("resolving a secret: the environment variable %s is not set", rest)
		}
		return v, nil
	case "file":
		b, err := os.ReadFile(rest)
		if err != nil {
			var p *fs.PathError
			if errors.As(err, &p) {
				err = p.Err
			}
			return "", fmt.Errorf("resolving a secret: reading %q: %w", rest, err)
		}
		v := strings.TrimRight(string(b), "\r\n")
		if v == "" {
			return "", fmt.Errorf("resolving a secret: %q is empty", rest)
		}
		return v, nil
	}
	return "", errors.New("resolving a secret: no reference is configured")
}

const stars = "***"

// Format prints the stars for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(stars)) }

func (s Secret) String() string               { return stars }
func (s Secret) GoString() string             { return stars }
func (s Secret) LogValue() slog.Value         { return slog.StringValue(stars) }
func (s Secret) MarshalText() ([]byte, error) { return []byte(stars), nil }
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"***"`), nil }
func (s Secret) MarshalYAML() (any, error)    { return stars, nil }
