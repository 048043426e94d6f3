package language

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// Each testdata/mistakes/NNN-name.txtar is one mistake in the base city: its
// comment says `want FILE:LINE:COLUMN [rule] fragment of the message`, its files
// what is edited into what. At least 97 % must be refused at their place.
func TestMistakes(t *testing.T) {
	files, err := filepath.Glob("testdata/mistakes/*.txtar")
	if err != nil || len(files) < 85 {
		t.Fatalf("%d mistakes, %v", len(files), err)
	}
	base, o := baseCity(t), baseOptions(t)
	found := 0
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want := strings.TrimSpace(strings.TrimPrefix(string(a.Comment), "want "))
		place, rest, _ := strings.Cut(want, " ")
		rule, fragment, _ := strings.Cut(rest, " ")
		city := base
		for i := 0; i+1 < len(a.Files); i += 2 {
			old, now := a.Files[i], a.Files[i+1]
			city = edit(t, city, strings.TrimPrefix(old.Name, "edit "), strings.TrimSuffix(string(old.Data), "\n"), strings.TrimSuffix(string(now.Data), "\n"))
		}
		_, ps := Load(city, o)
		ok := false
		var got []string
		for _, p := range ps {
			s := p.String()
			got = append(got, s)
			ok = ok || strings.HasPrefix(s, place+": ") && strings.HasSuffix(s, rule) && strings.Contains(s, fragment)
		}
		if ok {
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
