package pagopa

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

const emEnvelope = "http://schemas.xmlsoap.org/soap/envelope/"

// emNode is an element as it stands in a message.
type emNode struct {
	name xml.Name
	text string
	in   []*emNode
}

// The bounds of a message: a creditor's answer holds a few hundred elements.
const (
	emDeepest = 32
	emMost    = 4000
)

// emTree reads a message whole: one root, no DOCTYPE, nothing after it.
func emTree(b []byte) (*emNode, error) {
	d := xml.NewDecoder(bytes.NewReader(b))
	var root *emNode
	var open []*emNode
	for n := 0; ; {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		switch x := tok.(type) {
		case xml.StartElement:
			el := &emNode{name: x.Name}
			if n++; n > emMost || len(open) >= emDeepest {
				return nil, errors.New("it holds too much")
			}
			switch {
			case len(open) > 0:
				top := open[len(open)-1]
				top.in = append(top.in, el)
			case root != nil:
				return nil, errors.New("it has two roots")
			default:
				root = el
			}
			open = append(open, el)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			if len(open) > 0 {
				open[len(open)-1].text += string(x)
			} else if len(bytes.TrimSpace(x)) > 0 {
				return nil, errors.New("it has text outside its root")
			}
		case xml.Directive:
			return nil, errors.New("it has a DOCTYPE")
		}
	}
	if root == nil {
		return nil, errors.New("it is empty")
	}
	return root, nil
}

// emShape is an element of paForNode.xsd in the sequence of its parent: how often
// it may stand there, and what it holds.
type emShape struct {
	name        string
	least, most int
	in          []emShape
	fits        func(string) bool // of one without elements inside
}

func emOne(name string, fits func(string) bool) emShape { return emShape{name, 1, 1, nil, fits} }
func emMay(name string, fits func(string) bool) emShape { return emShape{name, 0, 1, nil, fits} }
func emOf(name string, least, most int, in ...emShape) emShape {
	return emShape{name, least, most, in, nil}
}

func emLong(least, most int) func(string) bool {
	return func(s string) bool { return emText(s, least, most) }
}

func emAny(string) bool { return true }

func emBool(s string) bool { return s == "true" || s == "false" || s == "1" || s == "0" }

func emDate(s string) bool {
	_, plain := time.Parse(time.DateOnly, s)
	_, zoned := time.Parse("2006-01-02Z07:00", s)
	return plain == nil || zoned == nil
}

func emIn(words ...string) func(string) bool {
	return func(s string) bool {
		for _, w := range words {
			if s == w {
				return true
			}
		}
		return false
	}
}

func emPositive(s string) bool { _, ok := emCents(s); return ok }

func emCodePA(s string) bool { return emDigits(s, 11) }

func emHash(s string) bool {
	b, err := base64.StdEncoding.DecodeString(s)
	return err == nil && len(b) >= 4 && len(b) <= 72
}

func emCapitals(s string) bool {
	return len(s) == 2 && s[0] >= 'A' && s[0] <= 'Z' && s[1] >= 'A' && s[1] <= 'Z'
}

// emShapeOf is what an action's response holds (paForNode.xsd; ctResponse of
// sac-common-types-1.0.xsd).
func emShapeOf(action string) []emShape {
	metadata := emOf("metadata", 0, 1, emOf("mapEntry", 1, 15, emOne("key", emLong(1, 140)), emOne("value", emLong(1, 140))))
	out := []emShape{
		emOne("outcome", emIn("OK", "KO")),
		emOf("fault", 0, 1, emOne("faultCode", emAny), emOne("faultString", emAny), emOne("id", emAny), emMay("description", emAny), emMay("serial", emAny),
			emMay("originalFaultCode", emAny), emMay("originalFaultString", emAny), emMay("originalDescription", emAny)),
	}
	switch action {
	case "paVerifyPaymentNotice":
		return append(out,
			emOf("paymentList", 0, 1, emOf("paymentOptionDescription", 1, 1, emOne("amount", emPositive), emOne("options", emIn("EQ", "LS", "GT", "ANY")),
				emMay("dueDate", emDate), emMay("detailDescription", emLong(1, 140)), emOne("allCCP", emBool))),
			emMay("paymentDescription", emLong(1, 140)), emMay("fiscalCodePA", emCodePA), emMay("companyName", emLong(1, 140)), emMay("officeName", emLong(1, 140)))
	case "paGetPaymentV2":
		return append(out, emOf("data", 0, 1,
			emOne("creditorReferenceId", emLong(1, 35)), emOne("paymentAmount", emPositive), emOne("dueDate", emDate), emMay("retentionDate", emAny),
			emMay("lastPayment", emBool), emOne("description", emLong(1, 140)), emOne("companyName", emLong(1, 140)), emMay("officeName", emLong(1, 140)),
			emOf("debtor", 1, 1, emOf("uniqueIdentifier", 1, 1, emOne("entityUniqueIdentifierType", emIn("F", "G")), emOne("entityUniqueIdentifierValue", emLong(2, 16))),
				emOne("fullName", emLong(1, 70)), emMay("streetName", emLong(1, 70)), emMay("civicNumber", emLong(1, 16)), emMay("postalCode", emLong(1, 16)),
				emMay("city", emLong(1, 35)), emMay("stateProvinceRegion", emLong(1, 35)), emMay("country", emCapitals), emMay("e-mail", emAny)),
			// The choice of IBAN and richiestaMarcaDaBollo is judgePayment's.
			emOf("transferList", 1, 1, emOf("transfer", 1, 5, emOne("idTransfer", emIn("1", "2", "3", "4", "5")), emOne("transferAmount", emPositive),
				emOne("fiscalCodePA", emCodePA), emMay("companyName", emLong(1, 140)), emMay("IBAN", emLong(1, 35)),
				emOf("richiestaMarcaDaBollo", 0, 1, emOne("hashDocumento", emHash), emOne("tipoBollo", emIn("01")), emOne("provinciaResidenza", emCapitals)),
				emOne("remittanceInformation", emLong(1, 140)), emOne("transferCategory", emLong(1, 140)), metadata)),
			metadata))
	}
	return out
}

// judgeShape holds an element's content against its sequence: "" where it fits.
func judgeShape(el *emNode, want []emShape) string {
	if strings.TrimSpace(el.text) != "" {
		return el.name.Local + " holds text between its elements"
	}
	rest := el.in
	for _, w := range want {
		n := 0
		for n < len(rest) && n < w.most && rest[n].name == (xml.Name{Local: w.name}) {
			if w.in != nil {
				if why := judgeShape(rest[n], w.in); why != "" {
					return why
				}
			} else if len(rest[n].in) > 0 || !w.fits(rest[n].text) {
				return w.name + " does not hold what its type says"
			}
			n++
		}
		if n < w.least {
			return fmt.Sprintf("%s lacks %s, or it is not in its place", el.name.Local, w.name)
		}
		rest = rest[n:]
	}
	if len(rest) > 0 {
		return fmt.Sprintf("%s holds %s, which has no place there", el.name.Local, rest[0].name.Local)
	}
	return ""
}

// oneReply takes the one element out of an envelope's body.
func oneReply(b []byte) (*emNode, string) {
	root, err := emTree(b)
	if err != nil {
		return nil, "the station's answer is not well formed: " + err.Error()
	}
	soap := func(el *emNode, name string) bool { return el.name == xml.Name{Space: emEnvelope, Local: name} }
	parts := root.in
	if soap(root, "Envelope") && len(parts) == 2 && soap(parts[0], "Header") {
		parts = parts[1:]
	}
	if !soap(root, "Envelope") || len(parts) != 1 || !soap(parts[0], "Body") || len(parts[0].in) != 1 {
		return nil, "the station's answer is no envelope with one body"
	}
	return parts[0].in[0], ""
}
