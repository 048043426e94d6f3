package storetest

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dime-bus/dime/internal/store"
)

// severalTests open a second process on the memory; a store that belongs to one
// process has none, and is not asked.
func severalTests() []entry {
	return []entry{
		{"two processes never claim the same run", bothClaim},
		{"a living lease keeps the other process out, a lost one fences its holder", otherFences},
		{"a process that was frozen writes nothing when it wakes", frozen},
		{"an order key has one line for all processes", orderAcross},
		{"a once key has one run for all processes", onceAcross},
		{"an event that one process delivers wakes the other's run", deliverAcross},
		{"waits and events of two processes never miss each other", raceAcross},
		{"an instant fires once for all processes", firesAcross},
		{"the outbox has one publisher a row, and keeps a run's order", outboxAcross},
		{"what a process commits after it was counted as dead is published", orphansAcross},
		{"who erases in one process is erased in the other", eraseAcross},
		{"a queue's messages go to one process each, and come again when it dies", queueAcross},
		{"a process that closes gives back what it holds", closeGivesBack},
		{"ids, versions and tables are shared", shareAcross},
		{"a shape that one process teaches, the other has to learn", shapesAcross},
		{"several processes add to one audit", auditSeveral},
	}
}

// as does f with the other store in the place of the test's own.
func (k *kit) as(s store.Store) *kit {
	c := *k
	c.Store = s
	return &c
}

// both gives the test twice: as each process.
func (k *kit) both() (a, b *kit) {
	k.Helper()
	s := k.Second(k.T)
	k.Cleanup(func() { _ = s.Close() })
	return k, k.as(s)
}

// hears waits until a listener is told, and again until it finds what it was told
// of.
func (k *kit) hears(c <-chan struct{}, look func() bool) {
	k.Helper()
	for {
		select {
		case <-c:
		case <-time.After(20 * time.Second):
			k.Fatal("the other process's commit was never heard of")
		}
		if look() {
			return
		}
	}
}

func bothClaim(k *kit) {
	a, b := k.both()
	const n = 80
	for range n {
		k.waiting(k.run(), Start())
	}
	var mu sync.Mutex
	seen := make(map[store.RunID]string)
	var wg sync.WaitGroup
	for name, s := range map[string]store.Store{"a": a.Store, "b": b.Store} {
		for range 2 {
			wg.Go(func() {
				for {
					_, ls, err := s.Claim(k.ctx, name, 3)
					mu.Lock()
					if err != nil {
						k.Error(err)
					}
					for _, l := range ls {
						if seen[l.Run] != "" {
							k.Errorf("run %d was given to %s and %s", l.Run, seen[l.Run], name)
						}
						seen[l.Run] = name
					}
					done := len(seen) == n || k.Failed()
					mu.Unlock()
					if done {
						return
					}
				}
			})
		}
	}
	wg.Wait()
}

func otherFences(k *kit) {
	a, b := k.both()
	r, l := a.accept(k.run(), rec(store.Intent, "a", "1"))
	b.claimed("b")
	_, _, err := b.Store.ClaimOne(k.ctx, "b", r.ID)
	k.is(err, store.ErrFenced)
	k.pass(k.Lease - time.Second)
	if lost, err := a.Store.Renew(k.ctx, l); err != nil || len(lost) != 0 {
		k.Fatal(lost, err)
	}
	k.pass(2 * time.Second)
	b.claimed("b")
	k.is(b.Store.Append(k.ctx, l, store.Done, "", time.Time{}), store.ErrFenced) // another's lease is nobody's here
	k.pass(k.Lease)
	mine := b.claimed("b", r.ID)[r.ID]
	if mine.Epoch <= l.Epoch {
		k.Fatalf("epoch %d does not follow %d", mine.Epoch, l.Epoch)
	}
	if lost, err := a.Store.Renew(k.ctx, l); err != nil || len(lost) != 1 {
		k.Fatal(lost, err)
	}
	k.is(a.Store.Append(k.ctx, l, store.Running, "", time.Time{}, rec(store.OutcomeRec, "a", "late")), store.ErrFenced)
	b.append(mine, store.Running, time.Time{}, rec(store.OutcomeRec, "a", "2"))
	k.must(a.Store.Release(k.ctx, l)) // what was lost can't be given back
	a.claimed("a")
	b.append(mine, store.Done, time.Time{})
	if _, rs := a.load(r.ID); len(rs) != 2 || string(rs[1].Body) != "2" {
		k.Fatalf("the journal has %v", paths(rs))
	}
}

func frozen(k *kit) {
	a, b := k.both()
	r, l := a.accept(k.run(), wait("w", "1"))
	k.pass(k.Lease + time.Millisecond)
	mine := b.claimed("b", r.ID)[r.ID]
	b.append(mine, store.Waiting, k.Clock.Now().Add(time.Hour), rec(store.OutcomeRec, "x", "1"))
	// It rests and is nobody's: still not the frozen process's.
	for _, rs := range [][]store.Record{
		{rec(store.OutcomeRec, "x", "2")},
		{{Kind: store.OutcomeRec, Path: "e", Outbox: []store.Outbox{{ID: "1", Topic: "t", Body: []byte("1")}}}},
		{{Kind: store.Expired, Path: "w", Unwait: true}},
		{wait("v", "9")},
	} {
		k.is(a.Store.Append(k.ctx, l, store.Running, "", time.Time{}, rs...), store.ErrFenced)
		k.is(a.Store.Append(k.ctx, l, store.Done, "", time.Time{}, rs...), store.ErrFenced)
	}
	if rows, err := b.Store.Outbox(k.ctx, 10); err != nil || len(rows) != 0 {
		k.Fatal(rows, err)
	}
	b.state(r.ID, store.Waiting)
	b.deliver(event("e9", "9"), 0)
	b.deliver(event("e1", "1"), 1)
	if _, rs := b.load(r.ID); len(rs) != 2 {
		k.Fatalf("the journal has %v", paths(rs))
	}
}

func orderAcross(k *kit) {
	a, b := k.both()
	first, l := a.accept(a.ordered("k"))
	second, zero := b.accept(b.ordered("k"))
	third, _ := a.accept(a.ordered("k"))
	if second.State != store.Queued || zero != (store.Lease{}) || third.State != store.Queued {
		k.Fatalf("accepted behind a live run as %s and %s", second.State, third.State)
	}
	b.claimed("b")
	a.append(l, store.Done, time.Time{})
	l = b.claimed("b", second.ID)[second.ID]
	a.claimed("a")
	b.append(l, store.Failed, time.Time{})
	l = b.claimed("b", third.ID)[third.ID]
	_ = first
	b.append(l, store.Done, time.Time{})
	// At once: one has its turn, the others queue, and each has its turn alone.
	var wg sync.WaitGroup
	var mu sync.Mutex
	var alive []store.Lease
	for i := range 24 {
		s := []*kit{a, b}[i%2]
		r := s.ordered("at once")
		wg.Go(func() {
			_, l, err := s.Store.Accept(k.ctx, r)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				k.Error(err)
			}
			if l.Run != 0 {
				alive = append(alive, l)
				k.must(s.Store.Release(k.ctx, l))
			}
		})
	}
	wg.Wait()
	if len(alive) != 1 {
		k.Fatalf("%d runs of one key were alive at once", len(alive))
	}
	for i := range 24 {
		s := []*kit{a, b}[i%2]
		ls := s.claim("w")
		if len(ls) != 1 {
			k.Fatalf("turn %d: %d runs had it", i, len(ls))
		}
		for _, l := range ls {
			s.append(l, store.Done, time.Time{})
		}
	}
}

func onceAcross(k *kit) {
	a, b := k.both()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var won []store.RunID
	for i := range 20 {
		s := []*kit{a, b}[i%2]
		r := s.run()
		r.Once = &store.Once{Scope: "s", Key: "k", BodyHash: []byte{1}, Until: Start().Add(time.Hour)}
		r.Subjects = []string{"somebody new"}
		wg.Go(func() {
			_, _, err := s.Store.Accept(k.ctx, r)
			mu.Lock()
			defer mu.Unlock()
			var d *store.Duplicate
			if err == nil {
				won = append(won, r.ID)
			} else if !errors.As(err, &d) || !d.SameBody {
				k.Error(err)
			}
		})
	}
	wg.Wait()
	if len(won) != 1 {
		k.Fatalf("%d of 20 requests with one key were accepted", len(won))
	}
	for _, s := range []*kit{a, b} {
		if id, _, ok, err := s.Store.OnceRun(k.ctx, "s", "k"); err != nil || !ok || id != won[0] {
			k.Fatal(id, ok, err)
		}
		s.load(won[0])
	}
}

func deliverAcross(k *kit) {
	a, b := k.both()
	r := a.waiting(k.run(), time.Time{}, wait("w", "1"))
	c := a.Store.Wake()
	for len(c) > 0 {
		<-c
	}
	b.deliver(event("e1", "1"), 1)
	var l store.Lease
	a.hears(c, func() bool { l = a.claim("a")[r.ID]; return l.Run == r.ID })
	a.candidates(r.ID, "w", "e1")
	// While it is in a's hands: found when it rests, by whoever is quicker.
	b.deliver(event("e2", "1"), 1)
	b.claimed("b")
	c = b.Store.Wake()
	for len(c) > 0 {
		<-c
	}
	a.append(l, store.Waiting, time.Time{})
	b.hears(c, func() bool { return b.claim("b")[r.ID].Run == r.ID })
	a.deliver(event("e1", "1"), 0) // known to both
}

func raceAcross(k *kit) {
	a, b := k.both()
	const n = 60
	var wg sync.WaitGroup
	for i := range n {
		_, l := a.accept(k.run())
		key := fmt.Sprint(i % 7) // several on one key
		wg.Go(func() {
			if _, err := b.Store.Deliver(k.ctx, event(fmt.Sprint("e", i), key)); err != nil {
				k.Error(err)
			}
		})
		wg.Go(func() {
			if err := a.Store.Append(k.ctx, l, store.Waiting, "", time.Time{}, wait("w", key)); err != nil {
				k.Error(err)
			}
		})
	}
	wg.Wait()
	if got := len(a.claim("a")) + len(b.claim("b")); got != n {
		k.Fatalf("%d of %d waits met their event", got, n)
	}
}

func firesAcross(k *kit) {
	a, b := k.both()
	for i := range 20 {
		at := Start().Add(time.Duration(i) * time.Minute)
		var wg sync.WaitGroup
		var mu sync.Mutex
		mine := 0
		for _, s := range []*kit{a, b, a, b} {
			wg.Go(func() {
				ok, err := s.Store.Fire(k.ctx, "r", at)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					k.Error(err)
				}
				if ok {
					mine++
				}
			})
		}
		wg.Wait()
		if mine != 1 {
			k.Fatalf("instant %d fired %d times", i, mine)
		}
	}
	if at, ok, err := b.Store.LastFired(k.ctx, "r"); err != nil || !ok || !at.Equal(Start().Add(19*time.Minute)) {
		k.Fatal(at, ok, err)
	}
}

func (k *kit) outboxIDs(want ...string) []store.OutboxRow {
	k.Helper()
	rs, err := k.Store.Outbox(k.ctx, 100)
	k.must(err)
	var got []string
	for _, r := range rs {
		got = append(got, r.ID)
	}
	if d := cmp.Diff(want, got); d != "" {
		k.Fatalf("outbox (-want +got):\n%s", d)
	}
	return rs
}

func outboxAcross(k *kit) {
	a, b := k.both()
	emit := func(id string) store.Record {
		return store.Record{Kind: store.OutcomeRec, Path: id, Outbox: []store.Outbox{{ID: id, Topic: "t", Body: []byte(id)}}}
	}
	r, l := a.accept(k.run(), emit("1"))
	one := a.outboxIDs("1")
	b.outboxIDs()
	a.append(l, store.Waiting, Start(), emit("2"))
	l = b.claimed("b", r.ID)[r.ID]
	b.append(l, store.Running, time.Time{}, emit("3"))
	other, _ := b.accept(k.run(), emit("x"))
	b.outboxIDs("x") // 3 waits for 1 and 2, which a has
	a.outboxIDs("1", "2")
	k.must(a.Store.Published(k.ctx, one[0].Seq))
	k.pass(k.Lease + time.Second)
	// a says nothing any more.
	x := b.outboxIDs("2", "3", "x")
	if x[2].Run != other.ID || x[0].Run != r.ID {
		k.Fatalf("%+v", x)
	}
	b.outboxIDs("2", "3", "x")
	k.must(b.Store.Postpone(k.ctx, x[2].Seq, k.Clock.Now().Add(time.Minute)))
	k.must(b.Store.Published(k.ctx, x[0].Seq, x[1].Seq))
	a.outboxIDs()
}

func orphansAcross(k *kit) {
	a, b := k.both()
	emit := func(id string) store.Record {
		return store.Record{Kind: store.OutcomeRec, Path: id, Outbox: []store.Outbox{{ID: id, Topic: "t", Body: []byte(id)}}}
	}
	a.accept(k.run(), emit("1"))
	a.outboxIDs("1")
	k.pass(k.Lease + time.Second)
	b.outboxIDs("1")
	a.accept(k.run(), emit("2")) // and then a says nothing any more
	k.pass(k.Lease)
	b.outboxIDs("1", "2")
}

func eraseAcross(k *kit) {
	a, b := k.both()
	person := func(s *kit) store.RunID {
		k.Helper()
		r := k.run()
		r.Subjects = []string{canary}
		s.accept(r, rec(store.Intent, "a", canary))
		return r.ID
	}
	first := person(a) // both know the key
	second := person(b)
	b.load(first)
	k.must(b.Store.Erase(k.ctx, canary))
	third := person(a) // a must not seal by the key that it remembers
	for _, s := range []*kit{a, b} {
		for _, id := range []store.RunID{first, second} {
			_, _, err := s.Store.Load(k.ctx, id)
			k.is(err, store.ErrErased)
		}
	}
	for _, s := range []*kit{a, b} {
		if _, rs := s.load(third); string(rs[0].Body) != canary {
			k.Fatal("the person came back and is not readable")
		}
	}
	_, _, err := a.Store.Load(k.ctx, first)
	k.is(err, store.ErrErased)
}

func queueAcross(k *kit) {
	a, b := k.both()
	c := b.Store.Ready("q")
	for len(c) > 0 {
		<-c
	}
	k.must(a.Store.Bind(k.ctx, "q", "t"))
	a.publish("t", "1", "2", "3", "4", "5")
	var got []store.Message
	b.hears(c, func() bool {
		ms, err := b.Store.Receive(k.ctx, "q", 2)
		k.must(err)
		got = append(got, ms...)
		return len(got) > 0
	})
	mine := a.receive("q", 10, "3", "4", "5")
	b.receive("q", 10)
	a.depth("q", 5)
	k.pass(k.Lease + time.Second)
	a.settle("q", mine[0], mine[1])
	again := a.receive("q", 10, "1", "2") // b says nothing any more
	if again[0].Attempts != 1 {
		k.Fatalf("%d attempts", again[0].Attempts)
	}
	b.settle("q", got[0]) // late, and still right
	b.receive("q", 10)
	a.settle("q", again[1], mine[2])
	b.depth("q", 0)
	// The log's numbers go by commit: a reader behind a cursor misses nothing.
	var wg sync.WaitGroup
	for i := range 40 {
		s := []*kit{a, b}[i%2]
		wg.Go(func() {
			if err := s.Store.Publish(k.ctx, store.Message{ID: fmt.Sprint("m", i), Topic: "u"}); err != nil {
				k.Error(err)
			}
		})
	}
	published := make(chan struct{})
	go func() { wg.Wait(); close(published) }()
	after, n := int64(0), 0
	for last := false; ; {
		ms, err := a.Store.Log(k.ctx, "u", after, 100)
		k.must(err)
		for _, m := range ms {
			n, after = n+1, m.Seq
		}
		if last && len(ms) == 0 {
			break
		}
		select {
		case <-published:
			last = true
		default:
		}
	}
	if n != 40 {
		k.Fatalf("a reader by cursor saw %d of 40 messages", n)
	}
}

func closeGivesBack(k *kit) {
	a, b := k.both()
	hot, _ := b.accept(k.run())
	rests, l := b.accept(k.run())
	b.append(l, store.Waiting, time.Time{}, store.Record{Kind: store.OutcomeRec, Path: "e", Outbox: []store.Outbox{{ID: "1", Topic: "t", Body: []byte("1")}}})
	_, _, err := b.Store.ClaimOne(k.ctx, "person", rests.ID)
	k.must(err)
	b.outboxIDs("1")
	k.must(a.Store.Bind(k.ctx, "q", "t"))
	a.publish("t", "1")
	b.receive("q", 1, "1")
	a.receive("q", 1)
	for range 2 { // what was told so far
		select {
		case <-a.Store.Wake():
		case <-time.After(50 * time.Millisecond):
		}
	}
	k.must(b.Store.Close())
	var taken map[store.RunID]store.Lease
	a.hears(a.Store.Wake(), func() bool { taken = a.claim("a"); return len(taken) > 0 })
	if _, ok := taken[hot.ID]; !ok || len(taken) != 1 {
		k.Fatalf("a process that closed gave back %v, want run %d", taken, hot.ID)
	}
	_, _, err = a.Store.ClaimOne(k.ctx, "person", rests.ID)
	k.must(err)
	a.outboxIDs("1")
	if ms := a.receive("q", 1, "1"); ms[0].Attempts != 0 {
		k.Fatalf("a process that closed spent %d deliveries", ms[0].Attempts)
	}
}

func shareAcross(k *kit) {
	a, b := k.both()
	seen := make(map[store.RunID]bool)
	for i := range 50 {
		s := []*kit{a, b}[i%2]
		if id := s.id(); seen[id] {
			k.Fatalf("id %d was reserved twice", id)
		} else {
			seen[id] = true
		}
	}
	for i, s := range []*kit{a, b} {
		k.must(s.Store.PutVersion(k.ctx, store.Version{Digest: fmt.Sprint("v", i), Route: "r", Label: i, Source: []byte("s")}))
	}
	if n, err := a.Store.DropVersions(k.ctx, nil); err != nil || n != 1 {
		k.Fatalf("dropped %d versions, %v: one is in force in the other process", n, err)
	}
	if _, err := b.Store.GetVersion(k.ctx, "v1"); err != nil {
		k.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, s := range []*kit{a, b} {
		for range 2 {
			wg.Go(func() {
				for range 10 {
					if err := s.Store.Table("t").Update(k.ctx, "n", func(old []byte) ([]byte, error) { return append(old, 'x'), nil }); err != nil {
						k.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	if v, _, err := a.Store.Table("t").Get(k.ctx, "n"); err != nil || len(v) != 40 {
		k.Fatalf("%d of 40 updates, %v", len(v), err)
	}
	if a.Store.PublicID(7) != b.Store.PublicID(7) || a.Store.Key("x") != b.Store.Key("x") {
		k.Fatal("two processes give other names to one run")
	}
}

func shapesAcross(k *kit) {
	a, b := k.both()
	old := event("e1", "1")
	a.deliver(old, 0)
	keys := func(body []byte) []store.EventKey { return []store.EventKey{{Shape: "id", Key: string(body)}} }
	k.must(b.Store.Reindex(k.ctx, "t", "iuv", func([]byte) []store.EventKey { return nil }))
	k.must(b.Store.Reindex(k.ctx, "t", "id", keys))
	late := event("e2", "2")
	_, err := a.Store.Deliver(k.ctx, late)
	k.is(err, store.ErrShapes)
	late.Shapes, err = a.Store.Shapes(k.ctx, "t")
	k.must(err)
	if len(late.Shapes) != 2 {
		k.Fatalf("the shapes are %q", late.Shapes)
	}
	a.deliver(late, 0)
	other := event("e3", "3")
	other.Type, other.Shapes = "u", nil
	a.deliver(other, 0) // of a type that nobody taught anything
}
