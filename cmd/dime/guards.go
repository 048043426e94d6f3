package main

import (
	"sync"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/pause"
	"github.com/dime-bus/dime/pipeline/run"
)

// guards keeps one limiter and breaker a backend over all reloads, so that a
// reload neither forgets an open breaker nor lets a full backend be filled again.
type guards struct {
	mu        sync.RWMutex
	by        map[string]*connectors.Guard
	processes int // that share what the backends allow
	paused    map[string]pause.Row
	turned    func(connector string, degraded bool)
}

func newGuards(turned func(connector string, degraded bool)) *guards {
	return &guards{by: map[string]*connectors.Guard{}, turned: turned}
}

// add makes guards for the connectors that have none.
func (g *guards) add(cs map[string]connectors.Connector) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for name, guard := range connectors.Guards(cs) {
		if _, ok := g.by[name]; !ok {
			guard.Share(g.processes)
			guard.OnChange(func(degraded bool) { go g.turned(name, degraded) })
			if p, ok := g.paused[name]; ok {
				guard.Pause(p.Until, p.Say)
			}
			g.by[name] = guard
		}
	}
}

// share divides what the backends allow.
func (g *guards) share(processes int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.processes = processes
	for _, guard := range g.by {
		guard.Share(processes)
	}
}

// pause puts what is paused in force.
func (g *guards) pause(ps map[string]pause.Row) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.paused = ps
	for name, guard := range g.by {
		if p, ok := ps[name]; ok {
			guard.Pause(p.Until, p.Say)
		} else {
			guard.Resume()
		}
	}
}

// of finds a connector's guard.
func (g *guards) of(connector string) run.Guard {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if guard, ok := g.by[connector]; ok {
		return guard
	}
	return nil
}
