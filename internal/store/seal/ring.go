package seal

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
)

// A store that never changed its master key derives everything from it. At the
// first rotation the keys become a ring, which the master key opens:
//
//	ring: one entry a master key, each the same keys sealed by that one
//	keys: the look-up key, which stays, and generations of persons' and city's keys
//
// The newest generation wraps and seals; all open. So what a process that has not
// heard of a rotation sealed meanwhile is read by everybody, for ever. The look-up
// key can't change: ids that people have, keys that far sides have seen and the
// tokens of those who were erased hang on it.

// ErrMaster says that a master key does not open a ring.
var ErrMaster = errors.New("the master key is not one that this store is opened by")

const ringFormat = 1

// generation is one pair of keys; the newest wraps and seals.
type generation struct {
	raw       [2][]byte // kek, city
	kek, city *Key
}

func newGeneration(kek, city []byte) (g generation, err error) {
	g.raw = [2][]byte{kek, city}
	if g.kek, err = newKey(kek); err != nil {
		return g, err
	}
	c, err := newKey(city)
	if err != nil {
		return g, err
	}
	g.city = c.WithID()
	return g, nil
}

// entry of a ring.
type entry struct {
	id     [wrapIDSize]byte
	sealed []byte
}

func readRing(ring []byte) (es []entry, err error) {
	if len(ring) == 0 || ring[0] != ringFormat {
		return nil, fmt.Errorf("reading the ring of keys: %w", ErrSeal)
	}
	for b := ring[1:]; len(b) > 0; {
		if len(b) < wrapIDSize+4 {
			return nil, fmt.Errorf("reading the ring of keys: %w", ErrSeal)
		}
		id, n := [wrapIDSize]byte(b[:wrapIDSize]), binary.BigEndian.Uint32(b[wrapIDSize:])
		b = b[wrapIDSize+4:]
		if uint64(n) > uint64(len(b)) {
			return nil, fmt.Errorf("reading the ring of keys: %w", ErrSeal)
		}
		es = append(es, entry{id, b[:n]})
		b = b[n:]
	}
	return es, nil
}

func writeRing(es []entry) []byte {
	b := []byte{ringFormat}
	for _, e := range es {
		b = append(b, e.id[:]...)
		b = binary.BigEndian.AppendUint32(b, uint32(len(e.sealed)))
		b = append(b, e.sealed...)
	}
	return b
}

// lockOf is what a master key seals a ring with.
func lockOf(master []byte) (*Key, error) {
	if len(master) < MasterSize {
		return nil, fmt.Errorf("reading the master key: it has %d bytes, at least %d are needed", len(master), MasterSize)
	}
	raw, err := hkdf.Key(sha256.New, master, nil, "dime/1 ring", keySize)
	if err != nil {
		return nil, fmt.Errorf("deriving the ring's key: %w", err)
	}
	k, err := newKey(raw)
	if err != nil {
		return nil, err
	}
	return k.WithID(), nil
}

// MasterID names a master key without telling it.
func MasterID(master []byte) (string, error) {
	k, err := lockOf(master)
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(k.id[:]), nil
}

// Opened is the id of the master key that these keys were opened by.
func (k *Keys) Opened() string { return hex.EncodeToString(k.lock.id[:]) }

// Generation counts the generations that are known; 1 before the first rotation.
func (k *Keys) Generation() int { return len(*k.gens.Load()) }

// Masters are the ids of the master keys that open a ring, newest last.
func Masters(ring []byte) ([]string, error) {
	es, err := readRing(ring)
	if err != nil {
		return nil, err
	}
	out := make([]string, len(es))
	for i, e := range es {
		out[i] = hex.EncodeToString(e.id[:])
	}
	return out, nil
}

var ringBound = []byte("ring")

// Enter takes the keys of a ring in the place of those that were derived;
// ErrMaster if this master key does not open it.
func (k *Keys) Enter(ring []byte) error {
	es, err := readRing(ring)
	if err != nil {
		return err
	}
	for _, e := range es {
		if e.id != k.lock.id {
			continue
		}
		b, err := k.lock.open(e.sealed, ringBound)
		if err != nil || len(b) < 3*keySize || len(b)%(2*keySize) != keySize {
			return fmt.Errorf("opening the ring of keys: %w", ErrSeal)
		}
		mac, b := b[:keySize], b[keySize:]
		var gens []generation
		for ; len(b) > 0; b = b[2*keySize:] {
			g, err := newGeneration(bytes.Clone(b[:keySize]), bytes.Clone(b[keySize:2*keySize]))
			if err != nil {
				return err
			}
			gens = append(gens, g)
		}
		if first := k.gens.Swap(&gens); first == nil || len(*first) <= 1 {
			k.setMAC(bytes.Clone(mac))
		}
		return nil
	}
	return ErrMaster
}

// setMAC is done before anybody asks: a ring keeps the look-up key, so that to set
// it again on keys at work would change nothing.
func (k *Keys) setMAC(mac []byte) {
	if !hmac.Equal(k.mac, mac) {
		k.mac = mac
	}
}

func (k *Keys) sealedFor(lock *Key, gens []generation) entry {
	b := bytes.Clone(k.mac)
	for _, g := range gens {
		b = append(append(b, g.raw[0]...), g.raw[1]...)
	}
	return entry{lock.id, lock.seal(nil, b, ringBound)}
}

// ErrRotating says that another rotation has to be finished first.
var ErrRotating = errors.New("a rotation to another key is under way: finish it first")

// Next is a ring (nil: there is none yet) with one more generation, which a new
// master key opens too; the ring itself if that opens it already. Only whoever
// stores it may Enter it.
func (k *Keys) Next(ring, master []byte) ([]byte, error) {
	lock, err := lockOf(master)
	if err != nil {
		return nil, err
	}
	if lock.id == k.lock.id {
		return nil, errors.New("the new master key is the one that is in force")
	}
	if ring != nil {
		es, err := readRing(ring)
		switch {
		case err != nil:
			return nil, err
		case len(es) == 2 && es[1].id == lock.id:
			return ring, nil
		case len(es) != 1:
			return nil, ErrRotating
		}
		if err := k.Enter(ring); err != nil {
			return nil, err
		}
	}
	_, kek, err := NewKey()
	if err != nil {
		return nil, err
	}
	_, city, err := NewKey()
	if err != nil {
		return nil, err
	}
	g, err := newGeneration(kek, city)
	if err != nil {
		return nil, err
	}
	gens := append(append([]generation{}, *k.gens.Load()...), g)
	return writeRing([]entry{k.sealedFor(k.lock, gens), k.sealedFor(lock, gens)}), nil
}

// Last is a ring that only the newest master key opens.
func Last(ring []byte) ([]byte, error) {
	es, err := readRing(ring)
	if err != nil {
		return nil, err
	}
	return writeRing(es[max(0, len(es)-1):]), nil
}

// City is the city's key in all its generations.
type City struct{ k *Keys }

// each tries the generations, newest first; then once more if others brought a new
// one.
func (k *Keys) each(try func(g *generation) bool) bool {
	gens := *k.gens.Load()
	for i := len(gens) - 1; i >= 0; i-- {
		if try(&gens[i]) {
			return true
		}
	}
	if k.Reload == nil {
		return false
	}
	k.Reload()
	known := len(gens) // another goroutine may have been quicker to bring more
	gens = *k.gens.Load()
	for i := len(gens) - 1; i >= known; i-- {
		if try(&gens[i]) {
			return true
		}
	}
	return false
}

func (k *Keys) newest() *generation {
	gens := *k.gens.Load()
	return &gens[len(gens)-1]
}

// Seal is Key.Seal by the newest generation.
func (c City) Seal(clear, bound []byte) []byte { return c.k.newest().city.Seal(clear, bound) }

// Open is Key.Open by whichever generation sealed.
func (c City) Open(sealed, bound []byte) (clear []byte, err error) {
	err = ErrSeal
	c.k.each(func(g *generation) bool {
		clear, err = g.city.Open(sealed, bound)
		return err == nil
	})
	return clear, err
}

// Wrap is Key.Wrap by the newest generation.
func (c City) Wrap(raw, bound []byte) []byte { return c.k.newest().city.Wrap(raw, bound) }

// Unwrap is Key.Unwrap by whichever generation wrapped.
func (c City) Unwrap(wrap, bound []byte) (key *Key, ok bool) {
	c.k.each(func(g *generation) bool {
		key, ok = g.city.Unwrap(wrap, bound)
		return ok
	})
	return key, ok
}

// Reseal seals by the newest generation what an older one sealed; nil if the
// newest did.
func (c City) Reseal(sealed, bound []byte) ([]byte, error) {
	if _, err := c.k.newest().city.Open(sealed, bound); err == nil {
		return nil, nil
	}
	clear, err := c.Open(sealed, bound)
	if err != nil {
		return nil, err
	}
	return c.Seal(clear, bound), nil
}

// Rewrap is Reseal of a wrapped key.
func (c City) Rewrap(wrap, bound []byte) ([]byte, error) {
	if _, ok := c.k.newest().city.Unwrap(wrap, bound); ok {
		return nil, nil
	}
	key, ok := c.Unwrap(wrap, bound)
	if !ok {
		return nil, ErrSeal
	}
	return c.Wrap(key.raw, bound), nil
}

// RewrapPerson is Reseal of a person's key.
func (k *Keys) RewrapPerson(token [16]byte, wrapped []byte) ([]byte, error) {
	if _, err := k.newest().kek.open(wrapped, token[:]); err == nil {
		return nil, nil
	}
	key, err := k.OpenPerson(token, wrapped)
	if err != nil {
		return nil, err
	}
	return k.newest().kek.seal(nil, key.raw, token[:]), nil
}
