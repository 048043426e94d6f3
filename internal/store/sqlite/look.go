package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/rows"
	"github.com/dime-bus/dime/internal/store/seal"
)

// Facts are what a database says of itself without its key.
type Facts struct {
	Schema   int64          `json:"schema"`
	Bytes    int64          `json:"bytes"`
	Log      int64          `json:"log_bytes"` // of the write-ahead log
	Runs     int64          `json:"runs"`
	Live     int64          `json:"live"` // runs that have not ended
	States   map[string]int `json:"states"`
	Late     int64          `json:"late"` // runs that are due since a minute or longer
	LateBy   time.Duration  `json:"late_by_ns"`
	Outbox   int64          `json:"outbox"`       // messages that are not published yet
	Stuck    int64          `json:"outbox_stuck"` // of them, tried three times or more
	Parked   int64          `json:"parked_messages"`
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

// Look reads a database's facts, while another process may be at work on it.
func Look(ctx context.Context, path string) (f Facts, err error) {
	err = looking(ctx, path, func(c *sqlite.Conn) error {
		now := time.Now()
		st, err := os.Stat(path)
		if err != nil {
			return err
		}
		f.Bytes = st.Size()
		if st, err := os.Stat(path + "-wal"); err == nil {
			f.Log = st.Size()
		}
		var late int64
		for sql, into := range map[string]*int64{
			"pragma user_version":                          &f.Schema,
			"select count(*) from run":                     &f.Runs,
			"select count(*) from run where ended is null": &f.Live,
			fmt.Sprintf("select count(*) from run where due is not null and due<%d", rows.MS(now.Add(-slack))): &f.Late,
			"select coalesce(min(due), 0) from run where due is not null":                                      &late,
			"select count(*) from outbox":                     &f.Outbox,
			"select count(*) from outbox where attempts >= 3": &f.Stuck,
			"select count(*) from parked":                     &f.Parked,
		} {
			if *into, err = number(c, sql); err != nil {
				return err
			}
		}
		if f.Late > 0 {
			f.LateBy = now.Sub(rows.FromMS(late))
		}
		f.States = map[string]int{}
		err = query(c, "select state, count(*) from run group by state", func(st *sqlite.Stmt) error {
			f.States[string(rows.StateWord(st.ColumnInt64(0)))] = st.ColumnInt(1)
			return nil
		})
		if err != nil {
			return err
		}
		return query(c, `select r.route, coalesce(v.label, 0), r.version, count(*) from run r left join version v on v.digest=r.version
			where r.ended is null group by r.route, r.version order by 1, 2`, func(st *sqlite.Stmt) error {
			f.Versions = append(f.Versions, Pinned{st.ColumnText(0), st.ColumnInt(1), st.ColumnText(2), st.ColumnInt64(3)})
			return nil
		})
	})
	return f, err
}

// Check is SQLite's own check of the whole file; the error says what is damaged.
func Check(ctx context.Context, path string) error { return looking(ctx, path, integrity) }

// Sources gives the sources of versions, by digest, opened with the master key.
func Sources(ctx context.Context, path string, master []byte, digests ...string) (map[string][]byte, error) {
	out := map[string][]byte{}
	err := looking(ctx, path, func(c *sqlite.Conn) error {
		keys, err := openKeys(c, master)
		if err != nil {
			return err
		}
		for _, d := range digests {
			var sealed []byte
			err := query(c, "select source from version where digest=?", func(st *sqlite.Stmt) error { sealed = columnBytes(st, 0); return nil }, d)
			if err != nil {
				return err
			}
			if sealed == nil {
				continue
			}
			if out[d], err = keys.City().Open(sealed, []byte("version "+d)); err != nil {
				return fmt.Errorf("reading version %s: %w", d, err)
			}
		}
		return nil
	})
	return out, err
}

// openKeys derives the keys of a file from its master key, and says if it is not.
func openKeys(c *sqlite.Conn, master []byte) (*seal.Keys, error) {
	keys, err := seal.New(master)
	if err != nil {
		return nil, err
	}
	if _, err := admit(c, keys); err != nil {
		return nil, err
	}
	return keys, nil
}

func looking(ctx context.Context, path string, f func(*sqlite.Conn) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("looking into %s: %w", path, err)
		}
	}()
	c, err := existing(ctx, path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := checkSchema(c); err != nil {
		return err
	}
	return f(c)
}

var _ store.Operations = (*Store)(nil)
