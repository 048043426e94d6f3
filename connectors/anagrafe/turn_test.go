package anagrafe

import (
	"context"
	"errors"
	"testing"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/store/serial"
)

// TestWaitingForATurnIsNoFailure: in a burst most callers wait for those before
// them. Whose time runs out meanwhile was not refused by the register, and the
// breaker stays shut for the others.
func TestWaitingForATurnIsNoFailure(t *testing.T) {
	numbers, err := serial.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	line := turns{numbers}
	guard := connectors.NewGuard(connectors.Policy{Failures: 1, Window: 1})
	none := func(context.Context, int64) error { t.Error("it had its turn"); return nil }
	err = line.Next(t.Context(), "s", 1, func(context.Context, int64) error {
		for range 3 {
			ctx, cancel := context.WithCancelCause(t.Context())
			leave, err := guard.Enter(ctx, nil, 0)
			if err != nil {
				t.Fatalf("the breaker opened: %v", err)
			}
			cancel(context.DeadlineExceeded)
			err = line.Next(ctx, "s", 1, none)
			var f *fault.Error
			if !errors.As(err, &f) || f.Kind != fault.Throttled || f.Sent {
				t.Errorf("%#v", err)
			}
			leave(err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	// What is not the waiting's is told apart.
	if err := line.Next(t.Context(), "a b", 1, none); fault.From(err).Kind != fault.Unavailable {
		t.Errorf("%v", err)
	}
}
