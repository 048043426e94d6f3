package httpclient

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/dime-bus/dime/internal/fault"
)

// FaultOf maps the status of an answer that is not a success (semantics 3.4). It
// returns nil for 1xx, 2xx and 3xx: what those mean is the operation's business.
//
// 429 and 503 say that the request was not carried out, so Sent is false; 500,
// 502 and 504 leave the outcome of an effect unknown.
func FaultOf(status int, safe bool, h http.Header) *fault.Error {
	f := &fault.Error{Sent: true, Detail: "the system behind answered " + strconv.Itoa(status)}
	switch {
	case status < 400:
		return nil
	case status == 400 || status == 422:
		f.Kind = fault.Invalid
	case status == 401 || status == 403:
		f.Kind = fault.Denied
	case status == 404:
		f.Kind = fault.NotFound
	case status == 409:
		f.Kind = fault.Conflict
	case status == 429:
		f.Kind, f.Sent = fault.Throttled, false
	case status < 500:
		f.Kind = fault.Rejected
	case status == 503:
		f.Kind, f.Sent = fault.Unavailable, false
	case safe:
		f.Kind = fault.Unavailable
	default:
		f.Kind = fault.Unknown
	}
	if h != nil && (status == 429 || status == 503) {
		f.RetryAfter = RetryAfter(h, time.Now())
	}
	return f
}

// RetryAfter reads the header as seconds or as an HTTP date (RFC 9110 10.2.3); 0
// if it is absent, malformed or past. What asks for more than a day gets a day.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if v == "" {
		return 0
	}
	d := time.Duration(0)
	if s, err := strconv.Atoi(v); err == nil {
		d = time.Duration(min(max(s, 0), 86400)) * time.Second
	} else if t, err := http.ParseTime(v); err == nil {
		d = t.Sub(now)
	}
	return min(max(d, 0), 24*time.Hour)
}
