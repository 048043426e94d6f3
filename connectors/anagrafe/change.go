package anagrafe

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/httpclient"
	"github.com/dime-bus/dime/internal/xml"
)

// Service 5005, mutazione_residenza (5000serviziMutazione.wsdl). Its shapes are the
// official ones; that tipoMutazione 02 is a family's move (the XSD's annotation on
// listaControlli calls it "cambio residenza"), the codes of table 5 and the message
// security, which is 6001's, are assumed.
const (
	mutationSpace = "http://sogei.it/ANPR/5000mutazione"
	answerSpace   = "http://sogei.it/ANPR/rispostaComune"
	familySheet   = "3"  // tipoLegame: 3=famiglia
	moveMutation  = "02" // tipoMutazioneResidenza
	changeBasis   = "tipoDato.xsd, tipoDatoTestataRichiesta: an idOperazioneComune that ANPR has brings back its earlier answer, and one that it has not and that is " +
		"lower than the last is refused undone; the number of a key is kept before it leaves. Which service and mutation change a residence, and its message security, are assumed"
)

const changeIn = `{
  "type": "object", "additionalProperties": false, "required": ["tax_code", "address", "since", "protocol"],
  "properties": {
    "tax_code": {"description": "Codice fiscale of who declared the move.", "type": "string", "pattern": "^[A-Z0-9]{16}$", "x-personal": true},
    "address": {
      "description": "As the street directory has it.",
      "type": "object", "additionalProperties": false, "required": ["street", "number", "postal_code"],
      "properties": {
        "street": {"type": "string", "minLength": 1, "maxLength": 100, "x-personal": true},
        "number": {"type": "string", "pattern": "^[0-9]{1,5}(/[A-Z])?$", "x-personal": true},
        "sestiere": {"description": "In the historic city, whose sestieri number their houses through.", "type": "string", "minLength": 1, "maxLength": 80, "x-personal": true},
        "postal_code": {"type": "string", "pattern": "^[0-9]{5}$", "x-personal": true}
      }
    },
    "members": {
      "description": "Of the same family sheet, who move along.",
      "type": "array", "maxItems": 20,
      "items": {
        "type": "object", "additionalProperties": false, "required": ["tax_code", "relation"],
        "properties": {
          "tax_code": {"type": "string", "pattern": "^[A-Z0-9]{16}$", "x-personal": true},
          "relation": {"description": "To who declared the move.", "type": "string", "enum": ["spouse", "child", "parent", "sibling", "other"], "x-personal": true}
        }
      }
    },
    "since": {"description": "The day of the declaration, on which the change takes effect (D.P.R. 223/1989, art. 18).", "type": "string", "format": "date"},
    "protocol": {"description": "Of the declaration.", "type": "string", "pattern": "^[0-9A-Za-z_/-]{1,20}$"}
  }
}`

const changeOut = `{
  "type": "object", "additionalProperties": false, "required": ["operation", "since"],
  "properties": {
    "operation": {"description": "idOperazioneANPR.", "type": "string"},
    "since": {"type": "string", "format": "date"}
  }
}`

func changeFaults() []connectors.Fault {
	return []connectors.Fault{
		{Name: "not_resident", Kind: fault.Rejected, Summary: "The person is not resident in this Comune."},
		{Name: "not_of_family", Kind: fault.Rejected, Summary: "Somebody who is to move along is not on the person's family sheet."},
		{Name: "unknown_address", Kind: fault.Rejected, Summary: "The register does not know the new address."},
		{Name: "refused", Kind: fault.Rejected, Summary: "ANPR does not enter this change."},
	}
}

// relationCode is codiceLegame, of table 5 (relazione di parentela, scheda
// famiglia); the numbers are assumed.
func relationCode(relation string) string {
	return map[string]string{"spouse": "2", "child": "3", "parent": "6", "sibling": "9"}[relation]
}

// mover is somebody as service 5005 wants to be told of.
type mover struct {
	taxCode    string
	generalita any    // as the register has them
	relation   string // codiceLegame
}

// changeResidence asks what the register knows of the movers, and has ANPR enter
// their new dwelling.
func (c *Connector) changeResidence(ctx context.Context, call connectors.Call) (any, error) {
	town, movers, err := c.movers(ctx, call)
	if err != nil {
		return nil, unsent(err)
	}
	to, err := c.soapURL("/soap/5005", c.cfg.ChangeURL)
	if err != nil {
		return nil, unavailable("`change_url` is no address", err)
	}
	var operation string
	err = c.numbers.Next(ctx, c.desc.Name+"-5005-"+c.cfg.Municipality, c.clock.Now().UnixMilli(), func(ctx context.Context, fresh int64) error {
		number, err := c.changeNumber(ctx, call.Key, fresh, false)
		if err != nil {
			return err
		}
		ask := func(n int64) (late bool, err error) {
			resp, err := c.post(ctx, to, c.request5005(n, call.Args, town, movers), call.Key)
			if err != nil {
				return false, err
			}
			operation, late, err = read5005(resp)
			return late, err
		}
		late, err := ask(number)
		if err == nil && late && number != fresh {
			// Others have left since, and ANPR has no answer under the number: it never
			// came, and never will.
			if number, err = c.changeNumber(ctx, call.Key, fresh, true); err == nil {
				late, err = ask(number)
			}
		}
		if err == nil && late {
			return unavailable("service 5005 has seen higher numbers of this Comune than ours", nil)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return map[string]any{"operation": operation, "since": str(call.Args, "since")}, nil
}

// unsent says of a failure before service 5005 was called that nothing was sent to
// it.
func unsent(err error) error {
	f := *fault.From(err)
	f.Sent = false
	return &f
}

// changeNumber is the idOperazioneComune of a key: kept before it leaves, so that a
// repetition after a crash leaves under the same.
func (c *Connector) changeNumber(ctx context.Context, key string, fresh int64, anew bool) (int64, error) {
	var row struct {
		Number int64 `json:"number"`
	}
	err := c.table.Update(ctx, "change/"+key, func(old []byte) ([]byte, error) {
		if old != nil && !anew {
			return old, json.Unmarshal(old, &row)
		}
		row.Number = fresh
		return json.Marshal(row)
	})
	if err != nil {
		return 0, unavailable("the number of the change can't be kept", err)
	}
	return row.Number, nil
}

// movers are who declared the move, first, and who moves along; town is
// indirizzo.comune of where they live, which stays the same.
func (c *Connector) movers(ctx context.Context, call connectors.Call) (town any, list []mover, err error) {
	home, err := c.about(ctx, "C020", call)
	if err != nil {
		return nil, nil, err
	}
	residences, _ := dig(home[0], "residenza").([]any)
	for _, r := range residences {
		if str(r, "tipoIndirizzo") == "1" {
			town = dig(r, "indirizzo", "comune")
		}
	}
	if town == nil || str(town, "codiceIstat") != c.cfg.Municipality {
		return nil, nil, &fault.Error{Kind: fault.Rejected, Name: "not_resident", Detail: "the person is not resident in this Comune"}
	}
	list = []mover{{str(call.Args, "tax_code"), dig(home[0], "generalita"), "1"}}
	members, _ := call.Args["members"].([]any)
	if len(members) == 0 {
		return town, list, nil
	}
	sheet, err := c.about(ctx, "C021", call)
	if err != nil {
		return nil, nil, err
	}
	for i, m := range members {
		at := slices.IndexFunc(sheet, func(s any) bool { return str(s, "generalita", "codiceFiscale", "codFiscale") == str(m, "tax_code") })
		if at < 0 || str(m, "tax_code") == str(call.Args, "tax_code") {
			return nil, nil, &fault.Error{Kind: fault.Rejected, Name: "not_of_family", Pointer: fmt.Sprintf("/members/%d", i), Detail: "somebody who is to move along is not on the family sheet"}
		}
		code := relationCode(str(m, "relation"))
		if code == "" {
			code = "99" // other
		}
		list = append(list, mover{str(m, "tax_code"), dig(sheet[at], "generalita"), code})
	}
	return town, list, nil
}

// request5005 is Richiesta5005 (5000mutazione.xsd), in its canonical form.
func (c *Connector) request5005(n int64, args map[string]any, town any, movers []mover) string {
	maybe := func(name, text string) string {
		if text == "" {
			return ""
		}
		return tag(name, text)
	}
	since, a := str(args, "since"), args["address"]
	house, letter, _ := strings.Cut(str(a, "number"), "/")
	var b strings.Builder
	b.WriteString(`<m:Richiesta5005 xmlns:m="` + mutationSpace + `"><testataRichiesta>` + tag("idOperazioneComune", strconv.FormatInt(n, 10)) +
		tag("codMittente", c.cfg.Municipality) + tag("codDestinatario", "999999") + tag("operazioneRichiesta", "5005") +
		tag("dataOraRichiesta", c.clock.Now().UTC().Format("2006-01-02T15:04:05Z")) + tag("tipoOperazione", "C") + tag("protocolloComune", str(args, "protocol")) +
		tag("tipoInvio", c.shipment()) + tag("dataDecorrenza", since) + tag("nomeApplicativo", "Dime") + "</testataRichiesta>" +
		"<generalitaSchedaFamiglia>" + tag("tipoScheda", familySheet) + "</generalitaSchedaFamiglia>" +
		"<residenzaFamiglia>" + tag("tipoIndirizzo", "1") + "<indirizzo>" + tag("cap", str(a, "postal_code")) +
		"<comune>" + tag("nomeComune", str(town, "nomeComune")) + tag("codiceIstat", c.cfg.Municipality) + tag("siglaProvinciaIstat", str(town, "siglaProvinciaIstat")) + "</comune>" +
		maybe("frazione", str(a, "sestiere")) + "<toponimo>" + tag("denominazioneToponimo", str(a, "street")) + "</toponimo>" +
		"<numeroCivico>" + tag("numero", house) + maybe("esponente1", letter) + "</numeroCivico></indirizzo>" + tag("dataDecorrenzaResidenza", since) + "</residenzaFamiglia>")
	for _, m := range movers {
		g := m.generalita
		b.WriteString("<elencoSoggettiFamiglia><generalita><codiceFiscale>" + tag("codFiscale", m.taxCode) + "</codiceFiscale>")
		for _, x := range [][2]string{{"cognome", "senzaCognome"}, {"nome", "senzaNome"}} {
			if s := str(g, x[0]); s != "" {
				b.WriteString(tag(x[0], s))
			} else {
				b.WriteString(tag(x[1], "1"))
			}
		}
		b.WriteString(maybe("sesso", str(g, "sesso")) + maybe("dataNascita", day(str(g, "dataNascita"))) + "</generalita><legameSoggetto>" + tag("tipoLegame", familySheet) +
			tag("dataDecorrenza", since) + tag("codiceLegame", m.relation) + "</legameSoggetto></elencoSoggettiFamiglia>")
	}
	b.WriteString("<datiControllo>" + tag("tipoMutazione", moveMutation) + tag("tipoScheda", familySheet) + "</datiControllo></m:Richiesta5005>")
	return b.String()
}

// read5005 reads Risposta5005: ANPR's number of the operation, whether our number
// came too late, or why there is no change.
func read5005(resp *httpclient.Response) (operation string, late bool, err error) {
	if f := soapRefusal("5005", resp, false); f != nil {
		return "", false, f
	}
	root, err := xml.Parse(resp.Body)
	if err != nil {
		return "", false, broken(resp.Body, "service 5005 answered no XML that can be read")
	}
	body := root.Child(envelopeSpace, "Body")
	if root.Name != (xml.Name{Space: envelopeSpace, Local: "Envelope"}) || body == nil || len(body.Children) != 1 ||
		body.Children[0].Name != (xml.Name{Space: mutationSpace, Local: "Risposta5005"}) {
		return "", false, broken(resp.Body, "service 5005 answered no Risposta5005")
	}
	answer := body.Children[0]
	text := func(e *xml.Element, path ...string) string {
		for _, local := range path {
			if e == nil {
				return ""
			}
			e = e.Child("", local)
		}
		if e == nil {
			return ""
		}
		return strings.TrimSpace(e.Text)
	}
	if ok := answer.Child(answerSpace, "Risposta_Comune"); ok != nil {
		// esitoOperazione 2 and 6: done, done with warnings.
		outcome, operation := text(ok, "testataRisposta", "esitoOperazione"), text(ok, "testataRisposta", "idOperazioneANPR")
		if outcome != "2" && outcome != "6" || operation == "" {
			return "", false, broken(resp.Body, "service 5005 says that it changed the residence and does not")
		}
		return operation, false, nil
	}
	ko := answer.Child(mutationSpace, "rispostaKO")
	if ko == nil {
		return "", false, broken(resp.Body, "service 5005 answered neither Risposta_Comune nor rispostaKO")
	}
	f := &fault.Error{Kind: fault.Rejected, Sent: true}
	switch code := text(ko, "listaErrori", "errore", "codiceErroreAnomalia"); code {
	case "EC012":
		return "", true, nil
	case "EC001":
		f.Kind, f.Name, f.Detail = fault.NotFound, "not_found", "service 5005 does not know the person"
	case "EC002":
		f.Name, f.Detail = "not_resident", "the person is not resident in this Comune"
	case "EC020":
		f.Name, f.Detail = "not_of_family", "somebody who is to move along is not on the family sheet"
	case "EC021":
		f.Name, f.Detail = "unknown_address", "the register does not know the new address"
	default:
		f.Name, f.Detail = "refused", fmt.Sprintf("ANPR does not enter the change: %.10s", code)
	}
	return "", false, f
}
