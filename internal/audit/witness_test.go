package audit_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/audit"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/sqlite"
)

func memory(t *testing.T, c clock.Clock) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Options{Path: sqlite.Memory, Clock: c})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func add(t *testing.T, s store.Audit, n int) {
	t.Helper()
	for range n {
		if err := (audit.Log{Store: s, Channel: audit.Admin}).Record(t.Context(), "anna", "a", "b", "c", nil); err != nil {
			t.Fatal(err)
		}
	}
}

// far is a witness on the network that can be made to fail.
type far struct {
	mu     sync.Mutex
	status int
	marks  []audit.Mark
	got    chan int // the status of each call
}

func (f *far) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var m audit.Mark
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if f.status == http.StatusOK {
		f.marks = append(f.marks, m)
	}
	w.WriteHeader(f.status)
	f.got <- f.status
}

func (f *far) set(status int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status = status
}

func within(t *testing.T, what string, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for !is() {
		if clock.Sleep(ctx, clock.Real{}, time.Millisecond) != nil {
			t.Fatalf("it never came: %s", what)
		}
	}
}

func TestTheWitnessIsToldHourlyAndAgainAfterAFailure(t *testing.T) {
	c := clock.NewVirtual(start)
	s := memory(t, c)
	add(t, s, 3)
	there := &far{status: http.StatusOK, got: make(chan int, 100)}
	srv := httptest.NewTLSServer(there)
	defer srv.Close()
	file := filepath.Join(t.TempDir(), "witness")
	w := &audit.Witness{Store: s, City: "Venezia", File: file, URL: srv.URL, HTTP: srv.Client(), Clock: c, Log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); w.Run(ctx) }()
	step := func(d time.Duration, status int) {
		t.Helper()
		// The next attempt sleeps on the virtual clock before it can be passed.
		within(t, "a sleeper", func() bool { at, ok := c.Next(); return ok && !at.After(c.Now().Add(d)) })
		c.Advance(c.Now().Add(d))
		if got := <-there.got; got != status {
			t.Fatalf("the far side answered %d, want %d", got, status)
		}
	}
	if got := <-there.got; got != http.StatusOK {
		t.Fatal(got)
	}
	within(t, "told", func() bool { return w.State().Seq == 3 && !w.State().Failing })
	there.set(http.StatusServiceUnavailable)
	add(t, s, 2)
	step(time.Hour, http.StatusServiceUnavailable)
	within(t, "failing", func() bool { return w.State().Failing && w.State().Seq == 3 && w.State().Told.Equal(start) })
	there.set(http.StatusOK)
	step(time.Minute, http.StatusOK)
	within(t, "told again", func() bool {
		st := w.State()
		return !st.Failing && st.Seq == 5 && st.Told.Equal(start.Add(61*time.Minute))
	})
	cancel()
	<-ended
	marks, err := audit.MarksOf(file)
	if err != nil {
		t.Fatal(err)
	}
	_, hash, err := s.AuditHead(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	last := there.marks[len(there.marks)-1]
	if len(marks) != 3 || len(there.marks) != 2 || last.Seq != 5 || last.City != "Venezia" || last.Hash != hex.EncodeToString(hash) || marks[2] != last {
		t.Errorf("the file has %+v, the far side %+v", marks, there.marks)
	}
	rows, err := s.AuditRows(t.Context(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	if r := verify(rows, marks...); !r.Whole() {
		t.Errorf("%+v", r)
	}
	if r := verify(rows[:4], marks...); r.Whole() {
		t.Error("a cut tail is not found")
	}
}

func TestTheWitnessSaysAtOnceThatRowsAreGone(t *testing.T) {
	c := clock.NewVirtual(start)
	file := filepath.Join(t.TempDir(), "witness")
	tell := func(rows int) *audit.Witness {
		t.Helper()
		s := memory(t, c)
		add(t, s, rows)
		w := &audit.Witness{Store: s, File: file, Clock: c, Log: slog.New(slog.DiscardHandler)}
		if err := w.Tell(t.Context()); err != nil {
			t.Fatal(err)
		}
		return w
	}
	if tell(5).State().Cut {
		t.Error("nothing was cut off")
	}
	// The machine died while a line was written: what follows is read all the same.
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString(`{"city":"","seq":99`)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	if !tell(4).State().Cut {
		t.Error("a shorter list is not noticed")
	}
	marks, err := audit.MarksOf(file)
	if err != nil || len(marks) != 2 || marks[1].Seq != 4 {
		t.Errorf("%+v, %v", marks, err)
	}
}

func TestAWitnessThatCannotBeReached(t *testing.T) {
	c := clock.NewVirtual(start)
	s := memory(t, c)
	elsewhere := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/else", http.StatusTemporaryRedirect)
	}))
	elsewhere.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	elsewhere.StartTLS()
	defer elsewhere.Close()
	client := elsewhere.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for name, w := range map[string]*audit.Witness{
		"no such folder": {File: filepath.Join(t.TempDir(), "none", "witness")},
		"a redirect":     {URL: elsewhere.URL, HTTP: client},
		"no certificate": {URL: elsewhere.URL},
	} {
		w.Store, w.Clock, w.Log = s, c, slog.New(slog.DiscardHandler)
		if err := w.Tell(t.Context()); err == nil || !w.State().Failing || !strings.Contains(err.Error(), "witness") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := audit.MarksOf(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a witness that is not there is taken")
	}
}
