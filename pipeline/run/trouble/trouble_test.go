package trouble

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// A store that fails is said once, tried again after pauses that grow to a bound,
// and what is over is said once too.
func TestClaiming(t *testing.T) {
	var said bytes.Buffer
	log := slog.New(slog.NewTextHandler(&said, nil))
	var c Claiming
	if d := c.Went(log, nil); d != 0 || c.Now() != nil || said.Len() > 0 {
		t.Errorf("while all is well: pause %v, %v, said %q", d, c.Now(), &said)
	}
	broken := errors.New("the disk is gone")
	for round := range 2 {
		var pauses []time.Duration
		for range 10 {
			pauses = append(pauses, c.Went(log, broken))
		}
		if pauses[0] != 100*time.Millisecond || pauses[1] != 200*time.Millisecond || pauses[9] != 5*time.Second {
			t.Errorf("round %d: pauses %v", round, pauses)
		}
		if !errors.Is(c.Now(), broken) {
			t.Errorf("round %d: now %v", round, c.Now())
		}
		for range 2 {
			if d := c.Went(log, nil); d != 0 || c.Now() != nil {
				t.Errorf("round %d: afterwards pause %v, %v", round, d, c.Now())
			}
		}
		if bad, good := strings.Count(said.String(), "ERROR"), strings.Count(said.String(), "INFO"); bad != round+1 || good != round+1 {
			t.Errorf("round %d: said %d times that it fails, %d times that it works:\n%s", round, bad, good, &said)
		}
	}
}
