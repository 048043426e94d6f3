package storetest

import (
	"fmt"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dime-bus/dime/internal/store"
)

func eventTests() []entry {
	return []entry{
		{"an event wakes every run whose key is equal", eventWakes},
		{"an event that comes first is found", eventFirst},
		{"an event that reaches a running run is found when it rests", eventWhileRunning},
		{"an event that reaches a run in a person's hands is found after a crash", eventWhileHeld},
		{"a repeated event is stored once and wakes nobody", eventRepeated},
		{"a run takes an event once, the earliest first", eventTaken},
		{"event against time-out: the first commit wins", eventTimeout},
		{"a parked run is not woken, and finds the event later", eventParked},
		{"an ended or unwaited run is not woken", eventGone},
		{"waits and events that race never miss each other", eventRace},
		{"an event that is held outlives its time until it is taken or settled", eventHeld},
		{"a new shape finds what is stored", reindex},
		{"an event settles its delivery in its commit", eventAck},
		{"the outbox gives rows in order until they are published", outbox},
		{"a route fires once at an instant", fires},
	}
}

func wait(path, key string) store.Record {
	return store.Record{Kind: store.Rest, Path: path, At: Start(), Wait: &store.Wait{Type: "t", Shape: "iuv", Key: key, Since: Start()}}
}

func event(id, key string) store.Event {
	return store.Event{ID: id, Type: "t", At: Start(), Body: []byte(`{"id":"` + id + `"}`), Keys: []store.EventKey{{Shape: "iuv", Key: key}}, Shapes: []string{"iuv"}}
}

func (k *kit) deliver(e store.Event, want int) {
	k.Helper()
	n, err := k.Store.Deliver(k.ctx, e)
	k.must(err)
	if n != want {
		k.Fatalf("event %s woke %d runs, want %d", e.ID, n, want)
	}
}

func (k *kit) held(want ...string) []store.Candidate {
	k.Helper()
	es, err := k.Store.Held(k.ctx, 0, 10)
	k.must(err)
	var got []string
	for _, e := range es {
		got = append(got, e.ID)
		if e.Type != "t" || len(e.Body) > 0 || !e.At.Equal(Start()) {
			k.Fatalf("held %+v", e)
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		k.Fatalf("held (-want +got):\n%s", d)
	}
	return es
}

func eventHeld(k *kit) {
	for _, id := range []string{"1", "2", "3", "4"} {
		e := event(id, "k"+id)
		e.Hold, e.Keep = id != "4", time.Hour
		k.deliver(e, 0)
	}
	k.held("1", "2", "3")
	r := k.waiting(k.run(), time.Time{}, wait("w", "k2"))
	l := k.claim("w")[r.ID]
	k.append(l, store.Done, time.Time{}, store.Record{Kind: store.Woken, Path: "w", At: Start(), Unwait: true, Taken: k.candidates(r.ID, "w", "2")[0].Seq})
	k.pass(48 * time.Hour)
	for {
		n, err := k.Store.Expire(k.ctx, store.Keep{Other: k.Clock.Now().Add(-time.Hour)}, 10)
		k.must(err)
		if n == 0 {
			break
		}
	}
	k.crash()
	es := k.held("1", "3")
	for _, want := range []bool{true, false} {
		if was, err := k.Store.SettleEvent(k.ctx, es[0].Seq); err != nil || was != want {
			k.Fatalf("settled %v, %v; want %v", was, err, want)
		}
	}
	if es, err := k.Store.Held(k.ctx, es[0].Seq, 10); err != nil || len(es) != 1 {
		k.Fatal(es, err)
	}
	k.held("3")
	r = k.waiting(k.run(), time.Time{}, wait("w", "k3")) // it comes late and is found, for it waits since before
	k.candidates(r.ID, "w", "3")
}

func (k *kit) candidates(id store.RunID, path string, want ...string) []store.Candidate {
	k.Helper()
	cs, err := k.Store.Candidates(k.ctx, id, path)
	k.must(err)
	var got []string
	for _, c := range cs {
		got = append(got, c.ID)
		if c.Type != "t" || string(c.Body) != `{"id":"`+c.ID+`"}` || !c.At.Equal(Start()) {
			k.Fatalf("candidate %+v", c)
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		k.Fatalf("candidates of run %d at %q (-want +got):\n%s", id, path, d)
	}
	return cs
}

func eventWakes(k *kit) {
	a := k.waiting(k.run(), time.Time{}, wait("w", "1"))
	b := k.waiting(k.run(), Start().Add(time.Hour), wait("w", "1"))
	c := k.waiting(k.run(), time.Time{}, wait("w", "2"))
	k.deliver(event("e1", "3"), 0)
	other := event("e2", "1")
	other.Type = "u"
	k.deliver(other, 0)
	other = event("e3", "1")
	other.Keys[0].Shape = "other"
	k.deliver(other, 0)
	k.deliver(event("e4", "1"), 2)
	k.crash() // between event stored and run woken
	ls := k.claimed("w", a.ID, b.ID)
	k.candidates(a.ID, "w", "e4")
	k.candidates(c.ID, "w")
	k.candidates(a.ID, "elsewhere")
	// The claimer finds nothing that suits (the remainder of `where`): it rests.
	k.append(ls[a.ID], store.Waiting, time.Time{})
	k.claimed("w")
}

func eventFirst(k *kit) {
	_, l := k.accept(k.run())
	k.deliver(event("e1", "1"), 0)
	k.append(l, store.Waiting, time.Time{}, wait("w", "1"))
	l = k.claimed("w", l.Run)[l.Run]
	k.candidates(l.Run, "w", "e1")
	k.append(l, store.Done, time.Time{})
	// An event from before the wait's Since does not count.
	k.pass(time.Minute)
	_, l = k.accept(k.run())
	late := wait("w", "1")
	late.Wait.Since = k.Clock.Now()
	k.append(l, store.Waiting, time.Time{}, late)
	k.claimed("w")
	k.candidates(l.Run, "w")
	r := k.run()
	r.State = store.Waiting
	k.deliver(event("e2", "9"), 0)
	k.accept(r, wait("w", "9"))
	k.claimed("w", r.ID)
}

func eventWhileRunning(k *kit) {
	_, l := k.accept(k.run(), wait("all/a/w", "1"))
	k.deliver(event("e1", "1"), 1)
	k.append(l, store.Running, time.Time{}, rec(store.Intent, "all/b/x", "1"))
	k.claimed("w")
	k.append(l, store.Waiting, Start().Add(time.Hour), rec(store.OutcomeRec, "all/b/x", "1"))
	l = k.claimed("w", l.Run)[l.Run]
	k.candidates(l.Run, "all/a/w", "e1")
	k.deliver(event("e2", "1"), 1)
	k.crash() // while it runs
	k.claimed("w", l.Run)
	k.candidates(l.Run, "all/a/w", "e1", "e2")
}

func eventWhileHeld(k *kit) {
	r := k.waiting(k.run(), time.Time{}, wait("w", "1"))
	_, _, err := k.Store.ClaimOne(k.ctx, "person", r.ID)
	k.must(err)
	k.deliver(event("e1", "1"), 1)
	k.crash()
	l := k.claimed("w", r.ID)[r.ID]
	k.append(l, store.Waiting, time.Time{})
	_, l, err = k.Store.ClaimOne(k.ctx, "person", r.ID)
	k.must(err)
	k.deliver(event("e2", "1"), 1)
	k.claimed("w") // it is held
	k.append(l, store.Waiting, time.Time{})
	k.claimed("w", r.ID)
}

func eventRepeated(k *kit) {
	r := k.waiting(k.run(), time.Time{}, wait("w", "1"))
	k.deliver(event("e1", "1"), 1)
	l := k.claimed("w", r.ID)[r.ID]
	k.append(l, store.Waiting, time.Time{})
	for range 2 {
		k.deliver(event("e1", "1"), 0)
		k.claimed("w")
		k.crash()
	}
	k.candidates(r.ID, "w", "e1")
	other := event("e1", "1") // the same id under another type is another event
	other.Type = "u"
	k.deliver(other, 0)
}

func eventTaken(k *kit) {
	r := k.waiting(k.run(), time.Time{}, wait("a", "1"), wait("b", "1"))
	other := k.waiting(k.run(), time.Time{}, wait("a", "1"))
	k.deliver(event("e1", "1"), 2)
	k.deliver(event("e2", "1"), 2)
	l := k.claimed("w", r.ID, other.ID)[r.ID]
	first := k.candidates(r.ID, "a", "e1", "e2")[0]
	k.append(l, store.Running, time.Time{}, store.Record{Kind: store.Woken, Path: "a", Unwait: true, Taken: first.Seq, Body: first.Body})
	k.candidates(r.ID, "a")
	second := k.candidates(r.ID, "b", "e2")[0]
	k.append(l, store.Waiting, time.Time{}, store.Record{Kind: store.Woken, Path: "b", Unwait: true, Taken: second.Seq, Body: second.Body})
	k.candidates(other.ID, "a", "e1", "e2")
	k.deliver(event("e3", "1"), 1)
	k.append(k.reclaim(r.ID), store.Waiting, time.Time{}, wait("c", "1"))
	k.candidates(r.ID, "c", "e3")
}

func (k *kit) reclaim(id store.RunID) store.Lease {
	k.Helper()
	_, l, err := k.Store.ClaimOne(k.ctx, "w", id)
	k.must(err)
	return l
}

func eventTimeout(k *kit) {
	r := k.waiting(k.run(), Start().Add(time.Minute), wait("w", "1"))
	k.pass(time.Minute)
	l := k.claimed("w", r.ID)[r.ID]
	k.deliver(event("e1", "1"), 1) // it comes while the time-out is being written
	k.append(l, store.Running, time.Time{}, store.Record{Kind: store.Expired, Path: "w", Unwait: true})
	k.candidates(r.ID, "w")
	k.deliver(event("e2", "1"), 0)
	k.append(l, store.Done, time.Time{})
	// The other way round: the holder whose lease was taken can't expire it.
	r = k.waiting(k.run(), k.Clock.Now().Add(time.Minute), wait("w", "7"))
	k.pass(time.Minute)
	old := k.claimed("w", r.ID)[r.ID]
	k.pass(k.Lease + time.Second)
	k.deliver(event("e3", "7"), 1)
	l = k.claimed("x", r.ID)[r.ID]
	e := k.candidates(r.ID, "w", "e3")[0]
	k.append(l, store.Running, time.Time{}, store.Record{Kind: store.Woken, Path: "w", Unwait: true, Taken: e.Seq})
	k.is(k.Store.Append(k.ctx, old, store.Running, "", time.Time{}, store.Record{Kind: store.Expired, Path: "w", Unwait: true}), store.ErrFenced)
	if _, rs := k.load(r.ID); len(rs) != 2 {
		k.Fatalf("the journal has %v", paths(rs))
	}
}

func eventParked(k *kit) {
	_, l := k.accept(k.run(), wait("w", "1"))
	k.append(l, store.Parked, time.Time{})
	k.deliver(event("e1", "1"), 0)
	k.claimed("w")
	k.candidates(l.Run, "w", "e1")
	k.state(l.Run, store.Parked)
	// One that is reached and parks then rests, too.
	_, l = k.accept(k.run(), wait("w", "2"))
	k.deliver(event("e2", "2"), 1)
	k.append(l, store.Parked, time.Time{})
	k.claimed("w")
}

func eventGone(k *kit) {
	_, l := k.accept(k.run(), wait("w", "1"))
	k.append(l, store.Done, time.Time{})
	k.deliver(event("e1", "1"), 0)
	r := k.waiting(k.run(), time.Time{}, wait("w", "2"))
	k.append(k.reclaim(r.ID), store.Waiting, time.Time{}, store.Record{Kind: store.Joined, Path: "w", Unwait: true})
	k.deliver(event("e2", "2"), 0)
	k.claimed("w")
}

func eventRace(k *kit) {
	const n = 40
	var wg sync.WaitGroup
	for i := range n {
		_, l := k.accept(k.run())
		key := fmt.Sprint(i)
		wg.Go(func() {
			if _, err := k.Store.Deliver(k.ctx, event("e"+key, key)); err != nil {
				k.Error(err)
			}
		})
		wg.Go(func() {
			if err := k.Store.Append(k.ctx, l, store.Waiting, "", time.Time{}, wait("w", key)); err != nil {
				k.Error(err)
			}
		})
	}
	wg.Wait()
	if got := k.claim("w"); len(got) != n {
		k.Fatalf("%d of %d waits met their event", len(got), n)
	}
}

func reindex(k *kit) {
	for i := range 300 {
		e := event(fmt.Sprintf("e%d", i), "1")
		e.Keys = nil
		k.deliver(e, 0)
	}
	r := k.waiting(k.run(), time.Time{}, wait("w", "e250"))
	k.claimed("w")
	keys := func(body []byte) []store.EventKey {
		return []store.EventKey{{Shape: "iuv", Key: string(body[7 : len(body)-2])}}
	}
	for range 2 { // doing it twice changes nothing
		k.must(k.Store.Reindex(k.ctx, "t", "iuv", keys))
		k.candidates(r.ID, "w", "e250")
	}
	k.must(k.Store.Reindex(k.ctx, "nobody's", "iuv", keys))
	k.claimed("w", r.ID)
}

func eventAck(k *kit) {
	k.must(k.Store.Bind(k.ctx, "q", "t"))
	k.must(k.Store.Publish(k.ctx, store.Message{ID: "e1", Topic: "t", Body: []byte("1")}))
	ms, err := k.Store.Receive(k.ctx, "q", 10)
	k.must(err)
	e := event("e1", "1")
	e.Ack = &store.Ack{Queue: "q", ID: ms[0].Seq}
	k.deliver(e, 0)
	k.crash()
	k.deliver(e, 0) // settled already
	if ms, err = k.Store.Receive(k.ctx, "q", 10); err != nil || len(ms) != 0 {
		k.Fatalf("received %v, %v again", ms, err)
	}
}

func outbox(k *kit) {
	emit := func(id string) store.Record {
		return store.Record{Kind: store.OutcomeRec, Path: id, Outbox: []store.Outbox{{ID: id, Topic: "t." + id, Body: []byte(id), Meta: map[string]string{"key": id}}}}
	}
	r, l := k.accept(k.run(), emit("a"), emit("b"))
	k.append(l, store.Done, time.Time{}, emit("c"))
	k.is(k.Store.Append(k.ctx, l, store.Done, "", time.Time{}, emit("x")), store.ErrFenced)
	rows := func(want ...string) []store.OutboxRow {
		k.Helper()
		rs, err := k.Store.Outbox(k.ctx, 10)
		k.must(err)
		var got []string
		for _, o := range rs {
			got = append(got, o.ID)
			if o.Topic != "t."+o.ID || string(o.Body) != o.ID || o.Meta["key"] != o.ID || o.Run != r.ID {
				k.Fatalf("outbox row %+v", o)
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			k.Fatalf("outbox (-want +got):\n%s", d)
		}
		return rs
	}
	rs := rows("a", "b", "c")
	k.must(k.Store.Postpone(k.ctx, rs[0].Seq, Start().Add(time.Minute)))
	k.must(k.Store.Published(k.ctx, rs[1].Seq))
	k.crash()
	rows("c")
	if at, ok, err := k.Store.NextDue(k.ctx); err != nil || !ok || !at.Equal(Start().Add(time.Minute)) {
		k.Fatalf("next due %v, %v, %v", at, ok, err)
	}
	k.pass(time.Minute)
	rs = rows("c", "a")
	if rs[1].Attempts != 1 {
		k.Fatalf("%d attempts", rs[1].Attempts)
	}
	k.must(k.Store.Published(k.ctx, rs[0].Seq, rs[1].Seq))
	rows()
}

func fires(k *kit) {
	if _, ok, err := k.Store.LastFired(k.ctx, "r"); ok || err != nil {
		k.Fatal("fired before any time", err)
	}
	var mu sync.Mutex
	mine := 0
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			ok, err := k.Store.Fire(k.ctx, "r", Start())
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
		k.Fatalf("%d fired", mine)
	}
	k.crash()
	for _, c := range []struct {
		route string
		at    time.Time
		want  bool
	}{{"r", Start(), false}, {"s", Start(), true}, {"r", Start().Add(time.Hour), true}} {
		if ok, err := k.Store.Fire(k.ctx, c.route, c.at); err != nil || ok != c.want {
			k.Fatalf("%+v: %v, %v", c, ok, err)
		}
	}
	if at, ok, err := k.Store.LastFired(k.ctx, "r"); err != nil || !ok || !at.Equal(Start().Add(time.Hour)) {
		k.Fatal(at, ok, err)
	}
}
