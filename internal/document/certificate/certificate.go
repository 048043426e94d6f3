// Package certificate lays out the certificates of the population register
// (D.P.R. 223/1989, art. 33): a draft, whose bytes depend on nothing but what is
// handed in, and later the marks that are laid over it.
package certificate

import (
	"fmt"
	"strings"
	"time"

	"github.com/dime-bus/dime/internal/document"
	"github.com/dime-bus/dime/internal/fault"
)

// City is who certifies.
type City struct {
	Name   string // Comune di Venezia
	Office string // Servizi demografici
	Zone   *time.Location
}

func (c City) day(t time.Time) string { return c.in(t).Format("02/01/2006") }

func (c City) in(t time.Time) time.Time {
	if c.Zone == nil {
		return t.UTC()
	}
	return t.In(c.Zone)
}

// Draft is everything that a draft shows.
type Draft struct {
	City      City
	Content   document.Content
	VerifyURL string // of the public page, printed, linked and in the QR code
	At        time.Time
}

// Marks is what only the issue knows.
type Marks struct {
	City     City
	Protocol string
	At       time.Time
	Stamp    *document.Stamp
}

// words in Italian and, where Regulation (EU) 2016/1191 has a multilingual
// standard form for the matter (art. 2 and 7), in English.
type words struct{ it, en string }

type kind struct {
	title, statement words
	fields           []field
	family           bool
}

type field struct {
	key   string // in Content.Data
	label words
	need  bool
}

func kindOf(name string) (kind, bool) {
	born := field{"born", words{"Data di nascita", "Date of birth"}, true}
	place := field{"birth_place", words{"Luogo di nascita", "Place of birth"}, true}
	address := field{"address", words{"Indirizzo di residenza", "Address of residence"}, true}
	citizenship := field{"citizenship", words{"Cittadinanza", "Citizenship"}, false}
	switch name {
	case "residence":
		return kind{
			title: words{"Certificato di residenza", "Certificate of residence"},
			statement: words{"In base alle risultanze degli atti, l'Ufficiale d'Anagrafe certifica che la persona indicata è iscritta nell'anagrafe della popolazione residente di questo Comune, all'indirizzo qui riportato.",
				"On the basis of the records, the registrar certifies that the person named below is entered in the register of this municipality's resident population, at the address given here."},
			fields: []field{place, born, citizenship, address, {"since", words{"A questo indirizzo dal", "At this address since"}, false}},
		}, true
	case "family":
		// Family composition is no matter of the Regulation: Italian alone.
		return kind{
			title:     words{"Certificato di stato di famiglia", ""},
			statement: words{"In base alle risultanze degli atti, l'Ufficiale d'Anagrafe certifica che nell'anagrafe della popolazione residente di questo Comune, all'indirizzo qui riportato, è iscritta la famiglia così composta.", ""},
			fields:    []field{{"address", words{"Indirizzo di residenza", ""}, true}},
			family:    true,
		}, true
	case "civil-status":
		return kind{
			title: words{"Certificato di stato civile", "Certificate of marital status"},
			statement: words{"In base alle risultanze degli atti, l'Ufficiale d'Anagrafe certifica che la persona indicata risulta nello stato civile qui riportato.",
				"On the basis of the records, the registrar certifies that the person named below has the marital status given here."},
			fields: []field{place, born, citizenship, {"civil_status", words{"Stato civile", "Marital status"}, true}},
		}, true
	}
	return kind{}, false
}

// Title is a kind's name, as the public page shows it.
func Title(name, lang string) string {
	k, _ := kindOf(name)
	if lang == "en" {
		if name == "family" {
			return "Certificate of family composition"
		}
		return k.title.en
	}
	other := map[string]map[string]string{
		"de": {"residence": "Wohnsitzbescheinigung", "family": "Familienbogen", "civil-status": "Bescheinigung des Personenstands"},
		"fr": {"residence": "Certificat de résidence", "family": "Certificat de composition de famille", "civil-status": "Certificat de situation matrimoniale"},
	}
	if t := other[lang][name]; t != "" {
		return t
	}
	return k.title.it
}

// Exemption is the norm that frees from stamp duty, by the key under which the
// city's configuration names it.
func Exemption(key string) (string, bool) {
	text, ok := map[string]string{
		"art-8-tab-b":      "art. 8: sussidi e ammissione in istituti di beneficenza",
		"art-8-bis-tab-b":  "art. 8-bis: certificati richiesti dalle società sportive",
		"art-9-tab-b":      "art. 9: assicurazioni sociali obbligatorie e assegni familiari",
		"art-11-tab-b":     "art. 11: ammissione e frequenza della scuola, borse di studio",
		"art-12-tab-b":     "art. 12: controversie di lavoro e di previdenza",
		"art-13-tab-b":     "art. 13: tutela dei minori e degli interdetti, adozione, affidamento",
		"art-16-tab-b":     "art. 16: atti scambiati tra amministrazioni pubbliche",
		"art-27-bis-tab-b": "art. 27-bis: organizzazioni non lucrative di utilità sociale",
	}[key]
	return text, ok
}

// Row is a label and a value of the document.
type Row struct {
	Label, English, Value string
}

// Rows are what the document says of its holder, for paper and page alike.
func Rows(c document.Content) ([]Row, error) {
	k, ok := kindOf(c.Kind)
	if !ok {
		return nil, invalid("/kind", "there is no document of this kind; residence, family and civil-status can be prepared")
	}
	name, err := value(c.Data, "name", true)
	if err != nil {
		return nil, err
	}
	rows := []Row{
		{Label: "Nome e cognome", English: "Name", Value: name},
		{Label: "Codice fiscale", English: "Tax code", Value: c.Holder},
	}
	for _, f := range k.fields {
		v, err := value(c.Data, f.key, f.need)
		if err != nil {
			return nil, err
		}
		if v != "" {
			rows = append(rows, Row{f.label.it, f.label.en, v})
		}
	}
	if k.title.en == "" {
		for i := range rows {
			rows[i].English = ""
		}
	}
	return rows, nil
}

// Member of a family.
type Member struct{ Name, Birth, Relation string }

// Members of the family, if the document is one's.
func Members(c document.Content) ([]Member, error) {
	if k, _ := kindOf(c.Kind); !k.family {
		return nil, nil
	}
	list, _ := c.Data["members"].([]any)
	if len(list) == 0 || len(list) > 60 {
		return nil, invalid("/data/members", "a family's document needs 1 to 60 members")
	}
	var out []Member
	for i, m := range list {
		data, _ := m.(map[string]any)
		name, err := value(data, "name", true)
		if err == nil {
			var born, place, relation string
			if born, err = value(data, "born", true); err == nil {
				place, err = value(data, "birth_place", false)
			}
			if err == nil {
				relation, err = value(data, "relation", false)
			}
			if place != "" {
				born = place + ", " + born
			}
			out = append(out, Member{name, born, relation})
		}
		if err != nil {
			f := fault.From(err)
			return nil, invalid(fmt.Sprintf("/data/members/%d%s", i, strings.TrimPrefix(f.Pointer, "/data")), f.Detail)
		}
	}
	return out, nil
}

// value reads a text; a day is written as Italians do, an address or a place by
// its label.
func value(data map[string]any, key string, need bool) (string, error) {
	at := "/data/" + key
	v := data[key]
	if m, ok := v.(map[string]any); ok {
		if v = m["label"]; v == nil {
			v = m["name"]
		}
	}
	s, ok := v.(string)
	if v != nil && !ok {
		return "", invalid(at, "it must be a text, or an object with label or name")
	}
	if s = strings.Join(strings.Fields(s), " "); s == "" && need {
		return "", invalid(at, "the document needs it")
	}
	if len(s) > 300 {
		return "", invalid(at, "it is longer than 300 bytes")
	}
	if key == "born" || key == "since" {
		if len(s) > 10 {
			s = s[:10]
		}
		if t, err := time.Parse(time.DateOnly, s); err == nil {
			return t.Format("02/01/2006"), nil
		} else if s != "" {
			return "", invalid(at, "it must be a day, YYYY-MM-DD")
		}
	}
	return s, nil
}

func invalid(pointer, detail string) error {
	return &fault.Error{Kind: fault.Invalid, Pointer: pointer, Detail: detail}
}
