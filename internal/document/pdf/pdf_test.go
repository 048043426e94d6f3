package pdf

import (
	"bytes"
	"testing"
	"time"

	"github.com/go-pdf/fpdf"
)

func sheet(t testing.TB, s string) []byte {
	t.Helper()
	p := fpdf.New("P", "mm", "A4", "")
	p.SetCreationDate(time.Unix(0, 0))
	p.SetModificationDate(time.Unix(0, 0))
	p.SetCatalogSort(true)
	p.AddPage()
	p.SetFont("Helvetica", "", 12)
	p.Text(20, 20, s)
	p.LinkString(20, 20, 30, 5, "https://comune.example/")
	var b bytes.Buffer
	if err := p.Output(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestUpdatesKeepWhatIsThere(t *testing.T) {
	base := sheet(t, "base")
	over, err := Overlay(base, sheet(t, "top"))
	if err != nil || !bytes.HasPrefix(over, base) {
		t.Fatal(err, "or no prefix")
	}
	var signed [32]byte
	out, err := Sign(over, Signature{Name: "Città", At: time.Unix(0, 0), Size: 64}, func(d [32]byte) ([]byte, error) {
		signed = d
		return bytes.Repeat([]byte{0xab}, 64), nil
	})
	if err != nil || !bytes.HasPrefix(out, over) || signed == [32]byte{} || !bytes.Contains(out, bytes.Repeat([]byte("ab"), 64)) {
		t.Fatalf("%v, prefix %v", err, bytes.HasPrefix(out, over))
	}
	f, err := Read(out)
	if err != nil {
		t.Fatal(err)
	}
	for n := range f.offsets {
		if _, err := f.Object(n); err != nil {
			t.Error(err)
		}
	}
	if _, err := Sign(out, Signature{Size: 64}, nil); err == nil {
		t.Error("a second seal was set")
	}
	if _, err := Sign(over, Signature{Size: 4}, func([32]byte) ([]byte, error) { return make([]byte, 5), nil }); err == nil {
		t.Error("a signature longer than its room was written")
	}
}

func TestReadRefuses(t *testing.T) {
	good := sheet(t, "x")
	for name, b := range map[string][]byte{
		"empty":     nil,
		"no header": good[1:],
		"cut off":   good[:len(good)/2],
		"no root":   bytes.Replace(good, []byte("/Root"), []byte("/Toor"), 1),
		"loop":      bytes.Replace(good, []byte("/Size"), []byte("/Prev 999999\n/Size"), 1),
	} {
		if _, err := Read(b); err == nil {
			t.Errorf("%s was read", name)
		}
	}
}

func FuzzRead(f *testing.F) {
	good := sheet(f, "x")
	f.Add(good)
	over, err := Overlay(good, good)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(over)
	f.Add([]byte("%PDF-1.3\nxref\n0 1\n0000000000 65535 f \ntrailer\n<</Size 1/Root 1 0 R/Info 1 0 R>>\nstartxref\n9\n%%EOF"))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := Read(b)
		if err != nil {
			return
		}
		for n := range file.offsets {
			_, _ = file.Object(n) // must not panic
		}
		_, _ = Overlay(b, b)
		_, _ = Sign(b, Signature{Size: 8}, func([32]byte) ([]byte, error) { return nil, nil })
	})
}
