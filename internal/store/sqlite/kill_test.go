package sqlite_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/store"
)

const killEnv = "DIME_TEST_KILL_DB"

// TestMain plays the process that is killed when the environment says so.
func TestMain(m *testing.M) {
	if path := os.Getenv(killEnv); path != "" {
		victim(path)
		return
	}
	os.Exit(m.Run())
}

// victim accepts runs and publishes messages until it is killed, and says each
// only when it is durable.
func victim(path string) {
	ctx := context.Background()
	s, err := openVictim(path)
	if err != nil {
		fmt.Println("failed", err)
		return
	}
	var mu sync.Mutex
	say := func(words ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Println(words...)
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				id, err := s.Reserve(ctx, 1)
				if err != nil {
					return
				}
				_, l, err := s.Accept(ctx, store.Run{ID: id, Version: "v", Route: "r", State: store.Running, Subjects: []string{fmt.Sprint(w)}},
					store.Record{Kind: store.Intent, Path: "a", Body: []byte("1")})
				if err != nil {
					return
				}
				say("run", int64(id), 1)
				if err := s.Append(ctx, l, store.Done, "", time.Time{}, store.Record{Kind: store.End, Body: []byte("1")}); err != nil {
					return
				}
				say("run", int64(id), 2)
				m := fmt.Sprintf("%d-%d-%d", os.Getpid(), w, i)
				if err := s.Publish(ctx, store.Message{ID: m, Topic: "t"}); err != nil {
					return
				}
				say("msg", m, 0)
			}
		})
	}
	wg.Wait()
}

func TestKilledProcessLosesNothingItSaid(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dime.db")
	s := open(t, options(path, nil))
	if err := s.Bind(t.Context(), "q", "t"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	runs := make(map[store.RunID]int)
	said := make(map[string]bool)
	for _, lines := range []int{40, 170, 310} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), killEnv+"="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		sc := bufio.NewScanner(out)
		for n := 0; sc.Scan(); n++ {
			if n == lines { // it is alive and in the middle of its work
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
			f := strings.Fields(sc.Text())
			if len(f) != 3 {
				if n < lines {
					t.Fatalf("the victim said %q", sc.Text())
				}
				continue // cut off
			}
			var id int64
			var records int
			if f[0] == "msg" {
				said[f[1]] = true
			} else if _, err := fmt.Sscan(f[1]+" "+f[2], &id, &records); err == nil {
				runs[store.RunID(id)] = max(runs[store.RunID(id)], records)
			}
		}
		if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("the victim was not killed: %v", err)
		}
	}
	if len(runs) == 0 || len(said) == 0 {
		t.Fatal("the victims said nothing")
	}
	s = open(t, options(path, nil))
	for id, records := range runs {
		r, rs, err := s.Load(t.Context(), id)
		if err != nil || len(rs) < records || records == 2 && r.State != store.Done {
			t.Fatalf("run %d is %s with %d records, said were %d: %v", id, r.State, len(rs), records, err)
		}
	}
	got := make(map[string]bool)
	for {
		ms, err := s.Receive(t.Context(), "q", 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(ms) == 0 {
			break
		}
		for _, m := range ms {
			got[m.ID] = true
		}
	}
	for id := range said {
		if !got[id] {
			t.Fatalf("message %s was confirmed and is lost", id)
		}
	}
	t.Logf("%d runs and %d messages survived 3 kills", len(runs), len(said))
}
