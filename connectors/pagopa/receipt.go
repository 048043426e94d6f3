package pagopa

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/xml"
)

// received is what we use of a receipt (ctReceipt, ctReceiptV2).
type received struct {
	id, notice, creditor, iuv, outcome string
	amount                             int
	transfers                          []receivedTransfer
	paidAt                             string // xsd:dateTime, "" where the PSP did not say
}

type receivedTransfer struct {
	id, organisation, iban string
	amount                 int
	attachment             []byte // of a stamp
}

// readReceipt reads ctReceipt (version 1) or ctReceiptV2. What is not used is held
// to its type all the same.
func readReceipt(el *xml.Element, version int) (*received, error) {
	s := xml.In(el)
	r := &received{id: s.Text("", "receiptId", text(1, 140)), notice: s.Text("", "noticeNumber", noticeNumber)}
	r.creditor, r.outcome, r.iuv = s.Text("", "fiscalCode", fiscalCodePA), s.Text("", "outcome", oneOf("OK", "KO")), s.Text("", "creditorReferenceId", text(1, 35))
	r.amount, _ = cents(s.Text("", "paymentAmount", amount))
	s.Text("", "description", text(1, 140))
	s.Text("", "companyName", text(1, 140))
	s.OptionalText("", "officeName", text(1, 140))
	subject(s, s.Take("", "debtor"))
	if list := s.Take("", "transferList"); list != nil {
		if n := len(list.Children); n == 0 || n > 5 {
			s.Failf("transferList holds %d transfers, not one to five", n)
		}
		in := xml.In(list)
		for range list.Children {
			t, err := readTransfer(in.Take("", "transfer"), version)
			if err != nil {
				s.Failf("%v", err)
			}
			r.transfers = append(r.transfers, t)
		}
		if err := in.End(); err != nil {
			s.Failf("%v", err)
		}
	}
	s.Text("", "idPSP", text(1, 35))
	s.OptionalText("", "pspFiscalCode", text(1, 70))
	s.OptionalText("", "pspPartitaIVA", text(1, 20))
	s.Text("", "PSPCompanyName", text(1, 70))
	s.Text("", "idChannel", text(1, 35))
	s.Text("", "channelDescription", text(1, 35))
	if payer := s.Optional("", "payer"); payer != nil {
		subject(s, payer)
	}
	s.OptionalText("", "paymentMethod", text(1, 35))
	if version == 2 {
		s.OptionalText("", "paymentNote", text(1, 210))
	}
	s.OptionalText("", "fee", amount)
	if version == 2 {
		s.OptionalText("", "primaryCiIncurredFee", amount)
		s.OptionalText("", "idBundle", text(1, 70))
		s.OptionalText("", "idCiBundle", text(1, 70))
	}
	r.paidAt = s.OptionalText("", "paymentDateTime", dateTime)
	s.OptionalText("", "applicationDate", date)
	s.OptionalText("", "transferDate", date)
	metadata(s)
	s.OptionalText("", "standIn", oneOf("true", "false", "1", "0"))
	return r, s.End()
}

func readTransfer(el *xml.Element, version int) (receivedTransfer, error) {
	s := xml.In(el)
	t := receivedTransfer{id: s.Text("", "idTransfer", transferForm)}
	t.amount, _ = cents(s.Text("", "transferAmount", positive))
	t.organisation = s.Text("", "fiscalCodePA", fiscalCodePA)
	if version == 2 {
		s.OptionalText("", "companyName", text(1, 140))
		if mbd := s.OptionalText("", "MBDAttachment", base64Text); mbd != "" {
			t.attachment, _ = base64.StdEncoding.DecodeString(strings.Join(strings.Fields(mbd), ""))
		}
	}
	if t.attachment == nil {
		t.iban = s.Text("", "IBAN", text(1, 35))
	}
	s.Text("", "remittanceInformation", text(1, 140))
	s.Text("", "transferCategory", text(1, 140))
	metadata(s)
	return t, s.End()
}

// subject reads ctSubject and keeps nothing of it: our own position says who owes.
func subject(of *xml.Sequence, el *xml.Element) {
	if el == nil {
		return
	}
	s := xml.In(el)
	id := xml.In(s.Take("", "uniqueIdentifier"))
	id.Text("", "entityUniqueIdentifierType", oneOf("F", "G"))
	id.Text("", "entityUniqueIdentifierValue", text(2, 16))
	if err := id.End(); err != nil {
		s.Failf("%v", err)
	}
	s.Text("", "fullName", text(1, 70))
	s.OptionalText("", "streetName", text(1, 70))
	s.OptionalText("", "civicNumber", text(1, 16))
	s.OptionalText("", "postalCode", text(1, 16))
	s.OptionalText("", "city", text(1, 35))
	s.OptionalText("", "stateProvinceRegion", text(1, 35))
	s.OptionalText("", "country", countryForm)
	s.OptionalText("", "e-mail", func(v string) bool { return len(v) <= 256 && emailForm(v) })
	if err := s.End(); err != nil {
		of.Failf("%v", err)
	}
}

func metadata(of *xml.Sequence) {
	el := of.Optional("", "metadata")
	if el == nil {
		return
	}
	s := xml.In(el)
	if n := len(el.Children); n == 0 || n > 15 {
		s.Failf("metadata holds %d entries, not one to fifteen", n)
	}
	for range el.Children {
		e := xml.In(s.Take("", "mapEntry"))
		e.Text("", "key", text(1, 140))
		e.Text("", "value", text(1, 140))
		if err := e.End(); err != nil {
			s.Failf("%v", err)
		}
	}
	if err := s.End(); err != nil {
		of.Failf("%v", err)
	}
}

// readReceiptDocument reads what the receipts' archive gives: the request of
// paSendRT or paSendRTV2 with which the receipt had come (assumed from the
// service's code: its OpenAPI says application/xml and no more).
func readReceiptDocument(b []byte) (*received, error) {
	el, err := xml.Parse(b)
	if err != nil {
		return nil, err
	}
	var version int
	switch el.Name {
	case xml.Name{Space: nodeSpace, Local: "paSendRTReq"}:
		version = 1
	case xml.Name{Space: nodeSpace, Local: "paSendRTV2Request"}:
		version = 2
	default:
		return nil, errors.New("its root is neither paSendRTReq nor paSendRTV2Request")
	}
	s := xml.In(el)
	for _, name := range []string{"idPA", "idBrokerPA", "idStation"} {
		s.Text("", name, text(1, 35))
	}
	receipt := s.Take("", "receipt")
	if err := s.End(); err != nil {
		return nil, err
	}
	return readReceipt(receipt, version)
}

// judge holds a receipt against our own position: who forges one would have to
// know all of it, and for a stamp hold a PSP's key.
func (c *Connector) judge(p *position, r *received) (*stamp, *soapFault) {
	bad := func(format string, args ...any) *soapFault {
		return refuse("PAA_SEMANTICA", fmt.Sprintf(format, args...))
	}
	switch {
	case r.creditor != c.cfg.Creditor:
		return nil, bad("the receipt is of another creditor than idPA")
	case r.iuv != p.IUV || r.notice != p.notice():
		return nil, bad("creditorReferenceId and noticeNumber are of different positions")
	case r.amount != p.Amount:
		return nil, bad("paymentAmount is not the position's")
	case len(r.transfers) != len(p.Transfers):
		return nil, bad("the receipt has %d transfers, the position %d", len(r.transfers), len(p.Transfers))
	}
	var found *stamp
	for i, want := range p.Transfers {
		got := r.transfers[i]
		if got.id != strconv.Itoa(i+1) || got.amount != want.Amount || got.organisation != want.Organisation || got.iban != want.IBAN {
			return nil, bad("transfer %d is not the position's", i+1)
		}
		if want.Hash == "" {
			continue
		}
		if got.attachment == nil {
			return nil, bad("transfer %d is a stamp's and has no MBDAttachment", i+1)
		}
		m, err := c.readStamp(got.attachment)
		switch {
		case err != nil:
			return nil, bad("the MBDAttachment of transfer %d does not hold: %v", i+1, err)
		case m.hash != want.Hash:
			return nil, bad("the stamp of transfer %d is of another document", i+1)
		case m.amount != want.Amount:
			return nil, bad("the stamp of transfer %d has another price", i+1)
		}
		found = m
	}
	return found, nil
}

// eventID is the same for a receipt however often it comes.
func (c *Connector) eventID(receipt string) string {
	sum := sha256.Sum256([]byte("pagopa.receipt\x00" + c.cfg.Creditor + "\x00" + receipt))
	return "pagopa-" + hex.EncodeToString(sum[:16])
}

const receiptEvent = "pagopa.receipt"

func (c *Connector) event(p *position, r *received, m *stamp) map[string]any {
	at, ok := c.instant(r.paidAt)
	if !ok {
		at = c.clock.Now()
	}
	e := map[string]any{
		"iuv": p.IUV, "notice_number": p.notice(), "receipt_id": r.id, "amount": p.Amount, "paid_at": at.UTC().Format(time.RFC3339),
	}
	if m != nil {
		e["stamp"] = base64.StdEncoding.EncodeToString(m.raw)
	}
	return e
}

// errRefused carries a refusal out of a change of a row.
type errRefused struct{ why *soapFault }

func (errRefused) Error() string { return "refused" }

// takeReceipt takes paSendRT and paSendRTV2. The position is claimed for the
// receipt first, so that nothing else happens to it; then the event is published;
// then the position is paid. A crash in between is mended by the node's next
// attempt: the event's id is the same. OK is said when all of it is durable.
func (c *Connector) takeReceipt(ctx context.Context, el *xml.Element, version int, publish connectors.Publish) *soapFault {
	s := xml.In(el)
	ours := c.who(s)
	part := s.Take("", "receipt")
	if err := s.End(); err != nil {
		return syntax(err)
	}
	r, err := readReceipt(part, version)
	if err != nil {
		return syntax(err)
	}
	if f := ours(); f != nil {
		return f
	}
	iuv := iuvOf(r.notice, c.cfg.Segregation)
	if iuv == "" {
		return refuse("PAA_PAGAMENTO_SCONOSCIUTO", "the notice number is none of this station's")
	}
	p, err := c.load(ctx, iuv)
	if err != nil {
		return c.failed(ctx, "reading a position", err)
	}
	if p == nil || p.Stage == opening {
		return refuse("PAA_PAGAMENTO_SCONOSCIUTO", "no position has this notice number")
	}
	if r.outcome != "OK" {
		return c.notPaid(ctx, p, r)
	}
	return c.settle(ctx, p, r, publish)
}

// settle takes a receipt of a position, from the node or from the archive.
func (c *Connector) settle(ctx context.Context, p *position, r *received, publish connectors.Publish) *soapFault {
	m, f := c.judge(p, r)
	if f != nil {
		return f
	}
	if m != nil {
		if f := c.single(ctx, m, p.IUV); f != nil {
			return f
		}
	}
	p, err := c.change(ctx, p.IUV, func(row *position) error { return claim(row, r.id) })
	if f := refusalIn(err); f != nil {
		return f
	}
	if err != nil {
		return c.failed(ctx, "taking a receipt", err)
	}
	if p.Stage == paid {
		return nil // it was taken before, and our answer was lost
	}
	if err := publish(ctx, receiptEvent, c.eventID(r.id), c.event(p, r, m)); err != nil {
		return c.failed(ctx, "publishing a receipt", err)
	}
	if _, err := c.change(ctx, p.IUV, func(row *position) error {
		row.Stage = paid
		row.forget()
		return nil
	}); err != nil {
		return c.failed(ctx, "noting that a position is paid", err)
	}
	return nil
}

// claim binds a position to a receipt, unless its state forbids it.
func claim(row *position, receipt string) error {
	switch {
	case row == nil:
		return errRefused{refuse("PAA_PAGAMENTO_SCONOSCIUTO", "no position has this notice number")}
	case row.Receipt != "" && row.Receipt != receipt:
		return errRefused{refuse("PAA_RECEIPT_DUPLICATA", "another receipt of this position was taken")}
	case row.Stage == closed:
		return errRefused{refuse("PAA_PAGAMENTO_ANNULLATO", "the position was taken back")}
	case row.Stage == closing:
		// GPD has the last word whether it is closed: until then the node keeps the receipt.
		return errRefused{refuse("PAA_SYSTEM_ERROR", "the position is just being taken back")}
	case row.Stage == open:
		row.Stage, row.Receipt = receiving, receipt
	}
	return nil
}

func refusalIn(err error) *soapFault {
	var r errRefused
	if errors.As(err, &r) {
		return r.why
	}
	return nil
}

// notPaid notes that a payment that had begun did not come about.
func (c *Connector) notPaid(ctx context.Context, p *position, r *received) *soapFault {
	if r.iuv != p.IUV || r.creditor != c.cfg.Creditor {
		return refuse("PAA_SEMANTICA", "creditorReferenceId and noticeNumber are of different positions")
	}
	if _, err := c.change(ctx, p.IUV, func(row *position) error {
		if row.Stage == open {
			row.Activated = time.Time{}
		}
		return nil
	}); err != nil {
		return c.failed(ctx, "noting that a payment failed", err)
	}
	return nil
}

// single sees to it that one stamp pays for one position.
func (c *Connector) single(ctx context.Context, m *stamp, iuv string) *soapFault {
	sum := sha256.Sum256([]byte(m.iubd))
	err := c.table.Update(ctx, "iubd/"+hex.EncodeToString(sum[:16]), func(old []byte) ([]byte, error) {
		if old != nil && string(old) != iuv {
			return nil, errRefused{refuse("PAA_SEMANTICA", "the stamp's IUBD was used for another position")}
		}
		return []byte(iuv), nil
	})
	if f := refusalIn(err); f != nil {
		return f
	}
	if err != nil {
		return c.failed(ctx, "noting a stamp", err)
	}
	return nil
}
