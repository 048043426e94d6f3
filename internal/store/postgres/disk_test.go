package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/test/cluster"
)

// A disk that is really full: a clear error, nothing that was accepted is lost, and
// with room again the work goes on (deploy/postgres/README.md).
func TestADiskThatIsReallyFull(t *testing.T) {
	if err := cluster.CanMount(t.TempDir()); err != nil {
		t.Log("not checked:", err)
		return
	}
	server := cluster.PostgresFor(t, cluster.PostgresOptions{Disk: 110})
	u, _, err := cluster.NewDatabase(context.Background(), server.URL("postgres"), "template0")
	if err != nil {
		t.Fatal(err)
	}
	o := options(u, nil)
	o.Patience = 200 * time.Millisecond
	s := open(t, o)
	accept := func() (store.RunID, error) {
		id, err := s.Reserve(t.Context(), 1)
		if err != nil {
			return 0, err
		}
		body := make([]byte, 32<<10)
		for i := range body { // what does not compress
			body[i] = byte(uint64(i+1) * uint64(id) * 0x9e3779b97f4a7c15 >> 51)
		}
		_, _, err = s.Accept(t.Context(), store.Run{ID: id, Version: "v", Route: "r", State: store.Running,
			Once: &store.Once{Scope: "s", Key: fmt.Sprint(id), Until: time.Now().Add(time.Hour)}}, store.Record{Kind: store.Intent, Path: "a", Body: body})
		return id, err
	}
	first, err := accept()
	if err != nil {
		t.Fatal(err)
	}
	// Somebody else's file leaves 6 MiB.
	free, err := cluster.FillDisk(server.Dir(), 6<<20)
	if err != nil {
		t.Fatal(err)
	}
	said := []store.RunID{first}
	var refusal error
	for refusal == nil {
		var id store.RunID
		if id, refusal = accept(); refusal == nil {
			said = append(said, id)
		}
		if len(said) > 5000 {
			t.Fatal("6 MiB hold 5,000 bodies of 32 KiB")
		}
	}
	if len(said) < 3 {
		t.Fatalf("%d runs were accepted before the disk was full", len(said))
	}
	t.Logf("%d runs, then: %v; the server runs: %v", len(said), refusal, server.Running())
	// A full disk of the log ends the server, at times in the commit itself.
	clear := errors.Is(refusal, store.ErrFull)
	for _, words := range []string{"connect", "could not be learned", "the database says"} {
		clear = clear || strings.Contains(refusal.Error(), words)
	}
	if !clear {
		t.Fatalf("not a clear error: %v", refusal)
	}
	if errors.Is(refusal, store.ErrFull) {
		if _, _, err := s.Load(t.Context(), first); err != nil {
			t.Fatalf("a full disk takes no reads: %v", err)
		}
	}
	if err := free(); err != nil {
		t.Fatal(err)
	}
	if !server.Running() {
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
	}
	for until := time.Now().Add(20 * time.Second); ; {
		id, err := accept()
		if err == nil {
			said = append(said, id)
			break
		}
		if time.Now().After(until) {
			t.Fatalf("with room again: %v", err)
		}
	}
	s = open(t, options(u, nil))
	for _, id := range said {
		if _, rs, err := s.Load(t.Context(), id); err != nil || len(rs) != 1 {
			t.Fatalf("run %d was accepted and has %d records: %v", id, len(rs), err)
		}
	}
}
