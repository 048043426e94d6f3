//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/postgres"
	"github.com/dime-bus/dime/test/cluster"
)

// patterns is how many runs are made by the store itself; the others are copies of
// them under other numbers, which take the same room in every table and index.
const patterns = 2000

func openPostgres(url string) (*postgres.Store, error) {
	return postgres.Open(context.Background(), postgres.Options{
		URL: url, MasterKey: []byte("a key for measuring only, 32 byte"), Worker: "bench", Migrate: true, Log: slog.New(slog.DiscardHandler),
	})
}

// multiply makes n runs of those that are there, and moves the numbers that runs
// get behind them.
func multiply(ctx context.Context, url string, n int) (err error) {
	c, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close(ctx)) }()
	var first, last int64
	if err := c.QueryRow(ctx, "select min(id), max(id) from dime.run").Scan(&first, &last); err != nil {
		return err
	}
	span := last - first + 1
	copies := n/patterns - 1
	for from := 1; from <= copies; from += 100 {
		to := min(from+99, copies)
		for _, sql := range []string{
			`insert into dime.run(id, version, route, state, reason, prio, epoch, owner, lease_until, due, ord, place, subject, sealed_key, started, ended)
				select t.id + g * $1::bigint, version, route, state, reason, prio, epoch, owner, lease_until, due, ord, place, subject, sealed_key, started, ended
				from generate_series($2::bigint, $3::bigint) g, dime.run t where t.id <= $4`,
			`insert into dime.entry(id, names, body) select t.id + ((g * $1::bigint) << 20), names, body
				from generate_series($2::bigint, $3::bigint) g, dime.entry t where t.id < ($4::bigint + 1) << 20`,
			`insert into dime.once(k, run, body_hash, until) select gen_random_uuid(), t.run + g * $1::bigint, body_hash, until
				from generate_series($2::bigint, $3::bigint) g, dime.once t where t.run <= $4`,
		} {
			if _, err := c.Exec(ctx, sql, span, from, to, last); err != nil {
				return err
			}
		}
	}
	for _, sql := range []string{fmt.Sprintf("update dime.counter set value = %d where name = 'runs'", last+span*int64(copies+1)+1), "vacuum analyze", "checkpoint"} {
		if _, err := c.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// benchPostgresJournal is benchJournal over PostgreSQL: two databases of one server.
func benchPostgresJournal(e *env) (_ []Row, err error) {
	ctx := context.Background()
	pg, stop, err := startPostgres()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	var stores [2]*postgres.Store
	var xs [2]ids
	for i, rows := range []int{10, e.rows} {
		url, _, err := cluster.NewDatabase(ctx, pg.URL("postgres"), "template0") // goes with the server
		if err != nil {
			return nil, err
		}
		s, err := openPostgres(url)
		if err != nil {
			return nil, err
		}
		if err := fill(s, &xs[i], min(rows, patterns)); err != nil {
			return nil, errors.Join(err, s.Close())
		}
		if rows > patterns {
			// The one that filled it has numbers in hand that are now taken.
			if err := errors.Join(s.Close(), multiply(ctx, url, rows)); err != nil {
				return nil, err
			}
			xs[i] = ids{}
			if s, err = openPostgres(url); err != nil {
				return nil, err
			}
		}
		stores[i] = s
		defer func() { _ = s.Close() }()
	}
	return grown(e, "journal_postgres", store.Store(stores[0]), stores[1], &xs[0], &xs[1])
}
