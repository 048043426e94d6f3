package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dime-bus/dime/internal/store"
)

// settings of every session. A process that is frozen in a transaction holds its
// locks; the server ends such a session, so that the others go on.
func settings() map[string]string {
	return map[string]string{
		"search_path": "dime", "application_name": "dime", "jit": "off",
		"statement_timeout": "30s", "lock_timeout": "5s", "idle_in_transaction_session_timeout": "5s",
		"client_connection_check_interval": "2s", "default_transaction_isolation": "read committed",
	}
}

func parse(raw string, password func(context.Context) (string, error)) (*pgxpool.Config, error) {
	c, err := pgxpool.ParseConfig(raw)
	if err != nil {
		return nil, errors.New("its URL can't be read; the form is postgres://user@host:5432/database?sslmode=verify-full")
	}
	for k, v := range settings() {
		if _, ok := c.ConnConfig.RuntimeParams[k]; !ok || k == "search_path" {
			c.ConnConfig.RuntimeParams[k] = v
		}
	}
	if c.ConnConfig.ConnectTimeout == 0 {
		c.ConnConfig.ConnectTimeout = 5 * time.Second
	}
	if password != nil {
		c.BeforeConnect = func(ctx context.Context, c *pgx.ConnConfig) (err error) {
			c.Password, err = password(ctx)
			return err
		}
	}
	return c, nil
}

func (s *Store) connectPool(ctx context.Context, size int, more map[string]string) (*pgxpool.Pool, error) {
	c, err := parse(s.o.URL, s.o.Password)
	if err != nil {
		return nil, err
	}
	maps.Copy(c.ConnConfig.RuntimeParams, more)
	c.MaxConns = int32(size) //nolint:gosec // a few dozen
	p, err := pgxpool.NewWithConfig(ctx, c)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// connect makes a connection outside the pool, for who keeps it.
func (s *Store) connect(ctx context.Context) (*pgx.Conn, error) {
	c, err := parse(s.o.URL, s.o.Password)
	if err != nil {
		return nil, err
	}
	if c.BeforeConnect != nil {
		if err := c.BeforeConnect(ctx, c.ConnConfig); err != nil {
			return nil, err
		}
	}
	return pgx.ConnectConfig(ctx, c.ConnConfig)
}

// SQLSTATEs (PostgreSQL 15, appendix A).
const (
	stateDiskFull     = "53100"
	stateOutOfMemory  = "53200" // of shared memory too: the lock table
	stateDeadlock     = "40P01"
	stateSerial       = "40001"
	stateLockTimeout  = "55P03"
	classConnection   = "08"
	classIntervention = "57"
)

// failure maps the database's errors to the contract's. What is shown of them is
// the message and the state, never the detail: it may show values.
func failure(err error) error {
	var p *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &p):
		shown := fmt.Errorf("the database says %q (%s)", p.Message, p.Code)
		switch p.Code {
		case stateDiskFull:
			return fmt.Errorf("%w: %w", store.ErrFull, shown)
		case stateOutOfMemory:
			return fmt.Errorf("%w: raise max_locks_per_transaction", shown)
		}
		return shown
	}
	return err
}

// definite says that the statement failed and the session lives on: the
// transaction was not committed.
func definite(err error) bool {
	var p *pgconn.PgError
	return errors.As(err, &p) && p.Severity == "ERROR" && p.Code[:2] != classConnection && p.Code[:2] != classIntervention
}

// passing says that the same again may succeed.
func passing(err error) bool {
	var p *pgconn.PgError
	if !errors.As(err, &p) {
		return !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
	}
	switch p.Code {
	case stateDeadlock, stateSerial, stateLockTimeout:
		return true
	}
	return p.Code[:2] == classConnection || p.Code[:2] == classIntervention && p.Code != "57014" // a statement's time-out
}

// pause is how long to wait before trying again, jittered.
func pause(try int) time.Duration {
	d := min(10*time.Millisecond<<min(try, 6), 500*time.Millisecond)
	return d/2 + rand.N(d)
}

// single does f, which is one transaction that may be repeated, again while the
// database is away or in a deadlock.
func (s *Store) single(ctx context.Context, f func(context.Context) error) error {
	if err := s.alive(ctx); err != nil {
		return err
	}
	until := time.Now().Add(s.o.Patience)
	for try := 0; ; try++ {
		err := f(ctx)
		if err == nil || !passing(err) || time.Now().After(until) {
			return s.over(err)
		}
		if errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.quit:
			return store.ErrClosed
		case <-time.After(pause(try)):
		}
	}
}

// over is failure, and says that the store was closed where that is why.
func (s *Store) over(err error) error {
	if err != nil && s.closed.Load() {
		return store.ErrClosed
	}
	return failure(err)
}

// query does a statement and hands each row to row: once, so that what broke off
// between two rows is an error and not begun anew.
func (s *Store) query(ctx context.Context, row func(pgx.Rows) error, sql string, args ...any) error {
	var broken error
	err := s.single(ctx, func(ctx context.Context) error {
		rs, err := s.pool.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		handed := false
		err = each(rs, func(rs pgx.Rows) error {
			handed = true
			if row == nil {
				return nil
			}
			return row(rs)
		})
		if handed {
			broken = err
			return nil
		}
		return err
	})
	if broken != nil {
		return s.over(broken)
	}
	return err
}

// each hands on all rows and closes them.
func each(rs pgx.Rows, row func(pgx.Rows) error) error {
	defer rs.Close()
	for rs.Next() {
		if err := row(rs); err != nil {
			return err
		}
	}
	return rs.Err()
}

func token(b [16]byte) pgtype.UUID { return pgtype.UUID{Bytes: b, Valid: true} }

func tokens(bs [][16]byte) []pgtype.UUID {
	out := make([]pgtype.UUID, len(bs))
	for i, b := range bs {
		out[i] = token(b)
	}
	return out
}
