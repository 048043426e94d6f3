// Package notice prints the avviso di pagamento of pagoPA: one A4 page with what
// a person reads, the QR code that a counter scans, and the numbers to type. It
// follows the order and the words of the official model ("Avviso di pagamento
// analogico", documentation for creditors); the official logo is not free and is
// not used.
package notice

import (
	"bytes"
	"errors"
	"fmt"
	"image/png"
	"strings"
	"time"

	"github.com/boombuler/barcode"
	"github.com/boombuler/barcode/qr"
	"github.com/go-pdf/fpdf"

	"github.com/dime-bus/dime/internal/document/typeface"
)

// Notice is what is printed.
type Notice struct {
	Creditor     string // name of the ente creditore
	Office       string
	CreditorCode string // its codice fiscale, 11 digits
	CBILL        string // "" prints none
	Payer        string
	PayerCode    string
	Subject      string
	Number       string // 18 digits
	AmountCent   int
	Due          time.Time // the day
}

// Code is the text of the QR code (SACI, "QR-Code pagoPA"): a version of its own,
// the notice number, the creditor and the amount in cents.
func (n Notice) Code() (string, error) {
	switch {
	case !digits(n.Number, 18):
		return "", errors.New("printing a notice: the notice number is not 18 digits")
	case !digits(n.CreditorCode, 11):
		return "", errors.New("printing a notice: the creditor's code is not 11 digits")
	case n.AmountCent < 1 || n.AmountCent > 99_999_999_999:
		return "", errors.New("printing a notice: the amount is not 1 cent to 999,999,999.99 euro")
	}
	return fmt.Sprintf("PAGOPA|002|%s|%s|%02d", n.Number, n.CreditorCode, n.AmountCent), nil
}

func digits(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0123456789") == ""
}

// PNG is the QR code: error correction M, version 4, each module some pixels wide.
func (n Notice) PNG() ([]byte, error) {
	text, err := n.Code()
	if err != nil {
		return nil, err
	}
	code, err := qr.Encode(text, qr.M, qr.Unicode) // bytes: what the model asks for
	if err != nil {
		return nil, fmt.Errorf("drawing the QR code: %w", err)
	}
	if side := code.Bounds().Dx(); side != 33 {
		return nil, fmt.Errorf("drawing the QR code: it has %d modules a side, version 4 has 33", side)
	}
	code, err = barcode.Scale(code, 33*8, 33*8)
	if err != nil {
		return nil, fmt.Errorf("drawing the QR code: %w", err)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, code); err != nil {
		return nil, fmt.Errorf("drawing the QR code: %w", err)
	}
	return b.Bytes(), nil
}

// page is the pen, with the model's measures.
type page struct{ *fpdf.Fpdf }

const (
	left  = 12.0
	width = 186.0
	blue  = 0x0066CC
)

func (p page) colour(rgb int) { p.SetTextColor(rgb>>16, rgb>>8&0xff, rgb&0xff) }

func (p page) at(x, y float64, style string, size float64, s string) {
	p.SetFont(typeface.Name, style, size)
	p.Text(x, y, s)
}

// end writes s so that it ends at x.
func (p page) end(x, y, size float64, s string) {
	p.SetFont(typeface.Name, "", size)
	p.Text(x-p.GetStringWidth(s), y, s)
}

// fit writes s in a cell, smaller where it would not fit, in as many lines as the
// height has.
func (p page) fit(x, y, w, h float64, style string, size float64, s string) {
	line := func(size float64) float64 { return size * 0.43 }
	for ; size > 6; size -= 0.5 {
		p.SetFont(typeface.Name, style, size)
		if float64(len(p.SplitText(s, w)))*line(size) <= h {
			break
		}
	}
	p.SetFont(typeface.Name, style, size)
	p.SetXY(x, y)
	p.MultiCell(w, line(size), s, "", "L", false)
}

// PDF prints it. The same notice gives the same bytes.
func PDF(n Notice) ([]byte, error) {
	image, err := n.PNG()
	if err != nil {
		return nil, err
	}
	doc := fpdf.New("P", "mm", "A4", "")
	doc.SetCreationDate(n.Due)
	doc.SetModificationDate(n.Due)
	doc.SetCatalogSort(true)
	doc.SetTitle("Avviso di pagamento "+n.Number, true)
	doc.SetAuthor(n.Creditor, true)
	doc.SetLang("it-IT")
	doc.SetAutoPageBreak(false, 0)
	doc.SetMargins(left, left, left)
	doc.SetCellMargin(0)
	typeface.Add(doc)
	doc.AddPage()
	p := page{doc}
	p.head(n)
	p.amount(n)
	p.slip(n, image)
	var b bytes.Buffer
	if err := doc.Output(&b); err != nil {
		return nil, fmt.Errorf("printing a notice: %w", err)
	}
	return b.Bytes(), nil
}

func (p page) head(n Notice) {
	p.colour(blue)
	p.at(left, 20, "B", 20, "pagoPA")
	p.colour(0)
	p.at(left+30, 20, "B", 14, "AVVISO DI PAGAMENTO")
	p.SetDrawColor(0x00, 0x66, 0xcc)
	p.SetLineWidth(0.6)
	p.Line(left, 24, left+width, 24)
	p.fit(left, 29, width, 14, "B", 13, n.Subject)
	p.SetFillColor(0xf2, 0xf6, 0xfb)
	p.Rect(left, 48, width/2-3, 36, "F")
	p.Rect(left+width/2+3, 48, width/2-3, 36, "F")
	x, w := left+4, width/2-11
	p.at(x, 54, "B", 8, "ENTE CREDITORE")
	p.end(x+w, 54, 8, "Cod. Fiscale "+n.CreditorCode)
	p.fit(x, 58, w, 12, "B", 11, n.Creditor)
	p.fit(x, p.GetY()+1.5, w, 10, "", 9, n.Office)
	x = left + width/2 + 7
	p.at(x, 54, "B", 8, "DESTINATARIO AVVISO")
	p.end(x+w, 54, 8, "Cod. Fiscale "+n.PayerCode)
	p.fit(x, 58, w, 18, "B", 11, n.Payer)
}

func (p page) amount(n Notice) {
	p.colour(blue)
	p.at(left, 98, "B", 12, "QUANTO E QUANDO PAGARE?")
	p.at(left+width/2+3, 98, "B", 12, "DOVE PAGARE?")
	p.colour(0)
	p.at(left, 110, "B", 22, euro(n.AmountCent)+" Euro")
	p.at(left, 118, "", 10, "entro il")
	p.at(left+14, 118, "B", 14, n.Due.Format("02/01/2006"))
	p.fit(left, 124, width/2-8, 30, "", 9,
		"Puoi pagare con una unica rata. L'importo è aggiornato automaticamente dal sistema e potrebbe subire variazioni "+
			"per eventuali sgravi, note di credito, indennità di mora, sanzioni o interessi. Un operatore, il sito o l'app che userai "+
			"ti potrebbero quindi chiedere una cifra diversa da quella qui indicata.")
	x, w := left+width/2+3, width/2-3
	p.at(x, 106, "B", 9.5, "PAGA SUL SITO O CON LE APP")
	p.fit(x, 109, w, 16, "", 9, "del tuo Ente Creditore, della tua Banca o degli altri canali di pagamento, anche con l'app IO. "+
		"Potrai pagare con carte, conto corrente, CBILL.")
	p.at(x, 129, "B", 9.5, "PAGA SUL TERRITORIO")
	p.fit(x, 132, w, 16, "", 9, "in tutte le Banche, negli Uffici Postali, dai Tabaccai, ai Bancomat, ai Supermercati e presso gli altri "+
		"prestatori aderenti. Potrai pagare in contanti, con carte o conto corrente.")
	p.fit(left, 158, width, 10, "", 9, "Utilizza la porzione di avviso relativa al canale di pagamento che preferisci. "+
		"L'elenco dei prestatori aderenti è su www.pagopa.gov.it.")
}

func (p page) slip(n Notice, image []byte) {
	const top = 176.0
	p.SetDrawColor(0x59, 0x59, 0x59)
	p.SetLineWidth(0.2)
	p.SetDashPattern([]float64{1, 1}, 0)
	p.Line(left, top-4, left+width, top-4)
	p.SetDashPattern(nil, 0)
	p.colour(blue)
	p.at(left, top+4, "B", 12, "BANCHE E ALTRI CANALI")
	p.colour(0)
	p.at(left+width/2+3, top+4, "B", 10, "RATA UNICA entro il "+n.Due.Format("02/01/2006"))
	codes := "il codice QR"
	if n.CBILL != "" {
		codes += " e il codice CBILL"
	}
	p.fit(left, top+8, 58, 24, "", 9, "Qui accanto trovi "+codes+" per pagare attraverso il circuito bancario e gli altri canali di pagamento abilitati.")
	p.RegisterImageOptionsReader("qr", fpdf.ImageOptions{ImageType: "PNG"}, bytes.NewReader(image))
	p.ImageOptions("qr", left+64, top+10, 30, 30, false, fpdf.ImageOptions{ImageType: "PNG"}, 0, "")
	x, w := left+102, width-102
	row := func(y float64, label, value, style string, size float64) {
		p.at(x, y, "", 8, label)
		p.fit(x, y+1.5, w, 8, style, size, value)
	}
	p.at(x, top+14, "B", 13, "Euro "+euro(n.AmountCent))
	row(top+20, "Destinatario", n.Payer, "B", 9.5)
	row(top+32, "Ente Creditore", n.Creditor, "B", 9.5)
	row(top+44, "Oggetto del pagamento", n.Subject, "B", 9)
	row(top+57, "Codice Avviso", grouped(n.Number), "B", 11)
	p.at(left, top+57, "", 8, "Cod. Fiscale Ente Creditore")
	p.at(left, top+62.3, "B", 11, n.CreditorCode)
	if n.CBILL != "" {
		p.at(left+64, top+57, "", 8, "Codice CBILL")
		p.at(left+64, top+62.3, "B", 11, n.CBILL)
	}
}

// grouped writes the notice number as the model does: four and four.
func grouped(s string) string {
	var b strings.Builder
	for i, r := range s {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// euro writes an amount as Italians do.
func euro(cents int) string {
	whole := fmt.Sprint(cents / 100)
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "." + whole[i:]
	}
	return fmt.Sprintf("%s,%02d", whole, cents%100)
}
