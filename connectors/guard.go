package connectors

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/ratelimiter"

	"github.com/dime-bus/dime/internal/fault"
)

// maxQueue is how long a call may wait for a free place or a permit before the
// backend counts as full: long enough for a burst to spread out, too short to
// become a queue of its own (semantics 11.1).
const maxQueue = 50 * time.Millisecond

// Guard is the policy of one backend, shared by all routes that call it: its
// in-flight bound, its rate and its breaker. It is safe for concurrent use.
type Guard struct {
	policy  Policy
	breaker circuitbreaker.CircuitBreaker[any]
	share   atomic.Pointer[share]
	pause   atomic.Pointer[pause] // nil: not paused
	change  atomic.Pointer[func(degraded bool)]
	behind  atomic.Int64 // calls of runs under way that wait
}

// share is what one of several processes may do.
type share struct {
	of       int
	g        *Guard
	bulkhead bulkhead.Bulkhead[any]
	limiter  ratelimiter.RateLimiter[any] // nil: no rate
}

// pause is a person's word that nothing is to be sent for a while.
type pause struct {
	until time.Time
	say   string
}

// NewGuard makes a Guard; p's zero fields take the defaults.
func NewGuard(p Policy) *Guard {
	p = p.Or(DefaultPolicy())
	if p.Window < p.Failures {
		p.Window = p.Failures
	}
	g := &Guard{policy: p}
	g.breaker = circuitbreaker.NewBuilder[any]().
		WithFailureThresholdRatio(uint(max(p.Failures, 1)), uint(max(p.Window, 1))).
		WithSuccessThreshold(1).
		WithDelay(p.Pause).
		OnStateChanged(g.changed).
		Build()
	g.Share(1)
	return g
}

// Share divides the rate and the in-flight bound among the processes of a city
// (semantics 11.3); each may have at least one call under way. Calls that began
// before keep their places of then.
func (g *Guard) Share(processes int) {
	n := max(processes, 1)
	if s := g.share.Load(); s != nil && s.of == n {
		return
	}
	s := &share{of: n, g: g, bulkhead: bulkhead.New[any](uint(max(g.policy.InFlight/n, 1)))}
	if g.policy.Rate > 0 {
		every := time.Duration(math.Max(float64(n)*float64(time.Second)/g.policy.Rate, 1))
		s.limiter = ratelimiter.NewSmoothWithMaxRate[any](every)
	}
	g.share.Store(s)
}

// Guards makes one for each connector, by its name.
func Guards(cs map[string]Connector) map[string]*Guard {
	gs := make(map[string]*Guard, len(cs))
	for name, c := range cs {
		gs[name] = NewGuard(c.Describe().Policy)
	}
	return gs
}

// Enter asks to make one attempt, and waits for its turn: a run that begins 50 ms
// at most, one that has effects behind it as long as patience says, which is 0 for
// the first kind. Nobody begins while the second kind waits: were they equal, a
// backend with too much to do would have many runs begun, undone again, and few
// done (semantics 11.1). The error is a *fault.Error with Sent false: Unavailable
// where the breaker is open or the backend has no free place, Throttled where its
// rate is used up. Without an error leave must be called once with the attempt's
// outcome.
func (g *Guard) Enter(ctx context.Context, op *Operation, patience time.Duration) (leave func(error), err error) {
	if p := g.pause.Load(); p != nil {
		if left := time.Until(p.until); left > 0 {
			return nil, &fault.Error{Kind: fault.Unavailable, RetryAfter: left, Until: p.until, Say: p.say,
				Detail: "the system behind is not asked at present"}
		}
	}
	s := g.share.Load()
	if err := s.place(ctx, patience); err != nil {
		return nil, err
	}
	// The breaker comes last: the one permit that it gives after its pause must
	// become a call.
	if !g.breaker.TryAcquirePermit() {
		s.bulkhead.ReleasePermit()
		return nil, &fault.Error{Kind: fault.Unavailable, RetryAfter: g.breaker.RemainingDelay(),
			Detail: "the system behind has failed repeatedly and is left alone for a moment"}
	}
	return s.leave, nil
}

// place takes a free place and a permit of the rate.
func (s *share) place(ctx context.Context, patience time.Duration) error {
	const crowded = "too many calls to the system behind are under way"
	begins := patience <= 0
	if begins && s.g.behind.Load() > 0 {
		return full(ctx, fault.Unavailable, crowded, bulkhead.ErrFull)
	}
	taken := s.bulkhead.TryAcquirePermit()
	if taken && s.limiter == nil {
		return nil
	}
	patience = max(patience, maxQueue)
	if !begins {
		s.g.behind.Add(1)
		defer s.g.behind.Add(-1)
	}
	if !taken {
		if err := s.bulkhead.AcquirePermitWithMaxWait(ctx, patience); err != nil {
			return full(ctx, fault.Unavailable, crowded, err)
		}
	}
	if s.limiter != nil {
		if err := s.limiter.AcquirePermitWithMaxWait(ctx, patience); err != nil {
			s.bulkhead.ReleasePermit()
			return full(ctx, fault.Throttled, "the rate agreed with the system behind is used up", err)
		}
	}
	return nil
}

// Pause refuses every attempt until an instant, with a sentence for callers; what
// can rest rests until then. An attempt under way goes on.
func (g *Guard) Pause(until time.Time, say string) { g.pause.Store(&pause{until, say}) }

// Resume ends a pause.
func (g *Guard) Resume() { g.pause.Store(nil) }

// Paused says until when, if it is.
func (g *Guard) Paused() (until time.Time, say string, ok bool) {
	p := g.pause.Load()
	if p == nil || !time.Now().Before(p.until) {
		return time.Time{}, "", false
	}
	return p.until, p.say, true
}

// OnChange has f called when the breaker gives the far side up, and when it works
// again. f must return at once.
func (g *Guard) OnChange(f func(degraded bool)) { g.change.Store(&f) }

// changed tells of ways into and out of trouble; a trial that fails is neither.
func (g *Guard) changed(e circuitbreaker.StateChangedEvent) {
	f := g.change.Load()
	if f == nil {
		return
	}
	switch {
	case e.OldState == circuitbreaker.ClosedState && e.NewState == circuitbreaker.OpenState:
		(*f)(true)
	case e.NewState == circuitbreaker.ClosedState && e.OldState != circuitbreaker.ClosedState:
		(*f)(false)
	}
}

// Open says whether the breaker refuses calls now.
func (g *Guard) Open() bool { return g.breaker.IsOpen() }

func (s *share) leave(err error) {
	g := s.g
	defer s.bulkhead.ReleasePermit()
	if err == nil {
		g.breaker.RecordSuccess()
		return
	}
	// A refusal in business is the far side working well; only what says that it
	// can't serve counts, an effect without an answer included.
	switch f := fault.From(err); {
	case f.Kind == fault.Throttled:
		g.breaker.RecordSuccess() // it answered; the limiter's and Retry-After's business
	case f.Kind.Row().Transient, f.Kind == fault.Unknown:
		g.breaker.RecordFailure()
	case errors.Is(err, context.Canceled) && g.breaker.IsHalfOpen():
		g.breaker.RecordFailure() // it proved nothing: wait another pause
	default:
		g.breaker.RecordSuccess()
	}
}

func full(ctx context.Context, k fault.Kind, detail string, err error) *fault.Error {
	if ctx.Err() != nil {
		detail, err = "the caller's time ran out while waiting for a free place", ctx.Err()
	}
	return &fault.Error{Kind: k, RetryAfter: time.Second, Detail: detail, Err: err}
}
