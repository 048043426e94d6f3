package pagopa

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/xml"
)

const (
	stationPath   = "/paForNode"
	envelopeSpace = "http://schemas.xmlsoap.org/soap/envelope/"
	nodeSpace     = "http://pagopa-api.pagopa.gov.it/pa/paForNode.xsd"
	maxMessage    = 1 << 20
)

// The node waits 7 s for an answer, 15 s where it sends a receipt (SANP 3.10,
// timeouts towards the EC): what takes longer is given up before, and said.
const (
	askedPatience   = 6 * time.Second
	receiptPatience = 14 * time.Second
)

// soapFault is a refusal as ctFaultBean has it.
type soapFault struct {
	code        string
	description string // shows nothing personal
}

func refuse(code, description string) *soapFault { return &soapFault{code, description} }

// faultStrings are the faults that a creditor answers (SANP, PAA_*).
func faultString(code string) string {
	switch code {
	case "PAA_ID_DOMINIO_ERRATO":
		return "La PA non corrisponde al Nodo a cui è stata inviata la richiesta."
	case "PAA_ID_INTERMEDIARIO_ERRATO":
		return "Identificativo intermediario non corrispondente."
	case "PAA_STAZIONE_INT_ERRATA":
		return "Stazione intermediario non corrispondente."
	case "PAA_PAGAMENTO_SCONOSCIUTO":
		return "Pagamento in attesa risulta sconosciuto all'Ente Creditore."
	case "PAA_PAGAMENTO_DUPLICATO":
		return "Pagamento in attesa risulta concluso all'Ente Creditore."
	case "PAA_PAGAMENTO_IN_CORSO":
		return "Pagamento in attesa risulta in corso all'Ente Creditore."
	case "PAA_PAGAMENTO_ANNULLATO":
		return "Pagamento in attesa risulta annullato all'Ente Creditore."
	case "PAA_PAGAMENTO_SCADUTO":
		return "Pagamento in attesa risulta scaduto all'Ente Creditore."
	case "PAA_ATTIVA_RPT_IMPORTO_NON_VALIDO":
		return "L'importo del pagamento in attesa non è congruente con il dato indicato dal PSP."
	case "PAA_RECEIPT_DUPLICATA":
		return "La ricevuta è già stata acquisita per questo pagamento."
	case "PAA_SEMANTICA":
		return "Errore semantico."
	case "PAA_SINTASSI_XSD":
		return "Errore di sintassi XSD."
	case "PAA_SINTASSI_EXTRAXSD":
		return "Errore di sintassi extra XSD."
	}
	return "Errore generico."
}

// stationCall is one operation of paForNode.wsdl.
type stationCall struct {
	name     string
	request  string // the elements' local names
	response string
	patience time.Duration
	// answer reads the request and gives what stands behind `outcome` in an OK.
	answer func(ctx context.Context, el *xml.Element) (string, *soapFault)
}

func (c *Connector) stationCalls(publish connectors.Publish) []stationCall {
	return []stationCall{
		{"paVerifyPaymentNotice", "paVerifyPaymentNoticeReq", "paVerifyPaymentNoticeRes", askedPatience, c.verifyNotice},
		{"paGetPayment", "paGetPaymentReq", "paGetPaymentRes", askedPatience,
			func(ctx context.Context, el *xml.Element) (string, *soapFault) { return c.getPayment(ctx, el, 1) }},
		{"paGetPaymentV2", "paGetPaymentV2Request", "paGetPaymentV2Response", askedPatience,
			func(ctx context.Context, el *xml.Element) (string, *soapFault) { return c.getPayment(ctx, el, 2) }},
		{"paDemandPaymentNotice", "paDemandPaymentNoticeRequest", "paDemandPaymentNoticeResponse", askedPatience, c.demandNotice},
		{"paSendRT", "paSendRTReq", "paSendRTRes", receiptPatience,
			func(ctx context.Context, el *xml.Element) (string, *soapFault) {
				return "", c.takeReceipt(ctx, el, 1, publish)
			}},
		{"paSendRTV2", "paSendRTV2Request", "paSendRTV2Response", receiptPatience,
			func(ctx context.Context, el *xml.Element) (string, *soapFault) {
				return "", c.takeReceipt(ctx, el, 2, publish)
			}},
	}
}

// Receive implements connectors.Receiver: the creditor's station, which the node
// calls.
func (c *Connector) Receive(publish connectors.Publish) []connectors.Endpoint {
	calls := c.stationCalls(publish)
	return []connectors.Endpoint{{Face: "soap", Pattern: "POST " + stationPath, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.serve(w, r, calls)
	})}}
}

func (c *Connector) serve(w http.ResponseWriter, r *http.Request, calls []stationCall) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "text/xml" && kind != "application/xml" {
		writeSOAPFault(w, http.StatusUnsupportedMediaType, "the message must be text/xml")
		return
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessage))
	if err != nil {
		var long *http.MaxBytesError
		if errors.As(err, &long) {
			writeSOAPFault(w, http.StatusRequestEntityTooLarge, "the message is longer than 1 MiB")
			return
		}
		writeSOAPFault(w, http.StatusBadRequest, "the message did not come whole")
		return
	}
	action := strings.Trim(r.Header.Get("SOAPAction"), `"`)
	named := find(calls, func(s stationCall) bool { return s.name == action })
	el, err := xml.Parse(b)
	if err != nil {
		if named != nil {
			c.write(w, named, "", refuse("PAA_SINTASSI_EXTRAXSD", "the message is not well-formed XML within the bounds"))
			return
		}
		writeSOAPFault(w, http.StatusBadRequest, "the message is not well-formed XML within the bounds")
		return
	}
	el, why := body(el)
	var call *stationCall
	if why == "" {
		call = find(calls, func(s stationCall) bool { return el.Name == (xml.Name{Space: nodeSpace, Local: s.request}) })
		switch {
		case call == nil:
			why = "the body holds no request of paForNode"
		case action != "" && action != call.name:
			why, call = "SOAPAction and the body name different operations", nil
		}
	}
	switch {
	case why != "" && named != nil:
		c.write(w, named, "", refuse("PAA_SINTASSI_XSD", why))
		return
	case why != "":
		writeSOAPFault(w, http.StatusBadRequest, why)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), call.patience)
	defer cancel()
	payload, refused := call.answer(ctx, el)
	if refused != nil {
		c.log().InfoContext(ctx, "refused a call of the node", "operation", call.name, "fault", refused.code, "because", refused.description)
	}
	c.write(w, call, payload, refused)
}

func find(calls []stationCall, ok func(stationCall) bool) *stationCall {
	for i := range calls {
		if ok(calls[i]) {
			return &calls[i]
		}
	}
	return nil
}

// body takes the one request out of a SOAP 1.1 envelope, or says what is wrong.
func body(el *xml.Element) (*xml.Element, string) {
	if el.Name != (xml.Name{Space: envelopeSpace, Local: "Envelope"}) {
		return nil, "the message is no SOAP 1.1 envelope"
	}
	s := xml.In(el)
	if h := s.Optional(envelopeSpace, "Header"); h != nil {
		for _, block := range h.Children {
			for _, a := range block.Attrs {
				if a.Name == (xml.Name{Space: envelopeSpace, Local: "mustUnderstand"}) && a.Value == "1" {
					return nil, "a header that must be understood is not"
				}
			}
		}
	}
	b := s.Take(envelopeSpace, "Body")
	if s.End() != nil || len(b.Children) != 1 || strings.TrimSpace(b.Text) != "" {
		return nil, "the envelope must hold one body with one request"
	}
	return b.Children[0], ""
}

// write answers with the operation's own response, KO where refused says why.
func (c *Connector) write(w http.ResponseWriter, call *stationCall, payload string, refused *soapFault) {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<soapenv:Envelope xmlns:soapenv="` + envelopeSpace + `" xmlns:pafn="` + nodeSpace + `"><soapenv:Body><pafn:` + call.response + `>`)
	if refused == nil {
		b.WriteString(element("outcome", "OK") + payload)
	} else {
		b.WriteString(element("outcome", "KO") + "<fault>" + element("faultCode", refused.code) + element("faultString", faultString(refused.code)) +
			element("id", c.cfg.Creditor) + element("description", refused.description) + "</fault>")
	}
	b.WriteString(`</pafn:` + call.response + `></soapenv:Body></soapenv:Envelope>`)
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = io.WriteString(w, b.String())
}

// writeSOAPFault answers what is no call of ours. SOAP 1.1 section 6.2 wants 500
// for it, which would say that we had failed; 4xx says that the caller did.
func writeSOAPFault(w http.ResponseWriter, status int, reason string) {
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, `<?xml version="1.0" encoding="UTF-8"?>`+"\n"+`<soapenv:Envelope xmlns:soapenv="`+envelopeSpace+`"><soapenv:Body><soapenv:Fault>`+
		element("faultcode", "soapenv:Client")+element("faultstring", reason)+`</soapenv:Fault></soapenv:Body></soapenv:Envelope>`)
}

// element writes one with text inside. What XML 1.0 can't hold is left out.
func element(name, value string) string {
	var b strings.Builder
	b.WriteString("<" + name + ">")
	for _, r := range value {
		switch {
		case r == '&':
			b.WriteString("&amp;")
		case r == '<':
			b.WriteString("&lt;")
		case r == '>':
			b.WriteString("&gt;")
		case r == '\t' || r == '\n' || r == '\r':
			b.WriteByte(' ')
		case r < ' ' || r >= 0xD800 && r <= 0xDFFF || r == 0xFFFE || r == 0xFFFF:
		default:
			b.WriteRune(r)
		}
	}
	b.WriteString("</" + name + ">")
	return b.String()
}

func (c *Connector) log() *slog.Logger {
	if c.host.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.host.Log
}
