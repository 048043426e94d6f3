package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dime-bus/dime/config"
	"github.com/dime-bus/dime/routes"
	"github.com/dime-bus/dime/schemas"
)

// content is the city's folder over the content that the binary ships: a file on
// disk wins over the embedded one. Below routes/ a folder on disk hides all files
// of the embedded folder, so that deleting a route file there deletes the route.
type content struct {
	dir      string
	disk     fs.FS
	embedded []mount
	leftOut  map[string]bool // shipped files that do not fit this city
	last     *built          // the connectors that were made last
}

// mount is an embedded folder at its place.
type mount struct {
	at string
	fs fs.FS
}

// openContent checks that dir is a folder.
func openContent(dir string) (*content, error) {
	st, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the content folder: %w", err)
	}
	if !st.IsDir() {
		return nil, fmt.Errorf("opening the content folder: %s is not a folder", dir)
	}
	return &content{dir: dir, disk: os.DirFS(dir), embedded: shippedContent()}, nil
}

// shippedContent is what the binary holds.
func shippedContent() []mount {
	return []mount{{"routes", routes.Files}, {"schemas", schemas.Files}, {"config", config.Files}}
}

// tops are the folders of a city's content; nothing else of the folder is read.
func tops() []string { return []string{"routes", "schemas", "config"} }

func inTops(name string) bool {
	top, _, _ := strings.Cut(name, "/")
	return slices.Contains(tops(), top)
}

// shipped says whether name comes from the binary and not from disk.
func (c *content) shipped(name string) bool {
	_, err := fs.Stat(c.disk, name)
	return err != nil
}

// Open implements fs.FS.
func (c *content) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	if name != "." && !inTops(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	f, err := c.disk.Open(name)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	if c.hidden(name) {
		return nil, err
	}
	for _, m := range c.embedded {
		if rest, ok := m.rel(name); ok {
			return m.fs.Open(rest)
		}
	}
	return nil, err
}

// hidden says whether the embedded file's folder below routes/ is on disk.
func (c *content) hidden(name string) bool {
	if c.leftOut[name] {
		return true
	}
	// The configuration and the schema of its `cfg` belong together.
	if twin, ok := map[string]string{"config/dime.yaml": "config/cfg.schema.json", "config/cfg.schema.json": "config/dime.yaml"}[name]; ok {
		return !c.shipped(twin)
	}
	if !strings.HasPrefix(name, "routes/") {
		return false
	}
	st, err := fs.Stat(c.disk, path.Dir(name))
	if err != nil || !st.IsDir() {
		return false
	}
	for _, m := range c.embedded {
		if rest, ok := m.rel(name); ok {
			st, err := fs.Stat(m.fs, rest)
			return err != nil || !st.IsDir()
		}
	}
	return false
}

func (m mount) rel(name string) (string, bool) {
	if name == m.at {
		return ".", true
	}
	return strings.CutPrefix(name, m.at+"/")
}

// ReadDir implements fs.ReadDirFS: both folders' entries, sorted.
func (c *content) ReadDir(name string) ([]fs.DirEntry, error) {
	if name == "." {
		var out []fs.DirEntry
		for _, top := range tops() {
			if st, err := fs.Stat(c, top); err == nil {
				out = append(out, fs.FileInfoToDirEntry(st))
			}
		}
		return out, nil
	}
	if !inTops(name) {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	byName := map[string]fs.DirEntry{}
	found := false
	for _, m := range c.embedded {
		rest, ok := m.rel(name)
		if !ok {
			continue
		}
		entries, err := fs.ReadDir(m.fs, rest)
		if err != nil {
			continue
		}
		found = true
		for _, e := range entries {
			if !c.hidden(path.Join(name, e.Name())) {
				byName[e.Name()] = e
			}
		}
	}
	entries, err := fs.ReadDir(c.disk, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) || err != nil && !found {
		return nil, err
	}
	for _, e := range entries {
		byName[e.Name()] = e
	}
	out := make([]fs.DirEntry, 0, len(byName))
	for _, e := range byName {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return out, nil
}

// findContent is the nearest folder at or above the first path that holds
// routes/; the working folder if there is none.
func findContent(paths []string) string {
	start := "."
	if len(paths) > 0 {
		start = paths[0]
	}
	abs, err := filepath.Abs(start)
	if err != nil {
		return "."
	}
	for dir := abs; ; dir = filepath.Dir(dir) {
		if st, err := os.Stat(filepath.Join(dir, "routes")); err == nil && st.IsDir() {
			if wd, err := os.Getwd(); err == nil {
				if rel, err := filepath.Rel(wd, dir); err == nil && !strings.HasPrefix(rel, "..") {
					return rel
				}
			}
			return dir
		}
		if filepath.Dir(dir) == dir {
			return "."
		}
	}
}
