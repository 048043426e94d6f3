package citizens

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/dime-bus/dime/internal/taxcode"
)

// maker makes families until there are enough people.
type maker struct {
	r         *rand.Rand
	addresses []Address
	people    []Person
	codes     map[string]bool
	families  int
}

// today stands still so that the same seed gives the same ages for ever.
var today = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

func newMaker(a, b uint64, addresses []Address) *maker {
	if len(addresses) == 0 {
		addresses = []Address{{ID: "A00001", Label: "San Marco 4136, Riva del Carbon, 30124 Venezia", Street: "Riva del Carbon",
			Number: "4136", Sestiere: "san-marco", PostalCode: "30124", Municipality: "venezia-murano-burano"}}
	}
	return &maker{r: rand.New(rand.NewPCG(a, b)), addresses: addresses, codes: map[string]bool{}} //nolint:gosec // made-up people need no secret randomness
}

func (m *maker) make(n int) []Person {
	m.known()
	for len(m.people) < n {
		m.household(n - len(m.people))
	}
	return m.people
}

// known are the people whom examples and tests name.
func (m *maker) known() {
	date := func(y int, mo time.Month, d int) time.Time { return time.Date(y, mo, d, 0, 0, 0, 0, time.UTC) }
	venice := italianPlaces[0]
	home, family := m.addresses[0], m.family()
	mario := Person{GivenName: "Mario", Surname: "Rossi", Sex: "M", Born: date(1980, 1, 1), CivilStatus: Married, Relation: Head}
	anna := Person{GivenName: "Anna", Surname: "Vianello", Sex: "F", Born: date(1982, 5, 14), CivilStatus: Married, Relation: Spouse}
	luca := Person{GivenName: "Luca", Surname: "Rossi", Sex: "M", Born: date(2012, 3, 9), CivilStatus: Single, Relation: Child}
	sara := Person{GivenName: "Sara", Surname: "Rossi", Sex: "F", Born: date(2005, 9, 21), CivilStatus: Single, Relation: Child}
	giulia := Person{GivenName: "Giulia", Surname: "Bianchi", Sex: "F", Born: date(1992, 8, 1), CivilStatus: Single, Relation: Head}
	away := Person{GivenName: "Paolo", Surname: "Busetto", Sex: "M", Born: date(1971, 6, 30), CivilStatus: Divorced, Relation: Head, Status: Emigrated}
	for i, p := range []*Person{&mario, &anna, &luca, &sara, &giulia, &away} {
		p.BirthPlace, p.Citizenship, p.Address, p.Since = venice, italy, home, date(2015, 4, 1)
		if p.Family = family; i >= 4 {
			p.Family = m.family()
		}
		if p.Status == "" {
			p.Status = Active
		}
		m.identify(p)
	}
	mario.Spouse, anna.Spouse = anna.TaxCode, mario.TaxCode
	luca.Parents = []string{mario.TaxCode, anna.TaxCode}
	sara.Parents = luca.Parents
	m.people = append(m.people, mario, anna, luca, sara, giulia, away)
}

func (m *maker) family() string {
	m.families++
	return fmt.Sprintf("F%06d", m.families)
}

// identify gives codes that nobody has yet: namesakes get letters for digits.
func (m *maker) identify(p *Person) {
	p.Name, p.CivilStatus, p.Relation = p.GivenName+" "+p.Surname, Of(p.CivilStatus, p.Sex), Of(p.Relation, p.Sex)
	code, err := taxcode.Of(taxcode.Person{Surname: p.Surname, Name: p.GivenName, Female: p.Sex == "F", Born: p.Born, Place: p.BirthPlace.Code})
	for n := 0; err == nil && m.codes[code]; n++ {
		if n == 7 { // eight namesakes of one day and place: this one came a day later
			p.Born = p.Born.AddDate(0, 0, 1)
			m.identify(p)
			return
		}
		code = taxcode.Omocode(code, n+1)
	}
	if err != nil {
		panic(err) // the tables of names and places are ours
	}
	p.TaxCode = code
	m.codes[code] = true
	const letters = "ABCDEFGHJKLMNPQRSTUVWXYZ"
	n := len(m.codes)
	p.IDANPR = fmt.Sprintf("%c%c%05d%c%c", letters[n/24%24], letters[n%24], n, letters[m.r.IntN(24)], letters[m.r.IntN(24)])
}

func pick[T any](m *maker, of []T) T { return of[m.r.IntN(len(of))] }

// chance is true in so many of a hundred cases.
func (m *maker) chance(percent int) bool { return m.r.IntN(100) < percent }

// born is a day of somebody of that age.
func (m *maker) born(least, most int) time.Time {
	return today.AddDate(-least-m.r.IntN(most-least+1), 0, -m.r.IntN(365))
}

// origin is a pair of names, a place of birth and a citizenship that go together.
func (m *maker) origin(p *Person, from *origin) {
	given := from.women
	if p.Sex == "M" {
		given = from.men
	}
	p.GivenName, p.Citizenship = pick(m, given), from.citizenship
	if p.Surname == "" {
		p.Surname = pick(m, from.surnames)
	}
	if from.place.Code != "" {
		p.BirthPlace = from.place
		return
	}
	p.BirthPlace = italianPlaces[0]
	if m.chance(35) {
		p.BirthPlace = pick(m, italianPlaces)
	}
}

func (m *maker) someone(sex string, from *origin, least, most int) Person {
	p := Person{Sex: sex, Born: m.born(least, most), CivilStatus: Single, Status: Active}
	m.origin(&p, from)
	return p
}

// household makes one family sheet of at most room people.
func (m *maker) household(room int) {
	from := &italians
	if m.chance(14) {
		from = &foreign[m.r.IntN(len(foreign))]
	}
	sex := "M"
	if m.chance(50) {
		sex = "F"
	}
	head := m.someone(sex, from, 20, 95)
	if twin := pick(m, m.people); m.chance(1) && !twin.Minor(today) { // a namesake born on the same day in the same place
		head.GivenName, head.Surname, head.Sex, head.Born, head.BirthPlace, head.Citizenship =
			twin.GivenName, twin.Surname, twin.Sex, twin.Born, twin.BirthPlace, twin.Citizenship
	}
	head.Relation = Head
	family, home := m.family(), pick(m, m.addresses)
	since := m.born(0, 18)
	settle := func(p *Person) {
		p.Family, p.Address, p.Since = family, home, since
		if since.Before(p.Born) {
			p.Since = p.Born
		}
		m.identify(p)
	}
	adult := !head.Minor(today)
	if !adult || room == 1 || m.chance(40) {
		m.alone(&head)
		settle(&head)
		m.people = append(m.people, head)
		return
	}
	other := "F"
	if head.Sex == "F" {
		other = "M"
	}
	age := today.Year() - head.Born.Year()
	spouse := m.someone(other, from, max(19, age-6), max(20, age+6))
	head.CivilStatus, spouse.CivilStatus, spouse.Relation = Married, Married, Spouse
	settle(&head)
	settle(&spouse)
	head.Spouse, spouse.Spouse = spouse.TaxCode, head.TaxCode
	m.people = append(m.people, head, spouse)
	father := head
	if father.Sex == "F" {
		father = spouse
	}
	for n := 2; n < room && n < 5 && age < 65 && m.chance(55); n++ {
		m.child(settle, father, from, min(age, today.Year()-spouse.Born.Year()), []string{head.TaxCode, spouse.TaxCode})
	}
}

func (m *maker) child(settle func(*Person), father Person, from *origin, parentsAge int, parents []string) {
	oldest := parentsAge - 19
	if oldest < 0 {
		return
	}
	sex := "M"
	if m.chance(49) {
		sex = "F"
	}
	c := Person{Sex: sex, Born: m.born(0, min(oldest, 28)), Surname: father.Surname, CivilStatus: Single, Status: Active, Relation: Child, Parents: parents}
	m.origin(&c, from)
	if m.chance(70) {
		c.BirthPlace = italianPlaces[0]
	}
	settle(&c)
	m.people = append(m.people, c)
}

// alone is somebody without a family, whose sheet may be closed.
func (m *maker) alone(p *Person) {
	age := today.Year() - p.Born.Year()
	switch n := m.r.IntN(100); {
	case age > 65 && n < 45:
		p.CivilStatus = Widowed
	case age > 35 && n < 25:
		p.CivilStatus = Divorced
	}
	switch n := m.r.IntN(100); {
	case n < 8:
		p.Status = Emigrated
	case n < 14 && age > 60:
		p.Status = Deceased
	case n < 16:
		p.Status = Untraceable
	}
}
