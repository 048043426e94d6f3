// Package seal turns clear bodies into stored ones and back: compression above
// 1 KiB, XChaCha20-Poly1305, and the keys that hang together so that a person's data
// dies with one key (semantics 10.4, 10.5).
//
//	master key -> a person's key (kept wrapped, destroyed at erasure)
//	           -> the city's key (for what is nobody's)
//	              both in generations: a new master key brings new ones
//	person's or city's key -> wraps a run's data key -> seals its bodies
//
// The city's key seals every message and event for the whole life of a city, under
// random nonces. Those of AES-GCM have 96 bits, which allow 2^32 messages a key
// (NIST SP 800-38D, 8.3): a busy city's few years. XChaCha20-Poly1305
// (draft-irtf-cfrg-xchacha, 2.1) takes 192 bits: a random one never comes twice.
//
// Look-up keys are HMACs under keys derived from the master, never bare hashes:
// a codice fiscale has too few values for those.
package seal

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/klauspost/compress/s2"
	"golang.org/x/crypto/chacha20poly1305"
)

// Sizes in bytes.
const (
	MasterSize = 32 // at least
	keySize    = chacha20poly1305.KeySize
	nonceSize  = chacha20poly1305.NonceSizeX
	tagSize    = chacha20poly1305.Overhead
	wrapIDSize = 8
	// WrapSize is the length of one wrapped key.
	WrapSize = wrapIDSize + nonceSize + keySize + tagSize

	compressAbove = 1 << 10
	maxClear      = 64 << 20
)

// ErrSeal says that stored bytes were not sealed by this key, or were changed.
var ErrSeal = errors.New("sealed bytes do not open: wrong key or damaged")

// Keys are all that the city's master key opens.
type Keys struct {
	mac  []byte                       // look-up tokens, ids, effect keys
	lock *Key                         // of the ring
	gens atomic.Pointer[[]generation] // of what wraps persons' keys, and the city's; oldest first
	// Reload looks whether others have brought a ring with more generations, and
	// enters it; it is asked when nothing opens. nil where there are no others.
	Reload func()
}

// New derives the keys. The master key is at least MasterSize random bytes.
func New(master []byte) (*Keys, error) {
	if len(master) < MasterSize {
		return nil, fmt.Errorf("reading the master key: it has %d bytes, at least %d are needed", len(master), MasterSize)
	}
	derive := func(info string) ([]byte, error) { return hkdf.Key(sha256.New, master, nil, "dime/1 "+info, keySize) }
	mac, err := derive("look-up")
	if err != nil {
		return nil, fmt.Errorf("deriving the look-up key: %w", err)
	}
	kek, err := derive("persons")
	if err != nil {
		return nil, fmt.Errorf("deriving the persons' key: %w", err)
	}
	city, err := derive("city")
	if err != nil {
		return nil, fmt.Errorf("deriving the city's key: %w", err)
	}
	k := &Keys{mac: mac}
	if k.lock, err = lockOf(master); err != nil {
		return nil, err
	}
	g, err := newGeneration(kek, city)
	if err != nil {
		return nil, err
	}
	k.gens.Store(&[]generation{g})
	return k, nil
}

// City is the key for what has no person: stored events, bus messages, the
// data keys of runs without a subject.
func (k *Keys) City() City { return City{k} }

func (k *Keys) sum(purpose string, parts ...string) [sha256.Size]byte {
	h := hmac.New(sha256.New, k.mac)
	var n [4]byte
	write := func(s string) {
		binary.BigEndian.PutUint32(n[:], uint32(len(s)))
		h.Write(n[:])
		h.Write([]byte(s))
	}
	write(purpose)
	for _, p := range parts {
		write(p)
	}
	var out [sha256.Size]byte
	h.Sum(out[:0])
	return out
}

// Token is the 128-bit look-up key of parts; equal parts under another purpose
// give another one.
func (k *Keys) Token(purpose string, parts ...string) [16]byte {
	s := k.sum(purpose, parts...)
	return [16]byte(s[:16])
}

// Number is a 63-bit look-up key, for compact indexes whose readers tolerate a
// collision.
func (k *Keys) Number(purpose string, parts ...string) int64 {
	s := k.sum(purpose, parts...)
	return int64(binary.BigEndian.Uint64(s[:8]) >> 1)
}

// Tag is the 64-bit MAC of a number.
func (k *Keys) Tag(purpose string, n uint64) [8]byte {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	s := k.sum(purpose, string(b[:]))
	return [8]byte(s[:8])
}

// UUID is a stable UUID of parts (RFC 9562 version 8).
func (k *Keys) UUID(purpose string, parts ...string) string {
	s := k.sum(purpose, parts...)
	u := s[:16]
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	x := hex.EncodeToString(u)
	return x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:]
}

// NewPerson makes a person's key and its wrapped form; token binds the two.
func (k *Keys) NewPerson(token [16]byte) (*Key, []byte, error) {
	key, raw, err := NewKey()
	if err != nil {
		return nil, nil, err
	}
	return key, k.newest().kek.seal(nil, raw, token[:]), nil
}

// OpenPerson unwraps a person's key.
func (k *Keys) OpenPerson(token [16]byte, wrapped []byte) (*Key, error) {
	var raw []byte
	err := ErrSeal
	k.each(func(g *generation) bool {
		raw, err = g.kek.open(wrapped, token[:])
		return err == nil
	})
	if err != nil {
		return nil, fmt.Errorf("unwrapping a person's key: %w", err)
	}
	return newKey(raw)
}

// Key is one key of XChaCha20-Poly1305. It may be used by many goroutines.
type Key struct {
	raw  []byte
	aead cipher.AEAD
	id   [wrapIDSize]byte
}

// NewKey makes a random key and gives its bytes for wrapping.
func NewKey() (*Key, []byte, error) {
	raw := make([]byte, keySize)
	if _, err := rand.Read(raw); err != nil {
		return nil, nil, fmt.Errorf("making a key: %w", err)
	}
	k, err := newKey(raw)
	return k, raw, err
}

func newKey(raw []byte) (*Key, error) {
	a, err := chacha20poly1305.NewX(raw)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	return &Key{raw: raw, aead: a}, nil
}

// ID names the key without telling it. It is only asked of keys that wrap others.
func (k *Key) ID() [wrapIDSize]byte {
	m := hmac.New(sha256.New, k.raw)
	m.Write([]byte("id"))
	return [wrapIDSize]byte(m.Sum(nil)[:wrapIDSize])
}

// WithID returns k with its ID computed once, for keys that wrap many.
func (k *Key) WithID() *Key {
	c := *k
	c.id = k.ID()
	return &c
}

func (k *Key) seal(dst, clear, bound []byte) []byte {
	var nonce [nonceSize]byte
	// crypto/rand.Read never fails since Go 1.24: it ends the process instead.
	_, _ = rand.Read(nonce[:])
	if dst == nil {
		dst = make([]byte, 0, nonceSize+len(clear)+tagSize)
	}
	dst = append(dst, nonce[:]...)
	return k.aead.Seal(dst, nonce[:], clear, bound)
}

func (k *Key) open(sealed, bound []byte) ([]byte, error) {
	if len(sealed) < nonceSize+tagSize {
		return nil, ErrSeal
	}
	b, err := k.aead.Open(nil, sealed[:nonceSize], sealed[nonceSize:], bound)
	if err != nil {
		return nil, ErrSeal
	}
	return b, nil
}

// Wrap seals another key's bytes: WrapSize bytes that begin with k's ID. bound ties
// them to whose key it is, as Seal's does.
func (k *Key) Wrap(raw, bound []byte) []byte {
	id := k.id
	if id == ([wrapIDSize]byte{}) {
		id = k.ID()
	}
	return k.seal(append(make([]byte, 0, WrapSize), id[:]...), raw, bind(wrapped, bound))
}

// Unwrap opens a wrap made by this key; ok is false if another key made it, or if
// it was made for something else.
func (k *Key) Unwrap(wrap, bound []byte) (key *Key, ok bool) {
	id := k.id
	if id == ([wrapIDSize]byte{}) {
		id = k.ID()
	}
	if len(wrap) != WrapSize || [wrapIDSize]byte(wrap[:wrapIDSize]) != id {
		return nil, false
	}
	raw, err := k.open(wrap[wrapIDSize:], bind(wrapped, bound))
	if err != nil {
		return nil, false
	}
	key, err = newKey(raw)
	return key, err == nil
}

const (
	plain      byte = 0
	compressed byte = 1
	wrapped    byte = 2 // a key: no row can be passed off as one
)

// Seal compresses clear above 1 KiB and seals it. bound is authenticated with
// it and must be given again to Open: it ties the bytes to their row.
func (k *Key) Seal(clear, bound []byte) []byte {
	flag := plain
	if len(clear) > compressAbove {
		if c := s2.Encode(nil, clear); len(c) < len(clear) {
			clear, flag = c, compressed
		}
	}
	out := make([]byte, 0, 1+nonceSize+len(clear)+tagSize)
	return k.seal(append(out, flag), clear, bind(flag, bound))
}

// Open is the opposite of Seal; ErrSeal if the bytes are not its work.
func (k *Key) Open(sealed, bound []byte) ([]byte, error) {
	if len(sealed) == 0 || sealed[0] > compressed {
		return nil, ErrSeal
	}
	b, err := k.open(sealed[1:], bind(sealed[0], bound))
	if err != nil || sealed[0] == plain {
		return b, err
	}
	n, err := s2.DecodedLen(b)
	if err != nil || n > maxClear {
		return nil, ErrSeal
	}
	if b, err = s2.Decode(nil, b); err != nil {
		return nil, ErrSeal
	}
	return b, nil
}

// bind lets nobody flip the flag, nor take what was sealed as one kind for another.
func bind(flag byte, bound []byte) []byte {
	b := make([]byte, 0, 24)
	return append(append(b, flag), bound...)
}

// BoundName is the binding of a row that is known by a name: a table's letter and
// the name.
func BoundName(table byte, name string) []byte {
	return append([]byte{table}, name...)
}

// Bound is the binding of a row: a table's letter and its number.
func Bound(table byte, id int64) []byte {
	var b [9]byte
	b[0] = table
	binary.BigEndian.PutUint64(b[1:], uint64(id))
	return b[:]
}
