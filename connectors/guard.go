package connectors

import (
	"context"
	"errors"
	"math"
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
	breaker  circuitbreaker.CircuitBreaker[any]
	bulkhead bulkhead.Bulkhead[any]
	limiter  ratelimiter.RateLimiter[any] // nil: no rate
}

// NewGuard makes a Guard; p's zero fields take the defaults.
func NewGuard(p Policy) *Guard {
	p = p.Or(DefaultPolicy())
	if p.Window < p.Failures {
		p.Window = p.Failures
	}
	g := &Guard{
		bulkhead: bulkhead.New[any](uint(max(p.InFlight, 1))),
		breaker: circuitbreaker.NewBuilder[any]().
			WithFailureThresholdRatio(uint(max(p.Failures, 1)), uint(max(p.Window, 1))).
			WithSuccessThreshold(1).
			WithDelay(p.Pause).
			Build(),
	}
	if p.Rate > 0 {
		every := time.Duration(math.Max(float64(time.Second)/p.Rate, 1))
		g.limiter = ratelimiter.NewSmoothWithMaxRate[any](every)
	}
	return g
}

// Guards makes one for each connector, by its name.
func Guards(cs map[string]Connector) map[string]*Guard {
	gs := make(map[string]*Guard, len(cs))
	for name, c := range cs {
		gs[name] = NewGuard(c.Describe().Policy)
	}
	return gs
}

// Enter asks to make one attempt. It waits 50 ms at most. The error is a
// *fault.Error with Sent false: Unavailable where the breaker is open or the
// backend has no free place, Throttled where its rate is used up. Without an
// error leave must be called once with the attempt's outcome.
func (g *Guard) Enter(ctx context.Context, op *Operation) (leave func(error), err error) {
	if !g.bulkhead.TryAcquirePermit() {
		if err := g.bulkhead.AcquirePermitWithMaxWait(ctx, maxQueue); err != nil {
			return nil, full(ctx, fault.Unavailable, "too many calls to the system behind are under way", err)
		}
	}
	if g.limiter != nil {
		if err := g.limiter.AcquirePermitWithMaxWait(ctx, maxQueue); err != nil {
			g.bulkhead.ReleasePermit()
			return nil, full(ctx, fault.Throttled, "the rate agreed with the system behind is used up", err)
		}
	}
	// The breaker comes last: the one permit that it gives after its pause must
	// become a call.
	if !g.breaker.TryAcquirePermit() {
		g.bulkhead.ReleasePermit()
		return nil, &fault.Error{Kind: fault.Unavailable, RetryAfter: g.breaker.RemainingDelay(),
			Detail: "the system behind has failed repeatedly and is left alone for a moment"}
	}
	return g.leave, nil
}

// Open says whether the breaker refuses calls now.
func (g *Guard) Open() bool { return g.breaker.IsOpen() }

func (g *Guard) leave(err error) {
	defer g.bulkhead.ReleasePermit()
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
