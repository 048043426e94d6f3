package rows

import "errors"

// ErrOvertaken refuses a swap: another writer came in between.
var ErrOvertaken = errors.New("another writer came in between")

// Swap carries out a Table's Update by comparing and swapping, so that no code of the
// owner runs in a transaction. rev is 0 where there is no row; swap writes next, nil
// deletes, and is refused with ErrOvertaken.
func Swap(load func() (old []byte, rev int64, err error), f func(old []byte) ([]byte, error), swap func(rev int64, next []byte) error) error {
	for {
		old, rev, err := load()
		if err != nil {
			return err
		}
		next, err := f(old)
		if err != nil || next == nil && rev == 0 {
			return err
		}
		if err := swap(rev, next); !errors.Is(err, ErrOvertaken) {
			return err
		}
	}
}
