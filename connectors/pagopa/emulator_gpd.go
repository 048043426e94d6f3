package pagopa

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dime-bus/dime/internal/taxcode"
)

// emBody is GPD's PaymentPositionModel.
type emBody struct {
	IUPD            string     `json:"iupd"`
	Type            string     `json:"type"`
	PayStandIn      *bool      `json:"payStandIn,omitempty"`
	FiscalCode      string     `json:"fiscalCode"`
	FullName        string     `json:"fullName"`
	StreetName      string     `json:"streetName,omitempty"`
	CivicNumber     string     `json:"civicNumber,omitempty"`
	PostalCode      string     `json:"postalCode,omitempty"`
	City            string     `json:"city,omitempty"`
	Province        string     `json:"province,omitempty"`
	Region          string     `json:"region,omitempty"`
	Country         string     `json:"country,omitempty"`
	Email           string     `json:"email,omitempty"`
	Phone           string     `json:"phone,omitempty"`
	SwitchToExpired *bool      `json:"switchToExpired"`
	CompanyName     string     `json:"companyName"`
	OfficeName      string     `json:"officeName,omitempty"`
	ValidityDate    string     `json:"validityDate,omitempty"`
	PaymentDate     string     `json:"paymentDate,omitempty"`
	Status          string     `json:"status,omitempty"`
	PaymentOption   []emOption `json:"paymentOption"`
}

type emOption struct {
	NAV              string       `json:"nav"`
	IUV              string       `json:"iuv"`
	Amount           int          `json:"amount"`
	Description      string       `json:"description"`
	IsPartialPayment *bool        `json:"isPartialPayment"`
	DueDate          string       `json:"dueDate"`
	RetentionDate    string       `json:"retentionDate,omitempty"`
	Fee              int          `json:"fee,omitempty"`
	Transfer         []emTransfer `json:"transfer"`
}

type emTransfer struct {
	IDTransfer             string   `json:"idTransfer"`
	Amount                 int      `json:"amount"`
	OrganizationFiscalCode string   `json:"organizationFiscalCode,omitempty"`
	CompanyName            string   `json:"companyName,omitempty"`
	RemittanceInformation  string   `json:"remittanceInformation"`
	Category               string   `json:"category"`
	IBAN                   string   `json:"iban,omitempty"`
	PostalIBAN             string   `json:"postalIban,omitempty"`
	Stamp                  *emStamp `json:"stamp,omitempty"`
}

type emStamp struct {
	HashDocument        string `json:"hashDocument"`
	StampType           string `json:"stampType"`
	ProvincialResidence string `json:"provincialResidence"`
}

func emDigits(s string, n int) bool {
	return len(s) == n && strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }) < 0
}

// emNotice says whether s is a notice number of aux digit 3: its last two digits
// are the first sixteen modulo 93 (SACI 3.2).
func emNotice(s string) bool {
	if !emDigits(s, 18) || s[0] != '3' {
		return false
	}
	n, _ := new(big.Int).SetString(s[:16], 10)
	return fmt.Sprintf("%02d", n.Mod(n, big.NewInt(93)).Int64()) == s[16:]
}

// emIBAN holds an Italian IBAN's length and its check digits (ISO 13616).
func emIBAN(s string) bool {
	if len(s) < 15 || len(s) > 34 || strings.HasPrefix(s, "IT") && len(s) != 27 {
		return false
	}
	var digits strings.Builder
	for _, c := range s[4:] + s[:4] {
		switch {
		case c >= '0' && c <= '9':
			digits.WriteRune(c)
		case c >= 'A' && c <= 'Z':
			digits.WriteString(strconv.Itoa(int(c-'A') + 10))
		default:
			return false
		}
	}
	n, _ := new(big.Int).SetString(digits.String(), 10)
	return n.Mod(n, big.NewInt(97)).Int64() == 1
}

func emText(s string, least, most int) bool {
	n := utf8.RuneCountInString(s)
	return n >= least && n <= most && strings.IndexFunc(s, func(r rune) bool { return r < ' ' }) < 0
}

// registerStation is the back office: who the creditor is and where the node
// reaches its station. A creditor keeps its key.
func (e *Emulator) registerStation(c *emCall) emAnswer {
	var s emStation
	if err := emDecode(c.body, &s); err != nil {
		return emProblem(http.StatusBadRequest, err.Error())
	}
	u, err := url.Parse(s.SoapURL)
	switch {
	case !emDigits(s.IDPA, 11) || !taxcode.Valid(s.IDPA):
		return emProblem(http.StatusBadRequest, "idPA is the creditor's codice fiscale, 11 digits")
	case !emDigits(s.IDBrokerPA, 11):
		return emProblem(http.StatusBadRequest, "idBrokerPA is the broker's codice fiscale, 11 digits")
	case !strings.HasPrefix(s.IDStation, s.IDBrokerPA+"_"):
		return emProblem(http.StatusBadRequest, "idStation is the broker's codice fiscale, an underline and a number")
	case !emDigits(s.Segregation, 2) || s.Segregation > "49":
		return emProblem(http.StatusBadRequest, "the segregation code is two digits, 00 to 49")
	case s.SoapURL != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https"):
		return emProblem(http.StatusBadRequest, "soap_url is where the node calls the station")
	case !emText(s.Company, 1, 140):
		return emProblem(http.StatusBadRequest, "company is the creditor's name")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, other := range e.mem.stations {
		if id != s.IDPA && other.IDStation == s.IDStation {
			return emProblem(http.StatusConflict, "the station is another creditor's")
		}
	}
	if old := e.mem.stations[s.IDPA]; old != nil {
		s.Key = old.Key
		if s.SoapURL == "" {
			s.SoapURL = old.SoapURL
		}
		if *old == s {
			return emAnswer{status: http.StatusOK, body: map[string]any{"subscription_key": s.Key}}
		}
	} else {
		s.Key = emRandom()
	}
	if err := e.keep(emLine{Station: &s}); err != nil {
		return emProblem(http.StatusServiceUnavailable, "the memory can't be written")
	}
	return emAnswer{status: http.StatusOK, body: map[string]any{"subscription_key": s.Key}}
}

func emRandom() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// creditor is the station whose subscription key a request carries; e.mu is held.
func (e *Emulator) creditor(c *emCall) (*emStation, *emAnswer) {
	key, org := c.r.Header.Get("Ocp-Apim-Subscription-Key"), c.r.PathValue("org")
	refuse := func(status int, detail string) (*emStation, *emAnswer) {
		a := emProblem(status, detail)
		return nil, &a
	}
	if key == "" {
		return refuse(http.StatusUnauthorized, "Access denied due to missing subscription key.")
	}
	for _, s := range e.mem.stations {
		if s.Key == key {
			if org != s.IDPA {
				return refuse(http.StatusForbidden, "the subscription is not this organization's")
			}
			return s, nil
		}
	}
	return refuse(http.StatusUnauthorized, "Access denied due to invalid subscription key.")
}

// wrongPosition says what of a position breaks GPD's rules; "" is none.
func wrongPosition(b *emBody, s *emStation, now time.Time) string {
	switch {
	case !emText(b.IUPD, 1, 50) || strings.ContainsAny(b.IUPD, "/?#"):
		return "iupd must have 1 to 50 characters"
	case b.Type != "F" && b.Type != "G":
		return "type must be F or G"
	case !taxcode.Valid(b.FiscalCode) || b.Type == "G" && len(b.FiscalCode) != 11:
		return "fiscalCode is not valid"
	case !emText(b.FullName, 1, 70):
		return "fullName must have 1 to 70 characters"
	case !emText(b.CompanyName, 1, 140):
		return "companyName must have 1 to 140 characters"
	case utf8.RuneCountInString(b.OfficeName) > 140:
		return "officeName must have at most 140 characters"
	case b.SwitchToExpired == nil:
		return "switchToExpired is required"
	case b.Status != "" || b.PaymentDate != "":
		return "status and paymentDate are read only"
	case b.Email != "" && !strings.Contains(b.Email, "@"):
		return "email is no address"
	case len(b.PaymentOption) != 1:
		return "paymentOption: this platform takes one option a position"
	}
	if b.ValidityDate != "" {
		if t, err := time.Parse(time.RFC3339, b.ValidityDate); err != nil || t.Before(now) {
			return "validityDate must be an instant in the future"
		}
	}
	o := &b.PaymentOption[0]
	if o.NAV == "" {
		o.NAV = "3" + o.IUV
	}
	due, err := time.Parse(time.RFC3339, o.DueDate)
	switch {
	case !emDigits(o.IUV, 17):
		return "paymentOption.iuv must have 17 digits"
	case o.NAV != "3"+o.IUV:
		return "paymentOption.nav must be 3 and the iuv"
	case o.IUV[:2] != s.Segregation:
		return "paymentOption.iuv: the segregation code is not the station's"
	case !emNotice(o.NAV):
		return "paymentOption.iuv: the check digits are wrong"
	case o.Amount < 1 || o.Amount > 99999999999:
		return "paymentOption.amount must be 1 cent or more"
	case !emText(o.Description, 1, 140):
		return "paymentOption.description must have 1 to 140 characters"
	case o.IsPartialPayment == nil:
		return "paymentOption.isPartialPayment is required"
	case *o.IsPartialPayment:
		return "paymentOption.isPartialPayment: a single option is not partial"
	case err != nil:
		return "paymentOption.dueDate must be an instant"
	case !due.After(now):
		return "paymentOption.dueDate is past"
	case len(o.Transfer) < 1 || len(o.Transfer) > 5:
		return "paymentOption.transfer: 1 to 5 transfers"
	}
	sum, seen := 0, map[string]bool{}
	for i := range o.Transfer {
		if why := wrongTransfer(&o.Transfer[i]); why != "" {
			return fmt.Sprintf("transfer %d: %s", i+1, why)
		}
		if seen[o.Transfer[i].IDTransfer] {
			return "transfer: idTransfer is there twice"
		}
		seen[o.Transfer[i].IDTransfer] = true
		sum += o.Transfer[i].Amount
	}
	if sum != o.Amount {
		return "paymentOption.amount is not the sum of its transfers"
	}
	return ""
}

func wrongTransfer(t *emTransfer) string {
	switch {
	case len(t.IDTransfer) != 1 || t.IDTransfer < "1" || t.IDTransfer > "5":
		return "idTransfer must be 1 to 5"
	case t.Amount < 1:
		return "amount must be 1 cent or more"
	case t.OrganizationFiscalCode != "" && (!emDigits(t.OrganizationFiscalCode, 11) || !taxcode.Valid(t.OrganizationFiscalCode)):
		return "organizationFiscalCode is not valid"
	case !emText(t.RemittanceInformation, 1, 140):
		return "remittanceInformation must have 1 to 140 characters"
	case !emText(t.Category, 1, 140):
		return "category is required"
	case (t.IBAN == "") == (t.Stamp == nil):
		return "either iban or stamp must be there"
	case t.IBAN != "" && !emIBAN(t.IBAN):
		return "iban is not valid"
	case t.PostalIBAN != "" && !emIBAN(t.PostalIBAN):
		return "postalIban is not valid"
	}
	if t.Stamp == nil {
		return ""
	}
	hash, err := base64.StdEncoding.DecodeString(t.Stamp.HashDocument)
	province := t.Stamp.ProvincialResidence
	switch {
	case err != nil || len(hash) != 32 || len(t.Stamp.HashDocument) > 72:
		return "stamp.hashDocument must be a SHA-256 in base64"
	case t.Stamp.StampType != "01":
		return "stamp.stampType must be 01"
	case len(province) != 2 || province[0] < 'A' || province[0] > 'Z' || province[1] < 'A' || province[1] > 'Z':
		return "stamp.provincialResidence must be two capital letters"
	case t.Amount != 1600:
		return "a stamp costs 16.00"
	}
	return ""
}

// now is the state of a position at an instant; e.mu is held.
func (e *Emulator) stateOf(p *emPosition) string {
	if p.Status != "VALID" && p.Status != "PUBLISHED" {
		return p.Status
	}
	now := e.cfg.Clock.Now()
	if due, err := time.Parse(time.RFC3339, p.option().DueDate); err == nil && now.After(due) && p.Body.SwitchToExpired != nil && *p.Body.SwitchToExpired {
		return "EXPIRED"
	}
	if v, err := time.Parse(time.RFC3339, p.Body.ValidityDate); err == nil && now.Before(v) {
		return "PUBLISHED"
	}
	return "VALID"
}

// shown is GPD's PaymentPositionModelBaseResponse; e.mu is held.
func (e *Emulator) shown(p *emPosition) map[string]any {
	o := p.option()
	paid := "PO_UNPAID"
	if p.Paid != nil {
		paid = "PO_PAID"
	}
	option := map[string]any{}
	b, _ := json.Marshal(o) // emOption always marshals
	_ = json.Unmarshal(b, &option)
	option["organizationFiscalCode"], option["status"], option["insertedDate"] = p.Org, paid, p.Inserted.UTC().Format(time.RFC3339)
	out := map[string]any{"iupd": p.IUPD, "organizationFiscalCode": p.Org, "type": p.Body.Type, "companyName": p.Body.CompanyName,
		"insertedDate": p.Inserted.UTC().Format(time.RFC3339), "status": e.stateOf(p), "paymentOption": []any{option}}
	if p.Body.OfficeName != "" {
		out["officeName"] = p.Body.OfficeName
	}
	if p.Paid != nil {
		out["paymentDate"], option["paymentDate"] = p.Paid.UTC().Format(time.RFC3339), p.Paid.UTC().Format(time.RFC3339)
	}
	return out
}

func (e *Emulator) createPosition(c *emCall) emAnswer {
	e.mu.Lock()
	defer e.mu.Unlock()
	s, refused := e.creditor(c)
	if refused != nil {
		return *refused
	}
	if kind := c.r.Header.Get("Content-Type"); !strings.HasPrefix(kind, "application/json") {
		return emProblem(http.StatusUnsupportedMediaType, "the body must be application/json")
	}
	var b emBody
	if err := emDecode(c.body, &b); err != nil {
		return emProblem(http.StatusBadRequest, err.Error())
	}
	now := e.cfg.Clock.Now()
	if why := wrongPosition(&b, s, now); why != "" {
		return emProblem(http.StatusBadRequest, why)
	}
	publish := c.r.URL.Query().Get("toPublish")
	if publish != "" && publish != "true" && publish != "false" {
		return emProblem(http.StatusBadRequest, "toPublish must be true or false")
	}
	careless := e.cfg.On("no-dedupe")
	if e.mem.positions[s.IDPA+"/"+b.IUPD] != nil && !careless {
		return emProblem(http.StatusConflict, "A debt position with this IUPD exists already")
	}
	if old := e.mem.notices[s.IDPA+"/"+b.PaymentOption[0].NAV]; old != nil && (!careless || old.IUPD != b.IUPD) {
		return emProblem(http.StatusConflict, "A payment option with this IUV exists already")
	}
	p := &emPosition{Org: s.IDPA, IUPD: b.IUPD, Status: "DRAFT", Body: b, Inserted: now, Key: c.r.Header.Get("X-Request-Id")}
	if publish == "true" {
		p.Status = "VALID"
	}
	if err := e.keep(emLine{Position: p}, e.effect("open_position", b.IUPD, p.Key)); err != nil {
		return emProblem(http.StatusServiceUnavailable, "the memory can't be written")
	}
	return emAnswer{status: http.StatusCreated, body: e.shown(p)}
}

func (e *Emulator) effect(op, subject, key string) emLine {
	return emLine{Effect: &emEffect{Operation: op, Subject: subject, Key: key, At: e.cfg.Clock.Now().UTC()}}
}

// found is the position of a request; e.mu is held.
func (e *Emulator) found(c *emCall) (*emPosition, *emAnswer) {
	s, refused := e.creditor(c)
	if refused != nil {
		return nil, refused
	}
	p := e.mem.positions[s.IDPA+"/"+c.r.PathValue("iupd")]
	if p == nil {
		a := emProblem(http.StatusNotFound, "No debt position has this IUPD")
		return nil, &a
	}
	return p, nil
}

func (e *Emulator) readPosition(c *emCall) emAnswer {
	e.mu.Lock()
	defer e.mu.Unlock()
	p, refused := e.found(c)
	if refused != nil {
		return *refused
	}
	return emAnswer{status: http.StatusOK, body: e.shown(p)}
}

func (e *Emulator) listPositions(c *emCall) emAnswer {
	e.mu.Lock()
	defer e.mu.Unlock()
	s, refused := e.creditor(c)
	if refused != nil {
		return *refused
	}
	q := c.r.URL.Query()
	limit, err := strconv.Atoi(q.Get("limit"))
	if q.Get("limit") != "" && (err != nil || limit < 1 || limit > 50) {
		return emProblem(http.StatusBadRequest, "limit must be 1 to 50")
	}
	page, err := strconv.Atoi(q.Get("page"))
	if err != nil || page < 0 || page > 1_000_000 {
		return emProblem(http.StatusBadRequest, "page is required, from 0 to 1000000")
	}
	if limit == 0 {
		limit = 10
	}
	var ids []string
	for id, p := range e.mem.positions {
		if p.Org == s.IDPA && (q.Get("status") == "" || e.stateOf(p) == q.Get("status")) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	list := []any{}
	for _, id := range ids[min(page*limit, len(ids)):min((page+1)*limit, len(ids))] {
		list = append(list, e.shown(e.mem.positions[id]))
	}
	return emAnswer{status: http.StatusOK, body: map[string]any{"payment_position_list": list,
		"page_info": map[string]any{"page": page, "limit": limit, "items_found": len(list), "total_pages": (len(ids) + limit - 1) / limit}}}
}

// move takes a position to another state where it stands in one of from.
func (e *Emulator) move(c *emCall, op, to string, from ...string) emAnswer {
	e.mu.Lock()
	defer e.mu.Unlock()
	p, refused := e.found(c)
	if refused != nil {
		return *refused
	}
	if state := e.stateOf(p); !slices.Contains(from, state) && !(e.cfg.On("no-dedupe") && state == to) {
		return emProblem(http.StatusConflict, "A debt position in the state "+state+" can't become "+to)
	}
	q := *p
	q.Status = to
	lines := []emLine{{Position: &q}}
	if op != "" {
		lines = append(lines, e.effect(op, p.IUPD, c.r.Header.Get("X-Request-Id")))
	}
	if err := e.keep(lines...); err != nil {
		return emProblem(http.StatusServiceUnavailable, "the memory can't be written")
	}
	return emAnswer{status: http.StatusOK, body: e.shown(&q)}
}

func (e *Emulator) publishPosition(c *emCall) emAnswer { return e.move(c, "", "VALID", "DRAFT") }

func (e *Emulator) invalidatePosition(c *emCall) emAnswer {
	return e.move(c, "close_position", "INVALID", "VALID", "PUBLISHED")
}

func (e *Emulator) deletePosition(c *emCall) emAnswer {
	e.mu.Lock()
	defer e.mu.Unlock()
	p, refused := e.found(c)
	if refused != nil {
		return *refused
	}
	if p.Paid != nil {
		return emProblem(http.StatusConflict, "A paid debt position can't be deleted")
	}
	q := *p
	q.Gone = true
	if err := e.keep(emLine{Position: &q}, e.effect("close_position", p.IUPD, c.r.Header.Get("X-Request-Id"))); err != nil {
		return emProblem(http.StatusServiceUnavailable, "the memory can't be written")
	}
	return emAnswer{status: http.StatusOK, body: "deleted"}
}

// updatePosition exchanges a draft.
func (e *Emulator) updatePosition(c *emCall) emAnswer {
	e.mu.Lock()
	defer e.mu.Unlock()
	p, refused := e.found(c)
	if refused != nil {
		return *refused
	}
	var b emBody
	if err := emDecode(c.body, &b); err != nil {
		return emProblem(http.StatusBadRequest, err.Error())
	}
	if b.IUPD != p.IUPD {
		return emProblem(http.StatusBadRequest, "the IUPD is another one than the address's")
	}
	if why := wrongPosition(&b, e.mem.stations[p.Org], e.cfg.Clock.Now()); why != "" {
		return emProblem(http.StatusBadRequest, why)
	}
	if p.Status != "DRAFT" {
		return emProblem(http.StatusConflict, "Only a draft can be changed")
	}
	if other := e.mem.notices[p.Org+"/"+b.PaymentOption[0].NAV]; other != nil && other.IUPD != p.IUPD {
		return emProblem(http.StatusConflict, "A payment option with this IUV exists already")
	}
	q := *p
	q.Body = b
	if err := e.keep(emLine{Position: &q}); err != nil {
		return emProblem(http.StatusServiceUnavailable, "the memory can't be written")
	}
	return emAnswer{status: http.StatusOK, body: e.shown(&q)}
}

// readReceipt is the archive: the request of paSendRTV2 as it was (assumed: the
// contract says application/xml and no more).
func (e *Emulator) readReceipt(c *emCall) emAnswer {
	e.mu.Lock()
	defer e.mu.Unlock()
	s, refused := e.creditor(c)
	if refused != nil {
		return *refused
	}
	p := e.mem.payments[s.IDPA+"/3"+c.r.PathValue("iuv")]
	if p == nil {
		return emProblem(http.StatusNotFound, "There is no receipt of this IUV")
	}
	return emAnswer{status: http.StatusOK, raw: []byte(p.Receipt), kind: "application/xml; charset=utf-8"}
}

func (e *Emulator) listReceipts(c *emCall) emAnswer {
	e.mu.Lock()
	defer e.mu.Unlock()
	s, refused := e.creditor(c)
	if refused != nil {
		return *refused
	}
	results := []any{}
	for _, p := range e.mem.payments {
		if p.Org == s.IDPA {
			results = append(results, map[string]any{"organizationFiscalCode": p.Org, "iuv": p.IUV, "paymentDateTime": p.At.UTC().Format(time.RFC3339)})
		}
	}
	return emAnswer{status: http.StatusOK, body: map[string]any{"currentPageNumber": 0, "length": len(results), "totalPages": 1, "results": results}}
}
