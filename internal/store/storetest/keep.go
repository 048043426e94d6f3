package storetest

import (
	"bytes"
	"fmt"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dime-bus/dime/internal/store"
)

func keepTests() []entry {
	return []entry{
		{"versions stay while a run needs them", versions},
		{"blobs come back, once a content", blobs},
		{"a table's rows are its owner's, sealed, and lose no update", tables},
		{"nothing personal is readable at rest", canaries},
		{"an erased person's bodies are gone, skeletons stay", erasure},
		{"a run of two persons is readable until both are erased", erasureOfTwo},
		{"persons who come at once get one key each", personRace},
		{"retention takes what is over and leaves dead letters", retention},
		{"each route is kept as long as it says", retentionByRoute},
		{"a full disk refuses, loses nothing and serves reads", fullDisk},
	}
}

func versions(k *kit) {
	for i, d := range []string{"v1", "v2", "v3"} {
		k.must(k.Store.PutVersion(k.ctx, store.Version{Digest: d, Route: "r", Label: i + 1, Source: []byte("source " + d)}))
		k.pass(time.Minute)
	}
	k.must(k.Store.PutVersion(k.ctx, store.Version{Digest: "v1", Route: "r", Label: 1, Source: []byte("source v1")}))
	r := k.run() // on v1
	k.accept(r)
	if n, err := k.Store.DropVersions(k.ctx, map[string]bool{"v3": true}); err != nil || n != 1 {
		k.Fatalf("dropped %d, %v", n, err)
	}
	k.crash()
	vs, err := k.Store.ListVersions(k.ctx, "r")
	k.must(err)
	var got []string
	for _, v := range vs {
		got = append(got, fmt.Sprintf("%s %d %s", v.Digest, v.Label, v.Source))
	}
	if d := cmp.Diff([]string{"v1 1 source v1", "v3 3 source v3"}, got); d != "" {
		k.Fatal(d)
	}
	if !vs[0].First.Equal(Start()) || !vs[0].Last.Equal(Start().Add(3*time.Minute)) {
		k.Fatalf("v1 was seen from %v to %v", vs[0].First, vs[0].Last)
	}
	_, err = k.Store.GetVersion(k.ctx, "v2")
	k.is(err, store.ErrNoVersion)
	v, err := k.Store.GetVersion(k.ctx, "v3")
	k.must(err)
	if string(v.Source) != "source v3" {
		k.Fatal(v)
	}
}

func blobs(k *kit) {
	for _, b := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte("photo"), 100_000)} {
		d, err := k.Store.PutBlob(k.ctx, b)
		k.must(err)
		if again, err := k.Store.PutBlob(k.ctx, b); err != nil || again != d {
			k.Fatalf("the same bytes are %s and %s, %v", d, again, err)
		}
		k.crash()
		got, err := k.Store.GetBlob(k.ctx, d)
		k.must(err)
		if !bytes.Equal(got, b) {
			k.Fatalf("%d bytes came back as %d", len(b), len(got))
		}
	}
	for _, d := range []string{"", "sha256:00", "../../etc/passwd"} {
		_, err := k.Store.GetBlob(k.ctx, d)
		k.is(err, store.ErrNoBlob)
	}
}

const canary = "RSSMRA80A01L736U"

// personal writes a canary through every door.
func (k *kit) personal() store.RunID {
	r := k.run()
	r.Subjects, r.OrderKey, r.Head = []string{canary}, canary, []byte(`{"tax_code":"`+canary+`"}`)
	r.Once = &store.Once{Scope: "s" + canary, Key: canary, BodyHash: []byte{1}, Until: Start().Add(time.Hour)}
	body := `{"tax_code":"` + canary + `"}`
	w := wait("w", canary)
	w.Body = []byte(body)
	_, l := k.accept(r, rec(store.Intent, "a", body),
		store.Record{Kind: store.OutcomeRec, Path: "e", Outbox: []store.Outbox{{ID: canary, Topic: "t", Body: []byte(body), Meta: map[string]string{"key": canary}}}},
		store.Record{Kind: store.Result, Path: "big", Body: bytes.Repeat([]byte(body), 3000)}, w)
	k.deliver(event(canary, canary), 1)
	k.append(l, store.Waiting, time.Time{})
	return r.ID
}

func canaries(k *kit) {
	id := k.personal()
	_, err := k.Store.PutBlob(k.ctx, []byte("a letter of "+canary))
	k.must(err)
	k.must(k.Store.Bind(k.ctx, "q", "t"))
	k.must(k.Store.Publish(k.ctx, store.Message{ID: canary, Topic: "t", Body: []byte(canary), Meta: map[string]string{"key": canary}}))
	ms, err := k.Store.Receive(k.ctx, "q", 1)
	k.must(err)
	k.must(k.Store.ParkMessage(k.ctx, store.Ack{Queue: "q", ID: ms[0].Seq}, "reason"))
	if run, rs := k.load(id); !bytes.Contains(run.Head, []byte(canary)) || !bytes.Contains(rs[0].Body, []byte(canary)) {
		k.Fatal("the canary is not readable even with the key")
	}
	if k.AtRest == nil {
		return
	}
	b := k.AtRest(k.T)
	if !bytes.Contains(b, []byte("route")) {
		k.Fatal("what is at rest lacks even the clear names: the search is blind")
	}
	if i := bytes.Index(b, []byte(canary)); i >= 0 {
		k.Fatalf("at rest, at byte %d: %q", i, b[max(0, i-40):min(len(b), i+40)])
	}
}

func erasure(k *kit) {
	blob := []byte("a letter of " + canary)
	digest, err := k.Store.PutBlob(k.ctx, blob)
	k.must(err)
	r := k.run()
	r.Subjects = []string{canary}
	r.Head = []byte(`{"file":{"blob":"` + digest + `"}}`)
	_, l := k.accept(r, rec(store.Intent, "a", canary))
	other := k.run()
	k.accept(other, rec(store.Intent, "a", "1"))
	k.append(l, store.Done, time.Time{}, rec(store.End, "", "1"))
	k.must(k.Store.Erase(k.ctx, canary))
	k.must(k.Store.Erase(k.ctx, "nobody"))
	for range 2 {
		run, rs, err := k.Store.Load(k.ctx, r.ID)
		k.is(err, store.ErrErased)
		if run.State != store.Done || run.Head != nil || len(rs) != 2 || rs[0].Path != "a" || rs[0].Body != nil {
			k.Fatalf("left of the run: %+v %+v", run, rs)
		}
		_, _, err = k.Store.Rearm(k.ctx, r.ID, "w")
		k.is(err, store.ErrErased)
		_, err = k.Store.GetBlob(k.ctx, digest)
		k.is(err, store.ErrNoBlob)
		k.load(other.ID)
		k.crash()
	}
	// The person comes back: what is new is readable, what was erased is not.
	back := k.run()
	back.Subjects = []string{canary}
	k.accept(back, rec(store.Intent, "a", canary))
	k.crash()
	k.load(back.ID)
	_, _, err = k.Store.Load(k.ctx, r.ID)
	k.is(err, store.ErrErased)
}

func erasureOfTwo(k *kit) {
	r := k.run()
	r.Subjects = []string{"one", "two"}
	k.accept(r, rec(store.Intent, "a", "1"))
	k.must(k.Store.Erase(k.ctx, "one"))
	k.crash()
	k.load(r.ID)
	k.must(k.Store.Erase(k.ctx, "two"))
	k.crash()
	_, _, err := k.Store.Load(k.ctx, r.ID)
	k.is(err, store.ErrErased)
}

func personRace(k *kit) {
	runs := make([]store.Run, 40)
	for i := range runs {
		runs[i] = k.run()
		runs[i].Subjects = []string{fmt.Sprint("person ", i%3), fmt.Sprint("person ", (i+1)%3)}
	}
	var wg sync.WaitGroup
	for i := range runs {
		wg.Go(func() {
			if _, _, err := k.Store.Accept(k.ctx, runs[i], rec(store.Intent, "a", "1")); err != nil {
				k.Error(err)
			}
		})
		if i == 20 {
			wg.Go(func() {
				if err := k.Store.Erase(k.ctx, "person 0"); err != nil {
					k.Error(err)
				}
			})
		}
	}
	wg.Wait()
	k.crash()
	for _, r := range runs {
		k.load(r.ID) // each has a subject who was not erased
	}
}

func retention(k *kit) {
	blob, err := k.Store.PutBlob(k.ctx, []byte("kept by a dead letter"))
	k.must(err)
	free, err := k.Store.PutBlob(k.ctx, []byte("named by a run that goes"))
	k.must(err)
	end := func(s store.State, body string) store.RunID {
		r := k.run()
		r.Once = &store.Once{Scope: "s", Key: fmt.Sprint(r.ID), BodyHash: []byte{1}, Until: k.Clock.Now().Add(time.Hour)}
		_, l := k.accept(r, rec(store.Result, "a", body), wait("w", "1"), rec(store.Result, "big", string(bytes.Repeat([]byte("x"), 70_000))))
		k.append(l, s, time.Time{})
		return r.ID
	}
	done, cancelled := end(store.Done, `"`+free+`"`), end(store.Cancelled, "1")
	failed, parked, settled := end(store.Failed, `"`+blob+`"`), end(store.Parked, "1"), end(store.Failed, "1")
	_, l, err := k.Store.ClaimOne(k.ctx, "w", settled)
	k.must(err)
	k.append(l, store.Settled, time.Time{}, rec(store.Person, "", `"settle"`))
	if _, _, err := k.Store.Rearm(k.ctx, settled, "w", rec(store.Person, "", `"restart"`)); err == nil {
		k.Fatal("a settled run begins anew")
	}
	k.deliver(event("e1", "1"), 0)
	k.pass(24 * time.Hour)
	young := end(store.Done, "1")
	expire := func(max int) (n int) {
		k.Helper()
		for {
			m, err := k.Store.Expire(k.ctx, store.Keep{Other: Start().Add(time.Hour)}, max)
			k.must(err)
			if n += m; m == 0 {
				return n
			}
		}
	}
	if n := expire(1); n == 0 {
		k.Fatal("nothing was deleted")
	}
	for id, want := range map[store.RunID]bool{done: false, cancelled: false, settled: false, failed: true, parked: true, young: true} {
		if _, _, err := k.Store.Load(k.ctx, id); (err == nil) != want {
			k.Fatalf("run %d: %v, want it kept: %v", id, err, want)
		}
	}
	_, err = k.Store.GetBlob(k.ctx, free)
	k.is(err, store.ErrNoBlob)
	_, err = k.Store.GetBlob(k.ctx, blob)
	k.must(err)
	if _, _, ok, _ := k.Store.OnceRun(k.ctx, "s", fmt.Sprint(done)); ok {
		k.Fatal("the key of a deleted run is still taken")
	}
	// Messages: 7 days, or until their queue has them.
	k.must(k.Store.Bind(k.ctx, "q", "t"))
	k.must(k.Store.Publish(k.ctx, store.Message{ID: "m1", Topic: "t"}, store.Message{ID: "m2", Topic: "t"}))
	k.pass(8 * 24 * time.Hour)
	k.must(k.Store.Publish(k.ctx, store.Message{ID: "m3", Topic: "t"}))
	expire(10)
	k.crash()
	ms, err := k.Store.Receive(k.ctx, "q", 10)
	k.must(err)
	if len(ms) != 3 {
		k.Fatalf("%d of 3 unread messages survived retention", len(ms))
	}
	for _, m := range ms {
		k.must(k.Store.Settle(k.ctx, store.Ack{Queue: "q", ID: m.Seq}))
	}
	expire(10)
	log, err := k.Store.Log(k.ctx, "t", 0, 10)
	k.must(err)
	if len(log) != 1 || log[0].ID != "m3" {
		k.Fatalf("the log has %v", log)
	}
}

func fullDisk(k *kit) {
	if k.Full == nil {
		k.Skip("this store can't be given a small disk")
	}
	s := k.Full(k.T)
	var ids []store.RunID
	var err error
	var last store.Run
	for range 10_000 {
		var id store.RunID
		if id, err = s.Reserve(k.ctx, 1); err != nil {
			break
		}
		last = store.Run{ID: id, Version: "v", Route: "r", State: store.Running, Once: &store.Once{Scope: "s", Key: fmt.Sprint(id), Until: Start().Add(time.Hour)}}
		if _, _, err = s.Accept(k.ctx, last, rec(store.Result, "a", string(bytes.Repeat([]byte("0123456789abcdef"), 1000)))); err != nil {
			break
		}
		ids = append(ids, id)
		// What does not compress fills faster.
		if _, err = s.PutBlob(k.ctx, random(id, 8_000)); err != nil {
			break
		}
	}
	k.is(err, store.ErrFull)
	if len(ids) == 0 {
		k.Fatal("nothing was accepted before the disk was full")
	}
	for _, id := range ids {
		if _, _, err := s.Load(k.ctx, id); err != nil {
			k.Fatalf("a full disk lost run %d: %v", id, err)
		}
	}
	if _, _, ok, err := s.OnceRun(k.ctx, "s", fmt.Sprint(ids[0])); !ok || err != nil {
		k.Fatal(ok, err)
	}
}

// random is bytes that do not compress, the same for the same seed.
func random(seed store.RunID, n int) []byte {
	b := make([]byte, n)
	x := uint64(seed)*2654435761 + 1
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x >> 24)
	}
	return b
}

func retentionByRoute(k *kit) {
	end := func(route string) store.RunID {
		r := k.run()
		r.Route = route
		_, l := k.accept(r)
		k.append(l, store.Done, time.Time{})
		return r.ID
	}
	short, long, other := end("short"), end("long"), end("other")
	k.pass(10 * time.Hour)
	now := k.Clock.Now()
	keep := store.Keep{Routes: map[string]time.Time{"short": now.Add(-time.Hour), "long": now.Add(-100 * time.Hour)}, Other: now.Add(-50 * time.Hour)}
	for {
		n, err := k.Store.Expire(k.ctx, keep, 10)
		k.must(err)
		if n == 0 {
			break
		}
	}
	for id, want := range map[store.RunID]bool{short: false, long: true, other: true} {
		if _, _, err := k.Store.Load(k.ctx, id); (err == nil) != want {
			k.Fatalf("run %d: %v, want it kept: %v", id, err, want)
		}
	}
}
