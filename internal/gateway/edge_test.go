package gateway

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// serve starts a real server on loopback; the handler answers each request with
// its method, path and body.
func serve(t testing.TB, limits Limits) string {
	t.Helper()
	return serveHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, "{}")
			return
		}
		_, _ = io.WriteString(w, r.Method+" "+r.URL.Path+" "+string(b))
	}), limits)
}

func serveHandler(t testing.TB, h http.Handler, limits Limits) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(l, h, limits, slog.New(slog.DiscardHandler))
	done := make(chan error, 1)
	go func() { done <- s.Serve() }()
	t.Cleanup(func() {
		if err := s.http.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s.Addr().String()
}

// raw sends bytes and returns the statuses and bodies that come back until the
// server closes, or `want` answers have come.
func raw(t testing.TB, addr, text string, want int) (statuses []int, bodies []string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// What the server never answers must fail, not hang.
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	for len(statuses) < want {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return statuses, bodies
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		statuses, bodies = append(statuses, resp.StatusCode), append(bodies, string(b))
		if resp.StatusCode >= 400 {
			if ct := resp.Header.Get("Content-Type"); ct != "application/problem+json" || !json.Valid(b) {
				t.Errorf("a refusal is %s: %q", ct, b)
			}
			if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
				t.Errorf("after a refusal: %q %v", rest, err)
			}
			return statuses, bodies
		}
	}
	return statuses, bodies
}

const host = "Host: x\r\n"

func TestSmuggling(t *testing.T) {
	addr := serve(t, Limits{})
	post := "POST /a HTTP/1.1\r\n" + host
	for name, text := range map[string]string{
		"length and encoding":        post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"encoding and length":        post + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
		"in any case":                post + "transfer-ENCODING: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
		"folded encoding":            post + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
		"folded with a tab":          post + "Transfer-Encoding: chunked,\r\n\tidentity\r\n\r\n0\r\n\r\n",
		"folded other":               post + "X-A: b\r\n c\r\n\r\n",
		"encoding twice":             post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"other encoding":             post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"encoding quoted":            post + "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
		"encoding in HTTP/1.0":       "POST /a HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"blank before colon":         post + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
		"length twice":               post + "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
		"lengths differ":             post + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nx",
		"length list":                post + "Content-Length: 1, 1\r\n\r\nx",
		"length signed":              post + "Content-Length: +1\r\n\r\nx",
		"length hex":                 post + "Content-Length: 0x1\r\n\r\nx",
		"length empty":               post + "Content-Length:\r\n\r\n",
		"length huge":                post + "Content-Length: 99999999999999999999\r\n\r\n",
		"bare LF":                    "POST /a HTTP/1.1\nHost: x\nContent-Length: 0\n\n",
		"bare LF at the end":         post + "Content-Length: 0\r\n\n",
		"bare CR":                    post + "X: a\rTransfer-Encoding: chunked\r\n\r\n",
		"NUL":                        post + "X: a\x00b\r\n\r\n",
		"no host":                    "GET / HTTP/1.1\r\n\r\n",
		"not HTTP":                   "hello\r\n\r\n",
		"HTTP/2 preface":             "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"header too long":            "GET / HTTP/1.1\r\n" + host + "X: " + strings.Repeat("a", 40<<10) + "\r\n\r\n",
		"headers too many":           "GET / HTTP/1.1\r\n" + host + strings.Repeat("X: aaaaaaaa\r\n", 4<<10) + "\r\n",
		"chunk with extension":       post + "Transfer-Encoding: chunked\r\n\r\n1;a=b\r\nx\r\n0\r\n\r\n",
		"chunk size signed":          post + "Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n",
		"chunk size with LF":         post + "Transfer-Encoding: chunked\r\n\r\n1\nx\r\n0\r\n\r\n",
		"chunk longer than its size": post + "Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n",
		"chunk size overflows":       post + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nx",
	} {
		t.Run(name, func(t *testing.T) {
			statuses, bodies := raw(t, addr, text, 2)
			if len(statuses) != 1 || statuses[0] < 400 || statuses[0] >= 500 && statuses[0] != 505 {
				t.Errorf("answered %v %q", statuses, bodies)
			}
		})
	}
}

func TestGoodFraming(t *testing.T) {
	addr := serve(t, Limits{})
	text := "POST /a HTTP/1.1\r\n" + host + "Content-Length: 5\r\n\r\nhello" +
		"GET /b HTTP/1.1\r\n" + host + "\r\n" +
		"POST /c HTTP/1.1\r\n" + host + "Transfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\nX-T: 1\r\n\r\n" +
		"POST /d HTTP/1.1\r\n" + host + "Content-Length: 0\r\nContent-Type: a\r\nTE: trailers\r\n\r\n" +
		"GET /e HTTP/1.1\r\n" + host + "Connection: close\r\n\r\n"
	_, bodies := raw(t, addr, text, 9)
	if got := strings.Join(bodies, "|"); got != "POST /a hello|GET /b |POST /c abc0123456789|POST /d |GET /e " {
		t.Errorf("%q", got)
	}
	// A bad request behind good ones: the good ones are answered.
	statuses, _ := raw(t, addr, text[:len(text)-len("GET /e HTTP/1.1\r\n"+host+"Connection: close\r\n\r\n")]+
		"POST /x HTTP/1.1\r\n"+host+"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n"+host+"\r\n", 9)
	if len(statuses) != 5 || statuses[3] != 200 || statuses[4] != 400 {
		t.Errorf("%v", statuses)
	}
}

func TestConnectionsPerAddress(t *testing.T) {
	addr := serve(t, Limits{PerAddress: 2})
	get := "GET / HTTP/1.1\r\n" + host + "\r\n"
	var open []net.Conn
	for range 2 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, get); err != nil {
			t.Fatal(err)
		}
		if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Fatalf("the third connection: %v %v", resp, err)
	}
	if b, err := io.ReadAll(resp.Body); err != nil || !json.Valid(b) {
		t.Errorf("%q %v", b, err)
	}
	// A place that was given back is taken again. The server notices the close in
	// its own time, so the new connection is tried until then.
	if err := open[0].Close(); err != nil {
		t.Fatal(err)
	}
	for {
		statuses, _ := tryRaw(addr, get)
		if len(statuses) == 1 && statuses[0] == 200 {
			return
		}
	}
}

func tryRaw(addr, text string) ([]int, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return nil, err
	}
	return []int{resp.StatusCode}, nil
}

func TestAddresses(t *testing.T) {
	for from, want := range map[string]string{"192.0.2.1:1": "192.0.2.1", "[::ffff:192.0.2.1]:1": "192.0.2.1", "[2a00:1:2:3:4:5:6:7]:1": "2a00:1:2:3::", "pipe": "invalid IP"} {
		if got := addressOf(fakeConn{addr: from}).String(); got != want {
			t.Errorf("%s: %s, want %s", from, got, want)
		}
	}
}

type fakeConn struct {
	net.Conn
	addr string
}

func (f fakeConn) RemoteAddr() net.Addr { return fakeAddr(f.addr) }

type fakeAddr string

func (fakeAddr) Network() string  { return "tcp" }
func (a fakeAddr) String() string { return string(a) }

// follow gives b to a framing in pieces of n bytes and returns what it lets through.
func follow(b []byte, n int) ([]byte, error) {
	var f framing
	var out []byte
	for len(b) > 0 {
		piece := b[:min(n, len(b))]
		b = b[len(piece):]
		good, err := f.take(piece, 32<<10)
		out = append(out, piece[:good]...)
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// requests reads what net/http makes of a stream: method, path and body of each.
func requests(b []byte) (out []string, rest int) {
	src := bytes.NewReader(b)
	r := bufio.NewReader(src)
	for {
		at := len(b) - src.Len() - r.Buffered()
		req, err := http.ReadRequest(r)
		if err != nil {
			return out, at
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return out, at
		}
		out = append(out, req.Method+" "+req.URL.String()+" "+string(body))
	}
}

// FuzzFraming: however a stream is cut into pieces the verdict is one, and where
// the framing saw a request begin, net/http sees it begin there too: what passes
// has one reading.
func FuzzFraming(f *testing.F) {
	post := "POST /a HTTP/1.1\r\n" + host
	for _, s := range []string{
		post + "Content-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n" + host + "\r\n",
		post + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nA: b\r\n\r\nGET / HTTP/1.1\r\n" + host + "\r\n",
		post + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", post + "X: a\r\n b\r\n\r\n", "\r\n\r\n", "GET / HTTP/1.1\n\n", post + "Content-Length: \r\n\r\n",
		post + "Transfer-Encoding: chunked\r\n\r\n00000000\r\n\r\n", post + "Transfer-Encoding:chunked \r\n\r\n1\r\n",
	} {
		f.Add([]byte(s), 7)
	}
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		if n < 1 || len(b) > 16<<10 {
			return
		}
		whole, err := follow(b, len(b)+1)
		pieces, err2 := follow(b, n)
		if !errors.Is(err2, err) || err == nil && !bytes.Equal(whole, pieces) {
			t.Fatalf("whole: %d bytes, %v; in pieces of %d: %d bytes, %v", len(whole), err, n, len(pieces), err2)
		}
		if err != nil {
			return
		}
		// Where our reading ends between requests, theirs must too.
		var fr framing
		if _, err := fr.take(b, 32<<10); err != nil || fr.state != inHeader || len(fr.part) > 0 {
			return
		}
		got, rest := requests(b)
		if rest != len(b) && !refusedByServer(b[rest:]) {
			t.Fatalf("net/http stopped at %d of %d after %q", rest, len(b), got)
		}
	})
}

// refusedByServer: net/http refuses the request for its own reasons (a bad
// request line, a bad header name), which is as safe.
func refusedByServer(b []byte) bool {
	_, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
	return err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF)
}

// deadlined notes the deadline of a write.
type deadlined struct {
	net.Conn
	at time.Time
}

func (d *deadlined) SetWriteDeadline(at time.Time) error { d.at = at; return nil }
func (d *deadlined) Write(p []byte) (int, error)         { return len(p), nil }

func TestWritesHaveADeadline(t *testing.T) {
	d := &deadlined{}
	c := &conn{Conn: d, writeWithin: time.Minute}
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if d.at.IsZero() {
		t.Error("a client that does not read its answer keeps the connection for ever")
	}
}
