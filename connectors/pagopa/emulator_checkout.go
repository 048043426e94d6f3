package pagopa

import (
	"context"
	_ "embed"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/dime-bus/dime/internal/page"
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

// emPage is a page of payment. Pay, Cancel and Here are addresses below the
// emulator's own.
type emPage struct {
	page.Frame
	W             emWords
	Problem, Code string
	Pay, Cancel   string
	Back          string
	Items         []emShown // what is to be paid, or was
	Total         string    // of more than one
	Done          bool
}

// emShown is a notice as a person reads it.
type emShown struct{ Company, Description, Notice, Amount string }

// newPage is the page of payment at here, in the language of who asks.
func (e *Emulator) newPage(c *emCall, here string) emPage {
	base, lang := "", page.Language(c.r)
	if u, err := url.Parse(e.cfg.URL()); err == nil {
		base = u.Path
	}
	w := emWordsIn(lang)
	return emPage{W: w, Frame: page.Frame{Lang: lang, Title: w.payment, Name: w.Name, Tagline: w.Tagline, Here: base + here, Static: base + "/static"}}
}

// at is an address below here, in the page's language.
func (p emPage) at(word string) string { return page.In(p.Lang, p.Here+word) }

// page shows a page of payment; a form may lead on to the addresses in to.
func (e *Emulator) page(status int, p emPage, to ...string) emAnswer {
	b, err := page.Render(e.look, p)
	if err != nil {
		e.cfg.Log.Error("showing the page of Checkout", "error", err)
		return emProblem(http.StatusInternalServerError, "the page can't be shown")
	}
	forms := []string{"'self'"}
	for _, x := range to {
		if u, err := url.Parse(x); err == nil && u.Host != "" {
			forms = append(forms, u.Scheme+"://"+u.Host)
		}
	}
	h := http.Header{}
	page.Secure(h, forms...)
	header := map[string]string{"Cache-Control": "no-store", "Content-Language": p.Lang, "Vary": "Accept-Language"}
	for name := range h {
		header[name] = h.Get(name)
	}
	return emAnswer{status: status, raw: b, kind: "text/html; charset=utf-8", header: header}
}

// static answers with the style sheets of the pages.
func (e *Emulator) static(w http.ResponseWriter, r *http.Request) {
	if !page.ServeStatic(w, r, r.PathValue("name")) {
		http.NotFound(w, r)
	}
}

// emEuro writes an amount as the language does.
func emEuro(lang string, cents int) string {
	thousands, point, before, after := ".", ",", "", " €"
	switch lang {
	case "en":
		thousands, point, before, after = ",", ".", "€", ""
	case "fr":
		thousands = "\u202f"
	}
	s := fmt.Sprintf("%d", cents/100)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + thousands + s[i:]
	}
	return fmt.Sprintf("%s%s%s%02d%s", before, s, point, cents%100, after)
}

func (e *Emulator) cartOf(c *emCall) *emCart {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mem == nil {
		return nil
	}
	return e.mem.carts[c.r.PathValue("cart")]
}

// cartPage is the page of a cart.
func (e *Emulator) cartPage(c *emCall) emPage {
	return e.newPage(c, "/checkout/pay/"+url.PathEscape(c.r.PathValue("cart")))
}

func (e *Emulator) noPage(c *emCall) emAnswer {
	p := e.cartPage(c)
	p.Title, p.Problem = p.W.noPage, p.W.noPageText
	return e.page(http.StatusNotFound, p)
}

// payPage asks the creditor about the notices, as the node does before it shows
// anything, and shows what is to be paid.
func (e *Emulator) payPage(c *emCall) emAnswer {
	cart := e.cartOf(c)
	if cart == nil {
		return e.noPage(c)
	}
	p := e.cartPage(c)
	p.Pay, p.Cancel, p.Back = p.at("/paga"), p.at("/annulla"), cart.Error
	return e.offer(c.r.Context(), cart.Notices, p, cart.OK, cart.Cancel)
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
			p.Title = p.W.impossible
			return e.refused(n, f, p, to...)
		}
		p.Items = append(p.Items, emShown{v.company, v.description, n.Notice, emEuro(p.Lang, v.amount)})
		total += v.amount
	}
	if unpaid == 0 {
		if p.Back != "" {
			p.Back = to[0]
		}
		return e.done(items, p)
	}
	if unpaid > 1 {
		p.Total = emEuro(p.Lang, total)
	}
	return e.page(http.StatusOK, p, to...)
}

// refused shows why a notice can't be paid.
func (e *Emulator) refused(n emItem, f *emFault, p emPage, to ...string) emAnswer {
	p.Code, p.Problem, p.Items = f.code, p.W.sorry(f.code), []emShown{{Notice: n.Notice}}
	return e.page(http.StatusOK, p, to...)
}

func (e *Emulator) done(items []emItem, p emPage) emAnswer {
	p.Title, p.Done, p.Items = p.W.done, true, nil
	for _, n := range items {
		p.Items = append(p.Items, emShown{Notice: n.Notice})
	}
	return e.page(http.StatusOK, p)
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
		return e.noPage(c)
	}
	for _, n := range cart.Notices {
		if f := e.payOnce(c.r.Context(), n.Org, n.Notice, n.Amount); f != nil {
			p := e.cartPage(c)
			p.Title, p.Back = p.W.failed, cart.Error
			return e.refused(n, f, p)
		}
	}
	return emAnswer{status: http.StatusSeeOther, header: map[string]string{"Location": cart.OK, "Cache-Control": "no-store"}}
}

func (e *Emulator) cancelPayment(c *emCall) emAnswer {
	cart := e.cartOf(c)
	if cart == nil {
		return e.noPage(c)
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

// counter is the page of a notice that somebody brings.
func (e *Emulator) counter(c *emCall) emPage {
	return e.newPage(c, "/paga/"+url.PathEscape(c.r.PathValue("notice")))
}

func (e *Emulator) noNotice(c *emCall) emAnswer {
	p := e.counter(c)
	p.Title, p.Problem = p.W.noNotice, p.W.noNoticeText
	return e.page(http.StatusNotFound, p)
}

func (e *Emulator) counterPage(c *emCall) emAnswer {
	n, known := e.brought(c)
	if !known {
		return e.noNotice(c)
	}
	p := e.counter(c)
	p.Pay = p.at("")
	return e.offer(c.r.Context(), []emItem{n}, p)
}

func (e *Emulator) payAtCounter(c *emCall) emAnswer {
	n, known := e.brought(c)
	if !known {
		return e.noNotice(c)
	}
	p := e.counter(c)
	if f := e.payOnce(c.r.Context(), n.Org, n.Notice, 0); f != nil {
		p.Title = p.W.failed
		return e.refused(n, f, p)
	}
	return e.done([]emItem{n}, p)
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
