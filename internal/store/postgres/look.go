package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dime-bus/dime/internal/store/rows"
	"github.com/dime-bus/dime/internal/store/seal"
)

// Facts are what a database says of itself without its key.
type Facts struct {
	Server   string         `json:"server"` // PostgreSQL's version
	Schema   int64          `json:"schema"`
	Durable  bool           `json:"durable"` // synchronous_commit and fsync are on
	Denied   int64          `json:"denied"`  // tables that this role may not read and write
	Bytes    int64          `json:"bytes"`
	Live     int64          `json:"live"` // runs that have not ended
	States   map[string]int `json:"states"`
	Late     int64          `json:"late"` // runs that are due since a minute or longer
	LateBy   time.Duration  `json:"late_by_ns"`
	Outbox   int64          `json:"outbox"`
	Stuck    int64          `json:"outbox_stuck"`
	Parked   int64          `json:"parked_messages"`
	Workers  int64          `json:"workers"`  // processes that say that they live
	Ahead    time.Duration  `json:"ahead_ns"` // of this machine's clock before the database's
	Versions []Pinned       `json:"versions"`
}

// Pinned is a version that live runs need.
type Pinned struct {
	Route  string `json:"route"`
	Label  int    `json:"version"`
	Digest string `json:"digest"`
	Runs   int64  `json:"runs"`
}

// slack is how late a run may be before anybody calls it late.
const slack = time.Minute

// Look reads a database's facts beside the processes that are at work, over a
// connection of its own, and changes nothing.
func Look(ctx context.Context, url string, password func(context.Context) (string, error)) (f Facts, err error) {
	err = looking(ctx, url, password, func(p *pgxpool.Pool) error {
		before := time.Now()
		var now int64
		var late *int64
		if err := p.QueryRow(ctx, `select current_setting('server_version'), (select coalesce(max(version_id), 0) from `+versionTable+` where is_applied),
			current_setting('synchronous_commit') <> 'off' and current_setting('fsync') = 'on',
			(select count(*) from pg_class c where c.relnamespace = 'dime'::regnamespace and c.relkind = 'r' and c.relname <> $2::text and not (has_table_privilege(c.oid, 'select')
				and has_table_privilege(c.oid, 'insert') and has_table_privilege(c.oid, 'update') and has_table_privilege(c.oid, 'delete'))),
			pg_database_size(current_database()), (extract(epoch from clock_timestamp()) * 1000)::bigint,
			(select count(*) from run where due < (extract(epoch from clock_timestamp()) * 1000)::bigint - $1), (select min(due) from run where due is not null),
			(select count(*) from outbox), (select count(*) from outbox where attempts >= 3), (select count(*) from parked),
			(select count(*) from worker where until > (extract(epoch from clock_timestamp()) * 1000)::bigint)`, slack.Milliseconds(), versionTable).
			Scan(&f.Server, &f.Schema, &f.Durable, &f.Denied, &f.Bytes, &now, &f.Late, &late, &f.Outbox, &f.Stuck, &f.Parked, &f.Workers); err != nil {
			return failure(err)
		}
		f.Ahead = before.Add(time.Since(before) / 2).Sub(time.UnixMilli(now))
		if f.Late > 0 && late != nil {
			f.LateBy = time.UnixMilli(now).Sub(time.UnixMilli(*late))
		}
		f.States = map[string]int{}
		rs, err := p.Query(ctx, "select state, count(*) from run group by state")
		if err != nil {
			return failure(err)
		}
		err = each(rs, func(rs pgx.Rows) error {
			var state int64
			var n int
			err := rs.Scan(&state, &n)
			f.States[string(rows.StateWord(state))] = n
			return err
		})
		if err != nil {
			return failure(err)
		}
		rs, err = p.Query(ctx, `select r.route, coalesce(v.label, 0), r.version, count(*) from run r left join version v on v.digest = r.version
			where r.ended is null group by 1, 2, 3 order by 1, 2`)
		if err != nil {
			return failure(err)
		}
		return failure(each(rs, func(rs pgx.Rows) error {
			var v Pinned
			err := rs.Scan(&v.Route, &v.Label, &v.Digest, &v.Runs)
			f.Versions, f.Live = append(f.Versions, v), f.Live+v.Runs
			return err
		}))
	})
	return f, err
}

// Sources gives the sources of versions, by digest, opened with the master key.
func Sources(ctx context.Context, url string, password func(context.Context) (string, error), master []byte, digests ...string) (map[string][]byte, error) {
	out := map[string][]byte{}
	err := looking(ctx, url, password, func(p *pgxpool.Pool) error {
		keys, err := seal.New(master)
		if err != nil {
			return err
		}
		var ring, check []byte
		if err := p.QueryRow(ctx, "select (select value from meta where name = 'ring'), (select value from meta where name = 'check')").Scan(&ring, &check); err != nil {
			return failure(err)
		}
		if _, err := rows.Admit(keys, ring, check); errors.Is(err, seal.ErrMaster) {
			return errMaster
		} else if err != nil {
			return err
		}
		rs, err := p.Query(ctx, "select digest, source from version where digest = any($1)", digests)
		if err != nil {
			return failure(err)
		}
		return failure(each(rs, func(rs pgx.Rows) error {
			var digest string
			var sealed []byte
			err := rs.Scan(&digest, &sealed)
			if err == nil {
				out[digest], err = keys.City().Open(sealed, []byte("version "+digest))
			}
			return err
		}))
	})
	return out, err
}

func looking(ctx context.Context, url string, password func(context.Context) (string, error), f func(*pgxpool.Pool) error) error {
	c, err := parse(url, password)
	if err != nil {
		return fmt.Errorf("looking into the store: %w", err)
	}
	c.MaxConns = 1
	p, err := pgxpool.NewWithConfig(ctx, c)
	if err != nil {
		return fmt.Errorf("looking into the store: %w", err)
	}
	defer p.Close()
	err = checkSchema(ctx, p)
	if err == nil {
		err = f(p)
	}
	if err != nil {
		return fmt.Errorf("looking into the store: %w", err)
	}
	return nil
}
