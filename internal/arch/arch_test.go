package arch_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/dime-bus/dime/internal/arch"
	"github.com/google/go-cmp/cmp"
)

// TestTree judges this very tree.
func TestTree(t *testing.T) {
	vs, err := arch.Check(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range vs {
		t.Error(v)
	}
}

// TestPlanted proves that every planted violation is seen, and nothing else. A
// line that breaks rules says so: `want RULE RULE`.
func TestPlanted(t *testing.T) {
	root := os.DirFS("testdata/planted")
	var want []string
	err := fs.WalkDir(root, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(root, p)
		if err != nil {
			return err
		}
		sc := bufio.NewScanner(bytes.NewReader(b))
		for n := 1; sc.Scan(); n++ {
			if _, rules, ok := strings.Cut(sc.Text(), " want "); ok {
				for _, r := range strings.Fields(rules) {
					want = append(want, fmt.Sprintf("%s:%d [%s]", p, n, r))
				}
			}
		}
		return sc.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	vs, err := arch.Check(root)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	seen := map[string]bool{}
	for _, v := range vs {
		got = append(got, fmt.Sprintf("%s:%d [%s]", v.File, v.Line, v.Rule))
		seen[v.Rule] = true
	}
	slices.Sort(want)
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("violations (-planted +found):\n%s", d)
	}
	elsewhere := []string{"file-size", "package-size", "word"} // TestSize, TestWords
	for _, r := range arch.Rules() {
		if !seen[r[0]] && !slices.Contains(elsewhere, r[0]) && r[0] != "import-cmd" {
			t.Errorf("rule %s has no planted violation", r[0])
		}
	}
}

// TestSize plants files that are too long, which would be tiresome to commit.
func TestSize(t *testing.T) {
	long := func(lines int) *fstest.MapFile {
		comment := "\n// comments and empty lines are free\n\n"
		return &fstest.MapFile{Data: []byte("package x\n" + comment + strings.Repeat("var _ = 1\n", lines-1) + comment)}
	}
	root := fstest.MapFS{"internal/x/a.go": long(arch.MaxFileLines + 1)}
	for i := range 9 {
		root[fmt.Sprintf("internal/y/%d.go", i)] = long(arch.MaxFileLines)
		root[fmt.Sprintf("internal/z/%d_test.go", i)] = long(arch.MaxFileLines)
	}
	vs, err := arch.Check(root)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, v := range vs {
		got = append(got, path.Clean(v.File)+" "+v.Rule)
	}
	want := []string{"internal/x/a.go file-size", "internal/y package-size"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("violations (-want +got):\n%s", d)
	}
}

// TestWords plants words, spelt in halves so that TestTree does not find them here.
func TestWords(t *testing.T) {
	root := fstest.MapFS{"notes.yaml": {Data: []byte(strings.Join([]string{
		"note: TO" + "DO write it",
		"see: /ro" + "ot/secret",
		"so: good enough for " + "now.",
		"fine: TO" + "DOS is Spanish, a.b/ro" + "ot/c is a place in a site",
	}, "\n"))}}
	vs, err := arch.Check(root)
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	for _, v := range vs {
		if v.Rule != "word" {
			t.Errorf("unexpected %s", v)
		}
		got = append(got, v.Line)
	}
	if d := cmp.Diff([]int{1, 2, 3}, got); d != "" {
		t.Errorf("lines (-want +got):\n%s", d)
	}
}

// TestMarkdown: the reference names every rule and every owner.
func TestMarkdown(t *testing.T) {
	md := arch.Markdown()
	for _, r := range arch.Rules() {
		if !strings.Contains(md, "`"+r[0]+"`") {
			t.Errorf("rule %s is not in the reference", r[0])
		}
	}
	for _, o := range arch.Owners() {
		if !strings.Contains(md, "`"+o.Library+"`") {
			t.Errorf("library %s is not in the reference", o.Library)
		}
	}
}
