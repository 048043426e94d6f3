// Package httpclient is the one way in which connectors speak HTTP to the
// outside. It follows no redirects (3xx is an answer), reads no proxy from the
// environment, bounds what it waits for and what it reads, and tells a request
// that surely did not reach the far side from one that may have (semantics 3).
package httpclient

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/dime-bus/dime/internal/fault"
)

// MaxBody is what is read of an answer; a longer one is a contract fault.
const MaxBody = 8 << 20

// Config of a Client; zero values take the defaults in brackets.
type Config struct {
	Dial    time.Duration // connecting, name look-up included [5 s]
	TLS     time.Duration // handshake [5 s]
	Header  time.Duration // from the request's end to the answer's first line [60 s]: a stop behind the caller's own deadline
	MaxBody int64         // bytes of an answer [MaxBody]
	Idle    int           // connections kept to one host [256]
	RootCAs *tls.Config   // TLS settings; nil takes the system's roots, TLS 1.2 at least
}

// Client is safe for concurrent use and is meant to be shared by all connectors.
type Client struct {
	transport *http.Transport
	maxBody   int64
}

// New makes a Client.
func New(c Config) *Client {
	or := func(d, def time.Duration) time.Duration {
		if d == 0 {
			return def
		}
		return d
	}
	if c.MaxBody == 0 {
		c.MaxBody = MaxBody
	}
	if c.Idle == 0 {
		c.Idle = 256
	}
	tlsConfig := c.RootCAs
	if tlsConfig == nil {
		tlsConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	dialer := &net.Dialer{Timeout: or(c.Dial, 5*time.Second), KeepAlive: 30 * time.Second}
	return &Client{
		maxBody: c.MaxBody,
		transport: &http.Transport{
			Proxy:                  nil, // never from the environment: a proxy would see every citizen's data
			DialContext:            dialer.DialContext,
			TLSClientConfig:        tlsConfig,
			TLSHandshakeTimeout:    or(c.TLS, 5*time.Second),
			ResponseHeaderTimeout:  or(c.Header, 60*time.Second),
			MaxResponseHeaderBytes: 64 << 10,
			MaxIdleConns:           4 * c.Idle,
			MaxIdleConnsPerHost:    c.Idle,
			IdleConnTimeout:        90 * time.Second,
			DisableCompression:     true, // an answer of 8 MiB must not unpack into gigabytes
			ForceAttemptHTTP2:      true,
			WriteBufferSize:        8 << 10,
			ReadBufferSize:         8 << 10,
		},
	}
}

// Close drops the connections that are kept.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Request is one request. Headers are written as their map keys are spelled.
type Request struct {
	Method string
	URL    *url.URL
	Header http.Header
	Body   []byte // nil sends none
	Safe   bool   // reads only: no answer in time is a timeout, not an unknown outcome
	Key    string // effect's key, sent as Idempotency-Key; "" sends none
}

// Response is an answer, whatever its status, read whole.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// Do makes one attempt. Its error is a *fault.Error:
//   - Unavailable, Sent false: no connection was made, so surely no effect
//   - Timeout: a safe request got no answer before ctx's deadline
//   - Unavailable, Sent true: a safe request's connection broke
//   - Unknown, Sent true: a request that is not safe may have been carried out
//   - Contract: the answer is longer than the bound
func (c *Client) Do(ctx context.Context, r Request) (*Response, error) {
	req := http.Request{
		Method: r.Method, URL: r.URL, Host: r.URL.Host, Header: r.Header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	if req.Header == nil {
		req.Header = http.Header{}
	}
	if trace := Traceparent(ctx); trace != "" {
		req.Header["Traceparent"] = []string{trace}
	}
	if r.Key != "" {
		// net/http's Transport sends a request again by itself when it finds
		// "Idempotency-Key" among the headers and the connection broke. Attempts
		// are the engine's decision and the far side may not keep its word, so the
		// name is spelled otherwise: on the wire it is the same header.
		delete(req.Header, "Idempotency-Key")
		req.Header["idempotency-key"] = []string{r.Key}
	}
	if len(r.Body) > 0 {
		req.ContentLength = int64(len(r.Body))
		body := r.Body
		req.Body = io.NopCloser(bytes.NewReader(body))
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	} else {
		req.Body = http.NoBody
	}
	var sent *atomic.Bool
	if !r.Safe {
		// The trace costs allocations; only effects need to know.
		sent = new(atomic.Bool)
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
			GotConn: func(httptrace.GotConnInfo) { sent.Store(true) },
		})
	}
	resp, err := c.transport.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return nil, noAnswer(ctx, err, r.Safe, sent)
	}
	defer resp.Body.Close()
	body, err := c.read(resp)
	if err != nil {
		if errors.Is(err, errTooLong) {
			return nil, &fault.Error{Kind: fault.Contract, Sent: true, Raw: clip(body), Detail: fmt.Sprintf("the answer is longer than %d bytes", c.maxBody), Err: err}
		}
		return nil, noAnswer(ctx, fmt.Errorf("reading the answer: %w", err), r.Safe, sent)
	}
	return &Response{Status: resp.StatusCode, Header: resp.Header, Body: body}, nil
}

var errTooLong = errors.New("answer too long")

func (c *Client) read(resp *http.Response) ([]byte, error) {
	n := resp.ContentLength
	switch {
	case n == 0:
		return nil, nil
	case n > c.maxBody:
		return nil, errTooLong
	case n > 0:
		b := make([]byte, n)
		_, err := io.ReadFull(resp.Body, b)
		return b, err
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, c.maxBody+1))
	if err == nil && int64(len(b)) > c.maxBody {
		return b, errTooLong
	}
	return b, err
}

// noAnswer maps a transport error. sent is nil for safe requests.
func noAnswer(ctx context.Context, err error, safe bool, sent *atomic.Bool) *fault.Error {
	var op *net.OpError
	dial := errors.As(err, &op) && op.Op == "dial"
	late := errors.Is(err, context.DeadlineExceeded) || errors.Is(ctx.Err(), context.DeadlineExceeded) || isTimeout(err)
	switch {
	case !safe && !sent.Load():
		return &fault.Error{Kind: fault.Unavailable, Detail: "the system behind could not be reached", Err: err}
	case !safe:
		return &fault.Error{Kind: fault.Unknown, Sent: true, Detail: "the request was sent and got no answer", Err: err}
	case dial && !late:
		return &fault.Error{Kind: fault.Unavailable, Detail: "the system behind could not be reached", Err: err}
	case late:
		return &fault.Error{Kind: fault.Timeout, Sent: true, Detail: "no answer in time", Err: err}
	}
	return &fault.Error{Kind: fault.Unavailable, Sent: true, Detail: "the connection broke", Err: err}
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// Clip bounds what is kept of an answer in a fault.
func clip(b []byte) []byte {
	if len(b) > 64<<10 {
		b = b[:64<<10]
	}
	return b
}

type traceKey struct{}

// WithTraceparent makes requests under the returned context carry the W3C trace
// context v.
func WithTraceparent(ctx context.Context, v string) context.Context {
	return context.WithValue(ctx, traceKey{}, v)
}

// Traceparent returns it, or "".
func Traceparent(ctx context.Context) string {
	v, _ := ctx.Value(traceKey{}).(string)
	return v
}
