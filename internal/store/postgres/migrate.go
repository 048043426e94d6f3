package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// schemaVersion is the newest migration that this binary needs; a newer schema is
// fine, for migrations only add, until meta.needs says otherwise.
const schemaVersion = 6

const versionTable = "schema_version"

// Migrate brings the schema dime up to date. url names a role that owns the schema
// or may create it. Processes that migrate at once wait for each other.
func Migrate(ctx context.Context, url string, password func(context.Context) (string, error)) error {
	sub, err := fs.Sub(migrations, "migrations")
	if err == nil {
		err = migrate(ctx, url, password, sub)
	}
	if err != nil {
		return fmt.Errorf("migrating the store: %w", err)
	}
	return nil
}

func migrate(ctx context.Context, url string, password func(context.Context) (string, error), files fs.FS) (err error) {
	c, err := parse(url, password)
	if err != nil {
		return err
	}
	delete(c.ConnConfig.RuntimeParams, "statement_timeout") // an index over a large table takes its time
	pool, err := pgxpool.NewWithConfig(ctx, c)
	if err != nil {
		return err
	}
	defer pool.Close()
	db := stdlib.OpenDBFromPool(pool)
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := makeSchema(ctx, db); err != nil {
		return err
	}
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return err
	}
	table, err := database.NewStore(database.DialectPostgres, versionTable)
	if err != nil {
		return err
	}
	p, err := goose.NewProvider("", db, files, goose.WithStore(table), goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	if _, err := p.Up(ctx); err != nil {
		return failure(err)
	}
	return nil
}

// makeSchema looks first: who may not create a schema may still own this one.
func makeSchema(ctx context.Context, db *sql.DB) error {
	var made error
	for range 2 { // another process may be making it at this very moment
		var there bool
		if err := db.QueryRowContext(ctx, "select exists (select 1 from pg_namespace where nspname = 'dime')").Scan(&there); err != nil {
			return failure(err)
		}
		if there {
			return nil
		}
		if _, made = db.ExecContext(ctx, "create schema dime"); made == nil {
			return nil
		}
	}
	return failure(made)
}

// checkSchema says what to do about a schema that this binary can't work on.
func checkSchema(ctx context.Context, pool *pgxpool.Pool) error {
	var there bool
	if err := pool.QueryRow(ctx, "select to_regclass('dime.meta') is not null").Scan(&there); err != nil {
		return failure(err)
	}
	if !there {
		return errors.New("the database has no schema dime, or this role may not see it: run dime migrate as the schema's owner")
	}
	var have int64
	var needs *int64
	err := pool.QueryRow(ctx, "select (select coalesce(max(version_id), 0) from "+versionTable+" where is_applied), (select number from meta where name = 'needs')").Scan(&have, &needs)
	switch {
	case err != nil:
		return failure(err)
	case have < schemaVersion:
		return fmt.Errorf("the schema is at version %d and this binary needs %d: run dime migrate", have, schemaVersion)
	case needs != nil && *needs > schemaVersion:
		return fmt.Errorf("the schema needs a binary that knows version %d, and this one knows %d: install the newer release", *needs, schemaVersion)
	}
	return nil
}
