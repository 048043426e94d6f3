package pagopa

import (
	"flag"
	"testing"

	"github.com/dime-bus/dime/connectors/readmetest"
)

var update = flag.Bool("update", false, "write README.md's generated part anew")

// TestReadme holds the list of operations to the description.
func TestReadme(t *testing.T) { readmetest.Check(t, newBench(t).desc.Operations, *update) }
