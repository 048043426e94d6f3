package run

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/pipeline/language"
)

// pins are compiled versions that the current city no longer has, and what was
// stored already.
type pins struct {
	mu     sync.Mutex
	old    map[string]*program // by digest
	stored map[string]bool
}

var errUnreadable = errors.New("the run's records cannot be read by this binary")

var errNoProgram = errors.New("the version cannot be compiled by this binary")

// swap implements Swap.
func (e *Engine) swap(c *language.City) error {
	ctx := context.WithoutCancel(e.ctx)
	prev := e.city.Load()
	cs := &cityState{city: c, progs: make(map[string]*program, len(c.Routes))}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(c.Routes)) {
		r := c.Routes[name]
		if p := prev.progs[name]; p != nil && p.route == r {
			cs.progs[name] = p // unchanged: nothing is made again
			p2 := *p
			p2.city = c
			cs.progs[name] = &p2
			continue
		}
		cs.progs[name] = newProgram(r, c)
		if err := e.pin(ctx, r); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("loading the city: %w", errors.Join(errs...))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Routes)) {
		if err := e.learnShapes(ctx, c.Routes[name]); err != nil {
			return fmt.Errorf("loading the city: %w", err)
		}
	}
	for name, p := range prev.progs {
		if q := cs.progs[name]; q == nil || q.route.Digest != p.route.Digest {
			e.pins.keep(p)
		}
	}
	e.city.Store(cs)
	if err := e.feed(ctx, cs); err != nil {
		e.city.Store(prev)
		return fmt.Errorf("loading the city: %w", err)
	}
	e.schedule(cs)
	return nil
}

func (p *pins) keep(g *program) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.old == nil {
		p.old = map[string]*program{}
	}
	p.old[g.route.Digest] = g
}

// pin stores a version, and refuses a label that was used for another file
// (semantics 10.3).
func (e *Engine) pin(ctx context.Context, r *language.Route) error {
	e.pins.mu.Lock()
	known := e.pins.stored[r.Digest]
	e.pins.mu.Unlock()
	if known {
		return nil
	}
	if !e.cfg.AllowRelabel {
		vs, err := e.store.ListVersions(ctx, r.Name)
		if err != nil {
			return fmt.Errorf("listing the versions of route %s: %w", r.Name, err)
		}
		for _, v := range vs {
			if v.Label != r.Label || v.Digest == r.Digest {
				continue
			}
			var src language.Source
			if json.Unmarshal(v.Source, &src) == nil && src.Route != r.Source.Route {
				return fmt.Errorf("route %s: version %d was used for another file before: give this one `version: %d`", r.Name, r.Label, r.Label+1)
			}
		}
	}
	src, err := json.Marshal(r.Source)
	if err != nil {
		return fmt.Errorf("storing route %s: %w", r.Name, err)
	}
	now := e.clock.Now()
	if err := e.store.PutVersion(ctx, store.Version{Digest: r.Digest, Route: r.Name, Label: r.Label, Source: src, First: now, Last: now}); err != nil {
		return fmt.Errorf("storing route %s: %w", r.Name, err)
	}
	e.pins.mu.Lock()
	if e.pins.stored == nil {
		e.pins.stored = map[string]bool{}
	}
	e.pins.stored[r.Digest] = true
	e.pins.mu.Unlock()
	return nil
}

// program finds the version that a run is pinned to.
func (e *Engine) program(ctx context.Context, route, digest string) (*program, error) {
	cs := e.city.Load()
	if p := cs.progs[route]; p != nil && p.route.Digest == digest {
		return p, nil
	}
	e.pins.mu.Lock()
	p := e.pins.old[digest]
	e.pins.mu.Unlock()
	if p != nil {
		return p, nil
	}
	none := &program{route: &language.Route{Name: route, Digest: digest}, city: cs.city}
	if e.cfg.Recompile == nil {
		return none, errNoProgram
	}
	src, err := e.source(ctx, digest)
	if err != nil && !errors.Is(err, store.ErrNoVersion) {
		return none, err // the store, not the version: it is asked again
	}
	if err != nil {
		return none, fmt.Errorf("%w: %w", errNoProgram, err)
	}
	r, err := e.cfg.Recompile(src, func(d string) (language.Source, error) { return e.source(ctx, d) })
	if err != nil {
		return none, fmt.Errorf("%w: %w", errNoProgram, err)
	}
	p = newProgram(r, cs.city)
	e.pins.keep(p)
	return p, e.learnShapes(ctx, r)
}

// Compiled is a version of a route, in force or not, for who judges it.
func (e *Engine) Compiled(ctx context.Context, route, digest string) (*language.Route, error) {
	p, err := e.program(ctx, route, digest)
	return p.route, err
}

func (e *Engine) source(ctx context.Context, digest string) (src language.Source, err error) {
	v, err := e.store.GetVersion(ctx, digest)
	if err != nil {
		return src, fmt.Errorf("finding version %s: %w", digest, err)
	}
	return src, json.Unmarshal(v.Source, &src)
}

// loadShapes learns what runs of versions wait for that the city no longer has.
func (e *Engine) loadShapes(ctx context.Context) error {
	rs, err := e.store.Find(ctx, store.Filter{States: []store.State{store.Waiting, store.Running, store.Queued, store.Parked}, Limit: 100_000})
	if err != nil {
		return fmt.Errorf("looking for living runs: %w", err)
	}
	seen := map[string]bool{}
	for _, r := range rs {
		if seen[r.Version] {
			continue
		}
		seen[r.Version] = true
		p, err := e.program(ctx, r.Route, r.Version)
		if err != nil {
			if errors.Is(err, errNoProgram) {
				continue // it parks when its turn comes
			}
			return err
		}
		if err := e.learnShapes(ctx, p.route); err != nil {
			return err
		}
	}
	return nil
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

type noObserver struct{}
