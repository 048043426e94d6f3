package routetest

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"
)

// Each testdata/mistakes/NNN-name.txtar is one mistake in the test file of
// testdata/booking.txtar, in the form of the language's own: its comment says
// `want FILE:LINE:COLUMN [rule] fragment of the message`, its files what is
// edited into what. At least 97 % must be refused at their place.
func TestMistakes(t *testing.T) {
	files, err := filepath.Glob("testdata/mistakes/*.txtar")
	if err != nil || len(files) < 15 {
		t.Fatalf("%d mistakes, %v", len(files), err)
	}
	a, err := txtar.ParseFile("testdata/booking.txtar")
	if err != nil {
		t.Fatal(err)
	}
	fsys, city, ps := cityOf(t, a)
	if len(ps) > 0 {
		t.Fatalf("the base city has problems: %v", ps)
	}
	if ps := Check(fsys, city); len(ps) > 0 {
		t.Fatalf("false alarms: %v", ps)
	}
	found := 0
	for _, file := range files {
		m, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want := strings.TrimSpace(strings.TrimPrefix(string(m.Comment), "want "))
		place, rest, _ := strings.Cut(want, " ")
		rule, fragment, _ := strings.Cut(rest, " ")
		edited := fstest.MapFS{}
		for n, f := range fsys.(fstest.MapFS) {
			edited[n] = f
		}
		for i := 0; i+1 < len(m.Files); i += 2 {
			name := strings.TrimPrefix(m.Files[i].Name, "edit ")
			old, now := strings.TrimSuffix(string(m.Files[i].Data), "\n"), strings.TrimSuffix(string(m.Files[i+1].Data), "\n")
			src := string(edited[name].Data)
			if strings.Count(src, old) != 1 {
				t.Fatalf("%s: %s does not hold once:\n%s", file, name, old)
			}
			edited[name] = &fstest.MapFile{Data: []byte(strings.Replace(src, old, now, 1))}
		}
		var got []string
		for _, p := range Check(edited, city) {
			got = append(got, p.String())
		}
		if slices.ContainsFunc(got, func(s string) bool {
			return strings.HasPrefix(s, place+": ") && strings.HasSuffix(s, rule) && strings.Contains(s, fragment)
		}) {
			found++
			continue
		}
		t.Logf("%s: want %s\n\t%s", filepath.Base(file), want, strings.Join(got, "\n\t"))
	}
	t.Logf("%d of %d found at their place", found, len(files))
	if found*100 < 97*len(files) {
		t.Errorf("%d of %d mistakes found at their place, want 97 %%", found, len(files))
	}
}
