package storetest

import (
	"bytes"
	"errors"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dime-bus/dime/internal/store"
)

func journalTests() []entry {
	return []entry{
		{"records come back whole and in order", records},
		{"ids are never reserved twice", reserve},
		{"a lost lease fences its holder", fencing},
		{"a lease lost midway fences the commit", fencedMidway},
		{"a crash fences every lease and frees the runs", crashFences},
		{"claims go by priority, then by due instant", claimOrder},
		{"routes take turns in a class", claimTurns},
		{"workers that claim at once get different runs", claimRace},
		{"ClaimOne respects a living owner and changes nothing", claimOne},
		{"a resting run is due at its instant, not before", timers},
		{"a rest under Undoing keeps its word and gives the lease back", undoRest},
		{"a released lease is free at once", release},
		{"a failed run starts again under its id", rearm},
		{"one of many that accept with one key wins", onceRace},
		{"a key is free when its window is over and its run has ended", onceWindow},
		{"a record gives the run another version, with its commit or not at all", pinned},
		{"Find pages from the newest", find},
		{"what is too large is refused and changes nothing", tooLarge},
		{"wakes are heard before the writer is answered", wakes},
		{"public ids can't be forged", publicID},
	}
}

func records(k *kit) {
	r := k.run()
	r.Subjects, r.OrderKey, r.Reason = []string{"RSSMRA80A01L736U", "VRDLGI80A01L736X"}, "desk-1", "because"
	large := bytes.Repeat([]byte(`{"x":"0123456789"}`), 4_000)
	in := []store.Record{
		rec(store.Accepted, "", `{"n":1}`),
		{Kind: store.Intent, Path: "a[3]/b#2", Round: 2, At: Start().Add(time.Microsecond), Fault: "slot_taken", Body: nil},
		{Kind: store.Result, Path: "empty", At: Start(), Body: []byte{}},
		{Kind: store.Result, Path: "large", At: Start(), Body: large},
	}
	out, l := k.accept(r, in...)
	if !out.Started.Equal(Start()) || out.State != store.Running || l.Run != r.ID || !l.Until.Equal(Start().Add(k.Lease)) {
		k.Fatalf("accepted as %+v, lease %+v", out, l)
	}
	k.append(l, store.Running, time.Time{}, rec(store.OutcomeRec, "c", strings.Repeat("9", 3000)))
	k.append(l, store.Done, time.Time{}, rec(store.End, "", `null`))
	in = append(in, rec(store.OutcomeRec, "c", strings.Repeat("9", 3000)), rec(store.End, "", "null"))
	for _, when := range []string{"before", "after"} {
		run, got := k.load(r.ID)
		if d := cmp.Diff(in, got, cmp.Comparer(bytes.Equal)); d != "" {
			k.Fatalf("%s a crash, records (-want +got):\n%s", when, d)
		}
		if d := cmp.Diff([]any{r.Subjects, r.OrderKey, string(r.Head), store.Done, r.Version, r.Route, 1}, []any{run.Subjects, run.OrderKey, string(run.Head), run.State, run.Version, run.Route, run.Priority}); d != "" {
			k.Fatalf("%s a crash, run (-want +got):\n%s", when, d)
		}
		if run.Ended.IsZero() || !run.Started.Equal(Start()) {
			k.Fatalf("%s a crash: started %v, ended %v", when, run.Started, run.Ended)
		}
		k.crash()
	}
	_, _, err := k.Store.Load(k.ctx, r.ID+1000)
	k.is(err, store.ErrNoRun)
}

func reserve(k *kit) {
	var mu sync.Mutex
	seen := make(map[store.RunID]bool)
	take := func(n int) {
		first, err := k.Store.Reserve(k.ctx, n)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			k.Error(err)
		}
		for i := range n {
			if seen[first+store.RunID(i)] {
				k.Errorf("id %d was reserved twice", first+store.RunID(i))
			}
			seen[first+store.RunID(i)] = true
		}
	}
	for range 3 {
		var wg sync.WaitGroup
		for n := range 8 {
			wg.Go(func() { take(n + 1); take(70_000); take(1) })
		}
		wg.Wait()
		k.crash()
	}
}

func fencing(k *kit) {
	r, old := k.accept(k.run(), rec(store.Intent, "a", "1"))
	k.claimed("other")
	k.pass(k.Lease - time.Second)
	if lost, err := k.Store.Renew(k.ctx, old); err != nil || len(lost) != 0 {
		k.Fatalf("renewing gave %v, %v", lost, err)
	}
	k.pass(k.Lease - time.Second)
	k.claimed("other")
	k.pass(time.Second + time.Millisecond)
	// The lease ran out, but nobody has taken the run: its holder may go on.
	k.append(old, store.Running, time.Time{}, rec(store.OutcomeRec, "a", "2"))
	mine := k.claimed("other", r.ID)[r.ID]
	if mine.Epoch <= old.Epoch {
		k.Fatalf("epoch %d does not follow %d", mine.Epoch, old.Epoch)
	}
	k.is(k.Store.Append(k.ctx, old, store.Done, "", time.Time{}, rec(store.End, "", "1")), store.ErrFenced)
	if lost, err := k.Store.Renew(k.ctx, old, mine); err != nil || len(lost) != 1 || lost[0].Epoch != old.Epoch {
		k.Fatalf("renewing gave %v, %v", lost, err)
	}
	k.append(mine, store.Running, time.Time{}, rec(store.Intent, "b", "3"))
	run, rs := k.load(r.ID)
	if d := cmp.Diff([]string{"intent a", "outcome a", "intent b"}, paths(rs)); d != "" || run.State != store.Running || run.Epoch != mine.Epoch {
		k.Fatalf("%+v %s", run, d)
	}
	k.append(mine, store.Done, time.Time{})
	k.is(k.Store.Append(k.ctx, mine, store.Running, "", time.Time{}), store.ErrFenced)
}

// fencedMidway: the lease is lost between the moment at which a commit of its
// holder was handed in and the commit itself. A large body keeps the store busy
// meanwhile; the check at the entrance alone lets the old holder through.
func fencedMidway(k *kit) {
	for round := range 8 {
		r, old := k.accept(k.run(), rec(store.Intent, "a", "1"))
		k.pass(k.Lease + time.Millisecond)
		large := store.Record{Kind: store.OutcomeRec, Path: "a", At: Start(), Body: random(r.ID, 4<<20)}
		begun, late := make(chan struct{}), make(chan error)
		go func() {
			close(begun)
			late <- k.Store.Append(k.ctx, old, store.Running, "", time.Time{}, large)
		}()
		<-begun
		for range round { // sooner and later after its start
			runtime.Gosched()
		}
		_, mine, err := k.Store.ClaimOne(k.ctx, "other", r.ID)
		k.must(err)
		_, before := k.load(r.ID)
		switch err := <-late; {
		case err == nil && len(before) == 1:
			k.Fatal("the old holder wrote to a run that another had claimed")
		case err != nil:
			k.is(err, store.ErrFenced)
		}
		if _, after := k.load(r.ID); len(after) != len(before) {
			k.Fatalf("%d records after the claim became %d", len(before), len(after))
		}
		k.append(mine, store.Done, time.Time{})
	}
}

func crashFences(k *kit) {
	a, la := k.accept(k.run())
	b, lb := k.accept(k.run())
	k.append(lb, store.Undoing, time.Time{}, rec(store.UndoIntent, "x", "1"))
	rests := k.waiting(k.run(), time.Time{})
	k.crash()
	got := k.claimed("next", a.ID, b.ID)
	if got[a.ID].Epoch <= la.Epoch || got[b.ID].Epoch <= lb.Epoch {
		k.Fatalf("epochs %v do not follow %d and %d", got, la.Epoch, lb.Epoch)
	}
	k.is(k.Store.Append(k.ctx, la, store.Done, "", time.Time{}), store.ErrFenced)
	if lost, err := k.Store.Renew(k.ctx, la); err != nil || len(lost) != 1 {
		k.Fatalf("renewing gave %v, %v", lost, err)
	}
	k.append(got[a.ID], store.Done, time.Time{})
	k.state(b.ID, store.Undoing)
	k.state(rests.ID, store.Waiting)
	k.crash() // claimed and not yet written to
	k.claimed("third", b.ID)
}

func timers(k *kit) {
	if _, ok, err := k.Store.NextDue(k.ctx); ok || err != nil {
		k.Fatalf("something is due in an empty store (%v)", err)
	}
	at := Start().Add(time.Hour)
	r := k.waiting(k.run(), at)
	k.waiting(k.run(), time.Time{})
	for range 2 {
		if next, ok, err := k.Store.NextDue(k.ctx); err != nil || !ok || !next.Equal(at) {
			k.Fatalf("next due %v, %v, %v; want %v", next, ok, err, at)
		}
		k.crash()
	}
	k.Clock.Advance(at.Add(-time.Millisecond))
	k.claimed("w")
	k.pass(time.Millisecond)
	l := k.claimed("w", r.ID)[r.ID]
	k.claimed("w")
	if next, ok, _ := k.Store.NextDue(k.ctx); !ok || !next.Equal(l.Until) {
		k.Fatalf("next due %v, %v; want the end of the lease, %v", next, ok, l.Until)
	}
	k.append(l, store.Waiting, time.Time{})
	if next, ok, _ := k.Store.NextDue(k.ctx); ok {
		k.Fatalf("a run without a wake is due at %v", next)
	}
}

func undoRest(k *kit) {
	r, l := k.accept(k.run())
	k.append(l, store.Undoing, Start().Add(time.Minute))
	k.is(k.Store.Append(k.ctx, l, store.Undoing, "", time.Time{}), store.ErrFenced)
	k.state(r.ID, store.Undoing)
	k.claimed("w")
	k.crash()
	k.claimed("w") // it rests over a crash, too
	k.pass(time.Minute)
	k.claimed("w", r.ID)
	k.state(r.ID, store.Undoing)
}

func release(k *kit) {
	r, l := k.accept(k.run())
	k.must(k.Store.Release(k.ctx, l))
	k.is(k.Store.Append(k.ctx, l, store.Done, "", time.Time{}), store.ErrFenced)
	k.claimed("w", r.ID)
}

func rearm(k *kit) {
	r, l := k.accept(k.run(), rec(store.Intent, "a", "1"))
	_, _, err := k.Store.Rearm(k.ctx, r.ID, "w", rec(store.Person, "", "1"))
	if err == nil {
		k.Fatal("a running run started again")
	}
	k.append(l, store.Failed, time.Time{}, rec(store.End, "", "1"))
	out, l, err := k.Store.Rearm(k.ctx, r.ID, "w", rec(store.Person, "", "2"))
	k.must(err)
	if out.State != store.Running || !out.Ended.IsZero() || l.Run != r.ID {
		k.Fatalf("started again as %+v, lease %+v", out, l)
	}
	k.append(l, store.Running, time.Time{}, rec(store.Intent, "a", "3"))
	k.crash()
	got := k.claimed("next", r.ID)
	_, rs := k.load(r.ID)
	if d := cmp.Diff([]string{"intent a", "end ", "person ", "intent a"}, paths(rs)); d != "" {
		k.Fatal(d)
	}
	k.append(got[r.ID], store.Done, time.Time{})
	if _, _, err := k.Store.Rearm(k.ctx, r.ID, "w"); err == nil {
		k.Fatal("a run that is done started again")
	}
}

func onceRace(k *kit) {
	const n = 16
	var mu sync.Mutex
	var won []store.RunID
	dups := 0
	runs := make([]store.Run, n)
	for i := range runs {
		runs[i] = k.run()
		runs[i].Once = &store.Once{Scope: "route/me", Key: "k-1", BodyHash: []byte{1}, Until: Start().Add(time.Hour)}
	}
	var wg sync.WaitGroup
	for i := range runs {
		wg.Go(func() {
			_, _, err := k.Store.Accept(k.ctx, runs[i], rec(store.Accepted, "", "1"))
			mu.Lock()
			defer mu.Unlock()
			var d *store.Duplicate
			switch {
			case err == nil:
				won = append(won, runs[i].ID)
			case errors.As(err, &d) && d.SameBody:
				dups++
			default:
				k.Error(err)
			}
		})
	}
	wg.Wait()
	if len(won) != 1 || dups != n-1 {
		k.Fatalf("%d accepted, %d duplicates", len(won), dups)
	}
	k.crash()
	for _, c := range []struct {
		scope, key string
		hash       byte
		dup, same  bool
	}{{"route/me", "k-1", 1, true, true}, {"route/me", "k-1", 2, true, false}, {"route/you", "k-1", 1, false, false}, {"route/mek", "-1", 1, false, false}} {
		r := k.run()
		r.Once = &store.Once{Scope: c.scope, Key: c.key, BodyHash: []byte{c.hash}, Until: Start().Add(time.Hour)}
		_, _, err := k.Store.Accept(k.ctx, r)
		var d *store.Duplicate
		if got := errors.As(err, &d); got != c.dup || got && (d.Run != won[0] || d.SameBody != c.same) {
			k.Fatalf("%+v: got %v", c, err)
		}
		if c.dup {
			_, _, err := k.Store.Load(k.ctx, r.ID)
			k.is(err, store.ErrNoRun)
		}
	}
	id, hash, ok, err := k.Store.OnceRun(k.ctx, "route/me", "k-1")
	if err != nil || !ok || id != won[0] || !bytes.Equal(hash, []byte{1}) {
		k.Fatalf("looking the key up gave %d %v %v %v", id, hash, ok, err)
	}
	if _, _, ok, _ := k.Store.OnceRun(k.ctx, "route/me", "k-2"); ok {
		k.Fatal("found a key that nobody used")
	}
}

func onceWindow(k *kit) {
	once := &store.Once{Scope: "s", Key: "k", BodyHash: []byte{1}, Until: Start().Add(time.Hour)}
	r := k.run()
	r.Once = once
	_, l := k.accept(r)
	k.pass(2 * time.Hour)
	second := k.run()
	second.Once = &store.Once{Scope: "s", Key: "k", BodyHash: []byte{1}, Until: k.Clock.Now().Add(time.Hour)}
	var d *store.Duplicate
	if _, _, err := k.Store.Accept(k.ctx, second); !errors.As(err, &d) {
		k.Fatalf("a live run lost its key: %v", err)
	}
	k.append(l, store.Done, time.Time{})
	if _, _, ok, _ := k.Store.OnceRun(k.ctx, "s", "k"); ok {
		k.Fatal("the key of an ended run outlives its window")
	}
	k.accept(second)
	if id, _, ok, _ := k.Store.OnceRun(k.ctx, "s", "k"); !ok || id != second.ID {
		k.Fatalf("the key belongs to %d", id)
	}
}

func pinned(k *kit) {
	for _, d := range []string{"v1", "v2"} {
		k.must(k.Store.PutVersion(k.ctx, store.Version{Digest: d, Route: "route", Label: 1, Source: []byte(d)}))
	}
	move := func(to string) store.Record {
		r := rec(store.Person, "", `{"act":"migrate"}`)
		r.Version = to
		return r
	}
	r := k.waiting(k.run(), time.Time{}, rec(store.Rest, "a", "1"))
	_, l, err := k.Store.ClaimOne(k.ctx, "w", r.ID)
	k.must(err)
	// Neither half of what is refused is done.
	k.is(k.Store.Append(k.ctx, l, store.Waiting, "", Start(), move("v3")), store.ErrNoVersion)
	stale := l
	stale.Epoch--
	k.is(k.Store.Append(k.ctx, stale, store.Waiting, "", Start(), move("v2")), store.ErrFenced)
	if got, rs := k.load(r.ID); got.Version != "v1" || len(rs) != 1 {
		k.Fatalf("a refused move left version %s and %v", got.Version, paths(rs))
	}
	k.append(l, store.Waiting, Start(), move("v2"))
	for range 2 {
		if got, rs := k.load(r.ID); got.Version != "v2" || got.State != store.Waiting || len(rs) != 2 {
			k.Fatalf("moved, it is %+v with %v", got, paths(rs))
		}
		if n, err := k.Store.DropVersions(k.ctx, nil); err != nil {
			k.Fatal(n, err)
		}
		if _, err := k.Store.GetVersion(k.ctx, "v2"); err != nil {
			k.Fatalf("the version that the run needs: %v", err)
		}
		k.crash()
	}
	_, ls, err := k.Store.Claim(k.ctx, "w", 1)
	k.must(err)
	if len(ls) != 1 || ls[0].Run != r.ID {
		k.Fatalf("claimed %v, want the moved run", ls)
	}
}

func find(k *kit) {
	var ids []store.RunID
	for i := range 10 {
		r := k.run()
		r.Route = []string{"a", "b"}[i%2]
		_, l := k.accept(r)
		if i%3 == 0 {
			k.append(l, store.Parked, time.Time{})
		}
		ids = append(ids, r.ID)
	}
	for _, c := range []struct {
		f    store.Filter
		want []int
	}{
		{store.Filter{Limit: 3}, []int{9, 8, 7}},
		{store.Filter{Limit: 3, Before: ids[7]}, []int{6, 5, 4}},
		{store.Filter{Route: "a", States: []store.State{store.Parked}}, []int{6, 0}},
		{store.Filter{States: []store.State{store.Parked, store.Failed}}, []int{9, 6, 3, 0}},
		{store.Filter{States: []store.State{store.Done}}, nil},
	} {
		rs, err := k.Store.Find(k.ctx, c.f)
		k.must(err)
		var got, want []store.RunID
		for _, r := range rs {
			got = append(got, r.ID)
			if r.Head != nil {
				k.Fatal("a listing carries heads")
			}
		}
		for _, i := range c.want {
			want = append(want, ids[i])
		}
		if d := cmp.Diff(want, got); d != "" {
			k.Fatalf("%+v (-want +got):\n%s", c.f, d)
		}
	}
}

func tooLarge(k *kit) {
	r := k.run()
	_, _, err := k.Store.Accept(k.ctx, r, store.Record{Kind: store.Result, Path: "x", Body: make([]byte, 8<<20+1)})
	k.is(err, store.ErrTooLarge)
	_, l := k.accept(r)
	k.is(k.Store.Append(k.ctx, l, store.Done, "", time.Time{}, store.Record{Kind: store.Result, Path: "x", Body: make([]byte, 8<<20+1)}), store.ErrTooLarge)
	k.append(l, store.Running, time.Time{}, store.Record{Kind: store.Result, Path: "x", Body: make([]byte, 8<<20)})
	k.state(r.ID, store.Running)
}

func wakes(k *kit) {
	n := 0
	stop := k.Store.OnWake(func() { n++ })
	c := k.Store.Wake()
	for len(c) > 0 {
		<-c
	}
	_, l := k.accept(k.run())
	k.append(l, store.Running, time.Time{}, rec(store.Intent, "a", "1"))
	if n != 0 || len(c) != 0 {
		k.Fatalf("woken %d times by a run that is on its way", n)
	}
	k.append(l, store.Waiting, Start().Add(time.Hour))
	if n != 1 || len(c) != 1 {
		k.Fatalf("woken %d times by a timer, %d in the channel", n, len(c))
	}
	_, l = k.accept(k.run(), store.Record{Kind: store.OutcomeRec, Path: "e", Outbox: []store.Outbox{{ID: "1", Topic: "t", Body: []byte("1")}}})
	if n != 2 {
		k.Fatalf("woken %d times by an outbox row", n-1)
	}
	stop()
	k.append(l, store.Waiting, Start().Add(time.Hour))
	if n != 2 || len(c) != 1 {
		k.Fatalf("woken after stop, or %d in the channel", len(c))
	}
}

func publicID(k *kit) {
	seen := make(map[string]bool)
	for _, id := range []store.RunID{1, 2, 3, 1 << 20, 1<<43 - 1} {
		s := k.Store.PublicID(id)
		if seen[s] || strings.ToLower(s) != s {
			k.Fatalf("run %d has the id %q", id, s)
		}
		seen[s] = true
		if got, err := k.Store.ParseID(s); err != nil || got != id {
			k.Fatalf("%q reads as %d, %v; want %d", s, got, err, id)
		}
		for i := range s {
			for _, c := range []byte("a7") {
				if forged := s[:i] + string(c) + s[i+1:]; forged != s {
					if got, err := k.Store.ParseID(forged); !errors.Is(err, store.ErrNoRun) {
						k.Fatalf("forged id %q of run %d reads as %d, %v", forged, id, got, err)
					}
				}
			}
		}
	}
	for _, s := range []string{"", "1", "!", strings.Repeat("a", 1000), "A" + k.Store.PublicID(1)[1:]} {
		if _, err := k.Store.ParseID(s); !errors.Is(err, store.ErrNoRun) {
			k.Fatalf("%q: %v", s, err)
		}
	}
	a, b := k.Store.Key("1", "pay", "1"), k.Store.Key("1", "pay", "2")
	if a == b || a != k.Store.Key("1", "pay", "1") || len(a) != 36 || k.Store.Key("1p", "ay", "1") == a {
		k.Fatalf("keys %q and %q", a, b)
	}
}
