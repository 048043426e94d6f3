package openapi

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/yamldoc"
)

// load builds a connector called x of a document and the fields of its file.
func load(t testing.TB, doc, fields string, further ...string) (*Connector, []yamldoc.Problem) {
	t.Helper()
	fsys := fstest.MapFS{"config/connectors/x.openapi.yaml": {Data: []byte(doc)}}
	for i := 0; i+1 < len(further); i += 2 {
		fsys["config/connectors/"+further[i]] = &fstest.MapFile{Data: []byte(further[i+1])}
	}
	n, ps := yamldoc.Parse("config/connectors/x.yaml", []byte("openapi: x.openapi.yaml\n"+fields))
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	return New(connectors.Spec{Name: "x", File: "config/connectors/x.yaml", Node: n, FS: fsys})
}

// Official documents (pagoPA, App IO, PDND, SEND) lie beside the repository in
// ../shared/specs, or where DIME_SPECS says; they are not part of it.
func TestOfficialDocuments(t *testing.T) {
	dir := os.Getenv("DIME_SPECS")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "specs")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Logf("not checked: the official documents are absent: %v", err)
		return
	}
	files, operations := 0, 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		ext := filepath.Ext(path)
		if ext != ".json" && ext != ".yaml" && ext != ".yml" {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		head := string(b[:min(len(b), 4096)])
		if !strings.Contains(head, "openapi") || !strings.Contains(string(b), "paths") {
			return nil
		}
		c, ps := load(t, string(b), "")
		if c == nil {
			t.Errorf("%s: refused: %v", path, ps)
			return nil
		}
		files++
		operations += len(c.ops)
		left := 0
		for _, w := range c.desc.Warnings {
			if strings.Contains(w, "left out") {
				left++
				t.Logf("%s: %s", filepath.Base(path), w)
			}
		}
		t.Logf("%s: %d operations, %d left out, %d warnings", filepath.Base(path), len(c.ops), left, len(c.desc.Warnings))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files == 0 {
		t.Errorf("%s holds no OpenAPI document", dir)
	}
	t.Logf("%d documents, %d operations", files, operations)
}
