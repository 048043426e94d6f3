package run

import (
	"strconv"
	"time"

	"github.com/dime-bus/dime/pipeline/run/codec"
)

// limit takes a place by the route's `limit` and its `per` (semantics 11.3);
// release gives the in_flight part back. A nil release comes with the answer, and
// with 429 after how long to ask again.
func (e *Engine) limit(x *exec) (release func(), refusal Answer, wait time.Duration) {
	lim := x.p.route.Limit
	if lim == nil {
		return func() {}, Answer{}, 0
	}
	key := x.p.route.Name
	if lim.Per != nil {
		v, err := lim.Per.Eval(x.env(x.Vars(x.p.route, x.head.Req)))
		var b []byte
		if err == nil {
			b, err = codec.Append(nil, v)
		}
		if err != nil {
			return nil, problem(400, "invalid", title(400), "the limit of this route cannot be judged"), 0
		}
		key += "\x00" + string(b)
	}
	release, wait, once := e.limits.Enter(key, lim.Rate, lim.InFlight, e.clock.Now())
	if release != nil {
		return release, Answer{}, 0
	}
	said := "Too many requests"
	if once {
		said = "Too many requests at once"
	}
	return nil, problem(429, "limit", said, "").with("Retry-After", strconv.Itoa(int(wait/time.Second))), wait
}
