package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// A creditor answers 98 % of the node's calls within two seconds, each kind of
// call by itself (SANP 3.10.0, service levels of the EC).
const (
	nodeWithin  = 2 * time.Second
	nodeShare   = 0.98
	nodeCallers = 32
)

const nodePagopa = `
pagopa:
  creditor: "00339370272"
  company: Comune di Venezia
  station: 00339370272_01
  segregation: "01"
  iban: IT60X0542811101000000123456
  category: 9/0301109AP/
  services: [{id: "00001", subject: "00001", description: Diritti di segreteria, amount: 52}]
base_url: http://127.0.0.1:9
`

// benchNode: 32 callers play the node as fast as they are answered: a counter
// demands a notice, verifies it, fetches it to pay, and sends the receipt, which
// must be durable and published before it is answered.
func benchNode(e *env) ([]Row, error) {
	content := filepath.Join(e.dir, "node")
	for name, text := range map[string]string{"config/connectors/pagopa.yaml": nodePagopa, "schemas/events/pagopa.receipt.json": "", "schemas/common/cents.json": ""} {
		b := []byte(text)
		if text == "" {
			var err error
			if b, err = os.ReadFile(name); err != nil {
				return nil, err
			}
		}
		if err := os.MkdirAll(filepath.Join(content, filepath.Dir(name)), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(content, name), b, 0o644); err != nil {
			return nil, err
		}
	}
	p, err := startDime(e, content, filepath.Join(e.dir, "node-data"))
	if err != nil {
		return nil, err
	}
	defer p.stop()
	var mu sync.Mutex
	took := map[string][]time.Duration{}
	var failed error
	end := time.Now().Add(time.Duration(e.rounds) * e.length)
	var wg sync.WaitGroup
	for i := range nodeCallers {
		wg.Go(func() {
			n := node{url: p.soap + "/pagopa/paForNode", client: &http.Client{Timeout: 15 * time.Second}, took: map[string][]time.Duration{}}
			var err error
			for j := 0; err == nil && time.Now().Before(end); j++ {
				err = n.payment(fmt.Sprintf("bench-%d-%d", i, j))
			}
			mu.Lock()
			defer mu.Unlock()
			failed = errors.Join(failed, err)
			for op, ds := range n.took {
				took[op] = append(took[op], ds...)
			}
		})
	}
	wg.Wait()
	if failed != nil {
		return nil, fmt.Errorf("%w: %s", failed, p.stderr.String())
	}
	worst, slowest := 1.0, time.Duration(0)
	for _, ds := range took {
		slices.Sort(ds)
		late := len(ds) - len(slices.DeleteFunc(slices.Clone(ds), func(d time.Duration) bool { return d > nodeWithin }))
		worst = min(worst, 1-float64(late)/float64(len(ds)))
		slowest = max(slowest, ds[int(nodeShare*float64(len(ds)-1))])
	}
	return []Row{
		rate("node_calls_within_2s", "share of the slowest kind of call", worst, 1, nodeShare),
		cost("node_calls_p98", "s of the slowest kind of call", slowest.Seconds(), nodeWithin.Seconds(), 1),
	}, nil
}

// node is one of pagoPA's callers.
type node struct {
	url    string
	client *http.Client
	took   map[string][]time.Duration
}

const nodeIDs = "<idPA>00339370272</idPA><idBrokerPA>00339370272</idBrokerPA><idStation>00339370272_01</idStation>"

func (n *node) payment(receipt string) error {
	demanded, err := n.call("paDemandPaymentNotice", "paDemandPaymentNoticeRequest",
		"<idServizio>00001</idServizio><idSoggettoServizio>00001</idSoggettoServizio><datiSpecificiServizioRequest>PHgvPg==</datiSpecificiServizioRequest>")
	if err != nil {
		return err
	}
	notice := between(demanded, "<noticeNumber>", "</noticeNumber>")
	qr := "<qrCode><fiscalCode>00339370272</fiscalCode><noticeNumber>" + notice + "</noticeNumber></qrCode>"
	if _, err := n.call("paVerifyPaymentNotice", "paVerifyPaymentNoticeReq", qr); err != nil {
		return err
	}
	if _, err := n.call("paGetPaymentV2", "paGetPaymentV2Request", qr+"<amount>0.52</amount>"); err != nil {
		return err
	}
	_, err = n.call("paSendRTV2", "paSendRTV2Request", "<receipt><receiptId>"+receipt+"</receiptId><noticeNumber>"+notice+"</noticeNumber><fiscalCode>00339370272</fiscalCode>"+
		"<outcome>OK</outcome><creditorReferenceId>"+notice[1:]+"</creditorReferenceId><paymentAmount>0.52</paymentAmount><description>x</description><companyName>x</companyName>"+
		"<debtor><uniqueIdentifier><entityUniqueIdentifierType>F</entityUniqueIdentifierType><entityUniqueIdentifierValue>ANONIMO</entityUniqueIdentifierValue></uniqueIdentifier><fullName>ANONIMO</fullName></debtor>"+
		"<transferList><transfer><idTransfer>1</idTransfer><transferAmount>0.52</transferAmount><fiscalCodePA>00339370272</fiscalCodePA><IBAN>IT60X0542811101000000123456</IBAN>"+
		"<remittanceInformation>x</remittanceInformation><transferCategory>x</transferCategory></transfer></transferList>"+
		"<idPSP>P</idPSP><PSPCompanyName>P</PSPCompanyName><idChannel>C</idChannel><channelDescription>C</channelDescription></receipt>")
	return err
}

func (n *node) call(action, element, inner string) (string, error) {
	body := `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" xmlns:p="http://pagopa-api.pagopa.gov.it/pa/paForNode.xsd"><s:Body><p:` + element + ">" + nodeIDs + inner + "</p:" + element + "></s:Body></s:Envelope>"
	req, err := http.NewRequest(http.MethodPost, n.url, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "text/xml; charset=utf-8")
	req.Header.Set("SOAPAction", `"`+action+`"`)
	start := time.Now()
	resp, err := n.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	n.took[action] = append(n.took[action], time.Since(start))
	if err != nil {
		return "", fmt.Errorf("reading the answer to %s: %w", action, err)
	}
	if resp.StatusCode != http.StatusOK || !strings.Contains(string(b), "<outcome>OK</outcome>") {
		return "", fmt.Errorf("%s answered %d %s", action, resp.StatusCode, b)
	}
	return string(b), nil
}

func between(s, from, to string) string {
	_, after, _ := strings.Cut(s, from)
	inner, _, _ := strings.Cut(after, to)
	return inner
}
