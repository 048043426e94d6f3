package members

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/store/sqlite"
)

func names(m *Members) string {
	var out []string
	for _, o := range m.Alive() {
		out = append(out, o.Name)
	}
	return strings.Join(out, " ")
}

func TestMembers(t *testing.T) {
	c := clock.NewVirtual(time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC))
	disk, err := sqlite.Open(context.Background(), sqlite.Options{Path: sqlite.Memory, Clock: c})
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	table := disk.Table(Owner)
	join := func(name, role string) (*Members, func()) {
		t.Helper()
		m, err := Join(context.Background(), table, c, slog.New(slog.DiscardHandler), name, []string{role})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		clock.Enter(c)
		go func() { defer close(ended); defer clock.Leave(c); m.Run(ctx) }()
		return m, func() { cancel(); <-ended }
	}
	pass := func(d time.Duration) { c.Settle(); c.Advance(c.Now().Add(d)); c.Settle() }

	a, leaveA := join("a", "gateway")
	defer leaveA()
	b, leaveB := join("b", "worker")
	if got := names(b); got != "a b" {
		t.Errorf("who comes knows %q", got)
	}
	pass(Every)
	if got := names(a); got != "a b" {
		t.Errorf("after a beat the first knows %q", got)
	}
	leaveB()
	pass(Every)
	if got := names(a); got != "a" {
		t.Errorf("after a goodbye there are %q", got)
	}

	// A process that dies says nothing.
	const dead = "dead"
	if err := table.Update(context.Background(), "dead", func([]byte) ([]byte, error) { return []byte(`{"name":"dead","roles":["worker"],"beat":7}`), nil }); err != nil {
		t.Fatal(err)
	}
	pass(Every)
	if a.With("worker") != 1 || names(a) != "a "+dead {
		t.Errorf("a row that was just seen counts as alive: %q", names(a))
	}
	pass(Lives)
	if names(a) != "a" {
		t.Errorf("after %s without a beat there are %q", Lives, names(a))
	}
	for range int(forgotten/Every) + 2 {
		pass(Every)
	}
	if rows, err := table.List(context.Background(), "", "", 10); err != nil || len(rows) != 1 {
		t.Errorf("%v, %v: the dead one's row stays", rows, err)
	}
	if a.With("gateway") != 1 || a.With("timers") != 1 {
		t.Error("a role counts at least one")
	}
}

// Who can't look at the table for a while does not take the others' shares.
func TestWhoCannotLookForgetsNobody(t *testing.T) {
	c := clock.NewVirtual(time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC))
	disk, err := sqlite.Open(context.Background(), sqlite.Options{Path: sqlite.Memory, Clock: c})
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	table := disk.Table(Owner)
	var ms []*Members
	for _, name := range []string{"a", "b"} {
		m, err := Join(context.Background(), table, c, slog.New(slog.DiscardHandler), name, []string{"worker"})
		if err != nil {
			t.Fatal(err)
		}
		ms = append(ms, m)
	}
	c.Advance(c.Now().Add(3 * Lives))
	if got := names(ms[1]); got != "a b" {
		t.Errorf("without a look since then there are %q", got)
	}
	if err := ms[1].beat(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := names(ms[1]); got != "b" {
		t.Errorf("after a look there are %q", got)
	}
}
