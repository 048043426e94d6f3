package waiting

import (
	"context"
	"slices"
	"sync"

	"github.com/dime-bus/dime/internal/store"
)

// Slots bound how many runs are at work at once (semantics 11.1). A free one goes
// to who waits by turns: the classes of priority have theirs, inside a class its
// routes one after the other, inside a route who came first (11.2).
type Slots struct {
	mu    sync.Mutex
	free  int        // while somebody waits none is
	kept  int        // for who asked by Take
	more  func()     // told of the next one, which is kept
	lines [3]line    // by priority
	turns store.Turn // of the classes
}

// NewSlots makes n.
func NewSlots(n int) *Slots { return &Slots{free: n} }

// line is who waits in one class.
type line struct {
	routes []string // that somebody waits for, the next one first
	places map[string][]chan struct{}
}

func (l *line) join(route string, place chan struct{}) {
	if l.places == nil {
		l.places = map[string][]chan struct{}{}
	}
	if len(l.places[route]) == 0 {
		l.routes = append(l.routes, route)
	}
	l.places[route] = append(l.places[route], place)
}

// next takes out whose turn it is.
func (l *line) next() chan struct{} {
	route := l.routes[0]
	l.routes = l.routes[1:]
	q := l.places[route]
	if len(q) > 1 {
		l.places[route] = q[1:]
		l.routes = append(l.routes, route)
	} else {
		delete(l.places, route)
	}
	return q[0]
}

// quit is false where the place had its turn already.
func (l *line) quit(route string, place chan struct{}) bool {
	q := l.places[route]
	i := slices.Index(q, place)
	switch {
	case i < 0:
		return false
	case len(q) > 1:
		l.places[route] = slices.Delete(slices.Clone(q), i, i+1)
	default:
		delete(l.places, route)
		i := slices.Index(l.routes, route)
		l.routes = slices.Delete(slices.Clone(l.routes), i, i+1)
	}
	return true
}

// Try takes a slot if one is free.
func (s *Slots) Try() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free == 0 {
		return false
	}
	s.free--
	return true
}

// Enter waits for a slot; the error is why ctx ended.
func (s *Slots) Enter(ctx context.Context, priority int, route string) error {
	s.mu.Lock()
	if s.free > 0 {
		s.free--
		s.mu.Unlock()
		return nil
	}
	place := make(chan struct{})
	s.lines[priority].join(route, place)
	s.mu.Unlock()
	select {
	case <-place:
		return nil
	case <-ctx.Done():
		s.mu.Lock()
		left := s.lines[priority].quit(route, place)
		s.mu.Unlock()
		if !left {
			s.Leave()
		}
		return context.Cause(ctx)
	}
}

// Take is for those that pass before all who wait: up to max slots at once. If that
// is none, the next one given back is kept for the next Take, and more is called.
func (s *Slots) Take(max int, more func()) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(max, s.kept+s.free)
	kept := min(n, s.kept)
	s.kept, s.free, s.more = s.kept-kept, s.free-(n-kept), nil
	if n == 0 {
		s.more = more
	}
	return n
}

// Leave gives a slot back.
func (s *Slots) Leave() {
	s.mu.Lock()
	more := s.more
	if more != nil {
		s.kept, s.more = s.kept+1, nil
	} else {
		s.pass()
	}
	s.mu.Unlock()
	if more != nil {
		more()
	}
}

// Yield is for who takes no more: what is kept goes to those who wait.
func (s *Slots) Yield() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.more = nil; s.kept > 0; s.kept-- {
		s.pass()
	}
}

// pass hands a slot on to whose turn it is.
func (s *Slots) pass() {
	class, ok := s.turns.Next(func(c int) bool { return len(s.lines[c].routes) > 0 })
	if !ok {
		s.free++
		return
	}
	close(s.lines[class].next())
}
