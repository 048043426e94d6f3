package pagopa

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// goodPosition is one that GPD takes.
func goodPosition() map[string]any {
	return map[string]any{
		"iupd": "U-1", "type": "F", "fiscalCode": "RSSMRA80A01L736U", "fullName": "Mario Rossi", "companyName": "Comune di Venezia", "switchToExpired": true,
		"paymentOption": []any{map[string]any{
			"nav": "301011100007347557", "iuv": "01011100007347557", "amount": 1700, "description": "Diritti", "isPartialPayment": false,
			"dueDate": time.Now().Add(48 * time.Hour).UTC().Format(time.RFC3339),
			"transfer": []any{
				map[string]any{"idTransfer": "1", "amount": 1600, "organizationFiscalCode": "00339370272", "remittanceInformation": "Bollo", "category": "9/x/",
					"stamp": map[string]any{"hashDocument": "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=", "stampType": "01", "provincialResidence": "VE"}},
				map[string]any{"idTransfer": "2", "amount": 100, "remittanceInformation": "Diritti", "category": "9/y/", "iban": "IT60X0542811101000000123456"},
			},
		}},
	}
}

// wrong is one request that the platform refuses, and why.
type wrong struct {
	name   string
	path   string // below the platform; "" posts a position
	method string
	key    string // "" is the right one, "-" none
	change func(position map[string]any)
	raw    string // instead of a position
	status int
	says   string
}

func option(p map[string]any) map[string]any { return p["paymentOption"].([]any)[0].(map[string]any) }
func transferOf(p map[string]any, i int) map[string]any {
	return option(p)["transfer"].([]any)[i].(map[string]any)
}
func stampIn(p map[string]any) map[string]any { return transferOf(p, 0)["stamp"].(map[string]any) }

const (
	orgPath  = "/gpd/debt-positions-service/v1/organizations/00339370272/debtpositions"
	cartPath = "/checkout/ec/v1/carts"
)

func wrongs() []wrong {
	set := func(name, field string, v any, says string) wrong {
		return wrong{name: name, change: func(p map[string]any) { p[field] = v }, status: 400, says: says}
	}
	opt := func(name, field string, v any, says string) wrong {
		return wrong{name: name, change: func(p map[string]any) { option(p)[field] = v }, status: 400, says: says}
	}
	tr := func(name, field string, v any, says string) wrong {
		return wrong{name: name, change: func(p map[string]any) { transferOf(p, 1)[field] = v }, status: 400, says: says}
	}
	st := func(name, field string, v any, says string) wrong {
		return wrong{name: name, change: func(p map[string]any) { stampIn(p)[field] = v }, status: 400, says: says}
	}
	cart := func(name, body, says string) wrong {
		return wrong{name: name, path: cartPath, raw: body, status: 400, says: says}
	}
	const urls = `,"returnUrls":{"returnOkUrl":"https://a.example/","returnCancelUrl":"https://a.example/","returnErrorUrl":"https://a.example/"}`
	notice := func(number, cf, amount, company string) string {
		return `{"paymentNotices":[{"noticeNumber":"` + number + `","fiscalCode":"` + cf + `","amount":` + amount + `,"companyName":"` + company + `","description":"x"}]` + urls + `}`
	}
	station := func(name, change, says string) wrong {
		fields := map[string]string{"idPA": "00339370272", "idBrokerPA": "00339370272", "idStation": "00339370272_01", "segregation": "01", "soap_url": "http://a.example/", "company": "x"}
		k, v, _ := strings.Cut(change, "=")
		fields[k] = v
		b, _ := json.Marshal(fields)
		return wrong{name: name, path: "/back-office/stations", raw: string(b), status: 400, says: says}
	}
	return []wrong{
		{name: "no key", key: "-", status: 401, says: "missing subscription key"},
		{name: "a wrong key", key: "nobody's", status: 401, says: "invalid subscription key"},
		{name: "another organization", path: strings.Replace(orgPath, "00339370272", "80015010723", 1), status: 403, says: "not this organization"},
		{name: "no JSON", raw: "{", status: 400, says: "contract"},
		{name: "two values", raw: "{} {}", status: 400, says: "more than one value"},
		{name: "a list", raw: "[]", status: 400, says: "contract"},
		{name: "an unknown field", change: func(p map[string]any) { p["colour"] = "red" }, status: 400, says: "unknown field"},
		{name: "a number where a text is due", change: func(p map[string]any) { p["fullName"] = 7 }, status: 400, says: "contract"},
		{name: "an amount with a fraction", change: func(p map[string]any) { option(p)["amount"] = 17.5 }, status: 400, says: "contract"},
		{name: "too long a body", raw: strings.Repeat(" ", 1<<20+1), status: 413, says: "1 MiB"},
		{name: "toPublish of another kind", path: orgPath + "?toPublish=perhaps", status: 400, says: "toPublish"},
		{name: "an unknown address", path: "/gpd/debt-positions-service/v2/x", status: 404, says: "no such address"},
		{name: "a position that is not there", path: orgPath + "/U-404", method: "GET", status: 404, says: "No debt position"},
		{name: "invalidating what is not there", path: orgPath + "/U-404/invalidate", status: 404, says: "No debt position"},
		{name: "a receipt that is not there", path: "/gpd/payments-receipts-service/v1/payments/00339370272/receipts/01011100007347557", method: "GET", status: 404, says: "no receipt"},
		{name: "a receipt without a key", path: "/gpd/payments-receipts-service/v1/payments/00339370272/receipts/01011100007347557", method: "GET", key: "-", status: 401, says: "missing"},
		{name: "a list without a page", path: orgPath, method: "GET", status: 400, says: "page"},
		{name: "too long a list", path: orgPath + "?page=0&limit=51", method: "GET", status: 400, says: "limit"},
		set("no iupd", "iupd", "", "iupd"), set("an iupd with a slash", "iupd", "a/b", "iupd"), set("too long an iupd", "iupd", strings.Repeat("x", 51), "iupd"),
		set("another type", "type", "X", "type"), set("a company that is a person", "type", "G", "fiscalCode"),
		set("a wrong fiscal code", "fiscalCode", "RSSMRA80A01L736X", "fiscalCode"), set("no name", "fullName", "", "fullName"), set("too long a name", "fullName", strings.Repeat("x", 71), "fullName"),
		set("no company", "companyName", "", "companyName"), set("too long an office", "officeName", strings.Repeat("x", 141), "officeName"),
		set("no switchToExpired", "switchToExpired", nil, "switchToExpired"), set("a status", "status", "PAID", "read only"),
		set("a past validity", "validityDate", "2020-01-01T00:00:00Z", "validityDate"), set("an email without an at", "email", "x", "email"), set("no option", "paymentOption", []any{}, "paymentOption"),
		opt("too short an iuv", "iuv", "0101", "iuv"), opt("letters in the iuv", "iuv", "0101110000734755X", "iuv"), opt("another nav", "nav", "301011100007347558", "nav"),
		{name: "another segregation code", change: func(p map[string]any) { option(p)["iuv"], option(p)["nav"] = "02011100007347500", "302011100007347500" }, status: 400, says: "segregation"},
		{name: "wrong check digits", change: func(p map[string]any) { option(p)["iuv"], option(p)["nav"] = "01011100007347558", "301011100007347558" }, status: 400, says: "check digits"},
		opt("nothing to pay", "amount", 0, "amount"), opt("another sum", "amount", 1701, "sum"), opt("no description", "description", "", "description"),
		opt("too long a description", "description", strings.Repeat("x", 141), "description"), opt("no isPartialPayment", "isPartialPayment", nil, "isPartialPayment"),
		opt("partial", "isPartialPayment", true, "not partial"), opt("no due date", "dueDate", "soon", "dueDate"), opt("a past due date", "dueDate", "2020-01-01T00:00:00Z", "past"),
		opt("no transfer", "transfer", []any{}, "1 to 5"),
		{name: "a transfer twice", change: func(p map[string]any) { transferOf(p, 1)["idTransfer"] = "1" }, status: 400, says: "twice"},
		tr("a sixth transfer", "idTransfer", "6", "1 to 5"), tr("a transfer of nothing", "amount", 0, "amount"), tr("a wrong creditor", "organizationFiscalCode", "00339370273", "organizationFiscalCode"),
		tr("no remittance", "remittanceInformation", "", "remittanceInformation"), tr("no category", "category", "", "category"), tr("neither iban nor stamp", "iban", "", "either"),
		tr("a wrong iban", "iban", "IT61X0542811101000000123456", "iban"), tr("both", "stamp", map[string]any{"hashDocument": "x", "stampType": "01", "provincialResidence": "VE"}, "either"),
		st("a digest in hexadecimal", "hashDocument", strings.Repeat("ab", 32), "hashDocument"), st("a short digest", "hashDocument", "q6s=", "hashDocument"),
		st("another stamp", "stampType", "02", "stampType"), st("a small province", "provincialResidence", "ve", "provincialResidence"),
		{name: "another price", change: func(p map[string]any) { transferOf(p, 0)["amount"], option(p)["amount"] = 1500, 1600 }, status: 400, says: "16.00"},
		cart("an empty cart", `{"paymentNotices":[]`+urls+`}`, "1 to 5"), cart("no addresses", `{"paymentNotices":[{"noticeNumber":"301011100007347557","fiscalCode":"00339370272","amount":1,"companyName":"x","description":"x"}]}`, "returnUrls"),
		cart("wrong check digits in a cart", notice("301011100007347558", "00339370272", "1", "x"), "noticeNumber"), cart("a short creditor", notice("301011100007347557", "123", "1", "x"), "fiscalCode"),
		cart("a cart of nothing", notice("301011100007347557", "00339370272", "0", "x"), "amount"), cart("a cart without a company", notice("301011100007347557", "00339370272", "1", ""), "companyName"),
		cart("a notice twice in a cart", strings.Replace(notice("301011100007347557", "00339370272", "1", "x"), "}]", `},{"noticeNumber":"301011100007347557","fiscalCode":"00339370272","amount":1,"companyName":"x","description":"x"}]`, 1), "there twice"),
		cart("a cart of six", strings.Replace(notice("301011100007347557", "00339370272", "1", "x"), "}]", "}"+strings.Repeat(",{}", 5)+"]", 1), "1 to 5"),
		cart("a stranger's cart", notice("301011100007347557", "80015010723", "1", "x"), "PPT_DOMINIO_SCONOSCIUTO"),
		cart("an address that is none", strings.Replace(notice("301011100007347557", "00339370272", "1", "x"), "https://a.example/", "javascript:alert(1)", 1), "returnUrls"),
		station("a creditor of ten digits", "idPA=0033937027", "idPA"), station("another broker's station", "idStation=80015010723_01", "idStation"), station("a segregation beyond 49", "segregation=50", "segregation"),
		station("no address", "soap_url=ftp://a.example/", "soap_url"), station("a station without a company", "company=", "company"), station("a short broker", "idBrokerPA=1", "idBrokerPA"),
	}
}

func TestPlatformRefuses(t *testing.T) {
	w := newTown(t, "")
	if _, err := w.c.register(t.Context()); err != nil {
		t.Fatal(err)
	}
	key := w.e.stationOf("00339370272").Key
	if n := len(wrongs()); n < 60 {
		t.Errorf("the table has %d rows", n)
	}
	send := func(x wrong) (int, string) {
		t.Helper()
		body := x.raw
		if body == "" && x.method != "GET" {
			p := goodPosition()
			if x.change != nil {
				x.change(p)
			}
			b, err := json.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			body = string(b)
		}
		method, path := x.method, x.path
		if method == "" {
			method = "POST"
		}
		if path == "" {
			path = orgPath
		}
		r, err := http.NewRequest(method, w.far.URL+"/pagopa"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		switch x.key {
		case "":
			r.Header.Set("Ocp-Apim-Subscription-Key", key)
		case "-":
		default:
			r.Header.Set("Ocp-Apim-Subscription-Key", x.key)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	seen := map[string]string{}
	for _, x := range wrongs() {
		status, body := send(x)
		if status != x.status || !strings.Contains(body, x.says) {
			t.Errorf("%s: %d %s; want %d and %q", x.name, status, body, x.status, x.says)
		}
		if seen[x.name] != "" {
			t.Errorf("%s is there twice", x.name)
		}
		seen[x.name] = body
	}
	// And the good one is taken, once, and closed, once.
	if status, body := send(wrong{path: orgPath + "?toPublish=true"}); status != 201 || !strings.Contains(body, `"VALID"`) {
		t.Fatalf("%d %s", status, body)
	}
	if status, _ := send(wrong{path: orgPath + "?toPublish=true"}); status != 409 {
		t.Errorf("the same IUPD again: %d", status)
	}
	if status, _ := send(wrong{change: func(p map[string]any) { p["iupd"] = "U-2" }}); status != 409 {
		t.Errorf("the same IUV again: %d", status)
	}
	for i, want := range []int{200, 409} {
		if status, body := send(wrong{path: orgPath + "/U-1/invalidate", raw: " "}); status != want {
			t.Errorf("closing, %d: %d %s", i, status, body)
		}
	}
	if status, _ := send(wrong{path: orgPath + "/U-1", method: "PUT"}); status != 409 {
		t.Errorf("changing what is no draft: %d", status)
	}
}
