package run

import (
	"container/list"
	"github.com/dime-bus/dime/pipeline/run/codec"
	"math"
	"strconv"
	"sync"
	"time"
)

// limits counts requests by route and `per` (semantics 11.3).
type limits struct {
	mu  sync.Mutex
	by  map[string]*list.Element
	lru list.List
}

// maxKeys is how many values of `per` are remembered; the least recent goes.
const maxKeys = 100_000

type bucket struct {
	key    string
	tokens float64
	at     time.Time
	open   int
}

// enter takes a place; release gives the in_flight part back. A nil release
// comes with the answer 429.
func (l *limits) enter(x *exec, now time.Time) (release func(), refusal Answer) {
	lim := x.p.route.Limit
	if lim == nil {
		return func() {}, Answer{}
	}
	key := x.p.route.Name
	if lim.Per != nil {
		v, err := lim.Per.Eval(x.env(x.Vars(x.p.route, x.head.Req)))
		if err != nil {
			return nil, problem(400, "invalid", title(400), "the limit of this route cannot be judged")
		}
		b, err := codec.Append(nil, v)
		if err != nil {
			return nil, problem(400, "invalid", title(400), "the limit of this route cannot be judged")
		}
		key += "\x00" + string(b)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.bucket(key, lim.Rate, now)
	if lim.Rate > 0 {
		burst := math.Max(1, lim.Rate)
		b.tokens = math.Min(burst, b.tokens+now.Sub(b.at).Seconds()*lim.Rate)
		b.at = now
		if b.tokens < 1 {
			wait := int(math.Ceil((1 - b.tokens) / lim.Rate))
			return nil, problem(429, "limit", "Too many requests", "").with("Retry-After", strconv.Itoa(max(1, wait)))
		}
	}
	if lim.InFlight > 0 && b.open >= lim.InFlight {
		return nil, problem(429, "limit", "Too many requests at once", "").with("Retry-After", "1")
	}
	if lim.Rate > 0 {
		b.tokens--
	}
	b.open++
	return func() {
		l.mu.Lock()
		b.open--
		l.mu.Unlock()
	}, Answer{}
}

func (l *limits) bucket(key string, rate float64, now time.Time) *bucket {
	if l.by == nil {
		l.by = map[string]*list.Element{}
	}
	if e := l.by[key]; e != nil {
		l.lru.MoveToFront(e)
		return e.Value.(*bucket)
	}
	b := &bucket{key: key, tokens: math.Max(1, rate), at: now}
	l.by[key] = l.lru.PushFront(b)
	if l.lru.Len() > maxKeys {
		for e := l.lru.Back(); e != nil; e = e.Prev() {
			if old := e.Value.(*bucket); old.open == 0 {
				l.lru.Remove(e)
				delete(l.by, old.key)
				break
			}
		}
	}
	return b
}
