package pagopa

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/dime-bus/dime/internal/xml"
	"github.com/dime-bus/dime/internal/xml/signature"
)

const stampSpace = "http://www.agenziaentrate.gov.it/2014/MarcaDaBollo"

// stamp is a marca da bollo digitale (MarcaDaBollo.xsd of the Agenzia delle
// Entrate) whose signature holds.
type stamp struct {
	iubd   string
	bought time.Time
	amount int
	hash   string // ImprontaDocumento, hexadecimal
	raw    []byte
}

// stampPrice: tipoImporto has two digits of fraction at most.
var stampPrice = regexp.MustCompile(`^[0-9]{1,10}(\.[0-9]{1,2})?$`)

// readStamp reads an MBDAttachment. The signer's certificate must have been valid
// when the stamp was bought, and lead to a root of stamp_signers where there are
// any.
func (c *Connector) readStamp(b []byte) (*stamp, error) {
	unsigned, err := xml.Parse(b)
	if err != nil {
		return nil, err
	}
	when := unsigned.Child(stampSpace, "OraAcquisto")
	if when == nil {
		return nil, errors.New("it has no OraAcquisto")
	}
	at, ok := c.instant(strings.TrimSpace(when.Text))
	if !ok {
		return nil, errors.New("its OraAcquisto is no time")
	}
	roots, err := c.cfg.roots()
	if err != nil {
		return nil, fmt.Errorf("reading whose signatures count: %w", err)
	}
	signed, err := signature.Verify(b, signature.Trust{Roots: roots, At: at})
	if err != nil {
		return nil, err
	}
	// Only what was signed counts, read once more.
	if signed.Root.Name != (xml.Name{Space: stampSpace, Local: "marcaDaBollo"}) {
		return nil, errors.New("its root is not marcaDaBollo")
	}
	s := xml.In(signed.Root)
	psp := xml.In(s.Take(stampSpace, "PSP"))
	psp.Text(stampSpace, "CodiceFiscale", text(1, 200))
	psp.Text(stampSpace, "Denominazione", text(1, 200))
	m := &stamp{raw: bytes.Clone(b), iubd: s.Text(stampSpace, "IUBD", text(1, 140))}
	bought := s.Text(stampSpace, "OraAcquisto", dateTime)
	price := s.Text(stampSpace, "Importo", stampPrice.MatchString)
	s.Text(stampSpace, "TipoBollo", oneOf("01"))
	impronta := s.Take(stampSpace, "ImprontaDocumento")
	print := xml.In(impronta)
	if method := print.Take(stampSpace, "DigestMethod"); method != nil && method.Attr("Algorithm") != "http://www.w3.org/2001/04/xmlenc#sha256" {
		print.Failf("the digest is no SHA-256")
	}
	digest := print.Text(signature.Space, "DigestValue", base64Text)
	for _, err := range []error{psp.End(), print.End(), s.End()} {
		if err != nil {
			return nil, err
		}
	}
	sum, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(digest), ""))
	if err != nil || len(sum) != 32 {
		return nil, errors.New("its ImprontaDocumento is no SHA-256")
	}
	m.hash = hex.EncodeToString(sum)
	if m.bought, ok = c.instant(bought); !ok {
		return nil, errors.New("its OraAcquisto is no time")
	}
	whole, part, _ := strings.Cut(price, ".")
	if m.amount, ok = cents(whole + "." + (part + "00")[:2]); !ok {
		return nil, errors.New("its Importo is no amount")
	}
	return m, nil
}
