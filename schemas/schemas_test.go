package schemas_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/schemas"
)

// TestFiles checks every schema: it compiles, is embedded, says what it is, marks
// tax codes as personal, and, if it is an event's, is named in the past tense and
// has a version.
func TestFiles(t *testing.T) {
	root := os.DirFS("..")
	set, problems := schema.Load(root, "schemas")
	for _, p := range problems {
		t.Error(p)
	}
	event := regexp.MustCompile(`^[a-z_-]+(\.[a-z_-]+)*\.[a-z_]*(ed|en|wn|done|paid|receipt)$`) // a receipt tells by itself that something was paid
	seen := 0
	err := fs.WalkDir(root, "schemas", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(p) != ".json" {
			return err
		}
		seen++
		rel := strings.TrimPrefix(p, "schemas/")
		b, err := fs.ReadFile(root, p)
		if err != nil {
			return err
		}
		if e, err := fs.ReadFile(schemas.Files, rel); err != nil || string(e) != string(b) {
			t.Errorf("%s is not embedded: its folder is too deep for embed.go", p)
		}
		var doc struct {
			Schema   string `json:"$schema"`
			Title    string
			Type     string
			Personal bool  `json:"x-personal"`
			Version  int   `json:"x-version"`
			Closed   *bool `json:"additionalProperties"`
		}
		if err := json.Unmarshal(b, &doc); err != nil {
			t.Errorf("%s: %v", p, err)
			return nil
		}
		name := strings.TrimSuffix(rel, ".json")
		if set.Get(name) == nil {
			t.Errorf("%s is not in the set as %s", p, name)
		}
		switch {
		case doc.Schema != "https://json-schema.org/draft/2020-12/schema":
			t.Errorf("%s: $schema is %q, want JSON Schema 2020-12", p, doc.Schema)
		case doc.Title == "":
			t.Errorf("%s has no title", p)
		case doc.Type == "object" && (doc.Closed == nil || *doc.Closed):
			t.Errorf("%s lets unknown properties through: say additionalProperties: false", p)
		}
		if typ, ok := strings.CutPrefix(name, "events/"); ok {
			if !event.MatchString(typ) {
				t.Errorf("%s: %q is not past tense, dotted", p, typ)
			}
			if doc.Version < 1 {
				t.Errorf("%s: x-version must be 1 or more", p)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen == 0 {
		t.Fatal("no schemas found")
	}
	for _, name := range set.Names() {
		personal(t, name, set.Get(name).Type(), false, 0)
	}
}

// personal fails for a tax code that is not marked.
func personal(t *testing.T, name string, typ *schema.Type, above bool, depth int) {
	if typ == nil || depth > 8 {
		return
	}
	above = above || typ.Personal
	for f, x := range typ.Fields {
		if f == "tax_code" && !above && (x.Type == nil || !x.Type.Personal) {
			t.Errorf("%s: %s is not marked x-personal", name, f)
		}
		personal(t, name+"."+f, x.Type, above, depth+1)
	}
	personal(t, name+"[]", typ.Items, above, depth+1)
}
