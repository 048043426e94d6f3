package routetest

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/dime-bus/dime/internal/yamldoc"
)

// FuzzTestFile: whatever stands in a test file, reading it ends with problems
// that have a place in it, never with a panic.
func FuzzTestFile(f *testing.F) {
	a, err := txtar.ParseFile("testdata/booking.txtar")
	if err != nil {
		f.Fatal(err)
	}
	fsys, city, ps := cityOf(f, a)
	if len(ps) > 0 {
		f.Fatalf("the fuzzer's city has problems: %v", ps)
	}
	const name = "routes/book.test.yaml"
	for _, file := range []string{"testdata/booking.txtar", "testdata/failing.txtar", "testdata/mistakes.txtar"} {
		a, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, x := range a.Files {
			if x.Name == name {
				f.Add(string(x.Data))
			}
		}
	}
	for _, seed := range []string{
		"", "tests:", "tests: []", "tests: [{}]", "defaults: []\ntests: [1]", "tests:\n- it: [a]\n  then: []\n",
		"tests:\n- it: a\n  given: {agenda.hold: [[]], appointment.confirmed: []}\n  then: {reply: []}\n",
		"tests:\n- it: a\n  given: {agenda.hold: {result: , latency: 2d, lost: x, fault: {}}}\n  then: {emitted: [[]], undone: {a: b}}\n",
		"tests:\n- it: a\n  caller: []\n  req: []\n  from: []\n  at: []\n  seed: []\n  send: []\n  crash: []\n  cancel: []\n  replay: []\n  then: {ended: [], result: [], runs: []}\n",
	} {
		f.Add(seed)
	}
	base := maps.Clone(fsys.(fstest.MapFS))
	f.Fuzz(func(t *testing.T, src string) {
		own := maps.Clone(base)
		own[name] = &fstest.MapFile{Data: []byte(src)}
		files, ps := Load(own, city, name)
		for _, p := range ps {
			if p.File != name || p.Line < 1 || p.Column < 1 || p.Rule == "" || p.Message == "" {
				t.Errorf("a problem without a place: %+v", p)
			}
			if n := 1 + strings.Count(src, "\n"); p.Line > n {
				t.Errorf("the file has %d lines: %v", n, p)
			}
		}
		if !slices.ContainsFunc(ps, func(p yamldoc.Problem) bool { return !p.Warning }) {
			for _, f := range files {
				for _, c := range f.Cases {
					if c.It == "" || c.then == nil {
						t.Errorf("a case without `it` or `then` passed: %+v", c)
					}
				}
			}
		}
	})
}
