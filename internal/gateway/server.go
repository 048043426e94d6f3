package gateway

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// Server serves a handler on a listener with the edge's limits in force.
type Server struct {
	http *http.Server
	l    net.Listener

	retiring atomic.Bool
	served   chan struct{} // closed when nothing is accepted any more
	open     atomic.Int64  // connections
	closed   chan struct{} // receives when one of them was
}

// NewServer prepares the server; the listener is wrapped by Guard.
func NewServer(l net.Listener, h http.Handler, limits Limits, log *slog.Logger) *Server {
	limits = limits.Or(DefaultLimits())
	var protocols http.Protocols
	protocols.SetHTTP1(true) // Guard reads HTTP/1 framing and nothing else
	s := &Server{l: Guard(l, limits), served: make(chan struct{}), closed: make(chan struct{}, 1)}
	s.http = &http.Server{
		Handler:           s.last(h),
		ConnState:         s.count,
		ReadHeaderTimeout: limits.HeaderWithin,
		ReadTimeout:       limits.BodyWithin,
		IdleTimeout:       limits.Idle,
		// net/http reads 4 KiB beyond what it is told.
		MaxHeaderBytes: max(limits.Headers-4<<10, 1<<10),
		Protocols:      &protocols,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return s
}

// last tells the clients of a server that retires to come back on a new
// connection.
func (s *Server) last(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.retiring.Load() {
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
}

func (s *Server) count(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.open.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.open.Add(-1)
		select {
		case s.closed <- struct{}{}:
		default:
		}
	case http.StateActive, http.StateIdle:
	}
}

// Farewell has every answer from here on close its connection: its caller comes
// back on a new one, which a load balancer may take elsewhere.
func (s *Server) Farewell() { s.retiring.Store(true) }

// Retire takes no new connection, but leaves those that wait in the socket's queue
// to whoever listens there next, and answers one more request on each open
// connection, within a time: closing what is kept alive would meet requests that
// are on their way. Shutdown comes after it.
func (s *Server) Retire(ctx context.Context, within time.Duration) {
	s.retiring.Store(true)
	_ = s.l.Close() // Serve's error says whether it failed
	over := time.NewTimer(within)
	defer over.Stop()
	select {
	case <-s.served:
	case <-ctx.Done():
		return
	}
	for s.open.Load() > 0 {
		select {
		case <-s.closed:
		case <-over.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// Readiness answers whether a process takes requests, for the load balancer in
// front of its public face; why it does not is the admin face's to tell.
func Readiness(ready func(context.Context) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secure(w.Header())
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if ready(r.Context()) != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, "not ready\n")
			return
		}
		_, _ = io.WriteString(w, "ready\n")
	})
}

// Addr is where it listens.
func (s *Server) Addr() net.Addr { return s.l.Addr() }

// Serve returns when the server is shut down, with nil, or when it fails.
func (s *Server) Serve() error {
	defer close(s.served)
	err := s.http.Serve(s.l)
	if errors.Is(err, http.ErrServerClosed) || s.retiring.Load() && errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Shutdown takes no new connection and waits for the requests under way, until
// ctx ends; then it cuts them off.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		return errors.Join(err, s.http.Close())
	}
	return nil
}
