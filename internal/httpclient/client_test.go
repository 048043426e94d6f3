package httpclient

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/fault"
)

func at(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func kindOf(t *testing.T, err error) *fault.Error {
	t.Helper()
	var f *fault.Error
	if !errors.As(err, &f) {
		t.Fatalf("got %v, want a *fault.Error", err)
	}
	return f
}

func TestFaultOf(t *testing.T) {
	for _, c := range []struct {
		status int
		safe   bool
		kind   fault.Kind
		sent   bool
	}{
		{400, true, fault.Invalid, true}, {422, false, fault.Invalid, true},
		{401, true, fault.Denied, true}, {403, false, fault.Denied, true},
		{404, true, fault.NotFound, true}, {409, false, fault.Conflict, true},
		{418, false, fault.Rejected, true}, {408, true, fault.Rejected, true},
		{429, false, fault.Throttled, false}, {503, false, fault.Unavailable, false}, {503, true, fault.Unavailable, false},
		{500, true, fault.Unavailable, true}, {502, true, fault.Unavailable, true}, {504, true, fault.Unavailable, true},
		{500, false, fault.Unknown, true}, {502, false, fault.Unknown, true}, {504, false, fault.Unknown, true}, {599, false, fault.Unknown, true},
	} {
		f := FaultOf(c.status, c.safe, nil)
		if f.Kind != c.kind || f.Sent != c.sent {
			t.Errorf("%d, safe %v: %s, sent %v; want %s, sent %v", c.status, c.safe, f.Kind, f.Sent, c.kind, c.sent)
		}
	}
	for _, st := range []int{200, 204, 301, 399} {
		if f := FaultOf(st, true, nil); f != nil {
			t.Errorf("%d is %v, want no fault", st, f)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)
	for v, want := range map[string]time.Duration{
		"": 0, "5": 5 * time.Second, "-3": 0, "soon": 0, "9999999": 24 * time.Hour, "99999999999999999999": 0,
		"Tue, 24 Nov 2026 08:00:30 GMT": 30 * time.Second, "Tue, 24 Nov 2026 07:00:00 GMT": 0,
	} {
		if got := RetryAfter(http.Header{"Retry-After": {v}}, now); got != want {
			t.Errorf("%q: %v, want %v", v, got, want)
		}
	}
}

func TestSentOrNot(t *testing.T) {
	hang := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hang":
			select {
			case <-hang:
			case <-r.Context().Done():
			}
		case "/cut":
			conn, _, _ := w.(http.Hijacker).Hijack()
			_ = conn.Close()
		case "/half":
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "half")
		}
	}))
	defer srv.Close()
	defer close(hang)
	closed := httptest.NewServer(nil)
	closed.Close()
	c := New(Config{})
	defer c.Close()
	for _, x := range []struct {
		name, url string
		safe      bool
		kind      fault.Kind
		sent      bool
	}{
		{"refused, safe", closed.URL, true, fault.Unavailable, false},
		{"refused, effect", closed.URL, false, fault.Unavailable, false},
		{"no such host", "http://nowhere.invalid/", false, fault.Unavailable, false},
		{"hang, safe", srv.URL + "/hang", true, fault.Timeout, true},
		{"hang, effect", srv.URL + "/hang", false, fault.Unknown, true},
		{"cut, safe", srv.URL + "/cut", true, fault.Unavailable, true},
		{"cut, effect", srv.URL + "/cut", false, fault.Unknown, true},
		{"half an answer, safe", srv.URL + "/half", true, fault.Unavailable, true},
		{"half an answer, effect", srv.URL + "/half", false, fault.Unknown, true},
	} {
		t.Run(x.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			if strings.HasPrefix(x.name, "hang") {
				cancel()
				ctx, cancel = context.WithTimeout(context.Background(), 300*time.Millisecond)
			}
			defer cancel()
			method := "POST"
			if x.safe {
				method = "GET"
			}
			_, err := c.Do(ctx, Request{Method: method, URL: at(t, x.url), Safe: x.safe, Body: []byte("{}")})
			if f := kindOf(t, err); f.Kind != x.kind || f.Sent != x.sent {
				t.Errorf("got %s, sent %v (%v); want %s, sent %v", f.Kind, f.Sent, err, x.kind, x.sent)
			}
		})
	}
}

// net/http's Transport sends a request again by itself on a broken connection
// that was reused when an Idempotency-Key stands among its headers; attempts are
// the engine's to count.
func TestNoRequestIsSentTwice(t *testing.T) {
	var posts atomic.Int32
	var key atomic.Value
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "GET" {
			return // the connection is kept
		}
		posts.Add(1)
		key.Store(r.Header.Get("Idempotency-Key"))
		conn, _, _ := w.(http.Hijacker).Hijack()
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
	}))
	defer srv.Close()
	c := New(Config{})
	defer c.Close()
	for _, body := range [][]byte{nil, []byte(`{"a":1}`)} {
		posts.Store(0)
		if _, err := c.Do(context.Background(), Request{Method: "GET", URL: at(t, srv.URL), Safe: true}); err != nil {
			t.Fatal(err)
		}
		_, err := c.Do(context.Background(), Request{Method: "POST", URL: at(t, srv.URL), Body: body, Key: "k-1"})
		if f := kindOf(t, err); f.Kind != fault.Unknown || posts.Load() != 1 || key.Load() != "k-1" {
			t.Errorf("%s, %d requests with the key %q; want unknown, 1 and k-1", f.Kind, posts.Load(), key.Load())
		}
	}
}

func TestAnswers(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		case "/elsewhere":
			t.Error("a redirect was followed")
		case "/long":
			_, _ = w.Write(make([]byte, 200))
		case "/long-said":
			w.Header().Set("Content-Length", "200")
			_, _ = w.Write(make([]byte, 200))
		default:
			_, _ = io.WriteString(w, r.Header.Get("Traceparent"))
		}
	}))
	defer srv.Close()
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	c := New(Config{MaxBody: 100})
	defer c.Close()
	ctx := WithTraceparent(context.Background(), "00-1-2-01")
	r, err := c.Do(ctx, Request{Method: "GET", URL: at(t, srv.URL), Safe: true})
	if err != nil || string(r.Body) != "00-1-2-01" {
		t.Errorf("got %v, %v; want the trace context", r, err)
	}
	r, err = c.Do(ctx, Request{Method: "GET", URL: at(t, srv.URL+"/moved"), Safe: true})
	if err != nil || r.Status != http.StatusFound || r.Header.Get("Location") != "/elsewhere" {
		t.Errorf("got %v, %v; want 302 as it is", r, err)
	}
	for _, p := range []string{"/long", "/long-said"} {
		_, err = c.Do(ctx, Request{Method: "GET", URL: at(t, srv.URL+p), Safe: true})
		if f := kindOf(t, err); f.Kind != fault.Contract {
			t.Errorf("%s: %v, want a contract fault", p, err)
		}
	}
}
