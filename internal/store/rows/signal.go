package rows

import "sync"

// Signal tells listeners that there is something to do. The zero Signal is ready.
type Signal struct {
	mu   sync.Mutex
	c    chan struct{}
	fs   map[int]func()
	n    int
	gone bool
}

// Channel receives a value where On's functions are called; it never blocks Send.
func (s *Signal) Channel() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.c == nil {
		s.c = make(chan struct{}, 1)
		s.c <- struct{}{} // who asks late looks once
	}
	return s.c
}

// On calls f at each Send until stop; f must not block.
func (s *Signal) On(f func()) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fs == nil {
		s.fs = make(map[int]func())
	}
	s.n++
	n := s.n
	s.fs[n] = f
	return func() {
		s.mu.Lock()
		delete(s.fs, n)
		s.mu.Unlock()
	}
}

// Send tells all.
func (s *Signal) Send() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return
	}
	if s.c != nil {
		select {
		case s.c <- struct{}{}:
		default:
		}
	}
	for _, f := range s.fs {
		f()
	}
}

// Close ends the telling.
func (s *Signal) Close() {
	s.mu.Lock()
	s.gone = true
	s.mu.Unlock()
}
