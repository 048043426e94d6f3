package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
)

// Server serves a handler on a listener with the edge's limits in force.
type Server struct {
	http *http.Server
	l    net.Listener
}

// NewServer prepares the server; the listener is wrapped by Guard.
func NewServer(l net.Listener, h http.Handler, limits Limits, log *slog.Logger) *Server {
	limits = limits.Or(DefaultLimits())
	var protocols http.Protocols
	protocols.SetHTTP1(true) // Guard reads HTTP/1 framing and nothing else
	return &Server{l: Guard(l, limits), http: &http.Server{
		Handler:           h,
		ReadHeaderTimeout: limits.HeaderWithin,
		ReadTimeout:       limits.BodyWithin,
		IdleTimeout:       limits.Idle,
		// net/http reads 4 KiB beyond what it is told.
		MaxHeaderBytes: max(limits.Headers-4<<10, 1<<10),
		Protocols:      &protocols,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}
}

// Addr is where it listens.
func (s *Server) Addr() net.Addr { return s.l.Addr() }

// Serve returns when the server is shut down, with nil, or when it fails.
func (s *Server) Serve() error {
	if err := s.http.Serve(s.l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
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
