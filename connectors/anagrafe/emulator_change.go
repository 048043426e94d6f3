package anagrafe

import (
	"errors"
	"fmt"
	"html"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/citizens"
	"github.com/dime-bus/dime/internal/xml"
)

// Service 5005, mutazione_residenza (5000serviziMutazione.wsdl: document, literal,
// SOAP 1.1): shapes and the rule of idOperazioneComune are the official ones. The
// message security is 6001's; that, the codes EC... and which tipoMutazione and
// codiceLegame mean what are assumed. So is what a move does to family sheets: who
// moves together takes the sheet along if nobody stays, else a new one is made of
// the movers as the request relates them.
const (
	em5005   = "http://sogei.it/ANPR/5000mutazione"
	emCommon = "http://sogei.it/ANPR/rispostaComune"
)

// emMoved is a change of residence, an effect.
type emMoved struct {
	ID       int64            `json:"id"`
	Key      string           `json:"key"` // X-Request-Id, for the city's ledger alone
	Protocol string           `json:"protocol"`
	Subject  string           `json:"subject"` // who declared it
	Sheet    string           `json:"sheet"`
	Address  citizens.Address `json:"address"`
	Since    time.Time        `json:"since"`
	At       time.Time        `json:"at"`
	Movers   []emMover        `json:"movers"`
}

type emMover struct {
	TaxCode  string `json:"tax_code"`
	Relation string `json:"relation"`
}

// emLife is where and with whom somebody lives since a move.
type emLife struct {
	sheet, relation string
	address         citizens.Address
	since           time.Time
}

func (m *emMemory) move(x emMoved) {
	m.moves = append(m.moves, x)
	for _, p := range x.Movers {
		m.lives[p.TaxCode] = emLife{sheet: x.Sheet, relation: p.Relation, address: x.Address, since: x.Since}
	}
}

// emRegistry is the register as the moves since have left it.
type emRegistry struct {
	of  *citizens.Register
	mem *emMemory
}

// registry needs e.mu to be held.
func (e *Emulator) registry() emRegistry { return emRegistry{e.people(), e.mem} }

func (r emRegistry) today(p citizens.Person) citizens.Person {
	if l, moved := r.mem.lives[p.TaxCode]; moved {
		p.Family, p.Relation, p.Address, p.Since = l.sheet, l.relation, l.address, l.since
	}
	return p
}

// ByTaxCode finds a person.
func (r emRegistry) ByTaxCode(code string) (citizens.Person, bool) {
	p, found := r.of.ByTaxCode(code)
	return r.today(p), found
}

// ByIDANPR finds a person by ANPR's own number.
func (r emRegistry) ByIDANPR(id string) (citizens.Person, bool) {
	p, found := r.of.ByIDANPR(id)
	return r.today(p), found
}

// Family lists the people of a sheet, its head first. A head who left is followed
// by the next of the sheet.
func (r emRegistry) Family(sheet string) []citizens.Person {
	var ps []citizens.Person
	add := func(p citizens.Person) {
		p = r.today(p)
		if p.Family == sheet && !slices.ContainsFunc(ps, func(q citizens.Person) bool { return q.TaxCode == p.TaxCode }) {
			ps = append(ps, p)
		}
	}
	for _, p := range r.of.Family(sheet) {
		add(p)
	}
	for _, x := range r.mem.moves {
		if x.Sheet != sheet {
			continue
		}
		for _, m := range x.Movers {
			if p, found := r.of.ByTaxCode(m.TaxCode); found {
				add(p)
			}
		}
	}
	if len(ps) > 0 {
		head := max(slices.IndexFunc(ps, func(p citizens.Person) bool { return p.Relation == citizens.Head }), 0)
		first := ps[head]
		first.Relation = citizens.Head
		ps = slices.Insert(slices.Delete(ps, head, head+1), 0, first)
	}
	return ps
}

// em5005Request is Richiesta5005 as it was read.
type em5005Request struct {
	head                                emHead
	sheetKind, mutation, controlKind    string
	residences                          int
	kind, postal, town, istat, sestiere string
	street, number, since               string
	movers                              []em5005Mover
}

type em5005Mover struct{ cf, surname, name, bond, since, relation string }

// emRead5005 reads a request in the order and with the types of its XSD.
func emRead5005(el *xml.Element) (*em5005Request, error) {
	q := &em5005Request{}
	one, two := emPattern(`\d`), emPattern(`\d{1,2}`)
	s := xml.In(el)
	var err error
	if q.head, err = emReadHead(s, "5005"); err != nil {
		return nil, err
	}
	g := xml.In(s.Take("", "generalitaSchedaFamiglia"))
	for _, rest := range []string{"idFamigliaConvivenzaComune", "idFamigliaConvivenzaANPR", "famigliaAire", "dataOrigineFamigliaConvivenza", "motivoCostituzione",
		"denominazioneConvivenza", "specieConvivenza", "tipoMovimentazione", "presenzaFamigliaCoabitante"} {
		g.Optional("", rest)
	}
	q.sheetKind = g.Text("", "tipoScheda", one)
	if err := errors.Join(s.Err(), g.End()); err != nil {
		return nil, err
	}
	for r := s.Optional("", "residenzaFamiglia"); r != nil; r = s.Optional("", "residenzaFamiglia") {
		q.residences++
		if err := q.residence(xml.In(r)); err != nil {
			return nil, err
		}
	}
	for s.Optional("", "altraLingua") != nil {
		continue
	}
	for p := s.Optional("", "elencoSoggettiFamiglia"); p != nil; p = s.Optional("", "elencoSoggettiFamiglia") {
		ps := xml.In(p)
		m := em5005Mover{}
		if m.cf, m.surname, m.name, err = emReadGeneralita(xml.In(ps.Take("", "generalita"))); err != nil {
			return nil, err
		}
		b := xml.In(ps.Take("", "legameSoggetto"))
		m.bond = b.OptionalText("", "tipoLegame", one)
		m.since = b.Text("", "dataDecorrenza", emDay)
		m.relation = b.Text("", "codiceLegame", two)
		b.OptionalText("", "progressivoComponente", emPattern(`\d{1,3}`))
		ps.Optional("", "autoveicoli")
		if err := errors.Join(ps.End(), b.End()); err != nil {
			return nil, err
		}
		q.movers = append(q.movers, m)
	}
	s.Optional("", "datiDelProcedimento")
	d := xml.In(s.Take("", "datiControllo"))
	if err := s.End(); err != nil {
		return nil, err
	}
	q.mutation, q.controlKind = d.Text("", "tipoMutazione", emPattern(`\d{2}`)), d.Text("", "tipoScheda", one)
	d.Optional("", "listaControlli")
	return q, d.End()
}

// residence reads tipoResidenza.
func (q *em5005Request) residence(r *xml.Sequence) error {
	q.kind = r.Text("", "tipoIndirizzo", emPattern(`\d{1,2}`))
	r.OptionalText("", "noteIndirizzo", nil)
	a := xml.In(r.Take("", "indirizzo"))
	if err := r.Err(); err != nil {
		return err
	}
	q.postal = a.Text("", "cap", emPattern(`\d{1,5}`))
	c := xml.In(a.Take("", "comune"))
	q.town = c.Text("", "nomeComune", emNames)
	q.istat = c.OptionalText("", "codiceIstat", emPattern(`\d{6}`))
	c.Text("", "siglaProvinciaIstat", emPattern(`[a-zA-Z]{2}`))
	c.OptionalText("", "descrizioneLocalita", nil)
	q.sestiere = a.OptionalText("", "frazione", emNames)
	t := xml.In(a.Take("", "toponimo"))
	for _, rest := range []string{"codSpecie", "specie", "specieFonte", "codToponimo"} {
		t.OptionalText("", rest, nil)
	}
	q.street = t.OptionalText("", "denominazioneToponimo", func(s string) bool { return s != "" && len([]rune(s)) <= 100 })
	t.OptionalText("", "toponimoFonte", nil)
	if err := errors.Join(a.Err(), c.End(), t.End()); err != nil {
		return err
	}
	if h := a.Optional("", "numeroCivico"); h != nil {
		n := xml.In(h)
		n.OptionalText("", "codiceCivico", nil)
		n.OptionalText("", "civicoFonte", nil)
		q.number = n.OptionalText("", "numero", emPattern(`\d{1,20}`))
		for _, rest := range []string{"metrico", "progSNC", "lettera"} {
			n.OptionalText("", rest, nil)
		}
		if letter := n.OptionalText("", "esponente1", emPattern(`[0-9a-zA-Z\- ]{1,80}`)); letter != "" {
			q.number += "/" + letter
		}
		n.OptionalText("", "colore", nil)
		n.Optional("", "civicoInterno")
		if err := n.End(); err != nil {
			return err
		}
	}
	r.OptionalText("", "presso", nil)
	q.since = r.OptionalText("", "dataDecorrenzaResidenza", emDay)
	return errors.Join(a.End(), r.End())
}

// soap5005 is POST /soap/5005.
func (e *Emulator) soap5005(c *emCall) emAnswer {
	return e.message(c, xml.Name{Space: em5005, Local: "Richiesta5005"}, func(el *xml.Element, now time.Time) emAnswer {
		q, err := emRead5005(el)
		if err != nil {
			return emSOAPFault("soapenv:Client", err)
		}
		operation := strconv.FormatInt(e.mem.operations+1, 10)
		ko := func(code, format string, args ...any) emAnswer {
			return em5005KO(q.head, now, operation, emFault{code, fmt.Sprintf(format, args...)})
		}
		series, id, early := e.place(q.head, ko)
		if early != nil {
			return *early
		}
		moved, bad := e.judge(q, now)
		a := ko(bad.code, "%s", bad.text)
		var lines []emLine
		if moved != nil {
			moved.ID, moved.Key = id, c.r.Header.Get("X-Request-Id")
			lines = append(lines, emLine{Moved: moved})
			a = em5005OK(q, now, operation)
		}
		lines = append(lines, emLine{Done: &emDone{Series: series, ID: id, Status: a.status, XML: string(a.raw)}})
		if err := e.keep(lines...); err != nil {
			return emGovway(http.StatusServiceUnavailable, "APIUnavailable", "the answer could not be kept")
		}
		return a
	})
}

// judge says what a request changes, or why nothing; e.mu is held.
func (e *Emulator) judge(q *em5005Request, now time.Time) (*emMoved, emFault) {
	no := func(code, text string) (*emMoved, emFault) { return nil, emFault{code, text} }
	since, err := time.ParseInLocation(time.DateOnly, q.since, e.cfg.Zone)
	switch {
	case q.mutation != "02" || q.sheetKind != "3" || q.controlKind != "3":
		return no("EC023", "tipoMutazione o tipoScheda non previsti")
	case q.residences != 1 || q.kind != "1":
		return no("EC024", "indicare un solo indirizzo, di residenza")
	case q.istat != "" && q.istat != q.head.sender:
		return no("EC025", "la residenza non e' nel comune mittente")
	case err != nil || q.head.since != q.since:
		return no("EC026", "decorrenza assente o diversa tra testata e residenza")
	case since.After(now):
		return no("EC026", "decorrenza successiva alla data odierna")
	case q.head.protocol == "":
		return no("EC027", "protocollo della dichiarazione assente")
	case len(q.movers) == 0:
		return no("EC013", "nessun soggetto presente")
	}
	// ANPR holds the addresses of the national archive of streets (ANNCSU); here
	// those of the city's directory stand for it.
	address, known := e.people().Address(q.street, q.number, q.sestiere)
	if !known || address.PostalCode != q.postal {
		return no("EC021", "indirizzo non presente nello stradario")
	}
	reg := e.registry()
	x := &emMoved{Protocol: q.head.protocol, Address: address, Since: since, At: now.UTC()}
	sheet := ""
	for _, m := range q.movers {
		p, found := reg.ByTaxCode(m.cf)
		switch {
		case m.cf == "":
			return no("EC013", "codice fiscale di un soggetto assente")
		case !found || !strings.EqualFold(p.Surname, m.surname) || !strings.EqualFold(p.GivenName, m.name):
			return no("EC001", "soggetto non trovato")
		case p.Status != citizens.Active:
			return no("EC002", "soggetto non iscritto in anagrafe")
		case sheet != "" && p.Family != sheet, slices.ContainsFunc(x.Movers, func(o emMover) bool { return o.TaxCode == p.TaxCode }):
			return no("EC020", "i soggetti non sono di una stessa scheda di famiglia, o uno compare due volte")
		case m.since != q.since:
			return no("EC026", "decorrenza del legame diversa da quella della residenza")
		}
		sheet = p.Family
		x.Movers = append(x.Movers, emMover{p.TaxCode, citizens.Of(emRelation(m.relation), p.Sex)})
		if m.relation == "1" {
			if x.Subject != "" {
				return no("EC028", "piu' di un intestatario della scheda")
			}
			x.Subject = p.TaxCode
		}
	}
	if x.Subject == "" {
		return no("EC028", "intestatario della scheda assente")
	}
	if all := reg.Family(sheet); len(all) == len(x.Movers) {
		x.Sheet = sheet
		for i, m := range x.Movers { // the sheet moves as it is
			at := slices.IndexFunc(all, func(p citizens.Person) bool { return p.TaxCode == m.TaxCode })
			x.Movers[i].Relation = all[at].Relation
		}
	} else {
		x.Sheet = fmt.Sprintf("M%06d", len(e.mem.moves)+1)
	}
	return x, emFault{}
}

// emRelation is a row of table 5 in words.
func emRelation(code string) string {
	if r := map[string]string{"1": citizens.Head, "2": citizens.Spouse, "3": citizens.Child, "6": citizens.Parent, "9": "fratello/sorella"}[code]; r != "" {
		return r
	}
	return "convivente"
}

func em5005Envelope(inner string) emAnswer {
	return emAnswer{status: http.StatusOK, kind: "text/xml; charset=utf-8", raw: []byte(`<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="` + emSOAP +
		`"><soapenv:Body><m:Risposta5005 xmlns:m="` + em5005 + `">` + inner + `</m:Risposta5005></soapenv:Body></soapenv:Envelope>`)}
}

// em5005KO is rispostaKO; esitoOperazione 3 is "richiesta completata con esito
// negativo".
func em5005KO(h emHead, now time.Time, operation string, fs ...emFault) emAnswer {
	h.service = "5005"
	return em5005Envelope("<m:rispostaKO>" + emTestata(h, now, operation, "3") + emErrors(fs...) + "</m:rispostaKO>")
}

// em5005OK is Risposta_Comune with those whom the operation has changed.
func em5005OK(q *em5005Request, now time.Time, operation string) emAnswer {
	el := func(name, v string) string { return "<" + name + ">" + html.EscapeString(v) + "</" + name + ">" }
	list := ""
	for _, m := range q.movers {
		list += "<datiSoggetto><generalitaAttuali><codiceFiscale>" + el("codFiscale", m.cf) + "</codiceFiscale>" + el("cognome", m.surname) + el("nome", m.name) + "</generalitaAttuali></datiSoggetto>"
	}
	return em5005Envelope(`<r:Risposta_Comune xmlns:r="` + emCommon + `">` + emTestata(q.head, now, operation, "2") + "<listaSoggettiVariati>" + list + "</listaSoggettiVariati></r:Risposta_Comune>")
}

// emMoveNamed answers as the service does where it refuses for a reason that has a
// name at the connector; nil where the gateway does.
func emMoveNamed(f connectors.Fault, told string, now time.Time) *emAnswer {
	code := map[string]string{"not_found": "EC001", "not_resident": "EC002", "not_of_family": "EC020", "unknown_address": "EC021", "refused": "EC023", "rejected": "EC023", "conflict": "EC023"}[f.Name]
	if code == "" {
		return nil
	}
	a := em5005KO(emHead{}, now, "0", emFault{code, told})
	return &a
}

// moveRows is the ledger of changes; e.mu is held.
func (e *Emulator) moveRows() []connectors.LedgerRow {
	rows := make([]connectors.LedgerRow, len(e.mem.moves))
	for i, x := range e.mem.moves {
		key := x.Key
		if key == "" {
			key = strconv.FormatInt(x.ID, 10)
		}
		rows[i] = connectors.LedgerRow{Connector: e.far.Name, Operation: "change_residence", Subject: x.Subject, Key: key, At: x.At}
	}
	return rows
}
