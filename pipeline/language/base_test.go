package language

import (
	"encoding/json"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/schema"
)

// baseCity is testdata/base in memory, for tests to change.
func baseCity(t testing.TB) fstest.MapFS {
	t.Helper()
	out := fstest.MapFS{}
	dir := os.DirFS("testdata/base")
	err := fs.WalkDir(dir, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(dir, p)
		out[p] = &fstest.MapFile{Data: b}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// baseOptions makes connectors of testdata/base/connectors.json.
func baseOptions(t testing.TB) Options {
	t.Helper()
	b, err := os.ReadFile("testdata/base/connectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string][]struct {
		Name, Effect string
		Keyed        bool
		FoundBy      string `json:"found_by"`
		In, Out      json.RawMessage
		Faults       []struct{ Name, Kind string }
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	o := Options{Connectors: map[string]connectors.Description{}, Brokers: []string{"contractor"}}
	for name, ops := range doc {
		d := connectors.Description{Name: name}
		for _, op := range ops {
			full := name + "." + op.Name
			c := &connectors.Operation{Name: op.Name, Effect: connectors.Effect(op.Effect), Keyed: op.Keyed, FoundBy: op.FoundBy}
			for _, f := range op.Faults {
				c.Faults = append(c.Faults, connectors.Fault{Name: f.Name, Kind: fault.Kind(f.Kind)})
			}
			if op.In != nil {
				if c.In, err = schema.CompileBytes(full+"/in", op.In); err != nil {
					t.Fatal(err)
				}
			}
			if op.Out != nil {
				if c.Out, err = schema.CompileBytes(full+"/out", op.Out); err != nil {
					t.Fatal(err)
				}
			}
			d.Operations = append(d.Operations, c)
		}
		o.Connectors[name] = d
	}
	return o
}

func lines(t testing.TB, fsys fs.FS) []string {
	t.Helper()
	_, ps := Load(fsys, baseOptions(t))
	var out []string
	for _, p := range ps {
		out = append(out, p.String())
	}
	return out
}

// The example of route-language.md and the other routes of the base have no problem.
func TestBaseIsSound(t *testing.T) {
	city, ps := Load(baseCity(t), baseOptions(t))
	for _, p := range ps {
		t.Error(p)
	}
	if len(city.Routes) != 7 {
		t.Errorf("got %d routes", len(city.Routes))
	}
}

func edit(t testing.TB, city fstest.MapFS, file, old, now string) fstest.MapFS {
	t.Helper()
	b := city[file]
	if b == nil || strings.Count(string(b.Data), old) != 1 {
		t.Fatalf("%s does not hold once:\n%s", file, old)
	}
	out := fstest.MapFS{}
	for k, v := range city {
		out[k] = v
	}
	out[file] = &fstest.MapFile{Data: []byte(strings.Replace(string(b.Data), old, now, 1))}
	return out
}
