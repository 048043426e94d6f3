package anagrafe

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/document"
	"github.com/dime-bus/dime/internal/fault"
)

const (
	draftBasis = "the archive of documents, internal/document: one key prepares one draft, and the draft of a key is found by it"
	issueBasis = "tipoDato.xsd, tipoDatoTestataRichiesta: an idOperazioneComune that ANPR has brings back its earlier answer, and one that it has not and that is " +
		"lower than the last is refused; the number is kept with the draft before it leaves. tipoRichiesta 2 under the draft's protocolloComune finds the certificate (assumed). " +
		"The archive of documents issues a draft once"
)

func (c *Connector) describe() error {
	var failed error
	shape := func(name, text string) *connectors.Operation {
		return &connectors.Operation{Name: name, Out: c.compile(name+".out", text, &failed)}
	}
	unknown := connectors.Fault{Name: "not_found", Kind: fault.NotFound, Summary: "The register knows nobody of this codice fiscale."}
	add := func(o *connectors.Operation, summary, in string, effect connectors.Effect, do func(context.Context, connectors.Call) (any, error), faults ...connectors.Fault) *connectors.Operation {
		o.Summary, o.Effect, o.Faults, o.Policy = summary, effect, faults, c.desc.Policy
		o.Do = func(ctx context.Context, call connectors.Call) (any, error) {
			if err := gone(ctx); err != nil {
				return nil, err
			}
			return do(ctx, call)
		}
		if in != "" {
			o.In = c.compile(o.Name+".in", in, &failed)
		}
		c.desc.Operations = append(c.desc.Operations, o)
		return o
	}
	add(shape("person", personOut), "Tells who a person is, and of which civil status (C015).", taxCodeIn, connectors.Safe, c.person, unknown)
	add(shape("residence", residenceOut), "Tells where a person is resident (C020).", taxCodeIn, connectors.Safe, c.residence, unknown)
	add(shape("family", familyOut), "Tells with whom a person lives on one family sheet (C020 for the address, and C021, which is asked for residents only).", taxCodeIn, connectors.Safe, c.family, unknown)
	o := add(shape("prepare_certificate", draftOut), "Lays a certificate out: its bytes, and so its digest, exist before anybody pays for it.", prepareIn, connectors.Writes, c.prepare)
	o.Keyed, o.FoundBy, o.Basis = true, "draft", draftBasis
	gone := connectors.Fault{Name: "no_draft", Kind: fault.NotFound, Summary: "There is no such draft, or it has expired."}
	add(shape("draft", draftOut), "Finds the draft that a call of this key prepared.", "", connectors.Safe, c.draft, gone).In = o.In
	o = add(shape("issue_certificate", certificateOut), "Has ANPR issue a certificate (service 6001), stamps, numbers and seals the draft, and enters it in the public register.",
		issueIn, connectors.Writes, c.issue, gone,
		connectors.Fault{Name: "stamp_mismatch", Kind: fault.Rejected, Summary: "The stamp is another document's."},
		connectors.Fault{Name: "stamp_missing", Kind: fault.Rejected, Summary: "The document is subject to stamp duty and no stamp came with it."},
		connectors.Fault{Name: "stamp_unwanted", Kind: fault.Rejected, Summary: "The document is exempt from stamp duty and says so."},
		connectors.Fault{Name: "refused", Kind: fault.Rejected, Summary: "ANPR does not issue this certificate."})
	o.Keyed, o.FoundBy, o.Basis = true, "certificate", issueBasis
	add(shape("certificate", certificateOut), "Finds the certificate of a draft. What ANPR has issued and the archive has not is finished first: it has happened.", "", connectors.Safe, c.certificate,
		connectors.Fault{Name: "no_certificate", Kind: fault.NotFound, Summary: "ANPR issued no certificate of this draft, and no request of ours can make it do so any more."}).In = o.In
	o = add(shape("change_residence", changeOut), "Enters a change of dwelling within the Comune, of a person and of the family that moves along (service 5005).",
		changeIn, connectors.Writes, c.changeResidence, append([]connectors.Fault{unknown}, changeFaults()...)...)
	o.Keyed, o.Basis = true, changeBasis
	return failed
}

func (c *Connector) person(ctx context.Context, call connectors.Call) (any, error) {
	ss, err := c.about(ctx, "C015", call)
	if err != nil {
		return nil, err
	}
	return person(ss[0])
}

func (c *Connector) residence(ctx context.Context, call connectors.Call) (any, error) {
	ss, err := c.about(ctx, "C020", call)
	if err != nil {
		return nil, err
	}
	p, err := person(ss[0])
	if err != nil {
		return nil, err
	}
	withAddress(p, ss[0])
	return p, nil
}

// withAddress adds the dwelling (tipoIndirizzo 1) of datiSoggetto.residenza.
func withAddress(p map[string]any, subject any) {
	list, _ := dig(subject, "residenza").([]any)
	for _, r := range list {
		if str(r, "tipoIndirizzo") != "1" {
			continue
		}
		a := dig(r, "indirizzo")
		street, number := str(a, "toponimo", "denominazioneToponimo"), str(a, "numeroCivico", "numero")
		line := strings.TrimSpace(street + " " + number)
		if s := str(a, "frazione"); s != "" { // the sestieri of Venice number their houses through
			line = strings.TrimSpace(s + " " + number + ", " + street)
		}
		town := strings.TrimSpace(str(a, "cap") + " " + str(a, "comune", "nomeComune"))
		if line != "" {
			p["address"] = strings.Trim(line+", "+town, ", ")
		}
		put(p, "postal_code", str(a, "cap"))
		put(p, "municipality", str(a, "comune", "nomeComune"))
		put(p, "since", day(str(r, "dataDecorrenzaResidenza")))
		return
	}
}

func (c *Connector) family(ctx context.Context, call connectors.Call) (any, error) {
	home, err := c.about(ctx, "C020", call)
	if err != nil {
		return nil, err
	}
	p, err := person(home[0])
	if err != nil {
		return nil, err
	}
	withAddress(p, home[0])
	for _, k := range []string{"postal_code", "municipality", "since"} {
		delete(p, k)
	}
	p["members"] = []any{}
	if p["status"] != "active" {
		return p, nil
	}
	ss, err := c.about(ctx, "C021", call)
	if err != nil {
		return nil, err
	}
	members := make([]any, 0, len(ss))
	for _, s := range ss {
		m, err := person(s)
		if err != nil {
			return nil, err
		}
		x := map[string]any{"name": m["name"]}
		for _, k := range []string{"tax_code", "born", "birth_place"} {
			if m[k] != nil {
				x[k] = m[k]
			}
		}
		put(x, "relation", info(s, "Legame con intestatario scheda", "valoreTesto"))
		members = append(members, x)
	}
	p["members"] = members
	return p, nil
}

// person reads generalita and infoSoggettoEnte of datiSoggetto.
func person(subject any) (map[string]any, error) {
	g := dig(subject, "generalita")
	given, surname := str(g, "nome"), str(g, "cognome")
	name := strings.TrimSpace(given + " " + surname)
	if name == "" {
		return nil, broken(nil, "ANPR's answer names nobody")
	}
	p := map[string]any{"status": "active", "name": name}
	put(p, "given_name", given)
	put(p, "surname", surname)
	put(p, "tax_code", str(g, "codiceFiscale", "codFiscale"))
	if s := str(g, "sesso"); s == "M" || s == "F" {
		p["sex"] = s
	}
	put(p, "born", day(str(g, "dataNascita")))
	place := str(g, "luogoNascita", "comune", "nomeComune")
	if province := str(g, "luogoNascita", "comune", "siglaProvinciaIstat"); place != "" && province != "" {
		place += " (" + province + ")"
	}
	if place == "" {
		place = str(g, "luogoNascita", "localita", "descrizioneLocalita")
		if state := str(g, "luogoNascita", "localita", "descrizioneStato"); state != "" && state != place {
			place = strings.Trim(place+", "+state, ", ")
		}
	}
	put(p, "birth_place", place)
	put(p, "citizenship", info(subject, "Cittadinanza", "valoreTesto"))
	put(p, "civil_status", info(subject, "Stato civile", "valoreTesto"))
	switch why := strings.ToLower(info(subject, "Motivo cancellazione", "valoreTesto")); {
	case strings.HasPrefix(why, "decesso"):
		p["status"] = "deceased"
	case strings.HasPrefix(why, "irreperibil"):
		p["status"] = "untraceable"
	case why != "", info(subject, "Verifica residenza", "valore") == "N":
		p["status"] = "emigrated"
	}
	return p, nil
}

// info is a value of infoSoggettoEnte by its key.
func info(subject any, key, field string) string {
	list, _ := dig(subject, "infoSoggettoEnte").([]any)
	for _, x := range list {
		if str(x, "chiave") == key {
			return str(x, field)
		}
	}
	return ""
}

func put(m map[string]any, key, v string) {
	if v != "" {
		m[key] = v
	}
}

// day lets only a day through.
func day(s string) string {
	if _, err := time.Parse(time.DateOnly, s); err != nil {
		return ""
	}
	return s
}

// prepared is what issue_certificate must know of a draft.
type prepared struct {
	Kind, Holder, Surname, Given, Exemption string
	SHA256                                  string // of the draft, in hexadecimal digits
	Until                                   time.Time
}

const draftRows = "draft/"

func draftRow(id string) string { return draftRows + id }

const (
	draftGrace  = 24 * time.Hour // behind a draft's end, for what is under way
	sweepPeriod = time.Hour
)

// sweeps remembers when this process last removed what drafts left behind.
type sweeps struct {
	mu   sync.Mutex
	last time.Time
}

// forgetDrafts removes what was noted of drafts that have expired: it names their
// holders. Kept are those of which it is not certain yet whether ANPR issued the
// certificate, and those that it issued and the archive has not sealed: whoever
// finishes them needs the holder.
func (c *Connector) forgetDrafts(ctx context.Context) error {
	now := c.clock.Now()
	c.sweeps.mu.Lock()
	due := c.sweeps.last.IsZero() || !now.Before(c.sweeps.last.Add(sweepPeriod))
	if due {
		c.sweeps.last = now
	}
	c.sweeps.mu.Unlock()
	if !due {
		return nil
	}
	var old []string
	err := c.table.List(ctx, draftRows, func(key string, row []byte) error {
		var p prepared
		if err := json.Unmarshal(row, &p); err != nil {
			return err
		}
		if now.After(p.Until.Add(draftGrace)) {
			old = append(old, strings.TrimPrefix(key, draftRows))
		}
		return nil
	})
	none := func([]byte) ([]byte, error) { return nil, nil }
	for _, id := range old {
		if err != nil {
			break
		}
		var i issuance
		if i, err = c.issuance(ctx, id); err != nil || !i.Sealed && (i.Number != 0 || i.ANPR != "") {
			continue
		}
		if err = c.table.Update(ctx, draftRow(id), none); err == nil {
			err = c.table.Update(ctx, issuanceRow(id), none)
		}
	}
	if err != nil {
		return unavailable("what expired drafts left can't be removed", err)
	}
	return nil
}

func (c *Connector) prepare(ctx context.Context, call connectors.Call) (any, error) {
	if c.host.Documents == nil {
		return nil, unavailable("this process has no archive of documents", nil)
	}
	kind, _ := call.Args["kind"].(string)
	field := map[string]string{"residence": "resident", "family": "family", "civil-status": "person"}[kind]
	data, _ := call.Args[field].(map[string]any)
	holder := str(data, "tax_code")
	if holder == "" {
		return nil, &fault.Error{Kind: fault.Invalid, Pointer: "/" + field, Detail: fmt.Sprintf("a certificate of the kind %s needs `%s`, with a tax_code", kind, field)}
	}
	exemption, _ := call.Args["exemption"].(string)
	if err := c.forgetDrafts(ctx); err != nil {
		return nil, err
	}
	d, err := c.host.Documents.Prepare(ctx, call.Key, document.Content{Kind: kind, Holder: holder, Data: data, Exemption: exemption})
	if err != nil {
		return nil, err
	}
	row, err := json.Marshal(prepared{kind, holder, str(data, "surname"), str(data, "given_name"), exemption, hex.EncodeToString(d.SHA256[:]), d.Until})
	if err == nil {
		err = c.table.Update(ctx, draftRow(d.ID), func([]byte) ([]byte, error) { return row, nil })
	}
	if err != nil {
		return nil, unavailable("the draft can't be noted", err)
	}
	return draftResult(d), nil
}

func draftResult(d document.Draft) map[string]any {
	return map[string]any{"id": d.ID, "sha256": hex.EncodeToString(d.SHA256[:]), "until": d.Until.UTC().Format(time.RFC3339)}
}

func (c *Connector) draft(ctx context.Context, call connectors.Call) (any, error) {
	if c.host.Documents == nil {
		return nil, unavailable("this process has no archive of documents", nil)
	}
	d, err := c.host.Documents.Prepared(ctx, call.Key)
	if err != nil {
		if f := *fault.From(err); f.Kind == fault.NotFound {
			f.Name = "no_draft"
			return nil, &f
		}
		return nil, err
	}
	// What is noted behind the draft may be missing after a crash: then it has not
	// quite happened, and the repetition notes it.
	if _, err := c.prepared(ctx, d.ID); err != nil {
		return nil, err
	}
	return draftResult(d), nil
}

// prepared reads what was noted of a draft.
func (c *Connector) prepared(ctx context.Context, draft string) (p prepared, err error) {
	row, found, err := c.table.Get(ctx, draftRow(draft))
	if err == nil && found {
		err = json.Unmarshal(row, &p)
	}
	switch {
	case err != nil:
		return p, unavailable("the draft can't be read", err)
	case !found:
		return p, &fault.Error{Kind: fault.NotFound, Name: "no_draft", Detail: "there is no such draft, or it has expired"}
	}
	return p, nil
}
