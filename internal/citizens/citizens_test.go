package citizens

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dime-bus/dime/internal/taxcode"
)

func TestRegister(t *testing.T) {
	as, err := Addresses(os.DirFS("../.."))
	if err != nil || len(as) < 40 {
		t.Fatalf("%d addresses, %v", len(as), err)
	}
	r := New("venezia", as...)
	all := r.All()
	if len(all) != Count {
		t.Fatalf("%d people", len(all))
	}
	if d := cmp.Diff(all, New("venezia", as...).All()); d != "" {
		t.Fatalf("the same seed gives other people: %s", d)
	}
	if other := New("padova", as...).All(); other[100].TaxCode == all[100].TaxCode {
		t.Error("another seed gives the same people")
	}
	codes, ids := map[string]bool{}, map[string]bool{}
	count := map[string]int{}
	for _, a := range as {
		if got, ok := r.Address(strings.ToUpper(a.Street), a.Number, a.Sestiere); !ok || got != a {
			t.Errorf("the address %s is not found", a.ID)
		}
	}
	if _, ok := r.Address(as[0].Street, "99999", as[0].Sestiere); ok {
		t.Error("a number that the directory has not is found")
	}
	for _, p := range all {
		if !taxcode.Valid(p.TaxCode) || codes[p.TaxCode] || ids[p.IDANPR] || len(p.IDANPR) != 9 {
			t.Errorf("%s: valid %v, twice %v; %s", p.TaxCode, taxcode.Valid(p.TaxCode), codes[p.TaxCode], p.IDANPR)
		}
		codes[p.TaxCode], ids[p.IDANPR] = true, true
		count[string(p.Status)]++
		if plain, _ := taxcode.Plain(p.TaxCode); plain != p.TaxCode {
			count["omocodia"]++
		}
		if p.BirthPlace.Province == "EE" {
			count["born abroad"]++
		}
		if p.Minor(today) {
			count["minor"]++
			if p.Status == Active && len(p.Parents) == 0 {
				t.Errorf("%s is a child on its own", p.TaxCode)
			}
		}
		if p.Since.Before(p.Born) || p.Born.After(today) {
			t.Errorf("%s: born %s, since %s", p.TaxCode, p.Born, p.Since)
		}
		if p.CivilStatus != Of(p.CivilStatus, p.Sex) || p.Relation != Of(p.Relation, p.Sex) || p.Sex == "F" && p.CivilStatus == Single {
			t.Errorf("%s (%s) is %s and %s", p.TaxCode, p.Sex, p.CivilStatus, p.Relation)
		}
		if p.Spouse != "" {
			if s, ok := r.ByTaxCode(p.Spouse); !ok || s.Spouse != p.TaxCode || s.Family != p.Family {
				t.Errorf("%s and %s are not married to each other", p.TaxCode, p.Spouse)
			}
		}
		for _, parent := range p.Parents {
			if q, ok := r.ByTaxCode(parent); !ok || p.Born.Before(q.Born.AddDate(15, 0, 0)) {
				t.Errorf("%s can't be a parent of %s", parent, p.TaxCode)
			}
		}
	}
	for what, least := range map[string]int{"active": 4000, "emigrated": 50, "deceased": 10, "untraceable": 20, "omocodia": 10, "born abroad": 300, "minor": 300} {
		if count[what] < least {
			t.Errorf("%s: %d, want %d or more", what, count[what], least)
		}
	}
}

func TestKnownPeople(t *testing.T) {
	for _, seed := range []string{"venezia", "another"} {
		r := New(seed)
		p, ok := r.ByTaxCode("RSSMRA80A01L736U")
		if !ok || p.Name != "Mario Rossi" || p.Status != Active {
			t.Fatalf("%s: %+v", seed, p)
		}
		if q, ok := r.ByIDANPR(p.IDANPR); !ok || q.TaxCode != p.TaxCode {
			t.Errorf("%s is not found by %s", p.TaxCode, p.IDANPR)
		}
		family := r.Family(p.Family)
		if len(family) != 4 || family[0].TaxCode != p.TaxCode || !family[2].Minor(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)) {
			t.Errorf("the family is %+v", family)
		}
		if q, ok := r.ByTaxCode("BNCGLI92M41L736X"); !ok || q.Status != Active {
			t.Errorf("Giulia Bianchi: %+v", q)
		}
	}
}

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		New("venezia")
	}
}
