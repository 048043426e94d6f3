package routes_test

import (
	"context"
	"io/fs"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/connectors/all"
	"github.com/dime-bus/dime/pipeline/language"
	"github.com/dime-bus/dime/pipeline/routetest"
	"github.com/dime-bus/dime/routes"
)

// load reads the city's content from disk as `dime lint` does.
func load(t *testing.T) (fs.FS, *language.City) {
	t.Helper()
	root := os.DirFS("..")
	cs, problems := all.Build(root, all.Deps{})
	described := map[string]connectors.Description{}
	for name, c := range cs {
		described[name] = c.Describe()
	}
	city, more := language.Load(root, language.Options{Connectors: described})
	for _, p := range append(problems, more...) {
		if !p.Warning {
			t.Error(p)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
	return root, city
}

// TestFiles checks every route: it passes lint, is embedded, and has its tests
// beside it.
func TestFiles(t *testing.T) {
	root, city := load(t)
	seen := 0
	err := fs.WalkDir(root, "routes", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(p) != ".yaml" {
			return err
		}
		b, err := fs.ReadFile(root, p)
		if err != nil {
			return err
		}
		if e, err := fs.ReadFile(routes.Files, strings.TrimPrefix(p, "routes/")); err != nil || string(e) != string(b) {
			t.Errorf("%s is not embedded: its folder is too deep for embed.go", p)
		}
		if strings.HasSuffix(p, routetest.Suffix) {
			return nil
		}
		seen++
		beside := strings.TrimSuffix(p, ".yaml") + routetest.Suffix
		if _, err := fs.Stat(root, beside); err != nil {
			t.Errorf("%s has no %s beside it", p, path.Base(beside))
		}
		if r := city.Routes[strings.TrimSuffix(path.Base(p), ".yaml")]; r == nil {
			t.Errorf("%s: the file is not named as its route", p)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen != len(city.Routes) {
		t.Errorf("%d route files make %d routes", seen, len(city.Routes))
	}
}

// TestRoutes runs every route test, as `dime test` does.
func TestRoutes(t *testing.T) {
	root, city := load(t)
	files, problems := routetest.Load(root, city)
	for _, p := range problems {
		t.Error(p)
	}
	if t.Failed() {
		t.FailNow()
	}
	// A case that never rests is named by the runner when the time is over.
	ctx, stop := context.WithTimeout(context.Background(), 2*time.Minute)
	defer stop()
	report, err := routetest.Run(ctx, city, files, routetest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range report.Cases {
		for _, f := range c.Failures {
			t.Errorf("%s: %s\n%s:%d:%d: %s: want %s, got %s (%s)\n%s", c.Route, c.It,
				f.File, f.Line, f.Column, f.What, f.Want, f.Got, f.Variant, strings.Join(f.Timeline, "\n"))
		}
	}
	for _, c := range report.Coverage {
		for _, m := range c.Missed {
			t.Logf("%s:%d:%d: no test reaches %s", c.File, m.Line, m.Column, m.What)
		}
	}
	if report.Passed == 0 {
		t.Error("no case ran")
	}
}
