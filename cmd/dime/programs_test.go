package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/dime-bus/dime/config"
	"github.com/dime-bus/dime/internal/bus/client"
	"github.com/dime-bus/dime/internal/fault"
)

const programSecret = "a-secret-of-thirty-two-characters"

// served is a whole server on data that outlives it, and the bus as the program
// "crm" may use it.
func served(t *testing.T, data string) (client.Client, func()) {
	t.Helper()
	p, _, stop := servedWith(t, data, map[string]string{
		"config/dime.yaml": "clients:\n  crm:\n    secret: env:CRM_SECRET\n    routes: [address-lookup]\n    publish: [appeal.decided]\n    subscribe: [appeal.*]\n"})
	return p, stop
}

// servedWith is a server with files of its own over the city's, and the bus as
// the program with programSecret may use it.
func servedWith(t *testing.T, data string, files map[string]string) (client.Client, *server, func()) {
	t.Helper()
	t.Setenv("CRM_SECRET", programSecret)
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := openContent(dir)
	if err != nil {
		t.Fatal(err)
	}
	cfg, problems := config.Load(c, os.LookupEnv, map[string]string{"listen": "127.0.0.1:0", "admin": "127.0.0.1:0", "data": data, "city": "embedded"})
	if bad := refusals(problems); len(bad) > 0 {
		t.Fatal(bad)
	}
	s, err := newServer(t.Context(), c, cfg, serveOptions{timeline: 10}, newLog(t.Output(), "warn"))
	if err != nil {
		t.Fatal(err)
	}
	stop := func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}
	if _, err = s.start(t.Context()); err != nil {
		stop()
		t.Fatal(err)
	}
	if _, err := s.program("no such secret, but long enough"); err == nil {
		t.Error("a wrong credential was taken")
	}
	p, err := s.program(programSecret)
	if err != nil {
		stop()
		t.Fatal(err)
	}
	return p, s, stop
}

// A program asks a route, publishes, is refused what its rights do not name, and
// catches up behind its cursor after the bus was started again.
func TestProgramThroughTheWiring(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	p, stop := served(t, data)
	a, err := p.Request(t.Context(), client.Request{Route: "address-lookup", Req: map[string]any{"q": "san marco"}, Key: "k-1"})
	if err != nil || a.Status != 200 {
		t.Errorf("Request answered %+v, %v", a, err)
	}
	var f *fault.Error
	if _, err := p.Request(t.Context(), client.Request{Route: "book-appointment"}); !errors.As(err, &f) || f.Kind != fault.Denied {
		t.Errorf("a route beyond the rights gave %v, not denied", err)
	}
	if err := p.Publish(t.Context(), "appeal.decided", "d-0", map[string]any{"nonsense": 1}); !errors.As(err, &f) || f.Kind != fault.Invalid {
		t.Errorf("data that does not fit gave %v, not invalid", err)
	}
	event := map[string]any{"appeal": "R-000001", "outcome": "accepted"}
	for _, id := range []string{"d-1", "d-2"} {
		if err := p.Publish(t.Context(), "appeal.decided", id, event); err != nil {
			t.Fatal(err)
		}
	}
	cursor := next(t, p, 0, "d-1")
	stop()
	p, stop = served(t, data)
	defer stop()
	cursor = next(t, p, cursor, "d-2")
	done := make(chan error, 1)
	go func() { done <- p.Publish(context.WithoutCancel(t.Context()), "appeal.decided", "d-3", event) }()
	next(t, p, cursor, "d-3")
	if err := <-done; err != nil {
		t.Error(err)
	}
}

var errEnough = errors.New("enough")

// next takes one event behind the cursor.
func next(t *testing.T, p client.Client, after client.Cursor, want string) (at client.Cursor) {
	t.Helper()
	err := p.Subscribe(t.Context(), "appeal.decided", after, func(_ context.Context, e client.Event) error {
		if e.ID != want {
			t.Errorf("event %q behind cursor %d, not %q", e.ID, after, want)
		}
		at = e.Cursor
		return errEnough
	})
	if !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
	return at
}
