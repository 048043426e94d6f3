package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/storetest"
	"github.com/dime-bus/dime/test/cluster"
)

// cutter is a way to the database that breaks in the commit.
type cutter struct {
	to    atomic.Pointer[string]
	plan  atomic.Int32 // what happens to the next commits: pass, cutAfter or cutBefore
	times atomic.Int32 // how often
	cuts  atomic.Int32
}

const (
	pass      = iota
	cutAfter  // the commit arrives, its answer does not
	cutBefore // the commit never arrives
)

// through gives the URL of u's server behind a cutter.
func through(t *testing.T, u string) (string, *cutter) {
	t.Helper()
	at, err := url.Parse(u)
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{}
	host := at.Host
	c.to.Store(&host)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go c.serve(in)
		}
	}()
	at.Host = l.Addr().String()
	return at.String(), c
}

func (c *cutter) serve(in net.Conn) {
	defer in.Close()
	out, err := net.Dial("tcp", *c.to.Load())
	if err != nil {
		return
	}
	defer out.Close()
	var deaf atomic.Bool // the answer gets lost
	go func() {
		b := make([]byte, 64<<10)
		for {
			n, err := out.Read(b)
			if err != nil || deaf.Load() {
				in.Close()
				return
			}
			if _, err := in.Write(b[:n]); err != nil {
				return
			}
		}
	}()
	b := make([]byte, 64<<10)
	for {
		n, err := in.Read(b)
		if err != nil {
			return
		}
		if bytes.Contains(b[:n], []byte("Q\x00\x00\x00\x0bcommit\x00")) && c.plan.Load() != pass && c.times.Add(-1) >= 0 {
			c.cuts.Add(1)
			if c.plan.Load() == cutBefore {
				return
			}
			deaf.Store(true)
		}
		if _, err := out.Write(b[:n]); err != nil {
			return
		}
	}
}

// A commit whose connection broke took place once, whether it had arrived or not.
func TestACommitThatIsCutOffIsLookedUp(t *testing.T) {
	real := cluster.Postgres(t)
	u, c := through(t, real)
	o := options(u, nil)
	o.Writers, o.Patience = 1, 20*time.Second
	s := open(t, o)
	beside := open(t, options(real, nil))
	ctx := context.Background()
	for _, plan := range []int32{cutAfter, cutBefore} {
		for times := int32(1); times <= 2; times++ {
			t.Run(fmt.Sprint(map[int32]string{cutAfter: "after", cutBefore: "before"}[plan], times), func(t *testing.T) {
				first, want := true, times
				if plan == cutAfter {
					want = 1 // it took place, so there is no other
				}
				cut := func() {
					if c.cuts.Load() != want && !first {
						t.Fatalf("%d commits were cut off, want %d", c.cuts.Load(), want)
					}
					first = false
					c.cuts.Store(0)
					c.times.Store(times)
					c.plan.Store(plan)
				}
				id, err := s.Reserve(ctx, 1)
				if err != nil {
					t.Fatal(err)
				}
				key := fmt.Sprint(plan, times)
				cut()
				r, l, err := s.Accept(ctx, store.Run{ID: id, Version: "v", Route: "r", State: store.Running, Priority: 1,
					Once: &store.Once{Scope: "s", Key: key, Until: time.Now().Add(time.Hour)}}, store.Record{Kind: store.Intent, Path: "a", Body: []byte("1")})
				if err != nil {
					t.Fatal(err)
				}
				cut()
				if err := s.Append(ctx, l, store.Running, "", time.Time{}, store.Record{Kind: store.OutcomeRec, Path: "a", Body: []byte("2"),
					Outbox: []store.Outbox{{ID: key, Topic: "t", Body: []byte("1")}}}); err != nil {
					t.Fatal(err)
				}
				cut()
				if n, err := s.Deliver(ctx, store.Event{ID: key, Type: "t"}); err != nil || n != 0 {
					t.Fatal(n, err)
				}
				cut()
				if err := s.Publish(ctx, store.Message{Topic: "published-" + key, Body: []byte("1")}); err != nil { // no id by which a repetition is known
					t.Fatal(err)
				}
				cut()
				if mine, err := s.Fire(ctx, "r"+key, time.UnixMilli(1000)); err != nil || !mine {
					t.Fatal(mine, err)
				}
				cut()
				if err := s.Append(ctx, l, store.Done, "", time.Time{}, store.Record{Kind: store.End, Body: []byte("3")}); err != nil {
					t.Fatal(err)
				}
				cut() // which says whether the last one was
				c.plan.Store(pass)
				if _, rs, err := beside.Load(ctx, r.ID); err != nil || len(rs) != 3 {
					t.Fatalf("%d records, %v; want each once", len(rs), err)
				}
				if ms, err := beside.Log(ctx, "published-"+key, 0, 10); err != nil || len(ms) != 1 {
					t.Fatalf("%d messages, %v; want it once", len(ms), err)
				}
				if owner, _, ok, err := beside.OnceRun(ctx, "s", key); err != nil || !ok || owner != r.ID {
					t.Fatal(owner, ok, err)
				}
				rows, err := s.Outbox(ctx, 100)
				n := 0
				for _, row := range rows {
					if row.ID == key {
						n++
					}
				}
				if err != nil || n != 1 {
					t.Fatalf("%d outbox rows, %v", n, err)
				}
			})
		}
	}
}

// While the database is stopped, killed and started: what was answered is there,
// what was refused is not.
func TestARestartedServerLosesNothing(t *testing.T) {
	if testing.Short() {
		t.Log("not checked: restarts of the server take seconds")
		return
	}
	server := cluster.PostgresFor(t, cluster.PostgresOptions{})
	u, _, err := cluster.NewDatabase(context.Background(), server.URL("postgres"), "template0")
	if err != nil {
		t.Fatal(err)
	}
	o := options(u, nil)
	o.Patience = 30 * time.Millisecond
	s := open(t, o)
	ctx := context.Background()
	var mu sync.Mutex
	said, refused := map[store.RunID]int{}, map[store.RunID]bool{}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				id, err := s.Reserve(ctx, 1)
				if err != nil {
					continue
				}
				_, l, err := s.Accept(ctx, store.Run{ID: id, Version: "v", Route: "r", State: store.Running, Priority: 1, Subjects: []string{fmt.Sprint(w)}},
					store.Record{Kind: store.Intent, Path: "a", Body: []byte("1")})
				mu.Lock()
				if err != nil {
					refused[id] = !strings.Contains(err.Error(), "could not be learned")
				} else {
					said[id] = 1
				}
				mu.Unlock()
				if err != nil {
					continue
				}
				if err := s.Append(ctx, l, store.Done, "", time.Time{}, store.Record{Kind: store.End, Body: []byte("1")}); err == nil {
					mu.Lock()
					said[id] = 2
					mu.Unlock()
				}
			}
		})
	}
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(said) }
	more := func(n int) {
		t.Helper()
		until := time.Now().Add(20 * time.Second)
		for from := count(); count() < from+n; {
			if time.Now().After(until) {
				t.Fatal("the store does not come back")
			}
			time.Sleep(time.Millisecond)
		}
	}
	for i, end := range []func() error{server.Kill, server.Stop, server.Kill} {
		more(30 + 20*i) // it is alive and in the middle of its work
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
	}
	more(30)
	close(stop)
	wg.Wait()
	s = open(t, options(u, nil)) // a patient one looks
	for id, records := range said {
		if r, rs, err := s.Load(ctx, id); err != nil || len(rs) < records || records == 2 && r.State != store.Done {
			t.Fatalf("run %d is %s with %d records, said were %d: %v", id, r.State, len(rs), records, err)
		}
	}
	for id, surely := range refused {
		if _, _, err := s.Load(ctx, id); surely && !errors.Is(err, store.ErrNoRun) {
			t.Fatalf("run %d was refused and is there: %v", id, err)
		}
	}
	t.Logf("%d runs survived 3 ends of the server, %d were refused", len(said), len(refused))
}

// A caller is told in time that the database is away.
func TestADatabaseThatIsAway(t *testing.T) {
	u, c := through(t, cluster.Postgres(t))
	o := options(u, nil)
	o.Writers, o.Patience, o.Doubt = 1, 50*time.Millisecond, 100*time.Millisecond
	s := open(t, o)
	ctx := context.Background()
	id, err := s.Reserve(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	r := store.Run{ID: id, Version: "v", Route: "r", State: store.Running, Priority: 1}
	_, l, err := s.Accept(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	to, nowhere := c.to.Load(), "127.0.0.1:1"
	c.to.Store(&nowhere)
	c.times.Store(1)
	c.plan.Store(cutAfter)
	if err := s.Append(ctx, l, store.Running, "", time.Time{}, store.Record{Kind: store.Result, Path: "a", Body: []byte("1")}); err == nil || !strings.Contains(err.Error(), "could not be learned") {
		t.Fatal(err)
	}
	// Nobody here goes on by a guess.
	if err := s.Append(ctx, l, store.Running, "", time.Time{}); !errors.Is(err, store.ErrFenced) {
		t.Fatal(err)
	}
	r.ID++
	if _, _, err := s.Accept(ctx, r); err == nil {
		t.Fatal("accepted by a database that is away")
	}
	c.to.Store(to)
	if _, _, err := s.Accept(ctx, r); err != nil {
		t.Fatal(err)
	}
}

func TestErrorsShowNoValues(t *testing.T) {
	u := cluster.Postgres(t)
	s := open(t, options(u, nil))
	sql(t, u, `create function dime.shout() returns trigger language plpgsql as $$ begin
		raise exception 'refused' using errcode = 'check_violation', detail = 'the row is ' || new.route; end $$`,
		"create trigger shout before insert on dime.run for each row execute function dime.shout()")
	id, err := s.Reserve(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = s.Accept(t.Context(), store.Run{ID: id, Version: "v", Route: "r", State: store.Running, Reason: "RSSMRA80A01L736U"})
	if err == nil || !strings.Contains(err.Error(), "23514") || strings.Contains(err.Error(), "the row is") {
		t.Fatal(err)
	}
}

// A commit that is under way when its lease has run out keeps claims out until it
// is done; then they see all of it. Between the check of the epoch and the commit
// nobody else can have the run.
func TestACommitUnderWayKeepsClaimsOut(t *testing.T) {
	u := cluster.Postgres(t)
	c := clock.NewVirtual(storetest.Start())
	s, other := open(t, options(u, c)), open(t, options(u, c))
	// Who writes the record waits until the test lets go.
	sql(t, u, `create function dime.hold() returns trigger language plpgsql as $$ begin
		perform pg_advisory_xact_lock_shared(77); return new; end $$`,
		"create trigger hold before insert on dime.entry for each row when (new.id & 1048575 = 1) execute function dime.hold()")
	gate, err := pgx.Connect(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	defer gate.Close(context.Background())
	if _, err := gate.Exec(t.Context(), "select pg_advisory_lock(77)"); err != nil {
		t.Fatal(err)
	}
	id, err := s.Reserve(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	_, l, err := s.Accept(t.Context(), store.Run{ID: id, Version: "v", Route: "r", State: store.Running}, store.Record{Kind: store.Intent, Path: "a", Body: []byte("1")})
	if err != nil {
		t.Fatal(err)
	}
	c.Advance(c.Now().Add(time.Minute))
	late := make(chan error, 1)
	go func() {
		late <- s.Append(t.Context(), l, store.Running, "", time.Time{}, store.Record{Kind: store.OutcomeRec, Path: "a", Body: []byte("2")})
	}()
	for waiting := 0; waiting == 0; { // it has checked the epoch and stands at the gate
		if err := gate.QueryRow(t.Context(), "select count(*) from pg_locks where locktype = 'advisory' and objid = 77 and not granted").Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
	if _, ls, err := other.Claim(t.Context(), "other", 10); err != nil || len(ls) != 0 {
		t.Fatalf("claimed %v, %v, from under a commit", ls, err)
	}
	if _, err := gate.Exec(t.Context(), "select pg_advisory_unlock(77)"); err != nil {
		t.Fatal(err)
	}
	if err := <-late; err != nil {
		t.Fatal(err)
	}
	if _, ls, err := other.Claim(t.Context(), "other", 10); err != nil || len(ls) != 1 {
		t.Fatal(ls, err)
	}
	if _, rs, err := other.Load(t.Context(), id); err != nil || len(rs) != 2 {
		t.Fatal(rs, err)
	}
	if err := s.Append(t.Context(), l, store.Running, "", time.Time{}); !errors.Is(err, store.ErrFenced) {
		t.Fatal(err)
	}
}

// A process that freezes in a transaction is cut off by the server, and the others
// go on.
func TestASessionFrozenInATransactionIsEnded(t *testing.T) {
	u := cluster.Postgres(t)
	s := open(t, options(u, nil))
	id, err := s.Reserve(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	_, l, err := s.Accept(t.Context(), store.Run{ID: id, Version: "v", Route: "r", State: store.Running})
	if err != nil {
		t.Fatal(err)
	}
	frozen, err := pgx.Connect(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	defer frozen.Close(context.Background())
	for _, sql := range []string{"set idle_in_transaction_session_timeout = '300ms'", "begin", "update dime.run set reason = 'x'"} {
		if _, err := frozen.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Append(t.Context(), l, store.Done, "", time.Time{}); err != nil {
		t.Fatal(err)
	}
	if r, _, err := s.Load(t.Context(), id); err != nil || r.Reason != "" {
		t.Fatal(r, err)
	}
}
