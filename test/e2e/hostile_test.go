package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

const citizen = "RSSMRA80A01L736U"

// hostile is a request that must be refused: 4xx (or one named otherwise) with
// problem+json (RFC 9457), by a server that lives on.
type hostile struct {
	name, raw string
	status    int // 0: any 4xx
}

// send writes a raw request and reads one answer.
func send(t *testing.T, addr, text string) (*http.Response, []byte) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.WriteString(c, text) }() // the server may answer and close before all is sent
	method, _, _ := strings.Cut(text, " ")
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("half an answer: %v", err)
	}
	return resp, b
}

func request(method, target string, headers []string, body string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: dime.example\r\nConnection: close\r\n", method, target)
	for _, h := range headers {
		b.WriteString(h + "\r\n")
	}
	if body != "" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n" + body)
	return b.String()
}

func hostiles(token string) []hostile {
	auth, asJSON := "Authorization: Bearer "+token, "Content-Type: application/json"
	form := "Content-Type: multipart/form-data; boundary=x"
	var all []hostile
	add := func(name, raw string, status int) { all = append(all, hostile{name, raw, status}) }
	get := func(name, target string, status int, headers ...string) {
		add(name, request("GET", target, headers, ""), status)
	}
	post := func(name, body string, status int, headers ...string) {
		if headers == nil {
			headers = []string{asJSON}
		}
		add(name, request("POST", "/v1/appointments", append(headers, auth), body), status)
	}
	upload := func(name, body string, status int) {
		add(name, request("POST", "/v1/disservices", []string{form, auth}, body), status)
	}
	good := `"request_id":"h","slot":"S1","service":"identity-card"`
	person := `"tax_code":"` + citizen + `"`

	// JSON (trust.md: duplicates, unknown fields, case, depth, size).
	post("nothing", "", 400)
	post("empty object", `{}`, 400)
	post("null", `null`, 400)
	post("list", `[]`, 400)
	post("cut off", `{"request_id":`, 400)
	post("two values", `{} {}`, 400)
	post("comment", `{/**/}`, 400)
	post("trailing comma", `{"a":1,}`, 400)
	post("single quotes", `{'a':1}`, 400)
	post("byte order mark", "\ufeff{}", 400)
	post("NaN", `{"slot":NaN}`, 400)
	post("duplicate", `{`+good+`,`+person+`,`+person+`}`, 400)
	post("duplicate by escape", `{`+good+`,`+person+`,"tax\u005fcode":"X"}`, 400)
	post("other case", `{`+good+`,"TAX_CODE":"X",`+person+`}`, 400)
	post("unknown field", `{`+good+`,`+person+`,"role":"admin"}`, 400)
	post("prototype", `{`+good+`,`+person+`,"__proto__":{}}`, 400)
	post("deep lists", strings.Repeat("[", 10_000)+strings.Repeat("]", 10_000), 400)
	post("deep objects", strings.Repeat(`{"a":`, 5_000)+"1"+strings.Repeat("}", 5_000), 400)
	post("lone surrogate", `{`+good+`,`+person+`,"note":"\ud800"}`, 400)
	post("reversed surrogates", `{`+good+`,`+person+`,"note":"\udc00\ud800"}`, 400)
	post("invalid UTF-8", "{"+good+","+person+",\"note\":\"\xff\xfe\"}", 400)
	post("overlong UTF-8", "{"+good+","+person+",\"note\":\"\xc0\xaf\"}", 400)
	post("raw control character", "{"+good+","+person+",\"note\":\"a\x00b\"}", 400)
	post("number for text", `{"request_id":1e400,"slot":"S","service":"identity-card",`+person+`}`, 400)
	post("huge integer", `{"request_id":9223372036854775808,"slot":"S","service":"identity-card",`+person+`}`, 400)
	post("endless digits", `{"request_id":`+strings.Repeat("9", 100_000)+`}`, 400)
	post("endless exponent", `{"request_id":1e`+strings.Repeat("9", 1000)+`}`, 400)
	post("once key empty", `{"request_id":"","slot":"S","service":"identity-card",`+person+`}`, 400)
	post("once key long", `{"request_id":"`+strings.Repeat("k", 201)+`","slot":"S","service":"identity-card",`+person+`}`, 400)
	post("someone else's code", `{`+good+`,"tax_code":"VRDLGI80A01L736N"}`, 0)
	post("code of no person", `{`+good+`,"tax_code":"RSSMRA80A01L736X"}`, 0)
	post("too large", `{"note":"`+strings.Repeat("x", 2<<20)+`"}`, 413)

	// Media types and encodings.
	post("no media type", `{}`, 415, "X-A: b")
	post("form", `a=b`, 415, "Content-Type: application/x-www-form-urlencoded")
	post("XML", `<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>`, 415, "Content-Type: application/xml")
	post("UTF-16", "\xff\xfe{\x00}\x00", 415, asJSON+"; charset=utf-16")
	post("gzip", "\x1f\x8b", 415, asJSON, "Content-Encoding: gzip")
	post("media type twice", `{}`, 415, asJSON, "Content-Type: text/plain")
	post("media type malformed", `{}`, 415, "Content-Type: ;;;")

	// Idempotency-Key (semantics 4.6: 200 bytes at most, not empty). A key that is
	// dropped without a word would let a retry act twice.
	post("key too long", `{`+good+`,`+person+`}`, 400, asJSON, "Idempotency-Key: "+strings.Repeat("k", 201))
	post("key empty", `{`+good+`,`+person+`}`, 400, asJSON, "Idempotency-Key: ")
	post("key twice", `{`+good+`,`+person+`}`, 400, asJSON, "Idempotency-Key: a", "Idempotency-Key: b")

	// Uploads (RFC 7578).
	part := func(disposition, body string) string {
		return "--x\r\nContent-Disposition: form-data; " + disposition + "\r\n\r\n" + body + "\r\n"
	}
	upload("form without parts", "--x--\r\n", 400)
	upload("form without end", "--x\r\n", 400)
	upload("form of something else", "hello", 400)
	upload("a thousand parts", strings.Repeat(part(`name="a"`, "b"), 1000)+"--x--\r\n", 400)
	upload("part without name", part(`filename="a"`, "b")+"--x--\r\n", 400)
	upload("part twice", part(`name="text"`, "b")+part(`name="text"`, "c")+"--x--\r\n", 400)
	upload("long part header", part(`name="`+strings.Repeat("n", 100_000)+`"`, "b")+"--x--\r\n", 400)
	upload("long file name", part(`name="evil"; filename="`+strings.Repeat("n", 9000)+`"`, "b")+"--x--\r\n", 400)
	upload("file name that climbs", part(`name="evil"; filename="../../../etc/passwd"`, "b")+"--x--\r\n", 400)
	upload("file for a text", part(`name="text"; filename="a"`, "b")+"--x--\r\n", 400)
	upload("forged claim check", part(`name="attachments"`, `{"blob":"sha256:../../x","name":"a","type":"t"}`)+"--x--\r\n", 400)
	upload("name not UTF-8", part("name=\"\xff\"", "b")+"--x--\r\n", 400)
	upload("too large", part(`name="text"`, strings.Repeat("x", 21<<20))+"--x--\r\n", 413)
	add("no boundary", request("POST", "/v1/disservices", []string{"Content-Type: multipart/form-data", auth}, "x"), 415)
	add("long boundary", request("POST", "/v1/disservices", []string{form + strings.Repeat("x", 5000), auth}, "x"), 400)

	// Paths.
	get("double slash", "/v1//addresses", 404)
	get("slash before", "//v1/addresses", 404)
	get("other host in the path", "//evil.example/", 404)
	get("backslash", `/\evil.example`, 404)
	get("climbing", "/v1/../v1/addresses", 404)
	get("climbing, encoded", "/v1/%2e%2e/addresses", 404)
	get("climbing static", "/static/../page.html", 404)
	get("climbing static, encoded", "/static/..%2fpage.html", 404)
	get("packed static", "/static/bootstrap-italia.min.css.gz", 404)
	get("encoded slash", "/v1%2faddresses?q=rialto", 404)
	get("slash in a parameter", "/v1/offices/a%2fb/slots", 0)
	get("dots in a parameter", "/v1/offices/../slots", 404)
	get("encoded dots in a parameter", "/v1/offices/%2e%2e/slots", 404)
	get("NUL in the path", "/v1/offices/a%00b/slots", 0)
	get("invalid UTF-8 in the path", "/v1/offices/%ff/slots", 400)
	get("trailing slash", "/v1/addresses/", 404)
	get("long path", "/v1/"+strings.Repeat("a", 20_000), 404)
	get("many segments", "/v1/"+strings.Repeat("a/", 8_000), 404)
	get("a script's name", "/v1/<script>alert(1)</script>", 404)
	get("dotfile", "/.env", 404)
	get("profiler", "/debug/pprof/", 404)
	get("admin's pages on the public face", "/metrics", 404)
	get("admin's runs on the public face", "/runs", 404)

	// Queries.
	get("percent broken", "/v1/addresses?q=%zz", 400)
	get("invalid UTF-8 in the query", "/v1/addresses?q=%ff", 400)
	get("semicolon", "/v1/addresses?q=a;b=c", 400)
	get("parameter twice", "/v1/addresses?q=ri&q=al", 400)
	get("unknown parameter", "/v1/addresses?q=rialto&admin=1", 400)
	get("many parameters", "/v1/addresses?"+strings.Repeat("a=b&", 1000), 400)
	get("huge limit", "/v1/addresses?q=rialto&limit=9223372036854775808", 400)
	get("limit in words", "/v1/addresses?q=rialto&limit=1e2", 400)
	get("limit without end", "/v1/addresses?q=rialto&limit=1e400", 400)
	get("negative limit", "/v1/addresses?q=rialto&limit=-1", 400)
	get("long search", "/v1/addresses?q="+strings.Repeat("a", 15_000), 400)

	// Callers.
	get("junk token", "/v1/addresses?q=rialto", 401, "Authorization: Bearer x.y.z")
	get("token of algorithm none", "/v1/addresses?q=rialto", 401, "Authorization: Bearer eyJhbGciOiJub25lIn0.e30.")
	get("token of another scheme", "/v1/addresses?q=rialto", 401, "Authorization: Basic YTpi")
	get("token cut", "/v1/addresses?q=rialto", 401, "Authorization: Bearer "+token[:len(token)-4])
	get("token too long", "/v1/addresses?q=rialto", 401, "Authorization: Bearer "+token+strings.Repeat("A", 9000))
	get("token twice", "/v1/addresses?q=rialto", 401, auth, auth)
	get("empty token", "/v1/addresses?q=rialto", 401, "Authorization: Bearer ")
	get("run of another", "/v1/runs/AAAAAAAAAAAAAAAA", 404, auth)
	get("run of nobody", "/v1/runs/"+strings.Repeat("A", 500), 404)
	get("run's name climbs", "/v1/runs/..%2f..%2fx", 404)
	add("nobody books", request("POST", "/v1/appointments", []string{asJSON}, `{`+good+`,`+person+`}`), 401)

	// Methods.
	add("method of another kind", request("BREW", "/v1/appointments", nil, ""), 405)
	add("method not there", request("DELETE", "/v1/addresses", nil, ""), 405)
	add("TRACE", request("TRACE", "/v1/addresses", nil, ""), 405)
	add("OPTIONS", request("OPTIONS", "/v1/addresses", nil, ""), 405)
	add("override", request("GET", "/v1/appointments", []string{"X-HTTP-Method-Override: POST", auth}, ""), 405)
	add("posting to the page", request("POST", "/", nil, ""), 405)
	add("posting to a style sheet", request("POST", "/static/dime.css", nil, ""), 405)
	add("CONNECT", "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n", 0)
	add("proxy request", "GET http://169.254.169.254/latest HTTP/1.1\r\nHost: 169.254.169.254\r\nConnection: close\r\n\r\n", 404)
	add("star", "GET * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 400)

	// Framing (RFC 9112 §11.2); the gateway's own tests have the whole list.
	add("length and encoding", "POST /v1/appointments HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400)
	add("folded encoding", "POST /v1/appointments HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400)
	add("two lengths", "POST /v1/appointments HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400)
	add("two hosts", "GET /v1/addresses?q=rialto HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400)
	add("no host", "GET /v1/addresses?q=rialto HTTP/1.1\r\n\r\n", 400)
	add("bad host", "GET /v1/addresses?q=rialto HTTP/1.1\r\nHost: a b\r\n\r\n", 400)
	add("headers too long", "GET / HTTP/1.1\r\nHost: a\r\nX: "+strings.Repeat("a", 40<<10)+"\r\n\r\n", 431)
	add("NUL in a header", "GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", 400)
	add("old HTTP", "GET / HTTP/0.9\r\n\r\n", 400)
	add("expectation", "POST /v1/appointments HTTP/1.1\r\nHost: a\r\nExpect: the-worst\r\nContent-Length: 2\r\n\r\n{}", 400)
	return all
}

func TestHostileRequests(t *testing.T) {
	s := start(t)
	addr := strings.TrimPrefix(s.public, "http://")
	all := hostiles(s.token(t, citizen))
	if len(all) < 80 {
		t.Fatalf("only %d requests", len(all))
	}
	for _, h := range all {
		t.Run(h.name, func(t *testing.T) {
			resp, body := send(t, addr, h.raw)
			if resp.StatusCode < 400 || resp.StatusCode > 499 || h.status != 0 && resp.StatusCode != h.status {
				t.Fatalf("answered %d, want %d: %s", resp.StatusCode, h.status, body)
			}
			if ct := resp.Header.Get("Content-Type"); ct != "application/problem+json" {
				t.Errorf("the answer is %q", ct)
			}
			var p struct {
				Title  string
				Status int
			}
			if err := json.Unmarshal(body, &p); err != nil || p.Status != resp.StatusCode || p.Title == "" {
				t.Errorf("no problem: %v %s", err, body)
			}
			if l := resp.Header.Get("Location"); l != "" {
				t.Errorf("it sends people on to %q", l)
			}
		})
	}
	if resp, _ := send(t, addr, request("GET", "/v1/addresses?q=rialto", []string{"Accept-Language: \xff;;;q=9e99," + strings.Repeat("x,", 4000)}, "")); resp.StatusCode != 200 {
		t.Errorf("a strange language is answered %d", resp.StatusCode)
	}
	if log := s.read(t, s.logFile()); strings.Contains(log, "panic") {
		t.Error("something panicked")
	}
}
