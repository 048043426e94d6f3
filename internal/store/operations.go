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
