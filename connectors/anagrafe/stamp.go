package anagrafe

import (
	"encoding/base64"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/dime-bus/dime/internal/document"
	"github.com/dime-bus/dime/internal/xml"
)

const (
	stampSpace     = "http://www.agenziaentrate.gov.it/2014/MarcaDaBollo"
	signatureSpace = "http://www.w3.org/2000/09/xmldsig#"
)

var amountForm = regexp.MustCompile(`^[0-9]{1,9}(\.[0-9]{1,2})?$`)

// readStamp reads a marcaDaBollo (MarcaDaBollo.xsd) for what the document prints;
// its signature was judged where the receipt came in. "" is no stamp.
func readStamp(text string) (*document.Stamp, error) {
	if text == "" {
		return nil, nil
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, errors.New("it is no base64")
	}
	root, err := xml.Parse(b)
	if err != nil {
		return nil, err
	}
	if root.Name != (xml.Name{Space: stampSpace, Local: "marcaDaBollo"}) {
		return nil, errors.New("it is no marcaDaBollo")
	}
	child := func(e *xml.Element, space, local string) string {
		if e == nil {
			return ""
		}
		if c := e.Child(space, local); c != nil {
			return strings.TrimSpace(c.Text)
		}
		return ""
	}
	s := &document.Stamp{IUBD: child(root, stampSpace, "IUBD"), Attachment: b}
	sum, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(child(root.Child(stampSpace, "ImprontaDocumento"), signatureSpace, "DigestValue")), ""))
	if err != nil || len(sum) != len(s.SHA256) || s.IUBD == "" {
		return nil, errors.New("it has no IUBD or no digest")
	}
	copy(s.SHA256[:], sum)
	at := child(root, stampSpace, "OraAcquisto")
	if s.Bought, err = time.Parse(time.RFC3339, at); err != nil {
		if s.Bought, err = time.ParseInLocation("2006-01-02T15:04:05", at, rome()); err != nil {
			return nil, errors.New("its OraAcquisto is no time")
		}
	}
	amount := child(root, stampSpace, "Importo")
	whole, part, _ := strings.Cut(amount, ".")
	if s.AmountCent, err = strconv.ParseInt(whole+(part + "00")[:2], 10, 64); err != nil || !amountForm.MatchString(amount) {
		return nil, errors.New("its Importo is no amount")
	}
	return s, nil
}
