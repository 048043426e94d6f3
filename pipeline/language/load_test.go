package language

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dime-bus/dime/internal/yamldoc"
)

func TestFacts(t *testing.T) {
	city, _ := Load(baseCity(t), baseOptions(t))
	for name, want := range map[string]struct {
		safe, pipe, called bool
		waits              []WaitShape
		calls, routes      []string
	}{
		"residence-certificate": {waits: []WaitShape{{"pagopa.receipt", "iuv"}}, calls: []string{
			"anagrafe.issue_certificate", "anagrafe.prepare_certificate", "anagrafe.residence", "pagopa.close_position", "pagopa.open_position"}},
		"fine-view":      {safe: true, calls: []string{"sanzioni.fines"}, routes: []string{"owner-lookup"}},
		"owner-lookup":   {safe: true, called: true, calls: []string{"anagrafe.owner"}},
		"fine-reminders": {calls: []string{"sanzioni.due"}, routes: []string{"fine-watch"}},
		"fine-watch":     {waits: []WaitShape{{"pagopa.receipt", "iuv"}}, calls: []string{"sanzioni.settle"}},
		"paid-relay":     {pipe: true},
	} {
		r := city.Routes[name]
		if r == nil {
			t.Errorf("%s is missing", name)
			continue
		}
		if r.Safe != want.safe || r.Pipe != want.pipe || r.CalledOnly != want.called {
			t.Errorf("%s: safe %v pipe %v called %v", name, r.Safe, r.Pipe, r.CalledOnly)
		}
		if d := cmp.Diff(want.waits, r.Waits); d != "" {
			t.Errorf("%s: waits %s", name, d)
		}
		if d := cmp.Diff(append([]string{}, want.calls...), r.Calls); d != "" {
			t.Errorf("%s: calls %s", name, d)
		}
		if d := cmp.Diff(append([]string{}, want.routes...), r.Routes); d != "" {
			t.Errorf("%s: routes %s", name, d)
		}
		if len(r.Digest) != 64 {
			t.Errorf("%s: digest %q", name, r.Digest)
		}
	}
}

func TestCompiledRoute(t *testing.T) {
	city, _ := Load(baseCity(t), baseOptions(t))
	r := city.Routes["residence-certificate"]
	if r == nil {
		t.Fatal("the route is missing")
	}
	var paths []string
	everyStep(r.Steps, func(s *Step) { paths = append(paths, s.Path) })
	want := []string{"check", "resident", "check#2", "draft", "position", "reply", "receipt", "certificate", "set:result", "emit:certificate.issued"}
	if d := cmp.Diff(want, paths); d != "" {
		t.Error(d)
	}
	if r.Keep != (Span{Days: 90}) || r.Within != 10*time.Second || r.Patience != 24*time.Hour || r.Priority != 1 || r.Label != 3 {
		t.Errorf("header: %+v", r)
	}
	wait := r.Steps[6]
	if wait.For != (Span{Days: 3}) || wait.Shape != "iuv" || len(wait.Key) != 1 || wait.Rest != nil || !wait.Commit || wait.Else.End != Cancel {
		t.Errorf("wait: %+v", wait)
	}
	if w := city.Routes["fine-watch"].Steps[1]; w.Rest == nil || w.Key[0].Path != "iuv" {
		t.Errorf("wait with a rest: %+v", w)
	}
	n := city.Routes["fine-notices"]
	if n.Limit.Rate != 10 || n.Limit.InFlight != 20 || n.SLO.P99 != 800*time.Millisecond || n.Priority != 2 || len(n.Subject) != 2 {
		t.Errorf("header: %+v", n)
	}
}

func TestReloadKeepsWhatDidNotChange(t *testing.T) {
	base, o := baseCity(t), baseOptions(t)
	first, ps := Load(base, o)
	if Refused(ps) {
		t.Fatal(ps)
	}
	kept := func(now *City) []string {
		var names []string
		for _, n := range sortedKeys(now.Routes) {
			if first.Routes[n] == now.Routes[n] {
				names = append(names, n)
			}
		}
		return names
	}
	all := sortedKeys(first.Routes)
	without := func(drop ...string) []string {
		var out []string
		for _, n := range all {
			if !contains(drop, n) {
				out = append(out, n)
			}
		}
		return out
	}
	for _, tt := range []struct {
		name, file, old, now string
		want                 []string
	}{
		{"nothing", "routes/paid-relay.yaml", "version: 1", "version: 1", all},
		{"one route", "routes/paid-relay.yaml", "version: 1", "version: 2", without("paid-relay")},
		{"a called route and its callers", "routes/owner-lookup.yaml", "version: 1", "version: 2", without("owner-lookup", "fine-view")},
		{"a schema and who uses it", "schemas/fines/view.json", `"total", "fines"]`, `"total"]`, without("fine-view")},
		{"an event and who uses it", "schemas/events/pagopa.receipt.json", `"stamp": {`, `"payer": {"type": "string"}, "stamp": {`,
			without("residence-certificate", "fine-watch", "fine-reminders")},
		{"a message that still exists", "config/messages.yaml", "Person not found", "No such person", all},
		{"values of cfg", "config/dime.yaml", "max_fines: 20", "max_fines: 30", all},
		{"types of cfg", "config/cfg.schema.json", `"minimum": 1`, `"minimum": 2`, without("residence-certificate")},
		{"a purpose", "config/purposes.yaml", "keep: 90d", "keep: 60d", without("residence-certificate")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			city := edit(t, base, tt.file, tt.old, tt.now)
			now, ps := Reload(first, city, o)
			if Refused(ps) {
				t.Fatal(ps)
			}
			if d := cmp.Diff(tt.want, kept(now)); d != "" {
				t.Error(d)
			}
			fresh, _ := Load(city, o)
			for n, r := range fresh.Routes {
				if now.Routes[n] == nil || now.Routes[n].Digest != r.Digest {
					t.Errorf("%s: reload and load differ", n)
				}
			}
		})
	}
}

// A mistake brought by a reload is told, also where it stands in another file
// than the changed one, and told again at the next reload.
func TestReloadFindsMistakes(t *testing.T) {
	base, o := baseCity(t), baseOptions(t)
	first, _ := Load(base, o)
	broken := edit(t, base, "schemas/events/fines.paid.json", `"required": ["iuv"]`, `"required": ["iuv", "at"]`)
	second, ps := Reload(first, broken, o)
	if len(ps) == 0 {
		t.Fatal("the missing property was not found")
	}
	_, again := Reload(second, broken, o)
	if d := cmp.Diff(ps, again); d != "" {
		t.Error(d)
	}
	gone := fstest.MapFS{}
	for k, v := range base {
		if k != "routes/owner-lookup.yaml" {
			gone[k] = v
		}
	}
	if _, ps := Reload(first, gone, o); len(ps) != 1 || ps[0].Rule != "route" {
		t.Errorf("a called route is gone: %v", ps)
	}
	_, ps = Reload(second, base, o)
	if len(ps) > 0 {
		t.Errorf("mended: %v", ps)
	}
}

func TestRecompile(t *testing.T) {
	o := baseOptions(t)
	city, _ := Load(baseCity(t), o)
	byDigest := map[string]Source{}
	for _, r := range city.Routes {
		byDigest[r.Digest] = r.Source
	}
	o.Version = func(d string) (Source, error) {
		s, ok := byDigest[d]
		if !ok {
			return s, fmt.Errorf("no version %s", d)
		}
		return s, nil
	}
	for _, withCity := range []bool{true, false} {
		o.City = nil
		if withCity {
			o.City = city
		}
		for name, r := range city.Routes {
			again, err := Recompile(r.Source, o)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if again.Digest != r.Digest || again.Label != r.Label || len(again.Steps) != len(r.Steps) || again.Safe != r.Safe {
				t.Errorf("%s: compiled again it differs", name)
			}
		}
	}
	src := city.Routes["fine-watch"].Source
	delete(o.Connectors, "sanzioni")
	if _, err := Recompile(src, o); err == nil || !strings.Contains(err.Error(), "sanzioni") {
		t.Errorf("a version whose operation is gone: %v", err)
	}
}

func TestLiterals(t *testing.T) {
	city, _ := Load(baseCity(t), baseOptions(t))
	n, ps := yamldoc.Parse("m.yaml", []byte("iuv: 0102\namount: 1600\n"))
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	got, ps := Literals(n, city.Events["pagopa.receipt"].Schema.Type())
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	if d := cmp.Diff(map[string]any{"iuv": "0102", "amount": 1600}, got); d != "" {
		t.Error(d)
	}
}

// Two files with mistakes: both are told, sorted, whatever YAML makes of the first.
func TestAllProblemsAtOnce(t *testing.T) {
	city := edit(t, baseCity(t), "routes/fine-view.yaml", "subject: =caller.tax_code", "subject: =c ? a : b")
	city = edit(t, city, "routes/residence-certificate.yaml", "timeout: 2s", "timeout: 2d")
	city = edit(t, city, "config/messages.yaml", "no-plate: {it: Targa sconosciuta, ", "no-plate: {")
	want := []string{
		"config/messages.yaml:4:1: the sentence is missing in it: citizens read it in it, en, de and fr [message]",
		"routes/fine-view.yaml:8:10: `: ` ends a YAML value, so `c ? a : b` can't be read: write `if c {a} else {b}`, or quote the whole expression [yaml]",
		"routes/residence-certificate.yaml:21:14: `timeout`: \"2d\" counts calendar days; here only elapsed time is meant: use ms, s, m or h [type]",
	}
	if d := cmp.Diff(want, lines(t, city)); d != "" {
		t.Error(d)
	}
}
