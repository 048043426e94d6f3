package anagrafe

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/document"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/httpclient"
	"github.com/dime-bus/dime/internal/xml"
)

// A certificate is issued in two places: by ANPR (service 6001), then by the city's
// archive. Between the two a kill or a lost answer may fall. The rule of
// idOperazioneComune (tipoDatoTestataRichiesta) settles what happened: a number that
// ANPR has brings back its earlier answer; one that it has not and that is lower
// than the last ends in an error. So the number is kept before it leaves, and a
// doubt is settled under a higher one: behind that, the kept number is answered if
// it ever arrived, and never carried out if it did not.

const (
	serviceSpace = "http://sogei.it/ANPR/6001certificazione"
	stampCents   = "1600" // tipoBollo, in cents: D.P.R. 642/1972, tariffa, art. 4
)

// issuance is what is noted of a draft's certificate at ANPR.
type issuance struct {
	Key    string // of the effect that asked for it
	Number int64  // idOperazioneComune of a request whose answer is not known; 0: none is out
	ANPR   string // numeroProtocolloANPR, once ANPR has told it
	Sealed bool   // the archive has issued the document
}

func issuanceRow(draft string) string { return "issuance/" + draft }

func (c *Connector) issuance(ctx context.Context, draft string) (i issuance, err error) {
	row, found, err := c.table.Get(ctx, issuanceRow(draft))
	if err == nil && found {
		err = json.Unmarshal(row, &i)
	}
	if err != nil {
		return i, unavailable("what was asked of ANPR can't be read", err)
	}
	return i, nil
}

func (c *Connector) note(ctx context.Context, draft string, i issuance) error {
	row, err := json.Marshal(i)
	if err == nil {
		err = c.table.Update(ctx, issuanceRow(draft), func([]byte) ([]byte, error) { return row, nil })
	}
	if err != nil {
		return unavailable("what was asked of ANPR can't be noted", err)
	}
	return nil
}

// in6001 calls f alone of the messages to service 6001, with the next number.
func (c *Connector) in6001(ctx context.Context, f func(context.Context, int64) error) error {
	return c.numbers.Next(ctx, c.desc.Name+"-6001-"+c.cfg.Municipality, c.clock.Now().UnixMilli(), f)
}

func (c *Connector) issue(ctx context.Context, call connectors.Call) (any, error) {
	if c.host.Documents == nil {
		return nil, unavailable("this process has no archive of documents", nil)
	}
	id := str(call.Args, "draft")
	p, err := c.prepared(ctx, id)
	if err != nil {
		return nil, err
	}
	stamp, err := readStamp(str(call.Args, "stamp"))
	if err != nil {
		return nil, &fault.Error{Kind: fault.Rejected, Name: "stamp_mismatch", Detail: "the stamp can't be read", Err: err}
	}
	if err := c.certify(ctx, call.Key, id, p, stamp); err != nil {
		return nil, err
	}
	d, err := c.host.Documents.Issue(ctx, call.Key, id, stamp)
	if err != nil {
		return nil, after(err)
	}
	c.sealed(ctx, id)
	return issuedResult(d), nil
}

// certify has ANPR issue the certificate of a draft, once.
func (c *Connector) certify(ctx context.Context, key, draft string, p prepared, stamp *document.Stamp) error {
	i, err := c.issuance(ctx, draft)
	switch {
	case err != nil:
		return err
	case i.ANPR != "":
		return nil
	case i.Number == 0:
		// What the archive would refuse is refused before ANPR has issued anything.
		if err := c.admit(p, stamp); err != nil {
			return err
		}
	default:
		if i, err = c.settle(ctx, key, draft, p); err != nil {
			f := *fault.From(err)
			return &fault.Error{Kind: fault.Unknown, Sent: true, RetryAfter: f.RetryAfter, Detail: "whether ANPR issued the certificate can't be found out yet", Err: err}
		}
		if i.ANPR != "" {
			return nil
		}
	}
	return c.in6001(ctx, func(ctx context.Context, n int64) error {
		i, err := c.issuance(ctx, draft) // another call may have had its turn before
		switch {
		case err != nil:
			return err
		case i.ANPR != "":
			return nil
		case i.Number != 0:
			return &fault.Error{Kind: fault.Unknown, Sent: true, Detail: "another call has asked ANPR for this certificate and has no answer yet"}
		}
		if err := c.note(ctx, draft, issuance{Key: key, Number: n}); err != nil {
			return err
		}
		number, err := c.ask6001(ctx, n, key, draft, p, issueIt)
		// What follows is noted although the caller may have left.
		ctx = context.WithoutCancel(ctx)
		if err != nil {
			if f := fault.From(err); !f.Sent || refused(f) {
				// If this can't be noted, the next call asks ANPR what became of it.
				_ = c.note(ctx, draft, issuance{})
			}
			return err
		}
		if err := c.note(ctx, draft, issuance{Key: key, ANPR: number}); err != nil {
			return &fault.Error{Kind: fault.Unknown, Sent: true, Detail: "ANPR issued the certificate; that can't be noted", Err: err}
		}
		return nil
	})
}

// admit holds a stamp to its draft.
func (c *Connector) admit(p prepared, stamp *document.Stamp) error {
	no := func(name, detail string) error {
		return &fault.Error{Kind: fault.Rejected, Name: name, Detail: detail}
	}
	switch {
	case !c.clock.Now().Before(p.Until):
		return &fault.Error{Kind: fault.NotFound, Name: "no_draft", Detail: "the draft has expired; prepare the document anew"}
	case stamp == nil && p.Exemption == "":
		return no("stamp_missing", "the document is subject to stamp duty and no stamp came with it")
	case stamp != nil && p.Exemption != "":
		return no("stamp_unwanted", "the document is exempt from stamp duty and says so")
	case stamp != nil && hex.EncodeToString(stamp.SHA256[:]) != p.SHA256:
		return no("stamp_mismatch", "the stamp's ImprontaDocumento is not the digest of this draft")
	}
	return nil
}

// settle finds out what became of the request of a draft's certificate, and notes
// it: ANPR's number, or that nothing is out any more. It issues nothing.
func (c *Connector) settle(ctx context.Context, key, draft string, p prepared) (i issuance, err error) {
	err = c.in6001(ctx, func(ctx context.Context, n int64) error {
		if i, err = c.issuance(ctx, draft); err != nil || i.ANPR != "" {
			return err
		}
		number, err := c.ask6001(ctx, n, "", draft, p, tellIt)
		if err != nil && !answeredNo(err) {
			return err
		}
		if number == "" && i.Number != 0 {
			// Told of none. That a request for data under the protocol tells is assumed;
			// what the kept number brings back behind a higher one is not.
			if i.Key != "" {
				key = i.Key
			}
			if number, err = c.ask6001(ctx, i.Number, key, draft, p, repeatIt); err != nil && !answeredNo(err) {
				return err
			}
		}
		was := i
		if i = (issuance{Key: i.Key, ANPR: number}); number == "" {
			i = issuance{}
		}
		if i == was {
			return nil
		}
		return c.note(ctx, draft, i)
	})
	return i, err
}

// answeredNo says that service 6001 itself read a message and answered KO.
func answeredNo(err error) bool {
	f := fault.From(err)
	return f.Kind == fault.NotFound || f.Name == "refused"
}

// refused says that a message was not carried out, whoever refused it.
func refused(f *fault.Error) bool {
	return f.Kind == fault.Rejected || f.Kind == fault.NotFound || f.Kind == fault.Invalid || f.Kind == fault.Denied || f.Kind == fault.Conflict
}

// after is a failure behind ANPR's yes: nothing may take the certificate for one
// that was never asked for. A refusal by the archive stays one.
func after(err error) error {
	f := *fault.From(err)
	if f.Kind.Row().Transient || !f.Kind.Row().Nameable {
		return &fault.Error{Kind: fault.Unknown, Sent: true, Detail: "ANPR issued the certificate; the document is not sealed yet", Err: err}
	}
	f.Sent = true
	return &f
}

func issuedResult(d document.Issued) map[string]any {
	return map[string]any{"protocol": d.Protocol, "url": d.URL, "verify_url": d.VerifyURL, "code": d.Code, "issued_at": d.At.UTC().Format(time.RFC3339)}
}

// certificate tells of the certificate of a draft. Where ANPR has issued it, it has
// happened, and the archive's part, which is done once however often it is asked
// for, follows here.
func (c *Connector) certificate(ctx context.Context, call connectors.Call) (any, error) {
	if c.host.Documents == nil {
		return nil, unavailable("this process has no archive of documents", nil)
	}
	none := &fault.Error{Kind: fault.NotFound, Name: "no_certificate", Detail: "ANPR issued no certificate of this draft"}
	if call.Key != "" {
		d, err := c.host.Documents.IssuedBy(ctx, call.Key)
		if err == nil {
			return issuedResult(d), nil
		}
		if fault.From(err).Kind != fault.NotFound {
			return nil, err
		}
	}
	id := str(call.Args, "draft")
	p, err := c.prepared(ctx, id)
	if err != nil {
		if fault.From(err).Kind == fault.NotFound {
			return nil, none
		}
		return nil, err
	}
	i, err := c.issuance(ctx, id)
	if err == nil && i.ANPR == "" {
		i, err = c.settle(ctx, call.Key, id, p)
	}
	if err != nil {
		return nil, err
	}
	if i.ANPR == "" {
		return nil, none
	}
	stamp, err := readStamp(str(call.Args, "stamp"))
	if err != nil {
		return nil, &fault.Error{Kind: fault.Rejected, Detail: "ANPR issued the certificate; its stamp can't be read", Err: err}
	}
	key := call.Key
	for _, k := range []string{i.Key, id} {
		if key == "" {
			key = k
		}
	}
	d, err := c.host.Documents.Issue(ctx, key, id, stamp)
	if err != nil {
		f := *fault.From(err)
		switch {
		case f.Kind == fault.NotFound:
			return nil, &fault.Error{Kind: fault.Conflict, Sent: true, Detail: "ANPR issued the certificate and the archive has its draft no more: a person must issue the document", Err: err}
		case !f.Kind.Row().Nameable:
			return nil, &fault.Error{Kind: fault.Unavailable, Sent: true, Detail: "ANPR issued the certificate; the document is not sealed yet", Err: err}
		}
		return nil, &f
	}
	c.sealed(ctx, id)
	return issuedResult(d), nil
}

// sealed notes that nothing more is to be done for a draft. If that can't be
// noted, what was noted of it outlives it; the certificate is there all the same.
func (c *Connector) sealed(ctx context.Context, draft string) {
	i, err := c.issuance(ctx, draft)
	if err == nil && !i.Sealed {
		i.Sealed = true
		_ = c.note(context.WithoutCancel(ctx), draft, i)
	}
}

// certificateKind is tipoCertificato of the register's table of certificates; the
// numbers are assumed.
func certificateKind(kind string) string {
	return map[string]string{"residence": "5", "civil-status": "7", "family": "8"}[kind]
}

// protocolOf is at most twenty letters and digits, always the same for a draft.
func protocolOf(draft string) string {
	sum := sha256.Sum256([]byte("protocolloComune\x00" + draft))
	return fmt.Sprintf("%X", sum[:10])
}

// intent of a message to service 6001.
type intent int

const (
	issueIt  intent = iota // tipoRichiesta 1
	tellIt                 // tipoRichiesta 2: what was issued under the protocol
	repeatIt               // tipoRichiesta 1 under a number that can only bring back its answer
)

// ask6001 sends emissioneCertificato and returns numeroProtocolloANPR, "" where
// none was told.
func (c *Connector) ask6001(ctx context.Context, n int64, key, draft string, p prepared, what intent) (string, error) {
	to, err := c.soapURL("/soap/6001", c.cfg.SoapURL)
	if err != nil {
		return "", unavailable("`soap_url` is no address", err)
	}
	resp, err := c.transmit(ctx, to, c.request6001(n, protocolOf(draft), p, what == tellIt), key, what != issueIt)
	if err != nil {
		return "", err
	}
	number, err := read6001(resp, what != issueIt)
	if err == nil && number == "" && what != tellIt {
		return "", broken(resp.Body, "ANPR issued a certificate and gave it no number")
	}
	return number, err
}

// request6001 is Richiesta6001 (6001certificazione.xsd), in its canonical form.
func (c *Connector) request6001(n int64, protocol string, p prepared, look bool) string {
	// bolloVirtuale 9, another way of paying it: a digital stamp is neither paid
	// virtually (D.P.R. 642/1972, art. 15) nor a sticker.
	kind, stamp, virtual, exempt, why := "1", stampCents, tag("bolloVirtuale", "9"), "", ""
	if look {
		kind = "2"
	}
	if p.Exemption != "" {
		stamp, virtual, exempt, why = "0", "", tag("esenzioneBollo", "99"), tag("descrizioneEsenzioneBollo", "D.P.R. 642/1972, tab. B: "+p.Exemption)
	}
	return `<c:Richiesta6001 xmlns:c="` + serviceSpace + `"><testataRichiesta>` + tag("idOperazioneComune", strconv.FormatInt(n, 10)) +
		tag("codMittente", c.cfg.Municipality) + tag("codDestinatario", "999999") + tag("operazioneRichiesta", "6001") +
		tag("dataOraRichiesta", c.clock.Now().UTC().Format("2006-01-02T15:04:05Z")) + tag("tipoOperazione", "C") + tag("protocolloComune", protocol) +
		tag("tipoInvio", c.shipment()) + tag("nomeApplicativo", "Dime") + "</testataRichiesta>" +
		"<listaTipiCertificati>" + tag("tipoCertificato", certificateKind(p.Kind)) + "</listaTipiCertificati>" +
		"<soggettoIntestatario><generalita><codiceFiscale>" + tag("codFiscale", p.Holder) + "</codiceFiscale>" + tag("cognome", strings.ToUpper(p.Surname)) + tag("nome", strings.ToUpper(p.Given)) +
		"</generalita></soggettoIntestatario>" +
		"<datiControllo>" + tag("cognomeUffAnagrafe", c.cfg.Officer.Surname) + tag("nomeUffAnagrafe", c.cfg.Officer.Name) + tag("tipoRichiedente", "2") + tag("tipoRichiesta", kind) +
		tag("paEstera", "0") + tag("emissione", "2") + tag("bollo", stamp) + virtual + tag("diritti", "0") + exempt + why + "</datiControllo></c:Richiesta6001>"
}

// read6001 reads Risposta6001: the certificate's number, or why there is none.
func read6001(resp *httpclient.Response, safe bool) (string, error) {
	if f := soapRefusal("6001", resp, safe); f != nil {
		return "", f
	}
	root, err := xml.Parse(resp.Body)
	if err != nil {
		return "", broken(resp.Body, "service 6001 answered no XML that can be read")
	}
	var answer *xml.Element
	if root.Name == (xml.Name{Space: envelopeSpace, Local: "Envelope"}) {
		if body := root.Child(envelopeSpace, "Body"); body != nil && len(body.Children) == 1 {
			answer = body.Children[0]
		}
	}
	if answer == nil || answer.Name != (xml.Name{Space: serviceSpace, Local: "Risposta6001"}) {
		return "", broken(resp.Body, "service 6001 answered no Risposta6001")
	}
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
	if ok := answer.Child(serviceSpace, "Risposta6001OK"); ok != nil {
		if text(ok, "testataRisposta", "esitoOperazione") != "OK" {
			return "", broken(resp.Body, "service 6001 says OK and does not")
		}
		return text(ok, "protocolloANPR", "numeroProtocolloANPR"), nil
	}
	ko := answer.Child(serviceSpace, "Risposta6001KO")
	if ko == nil {
		return "", broken(resp.Body, "service 6001 answered neither OK nor KO")
	}
	code := text(ko, "listaErrori", "errore", "codiceErroreAnomalia")
	if code == "EC001" {
		return "", &fault.Error{Kind: fault.NotFound, Sent: true, Detail: "service 6001 does not know the holder"}
	}
	return "", &fault.Error{Kind: fault.Rejected, Name: "refused", Sent: true, Detail: fmt.Sprintf("ANPR does not issue the certificate: %.10q", code)}
}
