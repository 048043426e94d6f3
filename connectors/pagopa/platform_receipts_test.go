package pagopa

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/xml"
)

func TestReceiptOfTheArchive(t *testing.T) {
	b := newBench(t)
	v := b.open("k-1", stamped())
	row, err := b.load(t.Context(), v["iuv"].(string))
	if err != nil {
		t.Fatal(err)
	}
	doc := `<?xml version="1.0"?><p:paSendRTV2Request xmlns:p="` + nodeSpace + `">` + ids + receiptOf(row, "rt-1", goldenStamp(t)) + `</p:paSendRTV2Request>`
	b.answer("GET receipt", 200, doc)
	got, f := b.do("receipt", "", iuv(v))
	if f != nil || got["receipt_id"] != "rt-1" || got["stamp"] == nil {
		t.Errorf("%v, %v", got, f)
	}
	for name, bad := range map[string]string{
		"no XML": "x", "other root": "<x/>", "doctype": "<!DOCTYPE x>" + doc, "other amount": strings.Replace(doc, "<paymentAmount>16.00", "<paymentAmount>15.00", 1),
		"cut": doc[:len(doc)/2], "empty": "",
	} {
		b.answer("GET receipt", 200, bad)
		if _, f := b.do("receipt", "", iuv(v)); f == nil || f.Kind != fault.Contract {
			t.Errorf("%s: %v", name, f)
		}
	}
	b.answer("GET receipt", 404, "{}")
	_, f = b.do("receipt", "", iuv(v))
	want(t, f, fault.NotFound, "no_receipt", true)
}

// TestReceiptsThatDoNotComeAreFetched: the node gave up, or its call never reached
// us; the archive has the receipt.
func TestReceiptsThatDoNotComeAreFetched(t *testing.T) {
	b := newBench(t)
	events := map[string]any{}
	publish := func(_ context.Context, _, id string, data any) error { events[id] = data; return nil }
	v := b.open("k-1", of(520))
	row, err := b.load(t.Context(), v["iuv"].(string))
	if err != nil {
		t.Fatal(err)
	}
	el, err := xml.Parse([]byte(getReq(row.notice(), "")))
	if err != nil {
		t.Fatal(err)
	}
	if _, f := b.getPayment(t.Context(), el.Child(envelopeSpace, "Body").Children[0], 2); f != nil {
		t.Fatal(f)
	}
	pending := func() int {
		n := 0
		if err := b.table.List(t.Context(), pendingRow, func(string, []byte) error { n++; return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	doc := `<p:paSendRTV2Request xmlns:p="` + nodeSpace + `">` + ids + receiptOf(row, "rt-1", nil) + `</p:paSendRTV2Request>`
	for _, step := range []struct {
		pass    time.Duration
		status  int
		doc     string
		events  int
		pending int
		fails   bool
	}{
		{0, 200, doc, 0, 1, false}, // the node may still send it
		{busy, 404, "{}", 0, 1, false},
		{time.Hour, 503, "", 0, 1, true},
		{time.Hour, 200, strings.Replace(doc, ">5.20<", ">5.10<", 1), 0, 1, true},
		{time.Hour, 200, doc, 1, 0, false},
		{time.Hour, 200, doc, 1, 0, false},
	} {
		b.at.pass(step.pass)
		b.answer("GET receipt", step.status, step.doc)
		if err := b.chase(t.Context(), publish); (err != nil) != step.fails || len(events) != step.events || pending() != step.pending {
			t.Errorf("%+v: %v, %d events, %d pending", step, err, len(events), pending())
		}
	}
	if events[b.eventID("rt-1")] == nil {
		t.Error("the event's id is not the one that the node's own call would have given it")
	}
}

func TestStationIsRegisteredAndAgainWhereItMoves(t *testing.T) {
	told := make(chan string, 8)
	var mu sync.Mutex
	at := "http://one.example"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m map[string]string
		_ = json.NewDecoder(r.Body).Decode(&m)
		if m["idPA"] != "00339370272" || m["idBrokerPA"] != "00339370272" || m["idStation"] != "00339370272_01" || m["segregation"] != "01" || m["company"] != "Comune di Venezia" {
			t.Errorf("%v", m)
		}
		_, _ = io.WriteString(w, `{"subscription_key":"s3cret"}`)
		told <- m["soap_url"]
	}))
	defer srv.Close()
	c := build(t, srv.URL, rows(), noon(), "")
	c.host.URL = func(string) string { mu.Lock(); defer mu.Unlock(); return at }
	alarm := &hand{still: noon(), rung: make(chan func(), 8)}
	c.clock = alarm
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx, nil) }()
	if got := <-told; got != "http://one.example/pagopa/paForNode" {
		t.Error(got)
	}
	mu.Lock()
	at = "http://two.example"
	mu.Unlock()
	(<-alarm.rung)()
	if got := <-told; got != "http://two.example/pagopa/paForNode" {
		t.Error(got)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// hand is a clock whose alarms a test rings.
type hand struct {
	*still
	rung chan func()
}

func (h *hand) At(_ time.Time, f func()) func() { h.rung <- f; return func() {} }

func TestSettings(t *testing.T) {
	for name, c := range map[string]struct{ from, to, want string }{
		"creditor":    {`creditor: "00339370272"`, `creditor: "00339370273"`, "check digit"},
		"segregation": {`segregation: "01"`, `segregation: "50"`, "00 to 49"},
		"iban":        {"IT60X", "it60x", "IBAN"},
		"missing":     {"  station: 00339370272_01\n", "", "station"},
		"unknown":     {"  office:", "  ofice:", "did you mean"},
		"service":     {`id: "00001"`, `id: "1"`, "five letters"},
		"signer":      {"  services:", "  stamp_signers: [abc]\n  services:", "env:NAME or file:PATH"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(settings, c.from, c.to, 1)
			if changed == settings {
				t.Fatal("nothing was changed")
			}
			if got := problems(t, changed); !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q in it", got, c.want)
			}
		})
	}
}
