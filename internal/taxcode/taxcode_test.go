package taxcode

import (
	"testing"
	"time"
)

func born(y, m, d int) time.Time { return time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC) }

func TestOf(t *testing.T) {
	for _, c := range []struct {
		want string
		p    Person
	}{
		{"RSSMRA77L18H501W", Person{"Rossi", "Mario", false, born(1977, 7, 18), "H501"}},
		{"RSSMRA79S18F205J", Person{"Rossi", "Mario", false, born(1979, 11, 18), "F205"}},
		{"DOEJHN99T13Z121S", Person{"Doe", "John", false, born(1999, 12, 13), "Z121"}},
		{"RSSMRA80A01L736U", Person{"Rossi", "Mario", false, born(1980, 1, 1), "L736"}},
		{"BNCGLI92M41L736X", Person{"Bianchi", "Giulia", true, born(1992, 8, 1), "L736"}},
		{"FOXMXA01H70Z600", Person{"Fo", "Max", true, born(2001, 6, 30), "Z600"}},
		{"DLLNCL65B02L736", Person{"Dall'Ò", "Nicolò", false, born(1965, 2, 2), "L736"}},
	} {
		got, err := Of(c.p)
		if err != nil || got[:len(c.want)] != c.want {
			t.Errorf("%s %s: %s, %v; want %s", c.p.Surname, c.p.Name, got, err, c.want)
		}
		if !Valid(got) {
			t.Errorf("%s is not valid", got)
		}
	}
	if _, err := Of(Person{"Rossi", "Mario", false, born(1980, 1, 1), "VE"}); err == nil {
		t.Error("a place of two characters was taken")
	}
}

func TestOmocode(t *testing.T) {
	const plain = "RSSMRA80A01L736U"
	seen := map[string]bool{}
	for n := range 8 {
		s := Omocode(plain, n)
		if !Valid(s) || seen[s] {
			t.Errorf("variant %d, %s: valid %v, seen before %v", n, s, Valid(s), seen[s])
		}
		seen[s] = true
		if back, ok := Plain(s); !ok || back[:15] != plain[:15] {
			t.Errorf("variant %d, %s, was made from %s", n, s, back)
		}
	}
	if s := Omocode("ABCDEF12B23P432P", 1); s != "ABCDEF12B23P43NE" {
		t.Errorf("got %s, want the published pair's other half", s)
	}
}

func FuzzValid(f *testing.F) {
	for _, s := range []string{"", "RSSMRA80A01L736U", "RSSMRA80A0MLTPSX", "02313821007", "ÀÀÀÀÀÀÀÀ"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if Valid(s) && len(s) == 16 {
			if p, ok := Plain(s); !ok || len(p) != 16 {
				t.Errorf("%q is valid and has no plain form", s)
			}
		}
	})
}
