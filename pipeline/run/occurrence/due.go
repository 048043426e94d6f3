package occurrence

import (
	"time"

	"github.com/dime-bus/dime/internal/expression"
	"github.com/dime-bus/dime/internal/fault"
)

// Due reads what `delay: =EXPR` gave: an instant, or a period from now.
func Due(v any, now time.Time, zone *time.Location) (time.Time, error) {
	switch d := v.(type) {
	case time.Time:
		return d, nil
	case time.Duration:
		return now.Add(d), nil
	case expression.Period:
		return d.After(now, zone).UTC(), nil
	case string:
		t, err := time.Parse(time.RFC3339Nano, d)
		if err == nil {
			return t, nil
		}
	}
	return time.Time{}, fault.New(fault.Internal, "a delay needs an instant or a period")
}
