package seal

import "testing"

// A run seals a few rows under a key of its own; a queue seals all under one.
func BenchmarkSeal(b *testing.B) {
	clear, city := make([]byte, 1000), keys(b, 1).City()
	b.Run("city", func(b *testing.B) {
		b.SetBytes(int64(len(clear)))
		for b.Loop() {
			city.Seal(clear, Bound('q', 1))
		}
	})
	b.Run("run", func(b *testing.B) {
		for b.Loop() {
			k, raw, err := NewKey()
			if err != nil {
				b.Fatal(err)
			}
			city.Wrap(raw, Bound('r', 1))
			k.Seal(clear, Bound('e', 1))
			k.Seal(clear[:200], Bound('e', 2))
		}
	})
}
