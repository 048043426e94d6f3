package postgres

import (
	"context"
	"io/fs"
)

// MigrateFiles migrates by other files than this binary's.
func MigrateFiles(ctx context.Context, url string, files fs.FS) error {
	return migrate(ctx, url, nil, files)
}

// SchemaVersion is what this binary needs.
const SchemaVersion = schemaVersion
