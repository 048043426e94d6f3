package pagopa

import (
	"context"
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dime-bus/dime/internal/taxcode"
	"github.com/dime-bus/dime/internal/xml"
)

// The simple types of sac-common-types-1.0.xsd and paForNode.xsd.
var (
	fiscalCodePA  = regexp.MustCompile(`^[0-9]{11}$`).MatchString
	noticeNumber  = regexp.MustCompile(`^[0-9]{18}$`).MatchString
	amountForm    = regexp.MustCompile(`^[0-9]{1,12}\.[0-9]{2}$`)
	countryForm   = regexp.MustCompile(`^[A-Z]{2}$`).MatchString
	emailForm     = regexp.MustCompile(`^[a-zA-Z0-9_.+-]+@[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)*$`).MatchString
	fiveForm      = regexp.MustCompile(`^.{5}$`).MatchString
	transferForm  = regexp.MustCompile(`^[1-5]$`).MatchString
	transferTypes = oneOf("POSTAL", "PAGOPA")
)

func oneOf(words ...string) func(string) bool {
	return func(s string) bool { return slices.Contains(words, s) }
}

func amount(s string) bool { n, ok := cents(s); return ok && n <= maxCents }

func positive(s string) bool { n, ok := cents(s); return ok && n > 0 && n <= maxCents }

// cents reads stAmount.
func cents(s string) (int, bool) {
	if !amountForm.MatchString(s) {
		return 0, false
	}
	n, err := strconv.Atoi(s[:len(s)-3] + s[len(s)-2:])
	return n, err == nil
}

func date(s string) bool {
	for _, layout := range []string{time.DateOnly, "2006-01-02Z07:00"} {
		if _, err := time.Parse(layout, s); err == nil {
			return true
		}
	}
	return false
}

// instant reads xsd:dateTime; one without an offset is the city's time (assumed:
// SANP does not say, the node is in Italy).
func (c *Connector) instant(s string) (time.Time, bool) { return instantIn(s, c.zone) }

func instantIn(s string, zone *time.Location) (time.Time, bool) {
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, true
	}
	t, err := time.ParseInLocation("2006-01-02T15:04:05.999999999", s, zone)
	return t, err == nil
}

func dateTime(s string) bool { _, ok := instantIn(s, time.UTC); return ok }

func base64Text(s string) bool {
	_, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(s), ""))
	return err == nil && s != ""
}

// who reads the three identifiers that every request begins with and says whether
// they are ours.
func (c *Connector) who(s *xml.Sequence) func() *soapFault {
	pa, broker, station := s.Text("", "idPA", text(1, 35)), s.Text("", "idBrokerPA", text(1, 35)), s.Text("", "idStation", text(1, 35))
	return func() *soapFault {
		switch {
		case pa != c.cfg.Creditor:
			return refuse("PAA_ID_DOMINIO_ERRATO", "idPA is not this creditor's")
		case broker != c.cfg.Broker:
			return refuse("PAA_ID_INTERMEDIARIO_ERRATO", "idBrokerPA is not this station's")
		case station != c.cfg.Station:
			return refuse("PAA_STAZIONE_INT_ERRATA", "idStation is not this station's")
		}
		return nil
	}
}

func syntax(err error) *soapFault { return refuse("PAA_SINTASSI_XSD", err.Error()) }

// payable finds the position of a notice and decides as PagoPA's own creditor
// does: unknown, paid, expired, taken back.
func (c *Connector) payable(ctx context.Context, code, notice string) (*position, *soapFault) {
	if code != c.cfg.Creditor {
		return nil, refuse("PAA_SEMANTICA", "the notice is of another creditor than idPA")
	}
	iuv := iuvOf(notice, c.cfg.Segregation)
	if iuv == "" {
		return nil, refuse("PAA_PAGAMENTO_SCONOSCIUTO", "the notice number is none of this station's")
	}
	p, err := c.load(ctx, iuv)
	if err != nil {
		return nil, c.failed(ctx, "reading a position", err)
	}
	switch {
	case p == nil || p.Stage == opening:
		return nil, refuse("PAA_PAGAMENTO_SCONOSCIUTO", "no position has this notice number")
	case p.Stage == paid:
		return nil, refuse("PAA_PAGAMENTO_DUPLICATO", "the position is paid")
	case p.Stage == receiving:
		return nil, refuse("PAA_PAGAMENTO_IN_CORSO", "a receipt of the position is being taken")
	case p.Stage == open && c.expired(p, c.clock.Now()):
		return nil, refuse("PAA_PAGAMENTO_SCADUTO", "the position's last day is over")
	case p.Stage != open || p.Debtor == nil:
		return nil, refuse("PAA_PAGAMENTO_ANNULLATO", "the position was taken back")
	}
	return p, nil
}

// failed is what the node is told where we can't do our work: to ask again.
func (c *Connector) failed(ctx context.Context, what string, err error) *soapFault {
	c.log().ErrorContext(ctx, "a call of the node failed", "doing", what, "error", err)
	return refuse("PAA_SYSTEM_ERROR", "the creditor can't answer now")
}

func (c *Connector) verifyNotice(ctx context.Context, el *xml.Element) (string, *soapFault) {
	s := xml.In(el)
	ours := c.who(s)
	code, notice := c.qrCode(s)
	if err := s.End(); err != nil {
		return "", syntax(err)
	}
	if f := ours(); f != nil {
		return "", f
	}
	p, f := c.payable(ctx, code, notice)
	if f != nil {
		return "", f
	}
	return c.offer(p), nil
}

func (c *Connector) qrCode(s *xml.Sequence) (code, notice string) {
	qr := xml.In(s.Take("", "qrCode"))
	code, notice = qr.Text("", "fiscalCode", fiscalCodePA), qr.Text("", "noticeNumber", noticeNumber)
	if err := qr.End(); err != nil {
		s.Failf("%v", err)
	}
	return code, notice
}

// offer is what verify and demand answer of a position.
func (c *Connector) offer(p *position) string {
	out := "<paymentList><paymentOptionDescription>" + element("amount", euros(p.Amount)) + element("options", "EQ") + element("dueDate", p.Due) +
		element("detailDescription", p.Description) + element("allCCP", "false") + "</paymentOptionDescription></paymentList>" +
		element("paymentDescription", p.Description) + element("fiscalCodePA", c.cfg.Creditor) + element("companyName", c.cfg.Company)
	if c.cfg.Office != "" {
		out += element("officeName", c.cfg.Office)
	}
	return out
}

// getPayment answers paGetPayment (version 1, IBANs only) and paGetPaymentV2.
func (c *Connector) getPayment(ctx context.Context, el *xml.Element, version int) (string, *soapFault) {
	s := xml.In(el)
	ours := c.who(s)
	code, notice := c.qrCode(s)
	asked := s.OptionalText("", "amount", amount)
	s.OptionalText("", "paymentNote", text(1, 210))
	s.OptionalText("", "transferType", transferTypes)
	s.OptionalText("", "dueDate", date)
	if err := s.End(); err != nil {
		return "", syntax(err)
	}
	if f := ours(); f != nil {
		return "", f
	}
	p, f := c.payable(ctx, code, notice)
	if f != nil {
		return "", f
	}
	if n, ok := cents(asked); ok && n != p.Amount {
		return "", refuse("PAA_ATTIVA_RPT_IMPORTO_NON_VALIDO", "the amount is not the position's")
	}
	if version == 1 && p.stamped() {
		return "", refuse("PAA_SEMANTICA", "a stamp is paid through paGetPaymentV2 only")
	}
	// From here on somebody is paying: the position must not be taken back.
	var now *soapFault
	p, err := c.change(ctx, p.IUV, func(row *position) error {
		now = nil
		if row == nil || row.Stage != open || row.Debtor == nil {
			now = refuse("PAA_PAGAMENTO_ANNULLATO", "the position was taken back")
			return fmt.Errorf("the position is not open")
		}
		row.Activated = c.clock.Now()
		return nil
	})
	if now != nil {
		return "", now
	}
	if err != nil {
		return "", c.failed(ctx, "noting that a position is being paid", err)
	}
	if err := c.table.Update(ctx, pendingRow+p.IUV, func([]byte) ([]byte, error) { return []byte{'1'}, nil }); err != nil {
		return "", c.failed(ctx, "noting that a position is being paid", err)
	}
	return c.payment(p, version), nil
}

func (c *Connector) payment(p *position, version int) string {
	var b strings.Builder
	b.WriteString("<data>" + element("creditorReferenceId", p.IUV) + element("paymentAmount", euros(p.Amount)) + element("dueDate", p.Due) +
		element("lastPayment", "true") + element("description", p.Description) + element("companyName", c.cfg.Company))
	if c.cfg.Office != "" {
		b.WriteString(element("officeName", c.cfg.Office))
	}
	b.WriteString("<debtor><uniqueIdentifier>" + element("entityUniqueIdentifierType", p.Debtor.kind()) + element("entityUniqueIdentifierValue", p.Debtor.Code) +
		"</uniqueIdentifier>" + element("fullName", p.Debtor.Name) + "</debtor><transferList>")
	for i, t := range p.Transfers {
		b.WriteString("<transfer>" + element("idTransfer", strconv.Itoa(i+1)) + element("transferAmount", euros(t.Amount)) + element("fiscalCodePA", t.Organisation))
		if version == 2 && t.Company != "" {
			b.WriteString(element("companyName", t.Company))
		}
		if t.Hash != "" {
			b.WriteString("<richiestaMarcaDaBollo>" + element("hashDocumento", base64Hash(t.Hash)) + element("tipoBollo", "01") +
				element("provinciaResidenza", t.Province) + "</richiestaMarcaDaBollo>")
		} else {
			b.WriteString(element("IBAN", t.IBAN))
		}
		b.WriteString(element("remittanceInformation", t.Description) + element("transferCategory", t.Category) + "</transfer>")
	}
	b.WriteString("</transferList></data>")
	return b.String()
}

// demandNotice opens a position for somebody who stands at a counter and has no
// notice (SANP, pagamento spontaneo presso PSP). GPD does not learn of it: our
// station answers for it.
func (c *Connector) demandNotice(ctx context.Context, el *xml.Element) (string, *soapFault) {
	s := xml.In(el)
	ours := c.who(s)
	id, subject := s.Text("", "idServizio", fiveForm), s.Text("", "idSoggettoServizio", fiveForm)
	data := s.Text("", "datiSpecificiServizioRequest", base64Text)
	if err := s.End(); err != nil {
		return "", syntax(err)
	}
	if f := ours(); f != nil {
		return "", f
	}
	i := slices.IndexFunc(c.cfg.Services, func(x service) bool { return x.ID == id && x.Subject == subject })
	if i < 0 {
		return "", refuse("PAA_SEMANTICA", "the creditor offers no such service")
	}
	raw, _ := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(data), ""))
	doc, err := xml.Parse(raw)
	if err != nil {
		return "", refuse("PAA_SINTASSI_EXTRAXSD", "datiSpecificiServizioRequest holds no well-formed XML")
	}
	sv := c.cfg.Services[i]
	p := &position{
		Stage: open, Demanded: true, Amount: sv.Amount, Description: sv.Description, Debtor: payerOf(doc),
		Due:         c.clock.Now().In(c.zone).AddDate(0, 0, 1).Format(time.DateOnly),
		CheckoutURL: c.base.String(),
		Transfers:   []transfer{{Amount: sv.Amount, Organisation: c.cfg.Creditor, Company: c.cfg.Company, IBAN: c.cfg.IBAN, Category: sv.Category}},
	}
	random, err := newIUV(c.cfg.Segregation)
	if err != nil {
		return "", c.failed(ctx, "opening a position that a counter demanded", err)
	}
	p.IUPD = iupdOf("demanded\x00" + random)
	// Nobody takes such a position back: who owes is forgotten by its last day.
	err = c.table.Update(ctx, demandedRow+p.IUPD, func([]byte) ([]byte, error) { return []byte(p.Due), nil })
	if err == nil {
		err = c.number(ctx, p)
	}
	if err != nil {
		return "", c.failed(ctx, "opening a position that a counter demanded", err)
	}
	return "<qrCode>" + element("fiscalCode", c.cfg.Creditor) + element("noticeNumber", p.notice()) + "</qrCode>" + c.offer(p), nil
}

// payerOf looks for who pays in a service's own document, where the catalogue's
// schemas name them so; they have no common one.
func payerOf(doc *xml.Element) *debtor {
	d := debtor{Code: anonymous, Name: anonymous}
	var walk func(e *xml.Element)
	walk = func(e *xml.Element) {
		v := strings.TrimSpace(e.Text)
		switch e.Name.Local {
		case "codiceFiscalePagatore", "codiceFiscale":
			if d.Code == anonymous && taxcode.Valid(v) {
				d.Code = v
			}
		case "denominazionePagatore":
			if d.Name == anonymous && text(1, 70)(v) {
				d.Name = v
			}
		}
		for _, k := range e.Children {
			walk(k)
		}
	}
	walk(doc)
	if d.Code != anonymous && d.Name == anonymous {
		d.Name = d.Code
	}
	return &d
}
