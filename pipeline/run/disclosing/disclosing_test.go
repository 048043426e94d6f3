package disclosing_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/sqlite"
	"github.com/dime-bus/dime/pipeline/run/disclosing"
)

const (
	mario = "RSSMRA80A01L736U"
	luca  = "BNCLCU85T10A562S"
)

func TestGather(t *testing.T) {
	ctx := t.Context()
	c := clock.NewVirtual(time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC))
	s, err := sqlite.Open(ctx, sqlite.Options{Path: sqlite.Memory, Clock: c})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	accept := func(what string, subjects ...string) {
		t.Helper()
		id, err := s.Reserve(ctx, 1)
		if err != nil {
			t.Fatal(err)
		}
		r := store.Run{ID: id, Version: "v", Route: "desk", State: store.Done, Subjects: subjects, Head: []byte(`{"req":{"text":"` + what + `"}}`)}
		if _, _, err := s.Accept(ctx, r, store.Record{Kind: store.Result, Path: "set:seen", At: c.Now(), Body: []byte(`{"v":"seen ` + what + `"}`)}); err != nil {
			t.Fatal(err)
		}
	}
	accept("of mario", mario)
	accept("of both", mario, luca)
	accept("of luca", luca)
	if err := s.Publish(ctx, store.Message{ID: "1", Topic: "a.b", Body: []byte(`{"who":"` + strings.ToLower(mario) + `"}`)},
		store.Message{ID: "2", Topic: "a.b", Body: []byte(`{"who":"` + luca + `"}`)}); err != nil {
		t.Fatal(err)
	}
	d := disclosing.Desk{Store: s, Log: s.Log, Topics: []string{"a.b", "c.d"}, Now: c.Now, Purpose: func(string) string { return "appointment" },
		Documents: func(_ context.Context, who string) (any, error) { return []string{"document of " + who}, nil }}
	x, err := d.Gather(ctx, " "+strings.ToLower(mario))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"seen of mario", `"text":"of mario"`, "seen of both", "document of " + mario, `"purpose":"appointment"`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("it has no %s: %s", want, b)
		}
	}
	if strings.Contains(string(b), "of luca") {
		t.Errorf("it holds another person's run: %s", b)
	}
	if len(x.Runs) != 2 || x.Runs[0].Shared || !x.Runs[1].Shared || x.Runs[0].Ended == nil {
		t.Errorf("runs %+v", x.Runs)
	}
	if len(x.Events) != 1 || x.Events[0].ID != "1" {
		t.Errorf("events %+v", x.Events)
	}
	if err := s.Erase(ctx, mario); err != nil {
		t.Fatal(err)
	}
	if x, err = d.Gather(ctx, mario); err != nil || len(x.Runs) != 2 || !x.Runs[0].Erased || x.Runs[0].Began != nil || len(x.Runs[0].Timeline) != 1 {
		t.Errorf("after an erasure: %+v, %v", x.Runs, err)
	}
}
