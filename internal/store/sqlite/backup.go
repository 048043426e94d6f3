package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// ErrMasterKey says that a file was made with another master key.
var ErrMasterKey = errors.New("the master key is not the one that this store was made with, or was rotated to; set master_key to that one")

// checkSchema refuses a file that a later dime has written.
func checkSchema(c *sqlite.Conn) error {
	v, err := number(c, "pragma user_version")
	if err == nil && v > SchemaVersion {
		err = fmt.Errorf("it has schema %d and this dime knows %d: run the dime that wrote it, or a later one", v, SchemaVersion)
	}
	return err
}

// abandon closes a store whose opening failed behind its writer's start, without
// its connection and lock: those are Open's.
func (s *Store) abandon() error {
	s.closed.Store(true)
	s.sendMu.Lock()
	close(s.quit)
	s.sendMu.Unlock()
	<-s.ended
	s.wake.Close()
	s.closeQueues()
	var errs []error
	for n := s.opened.Load(); n > 0; n-- {
		errs = append(errs, (<-s.readers).Close())
	}
	return errors.Join(errs...)
}

// Copy is what Backup wrote.
type Copy struct {
	At     time.Time `json:"at"` // every commit before it is in the copy
	Schema int64     `json:"schema"`
	Runs   int64     `json:"runs"`
	Live   int64     `json:"live"` // runs that had not ended
	Bytes  int64     `json:"bytes"`
}

// pagesAtOnce bounds how long a copy works before it looks whether it may go on.
const pagesAtOnce = 4096

// Backup copies the database at path into a new file, while another process may
// be writing it: SQLite's online backup within one read transaction, which sees
// one state and holds no writer up. The copy is checked whole.
func Backup(ctx context.Context, path, to string) (c Copy, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("copying %s: %w", path, err)
		}
	}()
	src, err := existing(ctx, path)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	if err := checkSchema(src); err != nil {
		return c, err
	}
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return c, err
	}
	if err := f.Close(); err != nil {
		return c, err
	}
	dst, err := sqlite.OpenConn(to, sqlite.OpenReadWrite)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	c.At = time.Now().UTC()
	if err := copyPages(ctx, dst, src); err != nil {
		return c, err
	}
	dst.SetInterrupt(ctx.Done())
	// One file, with no log beside it.
	for _, p := range []string{"pragma journal_mode=delete", "pragma synchronous=full"} {
		if err := sqlitex.ExecuteTransient(dst, p, nil); err != nil {
			return c, fmt.Errorf("setting %q: %w", p, err)
		}
	}
	if err := integrity(dst); err != nil {
		return c, err
	}
	for sql, into := range map[string]*int64{
		"pragma user_version": &c.Schema, "select count(*) from run": &c.Runs, "select count(*) from run where ended is null": &c.Live,
	} {
		if *into, err = number(dst, sql); err != nil {
			return c, err
		}
	}
	st, err := os.Stat(to)
	if err == nil {
		c.Bytes = st.Size()
	}
	return c, err
}

func copyPages(ctx context.Context, dst, src *sqlite.Conn) (err error) {
	// Between two steps the backup alone would let its snapshot go, and begin again
	// after every commit of the other process.
	if err := sqlitex.ExecuteTransient(src, "begin", nil); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sqlitex.ExecuteTransient(src, "rollback", nil)) }()
	if _, err := number(src, "select count(*) from meta"); err != nil { // the snapshot is taken here
		return err
	}
	b, err := sqlite.NewBackup(dst, "main", src, "main")
	if err != nil {
		return err
	}
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return errors.Join(err, b.Close())
		}
		if more, err = b.Step(pagesAtOnce); err != nil {
			return errors.Join(err, b.Close())
		}
	}
	return b.Close()
}

// existing opens a database that is there, with patience for a writer's locks.
func existing(ctx context.Context, path string) (*sqlite.Conn, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	c, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		return nil, err
	}
	c.SetInterrupt(ctx.Done())
	c.SetBlockOnBusy()
	if err := sqlitex.ExecuteTransient(c, "pragma temp_store=memory", nil); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func number(c *sqlite.Conn, sql string, args ...any) (n int64, err error) {
	err = query(c, sql, func(st *sqlite.Stmt) error { n = st.ColumnInt64(0); return nil }, args...)
	return n, err
}

// integrity is SQLite's own check of every page, index and row.
func integrity(c *sqlite.Conn) error {
	var said []string
	err := query(c, "pragma integrity_check(10)", func(st *sqlite.Stmt) error { said = append(said, st.ColumnText(0)); return nil })
	if err != nil {
		return fmt.Errorf("checking its integrity: %w", err)
	}
	if len(said) != 1 || said[0] != "ok" {
		return fmt.Errorf("checking its integrity: it is damaged: %s", strings.Join(said, "; "))
	}
	return nil
}

// beyond is how far the numbers of a restored memory jump. A run that was accepted
// after the backup had a number, and with it keys of its effects, that a far side
// has seen: no later run may have the same (semantics 7). Room is for 8,000 jumps.
const beyond = 1 << 30

// Restored makes a copy ready for its next life, before any store opens it: it is
// checked, and its numbers jump beyond all that the lost life can have given.
func Restored(ctx context.Context, path string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("restoring %s: %w", path, err)
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
	if err := integrity(c); err != nil {
		return err
	}
	end, err := sqlitex.ImmediateTransaction(c)
	if err != nil {
		return err
	}
	defer end(&err)
	for name, sql := range map[string]string{
		"runs": "select max(coalesce((select value from meta where name='runs'), 0), coalesce((select max(id) from run), 0))",
		"seq":  "select max(coalesce((select value from meta where name='seq'), 0), coalesce((select max(seq) from msg), 0))",
	} {
		n, err := number(c, sql)
		if err != nil {
			return err
		}
		if err := query(c, "insert into meta(name, value) values(?, ?) on conflict do update set value=excluded.value", nil, name, n+beyond); err != nil {
			return err
		}
	}
	// Queues that had seen all messages stay so; what was in somebody's hands comes again.
	return query(c, "insert into meta(name, value) values('closed', 1) on conflict do update set value=excluded.value", nil)
}
