// Package citizens is the people of the virtual city: made up from a seed, always
// the same for the same seed, so that every far side knows the same persons. None
// of them is real; their codici fiscali are valid.
package citizens

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"time"
)

// Count is how many people a register holds.
const Count = 5000

// Status is how a person stands in the registry of residents.
type Status string

const (
	Active      Status = "active"      // resident
	Emigrated   Status = "emigrated"   // moved to another municipality or abroad
	Deceased    Status = "deceased"    //
	Untraceable Status = "untraceable" // struck off: irreperibile
)

// Civil status in the masculine form; Of gives a woman hers.
const (
	Single   = "celibe"
	Married  = "coniugato"
	Divorced = "divorziato"
	Widowed  = "vedovo"
)

// Relation to the head of the family sheet (intestatario scheda).
const (
	Head   = "intestatario"
	Spouse = "coniuge"
	Child  = "figlio"
	Parent = "genitore"
)

// Of is a civil status or a relation in the form that a certificate prints of a
// person of this sex: a woman is nubile, not celibe.
func Of(word, sex string) string {
	if sex != "F" {
		return word
	}
	switch word {
	case Single:
		return "nubile"
	case Married:
		return "coniugata"
	case Divorced:
		return "divorziata"
	case Widowed:
		return "vedova"
	case Child:
		return "figlia"
	}
	return word
}

// Person of the city.
type Person struct {
	TaxCode     string    `json:"tax_code"`
	IDANPR      string    `json:"id_anpr"` // 9 characters, as ANPR gives them
	Name        string    `json:"name"`    // given name and surname
	GivenName   string    `json:"given_name"`
	Surname     string    `json:"surname"`
	Sex         string    `json:"sex"` // M or F
	Born        time.Time `json:"born"`
	BirthPlace  Place     `json:"birth_place"`
	Citizenship string    `json:"citizenship"` // state, in Italian
	CivilStatus string    `json:"civil_status"`
	Status      Status    `json:"status"`
	Since       time.Time `json:"since"` // of the status and, where active, of the address
	Family      string    `json:"family"`
	Relation    string    `json:"relation"`
	Address     Address   `json:"address"`
	Parents     []string  `json:"parents,omitempty"` // tax codes, of those who live in the city
	Spouse      string    `json:"spouse,omitempty"`
}

// Place where somebody was born.
type Place struct {
	Code     string `json:"code"` // Belfiore
	Name     string `json:"name"`
	Province string `json:"province,omitempty"` // EE for abroad
	State    string `json:"state"`
}

// Address in the city, from its street directory.
type Address struct {
	ID           string `json:"id"` // the directory's
	Label        string `json:"label"`
	Street       string `json:"street"`
	Number       string `json:"number"`
	Sestiere     string `json:"sestiere,omitempty"`
	PostalCode   string `json:"postal_code"`
	Municipality string `json:"municipality"`
}

// Minor says whether the person is younger than 18 on a day.
func (p Person) Minor(on time.Time) bool { return p.Born.AddDate(18, 0, 0).After(on) }

// Register is all of them. It does not change and may be shared.
type Register struct {
	people   []Person
	byCode   map[string]int
	byID     map[string]int
	families map[string][]int
	homes    map[[3]string]Address
}

// New makes the register of a seed. Without addresses everybody lives in one
// place; the city hands in its street directory's.
func New(seed string, addresses ...Address) *Register {
	sum := sha256.Sum256([]byte("citizens\x00" + seed))
	m := newMaker(binary.BigEndian.Uint64(sum[:8]), binary.BigEndian.Uint64(sum[8:16]), addresses)
	r := &Register{people: m.make(Count), byCode: map[string]int{}, byID: map[string]int{}, families: map[string][]int{}, homes: map[[3]string]Address{}}
	for _, a := range m.addresses {
		r.homes[home(a.Street, a.Number, a.Sestiere)] = a
	}
	for i, p := range r.people {
		r.byCode[p.TaxCode] = i
		r.byID[p.IDANPR] = i
		r.families[p.Family] = append(r.families[p.Family], i)
	}
	return r
}

// All lists everybody; the first ones are the same for every seed.
func (r *Register) All() []Person { return append([]Person(nil), r.people...) }

// ByTaxCode finds a person.
func (r *Register) ByTaxCode(code string) (Person, bool) {
	i, ok := r.byCode[code]
	if !ok {
		return Person{}, false
	}
	return r.people[i], true
}

// ByIDANPR finds a person by ANPR's own number.
func (r *Register) ByIDANPR(id string) (Person, bool) {
	i, ok := r.byID[id]
	if !ok {
		return Person{}, false
	}
	return r.people[i], true
}

// Address finds an address of the directory by what is written on a door: the
// sestiere is empty outside the historic city. Capitals do not count.
func (r *Register) Address(street, number, sestiere string) (Address, bool) {
	a, ok := r.homes[home(street, number, sestiere)]
	return a, ok
}

func home(street, number, sestiere string) [3]string {
	return [3]string{strings.ToUpper(street), strings.ToUpper(number), strings.ToUpper(sestiere)}
}

// Family lists the people of a family sheet who live in it, the head first.
func (r *Register) Family(id string) []Person {
	var ps []Person
	for _, i := range r.families[id] {
		if p := r.people[i]; p.Status == Active {
			ps = append(ps, p)
		}
	}
	return ps
}
