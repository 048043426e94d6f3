package anagrafe

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/yamldoc"
)

var update = flag.Bool("update", false, "write README.md's generated part anew")

// TestReadme holds the list of operations to the description, and the example of the
// configuration to what the connector reads.
func TestReadme(t *testing.T) {
	n, ps := yamldoc.Parse("anagrafe.yaml", []byte(settings))
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	c, ps := New(connectors.Spec{Name: "anagrafe", File: "anagrafe.yaml", Node: n})
	if c == nil {
		t.Fatal(ps)
	}
	var b strings.Builder
	b.WriteString("| operation | what it does | effect | asked again? | faults |\n|---|---|---|---|---|\n")
	for _, op := range c.Describe().Operations {
		var again, faults []string
		if op.Keyed {
			again = append(again, "keyed")
		}
		if op.FoundBy != "" {
			again = append(again, "found by `"+op.FoundBy+"`")
		}
		for _, f := range op.Faults {
			faults = append(faults, fmt.Sprintf("`%s` (%s): %s", f.Name, f.Kind, f.Summary))
		}
		if op.Basis != "" {
			again = append(again, "by "+op.Basis)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", op.Name, op.Summary, op.Effect, strings.Join(again, ", "), strings.Join(faults, "<br>"))
	}
	const begin, end = "<!-- operations -->\n", "<!-- /operations -->"
	have, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(have), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("README.md lacks the markers of its generated part")
	}
	want := before + begin + b.String() + end + after
	if *update {
		if err := os.WriteFile("README.md", []byte(want), 0o644); err != nil { //nolint:gosec // for all to read
			t.Fatal(err)
		}
	} else if want != string(have) {
		t.Error("README.md is stale: run `go test ./connectors/anagrafe -run Readme -update`")
	}

	_, example, _ := strings.Cut(string(have), "```yaml\n")
	example, _, _ = strings.Cut(example, "```")
	if n, ps = yamldoc.Parse("README.yaml", []byte(example)); len(ps) > 0 {
		t.Fatal(ps)
	}
	if c, ps = New(connectors.Spec{Name: "anagrafe", File: "README.yaml", Node: n, City: connectors.CityOff}); c == nil {
		t.Fatalf("the example of the configuration: %v", ps)
	}
	v := reflect.ValueOf(c.cfg)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("the example of the configuration says nothing of %s", v.Type().Field(i).Name)
		}
	}
}
