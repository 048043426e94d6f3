package run

import (
	"context"
	"testing"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/store/sqlite"
)

// The synchronous path without HTTP: validation, three steps, the timeline.
func BenchmarkSafeRequest(b *testing.B) {
	disk, err := sqlite.Open(context.Background(), sqlite.Options{Path: sqlite.Memory})
	if err != nil {
		b.Fatal(err)
	}
	defer disk.Close()
	answer := map[string]any{"v": "read-a"}
	e, err := New(Config{Store: disk, Do: func(context.Context, string, *connectors.Operation, connectors.Call) (any, error) { return answer, nil }})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Stop()
	if err := e.Swap(loadCity(b, lookup)); err != nil {
		b.Fatal(err)
	}
	r := http("lookup", map[string]any{"id": "a"})
	b.ReportAllocs()
	for b.Loop() {
		if a := e.Request(context.Background(), r); a.Status != 200 {
			b.Fatal(show(a))
		}
	}
}
