package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// startWith runs the binary on the content that it carries and these settings.
func startWith(t *testing.T, settings string) *server {
	t.Helper()
	content := t.TempDir()
	if err := os.Mkdir(filepath.Join(content, "config"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(content, "config", "dime.yaml"), []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	return startOn(t, content)
}

// from gives a client that calls from an address of its own.
func from(t *testing.T, address string) *http.Client {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	tr := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		return d.DialContext(ctx, network, addr)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

// drip sends the beginning and then a piece again and again, until the server
// cuts the connection; the error is nil if it did.
func drip(address, to, beginning, piece string) error {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	c, err := d.Dial("tcp", to)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	cut := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, c)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			cut <- fmt.Errorf("the server still listens: %w", err)
			return
		}
		cut <- nil
	}()
	if _, err := io.WriteString(c, beginning); err != nil {
		return err
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-cut:
			return err
		case <-tick.C:
			_, _ = io.WriteString(c, piece) // what the server has cut fails, and cut says so
		}
	}
}

// Senders that take their time (slowloris) hold all the connections that their
// address may have. Each is cut off at the bound, although it sends all the while;
// nobody else waits for them; and then their address is served again.
func TestSlowSenders(t *testing.T) {
	const each = 32
	s := startWith(t, fmt.Sprintf("limits: {header_within: 400ms, body_within: 800ms, connections_per_address: %d}\n", each))
	head := "POST /v1/appointments HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nAuthorization: Bearer " + s.token(t, citizen) + "\r\n"
	for i, c := range []struct{ name, to, path, beginning, piece string }{
		{"request line", s.public, "/v1/addresses?q=rialto", "G", "E"},
		{"header", s.public, "/v1/addresses?q=rialto", "GET / HTTP/1.1\r\nHost: a\r\n", "X-A: b\r\n"},
		{"body by length", s.public, "/v1/addresses?q=rialto", head + "Content-Length: 100000\r\n\r\n{", " "},
		{"body in chunks", s.public, "/v1/addresses?q=rialto", head + "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", "1\r\n \r\n"},
		{"body of the wrong route", s.public, "/v1/addresses?q=rialto", "POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n{", " "},
		{"admin header", s.admin, "/livez", "GET /livez HTTP/1.1\r\nHost: localhost\r\n", "X-A: b\r\n"},
		{"admin body", s.admin, "/livez", "POST /runs/x/cancel HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{", " "},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // from addresses of its own
			theirs := fmt.Sprintf("127.0.2.%d", i+1)
			var slow sync.WaitGroup
			errs := make(chan error, each)
			for range each {
				slow.Go(func() {
					if err := drip(theirs, strings.TrimPrefix(c.to, "http://"), c.beginning, c.piece); err != nil {
						errs <- err
					}
				})
			}
			others := from(t, fmt.Sprintf("127.0.3.%d", i+1))
			for range 20 {
				resp, err := others.Get(c.to + c.path)
				if err != nil {
					t.Fatalf("somebody else is not served: %v", err)
				}
				resp.Body.Close()
				if resp.StatusCode != 200 {
					t.Fatalf("somebody else is answered %d", resp.StatusCode)
				}
			}
			slow.Wait()
			close(errs)
			for err := range errs {
				t.Error(err)
			}
			resp, err := from(t, theirs).Get(c.to + c.path)
			if err != nil {
				t.Fatalf("the slow ones' address is not served again: %v", err)
			}
			resp.Body.Close()
			if resp.StatusCode != 200 {
				t.Errorf("the slow ones' address is answered %d", resp.StatusCode)
			}
		})
	}
}

// Whoever sends a request and does not read the answer keeps no connection either.
func TestSlowReaders(t *testing.T) {
	s := startWith(t, "limits: {header_within: 400ms, body_within: 800ms}\n")
	c, err := net.Dial("tcp", strings.TrimPrefix(s.public, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	ask := "GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n"
	for { // until the server no longer takes what it can't answer
		if _, err := io.WriteString(c, strings.Repeat(ask, 100)); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the server still holds the connection: %v", err)
			}
			return
		}
	}
}

// What a page in an operator's browser could send to the admin face, by a name of
// its own (DNS rebinding) or from another site, is refused and does nothing.
func TestAdminAgainstBrowsers(t *testing.T) {
	s := start(t)
	addr := strings.TrimPrefix(s.admin, "http://")
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	act := `{"as":"evil","reason":"x"}`
	ask := func(method, path, host string, body string, headers ...string) string {
		b := method + " " + path + " HTTP/1.1\r\nConnection: close\r\n"
		if host != "" {
			b += "Host: " + host + "\r\n"
		}
		for _, h := range headers {
			b += h + "\r\n"
		}
		if body != "" {
			b += fmt.Sprintf("Content-Length: %d\r\n", len(body))
		}
		return b + "\r\n" + body
	}
	asJSON := "Content-Type: application/json"
	for _, c := range []struct {
		name, raw string
		status    int
	}{
		{"rebound name", ask("GET", "/runs", "evil.example:"+port, ""), 421},
		{"rebound name, no port", ask("GET", "/runs", "evil.example", ""), 421},
		{"rebound name that begins well", ask("GET", "/runs", "localhost.evil.example:"+port, ""), 421},
		{"rebound name that holds the address", ask("GET", "/runs", "127.0.0.1.evil.example:"+port, ""), 421},
		{"name with a dot behind", ask("GET", "/runs", "localhost.:"+port, ""), 421},
		{"address in another form", ask("GET", "/runs", "2130706433:"+port, ""), 421},
		{"any address", ask("GET", "/runs", "0.0.0.0:"+port, ""), 421},
		{"user before the name", ask("GET", "/runs", "localhost@evil.example:"+port, ""), 400},
		{"rebound act", ask("POST", "/runs/x/cancel", "evil.example:"+port, act, asJSON), 421},
		{"rebound by absolute target", ask("GET", "http://evil.example/runs", "localhost:"+port, ""), 421},
		{"forwarded name", ask("GET", "/runs", "evil.example:"+port, "", "X-Forwarded-Host: localhost"), 421},
		{"rebound metrics", ask("GET", "/metrics", "evil.example:"+port, ""), 421},
		{"another site", ask("POST", "/runs/x/cancel", "localhost:"+port, act, asJSON, "Origin: https://evil.example", "Sec-Fetch-Site: cross-site"), 403},
		{"another site's form", ask("POST", "/runs/x/cancel", "localhost:"+port, act, "Content-Type: text/plain", "Origin: https://evil.example", "Sec-Fetch-Site: cross-site"), 403},
		{"an old browser on another site", ask("POST", "/runs/x/cancel", "localhost:"+port, act, asJSON, "Origin: https://evil.example"), 403},
		{"another port of this machine", ask("POST", "/runs/x/cancel", "localhost:"+port, act, asJSON, "Origin: http://localhost:1", "Sec-Fetch-Site: same-site"), 403},
		{"a sandboxed page", ask("POST", "/events/1/settle", "localhost:"+port, act, asJSON, "Origin: null", "Sec-Fetch-Site: cross-site"), 403},
		{"preflight", ask("OPTIONS", "/runs/x/cancel", "localhost:"+port, "", "Origin: https://evil.example", "Access-Control-Request-Method: POST"), 404},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp, body := send(t, addr, c.raw)
			if resp.StatusCode != c.status {
				t.Errorf("answered %d, want %d: %s", resp.StatusCode, c.status, body)
			}
			if a := resp.Header.Get("Access-Control-Allow-Origin"); a != "" {
				t.Errorf("it lets %q read the answer", a)
			}
			if strings.Contains(string(body), `"runs"`) {
				t.Errorf("it shows runs: %s", body)
			}
		})
	}
	for _, host := range []string{"localhost:" + port, "127.0.0.1:" + port, "[::1]:" + port} {
		if resp, body := send(t, addr, ask("GET", "/runs", host, "")); resp.StatusCode != 200 {
			t.Errorf("the operator at %s is answered %d: %s", host, resp.StatusCode, body)
		}
	}
}
