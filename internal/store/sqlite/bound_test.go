package sqlite_test

import (
	"context"
	"path/filepath"
	"testing"

	zombie "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/dime-bus/dime/internal/store"
)

// Who can write to the file and has no key can move rows about: what is sealed
// opens where it was put, and nowhere else.
func TestAMovedRowDoesNotOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dime.db")
	ctx := context.Background()
	s := open(t, options(path, nil))
	var runs [2]store.RunID
	for i := range runs {
		id, err := s.Reserve(ctx, 1)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Accept(ctx, store.Run{ID: id, Version: "v", Route: "r", State: store.Waiting, Head: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
		runs[i] = id
	}
	if err := s.Publish(ctx, store.Message{ID: "1", Topic: "waste", Body: []byte("w")}, store.Message{ID: "2", Topic: "taxes", Body: []byte("t")}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	c, err := zombie.OpenConn(path, zombie.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	err = sqlitex.ExecuteScript(c, `update msg set body=(select body from msg where seq=2) where seq=1;
		update run set sealed_key=(select max(sealed_key) from run);`, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}

	s = open(t, options(path, nil))
	if ms, err := s.Log(ctx, "waste", 0, 10); err == nil {
		t.Errorf("the topic waste has %q, which was published to taxes", ms[0].Body)
	}
	if ms, err := s.Log(ctx, "taxes", 0, 10); err != nil || len(ms) != 1 {
		t.Errorf("what lies where it was put gives %v, %v", ms, err)
	}
	opened := 0
	for _, id := range runs {
		if _, _, err := s.Load(ctx, id); err == nil {
			opened++
		}
	}
	if opened != 1 {
		t.Errorf("%d of 2 runs open with the key of one", opened)
	}
}
