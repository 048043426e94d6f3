package storetest

import (
	"errors"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dime-bus/dime/internal/store"
)

func orderTests() []entry {
	return []entry{
		{"places go by the accepting commit, not by id", orderPlaces},
		{"one key does not wait for another", orderKeys},
		{"a parked run holds its key", orderParked},
		{"a failed run that starts again queues behind the living", orderRearm},
		{"1,000 may queue behind a key", orderFull},
	}
}

func (k *kit) ordered(key string) store.Run {
	r := k.run()
	r.OrderKey = key
	return r
}

func orderPlaces(k *kit) {
	late, first, second := k.ordered("k"), k.ordered("k"), k.ordered("k") // reserved in this order
	k.accept(first)
	for _, r := range []store.Run{second, late} {
		out, zero := k.accept(r)
		if out.State != store.Queued || zero != (store.Lease{}) {
			k.Fatalf("accepted behind a live run as %s with %+v", out.State, zero)
		}
	}
	k.crash()
	l := k.claimed("w", first.ID)[first.ID]
	k.claimed("w")
	var got []store.RunID
	for range 2 {
		k.append(l, store.Done, time.Time{})
		ls := k.claim("w")
		if len(ls) != 1 {
			k.Fatalf("%d runs had their turn", len(ls))
		}
		for id, x := range ls {
			got, l = append(got, id), x
			k.state(id, store.Running)
		}
	}
	if d := cmp.Diff([]store.RunID{second.ID, late.ID}, got); d != "" {
		k.Fatalf("turns (-want +got):\n%s", d)
	}
	// The last one rests and comes back before its followers.
	next, _ := k.accept(k.ordered("k"))
	k.append(l, store.Waiting, Start().Add(time.Minute))
	k.claimed("w")
	k.pass(time.Minute)
	l = k.claimed("w", late.ID)[late.ID]
	k.append(l, store.Failed, time.Time{})
	k.claimed("w", next.ID)
}

func orderKeys(k *kit) {
	k.accept(k.ordered("a"))
	if r, _ := k.accept(k.ordered("b")); r.State != store.Running {
		k.Fatalf("accepted as %s", r.State)
	}
	r := k.ordered("a")
	r.Route = "another"
	if r, _ = k.accept(r); r.State != store.Running {
		k.Fatalf("another route's run was accepted as %s", r.State)
	}
	if r, _ = k.accept(k.run()); r.State != store.Running {
		k.Fatalf("a run without a key was accepted as %s", r.State)
	}
}

func orderParked(k *kit) {
	first, l := k.accept(k.ordered("k"))
	second, _ := k.accept(k.ordered("k"))
	third, _ := k.accept(k.ordered("k"))
	k.append(l, store.Parked, time.Time{})
	k.pass(240 * time.Hour)
	k.claimed("w")
	// One that is cancelled while it queues leaves the others in their places.
	_, l, err := k.Store.ClaimOne(k.ctx, "person", second.ID)
	k.must(err)
	k.append(l, store.Cancelled, time.Time{})
	k.claimed("w")
	_, l, err = k.Store.ClaimOne(k.ctx, "person", first.ID)
	k.must(err)
	k.append(l, store.Failed, time.Time{}, rec(store.Person, "", `"skip"`))
	k.claimed("w", third.ID)
}

func orderRearm(k *kit) {
	first, l := k.accept(k.ordered("k"))
	second, _ := k.accept(k.ordered("k"))
	k.append(l, store.Failed, time.Time{})
	l = k.claimed("w", second.ID)[second.ID]
	out, zero, err := k.Store.Rearm(k.ctx, first.ID, "w", rec(store.Person, "", "1"))
	k.must(err)
	if out.State != store.Queued || zero != (store.Lease{}) {
		k.Fatalf("started again beside a live run as %s with %+v", out.State, zero)
	}
	k.claimed("w")
	k.append(l, store.Done, time.Time{})
	k.claimed("w", first.ID)
}

func orderFull(k *kit) {
	_, l := k.accept(k.ordered("k"))
	for range 1000 {
		k.accept(k.ordered("k"))
	}
	r := k.ordered("k")
	r.Once = &store.Once{Scope: "s", Key: "k", BodyHash: []byte{1}, Until: Start().Add(time.Hour)}
	_, _, err := k.Store.Accept(k.ctx, r)
	k.is(err, store.ErrQueueFull)
	k.append(l, store.Done, time.Time{})
	k.accept(r) // a refusal must not have taken its key
	var d *store.Duplicate
	again := k.ordered("k")
	again.Once = r.Once
	if _, _, err := k.Store.Accept(k.ctx, again); !errors.As(err, &d) || d.Run != r.ID {
		k.Fatalf("a repeated request in a full queue gave %v", err)
	}
}
