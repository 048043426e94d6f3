package anagrafe_test

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/connectors/anagrafe"
	"github.com/dime-bus/dime/internal/citizens"
)

// changeBody is a request of a change that is right as it is.
const changeBody = `<m:Richiesta5005 xmlns:m="http://sogei.it/ANPR/5000mutazione"><testataRichiesta><idOperazioneComune>NUMBER</idOperazioneComune><codMittente>027042</codMittente>` +
	`<codDestinatario>999999</codDestinatario><operazioneRichiesta>5005</operazioneRichiesta><dataOraRichiesta>2026-11-24T10:00:00+01:00</dataOraRichiesta><tipoOperazione>C</tipoOperazione>` +
	`<protocolloComune>VE-2026-0000007</protocolloComune><tipoInvio>TEST</tipoInvio><dataDecorrenza>2026-11-23</dataDecorrenza></testataRichiesta>` +
	`<generalitaSchedaFamiglia><tipoScheda>3</tipoScheda></generalitaSchedaFamiglia>` +
	`<residenzaFamiglia><tipoIndirizzo>1</tipoIndirizzo><indirizzo><cap>30121</cap><comune><nomeComune>VENEZIA</nomeComune><codiceIstat>027042</codiceIstat><siglaProvinciaIstat>VE</siglaProvinciaIstat></comune>` +
	`<frazione>cannaregio</frazione><toponimo><denominazioneToponimo>Strada Nova</denominazioneToponimo></toponimo><numeroCivico><numero>3660</numero></numeroCivico></indirizzo>` +
	`<dataDecorrenzaResidenza>2026-11-23</dataDecorrenzaResidenza></residenzaFamiglia>` +
	`<elencoSoggettiFamiglia><generalita><codiceFiscale><codFiscale>` + mario + `</codFiscale></codiceFiscale><cognome>ROSSI</cognome><nome>MARIO</nome></generalita>` +
	`<legameSoggetto><tipoLegame>3</tipoLegame><dataDecorrenza>2026-11-23</dataDecorrenza><codiceLegame>1</codiceLegame></legameSoggetto></elencoSoggettiFamiglia>` +
	`<datiControllo><tipoMutazione>02</tipoMutazione><tipoScheda>3</tipoScheda></datiControllo></m:Richiesta5005>`

// change is a message to service 5005.
func (f *far) change(der []byte) *message {
	m := f.message(der)
	number := f.number()
	m.content = func(string) string { return strings.Replace(changeBody, "NUMBER", number, 1) }
	return m
}

func (m *message) sendTo(service string) (int, string) {
	m.f.t.Helper()
	h := http.Header{"Content-Type": {m.contentType}, "X-Request-Id": {m.requestID}}
	if m.action {
		h["Soapaction"] = []string{`""`}
	}
	status, _, body := m.f.do("POST", m.f.url("/soap/"+service), h, m.String())
	return status, body
}

func newVenetianFar(t *testing.T) (*far, []byte) {
	t.Helper()
	f := newFar(t, "")
	as, err := citizens.Addresses(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	r := citizens.New("test", as...)
	f.cfg.Citizens = func() *citizens.Register { return r }
	f.side.Operations = append(f.side.Operations, &connectors.Operation{Name: "change_residence"})
	old := f.e
	f.e = anagrafe.NewEmulator(f.side, f.cfg)
	f.srv.Config.Handler = http.StripPrefix("/anagrafe", f.e)
	t.Cleanup(func() { _ = f.e.Close() })
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	f.e.Resume(old)
	der := certificate(t, keys().known, begin().Add(time.Hour))
	f.registerCertificate(der)
	return f, der
}

// changeRefusals are what service 5005 refuses besides the envelopes and their
// security, which it reads as 6001 does.
func changeRefusals() []messageRefusal {
	body := func(pairs ...string) func(*message) {
		return func(m *message) {
			right := m.content
			m.content = func(s string) string {
				s = right(s)
				for i := 0; i < len(pairs); i += 2 {
					if !strings.Contains(s, pairs[i]) {
						panic("the message holds no " + pairs[i])
					}
					s = strings.ReplaceAll(s, pairs[i], pairs[i+1])
				}
				return s
			}
		}
	}
	person := changeBody[strings.Index(changeBody, "<elencoSoggettiFamiglia>"):strings.Index(changeBody, "<datiControllo>")]
	home := changeBody[strings.Index(changeBody, "<residenzaFamiglia>"):strings.Index(changeBody, "<elencoSoggettiFamiglia>")]
	giulia := strings.NewReplacer(mario, "BNCGLI92M41L736X", "ROSSI", "BIANCHI", "MARIO", "GIULIA", "<codiceLegame>1<", "<codiceLegame>3<").Replace(person)
	luca := strings.NewReplacer(mario, "RSSLCU12C09L736S", "MARIO", "LUCA").Replace(person)
	return []messageRefusal{
		{"of another service", "soapenv:Client", "Richiesta5005", body("Richiesta5005", "Richiesta5001")},
		{"another operation", "soapenv:Client", "operazioneRichiesta", body(">5005<", ">6001<")},
		{"no number of the operation", "soapenv:Client", "idOperazioneComune", body("<idOperazioneComune>", "<idOperazione>", "</idOperazioneComune>", "</idOperazione>")},
		{"a day in Italian", "soapenv:Client", "dataDecorrenza", body("2026-11-23", "23/11/2026")},
		{"no family sheet", "soapenv:Client", "generalitaSchedaFamiglia", body("<generalitaSchedaFamiglia><tipoScheda>3</tipoScheda></generalitaSchedaFamiglia>", "")},
		{"no municipality", "soapenv:Client", "comune", body("<comune><nomeComune>VENEZIA</nomeComune><codiceIstat>027042</codiceIstat><siglaProvinciaIstat>VE</siglaProvinciaIstat></comune>", "")},
		{"a province of three letters", "soapenv:Client", "siglaProvinciaIstat", body(">VE<", ">VEN<")},
		{"a house number in words", "soapenv:Client", "numero", body(">3660<", ">snc<")},
		{"no bond to the sheet", "soapenv:Client", "legameSoggetto", body("<legameSoggetto><tipoLegame>3</tipoLegame><dataDecorrenza>2026-11-23</dataDecorrenza><codiceLegame>1</codiceLegame></legameSoggetto>", "")},
		{"a person before the address", "soapenv:Client", "datiControllo is missing", body(home+person, person+home)},
		{"a mutation of one digit", "soapenv:Client", "tipoMutazione", body(">02<", ">2<")},
		{"a surplus element", "soapenv:Client", "not expected", body("</datiControllo>", "<x></x></datiControllo>")},
		{"from another municipality", "EC010", "", body("<codMittente>027042", "<codMittente>015146")},
		{"a number that is none", "EC011", "", body("<idOperazioneComune>", "<idOperazioneComune>A")},
		{"nobody moves", "EC013", "", body(person, "")},
		{"somebody without a tax code", "EC013", "", body("<codiceFiscale><codFiscale>"+mario+"</codFiscale></codiceFiscale>", "")},
		{"the name of another", "EC001", "", body("MARIO", "LUIGI")},
		{"somebody unknown", "EC001", "", body(mario, "TSTCTD80A01L736B")},
		{"who emigrated", "EC002", "", body(mario, "BSTPLA71H30L736G", "ROSSI", "BUSETTO", "MARIO", "PAOLO")},
		{"people of two sheets", "EC020", "", body(person, person+giulia)},
		{"two heads", "EC028", "", body(person, person+luca)},
		{"no head", "EC028", "", body("<codiceLegame>1<", "<codiceLegame>3<")},
		{"a street that is not there", "EC021", "", body("Strada Nova", "Strada Vecia")},
		{"a number that is not there", "EC021", "", body(">3660<", ">1<")},
		{"the postal code of elsewhere", "EC021", "", body("30121", "30100")},
		{"another mutation", "EC023", "", body(">02<", ">01<")},
		{"the sheet of an institution", "EC023", "", body("<generalitaSchedaFamiglia><tipoScheda>3<", "<generalitaSchedaFamiglia><tipoScheda>4<")},
		{"no address", "EC024", "", body(home, "")},
		{"two addresses", "EC024", "", body(home, home+home)},
		{"an address for letters", "EC024", "", body("<tipoIndirizzo>1<", "<tipoIndirizzo>2<")},
		{"to another municipality", "EC025", "", body("<codiceIstat>027042", "<codiceIstat>015146")},
		{"from tomorrow", "EC026", "", body("2026-11-23", "2026-11-25")},
		{"two days of effect", "EC026", "", body("<dataDecorrenzaResidenza>2026-11-23", "<dataDecorrenzaResidenza>2026-11-22")},
		{"a bond of another day", "EC026", "", body("</tipoLegame><dataDecorrenza>2026-11-23", "</tipoLegame><dataDecorrenza>2026-11-22")},
		{"no protocol", "EC027", "", body("<protocolloComune>VE-2026-0000007</protocolloComune>", "")},
	}
}

// TestEmulatorRefusesChanges goes through the table, then has the change made.
func TestEmulatorRefusesChanges(t *testing.T) {
	f, der := newVenetianFar(t)
	for _, c := range changeRefusals() {
		t.Run(c.name, func(t *testing.T) {
			f.t = t
			defer func() { f.t = t }()
			m := f.change(der)
			c.spoil(m)
			status, body := m.sendTo("5005")
			if strings.HasPrefix(c.code, "EC") {
				if status != 200 || !strings.Contains(body, "<codiceErroreAnomalia>"+c.code+"<") || !strings.Contains(body, "<esitoOperazione>3<") {
					t.Fatalf("got %d %s, want %s", status, body, c.code)
				}
				validate5005(t, body, "m:Risposta5005", "</soapenv:Body>")
				return
			}
			_, reason, _ := strings.Cut(body, "<faultstring>")
			if status != 400 || !strings.Contains(body, "<faultcode>"+c.code+"<") || !strings.Contains(reason, c.why) {
				t.Fatalf("got %d %s, want %s because of %q", status, body, c.code, c.why)
			}
		})
	}
	f.t = t
	if got := f.effects(); got != 0 {
		t.Errorf("refusals had %d effects", got)
	}
	late := f.change(der) // its number is lower than that of what follows
	m := f.change(der)
	m.requestID = "key-9"
	status, body := m.sendTo("5005")
	if status != 200 || !strings.Contains(body, "<esitoOperazione>2<") || !strings.Contains(body, mario) {
		t.Fatalf("what is not spoilt: %d %s", status, body)
	}
	validate5005(t, body, "m:Risposta5005", "</soapenv:Body>")
	validate5005(t, m.String(), "m:Richiesta5005", "</S:Body>")
	if _, again := m.sendTo("5005"); again != body || f.effects() != 1 {
		t.Errorf("the repetition answered %s, %d effects", again, f.effects())
	}
	if _, body := late.sendTo("5005"); !strings.Contains(body, "EC012") || f.effects() != 1 {
		t.Errorf("a lower number: %s", body)
	}
	rows, err := f.e.Effects()
	if err != nil || rows[0].Key != "key-9" || rows[0].Subject != mario || rows[0].Operation != "change_residence" {
		t.Errorf("the ledger is %v, %v", rows, err)
	}
	f.switchOn("no-dedupe", true)
	m.sendTo("5005")
	if f.effects() != 2 {
		t.Errorf("without deduplication there are %d effects, want 2", f.effects())
	}
	// Its security is 6001's.
	bad := f.change(der)
	bad.after = swap("MARIO", "LUIGI")
	if status, body := bad.sendTo("5005"); status != 400 || !strings.Contains(body, "wsse:FailedCheck") {
		t.Errorf("a changed body: %d %s", status, body)
	}
}

// TestChangesAreOfficial holds what the connector writes to the XSD.
func TestChangesAreOfficial(t *testing.T) {
	for _, request := range anagrafe.Changes() {
		validate5005(t, request+"|", "m:Richiesta5005", "|")
	}
}

func validate5005(t *testing.T, envelope, root, end string) {
	t.Helper()
	validateWith(t, "5000mutazione.xsd", envelope, root, end)
}
