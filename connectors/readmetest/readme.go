// Package readmetest holds what the READMEs of connectors say to their descriptions.
package readmetest

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/dime-bus/dime/connectors"
)

// Check holds the list of operations in README.md of the test's folder to their
// description, or with update writes it anew.
func Check(t *testing.T, ops []*connectors.Operation, update bool) {
	t.Helper()
	var b strings.Builder
	b.WriteString("| operation | what it does | effect | asked again? | faults |\n|---|---|---|---|---|\n")
	for _, op := range ops {
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
	switch {
	case update:
		if err := os.WriteFile("README.md", []byte(want), 0o644); err != nil { //nolint:gosec // for all to read
			t.Fatal(err)
		}
	case want != string(have):
		t.Error("README.md is stale: run `go test . -run Readme -update` in its folder")
	}
}
