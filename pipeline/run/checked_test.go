package run

import (
	"context"
	"strings"
	"testing"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/store/sqlite"
)

// Only an operation that says so, and whose own Do answered, is taken at its word
// (semantics 3.5): a stand-in's answer is always held to the description.
func TestAnAnswerIsValidatedOnce(t *testing.T) {
	odd := func(context.Context, connectors.Call) (any, error) {
		return map[string]any{"v": "x", "n": "no number"}, nil
	}
	for _, x := range []struct {
		name          string
		checked, mock bool
		want          string
	}{
		{"unchecked", false, false, `502 "urn:dime:problem:contract`},
		{"checked", true, false, "200 "},
		{"checked, played by another", true, true, `502 "urn:dime:problem:contract`},
	} {
		disk, err := sqlite.Open(context.Background(), sqlite.Options{Path: sqlite.Memory})
		if err != nil {
			t.Fatal(err)
		}
		cfg := Config{Store: disk}
		if x.mock {
			cfg.Do = func(ctx context.Context, _ string, _ *connectors.Operation, c connectors.Call) (any, error) {
				return odd(ctx, c)
			}
		}
		e, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		city := loadCity(t, lookup)
		for _, op := range city.Connectors["sys"].Operations {
			op.Do, op.Checked = odd, x.checked
		}
		if err := e.Swap(city); err != nil {
			t.Fatal(err)
		}
		if got := show(e.Request(context.Background(), http("lookup", map[string]any{"id": "a"}))); !strings.HasPrefix(got, x.want) {
			t.Errorf("%s: %s, want %s", x.name, got, x.want)
		}
		e.Stop()
		if err := disk.Close(); err != nil {
			t.Error(err)
		}
	}
}
