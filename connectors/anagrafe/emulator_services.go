package anagrafe

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/dime-bus/dime/internal/citizens"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/taxcode"
)

type emService struct {
	name string // of the address
	op   string // of the connector that asks it
	dpop bool   // takes DPoP vouchers only
}

// emServices are ANPR's e-services by code. C020, C021 and C030 are seen under
// these names, C015's is assumed; that C020 takes DPoP alone is what one
// municipality reports [P].
func emServices() map[string]emService {
	return map[string]emService{
		"C015": {name: "servizioAccertamentoGeneralita", op: "person"},
		"C020": {name: "servizioAccertamentoResidenza", op: "residence", dpop: true},
		"C021": {name: "servizioAccertamentoStatoFamiglia", op: "family"},
		"C030": {name: "servizioAccertamentoIdUnicoNazionale", op: "c030"},
	}
}

// emError is TipoErroriAnomalia of C001's OpenAPI.
type emError struct {
	Code   string `json:"codiceErroreAnomalia"`
	Type   string `json:"tipoErroreAnomalia"`
	Text   string `json:"testoErroreAnomalia"`
	Object string `json:"oggettoErroreAnomalia,omitempty"`
	Field  string `json:"campoErroreAnomalia,omitempty"`
}

// emKO is RispostaKO. EN122 is confirmed [P]; the other codes are assumed.
func emKO(status int, operation string, errs ...emError) emAnswer {
	for i := range errs {
		errs[i].Type = "E"
	}
	return emAnswer{status: status, body: map[string]any{"idOperazioneANPR": operation, "listaErrori": errs}}
}

// emRequest is RichiestaE002 as it was read.
type emRequest struct {
	id   int64
	find map[string]any
	on   time.Time
}

var (
	emNumeric = regexp.MustCompile(`^[1-9][0-9]{0,17}$`)
	emIDANPR  = regexp.MustCompile(`^[A-Z]{2}[0-9]{5}[A-Z]{2}$`)
	emDate    = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}$`)
)

// eservice answers one call that the gateway let through; e.mu is held.
func (e *Emulator) eservice(code string, v *emVoucher, body []byte) emAnswer {
	operation := strconv.FormatInt(e.mem.operations+1, 10)
	q, bad := e.readRequest(code, body)
	if bad != nil {
		return emKO(http.StatusBadRequest, operation, *bad)
	}
	series := code + "\x00" + v.client
	// C001: "Deve essere numerico e crescente. Se esiste in ANPR, l'ente riceve come
	// esito la risposta in precedenza fornita ...; se non esiste ed e' inferiore
	// all'ultimo inviato, l'elaborazione termina con errore."
	done := e.mem.done[emDoneKey(series, q.id)]
	switch {
	case done != nil && !e.cfg.On("no-dedupe"):
		return emAnswer{status: done.Status, raw: done.Body, kind: emKind(done.Status)}
	case done == nil && q.id < e.mem.last[series]:
		return emKO(http.StatusBadRequest, operation, emError{Code: "EN102", Text: "idOperazioneClient inferiore all'ultimo inviato", Object: "richiesta", Field: "idOperazioneClient"})
	}
	a := e.consult(code, q, operation)
	b, err := json.Marshal(a.body)
	if err != nil || e.keep(emLine{Done: &emDone{Series: series, ID: q.id, Status: a.status, Body: b}}) != nil {
		return emGovway(http.StatusServiceUnavailable, "APIUnavailable", "the answer could not be kept")
	}
	return a
}

func emKind(status int) string {
	if status >= 400 {
		return "application/problem+json"
	}
	return "application/json"
}

// readRequest checks a body against RichiestaE002 and what C015 to C030 demand.
func (e *Emulator) readRequest(code string, body []byte) (*emRequest, *emError) {
	no := func(en, object, field, format string, args ...any) (*emRequest, *emError) {
		return nil, &emError{Code: en, Text: fmt.Sprintf(format, args...), Object: object, Field: field}
	}
	v, err := schema.DecodeJSON(body)
	o, ok := v.(map[string]any)
	if err != nil || !ok {
		return no("EN100", "richiesta", "", "la richiesta non e' un oggetto JSON")
	}
	if s := emSurplus(o, "idOperazioneClient", "criteriRicerca", "datiRichiesta", "verifica"); s != "" {
		return no("EN100", "richiesta", emShort(s), "campo non previsto")
	}
	text, _ := o["idOperazioneClient"].(string)
	if !emNumeric.MatchString(text) {
		return no("EN101", "richiesta", "idOperazioneClient", "idOperazioneClient assente o non numerico")
	}
	q := &emRequest{}
	if q.id, err = strconv.ParseInt(text, 10, 64); err != nil {
		return no("EN101", "richiesta", "idOperazioneClient", "idOperazioneClient non numerico")
	}
	data, ok := o["datiRichiesta"].(map[string]any)
	if !ok {
		return no("EN104", "richiesta", "datiRichiesta", "datiRichiesta assente")
	}
	if s := emSurplus(data, "dataRiferimentoRichiesta", "motivoRichiesta", "casoUso"); s != "" {
		return no("EN104", "datiRichiesta", emShort(s), "campo non previsto")
	}
	day, _ := data["dataRiferimentoRichiesta"].(string)
	if q.on, err = time.ParseInLocation(time.DateOnly, day, e.cfg.Zone); err != nil || !emDate.MatchString(day) {
		return no("EN104", "datiRichiesta", "dataRiferimentoRichiesta", "data assente o non nel formato AAAA-MM-GG")
	}
	if q.on.After(e.cfg.Clock.Now()) {
		return no("EN105", "datiRichiesta", "dataRiferimentoRichiesta", "data successiva alla data odierna")
	}
	if why, _ := data["motivoRichiesta"].(string); strings.TrimSpace(why) == "" {
		return no("EN104", "datiRichiesta", "motivoRichiesta", "numero della pratica assente")
	}
	if data["casoUso"] != code {
		return no("EN106", "datiRichiesta", "casoUso", "il caso d'uso non e' quello del servizio")
	}
	if _, there := o["verifica"]; there {
		return no("EN100", "richiesta", "verifica", "il servizio non prevede dati da verificare")
	}
	if q.find, ok = o["criteriRicerca"].(map[string]any); !ok || len(q.find) == 0 {
		return no("EN103", "richiesta", "criteriRicerca", "criteri di ricerca assenti")
	}
	if s := emSurplus(q.find, "codiceFiscale", "idANPR", "cognome", "senzaCognome", "nome", "senzaNome", "sesso", "datiNascita"); s != "" {
		return no("EN103", "criteriRicerca", emShort(s), "campo non previsto")
	}
	for name, v := range q.find {
		if s, ok := v.(string); name != "datiNascita" && (!ok || s == "") {
			return no("EN103", "criteriRicerca", name, "valore vuoto o non testuale")
		}
	}
	cf, byCF := q.find["codiceFiscale"].(string)
	id, byID := q.find["idANPR"].(string)
	switch {
	case code == "C030" && (!byCF || len(q.find) > 1):
		return no("EN103", "criteriRicerca", "codiceFiscale", "il servizio ricerca per codice fiscale")
	case code != "C030" && byCF:
		// Since 18 April 2024 [P].
		return no("EN107", "criteriRicerca", "codiceFiscale", "la ricerca per codice fiscale non e' piu' ammessa: indicare idANPR")
	case code != "C030" && (!byID || len(q.find) > 1):
		return no("EN103", "criteriRicerca", "idANPR", "il servizio ricerca per idANPR")
	case byCF && !taxcode.Valid(cf):
		return no("EN108", "criteriRicerca", "codiceFiscale", "codice fiscale formalmente errato")
	case byID && !emIDANPR.MatchString(id):
		return no("EN108", "criteriRicerca", "idANPR", "idANPR formalmente errato")
	}
	return q, nil
}

// consult finds the person and answers what the e-service tells of it.
func (e *Emulator) consult(code string, q *emRequest, operation string) emAnswer {
	var p citizens.Person
	var found bool
	if cf, ok := q.find["codiceFiscale"].(string); ok {
		p, found = e.registry().ByTaxCode(cf)
	} else if id, ok := q.find["idANPR"].(string); ok {
		p, found = e.registry().ByIDANPR(id)
	}
	if !found {
		return emKO(http.StatusNotFound, operation, emError{Code: "EN122", Text: "la richiesta effettuata non produce alcun risultato", Object: "criteriRicerca"})
	}
	var subjects []any
	switch code {
	case "C030":
		subjects = []any{map[string]any{"identificativi": map[string]any{"idANPR": p.IDANPR}}}
	case "C015":
		subjects = []any{map[string]any{"generalita": emGeneralita(p), "identificativi": map[string]any{"idANPR": p.IDANPR}, "infoSoggettoEnte": emInfo(p)}}
	case "C020":
		s := map[string]any{"generalita": emGeneralita(p), "identificativi": map[string]any{"idANPR": p.IDANPR}, "infoSoggettoEnte": emInfo(p)}
		if p.Status == citizens.Active {
			s["residenza"] = []any{emResidenza(p)}
		}
		subjects = []any{s}
	case "C021":
		if p.Status != citizens.Active {
			return emKO(http.StatusNotFound, operation, emError{Code: "EN122", Text: "il soggetto non fa parte di una scheda di famiglia attiva", Object: "criteriRicerca"})
		}
		for _, m := range e.registry().Family(p.Family) {
			info := append(emInfo(m), map[string]any{"id": "5", "chiave": "Legame con intestatario scheda", "valoreTesto": m.Relation})
			subjects = append(subjects, map[string]any{"generalita": emGeneralita(m), "identificativi": map[string]any{"idANPR": m.IDANPR}, "infoSoggettoEnte": info})
		}
	}
	return emAnswer{status: http.StatusOK, body: map[string]any{"idOperazioneANPR": operation, "listaSoggetti": map[string]any{"datiSoggetto": subjects}}}
}

// emGeneralita is TipoGeneralita.
func emGeneralita(p citizens.Person) map[string]any {
	place := map[string]any{"comune": map[string]any{"nomeComune": strings.ToUpper(p.BirthPlace.Name), "siglaProvinciaIstat": p.BirthPlace.Province}}
	if p.BirthPlace.Province == "EE" || strings.HasPrefix(p.BirthPlace.Code, "Z") {
		place = map[string]any{"localita": map[string]any{"descrizioneLocalita": strings.ToUpper(p.BirthPlace.Name), "descrizioneStato": strings.ToUpper(p.BirthPlace.State)}}
	}
	return map[string]any{
		"codiceFiscale": map[string]any{"codFiscale": p.TaxCode, "validitaCF": "1"}, "cognome": strings.ToUpper(p.Surname), "nome": strings.ToUpper(p.GivenName),
		"sesso": p.Sex, "dataNascita": p.Born.Format(time.DateOnly), "luogoNascita": place,
	}
}

// emResidenza is TipoResidenza; tipoIndirizzo 1 is the dwelling.
func emResidenza(p citizens.Person) map[string]any {
	a := map[string]any{
		"cap": p.Address.PostalCode, "comune": map[string]any{"nomeComune": "VENEZIA", "codiceIstat": "027042", "siglaProvinciaIstat": "VE"},
		"toponimo": map[string]any{"denominazioneToponimo": p.Address.Street}, "numeroCivico": map[string]any{"numero": p.Address.Number},
	}
	if p.Address.Sestiere != "" {
		a["frazione"] = strings.ToUpper(strings.ReplaceAll(p.Address.Sestiere, "-", " "))
	}
	return map[string]any{"tipoIndirizzo": "1", "indirizzo": a, "dataDecorrenzaResidenza": p.Since.Format(time.DateOnly)}
}

// emInfo is infoSoggettoEnte: what the e-services affirm (A, N, S) or tell of a
// person. The keys' words are assumed.
func emInfo(p citizens.Person) []any {
	yes := func(is bool) string {
		if is {
			return "A"
		}
		return "N"
	}
	info := []any{
		map[string]any{"id": "1", "chiave": "Verifica residenza", "valore": yes(p.Status == citizens.Active)},
		map[string]any{"id": "2", "chiave": "Stato civile", "valoreTesto": p.CivilStatus},
		map[string]any{"id": "3", "chiave": "Cittadinanza", "valoreTesto": p.Citizenship},
	}
	if p.Status != citizens.Active {
		why := map[citizens.Status]string{citizens.Emigrated: "emigrazione", citizens.Deceased: "decesso", citizens.Untraceable: "irreperibilita"}[p.Status]
		info = append(info, map[string]any{"id": "4", "chiave": "Motivo cancellazione", "valoreTesto": why, "valoreData": p.Since.Format(time.DateOnly)})
	}
	return info
}

// emSubject is whom a request is about, for the log of arrivals.
func emSubject(body []byte) string {
	var b struct {
		Find struct {
			CF string `json:"codiceFiscale"`
			ID string `json:"idANPR"`
		} `json:"criteriRicerca"`
	}
	_ = json.Unmarshal(body, &b) // what is no JSON has no subject
	if b.Find.CF != "" {
		return b.Find.CF
	}
	return b.Find.ID
}
