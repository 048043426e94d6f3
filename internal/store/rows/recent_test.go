package rows

import (
	"encoding/binary"
	"testing"
)

func TestRecent(t *testing.T) {
	token := func(i int) (k [TokenSize]byte) { binary.BigEndian.PutUint64(k[:], uint64(i)); return k }
	var r Recent[int]
	one, other := new(int), new(int)
	if r.Get(token(0)) != nil || r.Add(token(0), one) != one || r.Add(token(0), other) != one || r.Get(token(0)) != one {
		t.Fatal("the first is not kept")
	}
	if r.Drop(token(0), other); r.Get(token(0)) != one {
		t.Fatal("another one was dropped")
	}
	if r.Drop(token(0), one); r.Get(token(0)) != nil {
		t.Fatal("it was not dropped")
	}
	for i := range maxRecent {
		r.Add(token(i), one)
	}
	r.Get(token(0))
	r.Add(token(maxRecent), one)
	if r.Get(token(0)) == nil || r.Get(token(1)) != nil || len(r.m) != maxRecent || r.list.Len() != maxRecent {
		t.Fatal("what was used longest ago is not what was forgotten")
	}
}
