package embedded_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/bus"
	"github.com/dime-bus/dime/internal/bus/bustest"
	"github.com/dime-bus/dime/internal/bus/embedded"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/store/crash"
	"github.com/dime-bus/dime/internal/store/sqlite"
	"github.com/dime-bus/dime/internal/store/storetest"
)

func TestContract(t *testing.T) {
	bustest.Run(t, func(t *testing.T) bustest.Harness {
		ctx := context.Background()
		c := clock.NewVirtual(storetest.Start())
		s, err := sqlite.Open(ctx, sqlite.Options{Path: sqlite.Memory, Clock: c})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		h := bustest.Harness{Clock: c, Backoff: time.Minute, Limit: 4}
		var old *crash.Store
		start := func() bus.Bus {
			old = crash.Wrap(s, crash.Plan{})
			return embedded.NewWith(old, embedded.Options{
				Clock: c, Log: slog.New(slog.DiscardHandler), DeliveryLimit: h.Limit, DrainFor: 20 * time.Second,
				Backoff: func(int) time.Duration { return h.Backoff },
			})
		}
		h.Bus = start()
		h.Crash = func(t *testing.T) bus.Bus {
			old.Kill()
			if s, err = s.Reopen(ctx); err != nil {
				t.Fatal(err)
			}
			return start()
		}
		h.Parked = func(t *testing.T, queue string) map[string]string {
			ms, err := s.Parked(ctx, queue)
			if err != nil {
				t.Fatal(err)
			}
			out := make(map[string]string)
			for _, m := range ms {
				out[m.ID] = m.Reason
			}
			return out
		}
		return h
	})
}
