package seal

import (
	"bytes"
	"errors"
	"testing"
)

func keys(t testing.TB, b byte) *Keys {
	t.Helper()
	k, err := New(bytes.Repeat([]byte{b}, MasterSize))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSealOpensOnlyWhatItSealed(t *testing.T) {
	k, other := keys(t, 1).City(), keys(t, 2).City()
	for _, clear := range [][]byte{{}, []byte("x"), bytes.Repeat([]byte("abc"), 5000)} {
		s := k.Seal(clear, Bound('e', 7))
		got, err := k.Open(s, Bound('e', 7))
		if err != nil || !bytes.Equal(got, clear) {
			t.Fatalf("%d bytes came back as %d, %v", len(clear), len(got), err)
		}
		if _, err := k.Open(s, Bound('e', 8)); !errors.Is(err, ErrSeal) {
			t.Fatal("opened in another row:", err)
		}
		if _, err := other.Open(s, Bound('e', 7)); !errors.Is(err, ErrSeal) {
			t.Fatal("opened by another key:", err)
		}
		for i := range min(len(s), 64) {
			bad := bytes.Clone(s)
			bad[i] ^= 1
			if _, err := k.Open(bad, Bound('e', 7)); !errors.Is(err, ErrSeal) {
				t.Fatalf("opened with byte %d changed: %v", i, err)
			}
		}
	}
	if n := len(k.Seal(bytes.Repeat([]byte("abc"), 5000), nil)); n > 2000 {
		t.Fatalf("15,000 repetitive bytes are sealed as %d", n)
	}
}

func TestWrap(t *testing.T) {
	a, b := keys(t, 1).City(), keys(t, 2).City()
	data, raw, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	w := a.Wrap(raw, Bound('r', 7))
	if _, ok := b.Unwrap(w, Bound('r', 7)); ok || len(w) != WrapSize {
		t.Fatal("another key unwrapped it, or its size is wrong")
	}
	if _, ok := a.Unwrap(w, Bound('r', 8)); ok {
		t.Fatal("a run's key opens as another run's")
	}
	if _, err := a.Open(append([]byte{plain}, w[wrapIDSize:]...), Bound('r', 7)); !errors.Is(err, ErrSeal) {
		t.Fatal("a wrapped key opens as a body:", err)
	}
	got, ok := a.Unwrap(w, Bound('r', 7))
	if !ok {
		t.Fatal("its own key does not unwrap it")
	}
	if _, err := got.Open(data.Seal([]byte("x"), nil), nil); err != nil {
		t.Fatal(err)
	}
}

// Under NIST SP 800-38D, 8.3 a key that draws 96-bit nonces at random ends after
// 2^32 messages; with 192 bits the same odds are reached after 2^80.
func TestTheCityKeyLastsForever(t *testing.T) {
	if nonceSize < 24 {
		t.Fatalf("a nonce has %d bytes: too few to be drawn at random for the life of a city", nonceSize)
	}
	k, seen := keys(t, 1).City(), map[string]bool{}
	for range 1000 {
		seen[string(k.Seal(nil, nil)[1:1+nonceSize])] = true
	}
	if len(seen) != 1000 {
		t.Fatalf("1000 messages have %d nonces", len(seen))
	}
}

func TestLookUpKeys(t *testing.T) {
	k := keys(t, 1)
	if k.Token("a", "b", "c") == k.Token("a", "bc") || k.Token("a", "b") == k.Token("b", "a") || k.Token("a") == keys(t, 2).Token("a") {
		t.Fatal("different parts, one token")
	}
	if _, err := New(make([]byte, 31)); err == nil {
		t.Fatal("a short master key was taken")
	}
}

func FuzzOpen(f *testing.F) {
	k := keys(f, 1).City()
	f.Add(k.Seal([]byte("clear"), nil))
	f.Add([]byte{1})
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = k.Open(b, nil)
		_, _ = k.Unwrap(b, nil)
	})
}

// A ring is opened by each of its master keys and by no other; what either
// generation sealed is read, and the look-up keys stay.
func TestRing(t *testing.T) {
	old, next := keys(t, 1), bytes.Repeat([]byte{2}, MasterSize)
	sealed := old.City().Seal([]byte("x"), nil)
	token := old.Token("a")
	ring, err := old.Next(nil, next)
	if err != nil {
		t.Fatal(err)
	}
	for _, by := range []byte{1, 2} {
		k := keys(t, by)
		if err := k.Enter(ring); err != nil || k.Generation() != 2 || k.Token("a") != token {
			t.Fatalf("master %d: %v, generation %d", by, err, k.Generation())
		}
		if b, err := k.City().Open(sealed, nil); err != nil || string(b) != "x" {
			t.Fatal(err)
		}
		anew, err := k.City().Reseal(sealed, nil)
		if err != nil || anew == nil {
			t.Fatal(err)
		}
		if again, err := k.City().Reseal(anew, nil); err != nil || again != nil {
			t.Fatal("what the newest key sealed is sealed again:", err)
		}
		if _, err := old.City().Open(anew, nil); err == nil && old.Generation() == 1 {
			t.Fatal("the old keys open what the new ones sealed")
		}
	}
	if err := keys(t, 3).Enter(ring); !errors.Is(err, ErrMaster) {
		t.Fatal(err)
	}
	last, err := Last(ring)
	if err != nil {
		t.Fatal(err)
	}
	if err := keys(t, 1).Enter(last); !errors.Is(err, ErrMaster) {
		t.Fatal("the old master key opens the finished ring:", err)
	}
	if err := keys(t, 2).Enter(last); err != nil {
		t.Fatal(err)
	}
	for i := range ring {
		bad := bytes.Clone(ring)
		bad[i] ^= 1
		if err := keys(t, 1).Enter(bad); err == nil && keys(t, 2).Enter(bad) == nil {
			t.Fatalf("a ring with byte %d changed is entered by both", i)
		}
		_ = keys(t, 1).Enter(ring[:i]) // what is cut off must not panic
	}
}
