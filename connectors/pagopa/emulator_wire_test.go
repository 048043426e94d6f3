package pagopa

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/dime-bus/dime/connectors"
)

// TestNeverWrong: whatever the connector says, the far side's judges find nothing
// in it, and both sides keep to the official files.
func TestNeverWrong(t *testing.T) {
	w := newTown(t, "")
	hash := strings.Repeat("5a", 32)
	must := func(op, key string, args map[string]any) map[string]any {
		t.Helper()
		v, err := w.do(op, key, args)
		if err != nil {
			t.Fatalf("%s: %v", op, err)
		}
		return v
	}
	asked := []map[string]any{
		{"amount": 1}, {"amount": 99999999, "description": strings.Repeat("à", 140)}, {"amount": 520, "description": `<&>"' €`, "payer_name": "Società <A> & B"},
		{"stamp": map[string]any{"document_hash": hash, "province": "VE"}}, {"stamp": map[string]any{"document_hash": hash, "province": "VE"}, "amount": 52},
		{"transfers": []any{map[string]any{"amount": 100, "description": "TARI"}, map[string]any{"amount": 5, "organisation": "80008840276", "iban": "IT60X0542811101000000123456", "description": "TEFA"}}},
		{"amount": 100, "payer": "00339370272"},
	}
	for i, args := range asked {
		if args["payer"] == nil {
			args["payer"] = "RSSMRA80A01L736U"
		}
		p := must("open_position", fmt.Sprint("k-", i), args)
		iuv := map[string]any{"iuv": p["iuv"]}
		must("open_position", fmt.Sprint("k-", i), args) // said again
		must("position", "", iuv)
		must("checkout", "", iuv)
		page := fmt.Sprint(p["checkout_url"])
		if status, body, _ := browse(t, "GET", page); status != http.StatusOK || !strings.Contains(body, "Paga</button>") {
			t.Fatalf("%v: %d %s", args, status, body)
		}
		if i == 0 {
			must("close_position", "c-0", iuv)
			browse(t, "GET", page)
			continue
		}
		if status, body, _ := browse(t, "POST", page+"/paga"); status != http.StatusSeeOther {
			t.Fatalf("%v: %d %s", args, status, body)
		}
		w.event()
		must("receipt", "", iuv)
		browse(t, "GET", page)
		if _, err := w.do("close_position", fmt.Sprint("c-", i), iuv); err == nil {
			t.Error("a paid position was closed")
		}
	}
	if _, err := w.do("receipt", "", map[string]any{"iuv": "01000000000000000"}); err == nil {
		t.Error("a receipt of nothing")
	}
	key := w.e.stationOf("00339370272").Key
	for _, path := range []string{orgPath + "?page=0&limit=2", "/gpd/payments-receipts-service/v1/payments/00339370272/receipts", orgPath + "/none"} {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Header.Set("Ocp-Apim-Subscription-Key", key)
		rec := httptest.NewRecorder()
		w.e.ServeHTTP(rec, r)
		w.mu.Lock()
		w.wire = append(w.wire, exchange{"GET /pagopa" + path, "", "", rec.Code, rec.Header().Get("Content-Type"), rec.Body.String()})
		w.mu.Unlock()
	}
	seen := map[string]int{}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range w.wire {
		if x.action != "" {
			seen[x.action]++
			r, why := judgeReply(x.status, x.kind, []byte(x.answer), x.action)
			switch {
			case why != "":
				t.Errorf("%s: the node would say: %s\n%s", x.action, why, x.answer)
			case r.Outcome == "OK" && x.action == "paVerifyPaymentNotice":
				if _, why := judgeVerify(r, w.e.stationOf("00339370272")); why != "" {
					t.Errorf("%s: the node would say: %s\n%s", x.action, why, x.answer)
				}
			case r.Outcome == "OK" && x.action == "paGetPaymentV2":
				notice := between(x.request, "<noticeNumber>", "<")
				if _, why := judgePayment(r, w.e.stationOf("00339370272"), notice, w.e.mem.notices["00339370272/"+notice]); why != "" {
					t.Errorf("%s: the node would say: %s\n%s", x.action, why, x.answer)
				}
			}
			valid(t, x.request)
			valid(t, x.answer)
			continue
		}
		path := strings.TrimPrefix(x.path[strings.Index(x.path, " ")+1:], "/pagopa")
		kind := strings.Fields(x.path)[0] + " " + strings.Split(strings.TrimPrefix(path, "/"), "/")[0]
		seen[kind]++
		post := strings.HasPrefix(x.path, "POST")
		switch {
		case x.status == http.StatusNotFound || x.status == http.StatusConflict: // refusals of a state, not of a form
			official(t, "gpd.json", "ProblemJson", []byte(x.answer))
		case x.status >= 400:
			t.Errorf("%s: the platform refuses what the connector said: %d %s\n%s", x.path, x.status, x.answer, x.request)
		case strings.HasPrefix(path, orgPath) && strings.Contains(path, "page="):
			official(t, "gpd.json", "PaymentPositionsInfo", []byte(x.answer))
		case strings.HasPrefix(path, orgPath):
			official(t, "gpd.json", "PaymentPositionModelBaseResponse", []byte(x.answer))
		case strings.HasSuffix(path, "/receipts"):
			official(t, "gpd_payments.json", "PaymentsResult", []byte(x.answer))
		case strings.HasPrefix(path, "/gpd/payments-receipts-service"):
			lint(t, x.answer, "pagopa-soap/wsdl/xsd/paForNode.xsd")
		}
		switch {
		case post && strings.HasPrefix(path, orgPath) && x.request != "":
			official(t, "gpd.json", "PaymentPositionModel", []byte(x.request))
		case post && path == cartPath:
			official(t, "checkout_v1.json", "CartRequest", []byte(x.request))
		}
	}
	for what, n := range map[string]int{"paVerifyPaymentNotice": 7, "paGetPaymentV2": 6, "paSendRTV2": 6, "POST gpd": 14, "GET gpd": 12, "POST checkout": 14} {
		if seen[what] < n {
			t.Errorf("%s was said %d times, which is too little to show anything", what, seen[what])
		}
	}
}

func between(s, begin, end string) string {
	_, rest, _ := strings.Cut(s, begin)
	v, _, _ := strings.Cut(rest, end)
	return v
}

// TestRefusalsAreProblems: every refusal has GPD's ProblemJson, also what the city
// itself makes of a fault.
func TestRefusalsAreProblems(t *testing.T) {
	w := newTown(t, "")
	for _, f := range []string{"denied", "invalid", "unavailable", "throttled", "server-error", "no_position"} {
		w.faults.Store("position."+f, true)
		rec := httptest.NewRecorder()
		w.e.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, orgPath+"/U-1", nil))
		w.faults.Delete("position." + f)
		if rec.Code < 400 || rec.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s", f, rec.Code, rec.Header().Get("Content-Type"))
		}
		official(t, "gpd.json", "ProblemJson", rec.Body.Bytes())
	}
}

// FuzzPlatform: whatever is sent to the platform, it answers with no 5xx.
func FuzzPlatform(f *testing.F) {
	s := newStation(f)
	far, err := s.Emulator(connectors.EmulatorConfig{})
	if err != nil {
		f.Fatal(err)
	}
	e := far.(*Emulator)
	f.Cleanup(func() { _ = e.Close() })
	call := func(method, path, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, "/", strings.NewReader(body))
		r.URL.Path, r.URL.RawQuery, _ = strings.Cut(path, "?")
		r.Header.Set("Content-Type", "application/json")
		if st := e.stationOf("00339370272"); st != nil {
			r.Header.Set("Ocp-Apim-Subscription-Key", st.Key)
		}
		rec := httptest.NewRecorder()
		e.ServeHTTP(rec, r)
		return rec
	}
	if rec := call("POST", "/back-office/stations", `{"idPA":"00339370272","idBrokerPA":"00339370272","idStation":"00339370272_01","segregation":"01","soap_url":"","company":"x"}`); rec.Code != 200 {
		f.Fatal(rec.Body)
	}
	good, err := json.Marshal(goodPosition())
	if err != nil {
		f.Fatal(err)
	}
	f.Add("POST", orgPath+"?toPublish=true", string(good))
	f.Add("PUT", orgPath+"/U-1", string(good))
	f.Add("GET", orgPath+"?page=0&limit=10", "")
	f.Add("GET", orgPath+"?page=9223372036854775807&limit=50", "")
	f.Add("POST", orgPath+"/U-1/invalidate", "")
	f.Add("DELETE", orgPath+"/U-1", "")
	f.Add("POST", cartPath, `{"paymentNotices":[{"noticeNumber":"301011100007347557","fiscalCode":"00339370272","amount":1,"companyName":"x","description":"x"}],"returnUrls":{"returnOkUrl":"https://a.example/","returnCancelUrl":"https://a.example/","returnErrorUrl":"https://a.example/"}}`)
	f.Add("GET", "/paga/301011100007347557", "")
	f.Add("POST", "/paga/301011100007347557", "")
	f.Add("POST", "/back-office/stations", `{"idPA":null}`)
	f.Fuzz(func(t *testing.T, method, path, body string) {
		switch method {
		case "GET", "POST", "PUT", "DELETE":
		default:
			return
		}
		if !strings.HasPrefix(path, "/") {
			return
		}
		if rec := call(method, path, body); rec.Code >= 500 {
			t.Errorf("%s %q: %d %s", method, path, rec.Code, rec.Body)
		}
	})
}
