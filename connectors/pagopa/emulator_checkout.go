package pagopa

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/dime-bus/dime/internal/taxcode"
)

// emCartRequest is Checkout's CartRequest (checkout v1).
type emCartRequest struct {
	EmailNotice    string `json:"emailNotice"`
	PaymentNotices []struct {
		NoticeNumber string `json:"noticeNumber"`
		FiscalCode   string `json:"fiscalCode"`
		Amount       int    `json:"amount"`
		CompanyName  string `json:"companyName"`
		Description  string `json:"description"`
	} `json:"paymentNotices"`
	ReturnURLs *struct {
		OK     string `json:"returnOkUrl"`
		Cancel string `json:"returnCancelUrl"`
		Error  string `json:"returnErrorUrl"`
	} `json:"returnUrls"`
	IDCart string `json:"idCart"`
	AllCCP bool   `json:"allCCP"`
}

func (e *Emulator) createCart(c *emCall) emAnswer {
	var b emCartRequest
	if err := emDecode(c.body, &b); err != nil {
		return emProblem(http.StatusBadRequest, err.Error())
	}
	switch {
	case len(b.PaymentNotices) < 1 || len(b.PaymentNotices) > 5:
		return emProblem(http.StatusBadRequest, "paymentNotices must hold 1 to 5 notices")
	case len(b.PaymentNotices) > 1:
		return emProblem(http.StatusBadRequest, "paymentNotices: this page pays one notice at a time")
	case b.ReturnURLs == nil:
		return emProblem(http.StatusBadRequest, "returnUrls is required")
	case b.EmailNotice != "" && !strings.Contains(b.EmailNotice, "@"):
		return emProblem(http.StatusBadRequest, "emailNotice is no address")
	}
	n := b.PaymentNotices[0]
	switch {
	case !emNotice(n.NoticeNumber):
		return emProblem(http.StatusBadRequest, "noticeNumber: 18 digits that begin with 3, the last two of them check digits")
	case !emDigits(n.FiscalCode, 11) || !taxcode.Valid(n.FiscalCode):
		return emProblem(http.StatusBadRequest, "fiscalCode is the creditor's, 11 digits")
	case n.Amount < 1:
		return emProblem(http.StatusBadRequest, "amount must be 1 cent or more")
	case !emText(n.CompanyName, 1, 140) || !emText(n.Description, 1, 140):
		return emProblem(http.StatusBadRequest, "companyName and description must have 1 to 140 characters")
	}
	for _, to := range []string{b.ReturnURLs.OK, b.ReturnURLs.Cancel, b.ReturnURLs.Error} {
		if u, err := url.Parse(to); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return emProblem(http.StatusBadRequest, "returnUrls must be three addresses")
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mem.stations[n.FiscalCode] == nil {
		return emProblem(http.StatusBadRequest, "PPT_DOMINIO_SCONOSCIUTO")
	}
	cart := &emCart{ID: emRandom(), Notice: n.NoticeNumber, Org: n.FiscalCode, Amount: n.Amount, OK: b.ReturnURLs.OK, Cancel: b.ReturnURLs.Cancel, Error: b.ReturnURLs.Error}
	if err := e.keep(emLine{Cart: cart}); err != nil {
		return emProblem(http.StatusServiceUnavailable, "the memory can't be written")
	}
	return emAnswer{status: http.StatusFound, header: map[string]string{"Location": e.cfg.URL() + "/checkout/pay/" + cart.ID}}
}

//go:embed emulator_checkout.html
var emPageText string

type emPage struct {
	Title, Company, Description, Notice, Amount, Problem, Code, Nonce string
	Pay, Cancel, Back                                                 string
	Done                                                              bool
}

// page shows a page of Checkout; a form may lead on to the addresses in to.
func (e *Emulator) page(status int, p emPage, to ...string) emAnswer {
	p.Nonce = emRandom()
	t, err := template.New("checkout").Parse(emPageText)
	var b bytes.Buffer
	if err == nil {
		err = t.Execute(&b, p)
	}
	if err != nil {
		e.cfg.Log.Error("showing the page of Checkout", "error", err)
		return emProblem(http.StatusInternalServerError, "the page can't be shown")
	}
	forms := "'self'"
	for _, x := range to {
		if u, err := url.Parse(x); err == nil && u.Host != "" {
			forms += " " + u.Scheme + "://" + u.Host
		}
	}
	return emAnswer{status: status, raw: b.Bytes(), kind: "text/html; charset=utf-8", header: map[string]string{
		"Content-Security-Policy": "default-src 'none'; style-src 'nonce-" + p.Nonce + "'; form-action " + forms + "; base-uri 'none'; frame-ancestors 'none'",
		"Cache-Control":           "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff",
	}}
}

func emEuro(cents int) string {
	s := fmt.Sprintf("%d", cents/100)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "." + s[i:]
	}
	return fmt.Sprintf("%s,%02d €", s, cents%100)
}

func (e *Emulator) cartOf(c *emCall) *emCart {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mem == nil {
		return nil
	}
	return e.mem.carts[c.r.PathValue("cart")]
}

// payPage asks the creditor about the notice, as the node does before it shows
// anything, and shows what is to be paid.
func (e *Emulator) payPage(c *emCall) emAnswer {
	cart := e.cartOf(c)
	if cart == nil {
		return e.page(http.StatusNotFound, emPage{Title: "Pagina non trovata", Problem: "Questa pagina di pagamento non esiste o è scaduta."})
	}
	if e.paid(cart.Org, cart.Notice) {
		return e.page(http.StatusOK, emPage{Title: "Pagamento eseguito", Notice: cart.Notice, Done: true, Back: cart.OK})
	}
	return e.offer(c.r.Context(), cart.Org, cart.Notice, cart.Amount,
		emPage{Pay: cart.ID + "/paga", Cancel: cart.ID + "/annulla", Back: cart.Error}, cart.OK, cart.Cancel)
}

// offer shows a notice with the button that pays it, or why it can't be paid.
// amount 0 takes what the creditor says.
func (e *Emulator) offer(ctx context.Context, org, notice string, amount int, p emPage, to ...string) emAnswer {
	p.Title, p.Notice = "Pagamento", notice
	if e.paid(org, notice) {
		p.Title, p.Done = "Pagamento eseguito", true
		return e.page(http.StatusOK, p)
	}
	v, f := e.verify(ctx, org, notice)
	if f == nil && amount != 0 && v.amount != amount {
		f = &emFault{"PPT_ERRORE_EMESSO_DA_PAA", "l'importo è cambiato"}
	}
	if f != nil {
		p.Title, p.Code, p.Problem = "Pagamento non possibile", f.code, emSorry(f.code)
		return e.page(http.StatusOK, p, to...)
	}
	p.Company, p.Description, p.Amount = v.company, v.description, emEuro(v.amount)
	return e.page(http.StatusOK, p, to...)
}

// emSorry says a fault to a person.
func emSorry(code string) string {
	switch code {
	case "PAA_PAGAMENTO_SCONOSCIUTO":
		return "L'avviso non risulta all'ente. Controlla il numero dell'avviso."
	case "PAA_PAGAMENTO_DUPLICATO":
		return "Questo avviso è già stato pagato."
	case "PAA_PAGAMENTO_SCADUTO":
		return "Questo avviso è scaduto. Rivolgiti all'ente per averne uno nuovo."
	case "PAA_PAGAMENTO_ANNULLATO":
		return "L'ente ha annullato questo avviso."
	case "PAA_PAGAMENTO_IN_CORSO":
		return "C'è già un pagamento in corso per questo avviso. Riprova fra qualche minuto."
	}
	return "Al momento il pagamento non è possibile. Nessun importo è stato addebitato: riprova più tardi."
}

func (e *Emulator) paid(org, notice string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.mem != nil && e.mem.payments[org+"/"+notice] != nil
}

// pay is the button: it pays once, however often it is pressed.
func (e *Emulator) pay(c *emCall) emAnswer {
	cart := e.cartOf(c)
	if cart == nil {
		return e.page(http.StatusNotFound, emPage{Title: "Pagina non trovata", Problem: "Questa pagina di pagamento non esiste o è scaduta."})
	}
	if f := e.payOnce(c.r.Context(), cart.Org, cart.Notice, cart.Amount); f != nil {
		return e.page(http.StatusOK, emPage{Title: "Pagamento non riuscito", Notice: cart.Notice, Code: f.code, Problem: emSorry(f.code), Back: cart.Error})
	}
	return emAnswer{status: http.StatusSeeOther, header: map[string]string{"Location": cart.OK, "Cache-Control": "no-store"}}
}

func (e *Emulator) cancelPayment(c *emCall) emAnswer {
	cart := e.cartOf(c)
	if cart == nil {
		return e.page(http.StatusNotFound, emPage{Title: "Pagina non trovata", Problem: "Questa pagina di pagamento non esiste o è scaduta."})
	}
	to := cart.Cancel
	if e.paid(cart.Org, cart.Notice) { // in another window: it can't be given up any more
		to = cart.OK
	}
	return emAnswer{status: http.StatusSeeOther, header: map[string]string{"Location": to, "Cache-Control": "no-store"}}
}

// orgOf is the creditor of a notice that somebody brings to a counter.
func (e *Emulator) orgOf(notice string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mem == nil || !emDigits(notice, 18) {
		return ""
	}
	for id, s := range e.mem.stations {
		if notice[1:3] == s.Segregation {
			return id
		}
	}
	return ""
}

// counterPage is a counter that takes a notice: a bank, a tobacconist.
func (e *Emulator) counterPage(c *emCall) emAnswer {
	notice := c.r.PathValue("notice")
	org := e.orgOf(notice)
	if !emNotice(notice) || org == "" {
		return e.page(http.StatusNotFound, emPage{Title: "Avviso sconosciuto", Problem: "Nessun ente di questa città ha emesso questo avviso."})
	}
	return e.offer(c.r.Context(), org, notice, 0, emPage{Pay: notice})
}

func (e *Emulator) payAtCounter(c *emCall) emAnswer {
	notice := c.r.PathValue("notice")
	org := e.orgOf(notice)
	if !emNotice(notice) || org == "" {
		return e.page(http.StatusNotFound, emPage{Title: "Avviso sconosciuto", Problem: "Nessun ente di questa città ha emesso questo avviso."})
	}
	if f := e.payOnce(c.r.Context(), org, notice, 0); f != nil {
		return e.page(http.StatusOK, emPage{Title: "Pagamento non riuscito", Notice: notice, Code: f.code, Problem: emSorry(f.code)})
	}
	return e.page(http.StatusOK, emPage{Title: "Pagamento eseguito", Notice: notice, Done: true})
}

// payOnce pays a notice unless it is paid.
func (e *Emulator) payOnce(ctx context.Context, org, notice string, amount int) *emFault {
	lock, _ := e.paying.LoadOrStore(org+"/"+notice, &sync.Mutex{})
	m := lock.(*sync.Mutex)
	m.Lock()
	defer m.Unlock()
	if e.paid(org, notice) {
		return nil
	}
	return e.settle(ctx, org, notice, amount)
}
