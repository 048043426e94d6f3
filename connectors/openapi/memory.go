package openapi

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/schema"
)

// memory is an emulator's rows, ledger and seen keys. On disk it is a file to
// which one line is appended for each operation that changed something, written
// in one call so that a killed process leaves whole lines and at most one torn
// one at the end.
type memory struct {
	file    *os.File // nil keeps nothing
	rows    map[string]*collection
	done    map[string]line // operation, NUL, key -> what was answered
	effects []connectors.LedgerRow
	plain   []line // effects without a state file, for found_by
	journal []line // read at opening, until replay
	kept    []line // everything written, where there is no file
}

// line is one line of the file.
type line struct {
	Op      string         `json:"op"`
	Key     string         `json:"key,omitempty"`  // as the ledger shows it
	Idem    string         `json:"idem,omitempty"` // the Idempotency-Key
	Subject string         `json:"subject,omitempty"`
	At      time.Time      `json:"at"`
	Effect  bool           `json:"effect,omitempty"`
	Status  int            `json:"status,omitempty"`
	Answer  any            `json:"answer,omitempty"`
	Args    map[string]any `json:"args,omitempty"`
	Changes []change       `json:"changes,omitempty"`
}

// change is a row as it became; a nil Row was deleted.
type change struct {
	Collection string         `json:"in"`
	ID         string         `json:"id"`
	Row        map[string]any `json:"row"`
	before     map[string]any // for revert
	added      bool
}

// collection is rows by id, in the order in which they came.
type collection struct {
	order []string
	rows  map[string]map[string]any
	count int // rows ever inserted by rules: the next number
}

func (m *memory) collection(name string) *collection {
	c := m.rows[name]
	if c == nil {
		c = &collection{rows: map[string]map[string]any{}}
		m.rows[name] = c
	}
	return c
}

// remove deletes a row.
func (c *collection) remove(id string) {
	delete(c.rows, id)
	if i := slices.Index(c.order, id); i >= 0 {
		c.order = slices.Delete(c.order, i, i+1)
	}
}

// put stores a row, in place of one with its id; it returns what was there.
func (c *collection) put(id string, row map[string]any) (before map[string]any) {
	before, ok := c.rows[id]
	if !ok {
		c.order = append(c.order, id)
	}
	c.rows[id] = row
	return before
}

func openMemory(file string) (*memory, error) {
	m := &memory{rows: map[string]*collection{}, done: map[string]line{}}
	if file == "" {
		return m, nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	m.file = f
	good := int64(0)
	r := bufio.NewReaderSize(f, 64<<10)
	for {
		b, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			if len(b) > 0 { // torn by a kill: it was never answered
				if err := f.Truncate(good); err != nil {
					return nil, errors.Join(err, f.Close())
				}
			}
			return m, nil
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		var l line
		if err := decodeLine(b, &l); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: the line at byte %d is damaged: %w; move the file away to begin anew", file, good, err), f.Close())
		}
		good += int64(len(b))
		m.journal = append(m.journal, l)
	}
}

// decodeLine reads a line with integers as Go ints, as everywhere in the engine.
func decodeLine(b []byte, l *line) error {
	v, err := schema.DecodeJSON(bytes.TrimSpace(b))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, l); err != nil {
		return err
	}
	o, _ := v.(map[string]any)
	l.Answer = o["answer"]
	l.Args, _ = o["args"].(map[string]any)
	cs, _ := o["changes"].([]any)
	for i := range cs {
		if c, ok := cs[i].(map[string]any); ok && i < len(l.Changes) {
			l.Changes[i].Row, _ = c["row"].(map[string]any)
		}
	}
	return nil
}

// replay brings back what the file holds, over the seeded rows.
func (m *memory) replay() {
	for _, l := range m.journal {
		for _, c := range l.Changes {
			col := m.collection(c.Collection)
			if _, there := col.rows[c.ID]; !there && c.Row != nil {
				col.count++
			}
			m.apply(c)
		}
		m.remember(l)
	}
}

func (m *memory) apply(c change) {
	col := m.collection(c.Collection)
	if c.Row == nil {
		col.remove(c.ID)
		return
	}
	col.put(c.ID, c.Row)
}

func (m *memory) remember(l line) {
	if !l.Effect {
		return
	}
	if l.Idem != "" {
		if _, ok := m.done[l.Op+"\x00"+l.Idem]; !ok {
			m.done[l.Op+"\x00"+l.Idem] = l
		}
	}
	if l.Args != nil {
		m.plain = append(m.plain, l)
	}
}

// write appends a line and remembers it.
func (m *memory) write(l line) error {
	if m.file != nil {
		b, err := json.Marshal(l)
		if err != nil {
			return err
		}
		if _, err := m.file.Write(append(b, '\n')); err != nil {
			return err
		}
	}
	if m.file == nil {
		m.kept = append(m.kept, l)
	}
	m.remember(l)
	return nil
}

// revert undoes changes that were not written, latest first.
func (m *memory) revert(cs []change) {
	for i := len(cs) - 1; i >= 0; i-- {
		c := cs[i]
		col := m.collection(c.Collection)
		switch {
		case c.added:
			col.remove(c.ID)
			col.count--
		case c.before != nil:
			col.put(c.ID, c.before)
		}
	}
}

func (m *memory) close() error {
	if m.file == nil {
		return nil
	}
	err := m.file.Close()
	m.file = nil
	return err
}
