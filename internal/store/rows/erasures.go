package rows

import (
	"fmt"

	"github.com/dime-bus/dime/internal/store"
)

// DestroyAgain destroys the keys that a list names, for after a restore they are
// back; nil is no list.
func DestroyAgain(es store.Erasures, destroy func(token [TokenSize]byte, key *[8]byte) error) error {
	if es == nil {
		return nil
	}
	all, err := es.All()
	if err != nil {
		return err
	}
	for _, e := range all {
		if err := destroy(e.Token, &e.Key); err != nil {
			return fmt.Errorf("destroying a person's key again: %w", err)
		}
	}
	return nil
}
