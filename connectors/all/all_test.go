package all

import (
	"os"
	"testing"
)

func TestShippedConnectors(t *testing.T) {
	cs, ps := Build(os.DirFS("../.."), Deps{})
	for _, p := range ps {
		t.Errorf("%s", p)
	}
	for _, name := range []string{"agenda", "sanzioni", "stradario", "segnalazioni"} {
		c := cs[name]
		if c == nil {
			t.Errorf("connector %s is missing", name)
			continue
		}
		for _, w := range c.Describe().Warnings {
			t.Errorf("%s: warning %s", name, w)
		}
	}
}
