package rows

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/dime-bus/dime/internal/store"
)

// A commit's records are one row: names in clear (kind, path, round, instant,
// fault: what a skeleton keeps after erasure) and bodies sealed (semantics 6.1,
// 10.4). Both begin with a format byte.
const packFormat = 1

const (
	bodyNil    = 0
	bodyInline = 1
	bodyBlob   = 2 // above 64 KiB: the digest of a row of its own
)

// ErrPack says that a row's bytes are not what Pack... made.
var ErrPack = errors.New("journal row is damaged")

// Head is the sealed part of a run's first row that is no record.
type Head struct {
	Bytes    []byte
	OrderKey string
	Subjects []string
}

func putBytes(b, v []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(v)))
	return append(b, v...)
}

func putString(b []byte, v string) []byte {
	b = binary.AppendUvarint(b, uint64(len(v)))
	return append(b, v...)
}

// PackNames packs what stays readable: kinds, paths, rounds, instants and faults.
func PackNames(rs []store.Record) []byte {
	b := make([]byte, 0, 2+48*len(rs))
	b = append(b, packFormat)
	b = binary.AppendUvarint(b, uint64(len(rs)))
	for i := range rs {
		r := &rs[i]
		b = putString(b, string(r.Kind))
		b = putString(b, r.Path)
		b = binary.AppendVarint(b, int64(r.Round))
		if r.At.IsZero() {
			b = binary.AppendVarint(b, 0)
		} else {
			b = binary.AppendVarint(b, r.At.UnixMicro())
		}
		b = putString(b, r.Fault)
	}
	return b
}

// reader walks packed bytes; after the first bad one it yields zeros and err.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail() {
	r.b, r.err = nil, ErrPack
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) uvarint() uint64 {
	n, k := binary.Uvarint(r.b)
	if k <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[k:]
	return n
}

func (r *reader) varint() int64 {
	n, k := binary.Varint(r.b)
	if k <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[k:]
	return n
}

// bytes aliases the packed bytes.
func (r *reader) bytes() []byte {
	n := r.uvarint()
	if r.err != nil || n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) string() string { return string(r.bytes()) }

// count reads a number of things that take at least one byte each.
func (r *reader) count() int {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.fail()
		return 0
	}
	return int(n)
}

// UnpackNames is the opposite of PackNames.
func UnpackNames(b []byte) ([]store.Record, error) {
	r := &reader{b: b}
	if f := r.byte(); r.err == nil && f != packFormat {
		return nil, fmt.Errorf("%w: format %d is not known to this binary", ErrPack, f)
	}
	n := r.count()
	rs := make([]store.Record, 0, n)
	for i := 0; i < n && r.err == nil; i++ {
		rec := store.Record{Kind: store.Kind(r.string()), Path: r.string(), Round: int(r.varint())}
		if at := r.varint(); at != 0 {
			rec.At = time.UnixMicro(at).UTC()
		}
		rec.Fault = r.string()
		rs = append(rs, rec)
	}
	if r.err == nil && len(r.b) != 0 {
		r.fail()
	}
	if r.err != nil {
		return nil, r.err
	}
	return rs, nil
}

// PackBodies packs what is sealed; digest[i] != "" stands for a body that has a
// row of its own.
func PackBodies(h *Head, rs []store.Record, digest []string) []byte {
	size := 8
	if h != nil {
		size += len(h.Bytes) + len(h.OrderKey) + 32*len(h.Subjects) + 16
	}
	for i := range rs {
		size += 8 + len(rs[i].Body)
	}
	b := make([]byte, 0, size)
	b = append(b, packFormat)
	if h == nil {
		b = append(b, 0)
	} else {
		b = append(b, 1)
		b = putBytes(b, h.Bytes)
		b = putString(b, h.OrderKey)
		b = binary.AppendUvarint(b, uint64(len(h.Subjects)))
		for _, s := range h.Subjects {
			b = putString(b, s)
		}
	}
	for i := range rs {
		switch {
		case rs[i].Body == nil:
			b = append(b, bodyNil)
		case digest != nil && digest[i] != "":
			b = putString(append(b, bodyBlob), digest[i])
		default:
			b = putBytes(append(b, bodyInline), rs[i].Body)
		}
	}
	return b
}

// UnpackBodies fills the bodies of rs; digests lists what stands elsewhere.
func UnpackBodies(b []byte, rs []store.Record) (h *Head, digests []string, err error) {
	r := &reader{b: b}
	if f := r.byte(); r.err == nil && f != packFormat {
		return nil, nil, fmt.Errorf("%w: format %d is not known to this binary", ErrPack, f)
	}
	if r.byte() == 1 {
		h = &Head{Bytes: r.bytes(), OrderKey: r.string()}
		for n := r.count(); n > 0 && r.err == nil; n-- {
			h.Subjects = append(h.Subjects, r.string())
		}
	}
	digests = make([]string, len(rs))
	for i := range rs {
		switch r.byte() {
		case bodyNil:
		case bodyInline:
			rs[i].Body = r.bytes()
		case bodyBlob:
			digests[i] = r.string()
		default:
			r.fail()
		}
		if r.err != nil {
			return nil, nil, r.err
		}
	}
	if len(r.b) != 0 {
		return nil, nil, ErrPack
	}
	return h, digests, r.err
}

// PackMessage packs an outbox row's or a bus message's sealed part.
func PackMessage(id string, body []byte, meta map[string]string) []byte {
	b := make([]byte, 0, 24+len(id)+len(body)+48*len(meta))
	b = append(b, packFormat)
	b = putString(b, id)
	b = binary.AppendUvarint(b, uint64(len(meta)))
	for k, v := range meta {
		b = putString(putString(b, k), v)
	}
	return putBytes(b, body)
}

// UnpackMessage is the opposite of PackMessage.
func UnpackMessage(b []byte) (id string, body []byte, meta map[string]string, err error) {
	r := &reader{b: b}
	if f := r.byte(); r.err == nil && f != packFormat {
		return "", nil, nil, fmt.Errorf("%w: format %d is not known to this binary", ErrPack, f)
	}
	id = r.string()
	n := r.count()
	if n > 0 {
		meta = make(map[string]string, n)
	}
	for i := 0; i < n && r.err == nil; i++ {
		k := r.string()
		meta[k] = r.string()
	}
	body = r.bytes()
	if r.err == nil && len(r.b) != 0 {
		r.fail()
	}
	return id, body, meta, r.err
}

// PackSeqs packs an ascending list as differences.
func PackSeqs(seqs []int64) []byte {
	b := make([]byte, 0, 1+2*len(seqs))
	b = binary.AppendUvarint(b, uint64(len(seqs)))
	last := int64(0)
	for _, s := range seqs {
		b = binary.AppendUvarint(b, uint64(s-last))
		last = s
	}
	return b
}

// UnpackSeqs is the opposite of PackSeqs.
func UnpackSeqs(b []byte) ([]int64, error) {
	r := &reader{b: b}
	n := r.count()
	seqs := make([]int64, 0, n)
	last := int64(0)
	for i := 0; i < n && r.err == nil; i++ {
		last += int64(r.uvarint())
		seqs = append(seqs, last)
	}
	if r.err == nil && len(r.b) != 0 {
		r.fail()
	}
	return seqs, r.err
}
