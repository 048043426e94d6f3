// Package members is who else works on the same store: each process renews a row
// of its own, and whose row has not changed for a while is gone. No clock is
// compared with another's.
package members

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/store"
)

// Owner is the table's.
const Owner = "engine.members"

// Times of a membership (semantics 11.4: a lease of 10 s, renewed every 3 s).
const (
	Every = 3 * time.Second
	Lives = 10 * time.Second
	// forgotten is when a dead process's row is deleted.
	forgotten = 10 * time.Minute
)

// Member is a process.
type Member struct {
	Name  string   `json:"name"`
	Roles []string `json:"roles"`
	Beat  int64    `json:"beat"` // grows with each renewal
}

// Members is this process's view. It is safe for concurrent use.
type Members struct {
	table store.Table
	clock clock.Clock
	log   *slog.Logger
	me    Member

	mu   sync.Mutex
	seen map[string]seen
}

type seen struct {
	Member
	changed time.Time // when this process saw the last beat
}

// Join makes this process known and returns once it knows the others. Names are
// unique: a process that starts again takes another one.
func Join(ctx context.Context, t store.Table, c clock.Clock, log *slog.Logger, name string, roles []string) (*Members, error) {
	m := &Members{table: t, clock: c, log: log, me: Member{Name: name, Roles: roles}, seen: map[string]seen{}}
	if err := m.beat(ctx); err != nil {
		return nil, fmt.Errorf("making this process known to the others: %w", err)
	}
	return m, nil
}

// Run renews until ctx ends, and then says goodbye.
func (m *Members) Run(ctx context.Context) {
	for clock.Sleep(ctx, m.clock, Every) == nil {
		if err := m.beat(ctx); err != nil && ctx.Err() == nil {
			m.log.Warn("making this process known to the others", "error", err)
		}
	}
	err := m.table.Update(context.WithoutCancel(ctx), m.me.Name, func([]byte) ([]byte, error) { return nil, nil })
	if err != nil {
		m.log.Debug("saying goodbye to the other processes", "error", err)
	}
}

func (m *Members) beat(ctx context.Context) error {
	m.me.Beat++
	b, err := json.Marshal(m.me)
	if err != nil {
		return err
	}
	if err := m.table.Update(ctx, m.me.Name, func([]byte) ([]byte, error) { return b, nil }); err != nil {
		return err
	}
	rows, err := m.table.List(ctx, "", "", 10_000)
	if err != nil {
		return err
	}
	now, there := m.clock.Now(), map[string]bool{}
	var gone []string
	m.mu.Lock()
	for _, row := range rows {
		var o Member
		if err := json.Unmarshal(row.Value, &o); err != nil {
			continue
		}
		there[row.Key] = true
		s, known := m.seen[row.Key]
		switch {
		case !known || s.Beat != o.Beat:
			m.seen[row.Key] = seen{o, now}
		case now.Sub(s.changed) > forgotten:
			gone = append(gone, row.Key)
		}
	}
	maps.DeleteFunc(m.seen, func(name string, _ seen) bool { return !there[name] })
	m.mu.Unlock()
	for _, name := range gone {
		if err := m.table.Update(ctx, name, func([]byte) ([]byte, error) { return nil, nil }); err != nil {
			return err
		}
	}
	return nil
}

// Alive lists who is there, by name, this process too. While the table can't be
// reached those count who were last seen: nobody knows that they have gone.
func (m *Members) Alive() []Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.clock.Now()
	if me, ok := m.seen[m.me.Name]; ok && now.Sub(me.changed) >= 2*Every {
		now = me.changed
	}
	var out []Member
	for _, s := range m.seen {
		if s.Name == m.me.Name || now.Sub(s.changed) < Lives {
			out = append(out, s.Member)
		}
	}
	slices.SortFunc(out, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// With counts the processes that are there in a role, at least 1.
func (m *Members) With(role string) int {
	n := 0
	for _, o := range m.Alive() {
		if slices.Contains(o.Roles, role) {
			n++
		}
	}
	return max(n, 1)
}
