package sqlite

import (
	"fmt"
	"testing"
)

// Semantics 11.2: weights 8:3:1, first come first served inside a class, and a
// class without runs leaves its turns to the others.
func TestShare(t *testing.T) {
	for _, c := range []struct {
		counts [3]int
		max    int
		want   string
	}{
		{[3]int{100, 100, 100}, 12, "[8 3 1]"},
		{[3]int{100, 100, 100}, 60, "[40 15 5]"},
		{[3]int{100, 0, 100}, 24, "[22 0 2]"},
		{[3]int{0, 2, 1}, 64, "[0 2 1]"},
		{[3]int{0, 0, 5}, 3, "[0 0 3]"},
	} {
		var found []candidate
		for prio, n := range c.counts {
			for i := range n {
				found = append(found, candidate{prio: prio, due: int64(i)})
			}
		}
		for _, one := range []bool{false, true} {
			s := &Store{}
			var got [3]int
			left := found
			for n := c.max; n > 0 && len(left) > 0; {
				max := n
				if one {
					max = 1
				}
				took := map[candidate]bool{}
				for _, x := range s.share(left, max) {
					if x.due != int64(got[x.prio]) {
						t.Errorf("%v: class %d gave %d before %d", c.counts, x.prio, x.due, got[x.prio])
					}
					got[x.prio]++
					took[x] = true
				}
				n -= max
				var rest []candidate
				for _, x := range left {
					if !took[x] {
						rest = append(rest, x)
					}
				}
				left = rest
			}
			if fmt.Sprint(got) != c.want {
				t.Errorf("%v, %d (one by one: %v): %v, want %s", c.counts, c.max, one, got, c.want)
			}
		}
	}
}
