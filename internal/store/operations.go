package store

import (
	"context"
	"time"
)

// Erasure names a person's key that was destroyed: by the person's look-up token
// and by the key's own id, for a person who comes back gets another key. It tells
// nobody who that was.
type Erasure struct {
	Token [16]byte
	Key   [8]byte
	At    time.Time
}

// Erasures is the list of destroyed keys, kept apart from the backups: a copy of
// the memory from before an erasure still holds the key, so an implementation
// destroys what the list names when it opens (semantics 10.5).
type Erasures interface {
	// Add returns when the erasures are durable. It comes before the keys are
	// destroyed; to name one twice does no harm.
	Add(es ...Erasure) error
	All() ([]Erasure, error)
}

// Operations is what people who run the bus ask of a store besides. It is apart
// from Store, for the engine needs none of it.
type Operations interface {
	// RunsOf lists the runs that are sealed for a person, oldest first, without
	// heads. It reads every run: a subject has no index (semantics 13).
	RunsOf(ctx context.Context, subject string) ([]Run, error)
	// Forgets says how long what has no person's key, such as events and messages,
	// is kept, and with it what an erasure does not reach.
	Forgets() time.Duration
}

// Keyring is how the master key is changed under a store at work. Between
// BeginRotation and FinishRotation the old and the new master key both open it;
// what is read and written goes on meanwhile, in all processes.
type Keyring interface {
	Keys(ctx context.Context) (KeyState, error)
	// BeginRotation makes new keys, by which all is wrapped and sealed from here on,
	// and lets another master key open the store besides. To begin again with the
	// same key changes nothing.
	BeginRotation(ctx context.Context, master []byte) error
	// Reseal wraps and seals up to max rows anew, from where the last call stood, be
	// it of another life: it stands in the store with the rows. It says false when a
	// walk over all has found nothing of the old keys any more.
	Reseal(ctx context.Context, max int) (more bool, err error)
	// FinishRotation lets but the newest master key open the store from here on.
	// ErrResealing while Reseal has more to do.
	FinishRotation(ctx context.Context) error
}

// KeyState says how a store's keys stand.
type KeyState struct {
	Generation int      // 1 before the first rotation
	Masters    []string // ids of the master keys that open it, newest last: two while a rotation is under way
	Opened     string   // the id of the one by which this process opened it
	Walk       string   // the table in which Reseal stands; "" where nothing is left to do
	Done       int64    // rows that the walk has wrapped or sealed anew
	Rows       int64    // rows that a walk looks at; counted when asked
}
