package pagopa

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/document/notice"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/taxcode"
)

// busy is how long a position that the node fetched counts as being paid: a
// payment token lives 30 minutes (SANP, activatePaymentNotice, expirationTime).
const busy = 30 * time.Minute

// asked makes a position of an operation's arguments.
func (c *Connector) asked(args map[string]any, now time.Time) (*position, error) {
	str := func(m map[string]any, k string) string { s, _ := m[k].(string); return s }
	num := func(m map[string]any, k string) int { n, _ := m[k].(int); return n }
	wrong := func(pointer, format string, a ...any) error {
		return &fault.Error{Kind: fault.Invalid, Pointer: pointer, Detail: fmt.Sprintf(format, a...)}
	}
	p := &position{Stage: opening, Description: str(args, "description"), Due: str(args, "due"), Debtor: &debtor{Code: str(args, "payer"), Name: str(args, "payer_name")}}
	if !taxcode.Valid(p.Debtor.Code) {
		return nil, wrong("/payer", "the payer's codice fiscale is not valid")
	}
	if p.Debtor.Name == "" {
		p.Debtor.Name = p.Debtor.Code // fullName is required, and who asks may know the code alone
	}
	stamp, _ := args["stamp"].(map[string]any)
	if stamp != nil {
		hash := str(stamp, "document_hash")
		if b, err := hex.DecodeString(hash); err != nil || len(b) != 32 {
			return nil, wrong("/stamp/document_hash", "a stamp is bound to a SHA-256, 64 hexadecimal digits")
		}
		p.Transfers = append(p.Transfers, transfer{
			Amount: c.cfg.StampPrice, Organisation: c.cfg.Creditor, Company: c.cfg.Company, Hash: hash, Province: str(stamp, "province"), Category: c.cfg.StampTax,
		})
	}
	parts, _ := args["transfers"].([]any)
	sum := 0
	for _, x := range parts {
		m, _ := x.(map[string]any)
		t := transfer{Amount: num(m, "amount"), Organisation: str(m, "organisation"), Company: str(m, "company"), IBAN: str(m, "iban"), Category: str(m, "category"), Description: str(m, "description")}
		if t.Organisation == "" {
			t.Organisation, t.Company = c.cfg.Creditor, c.cfg.Company
		}
		if t.IBAN == "" {
			if t.Organisation != c.cfg.Creditor {
				return nil, wrong("/transfers", "a transfer to another organisation names its IBAN")
			}
			t.IBAN = c.cfg.IBAN
		}
		if t.Category == "" {
			t.Category = c.cfg.Category
		}
		p.Transfers = append(p.Transfers, t)
		sum += t.Amount
	}
	switch amount := num(args, "amount"); {
	case amount > 0 && len(parts) > 0 && amount != sum:
		return nil, wrong("/amount", "the transfers do not sum up to the amount")
	case amount > 0 && len(parts) == 0:
		p.Transfers = append(p.Transfers, transfer{Amount: amount, Organisation: c.cfg.Creditor, Company: c.cfg.Company, IBAN: c.cfg.IBAN, Category: c.cfg.Category})
	}
	for _, t := range p.Transfers {
		p.Amount += t.Amount
	}
	switch {
	case len(p.Transfers) == 0:
		return nil, wrong("/amount", "there is nothing to pay: give `amount`, `stamp` or `transfers`")
	case len(p.Transfers) > 5:
		return nil, wrong("/transfers", "a position has five transfers at most, its stamp among them")
	case p.Amount > maxCents:
		return nil, wrong("/amount", "the amount is beyond what pagoPA carries")
	}
	if p.Description == "" {
		p.Description = "Pagamento a favore di " + c.cfg.Company
		if stamp != nil {
			p.Description = "Imposta di bollo"
		}
		p.Description = cut(p.Description, 140)
	}
	if p.Due == "" {
		p.Due = now.In(c.zone).AddDate(0, 0, c.cfg.DueDays).Format(time.DateOnly)
	}
	if _, err := time.Parse(time.DateOnly, p.Due); err != nil || c.expired(p, now) {
		return nil, wrong("/due", "the last day is no date or is past")
	}
	return p, nil
}

func result(p *position, state string) map[string]any {
	return map[string]any{"iuv": p.IUV, "notice_number": p.notice(), "amount": p.Amount, "state": state, "checkout_url": p.CheckoutURL}
}

// openPosition takes a number, publishes the position at GPD and makes a page of
// Checkout. The number is durable under the call's key first: a repetition sends
// the same position, which GPD then knows.
func (c *Connector) openPosition(ctx context.Context, call connectors.Call) (any, error) {
	want, err := c.asked(call.Args, c.clock.Now())
	if err != nil {
		return nil, err
	}
	want.IUPD = iupdOf(call.Key)
	for range 3 {
		p, err := c.claimed(ctx, want)
		if err != nil {
			return nil, unavailable(storeFails, err)
		}
		s, taken, err := c.create(ctx, p, call.Key)
		if err != nil {
			return nil, err
		}
		if taken {
			s, err = c.look(ctx, p.IUPD)
			switch f := fault.From(err); {
			case err == nil && s.iuv == p.IUV:
			case err == nil:
				return nil, &fault.Error{Kind: fault.Conflict, Sent: true, Detail: "GPD has another position under this identifier"}
			case f.Kind == fault.NotFound:
				// The number is another's at GPD: one that this store has lost.
				if err := c.table.Update(ctx, iupdRow+p.IUPD, func([]byte) ([]byte, error) { return nil, nil }); err != nil {
					return nil, unavailable(storeFails, err)
				}
				continue
			default:
				return nil, doubt(f)
			}
		}
		return c.opened(ctx, p, s)
	}
	return nil, &fault.Error{Kind: fault.Conflict, Sent: true, Detail: "GPD knows every number that was tried: another system uses this segregation code"}
}

// doubt is a failure behind an effect that has, or may have, happened: the engine
// must ask again, never take it for undone.
func doubt(f *fault.Error) *fault.Error {
	switch f.Kind {
	case fault.Timeout, fault.Unavailable, fault.Throttled:
		return &fault.Error{Kind: fault.Unknown, Sent: true, Detail: "the position is open, what follows it is not known: " + f.Detail, Err: f}
	}
	g := *f
	g.Sent = true
	return &g
}

// claimed is the position of want's IUPD, numbered now unless it was before.
func (c *Connector) claimed(ctx context.Context, want *position) (*position, error) {
	iuv, err := c.numberOf(ctx, want.IUPD)
	if err != nil {
		return nil, err
	}
	if iuv != "" {
		p, err := c.load(ctx, iuv)
		if err != nil {
			return nil, err
		}
		if p != nil {
			if p.Debtor == nil {
				p.Debtor = want.Debtor // forgotten since; GPD only compares the IUPD
			}
			return p, nil
		}
	}
	p := *want
	return &p, c.number(ctx, &p)
}

// opened notes that GPD has a position and sees to its page of Checkout.
func (c *Connector) opened(ctx context.Context, p *position, s stands) (any, error) {
	page := p.CheckoutURL
	if page == "" && s.status == "VALID" {
		var err error
		if page, err = c.cart(ctx, p); err != nil {
			return nil, c.withdraw(ctx, p, fault.From(err))
		}
	}
	if page == "" { // closed or expired before anybody was sent to it
		page = c.base.String()
	}
	after, err := c.change(ctx, p.IUV, func(row *position) error {
		if row == nil {
			return fmt.Errorf("the position is gone")
		}
		switch {
		case row.Stage == opening && s.status == "INVALID":
			row.Stage = closed
			row.forget()
		case row.Stage == opening:
			row.Stage = open
		}
		if row.CheckoutURL == "" {
			row.CheckoutURL = page
		}
		return nil
	})
	if err != nil {
		return nil, doubt(unavailable(storeFails, err))
	}
	return result(after, s.status), nil
}

// withdraw takes a position back for which Checkout gave no page and will give
// none, so that no debt stays that nobody knows of.
func (c *Connector) withdraw(ctx context.Context, p *position, why *fault.Error) error {
	if f := doubt(why); f.Kind == fault.Unknown {
		return f
	}
	if _, err := c.invalidate(ctx, p.IUPD, p.IUPD); err != nil {
		return &fault.Error{Kind: fault.Unknown, Sent: true, Detail: "Checkout gave no page, and whether the position was taken back is not known", Err: err}
	}
	if _, err := c.change(ctx, p.IUV, func(row *position) error {
		row.Stage = closed
		row.forget()
		return nil
	}); err != nil {
		return doubt(unavailable(storeFails, err))
	}
	f := *why
	f.Sent = true
	return &f
}

// position tells the state at GPD. With a key it is the engine that asks whether
// an open_position happened.
func (c *Connector) position(ctx context.Context, call connectors.Call) (any, error) {
	if call.Key != "" {
		return c.found(ctx, iupdOf(call.Key))
	}
	p, err := c.known(ctx, call.Args)
	if err != nil {
		return nil, err
	}
	if p.Demanded {
		return result(p, c.ownState(p)), nil
	}
	s, err := c.look(ctx, p.IUPD)
	if err != nil {
		return nil, err
	}
	if p.CheckoutURL == "" {
		return c.opened(ctx, p, s)
	}
	return result(p, s.status), nil
}

// ownState is the state, in GPD's words, of a position that GPD does not have.
func (c *Connector) ownState(p *position) string {
	switch {
	case p.Stage == paid || p.Stage == receiving:
		return "PAID"
	case p.Stage == closed:
		return "INVALID"
	case c.expired(p, c.clock.Now()):
		return "EXPIRED"
	}
	return "VALID"
}

func (c *Connector) found(ctx context.Context, iupd string) (any, error) {
	iuv, err := c.numberOf(ctx, iupd)
	if err != nil {
		return nil, unavailable(storeFails, err)
	}
	s, err := c.look(ctx, iupd)
	if err != nil {
		return nil, err
	}
	p, err := c.load(ctx, iuv)
	if err != nil {
		return nil, unavailable(storeFails, err)
	}
	if p == nil || s.iuv != iuv {
		return nil, &fault.Error{Kind: fault.Conflict, Sent: true, Detail: "GPD has a position of this effect that our own store does not know"}
	}
	return c.opened(ctx, p, s)
}

// known is the position of the argument iuv.
func (c *Connector) known(ctx context.Context, args map[string]any) (*position, error) {
	iuv, _ := args["iuv"].(string)
	var p *position
	if iuvOf(auxDigit+iuv, c.cfg.Segregation) != "" {
		var err error
		if p, err = c.load(ctx, iuv); err != nil {
			return nil, unavailable(storeFails, err)
		}
	}
	if p == nil {
		return nil, &fault.Error{Kind: fault.NotFound, Name: "no_position", Detail: "no position has this IUV"}
	}
	return p, nil
}

// closePosition takes a position back. It begins on our side, so that no receipt
// can come in between, and goes on at GPD, which has the last word.
func (c *Connector) closePosition(ctx context.Context, call connectors.Call) (any, error) {
	p, err := c.known(ctx, call.Args)
	if err != nil {
		return nil, err
	}
	now := c.clock.Now()
	before := p.Stage
	p, err = c.change(ctx, p.IUV, func(row *position) error {
		before = row.Stage
		switch {
		case row.Stage == paid || row.Stage == receiving:
			return alreadyPaid(false)
		case row.Stage == open && !row.Activated.IsZero() && now.Sub(row.Activated) < busy:
			return &fault.Error{Kind: fault.Unavailable, RetryAfter: busy - now.Sub(row.Activated), Detail: "the position is being paid"}
		case row.Stage == open || row.Stage == opening:
			row.Stage = closing
		}
		return nil
	})
	if err != nil {
		return nil, orStore(err)
	}
	if !p.Demanded {
		refused, err := c.invalidate(ctx, p.IUPD, call.Key)
		if err != nil {
			// Nothing was done, or what was done is not known: it is asked again under
			// the same key. Until then the node is told that it can't be paid, unless
			// GPD surely still offers it.
			if f := fault.From(err); !f.Sent || f.Kind == fault.Denied || f.Kind == fault.Invalid {
				c.reopen(ctx, p.IUV, before)
			}
			return nil, err
		}
		if refused {
			if f := c.refusedToClose(ctx, p, before); f != nil {
				return nil, f
			}
		}
	}
	p, err = c.change(ctx, p.IUV, func(row *position) error {
		if row.Stage == closing || row.Stage == opening || row.Stage == open {
			row.Stage = closed
			row.forget()
		}
		return nil
	})
	if err != nil {
		return nil, doubt(unavailable(storeFails, err))
	}
	if p.CheckoutURL == "" {
		p.CheckoutURL = c.base.String()
	}
	return result(p, "INVALID"), nil
}

func orStore(err error) error {
	if f := fault.From(err); f.Kind != fault.Internal {
		return f
	}
	return unavailable(storeFails, err)
}

func alreadyPaid(sent bool) *fault.Error {
	return &fault.Error{Kind: fault.Conflict, Name: "already_paid", Sent: sent, Detail: "the position is paid"}
}

// refusedToClose asks why GPD answered 409: nil where the position can't be paid
// any more, as was wanted.
func (c *Connector) refusedToClose(ctx context.Context, p *position, before stage) error {
	s, err := c.look(ctx, p.IUPD)
	if err != nil {
		return doubt(fault.From(err))
	}
	switch s.status {
	case "INVALID", "EXPIRED":
		return nil
	}
	// GPD refuses to invalidate what is paid or closed. One that still reads VALID
	// has been overtaken by a payment that is not written yet.
	c.reopen(ctx, p.IUV, before)
	return alreadyPaid(true)
}

// reopen puts a position that was not closed back to where it was, so that its
// receipt is taken.
func (c *Connector) reopen(ctx context.Context, iuv string, before stage) {
	if before == closing {
		before = open
	}
	if _, err := c.change(ctx, iuv, func(row *position) error {
		if row.Stage == closing {
			row.Stage = before
		}
		return nil
	}); err != nil {
		c.log().ErrorContext(ctx, "a position that was not closed can't be opened again; the next attempt to close it will settle it", "iuv", iuv, "error", err)
	}
}

func (c *Connector) checkout(ctx context.Context, call connectors.Call) (any, error) {
	p, err := c.known(ctx, call.Args)
	if err != nil {
		return nil, err
	}
	if p.Stage != open || c.expired(p, c.clock.Now()) {
		return nil, fault.New(fault.Conflict, "the position can't be paid: it is paid, closed or expired")
	}
	page, err := c.cart(ctx, p)
	if err != nil {
		return nil, err
	}
	return map[string]any{"checkout_url": page}, nil
}

func (c *Connector) receipt(ctx context.Context, call connectors.Call) (any, error) {
	p, err := c.known(ctx, call.Args)
	if err != nil {
		f := fault.From(err)
		if f.Kind == fault.NotFound {
			f.Name = "no_receipt"
		}
		return nil, f
	}
	r, err := c.fetchReceipt(ctx, p)
	if err != nil {
		return nil, err
	}
	stamp, why := c.judge(p, r)
	if why != nil {
		return nil, &fault.Error{Kind: fault.Contract, Sent: true, Detail: "the archive's receipt does not fit the position: " + why.description}
	}
	return c.event(p, r, stamp), nil
}

// fetchReceipt reads a position's receipt from the platform's archive.
func (c *Connector) fetchReceipt(ctx context.Context, p *position) (*received, error) {
	resp, err := c.call(ctx, request{method: http.MethodGet, path: receiptsPath + c.cfg.Creditor + "/receipts/" + url.PathEscape(p.IUV), accept: "application/xml"})
	if err != nil {
		return nil, err
	}
	if resp.Status != http.StatusOK {
		f := refusal(resp, true)
		if f.Kind == fault.NotFound {
			f.Name, f.Detail = "no_receipt", "the platform has no receipt of this IUV"
		}
		return nil, f
	}
	r, err := readReceiptDocument(resp.Body)
	if err != nil {
		return nil, broken(resp, "the receipt can't be read: "+err.Error())
	}
	if r.iuv != p.IUV {
		return nil, broken(resp, "the receipt is not of this position")
	}
	return r, nil
}

func (c *Connector) noticePDF(ctx context.Context, call connectors.Call) (any, error) {
	p, err := c.known(ctx, call.Args)
	if err != nil {
		return nil, err
	}
	if p.stamped() {
		return nil, fault.New(fault.Rejected, "a digital stamp is bought through the city's own page, not by a printed notice")
	}
	state := c.ownState(p)
	if !p.Demanded {
		s, err := c.look(ctx, p.IUPD)
		if err != nil {
			return nil, err
		}
		state = s.status
	}
	if state != "VALID" || p.Debtor == nil {
		return nil, fault.New(fault.Conflict, "the position can't be paid: its state is %s", state)
	}
	due, err := time.Parse(time.DateOnly, p.Due)
	if err != nil {
		return nil, fault.From(err)
	}
	pdf, err := notice.PDF(notice.Notice{
		Creditor: c.cfg.Company, Office: c.cfg.Office, CreditorCode: c.cfg.Creditor, CBILL: c.cfg.CBILL,
		Payer: p.Debtor.Name, PayerCode: p.Debtor.Code, Subject: p.Description, Number: p.notice(), AmountCent: p.Amount, Due: due,
	})
	if err != nil {
		return nil, &fault.Error{Kind: fault.Internal, Detail: "the notice can't be printed", Err: err}
	}
	return map[string]any{"file_name": "avviso-" + p.notice() + ".pdf", "pdf": base64.StdEncoding.EncodeToString(pdf)}, nil
}
