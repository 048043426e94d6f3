package config_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dime-bus/dime/config"
	"github.com/dime-bus/dime/connectors/all"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/yamldoc"
)

// TestContent checks every content file of this folder: connectors build,
// messages and purposes speak four languages and are used, and all is embedded.
func TestContent(t *testing.T) {
	root := os.DirFS("..")
	err := fs.WalkDir(root, "config", func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == "testdata" {
			return fs.SkipDir
		}
		if err != nil || d.IsDir() || strings.HasSuffix(p, ".go") {
			return err
		}
		b, err := fs.ReadFile(root, p)
		if err != nil {
			return err
		}
		if e, err := fs.ReadFile(config.Files, strings.TrimPrefix(p, "config/")); err != nil || string(e) != string(b) {
			t.Errorf("%s is not embedded", p)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	cs, problems := all.Build(root, all.Deps{})
	for _, p := range problems {
		t.Error(p)
	}
	for _, name := range []string{"agenda", "deleghe", "protocollo", "sanzioni", "segnalazioni", "stradario"} {
		c := cs[name]
		if c == nil {
			t.Errorf("connector %s is not built", name)
			continue
		}
		for _, w := range c.Describe().Warnings {
			t.Errorf("connector %s: our own document gives a warning: %s", name, w)
		}
	}
}

// TestSentences: every message and purpose has a sentence in each language, ends
// like one, and is used by a route.
func TestSentences(t *testing.T) {
	root := os.DirFS("..")
	said := words(t, root, regexp.MustCompile(`\bsay: ([a-z][a-z0-9-]*)`))
	purposes := words(t, root, regexp.MustCompile(`(?m)^purpose: ([a-z][a-z0-9-]*)`))
	for _, f := range []struct {
		file string
		used map[string]bool
		text func(*yamldoc.Node) *yamldoc.Node
	}{
		{"config/messages.yaml", said, func(n *yamldoc.Node) *yamldoc.Node { return n }},
		{"config/purposes.yaml", purposes, func(n *yamldoc.Node) *yamldoc.Node { return n.Get("text") }},
	} {
		b, err := fs.ReadFile(root, f.file)
		if err != nil {
			t.Fatal(err)
		}
		n, problems := yamldoc.Parse(f.file, b)
		for _, p := range problems {
			t.Error(p)
		}
		if n == nil {
			continue
		}
		var keys []string
		for _, p := range n.Pairs {
			key := p.Key.Text
			keys = append(keys, key)
			if !f.used[key] {
				t.Errorf("%s:%d: no route uses %s", f.file, p.Key.Line, key)
			}
			for _, lang := range []string{"it", "en", "de", "fr"} {
				s := f.text(p.Value).Get(lang)
				if s == nil || s.Text == "" || !strings.HasSuffix(s.Text, ".") {
					t.Errorf("%s:%d: %s has no sentence in %s", f.file, p.Key.Line, key, lang)
				}
			}
		}
		if !slices.IsSorted(keys) {
			t.Errorf("%s: keys are not in order", f.file)
		}
	}
}

func words(t *testing.T, root fs.FS, re *regexp.Regexp) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	files, err := fs.Glob(root, "routes/*/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no routes: %v", err)
	}
	for _, p := range files {
		b, err := fs.ReadFile(root, p)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range re.FindAllStringSubmatch(string(b), -1) {
			found[m[1]] = true
		}
	}
	return found
}

// TestCfgDefaults: the defaults that cfg.schema.json writes down are themselves
// a valid configuration.
func TestCfgDefaults(t *testing.T) {
	b, err := fs.ReadFile(config.Files, "cfg.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	s, err := schema.CompileBytes("cfg", b)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Properties map[string]struct{ Default any }
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	values := map[string]any{}
	for k, p := range doc.Properties {
		values[k] = p.Default
	}
	for _, v := range s.Validate(s.Coerce(values)) {
		t.Errorf("cfg%s %s", v.Pointer, v.Message)
	}
}
