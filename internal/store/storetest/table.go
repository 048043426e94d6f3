package storetest

import (
	"bytes"
	"errors"
	"strconv"
	"sync"

	"github.com/google/go-cmp/cmp"

	"github.com/dime-bus/dime/internal/store"
)

func tables(k *kit) {
	a, b := k.Store.Table("a"), k.Store.Table("b")
	set := func(t store.Table, key, v string) {
		k.Helper()
		k.must(t.Update(k.ctx, key, func([]byte) ([]byte, error) { return []byte(v), nil }))
	}
	set(a, "x/1", "canary one")
	set(a, "x/2", "two")
	set(a, "y", "y of a")
	set(b, "x/1", "one of b")

	stop := errors.New("stop")
	if err := a.Update(k.ctx, "y", func([]byte) ([]byte, error) { return []byte("never"), stop }); !errors.Is(err, stop) {
		k.Errorf("got %v, want the owner's own error", err)
	}
	k.crash()
	a, b = k.Store.Table("a"), k.Store.Table("b")
	rows, err := a.List(k.ctx, "x/", "", 10)
	k.must(err)
	want := []store.Row{{Key: "x/1", Value: []byte("canary one")}, {Key: "x/2", Value: []byte("two")}}
	if d := cmp.Diff(want, rows); d != "" {
		k.Errorf("rows (-want +got):\n%s", d)
	}
	if rows, err = a.List(k.ctx, "x/", "x/1", 10); err != nil || len(rows) != 1 || rows[0].Key != "x/2" {
		k.Errorf("after x/1: %v, %v", rows, err)
	}
	if rows, err = a.List(k.ctx, "", "", 1); err != nil || len(rows) != 1 {
		k.Errorf("one at most: %v, %v", rows, err)
	}
	if v, found, err := a.Get(k.ctx, "y"); err != nil || !found || string(v) != "y of a" {
		k.Errorf("y of a: %q, %v, %v", v, found, err)
	}
	k.must(a.Update(k.ctx, "x/1", func([]byte) ([]byte, error) { return nil, nil }))
	if _, found, err := a.Get(k.ctx, "x/1"); err != nil || found {
		k.Errorf("deleted, and still there: %v", err)
	}
	if v, found, err := b.Get(k.ctx, "x/1"); err != nil || !found || string(v) != "one of b" {
		k.Errorf("x/1 of b: %q, %v, %v", v, found, err)
	}
	if k.AtRest != nil && bytes.Contains(k.AtRest(k.T), []byte("canary one")) {
		k.Error("a table's value is readable at rest")
	}

	const writers, each = 8, 20
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				err := a.Update(k.ctx, "count", func(old []byte) ([]byte, error) {
					n := 0
					if old != nil {
						var err error
						if n, err = strconv.Atoi(string(old)); err != nil {
							return nil, err
						}
					}
					return strconv.AppendInt(nil, int64(n+1), 10), nil
				})
				if err != nil {
					k.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if v, _, err := a.Get(k.ctx, "count"); err != nil || string(v) != strconv.Itoa(writers*each) {
		k.Errorf("counted to %s, %v: an update was lost", v, err)
	}
}
