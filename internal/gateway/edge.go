package gateway

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Guard wraps a listener with what net/http does not refuse by itself
// (trust.md, "HTTP edge"): messages whose length two servers could read
// differently (request smuggling, RFC 9112 §11.2), and more connections than one
// address or the whole may have.
func Guard(l net.Listener, limits Limits) net.Listener {
	limits = limits.Or(DefaultLimits())
	return &guarded{Listener: l, limits: limits, per: map[netip.Addr]int{}}
}

type guarded struct {
	net.Listener
	limits Limits

	mu  sync.Mutex
	per map[netip.Addr]int
	all int
}

func (g *guarded) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := addressOf(c)
		if g.enter(from) {
			return &conn{Conn: c, leave: sync.OnceFunc(func() { g.leave(from) }), maxHeader: g.limits.Headers, writeWithin: g.limits.BodyWithin}, nil
		}
		// A fresh socket's buffer takes these bytes at once; the deadline is for
		// the case that it does not.
		_ = c.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = c.Write(rawProblem(503, "Too many open connections"))
		_ = c.Close()
	}
}

func addressOf(c net.Conn) netip.Addr {
	if a, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil {
		addr := a.Addr().Unmap()
		if addr.Is6() { // whoever has one address of a /64 has them all
			if p, err := addr.WithZone("").Prefix(64); err == nil {
				return p.Addr()
			}
		}
		return addr
	}
	return netip.Addr{}
}

func (g *guarded) enter(from netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all >= g.limits.Connections || g.per[from] >= g.limits.PerAddress {
		return false
	}
	g.all++
	g.per[from]++
	return true
}

func (g *guarded) leave(from netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all--
	if g.per[from]--; g.per[from] <= 0 {
		delete(g.per, from)
	}
}

// conn follows the framing of the requests that it carries and fails the read
// of the first one that is ambiguous; net/http then answers 400 and closes. It
// is stricter than net/http everywhere, so that what passes is read by both in
// the same way.
type conn struct {
	net.Conn
	leave     func()
	maxHeader int
	// writeWithin bounds each write: who asks and does not read the answer keeps
	// no connection. It bounds no handler, as Server.WriteTimeout would.
	writeWithin time.Duration

	// Only Read, which net/http calls from one goroutine at a time, uses these.
	frame framing
	err   error

	why atomic.Pointer[error] // err, for Write
}

func (c *conn) Close() error {
	c.leave()
	return c.Conn.Close()
}

const refused = "X\r\n\r\n"

// CloseWrite lets net/http end a refused connection without a reset, so that the
// client reads the answer.
func (c *conn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

// plain is what net/http's own refusals (400, 431, 505 ...) hold behind their
// status line; handlers cannot make it.
const plain = "\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"

// Write turns those refusals into problem+json, as every other error is.
func (c *conn) Write(p []byte) (int, error) {
	if c.writeWithin > 0 {
		if err := c.SetWriteDeadline(time.Now().Add(c.writeWithin)); err != nil {
			return 0, err
		}
	}
	if len(p) < 512 && bytes.HasPrefix(p, []byte("HTTP/1.1 ")) && len(p) > 12 && (p[9] == '4' || p[9] == '5') {
		if i := bytes.Index(p, []byte(plain)); i > 0 && bytes.IndexByte(p, '\r') == i {
			status, reason, _ := strings.Cut(string(p[9:i]), " ")
			if n, err := strconv.Atoi(status); err == nil {
				if why := c.why.Load(); why != nil {
					reason = "Bad Request: " + (*why).Error()
				}
				if _, err := c.Conn.Write(rawProblem(n, reason)); err != nil {
					return 0, err
				}
				return len(p), nil
			}
		}
	}
	return c.Conn.Write(p)
}

// rawProblem is a whole response, for what is refused before there is a request.
func rawProblem(status int, title string) []byte {
	body := append(appendString([]byte(`{"status":`+strconv.Itoa(status)+`,"title":`), title), `,"type":"about:blank"}`...)
	head := "HTTP/1.1 " + strconv.Itoa(status) + " " + http.StatusText(status) + "\r\nContent-Type: application/problem+json\r\nConnection: close\r\nContent-Length: " + strconv.Itoa(len(body))
	if status == http.StatusServiceUnavailable {
		head += "\r\nRetry-After: 5"
	}
	return append([]byte(head+"\r\n\r\n"), body...)
}

func (c *conn) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.Conn.Read(p)
	if n > 0 {
		good, bad := c.frame.take(p[:n], c.maxHeader)
		if bad != nil {
			// What lies before the bad request is good; the next read fails. net/http
			// answers nothing to a read that fails before a request has begun, so a
			// request that it surely refuses stands in for one that has not.
			c.err = bad
			c.why.Store(&c.err)
			if c.frame.state == inHeader && len(c.frame.part) == 0 && len(p)-good >= len(refused) {
				return good + copy(p[good:], refused), nil
			}
			if good == 0 {
				return 0, bad
			}
			return good, nil
		}
	}
	return n, err
}

// framing errors. net/http answers 400 to any error of a header's read that is
// not one of the network.
var (
	errVersion  = errors.New("the first line is not one of HTTP/1.1")
	errFold     = errors.New("a header line is folded")
	errLength   = errors.New("the length of the message is ambiguous")
	errLine     = errors.New("a line does not end in CR LF")
	errChunk    = errors.New("a chunk is malformed")
	errTrailer  = errors.New("a line of the trailer is malformed")
	errExpect   = errors.New("Expect may be 100-continue only")
	errOverlong = errors.New("a line is too long")
)

type framingState uint8

const (
	inHeader   framingState = iota
	inBody                  // left bytes
	inSize                  // a chunk's size line
	inChunk                 // left bytes, with their CR LF
	inTrailer               // lines up to an empty one
	passingOut              // not ours to follow: a header too long, which net/http refuses
)

// framing is where in the stream of requests a connection is.
type framing struct {
	state framingState
	left  int64
	part  []byte // of a header or line that is not complete yet
	total int    // bytes of header lines seen
}

const maxLine = 4 << 10

// take follows b. It returns how much of b precedes a bad message, and what is
// bad; with a nil error all of b is good.
func (f *framing) take(b []byte, maxHeader int) (good int, err error) {
	at := 0
	for at < len(b) {
		rest := b[at:]
		switch f.state {
		case passingOut:
			return len(b), nil
		case inBody, inChunk:
			n := min(int64(len(rest)), f.left)
			if f.state == inChunk && !endsChunk(rest[:n], f.left) {
				return at, errChunk
			}
			f.left -= n
			at += int(n)
			if f.left == 0 {
				if f.state == inChunk {
					f.state = inSize
				} else {
					f.state = inHeader
				}
			}
		case inHeader:
			n, done := f.header(rest)
			if !done {
				if len(f.part) > maxHeader+keptBuffer {
					f.state, f.part = passingOut, nil
				}
				return len(b), nil
			}
			if err := f.judge(f.headerBytes(rest[:n])); err != nil {
				// Nothing of this request has been completed towards the server.
				return at, err
			}
			if f.part = f.part[:0]; cap(f.part) > maxLine {
				f.part = nil
			}
			at += n
		case inSize, inTrailer:
			n, line, done := f.line(rest)
			if !done {
				if len(f.part) > maxLine {
					return at, errOverlong
				}
				return len(b), nil
			}
			if err := f.chunkLine(line); err != nil {
				return at, err
			}
			f.part = f.part[:0]
			at += n
		}
	}
	return len(b), nil
}

// endsChunk checks the CR LF that closes a chunk's data, where it lies in b; left
// is what was left before b, CR LF included.
func endsChunk(b []byte, left int64) bool {
	for i, want := range [...]byte{'\r', '\n'} {
		at := left - 2 + int64(i)
		if at >= 0 && at < int64(len(b)) && b[at] != want {
			return false
		}
	}
	return true
}

// header looks for the end of the header section. What is incomplete is kept.
func (f *framing) header(b []byte) (n int, done bool) {
	if len(f.part) == 0 {
		if i := endOfHeader(b, 0); i >= 0 {
			return i, true
		}
		f.part = append(f.part, b...)
		return 0, false
	}
	had := len(f.part)
	f.part = append(f.part, b...)
	if i := endOfHeader(f.part, max(0, had-3)); i >= 0 {
		f.part = f.part[:i]
		return i - had, true
	}
	return 0, false
}

// headerBytes is the whole section: what was kept, or what came at once.
func (f *framing) headerBytes(b []byte) []byte {
	if len(f.part) > 0 {
		return f.part
	}
	return b
}

// endOfHeader is the index behind the empty line that ends the section. An empty
// line after a bare LF counts too: net/http takes it for the end, and judge then
// refuses the LF.
func endOfHeader(b []byte, from int) int {
	for {
		i := bytes.IndexByte(b[from:], '\n')
		if i < 0 {
			return -1
		}
		at := from + i + 1
		switch {
		case at < len(b) && b[at] == '\n':
			return at + 1
		case at+1 < len(b) && b[at] == '\r' && b[at+1] == '\n':
			return at + 2
		case at == 1 || at == 2 && b[0] == '\r': // an empty line first of all
			return at
		}
		from = at
	}
}

// judge reads a whole header section and says what follows it.
func (f *framing) judge(b []byte) error {
	var length, chunked bool
	f.left = 0
	first := true
	old := false
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		if i < 1 || b[i-1] != '\r' {
			return errLine
		}
		line := b[:i-1]
		b = b[i+1:]
		if bytes.IndexByte(line, '\r') >= 0 || bytes.IndexByte(line, 0) >= 0 {
			return errLine
		}
		if first {
			first = false
			old = bytes.HasSuffix(line, []byte(" HTTP/1.0"))
			if !old && !bytes.HasSuffix(line, []byte(" HTTP/1.1")) {
				return errVersion
			}
			continue
		}
		if len(line) == 0 {
			break
		}
		switch line[0] {
		case ' ', '\t':
			return errFold // RFC 9112 §5.2
		case 'e', 'E':
			// RFC 9110 §10.1.1; net/http's own 417 has no body.
			if value, ok := field(line, "expect"); ok && !bytes.EqualFold(value, []byte("100-continue")) {
				return errExpect
			}
		case 't', 'T':
			value, ok := field(line, "transfer-encoding")
			if !ok {
				continue
			}
			// Once, alone, and nothing but chunked (RFC 9112 §6.1).
			if chunked || old || !bytes.EqualFold(value, []byte("chunked")) {
				return errLength
			}
			chunked = true
		case 'c', 'C':
			value, ok := field(line, "content-length")
			if !ok {
				continue
			}
			n, ok := digits(value)
			if length || !ok {
				return errLength
			}
			length, f.left = true, n
		}
	}
	if length && chunked {
		return errLength
	}
	f.state = inHeader
	switch {
	case chunked:
		f.state = inSize
	case f.left > 0:
		f.state = inBody
	}
	return nil
}

// field returns the value of a header line whose name is name. A name with
// blanks behind it is a name too: net/http refuses it, others may not.
func field(line []byte, name string) ([]byte, bool) {
	n := len(name)
	if len(line) <= n || !bytes.EqualFold(line[:n], []byte(name)) {
		return nil, false
	}
	rest := bytes.TrimLeft(line[n:], " \t")
	if len(rest) == 0 || rest[0] != ':' {
		return nil, false
	}
	return bytes.Trim(rest[1:], " \t"), true
}

func digits(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// named says whether a field line begins with a name and its colon (RFC 9110 §5.1):
// net/http fails on others while it reads the body, when a handler may be at work.
func named(line []byte) bool {
	name, _, ok := bytes.Cut(line, []byte(":"))
	return ok && len(name) > 0 && !bytes.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}

// line looks for the end of a line; what is incomplete is kept.
func (f *framing) line(b []byte) (n int, line []byte, done bool) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		f.part = append(f.part, b...)
		return 0, nil, false
	}
	if len(f.part) == 0 {
		return i + 1, b[:i+1], true
	}
	f.part = append(f.part, b[:i+1]...)
	return i + 1, f.part, true
}

// chunkLine reads a chunk's size line, or a line of the trailer.
func (f *framing) chunkLine(line []byte) error {
	if len(line) < 2 || line[len(line)-2] != '\r' {
		return errLine
	}
	line = line[:len(line)-2]
	if bytes.IndexByte(line, '\r') >= 0 {
		return errLine
	}
	if f.state == inTrailer {
		if len(line) > 0 && (line[0] == ' ' || line[0] == '\t') {
			return errFold
		}
		if len(line) == 0 {
			f.state, f.total = inHeader, 0
			return nil
		}
		if f.total += len(line); f.total > maxLine {
			return errOverlong
		}
		if !named(line) {
			return errTrailer
		}
		return nil
	}
	// Extensions mean nothing to us, and parsers differ on them: none are taken.
	if len(line) == 0 || len(line) > 8 {
		return errChunk
	}
	var n int64
	for _, c := range line {
		d := bytes.IndexByte([]byte("0123456789abcdef"), c|0x20)
		if d < 0 || c < '0' {
			return errChunk
		}
		n = n<<4 | int64(d)
	}
	if n == 0 {
		f.state = inTrailer
		return nil
	}
	f.state, f.left = inChunk, n+2
	return nil
}
