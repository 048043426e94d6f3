package run

import (
	"context"
	"errors"
	"time"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/pipeline/run/asks"
)

// Several processes share a store: a run is begun where its caller is, goes on
// wherever it is claimed, and answers and a person's acts must find each other.

// watch looks for an answer that another process writes, while a caller waits
// here. It ends with the deadline, or when it has told the waiters.
func (e *Engine) watch(id store.RunID, deadline time.Time) (stop func()) {
	if !e.cfg.Shared {
		return func() {}
	}
	ctx, cancel := context.WithCancel(e.ctx)
	e.start(func() {
		for pause := 50 * time.Millisecond; clock.Sleep(ctx, e.clock, pause) == nil && e.clock.Now().Before(deadline); pause = min(2*pause, time.Second) {
			if e.live.get(id) != nil {
				continue
			}
			r, rs, err := e.store.Load(ctx, id)
			if err != nil { // not accepted yet, or the store can't be read just now
				continue
			}
			if a, ok := e.written(r, rs); ok {
				e.answers.Notify(e.clock, id, answer{a: a})
				return
			}
		}
	})
	return cancel
}

// written is the answer that a run's journal holds.
func (e *Engine) written(r store.Run, rs []store.Record) (Answer, bool) {
	pub := e.store.PublicID(r.ID)
	if a, ok := lastAnswer(rs, pub); ok {
		return a, true
	}
	switch r.State {
	case store.Parked:
		return e.parkedAnswer(pub), true
	case store.Cancelled:
		return problem(409, "cancelled", "The request was cancelled", r.Reason).of(pub), true
	case store.Done:
		return Answer{Status: 204, Run: pub}, true
	case store.Settled:
		return settledAnswer(pub), true
	case store.Failed:
		return problem(500, "failed", "The request failed", "").of(pub), true
	}
	return Answer{}, false
}

// cancelElsewhere lets the owner of a run cancel it, or takes the run as soon as
// its owner lets go of it.
func (e *Engine) cancelElsewhere(ctx context.Context, pub string, id store.RunID, a Act) (r Report, err error) {
	ask := asks.Ask{As: a.As, Reason: a.Reason, At: e.clock.Now()}
	answer, err := asks.Put(ctx, e.store.Table(asks.Owner), e.clock, e.clock.Now().Add(2*e.cfg.LeaseFor), id, ask, func() (bool, error) {
		x, release, err := e.hold(ctx, pub, false)
		if f := (*fault.Error)(nil); errors.As(err, &f) && f.Kind == fault.Conflict {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		defer release()
		n, err := a.person(e, "cancel")
		if err == nil {
			r, err = x.cancelNow(n)
		}
		return true, err
	})
	switch {
	case errors.Is(err, asks.ErrNobody):
		return Report{}, fault.New(fault.Conflict, "run %s is at work in another process, which does not answer; try again", pub)
	case err != nil || answer == nil:
		return r, err
	case answer.Refused != "":
		return Report{}, fault.New(fault.Conflict, "%s", answer.Refused)
	}
	return Report{Run: pub, State: string(store.Running), Note: "takes effect between two steps"}, nil
}

// answerAsks cancels what others ask for of the runs that this process owns.
func (e *Engine) answerAsks() {
	err := asks.Each(e.ctx, e.store.Table(asks.Owner), e.clock.Now(), func(id store.RunID, ask asks.Ask) *asks.Answer {
		x := e.live.get(id)
		if x == nil {
			return nil
		}
		if x.passed.Load() {
			return &asks.Answer{Refused: fault.From(passedCommit(x.publicID())).Detail}
		}
		n, err := Act{As: ask.As, Reason: ask.Reason}.person(e, "cancel")
		took := false
		if err == nil {
			took, err = x.ask(n)
		}
		switch {
		case err != nil:
			return &asks.Answer{Refused: fault.From(err).Error()}
		case !took:
			return nil // it lets go of the run just now
		}
		return &asks.Answer{}
	})
	if err != nil && e.ctx.Err() == nil {
		e.log.Warn("answering another process", "error", err)
	}
}
