package pagopa

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// The node's waiting times towards a creditor (SANP 3.10).
const (
	emAskFor     = 7 * time.Second  // paVerifyPaymentNotice, paGetPaymentV2
	emReceiptFor = 15 * time.Second // paSendRTV2
	emSlot       = 2 * time.Second  // a receipt comes again after slot * (2^k - 1)
	emLongest    = 10 * time.Minute
)

const emSpace = "http://pagopa-api.pagopa.gov.it/pa/paForNode.xsd"

// emFault is why the node can't go on: its own fault, or the creditor's.
type emFault struct{ code, description string }

// emReply is a response of the station (ctResponse and what the three add).
type emReply struct {
	Outcome string `xml:"outcome"`
	Fault   *struct {
		Code        string `xml:"faultCode"`
		Description string `xml:"description"`
		ID          string `xml:"id"`
	} `xml:"fault"`
	PaymentList struct {
		Option []struct {
			Amount  string `xml:"amount"`
			Options string `xml:"options"`
		} `xml:"paymentOptionDescription"`
	} `xml:"paymentList"`
	PaymentDescription string  `xml:"paymentDescription"`
	CompanyName        string  `xml:"companyName"`
	FiscalCodePA       string  `xml:"fiscalCodePA"`
	Data               *emData `xml:"data"`
}

type emData struct {
	CreditorReferenceID string `xml:"creditorReferenceId"`
	PaymentAmount       string `xml:"paymentAmount"`
	DueDate             string `xml:"dueDate"`
	Description         string `xml:"description"`
	CompanyName         string `xml:"companyName"`
	Debtor              struct {
		Kind string `xml:"uniqueIdentifier>entityUniqueIdentifierType"`
		Code string `xml:"uniqueIdentifier>entityUniqueIdentifierValue"`
		Name string `xml:"fullName"`
	} `xml:"debtor"`
	Transfers []struct {
		ID          string `xml:"idTransfer"`
		Amount      string `xml:"transferAmount"`
		FiscalCode  string `xml:"fiscalCodePA"`
		CompanyName string `xml:"companyName"`
		IBAN        string `xml:"IBAN"`
		Stamp       *struct {
			Hash     string `xml:"hashDocumento"`
			Type     string `xml:"tipoBollo"`
			Province string `xml:"provinciaResidenza"`
		} `xml:"richiestaMarcaDaBollo"`
		Remittance string `xml:"remittanceInformation"`
		Category   string `xml:"transferCategory"`
	} `xml:"transferList>transfer"`
}

func emEscape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a strings.Builder takes all
	return b.String()
}

func emTag(name, text string) string { return "<" + name + ">" + emEscape(text) + "</" + name + ">" }

func emAmount(cents int) string { return fmt.Sprintf("%d.%02d", cents/100, cents%100) }

// ask calls the station. The body is the inside of the request's element.
func (e *Emulator) ask(ctx context.Context, s *emStation, action, element, body string, patience time.Duration) (*emReply, *emFault) {
	if s.SoapURL == "" {
		return nil, &emFault{"PPT_STAZIONE_INT_PA_SCONOSCIUTA", "the station has no address"}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	text := `<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:paf="` + emSpace + `"><soapenv:Header/><soapenv:Body><paf:` +
		element + `>` + body + `</paf:` + element + `></soapenv:Body></soapenv:Envelope>`
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.SoapURL, strings.NewReader(text))
	if err != nil {
		return nil, &emFault{"PPT_STAZIONE_INT_PA_SCONOSCIUTA", "the station's address is none"}
	}
	r.Header.Set("Content-Type", "text/xml; charset=utf-8")
	r.Header.Set("SOAPAction", `"`+action+`"`)
	resp, err := e.http.Do(r)
	if err != nil {
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return nil, &emFault{"PPT_STAZIONE_INT_PA_TIMEOUT", "the station did not answer in time"}
		}
		return nil, &emFault{"PPT_STAZIONE_INT_PA_ERRORE_RESPONSE", "the station can't be reached"}
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, &emFault{"PPT_STAZIONE_INT_PA_TIMEOUT", "the station's answer broke off"}
	}
	reply, why := judgeReply(resp.StatusCode, resp.Header.Get("Content-Type"), b, action)
	if why != "" {
		return nil, &emFault{"PPT_STAZIONE_INT_PA_ERRORE_RESPONSE", why}
	}
	if reply.Outcome == "KO" {
		return reply, &emFault{reply.Fault.Code, reply.Fault.Description}
	}
	return reply, nil
}

// emResponses names each action's response.
func emResponse(action string) string {
	switch action {
	case "paVerifyPaymentNotice":
		return "paVerifyPaymentNoticeRes"
	case "paGetPaymentV2":
		return "paGetPaymentV2Response"
	}
	return "paSendRTV2Response"
}

// judgeReply reads an answer of the station and says what breaks the contract.
func judgeReply(status int, kind string, b []byte, action string) (*emReply, string) {
	if status != http.StatusOK {
		return nil, fmt.Sprintf("the station answered with the status %d", status)
	}
	if !strings.HasPrefix(kind, "text/xml") && !strings.HasPrefix(kind, "application/soap+xml") {
		return nil, "the station's answer is no XML"
	}
	el, why := oneReply(b)
	switch {
	case why != "":
		return nil, why
	case el.name != xml.Name{Space: emSpace, Local: emResponse(action)}:
		return nil, "the station answered another question"
	}
	if why := judgeShape(el, emShapeOf(action)); why != "" {
		return nil, why
	}
	var envelope struct {
		Body struct {
			Reply emReply `xml:",any"`
		} `xml:"http://schemas.xmlsoap.org/soap/envelope/ Body"`
	}
	if err := xml.Unmarshal(b, &envelope); err != nil {
		return nil, "the station's answer is not well formed"
	}
	r := &envelope.Body.Reply
	switch {
	case r.Outcome == "KO" && (r.Fault == nil || !strings.HasPrefix(r.Fault.Code, "PAA_")):
		return nil, "a KO has no fault of the creditor's"
	case r.Outcome == "OK" && r.Fault != nil:
		return nil, "an OK has a fault"
	}
	return r, ""
}

// switched is a fault that the operator of the city wants the node to show.
func (e *Emulator) switched() *emFault {
	for _, f := range emNodeFaults() {
		if (strings.HasPrefix(f, "PPT_") || strings.HasPrefix(f, "PAA_")) && e.cfg.On("node."+f) {
			return &emFault{f, "switched on by the operator of the city"}
		}
	}
	return nil
}

func (e *Emulator) stationOf(org string) *emStation {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mem == nil {
		return nil
	}
	return e.mem.stations[org]
}

func emWho(s *emStation, notice string) string {
	return emTag("idPA", s.IDPA) + emTag("idBrokerPA", s.IDBrokerPA) + emTag("idStation", s.IDStation) +
		"<qrCode>" + emTag("fiscalCode", s.IDPA) + emTag("noticeNumber", notice) + "</qrCode>"
}

type emVerified struct {
	amount               int
	company, description string
}

// verify is paVerifyPaymentNotice: what the creditor says of a notice.
func (e *Emulator) verify(ctx context.Context, org, notice string) (v emVerified, f *emFault) {
	if f := e.switched(); f != nil {
		return v, f
	}
	s := e.stationOf(org)
	if s == nil {
		return v, &emFault{"PPT_DOMINIO_SCONOSCIUTO", "no station serves this creditor"}
	}
	r, f := e.ask(ctx, s, "paVerifyPaymentNotice", "paVerifyPaymentNoticeReq", emWho(s, notice), emAskFor)
	if f != nil {
		return v, f
	}
	v, why := judgeVerify(r, s)
	if why != "" {
		return v, &emFault{"PPT_STAZIONE_INT_PA_ERRORE_RESPONSE", why}
	}
	return v, nil
}

func judgeVerify(r *emReply, s *emStation) (v emVerified, why string) {
	if len(r.PaymentList.Option) != 1 {
		return v, "an OK names one option"
	}
	amount, ok := emCents(r.PaymentList.Option[0].Amount)
	switch {
	case !ok:
		return v, "the amount is none"
	case r.PaymentList.Option[0].Options != "EQ":
		return v, "the amount must be equal"
	case r.FiscalCodePA != "" && r.FiscalCodePA != s.IDPA:
		return v, "the creditor is another one"
	case !emText(r.CompanyName, 1, 140):
		return v, "the creditor has no name"
	}
	return emVerified{amount, r.CompanyName, r.PaymentDescription}, ""
}

// emCents reads \d+\.\d{2}, not zero.
func emCents(s string) (int, bool) {
	whole, part, ok := strings.Cut(s, ".")
	if !ok || len(part) != 2 || whole == "" || len(whole) > 9 || !emDigits(whole, len(whole)) || !emDigits(part, 2) {
		return 0, false
	}
	n := 0
	for _, c := range whole + part {
		n = n*10 + int(c-'0')
	}
	return n, n > 0
}

// judgePayment holds what paGetPaymentV2 answered against itself and against the
// position of GPD, where the notice has one.
func judgePayment(r *emReply, s *emStation, notice string, p *emPosition) (total int, why string) {
	d := r.Data
	if d == nil {
		return 0, "an OK has no data"
	}
	total, ok := emCents(d.PaymentAmount)
	switch {
	case d.CreditorReferenceID != notice[1:]:
		return 0, "creditorReferenceId is not the notice's IUV"
	case !ok:
		return 0, "paymentAmount is none"
	case !emText(d.Description, 1, 140) || !emText(d.CompanyName, 1, 140):
		return 0, "description and companyName must have 1 to 140 characters"
	case d.Debtor.Kind != "F" && d.Debtor.Kind != "G" || d.Debtor.Code == "" || d.Debtor.Name == "":
		return 0, "the debtor is not whole"
	case len(d.Transfers) < 1 || len(d.Transfers) > 5:
		return 0, "there must be 1 to 5 transfers"
	}
	if _, err := time.Parse(time.DateOnly, d.DueDate); err != nil {
		return 0, "dueDate is no date"
	}
	sum := 0
	for i, t := range d.Transfers {
		n, ok := emCents(t.Amount)
		switch {
		case !ok:
			return 0, "a transfer has no amount"
		case t.ID != fmt.Sprint(i+1):
			return 0, "the transfers are not numbered from 1"
		case !emDigits(t.FiscalCode, 11):
			return 0, "a transfer has no fiscalCodePA"
		case (t.IBAN == "") == (t.Stamp == nil):
			return 0, "a transfer has an IBAN or a stamp"
		case t.IBAN != "" && !emIBAN(t.IBAN):
			return 0, "an IBAN is not valid"
		case t.Remittance == "" || t.Category == "":
			return 0, "a transfer lacks remittanceInformation or transferCategory"
		}
		if t.Stamp != nil {
			if b, err := base64.StdEncoding.DecodeString(t.Stamp.Hash); err != nil || len(b) != 32 || t.Stamp.Type != "01" || len(t.Stamp.Province) != 2 {
				return 0, "richiestaMarcaDaBollo is not valid"
			}
		}
		sum += n
	}
	if sum != total {
		return 0, "the transfers do not sum up to the amount"
	}
	if p == nil {
		return total, ""
	}
	o := p.option()
	if o.Amount != total || len(o.Transfer) != len(d.Transfers) {
		return 0, "the station and GPD name different amounts"
	}
	for i, t := range d.Transfers {
		g := o.Transfer[i]
		n, _ := emCents(t.Amount)
		if n != g.Amount || t.IBAN != g.IBAN || (t.Stamp != nil) != (g.Stamp != nil) || t.Stamp != nil && t.Stamp.Hash != g.Stamp.HashDocument {
			return 0, "the station and GPD name different transfers"
		}
	}
	return total, ""
}

// settle activates a payment, carries it out and owes the creditor its receipt.
func (e *Emulator) settle(ctx context.Context, org, notice string, amount int) *emFault {
	if f := e.switched(); f != nil {
		return f
	}
	s := e.stationOf(org)
	if s == nil {
		return &emFault{"PPT_DOMINIO_SCONOSCIUTO", "no station serves this creditor"}
	}
	body := emWho(s, notice)
	if amount > 0 {
		body += emTag("amount", emAmount(amount))
	}
	r, f := e.ask(ctx, s, "paGetPaymentV2", "paGetPaymentV2Request", body, emAskFor)
	if f != nil {
		return f
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mem == nil {
		return &emFault{"PPT_SYSTEM_ERROR", "the node is ending"}
	}
	p := e.mem.notices[org+"/"+notice]
	if p != nil && e.stateOf(p) != "VALID" {
		return &emFault{"PPT_ERRORE_EMESSO_DA_PAA", "GPD has the position as " + e.stateOf(p)}
	}
	total, why := judgePayment(r, s, notice, p)
	if why == "" && amount > 0 && total != amount {
		why = "the amount is another one than was verified"
	}
	if why != "" {
		return &emFault{"PPT_STAZIONE_INT_PA_ERRORE_RESPONSE", why}
	}
	now := e.cfg.Clock.Now()
	pay := &emPayment{Notice: notice, Org: org, IUV: notice[1:], ReceiptID: emRandom(), At: now}
	receipt, err := e.receipt(s, pay, r.Data, total)
	if err != nil {
		e.cfg.Log.Error("writing a receipt", "connector", e.name, "error", err)
		return &emFault{"PPT_SYSTEM_ERROR", "the receipt can't be written"}
	}
	pay.Receipt = receipt
	first := time.Duration(0)
	if e.cfg.On("node.receipt-late") {
		first = 10 * emSlot
	}
	pay.Next = now.Add(first)
	lines := []emLine{{Payment: pay}, e.effect("payment", notice, pay.ReceiptID)}
	if p != nil {
		q := *p
		q.Status, q.Paid = "PAID", &now
		lines = append(lines, emLine{Position: &q})
	}
	if err := e.keep(lines...); err != nil {
		return &emFault{"PPT_SYSTEM_ERROR", "the payment can't be written"}
	}
	e.later(notice, first)
	return nil
}

// receipt is the request of paSendRTV2.
func (e *Emulator) receipt(s *emStation, pay *emPayment, d *emData, total int) (string, error) {
	at := pay.At.In(e.cfg.Zone)
	var transfers strings.Builder
	for _, t := range d.Transfers {
		transfers.WriteString("<transfer>" + emTag("idTransfer", t.ID) + emTag("transferAmount", t.Amount) + emTag("fiscalCodePA", t.FiscalCode))
		if t.CompanyName != "" {
			transfers.WriteString(emTag("companyName", t.CompanyName))
		}
		if t.Stamp != nil {
			n, _ := emCents(t.Amount)
			mbd, err := e.stampOf(t.Stamp.Hash, n, pay)
			if err != nil {
				return "", err
			}
			transfers.WriteString(emTag("MBDAttachment", base64.StdEncoding.EncodeToString(mbd)))
		} else {
			transfers.WriteString(emTag("IBAN", t.IBAN))
		}
		transfers.WriteString(emTag("remittanceInformation", t.Remittance) + emTag("transferCategory", t.Category) + "</transfer>")
	}
	subject := "<uniqueIdentifier>" + emTag("entityUniqueIdentifierType", d.Debtor.Kind) + emTag("entityUniqueIdentifierValue", d.Debtor.Code) + "</uniqueIdentifier>" + emTag("fullName", d.Debtor.Name)
	body := emTag("idPA", s.IDPA) + emTag("idBrokerPA", s.IDBrokerPA) + emTag("idStation", s.IDStation) + "<receipt>" +
		emTag("receiptId", pay.ReceiptID) + emTag("noticeNumber", pay.Notice) + emTag("fiscalCode", s.IDPA) + emTag("outcome", "OK") +
		emTag("creditorReferenceId", pay.IUV) + emTag("paymentAmount", emAmount(total)) + emTag("description", d.Description) + emTag("companyName", d.CompanyName) +
		"<debtor>" + subject + "</debtor><transferList>" + transfers.String() + "</transferList>" +
		emTag("idPSP", "ABI99999") + emTag("pspFiscalCode", emPSPCode) + emTag("PSPCompanyName", emPSPName) +
		emTag("idChannel", "99999999999_01") + emTag("channelDescription", "WISP") + "<payer>" + subject + "</payer>" +
		emTag("paymentMethod", "creditCard") + emTag("fee", "1.50") +
		emTag("paymentDateTime", at.Format("2006-01-02T15:04:05")) + emTag("applicationDate", at.Format(time.DateOnly)) + emTag("transferDate", at.AddDate(0, 0, 1).Format(time.DateOnly)) +
		"</receipt>"
	return `<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<paf:paSendRTV2Request xmlns:paf="` + emSpace + `">` + body + `</paf:paSendRTV2Request>`, nil
}

// later sends a receipt after a pause; e.mu is held.
func (e *Emulator) later(notice string, pause time.Duration) {
	if e.ctx.Err() != nil {
		return
	}
	e.wg.Add(1)
	once := make(chan struct{})
	stop := e.cfg.Clock.At(e.cfg.Clock.Now().Add(pause), func() { close(once) })
	go func() {
		defer e.wg.Done()
		defer stop()
		select {
		case <-once:
			e.deliver(notice)
		case <-e.ctx.Done():
		}
	}()
}

// deliver sends a receipt once; one that is not answered comes again after
// slot * (2^k - 1), for as long as the creditor does not take or refuse it.
func (e *Emulator) deliver(notice string) {
	org := e.orgOf(notice)
	s := e.stationOf(org)
	e.mu.Lock()
	var pay *emPayment
	if e.mem != nil {
		pay = e.mem.payments[org+"/"+notice]
	}
	e.mu.Unlock()
	if s == nil || pay == nil || pay.Delivered {
		return
	}
	_, inside, _ := strings.Cut(pay.Receipt, `">`)
	body := strings.TrimSuffix(inside, "</paf:paSendRTV2Request>")
	if e.cfg.On("node.forged-receipt") {
		e.forge(s, pay, body)
	}
	_, f := e.ask(e.ctx, s, "paSendRTV2", "paSendRTV2Request", body, emReceiptFor)
	if f == nil && e.cfg.On("node.receipt-twice") {
		_, f = e.ask(e.ctx, s, "paSendRTV2", "paSendRTV2Request", body, emReceiptFor)
	}
	lost := e.cfg.On("node.receipt-lost-answer") && pay.Tries == 0
	// A refusal is an answer; what the creditor can't do now (PAA_SYSTEM_ERROR) and
	// what did not arrive comes again.
	answered := f == nil || strings.HasPrefix(f.code, "PAA_") && f.code != "PAA_SYSTEM_ERROR"
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mem == nil {
		return
	}
	q := *pay
	q.Tries++
	q.Delivered = answered && !lost
	pause := min(emSlot*(1<<min(q.Tries, 20)-1), emLongest)
	q.Next = e.cfg.Clock.Now().Add(pause)
	if err := e.keep(emLine{Payment: &q}); err != nil {
		return
	}
	if f != nil {
		e.cfg.Log.Warn("a receipt was not taken", "connector", e.name, "notice", notice, "fault", f.code, "try", q.Tries)
	}
	if !q.Delivered {
		e.later(notice, pause)
	}
}

// forge sends receipts that somebody made up of a true one. A creditor refuses
// each of them, and takes the true one all the same.
func (e *Emulator) forge(s *emStation, pay *emPayment, body string) {
	swap := func(tag, by string) string {
		before, rest, _ := strings.Cut(body, "<"+tag+">")
		_, after, _ := strings.Cut(rest, "</"+tag+">")
		return before + emTag(tag, by) + after
	}
	forgeries := map[string]string{
		"another amount":   swap("paymentAmount", "0.01"),
		"another transfer": swap("transferAmount", "0.01"),
		"another creditor": swap("idPA", "99999999990"),
		"another notice":   swap("creditorReferenceId", "00000000000000000"),
	}
	if _, rest, ok := strings.Cut(body, "<MBDAttachment>"); ok {
		mbd, _, _ := strings.Cut(rest, "</MBDAttachment>")
		if b, err := base64.StdEncoding.DecodeString(mbd); err == nil {
			b = bytes.Replace(b, []byte("<IUBD>01"), []byte("<IUBD>02"), 1)
			forgeries["a stamp that was changed"] = swap("MBDAttachment", base64.StdEncoding.EncodeToString(b))
		}
	}
	for what, forged := range forgeries {
		if _, f := e.ask(e.ctx, s, "paSendRTV2", "paSendRTV2Request", forged, emReceiptFor); f == nil {
			e.cfg.Log.Error("the creditor took a receipt that was made up", "connector", e.name, "notice", pay.Notice, "forged", what)
		}
	}
}
