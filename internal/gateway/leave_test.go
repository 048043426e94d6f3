package gateway

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A process that leaves says so to the load balancer, serves on with the word to
// come back on a new connection, and then takes none.
func TestLeaving(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var leaves atomic.Bool
	s := NewServer(l, Readiness(func(context.Context) error {
		if leaves.Load() {
			return errors.New("the journal of db.comune.example fails")
		}
		return nil
	}), Limits{}, slog.New(slog.DiscardHandler))
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	c := &http.Client{Transport: &http.Transport{}}
	ask := func() (*http.Response, string) {
		t.Helper()
		resp, err := c.Get("http://" + l.Addr().String() + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(b)
	}
	if resp, body := ask(); resp.StatusCode != 200 || resp.Close || body != "ready\n" {
		t.Errorf("at work: %s, closed %v, %q", resp.Status, resp.Close, body)
	}
	leaves.Store(true)
	s.Farewell()
	for range 2 {
		resp, body := ask()
		if resp.StatusCode != 503 || !resp.Close || strings.Contains(body, "comune") {
			t.Errorf("leaving: %s, closed %v, %q", resp.Status, resp.Close, body)
		}
	}
	s.Retire(t.Context(), time.Minute) // nothing is open: it waits for nobody
	if err := <-served; err != nil {
		t.Error(err)
	}
	if _, err := c.Get("http://" + l.Addr().String()); err == nil {
		t.Error("it takes new connections")
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}
