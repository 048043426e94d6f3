package run

import "time"

// Instants stand in records as Unix milliseconds; 0 is none.

func millis(t time.Time) int {
	if t.IsZero() {
		return 0
	}
	return int(t.UnixMilli())
}

func instant(v any) time.Time {
	n, _ := v.(int)
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(n)).UTC()
}
