package postgres_test

import (
	"bytes"
	"log/slog"
	"slices"
	"sync"
	"testing"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/test/cluster"
)

// A run that another process commits while its outbox is being read is read whole:
// its key is there as soon as its row is.
func TestAnOutboxReadWhileRunsAreAccepted(t *testing.T) {
	u := cluster.Postgres(t)
	a := open(t, options(u, nil))
	var said bytes.Buffer
	o := options(u, nil)
	o.Log = slog.New(slog.NewTextHandler(&said, nil))
	b := open(t, o)
	const callers, each = 8, 40
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range each {
				id, err := a.Reserve(t.Context(), 1)
				if err == nil {
					_, _, err = a.Accept(t.Context(), store.Run{ID: id, Version: "v", Route: "r", State: store.Done},
						store.Record{Kind: store.OutcomeRec, Path: "e", Outbox: []store.Outbox{{ID: "1", Topic: "t", Body: []byte("1")}}})
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	accepted := make(chan struct{})
	go func() { wg.Wait(); close(accepted) }()
	var seqs []int64
	for last := false; ; {
		rows, err := b.Outbox(t.Context(), 1000)
		if err != nil {
			t.Fatal(err)
		}
		var now []int64
		for _, r := range rows {
			now = append(now, r.Seq)
		}
		if !slices.IsSorted(now) {
			t.Fatal("not in the order of the commits")
		}
		if err := b.Published(t.Context(), now...); err != nil {
			t.Fatal(err)
		}
		seqs = append(seqs, now...)
		if last {
			break
		}
		select {
		case <-accepted:
			last = true
		default:
		}
	}
	if len(seqs) != callers*each || bytes.Contains(said.Bytes(), []byte("does not open")) {
		t.Fatalf("%d rows, not %d; %s", len(seqs), callers*each, said.Bytes()[:min(said.Len(), 300)])
	}
}
