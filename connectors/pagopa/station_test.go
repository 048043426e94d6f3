package pagopa

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dime-bus/dime/internal/xml"
)

func base64Of(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// The digest to which testdata/mbd.xml is bound.
const document = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

func stamped() map[string]any {
	return map[string]any{"stamp": map[string]any{"document_hash": document, "province": "VE"}}
}

func of(amount int) map[string]any { return map[string]any{"amount": amount} }

func TestNumbers(t *testing.T) {
	// The example of the App IO documentation, whose check digits are right.
	if got := iuvOf("301011100007347557", "01"); got != "01011100007347557" {
		t.Errorf("got %q", got)
	}
	for _, notice := range []string{
		"302012387654312384", "302012387654312385", // samples of documents that are not valid
		"301011100007347558", "201011100007347557", "30101110000734755", "3010111000073475570", "30101110000734755x", "",
	} {
		if got := iuvOf(notice, notice[min(1, len(notice)):min(3, len(notice))]); got != "" {
			t.Errorf("%s: got %q, want none", notice, got)
		}
	}
	if iuvOf("301011100007347557", "02") != "" {
		t.Error("a number of another segregation code is not ours")
	}
	seen := map[string]bool{}
	for range 1000 {
		iuv, err := newIUV("07")
		if err != nil || len(iuv) != 17 || iuvOf("3"+iuv, "07") != iuv || seen[iuv] {
			t.Fatalf("%q, %v", iuv, err)
		}
		seen[iuv] = true
	}
}

func TestVerifyAndGet(t *testing.T) {
	s := newStation(t)
	p := s.put(open, map[string]any{"amount": 1234, "stamp": stamped()["stamp"], "description": `Diritti <"segreteria"> & bollo è`, "due": "2026-12-24"})
	valid(t, verifyReq(p.notice()))
	got := s.send("paVerifyPaymentNotice", verifyReq(p.notice()))
	option := got.Child("", "paymentList").Child("", "paymentOptionDescription")
	if code(got) != "OK" || option.Child("", "amount").Text != "28.34" || option.Child("", "options").Text != "EQ" || option.Child("", "dueDate").Text != "2026-12-24" ||
		got.Child("", "paymentDescription").Text != `Diritti <"segreteria"> & bollo è` {
		t.Errorf("%+v", got)
	}
	valid(t, getReq(p.notice(), "<amount>28.34</amount><paymentNote>n</paymentNote><transferType>PAGOPA</transferType><dueDate>2026-12-24</dueDate>"))
	got = s.send("paGetPaymentV2", getReq(p.notice(), "<amount>28.34</amount>"))
	data := got.Child("", "data")
	list := data.Child("", "transferList")
	if code(got) != "OK" || data.Child("", "creditorReferenceId").Text != p.IUV || len(list.Children) != 2 {
		t.Fatalf("%+v", got)
	}
	mbd := list.Children[0].Child("", "richiestaMarcaDaBollo")
	if mbd.Child("", "hashDocumento").Text != "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=" || mbd.Child("", "tipoBollo").Text != "01" || mbd.Child("", "provinciaResidenza").Text != "VE" {
		t.Errorf("the stamp: %+v", mbd)
	}
	if list.Children[1].Child("", "IBAN").Text != "IT60X0542811101000000123456" {
		t.Error("the other transfer has no IBAN")
	}
	// A repetition by the node is answered again.
	if got := s.send("", getReq(p.notice(), "")); code(got) != "OK" {
		t.Error(code(got))
	}
	plain := s.put(open, of(500))
	v1 := envelope("<paf:paGetPaymentReq>" + ids + qr(plain.notice()) + "</paf:paGetPaymentReq>")
	if got := s.send("paGetPayment", v1); code(got) != "OK" {
		t.Error(code(got))
	}
	if got := s.send("paGetPayment", strings.ReplaceAll(v1, plain.notice(), p.notice())); code(got) != "PAA_SEMANTICA" {
		t.Errorf("a stamp through version 1: %s", code(got))
	}
}

func TestDecisions(t *testing.T) {
	s := newStation(t)
	notice := func(at stage) string { return s.put(at, of(500)).notice() }
	late := s.put(open, map[string]any{"amount": 500, "due": "2026-11-24"})
	payable := notice(open)
	s.at.pass(24 * time.Hour)
	good := verifyReq(payable)
	sub := func(from, to string) string { return strings.ReplaceAll(good, from, to) }
	for name, c := range map[string]struct{ request, want string }{
		"payable":           {good, "OK"},
		"other creditor":    {sub("<idPA>00339370272", "<idPA>77777777777"), "PAA_ID_DOMINIO_ERRATO"},
		"other broker":      {sub("<idBrokerPA>00339370272", "<idBrokerPA>77777777777"), "PAA_ID_INTERMEDIARIO_ERRATO"},
		"other station":     {sub("00339370272_01", "00339370272_02"), "PAA_STAZIONE_INT_ERRATA"},
		"other in qrCode":   {sub("<fiscalCode>00339370272", "<fiscalCode>77777777777"), "PAA_SEMANTICA"},
		"unknown":           {verifyReq("301011100007347557"), "PAA_PAGAMENTO_SCONOSCIUTO"},
		"wrong check":       {verifyReq("301011100007347558"), "PAA_PAGAMENTO_SCONOSCIUTO"},
		"other segregation": {verifyReq("302011100007347557"), "PAA_PAGAMENTO_SCONOSCIUTO"},
		"opening":           {verifyReq(notice(opening)), "PAA_PAGAMENTO_SCONOSCIUTO"},
		"paid":              {verifyReq(notice(paid)), "PAA_PAGAMENTO_DUPLICATO"},
		"receipt coming":    {verifyReq(notice(receiving)), "PAA_PAGAMENTO_IN_CORSO"},
		"taken back":        {verifyReq(notice(closed)), "PAA_PAGAMENTO_ANNULLATO"},
		"being taken back":  {verifyReq(notice(closing)), "PAA_PAGAMENTO_ANNULLATO"},
		"too late":          {verifyReq(late.notice()), "PAA_PAGAMENTO_SCADUTO"},
		"short notice":      {verifyReq("30101110000734755"), "PAA_SINTASSI_XSD"},
		"no broker":         {sub("<idBrokerPA>00339370272</idBrokerPA>", ""), "PAA_SINTASSI_XSD"},
		"out of order":      {envelope("<paf:paVerifyPaymentNoticeReq>" + qr(payable) + ids + "</paf:paVerifyPaymentNoticeReq>"), "PAA_SINTASSI_XSD"},
		"surplus":           {sub("</qrCode>", "</qrCode><x/>"), "PAA_SINTASSI_XSD"},
		"qualified":         {sub("<idPA>", "<paf:idPA>"), "PAA_SINTASSI_EXTRAXSD"},
		"other operation":   {getReq(payable, ""), "PAA_SINTASSI_XSD"},
		"two requests":      {sub("</soapenv:Body>", "<x/></soapenv:Body>"), "PAA_SINTASSI_XSD"},
		"must understand":   {sub("<soapenv:Header/>", `<soapenv:Header><x soapenv:mustUnderstand="1"/></soapenv:Header>`), "PAA_SINTASSI_XSD"},
		"no envelope":       {"<x/>", "PAA_SINTASSI_XSD"},
		"broken":            {good[:300], "PAA_SINTASSI_EXTRAXSD"},
		"doctype":           {"<!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/passwd'>]>" + good, "PAA_SINTASSI_EXTRAXSD"},
		"empty":             {"", "PAA_SINTASSI_EXTRAXSD"},
	} {
		t.Run(name, func(t *testing.T) {
			s.t = t
			if got := code(s.send("paVerifyPaymentNotice", c.request)); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
	s.t = t
	if got := code(s.send("paGetPaymentV2", getReq(payable, "<amount>5.01</amount>"))); got != "PAA_ATTIVA_RPT_IMPORTO_NON_VALIDO" {
		t.Error(got)
	}
	for name, c := range map[string]struct {
		action, kind, body string
		status             int
	}{
		"json":           {"", "application/json", "{}", http.StatusUnsupportedMediaType},
		"no type":        {"", "", good, http.StatusUnsupportedMediaType},
		"long":           {"", "text/xml", "<a>" + strings.Repeat(" ", 1<<20) + "</a>", http.StatusRequestEntityTooLarge},
		"no operation":   {"", "text/xml", envelope("<x/>"), http.StatusBadRequest},
		"unknown action": {"paX", "text/xml", good, http.StatusBadRequest},
		"broken":         {"", "text/xml", "<a", http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			w := s.raw(c.action, c.kind, c.body)
			if w.Code != c.status || !strings.Contains(w.Body.String(), "<faultcode>soapenv:Client</faultcode>") {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
}

func TestReceipt(t *testing.T) {
	s := newStation(t)
	p := s.put(open, stamped())
	request := sendRT(receiptOf(p, "rt-1", goldenStamp(t)))
	valid(t, request)
	for range 3 {
		if got := code(s.send("paSendRTV2", request)); got != "OK" {
			t.Fatal(got)
		}
	}
	want := []map[string]any{{
		"iuv": p.IUV, "notice_number": "3" + p.IUV, "receipt_id": "rt-1", "amount": 1600, "paid_at": "2026-11-24T11:00:00Z",
		"stamp": base64Of(goldenStamp(t)),
	}}
	if d := cmp.Diff(want, s.published()); d != "" {
		t.Error(d)
	}
	if n := s.pubs.Load(); n != 1 {
		t.Errorf("published %d times", n)
	}
	if row, err := s.load(t.Context(), p.IUV); err != nil || row.Stage != paid || row.Debtor != nil {
		t.Errorf("%+v, %v: it must be paid, and who owed forgotten", row, err)
	}
	if got := code(s.send("paSendRTV2", sendRT(receiptOf(p, "rt-2", goldenStamp(t))))); got != "PAA_RECEIPT_DUPLICATA" {
		t.Errorf("another receipt of a paid position: %s", got)
	}
	if got := code(s.send("paGetPaymentV2", getReq(p.notice(), ""))); got != "PAA_PAGAMENTO_DUPLICATO" {
		t.Error(got)
	}
	v1 := s.put(open, of(700))
	if got := code(s.send("paSendRT", envelope("<paf:paSendRTReq>"+ids+receiptOf(v1, "rt-3", nil)+"</paf:paSendRTReq>"))); got != "OK" {
		t.Errorf("paSendRT: %s", got)
	}
}

// TestReceiptIsTakenOnce: 64 node threads at once, half of them with another
// receipt of the same position.
func TestReceiptIsTakenOnce(t *testing.T) {
	s := newStation(t)
	p := s.put(open, of(700))
	request := sendRT(receiptOf(p, "rt-1", nil))
	var wg sync.WaitGroup
	codes := make([]string, 64)
	for i := range codes {
		wg.Go(func() {
			w := s.raw("paSendRTV2", "text/xml", request)
			if el, err := xml.Parse(w.Body.Bytes()); err == nil {
				codes[i] = code(el.Child(envelopeSpace, "Body").Children[0])
			}
		})
	}
	wg.Wait()
	for i, c := range codes {
		if c != "OK" {
			t.Errorf("%d: %s", i, c)
		}
	}
	if n := len(s.published()); n != 1 {
		t.Errorf("%d events", n)
	}
	// Two receipts that race for one position: one is taken.
	p = s.put(open, of(800))
	codes = make([]string, 64)
	for i := range codes {
		wg.Go(func() {
			w := s.raw("paSendRTV2", "text/xml", sendRT(receiptOf(p, fmt.Sprint("race-", i), nil)))
			if el, err := xml.Parse(w.Body.Bytes()); err == nil {
				codes[i] = code(el.Child(envelopeSpace, "Body").Children[0])
			}
		})
	}
	wg.Wait()
	ok := 0
	for _, c := range codes {
		if c == "OK" {
			ok++
		} else if c != "PAA_RECEIPT_DUPLICATA" {
			t.Error(c)
		}
	}
	if ok != 1 || len(s.published()) != 2 {
		t.Errorf("%d of 64 receipts of one position were taken, %d events", ok, len(s.published()))
	}
}

func TestReceiptSurvivesWhatFails(t *testing.T) {
	s := newStation(t)
	p := s.put(open, of(700))
	s.fail.Store(true)
	if got := code(s.send("paSendRTV2", sendRT(receiptOf(p, "rt-1", nil)))); got != "PAA_SYSTEM_ERROR" {
		t.Fatalf("nothing is durable, and yet %s", got)
	}
	if got := code(s.send("paVerifyPaymentNotice", verifyReq(p.notice()))); got != "PAA_PAGAMENTO_IN_CORSO" {
		t.Errorf("between receipt and event: %s", got)
	}
	s.fail.Store(false)
	if got := code(s.send("paSendRTV2", sendRT(receiptOf(p, "rt-1", nil)))); got != "OK" || len(s.published()) != 1 {
		t.Errorf("the node's next attempt: %s, %d events", got, len(s.published()))
	}
}

func TestForgedReceipts(t *testing.T) {
	s := newStation(t)
	mbd := goldenStamp(t)
	args := stamped()
	args["amount"] = 500
	p, other := s.put(open, args), s.put(open, of(500))
	elsewhere := s.put(open, map[string]any{"stamp": map[string]any{"document_hash": strings.Repeat("ab", 32), "province": "VE"}})
	good := receiptOf(p, "rt-1", mbd)
	sub := func(from, to string) string {
		if !strings.Contains(good, from) {
			t.Fatalf("%s is not in the receipt", from)
		}
		return strings.Replace(good, from, to, 1)
	}
	tampered := base64Of(bytes.Replace(mbd, []byte("01240000000000001"), []byte("01240000000000002"), 1))
	unsigned := mbd[:bytes.Index(mbd, []byte("<ds:Signature "))]
	dear := bytes.Replace(mbd, []byte("16.00"), []byte("2.00"), 1)
	for name, c := range map[string]struct{ receipt, want string }{
		"unknown":               {sub(p.notice(), "301011100007347557"), "PAA_PAGAMENTO_SCONOSCIUTO"},
		"opening":               {receiptOf(s.put(opening, of(500)), "x", nil), "PAA_PAGAMENTO_SCONOSCIUTO"},
		"taken back":            {receiptOf(s.put(closed, of(500)), "x", nil), "PAA_PAGAMENTO_ANNULLATO"},
		"being taken back":      {receiptOf(s.put(closing, of(500)), "x", nil), "PAA_SYSTEM_ERROR"},
		"other notice":          {sub(p.notice(), other.notice()), "PAA_SEMANTICA"},
		"other reference":       {sub(p.IUV, other.IUV), "PAA_SEMANTICA"},
		"other creditor":        {sub("<fiscalCode>00339370272", "<fiscalCode>77777777777"), "PAA_SEMANTICA"},
		"other amount":          {sub("<paymentAmount>21.00", "<paymentAmount>20.99"), "PAA_SEMANTICA"},
		"other transfer":        {sub("<transferAmount>5.00", "<transferAmount>4.99"), "PAA_SEMANTICA"},
		"other account":         {sub("IT60X0542811101000000123456", "IT60X0542811101000000123457"), "PAA_SEMANTICA"},
		"other order":           {sub("<idTransfer>1<", "<idTransfer>2<"), "PAA_SEMANTICA"},
		"one transfer missing":  {good[:strings.LastIndex(good, "<transfer>")] + good[strings.Index(good, "</transferList>"):], "PAA_SEMANTICA"},
		"no stamp":              {sub("<MBDAttachment>"+base64Of(mbd)+"</MBDAttachment>", "<IBAN>IT60X0542811101000000123456</IBAN>"), "PAA_SEMANTICA"},
		"stamp tampered":        {sub(base64Of(mbd), tampered), "PAA_SEMANTICA"},
		"stamp unsigned":        {sub(base64Of(mbd), base64Of(append(bytes.Clone(unsigned), []byte("</marcaDaBollo>")...))), "PAA_SEMANTICA"},
		"stamp of other price":  {sub(base64Of(mbd), base64Of(dear)), "PAA_SEMANTICA"},
		"stamp is no XML":       {sub(base64Of(mbd), "AAAA"), "PAA_SEMANTICA"},
		"stamp of another's":    {receiptOf(elsewhere, "x", mbd), "PAA_SEMANTICA"},
		"no base64":             {sub(base64Of(mbd), "?"), "PAA_SINTASSI_XSD"},
		"both":                  {sub("</MBDAttachment>", "</MBDAttachment><IBAN>IT60X0542811101000000123456</IBAN>"), "PAA_SINTASSI_XSD"},
		"six transfers":         {sub("</transferList>", strings.Repeat("<transfer/>", 4)+"</transferList>"), "PAA_SINTASSI_XSD"},
		"no outcome":            {sub("<outcome>OK</outcome>", ""), "PAA_SINTASSI_XSD"},
		"amount with a comma":   {sub("<paymentAmount>21.00", "<paymentAmount>21,00"), "PAA_SINTASSI_XSD"},
		"amount with no cents":  {sub("<paymentAmount>21.00", "<paymentAmount>21"), "PAA_SINTASSI_XSD"},
		"negative":              {sub("<paymentAmount>21.00", "<paymentAmount>-21.00"), "PAA_SINTASSI_XSD"},
		"no debtor":             {good[:strings.Index(good, "<debtor>")] + good[strings.Index(good, "<transferList>"):], "PAA_SINTASSI_XSD"},
		"wrong time":            {sub("2026-11-24T12:00:00", "yesterday"), "PAA_SINTASSI_XSD"},
		"id too long":           {sub("rt-1", strings.Repeat("r", 141)), "PAA_SINTASSI_XSD"},
		"unknown person's type": {sub("<entityUniqueIdentifierType>F", "<entityUniqueIdentifierType>X"), "PAA_SINTASSI_XSD"},
	} {
		t.Run(name, func(t *testing.T) {
			s.t = t
			if got := code(s.send("paSendRTV2", sendRT(c.receipt))); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
	s.t = t
	if n := len(s.published()); n != 0 {
		t.Fatalf("%d forged receipts became events", n)
	}
	if got := code(s.send("paSendRTV2", sendRT(good))); got != "OK" {
		t.Errorf("the true one: %s", got)
	}
	// The same stamp for a second position on the same document.
	if got := code(s.send("paSendRTV2", sendRT(receiptOf(s.put(open, stamped()), "rt-9", mbd)))); got != "PAA_SEMANTICA" {
		t.Errorf("a stamp that was used: %s", got)
	}
}

func TestReceiptOfAFailedPayment(t *testing.T) {
	s := newStation(t)
	p := s.put(open, of(700))
	if got := code(s.send("paGetPaymentV2", getReq(p.notice(), ""))); got != "OK" {
		t.Fatal(got)
	}
	ko := strings.Replace(receiptOf(p, "rt-1", nil), "<outcome>OK", "<outcome>KO", 1)
	if got := code(s.send("paSendRTV2", sendRT(ko))); got != "OK" || len(s.published()) != 0 {
		t.Errorf("%s, %d events", got, len(s.published()))
	}
	if row, err := s.load(t.Context(), p.IUV); err != nil || !row.Activated.IsZero() || row.Stage != open {
		t.Errorf("%+v, %v: it can be paid, or taken back, again", row, err)
	}
}

func TestDemandedAtACounter(t *testing.T) {
	s := newStation(t)
	demand := func(id, data string) string {
		return envelope("<paf:paDemandPaymentNoticeRequest>" + ids + "<idServizio>" + id + "</idServizio><idSoggettoServizio>00002</idSoggettoServizio><datiSpecificiServizioRequest>" + data + "</datiSpecificiServizioRequest></paf:paDemandPaymentNoticeRequest>")
	}
	payer := base64Of([]byte(`<s:x xmlns:s="urn:s"><pagatore><codiceFiscalePagatore>RSSMRA77L18H501W</codiceFiscalePagatore><denominazionePagatore>Mario Rossi</denominazionePagatore></pagatore></s:x>`))
	valid(t, demand("00001", payer))
	got := s.send("paDemandPaymentNotice", demand("00001", payer))
	if code(got) != "OK" {
		t.Fatal(code(got))
	}
	notice := got.Child("", "qrCode").Child("", "noticeNumber").Text
	paying := s.send("paGetPaymentV2", getReq(notice, ""))
	if code(paying) != "OK" || paying.Child("", "data").Child("", "debtor").Child("", "fullName").Text != "Mario Rossi" {
		t.Errorf("%+v", paying)
	}
	row, err := s.load(t.Context(), notice[1:])
	if err != nil || row == nil {
		t.Fatal(err)
	}
	if got := code(s.send("paSendRTV2", sendRT(receiptOf(row, "rt-1", nil)))); got != "OK" || len(s.published()) != 1 {
		t.Errorf("its receipt: %s", got)
	}
	for name, c := range map[string]struct{ request, want string }{
		"nobody named":    {demand("00001", base64Of([]byte("<x/>"))), "OK"},
		"unknown service": {demand("00009", payer), "PAA_SEMANTICA"},
		"no XML":          {demand("00001", base64Of([]byte("x"))), "PAA_SINTASSI_EXTRAXSD"},
		"no base64":       {demand("00001", "?"), "PAA_SINTASSI_XSD"},
		"long id":         {demand("000001", payer), "PAA_SINTASSI_XSD"},
	} {
		if got := code(s.send("paDemandPaymentNotice", c.request)); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}

// TestDemandedIsForgotten: who asked at a counter and did not pay is kept as long as
// the position can be paid, and a receipt that comes late is taken all the same.
func TestDemandedIsForgotten(t *testing.T) {
	s := newStation(t)
	payer := base64Of([]byte("<x><codiceFiscalePagatore>RSSMRA77L18H501W</codiceFiscalePagatore></x>"))
	got := s.send("paDemandPaymentNotice", envelope("<paf:paDemandPaymentNoticeRequest>"+ids+
		"<idServizio>00001</idServizio><idSoggettoServizio>00002</idSoggettoServizio><datiSpecificiServizioRequest>"+payer+"</datiSpecificiServizioRequest></paf:paDemandPaymentNoticeRequest>"))
	notice := got.Child("", "qrCode").Child("", "noticeNumber").Text
	known := func() bool {
		t.Helper()
		if err := s.forgetDemanded(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, row := range s.table.rows {
			if strings.Contains(string(row), "RSSMRA77L18H501W") {
				return true
			}
		}
		return false
	}
	if !known() {
		t.Error("who owes is forgotten while the position can be paid")
	}
	s.at.pass(48 * time.Hour)
	if known() {
		t.Error("who owes is kept although nobody can pay any more")
	}
	if got := code(s.send("paVerifyPaymentNotice", verifyReq(notice))); got != "PAA_PAGAMENTO_SCADUTO" {
		t.Error(got)
	}
	row, err := s.load(t.Context(), notice[1:])
	if err != nil {
		t.Fatal(err)
	}
	if got := code(s.send("paSendRTV2", sendRT(receiptOf(row, "rt-1", nil)))); got != "OK" || len(s.published()) != 1 {
		t.Errorf("a late receipt: %s", got)
	}
	for key := range s.table.rows {
		if strings.HasPrefix(key, demandedRow) {
			t.Errorf("%s is left", key)
		}
	}
}

func TestStampsSigner(t *testing.T) {
	s := newStation(t)
	m, err := s.readStamp(goldenStamp(t))
	if err != nil {
		t.Fatal(err)
	}
	if m.iubd != "01240000000000001" || m.hash != document || m.amount != 1600 {
		t.Errorf("%+v", m)
	}
	strict := build(t, "http://127.0.0.1:1", rows(), noon(), "  stamp_signers: [\"file:testdata/other-root.pem\"]\n")
	if _, err := strict.readStamp(goldenStamp(t)); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a stamp whose signer leads to no configured root: %v", err)
	}
}

// TestStampByXmlsec1: what we take another's tool takes, and what it refuses we do.
func TestStampByXmlsec1(t *testing.T) {
	s := newStation(t)
	for name, b := range map[string][]byte{"whole": goldenStamp(t), "tampered": bytes.Replace(goldenStamp(t), []byte("16.00"), []byte("61.00"), 1)} {
		file := filepath.Join(t.TempDir(), "mbd.xml")
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		out, theirs := exec.Command("xmlsec1", "--verify", "--insecure", "--enabled-key-data", "x509", file).CombinedOutput()
		_, ours := s.readStamp(b)
		if (theirs == nil) != (ours == nil) || (ours == nil) != (name == "whole") {
			t.Errorf("%s: xmlsec1 (Debian: xmlsec1) says %v, we say %v\n%s", name, theirs, ours, out)
		}
		if name == "whole" {
			lint(t, string(b), "pagopa-soap/xsd-common/MarcaDaBollo.xsd")
		}
	}
}

func FuzzStation(f *testing.F) {
	s := newStation(f)
	p := s.put(open, stamped())
	f.Add("paVerifyPaymentNotice", verifyReq(p.notice()))
	f.Add("paGetPaymentV2", getReq(p.notice(), "<amount>16.00</amount>"))
	f.Add("paSendRTV2", sendRT(receiptOf(p, "rt-1", goldenStamp(f))))
	f.Add("", envelope("<x/>"))
	f.Add("paDemandPaymentNotice", `<!DOCTYPE a>`)
	f.Fuzz(func(t *testing.T, action, body string) {
		w := s.raw(action, "text/xml", body)
		if w.Code >= 500 {
			t.Fatalf("%d: %s", w.Code, w.Body)
		}
		if _, err := xml.Parse(w.Body.Bytes()); err != nil {
			t.Fatalf("answered %v: %s", err, w.Body)
		}
	})
}
