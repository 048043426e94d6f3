package anagrafe

import (
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/connectors/readmetest"
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
	readmetest.Check(t, c.Describe().Operations, *update)

	have, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
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
