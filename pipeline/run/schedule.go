package run

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/identity"
	"github.com/dime-bus/dime/pipeline/language"
	"github.com/dime-bus/dime/pipeline/run/occurrence"
)

// timers are the alarms of cron and every.
type timers struct {
	mu    sync.Mutex
	stops []func()
	gen   int
	off   bool
	going occurrence.Set
}

func (t *timers) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.off = true
	for _, s := range t.stops {
		s()
	}
	t.stops = nil
}

// schedule sets the alarms of a city's routes. After downtime the latest missed
// occurrence fires once.
func (e *Engine) schedule(cs *cityState) {
	if e.cfg.NoSchedule || !e.started.Load() {
		return
	}
	t := &e.timers
	t.mu.Lock()
	for _, s := range t.stops {
		s()
	}
	t.stops = nil
	t.gen++
	gen := t.gen
	t.mu.Unlock()
	for _, name := range sortedKeys(cs.progs) {
		p := cs.progs[name]
		for i, tr := range p.route.From {
			if tr.Kind != language.Cron && tr.Kind != language.Every {
				continue
			}
			next, err := occurrence.After(tr, p.route.Zone)
			if err != nil {
				e.log.Error("scheduling", "route", name, "error", err)
				continue
			}
			key := name
			if i > 0 {
				key = name + "#" + strconv.Itoa(i+1)
			}
			now := e.clock.Now()
			last, ok, err := e.store.LastFired(e.ctx, key)
			if err != nil {
				e.log.Error("scheduling", "route", name, "error", err)
				continue
			}
			at := next(now)
			if !ok {
				// From here on it is known what was missed, the first occurrence included.
				if _, err := e.store.Fire(e.ctx, key, now); err != nil {
					e.log.Error("scheduling", "route", name, "error", err)
				}
			}
			if ok {
				if missed := occurrence.Missed(next, last, now); !missed.IsZero() {
					at = missed
				}
				if tr.Kind == language.Every {
					at = last.Add(tr.Every)
					if at.Before(now) {
						at = last.Add(now.Sub(last) / tr.Every * tr.Every)
					}
				}
			}
			e.arm(gen, p, key, tr, next, at)
		}
	}
}

func (e *Engine) arm(gen int, p *program, key string, tr language.Trigger, next func(time.Time) time.Time, at time.Time) {
	if at.IsZero() {
		return
	}
	t := &e.timers
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.off || t.gen != gen {
		return
	}
	t.stops = append(t.stops, e.clock.At(at, func() {
		e.fire(p, key, tr, at)
		e.arm(gen, p, key, tr, next, next(at))
	}))
	if len(t.stops) > 4096 { // stops of alarms that rang are harmless; forget the oldest
		t.stops = append([]func(){}, t.stops[2048:]...)
	}
}

// fire begins the run of one occurrence. The run comes first and the row that
// says so after it: a crash or a full disk between them makes the occurrence a
// missed one, and the instant, which is the run's once key, keeps it single.
func (e *Engine) fire(p *program, key string, tr language.Trigger, at time.Time) {
	if !e.timers.going.Begin(key, at) {
		return
	}
	e.start(func() {
		defer e.timers.going.End(key, at)
		for n := 0; ; n++ {
			err := e.fireOnce(p, key, tr, at)
			if err == nil || e.ctx.Err() != nil {
				return
			}
			e.log.Error("a scheduled run was not accepted", "route", key, "at", at, "error", err)
			if clock.Sleep(e.ctx, e.clock, e.cfg.Ladder[min(n, len(e.cfg.Ladder)-1)]) != nil || !e.timers.going.Latest(key, at) {
				return // a later occurrence stands for this one (semantics 5.6)
			}
		}
	})
}

func (e *Engine) fireOnce(p *program, key string, tr language.Trigger, at time.Time) error {
	last, ok, err := e.store.LastFired(e.ctx, key)
	if err != nil || ok && !last.Before(at) {
		return err // another worker's, or an earlier life's
	}
	if err := e.background.Enter(e.ctx, p.route.Priority, p.route.Name); err != nil {
		return err
	}
	defer e.background.Leave()
	stamp := at.UTC().Format(time.RFC3339)
	err = e.runBackground(context.WithoutCancel(e.ctx), p, Request{Route: p.route.Name, Req: map[string]any{"at": stamp},
		Trigger: string(tr.Kind), Key: "at:" + stamp, Caller: &identity.Caller{Kind: "timer", Subject: key}})
	if err != nil {
		return err
	}
	_, err = e.store.Fire(e.ctx, key, at)
	return err
}
