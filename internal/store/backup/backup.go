// Package backup writes the data folder of a bus into one file and back: the
// database as one state of it, and the small files beside it. The master key is
// never in it, nor the list of erasures: whoever holds a backup can read nothing
// without the key, and a restore must not bring destroyed keys back (semantics
// 10.5).
//
// The file is a tar: manifest.json with the size and SHA-256 of every file, then
// the files in its order.
package backup

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dime-bus/dime/internal/store/sqlite"
)

// Database is the database's name in the data folder.
const Database = "dime.db"

// format of the file; a reader refuses any other.
const format = 1

const manifestName = "manifest.json"

// most bounds what a restore writes of one file.
const most = 1 << 40

// Manifest is the head of a backup.
type Manifest struct {
	Format  int    `json:"format"`
	Version string `json:"dime"` // of the program that wrote it
	sqlite.Copy
	Files []File `json:"files"`
}

// File of a backup.
type File struct {
	Name   string `json:"name"` // slash-separated, below the data folder
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	from   string
}

// ErrNotEmpty says that a data folder holds something already.
var ErrNotEmpty = errors.New("it is not empty; restore into a new folder, or move this one away first")

// skipped are what a data folder holds besides: the database is copied by itself,
// its logs and lock belong to a process, and the virtual city plays the outside,
// which no restore turns back.
func skipped(name string) bool {
	top, _, _ := strings.Cut(name, "/")
	return strings.HasPrefix(name, Database) || top == "city"
}

// Write copies the data folder into file, which must not exist, while a server
// may be at work on it. It appears whole or not at all.
func Write(ctx context.Context, data, file, version string) (m Manifest, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("backing %s up: %w", data, err)
		}
	}()
	if _, err := os.Lstat(file); err == nil {
		return m, fmt.Errorf("%s is there already; a backup never replaces another", file)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return m, err
	}
	work, err := os.MkdirTemp(filepath.Dir(file), "."+filepath.Base(file)+"-")
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()

	m = Manifest{Format: format, Version: version}
	copied := filepath.Join(work, Database)
	if m.Copy, err = sqlite.Backup(ctx, filepath.Join(data, Database), copied); err != nil {
		return m, err
	}
	if m.Files, err = gather(data, copied, filepath.Join(work, "files")); err != nil {
		return m, err
	}
	whole := filepath.Join(work, "backup")
	if err := pack(ctx, whole, m); err != nil {
		return m, err
	}
	if err := os.Link(whole, file); err != nil { // unlike a rename it replaces nothing
		return m, err
	}
	return m, syncFolder(filepath.Dir(file))
}

// gather copies the files beside the database, for a server may be writing them.
// They are read after it: a number that it names was given before, so theirs are
// never behind.
func gather(data, database, work string) ([]File, error) {
	files := []File{{Name: Database, from: database}}
	if err := files[0].measure(io.Discard); err != nil {
		return nil, err
	}
	err := filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(data, path)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(rel)
		switch {
		case name == ".":
			return nil
		case skipped(name) && d.IsDir():
			return fs.SkipDir
		case skipped(name), d.IsDir(), !d.Type().IsRegular():
			return nil
		}
		f := File{Name: name, from: path}
		to := filepath.Join(work, rel)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return err
		}
		w, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		err = errors.Join(f.measure(w), w.Close())
		f.from = to
		files = append(files, f)
		return err
	})
	return files, err
}

// measure sets size and digest of a file and copies it.
func (f *File) measure(w io.Writer) error {
	r, err := os.Open(f.from)
	if err != nil {
		return err
	}
	sum := sha256.New()
	f.Size, err = io.Copy(io.MultiWriter(sum, w), r)
	f.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return errors.Join(err, r.Close())
}

func pack(ctx context.Context, to string, m Manifest) (err error) {
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	w := tar.NewWriter(out)
	head, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	put := func(name string, size int64) error {
		return w.WriteHeader(&tar.Header{Name: name, Size: size, Mode: 0o600, ModTime: m.At, Format: tar.FormatPAX})
	}
	if err := put(manifestName, int64(len(head))); err != nil {
		return err
	}
	if _, err := w.Write(head); err != nil {
		return err
	}
	for _, f := range m.Files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := put(f.Name, f.Size); err != nil {
			return err
		}
		if err := f.into(w); err != nil {
			return fmt.Errorf("writing %s: %w", f.Name, err)
		}
	}
	return errors.Join(w.Close(), out.Sync())
}

func (f *File) into(w io.Writer) error {
	r, err := os.Open(f.from)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, r.Close())
}

// Read opens a backup and gives its manifest; what comes from the reader next are
// its files.
func Read(file string) (m Manifest, r *tar.Reader, done func() error, err error) {
	f, err := os.Open(file)
	if err != nil {
		return m, nil, nil, fmt.Errorf("reading the backup: %w", err)
	}
	r = tar.NewReader(f)
	h, err := r.Next()
	if err == nil && h.Name != manifestName {
		err = fmt.Errorf("it begins with %q", h.Name)
	}
	if err == nil {
		err = json.NewDecoder(io.LimitReader(r, 64<<20)).Decode(&m)
	}
	switch {
	case err != nil:
		err = fmt.Errorf("reading the backup %s: it is no backup of dime, or damaged: %w", file, err)
	case m.Format != format:
		err = fmt.Errorf("reading the backup %s: it has format %d and this dime reads %d", file, m.Format, format)
	case m.Schema > sqlite.SchemaVersion:
		err = fmt.Errorf("reading the backup %s: its database has schema %d and this dime knows %d: restore it with the dime that wrote it (%s), or a later one", file, m.Schema, sqlite.SchemaVersion, m.Version)
	}
	if err != nil {
		return m, nil, nil, errors.Join(err, f.Close())
	}
	return m, r, f.Close, nil
}

// Verify reads a backup to its end and compares every file with the manifest.
func Verify(file string) (Manifest, error) { return unpack(file, "") }

// Restore puts a backup into a data folder that is empty or not there, and makes
// the database ready for its next life. check sees the folder before it is in its
// place; it may be nil. A restore that fails leaves nothing.
func Restore(ctx context.Context, file, data string, check func(folder string) error) (m Manifest, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("restoring into %s: %w", data, err)
		}
	}()
	entries, err := os.ReadDir(data)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return m, err
	case len(entries) > 0:
		return m, ErrNotEmpty
	}
	parent := filepath.Dir(filepath.Clean(data))
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return m, err
	}
	work, err := os.MkdirTemp(parent, "."+filepath.Base(data)+"-")
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	if m, err = unpack(file, work); err != nil {
		return m, err
	}
	if err := sqlite.Restored(ctx, filepath.Join(work, Database)); err != nil {
		return m, err
	}
	if check != nil {
		if err := check(work); err != nil {
			return m, err
		}
	}
	// An empty folder gives way to a rename.
	if err := os.Rename(work, data); err != nil {
		return m, err
	}
	return m, syncFolder(parent)
}

// unpack writes below a folder, or with "" nowhere.
func unpack(file, folder string) (Manifest, error) {
	m, r, done, err := Read(file)
	if err != nil {
		return m, err
	}
	err = func() error {
		for _, want := range m.Files {
			h, err := r.Next()
			if err != nil {
				return fmt.Errorf("it ends before %s: %w", want.Name, err)
			}
			if h.Name != want.Name || h.Typeflag != tar.TypeReg || h.Size != want.Size || want.Size > most {
				return fmt.Errorf("%q stands where the manifest names %q", h.Name, want.Name)
			}
			if !fs.ValidPath(want.Name) || want.Name == "." || skipped(want.Name) && want.Name != Database {
				return fmt.Errorf("%q has no place in a data folder", want.Name)
			}
			if err := want.extract(r, folder); err != nil {
				return fmt.Errorf("%s: %w", want.Name, err)
			}
		}
		if _, err := r.Next(); !errors.Is(err, io.EOF) {
			return errors.New("there is more in it than its manifest names")
		}
		if !slices.ContainsFunc(m.Files, func(f File) bool { return f.Name == Database }) {
			return errors.New("it holds no database")
		}
		return nil
	}()
	if err != nil {
		err = fmt.Errorf("the backup %s is damaged: %w", file, err)
	}
	return m, errors.Join(err, done())
}

func (f *File) extract(r io.Reader, folder string) error {
	sum := sha256.New()
	var w io.Writer = sum
	closing := func() error { return nil }
	if folder != "" {
		to := filepath.Join(folder, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return err
		}
		out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		w = io.MultiWriter(sum, out)
		closing = func() error { return errors.Join(out.Sync(), out.Close()) }
	}
	_, err := io.Copy(w, r)
	return errors.Join(err, closing(), f.same(sum))
}

func (f *File) same(sum hash.Hash) error {
	if hex.EncodeToString(sum.Sum(nil)) != f.SHA256 {
		return errors.New("its bytes are not those that were written")
	}
	return nil
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
