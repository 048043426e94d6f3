package certificate

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/boombuler/barcode/qr"
	"github.com/go-pdf/fpdf"

	"github.com/dime-bus/dime/internal/document/typeface"
)

// Measures of the A4 page in millimetres. Draft and marks share the boxes.
const (
	left, right  = 20.0, 190.0
	width        = right - left
	stampTop     = 198.0
	stampHeight  = 26.0
	proofTop     = 232.0
	proofSide    = 34.0
	protocolLeft = 132.0
	bodyEnd      = 180.0
	dark         = 0x17324D
	blue         = 0x0066CC
	grey         = 0x455B71
	line         = 0xC5C7C9
)

type page struct{ *fpdf.Fpdf }

func newPage(at time.Time) page {
	p := page{fpdf.New("P", "mm", "A4", "")}
	p.SetCreationDate(at.UTC())
	p.SetModificationDate(at.UTC())
	p.SetCatalogSort(true)
	p.SetProducer("Dime", true)
	p.SetAutoPageBreak(false, 0)
	p.SetMargins(left, left, left)
	p.SetCellMargin(0)
	typeface.Add(p.Fpdf)
	p.AddPage()
	return p
}

func (p page) bytes() ([]byte, error) {
	var b bytes.Buffer
	if err := p.Output(&b); err != nil {
		return nil, fmt.Errorf("laying out a certificate: %w", err)
	}
	return b.Bytes(), nil
}

func (p page) pen(style string, size float64, rgb int) {
	p.SetFont(typeface.Name, style, size)
	p.SetTextColor(rgb>>16, rgb>>8&0xff, rgb&0xff)
}

// text writes lines from y on and returns where they end.
func (p page) text(x, y, w, height float64, s string) float64 {
	p.SetXY(x, y)
	p.MultiCell(w, height, s, "", "L", false)
	return p.GetY()
}

func (p page) rule(y float64, rgb int, thick float64) {
	p.SetDrawColor(rgb>>16, rgb>>8&0xff, rgb&0xff)
	p.SetLineWidth(thick)
	p.Line(left, y, right, y)
}

func (p page) box(x, y, w, h float64) {
	p.SetDrawColor(line>>16, line>>8&0xff, line&0xff)
	p.SetFillColor(0xF5, 0xF8, 0xFB)
	p.SetLineWidth(0.25)
	p.Rect(x, y, w, h, "FD")
}

// PDF lays the draft out.
func (d Draft) PDF() ([]byte, error) {
	rows, err := Rows(d.Content)
	if err != nil {
		return nil, err
	}
	members, err := Members(d.Content)
	if err != nil {
		return nil, err
	}
	k, _ := kindOf(d.Content.Kind)
	p := newPage(d.At)
	p.SetTitle(k.title.it+" - "+d.City.Name, true)
	p.SetAuthor(d.City.Name, true)
	p.SetLang("it-IT")
	p.head(d, k)
	y := p.body(k, rows)
	if y > bodyEnd {
		return nil, invalid("/data", "its texts are too long for the page")
	}
	if err := p.foot(d); err != nil {
		return nil, err
	}
	if k.family { // last: only the newest sheet can be written on
		p.family(d, members, y)
	}
	return p.bytes()
}

func (p page) head(d Draft, k kind) {
	p.SetFillColor(blue>>16, blue>>8&0xff, blue&0xff)
	p.Rect(0, 0, 210, 5, "F")
	p.pen("B", 19, dark)
	p.text(left, 14, protocolLeft-left-4, 8, d.City.Name)
	p.pen("", 10.5, grey)
	p.text(left, p.GetY()+0.5, protocolLeft-left-4, 5, d.City.Office)
	p.box(protocolLeft, 14, right-protocolLeft, 18)
	p.rule(38, blue, 0.6)
	p.pen("B", 24, dark)
	y := p.text(left, 45, width, 10, k.title.it)
	if k.title.en != "" {
		p.pen("", 13, grey)
		y = p.text(left, y+0.5, width, 6, k.title.en)
	}
	p.pen("", 9, grey)
	p.text(left, y+1, width, 4.5, "D.P.R. 30 maggio 1989, n. 223, art. 33")
}

func (p page) body(k kind, rows []Row) float64 {
	p.pen("", 11, dark)
	y := p.text(left, p.GetY()+4, width, 5.4, k.statement.it)
	if k.statement.en != "" {
		p.pen("", 9, grey)
		y = p.text(left, y+1, width, 4.4, k.statement.en)
	}
	y += 4
	for _, r := range rows {
		p.rule(y, line, 0.2)
		p.pen("", 9.5, dark)
		label := y + 1.6
		if r.English == "" { // alone, it stands beside the value
			label = y + 3
		}
		p.text(left, label, 52, 4.4, r.Label)
		if r.English != "" {
			p.pen("", 8, grey)
			p.text(left, y+5.8, 52, 3.6, r.English)
		}
		size, high := 12.0, 5.4
		if len(r.Value) > 90 {
			size, high = 9, 4.2
		}
		p.pen("B", size, dark)
		y = max(p.text(left+55, y+2, width-55, high, r.Value)+2, y+10.5)
	}
	p.rule(y, line, 0.2)
	return y
}

// family prints the members, on as many sheets as they need.
func (p page) family(d Draft, members []Member, y float64) {
	head := func(y float64) float64 {
		p.pen("B", 9, grey)
		p.text(left, y+2, 66, 4.5, "Componente")
		p.text(left+68, y+2, 62, 4.5, "Nascita")
		p.text(left+132, y+2, 38, 4.5, "Relazione")
		p.rule(y+8, blue, 0.4)
		return y + 8
	}
	end, sheet := bodyEnd, 1
	y = head(y + 2)
	for _, m := range members {
		p.pen("", 9.5, dark)
		lines := 1
		for i, s := range []string{m.Name, m.Birth, m.Relation} {
			lines = max(lines, len(p.SplitText(s, []float64{66, 62, 38}[i])))
		}
		high := float64(lines)*4.4 + 2.6
		if y+high > end {
			p.pen("", 9, grey)
			p.text(left, y+1, width, 4.4, "(segue)")
			p.AddPage()
			sheet++
			p.pen("", 9, grey)
			p.text(left, 12, width, 4.4, fmt.Sprintf("%s - foglio %d - segue da %s", d.City.Name, sheet, d.VerifyURL))
			y, end = head(20), 275
		}
		p.pen("B", 9.5, dark)
		p.text(left, y+1.3, 66, 4.4, m.Name)
		p.pen("", 9.5, dark)
		p.text(left+68, y+1.3, 62, 4.4, m.Birth)
		p.text(left+132, y+1.3, 38, 4.4, m.Relation)
		y += high
		p.rule(y, line, 0.2)
	}
}

// notice is what art. 40, par. 02 and art. 41, par. 1 of D.P.R. 445/2000 make a
// certificate say: without the first sentence it is void.
const notice = "Il presente certificato non può essere prodotto agli organi della pubblica amministrazione o ai privati gestori di pubblici servizi " +
	"(D.P.R. 28 dicembre 2000, n. 445, art. 40). Ha validità di sei mesi dalla data di rilascio, salvo che norme speciali prevedano una validità superiore (art. 41)."

func (p page) foot(d Draft) error {
	p.pen("", 8.5, dark)
	p.text(left, stampTop-14, width, 4.2, notice)
	p.box(left, stampTop, width, stampHeight)
	p.pen("B", 9, grey)
	p.text(left+4, stampTop+2, width-8, 5, "Imposta di bollo")
	if d.Content.Exemption != "" {
		norm, ok := Exemption(d.Content.Exemption)
		if !ok {
			return invalid("/exemption", "no norm of this key frees from stamp duty")
		}
		p.pen("B", 11, dark)
		p.text(left+4, stampTop+8, width-8, 5.5, "Esente dall'imposta di bollo")
		p.pen("", 10, dark)
		p.text(left+4, stampTop+14, width-8, 5, "D.P.R. 26 ottobre 1972, n. 642, tabella allegato B, "+norm)
	}
	if err := p.code(d.VerifyURL, left, proofTop, proofSide); err != nil {
		return err
	}
	x, w := left+proofSide+7, width-proofSide-7
	p.pen("B", 11, dark)
	y := p.text(x, proofTop+1, w, 5.2, "Verifica questo documento")
	p.pen("", 9, dark)
	y = p.text(x, y+0.8, w, 4.4, "Inquadra il codice o apri l'indirizzo: la pagina pubblica del Comune dice se il documento è valido o ritirato (D.Lgs. 82/2005, art. 23, comma 2-bis).")
	p.pen("B", 8.6, blue)
	p.text(x, y+1.2, w, 4.4, d.VerifyURL)
	p.LinkString(left, proofTop, width, p.GetY()-proofTop+1, d.VerifyURL)
	p.pen("", 8, grey)
	p.text(x, p.GetY()+1.2, w, 3.9, "Documento informatico con sigillo elettronico del Comune (Reg. (UE) 910/2014, art. 35; PAdES, ETSI EN 319 142-1). La copia stampata non porta il sigillo: fa fede la verifica.")
	p.rule(276, line, 0.2)
	p.pen("", 8, grey)
	p.text(left, 278, width, 4, d.City.Name+" - "+d.City.Office)
	return nil
}

// code draws the QR code as squares: sharp at any size.
func (p page) code(text string, x, y, side float64) error {
	code, err := qr.Encode(text, qr.M, qr.Unicode)
	if err != nil {
		return fmt.Errorf("drawing the QR code: %w", err)
	}
	n := code.Bounds().Dx()
	unit := side / float64(n)
	p.SetFillColor(0, 0, 0)
	for row := range n {
		for col := 0; col < n; {
			run := 0
			for col+run < n && black(code.At(col+run, row).RGBA()) {
				run++
			}
			if run > 0 {
				p.Rect(x+float64(col)*unit, y+float64(row)*unit, float64(run)*unit, unit, "F")
			}
			col += max(run, 1)
		}
	}
	return nil
}

func black(r, _, _, _ uint32) bool { return r < 0x8000 }

// PDF is the page of marks, to be laid over the draft's first.
func (m Marks) PDF() ([]byte, error) {
	p := newPage(m.At)
	p.pen("", 8.5, grey)
	p.text(protocolLeft+3, 15.5, right-protocolLeft-6, 4, "Protocollo n.")
	p.pen("B", 12, dark)
	p.text(protocolLeft+3, 19.5, right-protocolLeft-6, 5.5, m.Protocol)
	p.pen("", 9.5, dark)
	p.text(protocolLeft+3, 25.5, right-protocolLeft-6, 4.5, "rilasciato il "+m.City.day(m.At))
	if s := m.Stamp; s != nil {
		p.pen("B", 11, dark)
		p.text(left+4, stampTop+7, 70, 5.5, "Marca da bollo digitale")
		p.text(left+84, stampTop+7, 82, 5.5, "EUR "+euro(s.AmountCent))
		p.pen("", 9.5, dark)
		p.text(left+4, stampTop+13, 70, 4.5, "IUBD "+s.IUBD)
		p.text(left+84, stampTop+13, 82, 4.5, "acquistata il "+m.City.in(s.Bought).Format("02/01/2006 alle 15:04:05"))
		p.pen("", 8, grey)
		p.text(left+4, stampTop+18.5, width-8, 3.9, fmt.Sprintf("Impronta SHA-256 del documento: %x", s.SHA256))
	}
	return p.bytes()
}

// euro writes an amount as Italians do.
func euro(cents int64) string {
	whole := fmt.Sprint(cents / 100)
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "." + whole[i:]
	}
	return strings.Join([]string{whole, fmt.Sprintf("%02d", cents%100)}, ",")
}
