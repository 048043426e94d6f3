package storetest

import (
	"bytes"
	"fmt"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dime-bus/dime/internal/store"
)

func rotateTests() []entry {
	return []entry{
		{"a new master key opens all that the old one did, and then alone", rotation},
		{"a change of keys that dies midway goes on where it stood", rotationCrash},
		{"who works and who is erased meanwhile loses nothing", rotationAtWork},
		{"a second new key waits for the first", rotationTwice},
	}
}

func (k *kit) ring() store.Keyring {
	k.Helper()
	r, ok := k.Store.(store.Keyring)
	if !ok {
		k.Fatal("the store's master key can't be changed")
	}
	return r
}

// master is another key each time.
func master(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

// all is something in each table that the keys seal.
func (k *kit) all() (look func(k *kit)) {
	k.Helper()
	id := k.personal() // a person's run, an event, an outbox row
	mine := k.run()    // nobody's
	k.accept(mine, rec(store.Intent, "a", "1"))
	k.must(k.Store.PutVersion(k.ctx, store.Version{Digest: "v1", Route: "route", Label: 1, Source: []byte("source")}))
	blob, err := k.Store.PutBlob(k.ctx, []byte("a letter"))
	k.must(err)
	k.must(k.Store.Table("notes").Update(k.ctx, "n", func([]byte) ([]byte, error) { return []byte("value"), nil }))
	k.must(k.Store.Bind(k.ctx, "q", "t"))
	k.must(k.Store.Publish(k.ctx, store.Message{ID: "m1", Topic: "t", Body: []byte("parked")}, store.Message{ID: "m2", Topic: "t", Body: []byte("logged")}))
	ms, err := k.Store.Receive(k.ctx, "q", 1)
	k.must(err)
	k.must(k.Store.ParkMessage(k.ctx, store.Ack{Queue: "q", ID: ms[0].Seq}, "reason"))
	key, pub := k.Store.Key("effect"), k.Store.PublicID(id)
	return func(k *kit) {
		k.Helper()
		r, rs := k.load(id)
		if len(r.Subjects) != 1 || !bytes.Contains(rs[0].Body, []byte(canary)) {
			k.Fatalf("the person's run came back as %+v", r)
		}
		if _, rs := k.load(mine.ID); string(rs[0].Body) != "1" {
			k.Fatalf("nobody's run came back as %q", rs[0].Body)
		}
		v, err := k.Store.GetVersion(k.ctx, "v1")
		k.must(err)
		b, err := k.Store.GetBlob(k.ctx, blob)
		k.must(err)
		note, _, err := k.Store.Table("notes").Get(k.ctx, "n")
		k.must(err)
		parked, err := k.Store.Parked(k.ctx, "q")
		k.must(err)
		log, err := k.Store.Log(k.ctx, "t", 0, 10)
		k.must(err)
		var bodies []string
		for _, m := range append(parked, log...) {
			bodies = append(bodies, string(m.Body))
		}
		cands, err := k.Store.Candidates(k.ctx, id, "w")
		k.must(err)
		got := []string{string(v.Source), string(b), string(note), fmt.Sprint(bodies), fmt.Sprint(len(cands)), k.Store.Key("effect"), k.Store.PublicID(id)}
		want := []string{"source", "a letter", "value", "[parked parked logged]", "1", key, pub}
		if d := cmp.Diff(want, got); d != "" {
			k.Fatalf("read again (-want +got):\n%s", d)
		}
	}
}

// reseal does all of it in small bites.
func (k *kit) reseal() (calls int) {
	k.Helper()
	for {
		more, err := k.ring().Reseal(k.ctx, 2)
		k.must(err)
		if calls++; !more {
			return calls
		}
		if calls > 10_000 {
			k.Fatal("it never ends")
		}
	}
}

func (k *kit) keys(generation, masters int) store.KeyState {
	k.Helper()
	s, err := k.ring().Keys(k.ctx)
	k.must(err)
	if s.Generation != generation || len(s.Masters) != masters {
		k.Fatalf("keys stand at %+v, want generation %d and %d master keys", s, generation, masters)
	}
	return s
}

// openAs starts the next process with a master key.
func (k *kit) openAs(b byte) error {
	k.Helper()
	s, err := k.OpenWith(k.T, master(b))
	if err == nil {
		k.Store = s
	}
	return err
}

func rotation(k *kit) {
	if k.OpenWith == nil {
		k.Log("not asked: the memory ends with its process")
		return
	}
	look := k.all()
	k.keys(1, 1)
	more, err := k.ring().Reseal(k.ctx, 10)
	if err != nil || more {
		k.Fatalf("nothing was begun, and there is more: %v, %v", more, err)
	}
	for n := byte(1); n <= 2; n++ { // 7 is the key that stores are made with
		old, next := 6+n, 7+n
		k.must(k.ring().BeginRotation(k.ctx, master(next)))
		k.must(k.ring().BeginRotation(k.ctx, master(next))) // again changes nothing
		if s := k.keys(int(n)+1, 2); s.Walk == "" || s.Rows < 9 {
			k.Fatalf("begun, the walk stands at %q of %d rows", s.Walk, s.Rows)
		}
		k.is(k.ring().FinishRotation(k.ctx), store.ErrResealing)
		look(k)
		k.must(k.openAs(next))
		look(k)
		k.must(k.openAs(old))
		k.reseal()
		if s := k.keys(int(n)+1, 2); s.Walk != "" || s.Done < 9 {
			k.Fatalf("%d rows were sealed anew, and the walk stands at %q", s.Done, s.Walk)
		}
		look(k)
		k.must(k.ring().FinishRotation(k.ctx))
		k.keys(int(n)+1, 1)
		look(k) // the process goes on until it ends
		if err := k.openAs(old); err == nil {
			k.Fatal("the old master key opens it still")
		}
		k.must(k.openAs(next))
		look(k)
		if s := k.keys(int(n)+1, 1); s.Opened != s.Masters[0] {
			k.Fatalf("opened by %s, and %v open it", s.Opened, s.Masters)
		}
	}
	back := k.run()
	back.Subjects = []string{canary}
	k.accept(back, rec(store.Intent, "a", "1"))
	k.must(k.Store.Erase(k.ctx, canary))
	_, _, err = k.Store.Load(k.ctx, back.ID)
	k.is(err, store.ErrErased)
}

func rotationCrash(k *kit) {
	if k.OpenWith == nil {
		k.Log("not asked: the memory ends with its process")
		return
	}
	look := k.all()
	k.must(k.ring().BeginRotation(k.ctx, master(8)))
	calls := 0
	for more := true; more; calls++ {
		k.must(k.openAs(7 + byte(calls%2))) // the last one died; either key opens
		var err error
		more, err = k.ring().Reseal(k.ctx, 2)
		k.must(err)
		look(k)
		if calls > 200 {
			k.Fatal("each life begins at the beginning")
		}
	}
	k.must(k.ring().FinishRotation(k.ctx))
	k.must(k.openAs(8))
	look(k)
}

func rotationAtWork(k *kit) {
	other := k
	if k.Second != nil {
		_, other = k.both() // it was opened before, and hears nothing but what it meets
	}
	const each = 60
	var wg sync.WaitGroup
	defer wg.Wait()
	var mu sync.Mutex
	kept := map[store.RunID]string{}
	for w := range 3 {
		wg.Go(func() {
			by := k
			if w == 0 {
				by = other
			}
			for i := range each {
				id, err := by.Store.Reserve(k.ctx, 1)
				r := store.Run{ID: id, Version: "v1", Route: "route", State: store.Running, Priority: 1, Head: []byte("{}")}
				if i%3 > 0 {
					r.Subjects = []string{fmt.Sprint("person ", i%5)}
				}
				body := fmt.Sprint(w, i)
				var l store.Lease
				if err == nil {
					_, l, err = by.Store.Accept(k.ctx, r, rec(store.Intent, "a", body))
				}
				if err == nil {
					err = by.Store.Append(k.ctx, l, store.Waiting, "", time.Time{}, rec(store.OutcomeRec, "a", body))
				}
				if err == nil {
					err = by.Store.Table("notes").Update(k.ctx, "n", func(old []byte) ([]byte, error) { return append(old, 'x'), nil })
				}
				if err == nil {
					err = by.Store.Publish(k.ctx, store.Message{ID: body, Topic: "t", Body: []byte(body)})
				}
				if err != nil {
					k.Errorf("at work meanwhile: %v", err)
					return
				}
				mu.Lock()
				kept[id] = body
				mu.Unlock()
			}
		})
	}
	k.must(k.ring().BeginRotation(k.ctx, master(8)))
	for more, calls := true, 0; more; calls++ {
		var err error
		more, err = k.ring().Reseal(k.ctx, 20)
		k.must(err)
		if calls == 3 {
			k.must(other.Store.Erase(k.ctx, "person 1"))
		}
	}
	wg.Wait()
	other.keys(2, 2)
	// What came in between is sealed by whatever its process knew, and is read.
	k.must(k.ring().FinishRotation(k.ctx))
	if len(kept) != 3*each {
		k.Fatalf("%d of %d runs were done", len(kept), 3*each)
	}
	for _, by := range []*kit{k, other} {
		for id, body := range kept {
			r, rs, err := by.Store.Load(k.ctx, id)
			if err == nil && (len(rs) != 2 || string(rs[1].Body) != body) {
				k.Fatalf("run %d came back as %v", id, paths(rs))
			}
			if err != nil {
				k.is(err, store.ErrErased)
				if r.State != store.Waiting {
					k.Fatal(r)
				}
			}
		}
		log, err := by.Store.Log(k.ctx, "t", 0, 100_000)
		k.must(err)
		if len(log) != len(kept) {
			k.Fatalf("%d of %d messages are read", len(log), len(kept))
		}
		note, _, err := by.Store.Table("notes").Get(k.ctx, "n")
		if err != nil || len(note) != len(kept) {
			k.Fatalf("the note has %d of %d updates, %v", len(note), len(kept), err)
		}
	}
}

func rotationTwice(k *kit) {
	k.must(k.ring().BeginRotation(k.ctx, master(8)))
	if err := k.ring().BeginRotation(k.ctx, master(9)); err == nil {
		k.Fatal("a third key was let in")
	}
	k.keys(2, 2)
	k.reseal()
	k.must(k.ring().FinishRotation(k.ctx))
	if err := k.ring().BeginRotation(k.ctx, []byte("short")); err == nil {
		k.Fatal("a key of five bytes was taken")
	}
}
