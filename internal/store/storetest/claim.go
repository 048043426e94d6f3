package storetest

import (
	"fmt"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dime-bus/dime/internal/store"
)

func claimOrder(k *kit) {
	var want []store.RunID
	at := func(prio, minute int) store.RunID {
		r := k.run()
		r.Priority = prio
		return k.waiting(r, Start().Add(time.Duration(minute)*time.Minute)).ID
	}
	low, late, early, high := at(2, 1), at(1, 3), at(1, 2), at(0, 4)
	at(0, 60)
	want = []store.RunID{high, early, late, low}
	k.claimed("w")
	k.pass(5 * time.Minute)
	var got []store.RunID
	for range 4 {
		rs, ls, err := k.Store.Claim(k.ctx, "w", 1)
		k.must(err)
		if len(rs) != 1 || rs[0].ID != ls[0].Run || rs[0].State != store.Running {
			k.Fatalf("claimed %+v with %+v", rs, ls)
		}
		got = append(got, rs[0].ID)
	}
	if d := cmp.Diff(want, got); d != "" {
		k.Fatalf("claimed in another order (-want +got):\n%s", d)
	}
	k.claimed("w")
}

// claimTurns: inside a class the routes take turns, also behind a queue that is
// longer than a claim looks at (semantics 11.2).
func claimTurns(k *kit) {
	const long, short = 200, 3
	fill := func(due time.Time, wait func(route string, i int) []store.Record) {
		for route, n := range map[string]int{"flood": long, "alpha": short, "omega": short} {
			for i := range n {
				r := k.run()
				r.Route = route
				at := due
				if route != "flood" && !due.IsZero() {
					at = due.Add(time.Minute)
				}
				k.waiting(r, at, wait(route, i)...)
			}
		}
	}
	turns := func(what string) {
		k.Helper()
		var got []string
		for _, max := range []int{1, 1, 1, 1, 4, 4} {
			rs, _, err := k.Store.Claim(k.ctx, "w", max)
			k.must(err)
			for _, r := range rs {
				got = append(got, r.Route)
			}
		}
		seen := map[string]int{}
		for _, route := range got[:min(len(got), 3*short)] {
			seen[route]++
		}
		if d := cmp.Diff(map[string]int{"alpha": short, "flood": short, "omega": short}, seen); d != "" {
			k.Errorf("%s were claimed as %v (-want +got):\n%s", what, got, d)
		}
		for len(k.claim("w")) > 0 {
		}
	}
	fill(Start().Add(time.Minute), func(string, int) []store.Record { return nil })
	k.pass(5 * time.Minute)
	turns("due runs")
	fill(time.Time{}, func(route string, i int) []store.Record {
		return []store.Record{wait("w", fmt.Sprint(route, i))}
	})
	for route, n := range map[string]int{"flood": long, "alpha": short, "omega": short} {
		for i := range n {
			k.deliver(event(fmt.Sprint(route, i), fmt.Sprint(route, i)), 1)
		}
	}
	turns("nudged runs")
	k.pass(time.Hour) // every lease has lapsed
	turns("lapsed runs")
}

func claimRace(k *kit) {
	const n = 60
	for range n {
		k.waiting(k.run(), Start())
	}
	var mu sync.Mutex
	seen := make(map[store.RunID]string)
	var wg sync.WaitGroup
	for _, w := range []string{"a", "b", "c", "d"} {
		wg.Go(func() {
			for {
				_, ls, err := k.Store.Claim(k.ctx, w, 3)
				if err != nil {
					k.Error(err)
				}
				if len(ls) == 0 {
					return
				}
				mu.Lock()
				for _, l := range ls {
					if seen[l.Run] != "" {
						k.Errorf("run %d was given to %s and %s", l.Run, seen[l.Run], w)
					}
					seen[l.Run] = w
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(seen) != n {
		k.Fatalf("%d of %d runs were claimed", len(seen), n)
	}
}

func claimOne(k *kit) {
	r, l := k.accept(k.run())
	_, _, err := k.Store.ClaimOne(k.ctx, "person", r.ID)
	k.is(err, store.ErrFenced)
	k.append(l, store.Parked, time.Time{})
	got, mine, err := k.Store.ClaimOne(k.ctx, "person", r.ID)
	k.must(err)
	if got.State != store.Parked {
		k.Fatalf("ClaimOne changed the state to %s", got.State)
	}
	_, _, err = k.Store.ClaimOne(k.ctx, "another", r.ID)
	k.is(err, store.ErrFenced)
	k.claimed("w")
	k.crash()
	k.state(r.ID, store.Parked)
	k.claimed("w")
	k.is(k.Store.Append(k.ctx, mine, store.Running, "", time.Time{}), store.ErrFenced)
	_, mine, err = k.Store.ClaimOne(k.ctx, "person", r.ID)
	k.must(err)
	k.append(mine, store.Running, time.Time{}, rec(store.Person, "", `{"as":"m"}`))
	k.crash()
	k.claimed("w", r.ID)
	_, _, err = k.Store.ClaimOne(k.ctx, "person", 123456)
	k.is(err, store.ErrNoRun)
}
