package rows

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/seal"
)

// Whatever bytes stand in a row, the answer is an error or records that pack
// again to something that reads the same.
func FuzzUnpackNames(f *testing.F) {
	f.Add(PackNames([]store.Record{{Kind: store.Intent, Path: "a[3]/b#2", Round: 2, At: time.Unix(1, 2000), Fault: "timeout"}, {}}))
	f.Add([]byte{packFormat, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Add([]byte{2})
	f.Fuzz(func(t *testing.T, b []byte) {
		rs, err := UnpackNames(b)
		if err != nil {
			return
		}
		again, err := UnpackNames(PackNames(rs))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(rs, again); d != "" {
			t.Fatal(d)
		}
	})
}

func FuzzUnpackBodies(f *testing.F) {
	rs := []store.Record{{Body: []byte("1")}, {}, {Body: []byte{}}}
	f.Add(PackBodies(&Head{[]byte("h"), "k", []string{"s", "t"}}, rs, []string{"", "", "v:00"}), 3)
	f.Add(PackBodies(nil, rs[:1], nil), 1)
	f.Add([]byte{packFormat, 1, 0xff}, 0)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		if n < 0 || n > 100 {
			return
		}
		_, _, _ = UnpackBodies(b, make([]store.Record, n))
	})
}

func FuzzUnpackMessage(f *testing.F) {
	f.Add(PackMessage("id", []byte("body"), map[string]string{"a": "b"}))
	f.Add([]byte{packFormat, 0, 0xff, 0xff, 0x03})
	f.Fuzz(func(t *testing.T, b []byte) {
		id, body, meta, err := UnpackMessage(b)
		if err != nil {
			return
		}
		id2, body2, meta2, err := UnpackMessage(PackMessage(id, body, meta))
		if err != nil || id2 != id || !bytes.Equal(body, body2) || len(meta) != len(meta2) {
			t.Fatalf("%q %q %v became %q %q %v, %v", id, body, meta, id2, body2, meta2, err)
		}
	})
}

func FuzzUnpackSeqs(f *testing.F) {
	f.Add(PackSeqs([]int64{1, 5, 1 << 40}))
	f.Add([]byte{0xff, 0x01})
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = UnpackSeqs(b) })
}

func FuzzParseID(f *testing.F) {
	keys, err := seal.New(bytes.Repeat([]byte{7}, seal.MasterSize))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(PublicID(keys, 1))
	f.Add("")
	f.Fuzz(func(t *testing.T, id string) {
		if run, err := ParseID(keys, id); err == nil && PublicID(keys, run) != id {
			t.Fatalf("%q and %q are both run %d", id, PublicID(keys, run), run)
		}
	})
}
