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
	case b.ReturnURLs == nil:
		return emProblem(http.StatusBadRequest, "returnUrls is required")
	case b.EmailNotice != "" && !strings.Contains(b.EmailNotice, "@"):
		return emProblem(http.StatusBadRequest, "emailNotice is no address")
	}
	cart := &emCart{ID: emRandom(), OK: b.ReturnURLs.OK, Cancel: b.ReturnURLs.Cancel, Error: b.ReturnURLs.Error}
	seen := map[string]bool{}
	for _, n := range b.PaymentNotices {
		switch {
		case !emNotice(n.NoticeNumber):
			return emProblem(http.StatusBadRequest, "noticeNumber: 18 digits that begin with 3, the last two of them check digits")
		case !emDigits(n.FiscalCode, 11) || !taxcode.Valid(n.FiscalCode):
			return emProblem(http.StatusBadRequest, "fiscalCode is the creditor's, 11 digits")
		case seen[n.FiscalCode+"/"+n.NoticeNumber]:
			return emProblem(http.StatusBadRequest, "paymentNotices: a notice is there twice")
		case n.Amount < 1:
			return emProblem(http.StatusBadRequest, "amount must be 1 cent or more")
		case !emText(n.CompanyName, 1, 140) || !emText(n.Description, 1, 140):
			return emProblem(http.StatusBadRequest, "companyName and description must have 1 to 140 characters")
		}
		seen[n.FiscalCode+"/"+n.NoticeNumber] = true
		cart.Notices = append(cart.Notices, emItem{n.NoticeNumber, n.FiscalCode, n.Amount})
	}
	for _, to := range []string{b.ReturnURLs.OK, b.ReturnURLs.Cancel, b.ReturnURLs.Error} {
		if u, err := url.Parse(to); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return emProblem(http.StatusBadRequest, "returnUrls must be three addresses")
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range cart.Notices {
		if e.mem.stations[n.Org] == nil {
			return emProblem(http.StatusBadRequest, "PPT_DOMINIO_SCONOSCIUTO")
		}
	}
	if err := e.keep(emLine{Cart: cart}); err != nil {
		return emProblem(http.StatusServiceUnavailable, "the memory can't be written")
	}
	return emAnswer{status: http.StatusFound, header: map[string]string{"Location": e.cfg.URL() + "/checkout/pay/" + cart.ID}}
}

//go:embed emulator_checkout.html
var emPageText string

type emPage struct {
	Title, Problem, Code, Nonce string
	Pay, Cancel, Back           string
	Items                       []emShown // what is to be paid, or was
	Total                       string    // of more than one
	Done                        bool
}

// emShown is a notice as a person reads it.
type emShown struct{ Company, Description, Notice, Amount string }

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

func emNoPage() emPage {
	return emPage{Title: "Pagina non trovata", Problem: "Questa pagina di pagamento non esiste o è scaduta."}
}

// payPage asks the creditor about the notices, as the node does before it shows
// anything, and shows what is to be paid.
func (e *Emulator) payPage(c *emCall) emAnswer {
	cart := e.cartOf(c)
	if cart == nil {
		return e.page(http.StatusNotFound, emNoPage())
	}
	return e.offer(c.r.Context(), cart.Notices, emPage{Pay: cart.ID + "/paga", Cancel: cart.ID + "/annulla", Back: cart.Error}, cart.OK, cart.Cancel)
}

// offer shows notices with the button that pays them, or why one can't be paid.
// Of to, the first is where a person goes who has paid.
func (e *Emulator) offer(ctx context.Context, items []emItem, p emPage, to ...string) emAnswer {
	total, unpaid := 0, 0
	for _, n := range items {
		if e.paid(n.Org, n.Notice) {
			continue
		}
		unpaid++
		v, f := e.verify(ctx, n.Org, n.Notice)
		if f == nil && n.Amount != 0 && v.amount != n.Amount {
			f = &emFault{"PPT_ERRORE_EMESSO_DA_PAA", "the amount has changed"}
		}
		if f != nil {
			p.Title = "Pagamento non possibile"
			return e.refused(n, f, p, to...)
		}
		p.Items = append(p.Items, emShown{v.company, v.description, n.Notice, emEuro(v.amount)})
		total += v.amount
	}
	if unpaid == 0 {
		if p.Back != "" {
			p.Back = to[0]
		}
		return e.done(items, p)
	}
	p.Title = "Pagamento"
	if unpaid > 1 {
		p.Total = emEuro(total)
	}
	return e.page(http.StatusOK, p, to...)
}

// refused shows why a notice can't be paid.
func (e *Emulator) refused(n emItem, f *emFault, p emPage, to ...string) emAnswer {
	p.Code, p.Problem, p.Items = f.code, emSorry(f.code), []emShown{{Notice: n.Notice}}
	return e.page(http.StatusOK, p, to...)
}

func (e *Emulator) done(items []emItem, p emPage) emAnswer {
	p.Title, p.Done, p.Items = "Pagamento eseguito", true, nil
	for _, n := range items {
		p.Items = append(p.Items, emShown{Notice: n.Notice})
	}
	return e.page(http.StatusOK, p)
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
	return "Al momento questo avviso non si può pagare. Per esso nessun importo è stato addebitato: riprova più tardi."
}

func (e *Emulator) paid(org, notice string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.mem != nil && e.mem.payments[org+"/"+notice] != nil
}

// pay is the button: it pays once, however often it is pressed. Each notice of a
// cart is a payment of its own; what was paid before one failed stays paid.
func (e *Emulator) pay(c *emCall) emAnswer {
	cart := e.cartOf(c)
	if cart == nil {
		return e.page(http.StatusNotFound, emNoPage())
	}
	for _, n := range cart.Notices {
		if f := e.payOnce(c.r.Context(), n.Org, n.Notice, n.Amount); f != nil {
			return e.refused(n, f, emPage{Title: "Pagamento non riuscito", Back: cart.Error})
		}
	}
	return emAnswer{status: http.StatusSeeOther, header: map[string]string{"Location": cart.OK, "Cache-Control": "no-store"}}
}

func (e *Emulator) cancelPayment(c *emCall) emAnswer {
	cart := e.cartOf(c)
	if cart == nil {
		return e.page(http.StatusNotFound, emNoPage())
	}
	to := cart.OK // where all is paid, in another window, nothing can be given up any more
	for _, n := range cart.Notices {
		if !e.paid(n.Org, n.Notice) {
			to = cart.Cancel
		}
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

// brought is the notice that somebody brings to a counter: a bank, a tobacconist.
func (e *Emulator) brought(c *emCall) (n emItem, known bool) {
	n.Notice = c.r.PathValue("notice")
	n.Org = e.orgOf(n.Notice)
	return n, emNotice(n.Notice) && n.Org != ""
}

func emNoNotice() emPage {
	return emPage{Title: "Avviso sconosciuto", Problem: "Nessun ente di questa città ha emesso questo avviso."}
}

func (e *Emulator) counterPage(c *emCall) emAnswer {
	n, known := e.brought(c)
	if !known {
		return e.page(http.StatusNotFound, emNoNotice())
	}
	return e.offer(c.r.Context(), []emItem{n}, emPage{Pay: n.Notice})
}

func (e *Emulator) payAtCounter(c *emCall) emAnswer {
	n, known := e.brought(c)
	if !known {
		return e.page(http.StatusNotFound, emNoNotice())
	}
	if f := e.payOnce(c.r.Context(), n.Org, n.Notice, 0); f != nil {
		return e.refused(n, f, emPage{Title: "Pagamento non riuscito"})
	}
	return e.done([]emItem{n}, emPage{})
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
