package language

import (
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
)

// FuzzRoute: whatever a route file holds, Load gives a route or problems with a
// place in it, and never panics.
func FuzzRoute(f *testing.F) {
	files, _ := filepath.Glob("testdata/base/routes/*.yaml")
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	for _, s := range []string{
		"route: x", "route: [x]", "- a", "route: x\nfrom: {http: 3}\nsteps: {}", "route: x\nsteps: [[], 3, {call: }, {set: }]",
		"route: x\nfrom: {route: any}\nsteps:\n- switch: [{case: , steps: }]\n  else: {}\n- each: {from: x}\n- all: {steps: {a: }}",
		"route: x\nfrom: {event: [], http: [], cron: x}\nsteps:\n- wait: x\n  where:\n  undo: {}\n- call: route.x\n- start: x",
		"route: x\nfrom: {}\nlimit: {rate: , per: 3}\nsubject: []\nsteps:\n- reply: x\n  say: []\n- check: 1\n  else: {use: 3}",
	} {
		f.Add(s)
	}
	o := baseOptions(f)
	base := baseCity(f)
	prev, _ := Load(base, o)
	f.Fuzz(func(t *testing.T, s string) {
		city := fstest.MapFS{}
		for k, v := range base {
			city[k] = v
		}
		city["routes/fuzzed.yaml"] = &fstest.MapFile{Data: []byte(s)}
		_, ps := Reload(prev, city, o)
		for _, p := range ps {
			if p.Line < 1 || p.Column < 1 || p.Message == "" || p.Rule == "" {
				t.Fatalf("problem without a place: %+v", p)
			}
		}
	})
}
