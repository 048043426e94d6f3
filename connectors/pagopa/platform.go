package pagopa

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/httpclient"
	"github.com/dime-bus/dime/internal/schema"
)

// The platform's services below its base URL.
const (
	gpdPath      = "/gpd/debt-positions-service/v1/organizations/"
	receiptsPath = "/gpd/payments-receipts-service/v1/payments/"
	cartsPath    = "/checkout/ec/v1/carts"
	stationsPath = "/back-office/stations" // the virtual city's: done by hand in the real Back Office
)

const keyHeader = "Ocp-Apim-Subscription-Key"

type request struct {
	method string
	path   string
	query  url.Values
	body   any
	key    string // the effect's; "" for what reads
	accept string
	bare   bool // without a subscription key
}

// call sends a request. Its error is a *fault.Error; an answer of any status that
// is no fault of the transport is returned.
func (c *Connector) call(ctx context.Context, r request) (*httpclient.Response, error) {
	u := *c.base
	u.Path += r.path
	u.RawQuery = r.query.Encode()
	if r.accept == "" {
		r.accept = "application/json"
	}
	req := httpclient.Request{Method: r.method, URL: &u, Safe: r.key == "", Header: http.Header{"Accept": {r.accept}}}
	if r.key != "" {
		req.Header["X-Request-Id"] = []string{r.key}
	}
	switch {
	case !c.city:
		if err := connectors.ApplyHeaders(req.Header, c.settings.Headers); err != nil {
			return nil, unavailable("a credential of pagoPA can't be read", err)
		}
	case !r.bare: // the city gives us a key of its own; the true one stays here
		key, err := c.cityKey(ctx)
		if err != nil {
			return nil, err
		}
		req.Header[keyHeader] = []string{key}
	}
	if r.body != nil {
		b, err := schema.Canonical(r.body)
		if err != nil {
			return nil, &fault.Error{Kind: fault.Internal, Detail: "the request can't be written as JSON", Err: err}
		}
		req.Body, req.Header["Content-Type"] = b, []string{"application/json"}
	}
	return c.client.Do(ctx, req)
}

func refusal(resp *httpclient.Response, safe bool) *fault.Error {
	if f := httpclient.FaultOf(resp.Status, safe, resp.Header); f != nil {
		return f
	}
	return broken(resp, fmt.Sprintf("pagoPA answered %d, which its contract does not have", resp.Status))
}

func broken(resp *httpclient.Response, detail string) *fault.Error {
	return &fault.Error{Kind: fault.Contract, Sent: true, Raw: resp.Body[:min(len(resp.Body), 64<<10)], Detail: detail}
}

// stands is a position as GPD has it.
type stands struct {
	iuv, status string
	amount      int
}

func (c *Connector) readPosition(resp *httpclient.Response) (stands, *fault.Error) {
	v, wrong := c.answers.position.Decode(resp.Body)
	if len(wrong) > 0 {
		f := broken(resp, "GPD's answer breaks its contract: "+wrong[0].Message)
		f.Pointer = wrong[0].Pointer
		return stands{}, f
	}
	m, _ := v.(map[string]any)
	options, _ := m["paymentOption"].([]any)
	option, _ := options[0].(map[string]any)
	s := stands{}
	s.status, _ = m["status"].(string)
	s.iuv, _ = option["iuv"].(string)
	s.amount, _ = option["amount"].(int)
	return s, nil
}

// create asks GPD to publish a position. taken says that it answered 409.
func (c *Connector) create(ctx context.Context, p *position, key string) (s stands, taken bool, err error) {
	var parts []any
	for i, t := range p.Transfers {
		part := map[string]any{
			"idTransfer": strconv.Itoa(i + 1), "amount": t.Amount, "organizationFiscalCode": t.Organisation,
			"remittanceInformation": t.Description, "category": t.Category,
		}
		if t.Company != "" {
			part["companyName"] = t.Company
		}
		if t.Hash != "" {
			part["stamp"] = map[string]any{"hashDocument": base64Hash(t.Hash), "stampType": "01", "provincialResidence": t.Province}
		} else {
			part["iban"] = t.IBAN
		}
		parts = append(parts, part)
	}
	body := map[string]any{
		"iupd": p.IUPD, "type": p.Debtor.kind(), "fiscalCode": p.Debtor.Code, "fullName": p.Debtor.Name,
		"companyName": c.cfg.Company, "switchToExpired": true,
		"paymentOption": []any{map[string]any{
			"nav": p.notice(), "iuv": p.IUV, "amount": p.Amount, "description": p.Description, "isPartialPayment": false,
			"dueDate": c.lastInstant(p.Due).UTC().Format(time.RFC3339), "transfer": parts,
		}},
	}
	if c.cfg.Office != "" {
		body["officeName"] = c.cfg.Office
	}
	resp, err := c.call(ctx, request{method: http.MethodPost, path: gpdPath + c.cfg.Creditor + "/debtpositions", query: url.Values{"toPublish": {"true"}}, body: body, key: key})
	switch {
	case err != nil:
		return stands{}, false, err
	case resp.Status == http.StatusConflict:
		return stands{}, true, nil
	case resp.Status != http.StatusCreated:
		return stands{}, false, refusal(resp, false)
	}
	s, f := c.readPosition(resp)
	if f != nil {
		return s, false, f
	}
	if s.iuv != p.IUV || s.amount != p.Amount {
		return s, false, broken(resp, "GPD answered another position than was sent")
	}
	return s, false, nil
}

// lastInstant is the end of a day of the city.
func (c *Connector) lastInstant(day string) time.Time {
	d, err := time.ParseInLocation(time.DateOnly, day, c.zone)
	if err != nil {
		return c.clock.Now()
	}
	return time.Date(d.Year(), d.Month(), d.Day(), 23, 59, 59, 0, c.zone)
}

func base64Hash(hexadecimal string) string {
	b, _ := hex.DecodeString(hexadecimal)
	return base64.StdEncoding.EncodeToString(b)
}

// look asks GPD for a position by its IUPD: a NotFound fault where it has none.
func (c *Connector) look(ctx context.Context, iupd string) (stands, error) {
	resp, err := c.call(ctx, request{method: http.MethodGet, path: gpdPath + c.cfg.Creditor + "/debtpositions/" + url.PathEscape(iupd)})
	if err != nil {
		return stands{}, err
	}
	if resp.Status != http.StatusOK {
		f := refusal(resp, true)
		if f.Kind == fault.NotFound {
			f.Name, f.Detail = "no_position", "no position has this IUV"
		}
		return stands{}, f
	}
	s, f := c.readPosition(resp)
	if f != nil {
		return s, f
	}
	return s, nil
}

// invalidate asks GPD to take a position back. refused says that it answered 409.
func (c *Connector) invalidate(ctx context.Context, iupd, key string) (refused bool, err error) {
	resp, err := c.call(ctx, request{method: http.MethodPost, path: gpdPath + c.cfg.Creditor + "/debtpositions/" + url.PathEscape(iupd) + "/invalidate", key: key})
	switch {
	case err != nil:
		return false, err
	case resp.Status == http.StatusConflict:
		return true, nil
	case resp.Status != http.StatusOK:
		f := refusal(resp, false)
		if f.Kind == fault.NotFound {
			f.Name, f.Detail = "no_position", "no position has this IUV"
		}
		return false, f
	}
	s, f := c.readPosition(resp)
	if f != nil {
		return false, f
	}
	if s.status != "INVALID" {
		return false, broken(resp, "GPD invalidated the position and shows it as "+s.status)
	}
	return false, nil
}

// cart makes a page of Checkout for one notice (checkout v1, PostCarts: 302 with
// the address). It moves nothing, so it reads as far as attempts are concerned.
func (c *Connector) cart(ctx context.Context, p *position) (string, error) {
	back, err := c.returnURL()
	if err != nil {
		return "", err
	}
	resp, err := c.call(ctx, request{method: http.MethodPost, path: cartsPath, body: map[string]any{
		"paymentNotices": []any{map[string]any{
			"noticeNumber": p.notice(), "fiscalCode": c.cfg.Creditor, "amount": p.Amount, "companyName": c.cfg.Company, "description": p.Description,
		}},
		"returnUrls": map[string]any{"returnOkUrl": back + "esito=ok", "returnCancelUrl": back + "esito=annullato", "returnErrorUrl": back + "esito=errore"},
		"allCCP":     false,
	}})
	if err != nil {
		return "", err
	}
	if resp.Status != http.StatusFound {
		return "", refusal(resp, true)
	}
	to, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || to.Host == "" || to.Scheme != "https" && !(c.city && to.Scheme == "http") {
		return "", broken(resp, "Checkout answered no address to send the payer to")
	}
	return to.String(), nil
}

func (c *Connector) returnURL() (string, error) {
	raw := c.cfg.ReturnURL
	if raw == "" && c.host.URL != nil {
		if raw = c.host.URL("public"); raw != "" {
			raw += "/"
		}
	}
	if raw == "" && c.city {
		raw = c.base.String() + "/"
	}
	u, err := url.Parse(raw)
	if raw == "" || err != nil {
		return "", unavailable("Checkout is not told where to send payers back: say `return_url`", err)
	}
	sep := "?"
	if u.RawQuery != "" {
		sep = "&"
	}
	return raw + sep, nil
}

// cityKey is the subscription key of the virtual city, got by registering the
// station there.
func (c *Connector) cityKey(ctx context.Context) (string, error) {
	c.mu.Lock()
	key := c.key
	c.mu.Unlock()
	if key != "" {
		return key, nil
	}
	if b, found, err := c.table.Get(ctx, keyRow); err == nil && found {
		c.mu.Lock()
		c.key = string(b)
		c.mu.Unlock()
		return string(b), nil
	}
	return c.register(ctx)
}

// soapURL is where the node reaches our station.
func (c *Connector) soapURL() string {
	if c.host.URL == nil {
		return ""
	}
	u := c.host.URL("soap")
	if u == "" {
		return ""
	}
	return u + "/" + c.desc.Name + stationPath
}

// register tells the virtual city's back office who we are and where our station
// is, as an administrator does by hand on the real platform.
func (c *Connector) register(ctx context.Context) (string, error) {
	resp, err := c.call(ctx, request{method: http.MethodPost, path: stationsPath, bare: true, body: map[string]any{
		"idPA": c.cfg.Creditor, "idBrokerPA": c.cfg.Broker, "idStation": c.cfg.Station, "segregation": c.cfg.Segregation,
		"soap_url": c.soapURL(), "company": c.cfg.Company,
	}})
	if err != nil {
		return "", err
	}
	v, err := schema.DecodeJSON(resp.Body)
	m, _ := v.(map[string]any)
	key, _ := m["subscription_key"].(string)
	if resp.Status < 200 || resp.Status > 299 || err != nil || key == "" {
		return "", &fault.Error{Kind: fault.Unavailable, Detail: fmt.Sprintf("the virtual city's back office did not register the station: it answered %d", resp.Status)}
	}
	if err := c.table.Update(ctx, keyRow, func([]byte) ([]byte, error) { return []byte(key), nil }); err != nil {
		return "", unavailable(storeFails, err)
	}
	c.mu.Lock()
	c.key = key
	c.mu.Unlock()
	return key, nil
}
