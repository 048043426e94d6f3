package pagopa

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// The answers of a creditor that the node takes.
const (
	goodVerify = `<outcome>OK</outcome><paymentList><paymentOptionDescription><amount>17.00</amount><options>EQ</options><dueDate>2026-12-24</dueDate>` +
		`<detailDescription>Diritti</detailDescription><allCCP>false</allCCP></paymentOptionDescription></paymentList><paymentDescription>Diritti</paymentDescription>` +
		`<fiscalCodePA>00339370272</fiscalCodePA><companyName>Comune di Venezia</companyName><officeName>Anagrafe</officeName>`
	goodPayment = `<outcome>OK</outcome><data><creditorReferenceId>01011100007347557</creditorReferenceId><paymentAmount>17.00</paymentAmount><dueDate>2026-12-24</dueDate>` +
		`<lastPayment>true</lastPayment><description>Diritti</description><companyName>Comune di Venezia</companyName><debtor><uniqueIdentifier>` +
		`<entityUniqueIdentifierType>F</entityUniqueIdentifierType><entityUniqueIdentifierValue>RSSMRA80A01L736U</entityUniqueIdentifierValue></uniqueIdentifier>` +
		`<fullName>Mario Rossi</fullName></debtor><transferList><transfer><idTransfer>1</idTransfer><transferAmount>16.00</transferAmount>` +
		`<fiscalCodePA>00339370272</fiscalCodePA><richiestaMarcaDaBollo><hashDocumento>q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=</hashDocumento>` +
		`<tipoBollo>01</tipoBollo><provinciaResidenza>VE</provinciaResidenza></richiestaMarcaDaBollo><remittanceInformation>Bollo</remittanceInformation>` +
		`<transferCategory>9/x/</transferCategory></transfer><transfer><idTransfer>2</idTransfer><transferAmount>1.00</transferAmount>` +
		`<fiscalCodePA>00339370272</fiscalCodePA><IBAN>IT60X0542811101000000123456</IBAN><remittanceInformation>Diritti</remittanceInformation>` +
		`<transferCategory>9/y/</transferCategory></transfer></transferList></data>`
	goodReceipt = `<outcome>OK</outcome>`
	refusal409  = `<outcome>KO</outcome><fault><faultCode>PAA_PAGAMENTO_SCADUTO</faultCode><faultString>x</faultString><id>00339370272</id></fault>`
)

func answerOf(action, inside string) string {
	return `<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="` + emEnvelope + `" xmlns:pafn="` + emSpace + `"><soapenv:Body><pafn:` +
		emResponse(action) + `>` + inside + `</pafn:` + emResponse(action) + `></soapenv:Body></soapenv:Envelope>`
}

// judged is everything that the node says of an answer, as verify, settle and
// deliver ask it; "" is nothing, a KO's code is the creditor's own word.
func judged(action string, status int, kind, text string) string {
	s := &emStation{IDPA: "00339370272"}
	gpd := &emPosition{Body: emBody{PaymentOption: []emOption{{Amount: 1700, Transfer: []emTransfer{
		{Amount: 1600, Stamp: &emStamp{HashDocument: "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s="}}, {Amount: 100, IBAN: "IT60X0542811101000000123456"},
	}}}}}
	r, why := judgeReply(status, kind, []byte(text), action)
	switch {
	case why != "":
	case r.Outcome == "KO":
		why = r.Fault.Code
	case action == "paVerifyPaymentNotice":
		_, why = judgeVerify(r, s)
	case action == "paGetPaymentV2":
		_, why = judgePayment(r, s, "301011100007347557", gpd)
	}
	return why
}

// TestNodeJudges: the node refuses each wrong answer of a creditor for its own reason.
func TestNodeJudges(t *testing.T) {
	const v, g, rt, ok, xml = "paVerifyPaymentNotice", "paGetPaymentV2", "paSendRTV2", http.StatusOK, "text/xml; charset=utf-8"
	good := map[string]string{v: goodVerify, g: goodPayment, rt: goodReceipt}
	for action, inside := range good {
		if why := judged(action, ok, xml, answerOf(action, inside)); why != "" {
			t.Errorf("%s: a good answer is refused: %s", action, why)
		}
		if why := judged(action, ok, xml, answerOf(action, refusal409)); why != "PAA_PAGAMENTO_SCADUTO" {
			t.Errorf("%s: a KO says %q", action, why)
		}
		valid(t, answerOf(action, inside))
		valid(t, answerOf(action, refusal409))
	}
	const amount, one, two = "<amount>17.00</amount>", "<idTransfer>1</idTransfer>", "<idTransfer>2</idTransfer>"
	begin := strings.Index(goodPayment, "<transfer>")
	transfers := goodPayment[begin:strings.Index(goodPayment, "</transferList>")]
	second := transfers[strings.LastIndex(transfers, "<transfer>"):]
	for _, x := range []struct{ name, action, old, by, says string }{
		{"no outcome", v, "<outcome>OK</outcome>", "", "lacks outcome"},
		{"another outcome", v, "OK<", "SI<", "outcome does not hold"},
		{"outcome in the node's namespace", rt, goodReceipt, "<pafn:outcome>OK</pafn:outcome>", "lacks outcome"},
		{"outcome at the end", v, goodVerify, goodVerify[len("<outcome>OK</outcome>"):] + "<outcome>OK</outcome>", "lacks outcome"},
		{"an element that no type has", v, "<companyName>", "<colour>red</colour><companyName>", "holds colour"},
		{"text between elements", v, "<paymentList>", "yes<paymentList>", "text between"},
		{"an OK with a fault", rt, "</outcome>", "</outcome><fault><faultCode>PAA_SEMANTICA</faultCode><faultString>x</faultString><id>x</id></fault>", "an OK has a fault"},
		{"a KO without a fault", rt, "OK", "KO", "no fault of the creditor's"},
		{"a KO with the node's own fault", rt, "OK</outcome>", "KO</outcome><fault><faultCode>PPT_SYSTEM_ERROR</faultCode><faultString>x</faultString><id>x</id></fault>", "no fault of the creditor's"},
		{"a KO whose fault has no id", rt, "OK</outcome>", "KO</outcome><fault><faultCode>PAA_SEMANTICA</faultCode><faultString>x</faultString></fault>", "lacks id"},
		{"no amount", v, amount, "", "lacks amount"},
		{"an amount without cents", v, "17.00", "17", "amount does not hold"},
		{"an amount with a comma", v, "17.00", "17,00", "amount does not hold"},
		{"an amount of nothing", v, "17.00", "0.00", "amount does not hold"},
		{"an amount below nothing", v, "17.00", "-17.00", "amount does not hold"},
		{"an amount that is too large", v, "17.00", "9999999999.00", "amount does not hold"},
		{"an amount that may be less", v, "EQ", "LS", "must be equal"},
		{"options that no type has", v, "EQ", "MAYBE", "options does not hold"},
		{"no allCCP", v, "<allCCP>false</allCCP>", "", "lacks allCCP"},
		{"a date that is none", v, "2026-12-24", "2026-13-24", "dueDate does not hold"},
		{"two options", v, "</paymentOptionDescription>", "</paymentOptionDescription><paymentOptionDescription>" + amount + "<options>EQ</options><allCCP>false</allCCP></paymentOptionDescription>", "holds paymentOptionDescription"},
		{"an OK without options", v, goodVerify, goodReceipt, "names one option"},
		{"another creditor", v, "00339370272", "80015010723", "creditor is another"},
		{"a creditor of ten digits", v, "00339370272", "0033937027", "fiscalCodePA does not hold"},
		{"a creditor without a name", v, "<companyName>Comune di Venezia</companyName>", "", "creditor has no name"},
		{"a name that is too long", v, "Comune di Venezia", strings.Repeat("x", 141), "companyName does not hold"},
		{"an OK without data", g, goodPayment, goodReceipt, "no data"},
		{"another IUV", g, "01011100007347557", "01011100007347558", "not the notice's IUV"},
		{"a total that is not the sum", g, "<paymentAmount>17.00", "<paymentAmount>18.00", "do not sum up"},
		{"another total than GPD's", g, goodPayment, strings.NewReplacer("<paymentAmount>17.00", "<paymentAmount>18.00", "<transferAmount>1.00", "<transferAmount>2.00").Replace(goodPayment), "different amounts"},
		{"other parts than GPD's", g, goodPayment, strings.NewReplacer("<transferAmount>16.00", "<transferAmount>15.00", "<transferAmount>1.00", "<transferAmount>2.00").Replace(goodPayment), "different transfers"},
		{"another IBAN than GPD's", g, "IT60X0542811101000000123456", "IT40S0542811101000000123456", "different transfers"},
		{"another document than GPD's", g, "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "different transfers"},
		{"no due date", g, "<dueDate>2026-12-24</dueDate>", "", "lacks dueDate"},
		{"elements in another order", g, "<description>Diritti</description><companyName>Comune di Venezia</companyName>", "<companyName>Comune di Venezia</companyName><description>Diritti</description>", "lacks description"},
		{"a description that is too long", g, "<description>Diritti", "<description>" + strings.Repeat("x", 141), "description does not hold"},
		{"no debtor", g, goodPayment[strings.Index(goodPayment, "<debtor>") : strings.Index(goodPayment, "</debtor>")+9], "", "lacks debtor"},
		{"a debtor of another kind", g, "Type>F<", "Type>X<", "entityUniqueIdentifierType does not hold"},
		{"a debtor without a code", g, "RSSMRA80A01L736U", "", "entityUniqueIdentifierValue does not hold"},
		{"a debtor without a name", g, "Mario Rossi", "", "fullName does not hold"},
		{"no transfer", g, transfers, "", "lacks transfer"},
		{"six transfers", g, transfers, transfers + strings.Repeat(second, 4), "holds transfer"},
		{"a transfer from 2", g, one, two, "numbered from 1"},
		{"a sixth number", g, two, "<idTransfer>6</idTransfer>", "idTransfer does not hold"},
		{"a transfer of nothing", g, "<transferAmount>1.00", "<transferAmount>0.00", "transferAmount does not hold"},
		{"a transfer to nobody", g, "<fiscalCodePA>00339370272</fiscalCodePA><IBAN>", "<IBAN>", "lacks fiscalCodePA"},
		{"neither IBAN nor stamp", g, "<IBAN>IT60X0542811101000000123456</IBAN>", "", "an IBAN or a stamp"},
		{"IBAN and stamp", g, "<richiestaMarcaDaBollo>", "<IBAN>IT60X0542811101000000123456</IBAN><richiestaMarcaDaBollo>", "an IBAN or a stamp"},
		{"an IBAN with wrong check digits", g, "IT60X", "IT61X", "an IBAN is not valid"},
		{"a stamp of another kind", g, "<tipoBollo>01", "<tipoBollo>02", "tipoBollo does not hold"},
		{"a stamp of no province", g, ">VE<", ">ve<", "provinciaResidenza does not hold"},
		{"a stamp on nothing", g, "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=", "", "hashDocumento does not hold"},
		{"a stamp on another digest", g, "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=", "q6urqw==", "richiestaMarcaDaBollo is not valid"},
		{"no category", g, "<transferCategory>9/x/</transferCategory>", "", "lacks transferCategory"},
		{"metadata of nothing", g, "</transferList>", "</transferList><metadata></metadata>", "lacks mapEntry"},
	} {
		inside := strings.Replace(good[x.action], x.old, x.by, 1)
		if inside == good[x.action] {
			t.Fatalf("%s changes nothing", x.name)
		}
		if why := judged(x.action, ok, xml, answerOf(x.action, inside)); !strings.Contains(why, x.says) {
			t.Errorf("%s: the node says %q, want %q", x.name, why, x.says)
		}
	}
	whole := answerOf(v, goodVerify)
	for _, x := range []struct {
		name       string
		status     int
		kind, text string
		says       string
	}{
		{"a server error", http.StatusInternalServerError, xml, whole, "status 500"},
		{"a redirect", http.StatusFound, xml, whole, "status 302"},
		{"JSON", ok, "application/json", whole, "no XML"},
		{"a page", ok, "text/html", whole, "no XML"},
		{"nothing", ok, xml, "", "empty"},
		{"half of it", ok, xml, whole[:len(whole)/2], "not well formed"},
		{"a broken element", ok, xml, strings.Replace(whole, "</amount>", "</amunt>", 1), "not well formed"},
		{"two roots", ok, xml, whole + "<x/>", "two roots"},
		{"text behind", ok, xml, whole + "x", "outside its root"},
		{"a DOCTYPE", ok, xml, strings.Replace(whole, "<soapenv:Envelope", "<!DOCTYPE x [<!ENTITY a 'b'>]><soapenv:Envelope", 1), "DOCTYPE"},
		{"an entity", ok, xml, strings.Replace(whole, "Diritti", "&dir;", 1), "not well formed"},
		{"no envelope", ok, xml, `<a/>`, "no envelope"},
		{"another SOAP", ok, xml, strings.ReplaceAll(whole, emEnvelope, "http://www.w3.org/2003/05/soap-envelope"), "no envelope"},
		{"no body", ok, xml, `<s:Envelope xmlns:s="` + emEnvelope + `"><s:Header/></s:Envelope>`, "no envelope"},
		{"two answers", ok, xml, strings.Replace(whole, "</soapenv:Body>", "<x/></soapenv:Body>", 1), "one body"},
		{"a SOAP fault", ok, xml, `<s:Envelope xmlns:s="` + emEnvelope + `"><s:Body><s:Fault/></s:Body></s:Envelope>`, "another question"},
		{"the answer to another question", ok, xml, answerOf(rt, goodReceipt), "another question"},
		{"another namespace", ok, xml, strings.Replace(whole, emSpace, "urn:x", 1), "another question"},
		{"too deep", ok, xml, strings.Repeat("<a>", 40) + strings.Repeat("</a>", 40), "too much"},
		{"too many", ok, xml, "<a>" + strings.Repeat("<b/>", 5000) + "</a>", "too much"},
		{"another charset", ok, xml, strings.Replace(whole, "UTF-8", "EBCDIC", 1), "not well formed"},
	} {
		if why := judged(v, x.status, x.kind, x.text); !strings.Contains(why, x.says) {
			t.Errorf("%s: the node says %q, want %q", x.name, why, x.says)
		}
	}
}

// TestNodeWaits: an answer that is late, breaks off or does not come at all.
func TestNodeWaits(t *testing.T) {
	w := newTown(t, "")
	end := make(chan struct{})
	say := func(h http.HandlerFunc) *emStation {
		srv := httptest.NewServer(h)
		t.Cleanup(srv.Close)
		return &emStation{SoapURL: srv.URL}
	}
	gone := httptest.NewServer(nil)
	gone.Close()
	for _, x := range []struct {
		name string
		s    *emStation
		code string
	}{
		{"late", say(func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-end:
			case <-r.Context().Done():
			}
		}), "PPT_STAZIONE_INT_PA_TIMEOUT"},
		{"broken off", say(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Length", "1000")
			_, _ = rw.Write([]byte("<a>"))
			_ = http.NewResponseController(rw).Flush()
			panic(http.ErrAbortHandler)
		}), "PPT_STAZIONE_INT_PA_TIMEOUT"},
		{"nobody there", &emStation{SoapURL: gone.URL}, "PPT_STAZIONE_INT_PA_ERRORE_RESPONSE"},
		{"no address", &emStation{}, "PPT_STAZIONE_INT_PA_SCONOSCIUTA"},
		{"a server error", say(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusInternalServerError) }), "PPT_STAZIONE_INT_PA_ERRORE_RESPONSE"},
	} {
		_, f := w.e.ask(t.Context(), x.s, "paSendRTV2", "paSendRTV2Request", "", 300*time.Millisecond)
		if f == nil || f.code != x.code {
			t.Errorf("%s: %v, want %s", x.name, f, x.code)
		}
	}
	close(end)
}

// FuzzNodeJudges: what a creditor may answer, by whom it may be written.
func FuzzNodeJudges(f *testing.F) {
	f.Add(answerOf("paVerifyPaymentNotice", goodVerify))
	f.Add(answerOf("paGetPaymentV2", goodPayment))
	f.Add(answerOf("paSendRTV2", goodReceipt))
	f.Add(answerOf("paSendRTV2", refusal409))
	f.Add("<!DOCTYPE a><a/>")
	f.Add(strings.Repeat("<a>", 40))
	f.Fuzz(func(t *testing.T, text string) {
		for _, action := range []string{"paVerifyPaymentNotice", "paGetPaymentV2", "paSendRTV2"} {
			if judged(action, http.StatusOK, "text/xml", text) == "" && !strings.Contains(text, emResponse(action)) {
				t.Errorf("%s: taken: %s", action, text)
			}
		}
	})
}
