package store

// turns gives the classes of priority theirs, 8:3:1 (semantics 11.2): a class's
// number for each.
const turns = "000010010012"

// Turn goes round the classes of priority.
type Turn uint

// Next is the class whose turn it is. A class without anything leaves its turn to
// the highest that has something, so nothing starves and nothing idles; false where
// none has.
func (t *Turn) Next(has func(class int) bool) (class int, ok bool) {
	for c := range 3 {
		if has(c) {
			class, ok = c, true
			break
		}
	}
	if !ok {
		return 0, false
	}
	if c := t.class(0); has(c) {
		class = c
	}
	*t++
	return class, true
}

// Quotas are how many of the next n turns each class has.
func (t Turn) Quotas(n int) (q [3]int32) {
	for i := range uint(n) { //nolint:gosec // a few dozen
		q[t.class(i)]++
	}
	return q
}

func (t Turn) class(ahead uint) int { return int(turns[(uint(t)+ahead)%uint(len(turns))] - '0') }
