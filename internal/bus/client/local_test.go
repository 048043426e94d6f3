package client_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/dime-bus/dime/internal/bus/client"
	"github.com/dime-bus/dime/internal/bus/client/clienttest"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/identity"
)

func TestLocal(t *testing.T) {
	clienttest.Run(t, func(*testing.T) clienttest.City {
		c := clienttest.NewMemory(clock.Real{})
		return c.City(c.Local("tester"))
	})
}

// A subscriber whose hub was not told still sees what another process stored:
// it looks again when the clock says so.
func TestLooksAgain(t *testing.T) {
	virtual := clock.NewVirtual(clock.Real{}.Now())
	c := clienttest.NewMemory(virtual)
	who := &identity.Client{Name: "tester", Rights: clienttest.Rights()}
	l := client.NewLocal(who, c, c, client.NewHub(), nil, virtual)
	got := make(chan string)
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		done <- l.Subscribe(ctx, "thing.done", 0, func(_ context.Context, e client.Event) error { got <- e.ID; return nil })
	}()
	for i := range 3 {
		if err := c.Publish(t.Context(), "thing.done", fmt.Sprint(i), map[string]any{"n": "x"}); err != nil {
			t.Fatal(err)
		}
		for waiting := true; waiting; {
			select {
			case id := <-got:
				if id != fmt.Sprint(i) {
					t.Fatalf("got %q", id)
				}
				waiting = false
			default:
				if next, ok := virtual.Next(); ok {
					virtual.Advance(next)
				}
			}
		}
	}
	cancel()
	if err := <-done; err == nil {
		t.Error("ended without an error")
	}
}
