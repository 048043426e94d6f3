package client

import "sync"

// Hub wakes subscribers when something is published. Whoever publishes outside
// the clients (the engine's outbox) calls Notify after its commit.
type Hub struct {
	mu   sync.Mutex
	wake map[string]chan struct{}
}

// NewHub makes an empty one.
func NewHub() *Hub { return &Hub{wake: map[string]chan struct{}{}} }

// Notify wakes every subscriber of the type. It never blocks.
func (h *Hub) Notify(eventType string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c, ok := h.wake[eventType]; ok {
		close(c)
		delete(h.wake, eventType)
	}
}

// changed is closed by the next Notify of the type.
func (h *Hub) changed(eventType string) <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	c, ok := h.wake[eventType]
	if !ok {
		c = make(chan struct{})
		h.wake[eventType] = c
	}
	return c
}
