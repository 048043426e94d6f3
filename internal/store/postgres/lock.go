package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// lockConnections bounds how many locks a process holds or waits for. They are apart
// from the others, for what is done under a lock needs the store itself.
const lockConnections = 32

// lockIdle is when the server ends the session of a holder that stands still: longer
// than what is done under a lock takes.
const lockIdle = "2min"

// Lock waits until this process alone holds a name, among all that share the
// database. A broken connection frees it: what is done under it must bear that
// another process begins meanwhile.
func (s *Store) Lock(ctx context.Context, name string) (unlock func(), err error) {
	if err := s.alive(ctx); err != nil {
		return nil, err
	}
	conn, err := s.locks.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("taking the lock %s: %w", name, s.over(err))
	}
	key := s.keys.Number("lock", name)
	for {
		_, err := conn.Exec(ctx, "select pg_advisory_lock($1)", key)
		var refused *pgconn.PgError
		if errors.As(err, &refused) && refused.Code == stateLockTimeout && ctx.Err() == nil && !s.closed.Load() {
			continue // the holder takes its time
		}
		if err != nil {
			drop(conn.Conn()) // it may hold the lock
			conn.Release()
			return nil, fmt.Errorf("taking the lock %s: %w", name, s.over(err))
		}
		return func() {
			if _, err := conn.Exec(context.WithoutCancel(ctx), "select pg_advisory_unlock($1)", key); err != nil {
				drop(conn.Conn())
			}
			conn.Release()
		}, nil
	}
}

// drop closes a connection, and with it frees what it holds.
func drop(c *pgx.Conn) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // without waiting for the far side
	_ = c.Close(ctx)
}
