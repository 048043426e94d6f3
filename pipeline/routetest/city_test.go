package routetest

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/yamldoc"
	"github.com/dime-bus/dime/pipeline/language"
)

var update = flag.Bool("update", false, "write the golden files anew")

var runsWord = regexp.MustCompile(`, \d+ runs\)`)

func msDuration(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond }

// operationWords describe an operation in a txtar's connectors/NAME.yaml.
type operationWords struct {
	In      *yamldoc.Node     `yaml:"in"`
	Out     *yamldoc.Node     `yaml:"out"`
	Effect  string            `yaml:"effect"`
	Keyed   bool              `yaml:"keyed"`
	FoundBy string            `yaml:"found_by"`
	Faults  map[string]string `yaml:"faults"`
}

// cityOf loads the city in a txtar; its connectors stand in connectors/NAME.yaml.
func cityOf(t testing.TB, a *txtar.Archive) (fs.FS, *language.City, []yamldoc.Problem) {
	t.Helper()
	fsys := fstest.MapFS{}
	ds := map[string]connectors.Description{}
	for _, f := range a.Files {
		if name, ok := strings.CutPrefix(f.Name, "connectors/"); ok {
			name = strings.TrimSuffix(name, ".yaml")
			ds[name] = describe(t, name, f)
			continue
		}
		fsys[f.Name] = &fstest.MapFile{Data: f.Data}
	}
	city, ps := language.Load(fsys, language.Options{Connectors: ds})
	return fsys, city, ps
}

func describe(t testing.TB, name string, f txtar.File) connectors.Description {
	t.Helper()
	n, ps := yamldoc.Parse(f.Name, f.Data)
	if len(ps) > 0 {
		t.Fatalf("parsing %s: %v", f.Name, ps)
	}
	d := connectors.Description{Name: name, Summary: "The " + name + " of a test."}
	for _, p := range n.Pairs {
		var w operationWords
		if ps := p.Value.Decode(&w); len(ps) > 0 {
			t.Fatalf("reading %s: %v", f.Name, ps)
		}
		op := &connectors.Operation{Name: p.Key.Text, Summary: p.Key.Text, Effect: connectors.Effect(w.Effect), Keyed: w.Keyed, FoundBy: w.FoundBy, Basis: "test"}
		if op.Effect == "" {
			op.Effect = connectors.Safe
		}
		op.In, op.Out = compiled(t, name+"."+op.Name+"/in", w.In), compiled(t, name+"."+op.Name+"/out", w.Out)
		for _, n := range sortedKeys(w.Faults) {
			op.Faults = append(op.Faults, connectors.Fault{Name: n, Kind: fault.Kind(w.Faults[n])})
		}
		d.Operations = append(d.Operations, op)
	}
	return d
}

// compiled makes an object schema of `{name: type}`; a trailing ? makes a
// property optional, and a list is an enum.
func compiled(t testing.TB, name string, n *yamldoc.Node) *schema.Schema {
	t.Helper()
	if n == nil {
		return nil
	}
	props, required := map[string]any{}, []any{}
	for _, p := range n.Pairs {
		key, optional := strings.CutSuffix(p.Key.Text, "?")
		if !optional {
			required = append(required, key)
		}
		switch v, _ := p.Value.Any(); v := v.(type) {
		case string:
			props[key] = map[string]any{"type": v}
		case []any:
			props[key] = map[string]any{"enum": v, "type": "string"}
		default:
			props[key] = v
		}
	}
	s, err := schema.Compile(name, map[string]any{"type": "object", "properties": props, "required": required, "additionalProperties": false})
	if err != nil {
		t.Fatalf("compiling %s: %v", name, err)
	}
	return s
}

// TestCities runs the tests of every city in testdata and compares what is
// printed. Failing cases are wanted there too: they show the messages.
func TestCities(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cities in testdata (%v)", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(a.Files, func(f txtar.File) bool { return f.Name == "output" })
			if i < 0 {
				a.Files = append(a.Files, txtar.File{Name: "output"})
				i = len(a.Files) - 1
			}
			want := string(a.Files[i].Data)
			// How many commits carry the outbox away depends on who comes first.
			got := runsWord.ReplaceAllString(printed(t, &txtar.Archive{Files: slices.Delete(slices.Clone(a.Files), i, i+1)}), ", N runs)")
			if *update {
				a.Files[i].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("output (-want +got), run with -update if it is right:\n%s", d)
			}
		})
	}
}

// printed is what `dime test` would print for the city.
func printed(t *testing.T, a *txtar.Archive) string {
	t.Helper()
	fsys, city, ps := cityOf(t, a)
	out := &bytes.Buffer{}
	for _, p := range ps {
		fmt.Fprintln(out, p)
	}
	files, problems := Load(fsys, city)
	for _, p := range problems {
		fmt.Fprintln(out, p)
	}
	if len(ps)+len(problems) > 0 {
		return out.String()
	}
	ctx, stop := context.WithTimeout(context.Background(), 3*time.Minute)
	defer stop()
	rep, err := Run(ctx, city, files, Options{Each: func(r *Result) { _ = r.WriteLine(out, false) }})
	if err != nil {
		t.Fatalf("running the tests: %v", err)
	}
	if err := rep.WriteSummary(out, false); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestCrashMatrixSeesDoubles is the control: with an engine that does not write
// its intent first, the crash matrix must fail and name the record.
func TestCrashMatrixSeesDoubles(t *testing.T) {
	a, err := txtar.ParseFile("testdata/steps.txtar")
	if err != nil {
		t.Fatal(err)
	}
	fsys, city, ps := cityOf(t, a)
	files, problems := Load(fsys, city)
	if len(ps)+len(problems) > 0 {
		t.Fatal(ps, problems)
	}
	o := Options{Match: "never sends the letter twice", noIntent: true}
	rep, err := Run(t.Context(), city, files, o)
	if err != nil {
		t.Fatal(err)
	}
	if rep.OK() || len(rep.Cases) != 1 {
		t.Fatalf("a run without intents passed the crash matrix: %+v", rep)
	}
	f := rep.Cases[0].Failures[0]
	if f.What != "effects sanzioni.letter" || f.Want != "1" || f.Got != "2" || !strings.HasPrefix(f.Variant, "crashed ") || len(f.Timeline) == 0 {
		t.Errorf("the failure does not show the double: %+v", f)
	}
	o.noIntent = false
	if rep, err = Run(t.Context(), city, files, o); err != nil || !rep.OK() || rep.Cases[0].Variants < 7 {
		t.Errorf("with intents it must pass in many variants: %v %+v", err, rep.Cases)
	}
}

// TestSeedRepeats: the same seed gives the same random choices, another one others.
func TestSeedRepeats(t *testing.T) {
	a, err := txtar.ParseFile("testdata/booking.txtar")
	if err != nil {
		t.Fatal(err)
	}
	fsys, city, _ := cityOf(t, a)
	files, _ := Load(fsys, city)
	took := func(seed uint64) time.Duration {
		rep, err := Run(t.Context(), city, files, Options{Match: "tries the hold again", Seed: seed})
		if err != nil || len(rep.Cases) != 1 || !rep.OK() {
			t.Fatalf("%v %+v", err, rep)
		}
		if rep.Cases[0].Seed != max(seed, 1) {
			t.Errorf("seed %d is reported as %d", seed, rep.Cases[0].Seed)
		}
		return rep.Cases[0].Duration
	}
	if a, b := took(7), took(7); a != b {
		t.Errorf("seed 7 took %s and %s", a, b)
	}
	if a, b := took(7), took(8); a == b {
		t.Errorf("seeds 7 and 8 both took %s: the jitter does not follow the seed", a)
	}
}
