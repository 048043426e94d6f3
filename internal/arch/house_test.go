package arch_test

import (
	"bytes"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/dime-bus/dime/internal/yamldoc"
)

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestPubliccode holds publiccode.yml to what version 0.4 of the standard
// requires (publiccode.yml core, "schema"), so that a catalogue takes it.
func TestPubliccode(t *testing.T) {
	const file = "publiccode.yml"
	n, problems := yamldoc.Parse(file, []byte(read(t, file)))
	for _, p := range problems {
		t.Fatal(p)
	}
	text := func(n *yamldoc.Node, keys ...string) string {
		for _, k := range keys {
			n = n.Get(k)
		}
		if n == nil {
			t.Errorf("%s: %s is missing", file, strings.Join(keys, "."))
			return ""
		}
		return n.Text
	}
	oneOf := func(got string, words ...string) {
		if !slices.Contains(words, got) {
			t.Errorf("%s: %q is none of %v", file, got, words)
		}
	}
	items := func(keys ...string) []*yamldoc.Node {
		m := n
		for _, k := range keys {
			m = m.Get(k)
		}
		if m == nil || len(m.Items) == 0 {
			t.Errorf("%s: %s is missing or empty", file, strings.Join(keys, "."))
			return nil
		}
		return m.Items
	}
	oneOf(text(n, "publiccodeYmlVersion"), "0.4", "0.5")
	text(n, "name")
	if u := text(n, "url"); !strings.HasPrefix(u, "https://") {
		t.Errorf("%s: url %q", file, u)
	}
	oneOf(text(n, "developmentStatus"), "concept", "development", "beta", "stable", "obsolete")
	oneOf(text(n, "softwareType"), "standalone/mobile", "standalone/iot", "standalone/desktop", "standalone/web",
		"standalone/backend", "standalone/other", "addon", "library", "configurationFiles")
	oneOf(text(n, "legal", "license"), "EUPL-1.2")
	oneOf(text(n, "maintenance", "type"), "internal", "contract", "community", "none")
	oneOf(text(n, "localisation", "localisationReady"), "true", "false")
	items("platforms")
	items("categories")
	items("localisation", "availableLanguages")
	for _, c := range items("maintenance", "contacts") {
		text(c, "name")
	}
	for _, lang := range []string{"it", "en"} {
		d := n.Get("description").Get(lang)
		if l := utf8.RuneCountInString(text(d, "shortDescription")); l < 1 || l > 150 {
			t.Errorf("%s: the short description in %s has %d characters, 150 at most", file, lang, l)
		}
		if l := utf8.RuneCountInString(text(d, "longDescription")); l < 150 || l > 10000 {
			t.Errorf("%s: the long description in %s has %d characters, want 150 to 10000", file, lang, l)
		}
		for _, f := range items("description", lang, "features") {
			if utf8.RuneCountInString(f.Text) > 100 {
				t.Errorf("%s: feature %q has over 100 characters", file, f.Text)
			}
		}
	}
}

// TestLicence: the whole text, from its title to its appendix.
func TestLicence(t *testing.T) {
	l := read(t, "LICENSE")
	for _, part := range []string{"EUROPEAN UNION PUBLIC LICENCE v. 1.2", "1.Definitions", "5.Obligations of the Licensee",
		"15.Applicable Law", "Appendix", "production of a new EUPL version."} {
		if !strings.Contains(l, part) {
			t.Errorf("LICENSE lacks %q", part)
		}
	}
}

// TestDecisions are at most 40 lines, numbered without a gap.
func TestDecisions(t *testing.T) {
	files, err := fs.Glob(os.DirFS("../.."), "docs/decisions/*.md")
	if err != nil || len(files) == 0 {
		t.Fatalf("no decisions: %v", err)
	}
	form := regexp.MustCompile(`^# (\d{4})\. \S`)
	for _, f := range files {
		b := []byte(read(t, f))
		if n := bytes.Count(b, []byte("\n")); n > 40 {
			t.Errorf("%s has %d lines, at most 40", f, n)
		}
		m := form.FindSubmatch(b)
		if m == nil || !strings.HasPrefix(path.Base(f), string(m[1])+"-") {
			t.Errorf("%s must begin with `# NNNN. Title`, with the number of its name", f)
		}
		if !bytes.Contains(b, []byte("**Refused.**")) {
			t.Errorf("%s says not what was refused", f)
		}
	}
}

// TestLinks: every relative link of a page leads to a file of the tree.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#: ]+)(#[^)]*)?\)`)
	root := os.DirFS("../..")
	pages, err := fs.Glob(root, "*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"docs/*.md", "docs/*/*.md"} {
		more, err := fs.Glob(root, pattern)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, more...)
	}
	for _, p := range pages {
		for _, m := range link.FindAllStringSubmatch(read(t, p), -1) {
			if _, err := fs.Stat(root, path.Join(path.Dir(p), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", p, m[1])
			}
		}
	}
}

// TestMakefile: the targets that README, CONTRIBUTING and CI name exist, and
// the set-up is exactly two commands.
func TestMakefile(t *testing.T) {
	mk := read(t, "Makefile")
	for _, target := range []string{"build", "run", "test", "lint", "fmt", "gen", "check-gen", "bench", "chaos", "soak", "fuzz", "clean"} {
		if !regexp.MustCompile(`(?m)^` + target + `:`).MatchString(mk) {
			t.Errorf("Makefile has no target %s", target)
		}
	}
	_, setup, ok := strings.Cut(read(t, "README.md"), "## Set-up: two commands\n\n```sh\n")
	setup, _, _ = strings.Cut(setup, "```")
	if lines := strings.Count(setup, "\n"); !ok || lines != 2 {
		t.Errorf("README's set-up has %d commands, want 2:\n%s", lines, setup)
	}
}
