package sqlite

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/dime-bus/dime/internal/store"
)

// runStmt does a cached statement to its end, handing each row to row. Arguments
// are int64, int, string, []byte, [16]byte, bool or nil.
func runStmt(st *sqlite.Stmt, row func(*sqlite.Stmt) error, args ...any) error {
	for i, a := range args {
		switch a := a.(type) {
		case nil:
			st.BindNull(i + 1)
		case int64:
			st.BindInt64(i+1, a)
		case int:
			st.BindInt64(i+1, int64(a))
		case store.RunID:
			st.BindInt64(i+1, int64(a))
		case string:
			st.BindText(i+1, a)
		case []byte:
			if a == nil {
				st.BindNull(i + 1)
			} else {
				st.BindBytes(i+1, a)
			}
		case [16]byte:
			st.BindBytes(i+1, a[:])
		default:
			return fmt.Errorf("binding argument %d: no way to store a %T", i+1, a)
		}
	}
	for {
		more, err := st.Step()
		if err != nil {
			return err
		}
		if !more {
			return st.Reset() // and with it a reader's transaction ends
		}
		if row == nil {
			continue
		}
		if err := row(st); err != nil {
			_ = st.Reset()
			return err
		}
	}
}

// query prepares (or finds prepared) and runs.
func query(c *sqlite.Conn, sql string, row func(*sqlite.Stmt) error, args ...any) error {
	st, err := c.Prepare(sql)
	if err != nil {
		return err
	}
	return runStmt(st, row, args...)
}

func columnBytes(st *sqlite.Stmt, i int) []byte {
	b := make([]byte, st.ColumnLen(i))
	st.ColumnBytes(i, b)
	return b
}

func splitPragmas(s string) (out []string) {
	for _, p := range strings.Split(s, ";") {
		if p = strings.TrimSpace(p); p != "" {
			out = append(out, p)
		}
	}
	return out
}

// failure maps SQLite's errors to the contract's.
func failure(err error) error {
	switch {
	case err == nil:
		return nil
	case sqlite.ErrCode(err).ToPrimary() == sqlite.ResultFull,
		sqlite.ErrCode(err) == sqlite.ResultIOErrWrite:
		return fmt.Errorf("%w: %w", store.ErrFull, err)
	}
	return err
}

// read runs f on a connection that sees the last commit.
func (s *Store) read(ctx context.Context, f func(*sqlite.Conn) error) error {
	if s.o.Path == Memory {
		s.connMu.Lock()
		defer s.connMu.Unlock()
		if s.closed.Load() {
			return store.ErrClosed
		}
		return f(s.conn)
	}
	s.sendMu.RLock()
	defer s.sendMu.RUnlock()
	if s.closed.Load() {
		return store.ErrClosed
	}
	c, err := s.reader(ctx)
	if err != nil {
		return err
	}
	defer func() { c.SetInterrupt(nil); s.readers <- c }()
	c.SetInterrupt(ctx.Done())
	err = f(c)
	if err != nil && ctx.Err() != nil && errors.Is(err, sqlite.ResultInterrupt.ToError()) {
		return ctx.Err()
	}
	return failure(err)
}

func (s *Store) reader(ctx context.Context) (*sqlite.Conn, error) {
	select {
	case c := <-s.readers:
		return c, nil
	default:
	}
	if n := s.opened.Add(1); int(n) <= s.o.Readers {
		c, err := openConn(s.o, false)
		if err != nil {
			s.opened.Add(-1)
			return nil, fmt.Errorf("opening a reader: %w", err)
		}
		return c, nil
	}
	s.opened.Add(-1)
	select {
	case c := <-s.readers:
		return c, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
