package sqlite

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/rows"
)

// PutVersion implements store.Versions. A known digest keeps its first instant.
func (s *Store) PutVersion(ctx context.Context, v store.Version) error {
	if v.Digest == "" || v.Route == "" {
		return fmt.Errorf("storing a version of %q: it needs a digest and a route", v.Route)
	}
	if len(v.Source) > rows.MaxSource {
		return fmt.Errorf("storing version %d of %s: %w", v.Label, v.Route, store.ErrTooLarge)
	}
	source := s.city.Seal(v.Source, []byte("version "+v.Digest))
	err := s.submit(ctx, func(t *tx) error {
		first, last := t.nowMS, t.nowMS
		if !v.First.IsZero() {
			first = rows.MS(v.First)
		}
		if !v.Last.IsZero() {
			last = rows.MS(v.Last)
		}
		return t.exec(`insert into version(digest, route, label, source, first, last) values(?, ?, ?, ?, ?, ?)
			on conflict do update set last=excluded.last`, v.Digest, v.Route, v.Label, source, first, last)
	})
	if err != nil {
		return fmt.Errorf("storing version %d of %s: %w", v.Label, v.Route, err)
	}
	return nil
}

const versionColumns = "select digest, route, label, source, first, last from version "

func (s *Store) versions(ctx context.Context, where string, arg string) ([]store.Version, error) {
	var out []store.Version
	err := s.read(ctx, func(c *sqlite.Conn) error {
		return query(c, versionColumns+where, func(st *sqlite.Stmt) error {
			out = append(out, store.Version{Digest: st.ColumnText(0), Route: st.ColumnText(1), Label: st.ColumnInt(2),
				Source: columnBytes(st, 3), First: rows.FromMS(st.ColumnInt64(4)), Last: rows.FromMS(st.ColumnInt64(5))})
			return nil
		}, arg)
	})
	if err != nil {
		return nil, err
	}
	for i := range out {
		if out[i].Source, err = s.city.Open(out[i].Source, []byte("version "+out[i].Digest)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// GetVersion implements store.Versions; store.ErrNoVersion if there is none.
func (s *Store) GetVersion(ctx context.Context, digest string) (store.Version, error) {
	vs, err := s.versions(ctx, "where digest=?", digest)
	if err == nil && len(vs) == 0 {
		err = store.ErrNoVersion
	}
	if err != nil {
		return store.Version{}, fmt.Errorf("reading version %s: %w", digest, err)
	}
	return vs[0], nil
}

// ListVersions implements store.Versions, oldest first; "" lists all routes'.
func (s *Store) ListVersions(ctx context.Context, route string) ([]store.Version, error) {
	where := "where route=? order by first, label, digest"
	if route == "" {
		where = "where ?='' order by route, first, label, digest"
	}
	vs, err := s.versions(ctx, where, route)
	if err != nil {
		return nil, fmt.Errorf("listing versions of %q: %w", route, err)
	}
	return vs, nil
}

// DropVersions implements store.Versions. What is looked at and what is deleted
// is one commit, so no run can come between.
func (s *Store) DropVersions(ctx context.Context, keep map[string]bool) (n int, err error) {
	err = s.submit(ctx, func(t *tx) error {
		n = 0
		var digests []string
		if err := t.query("select digest from version", func(st *sqlite.Stmt) error { digests = append(digests, st.ColumnText(0)); return nil }); err != nil {
			return err
		}
		var free []string
		for _, d := range digests {
			if !keep[d] {
				free = append(free, d)
			}
		}
		if len(free) == 0 {
			return nil
		}
		used := make(map[string]bool)
		if err := t.query("select distinct version from run", func(st *sqlite.Stmt) error { used[st.ColumnText(0)] = true; return nil }); err != nil {
			return err
		}
		for _, d := range free {
			if used[d] {
				continue
			}
			if err := t.exec("delete from version where digest=?", d); err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("dropping versions: %w", err)
	}
	return n, nil
}

// PutBlob implements store.Blobs: "sha256:" and 64 hex digits. Equal bytes are
// stored once. A blob that no run has named in its records goes with retention.
func (s *Store) PutBlob(ctx context.Context, b []byte) (string, error) {
	if len(b) > rows.MaxSource {
		return "", fmt.Errorf("storing a blob of %d bytes: %w: at most %d fit", len(b), store.ErrTooLarge, rows.MaxSource)
	}
	sum := sha256.Sum256(b)
	digest := rows.BlobPrefix + hex.EncodeToString(sum[:])
	sealed := s.city.Seal(b, []byte(digest))
	err := s.submit(ctx, func(t *tx) error {
		return t.exec("insert into blob(digest, size, at, bytes) values(?, ?, ?, ?) on conflict do update set at=excluded.at", digest, len(b), t.nowMS, sealed)
	})
	if err != nil {
		return "", fmt.Errorf("storing a blob of %d bytes: %w", len(b), err)
	}
	return digest, nil
}

// GetBlob implements store.Blobs; store.ErrNoBlob if there is none.
func (s *Store) GetBlob(ctx context.Context, digest string) ([]byte, error) {
	var sealed []byte
	err := store.ErrNoBlob
	if strings.HasPrefix(digest, rows.BlobPrefix) {
		err = s.read(ctx, func(c *sqlite.Conn) error {
			return query(c, "select bytes from blob where digest=?", func(st *sqlite.Stmt) error { sealed = columnBytes(st, 0); return nil }, digest)
		})
		if err == nil && sealed == nil {
			err = store.ErrNoBlob
		}
	}
	var b []byte
	if err == nil {
		b, err = s.city.Open(sealed, []byte(digest))
	}
	if err != nil {
		return nil, fmt.Errorf("reading blob %.80q: %w", digest, err)
	}
	return b, nil
}
