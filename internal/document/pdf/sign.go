package pdf

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"time"
	"unicode/utf16"
)

// Signature is what the signature dictionary says (ISO 32000-1, 12.8.1). The
// instant stands here as M: PAdES forbids the signing-time attribute in the CMS
// (ETSI EN 319 142-1, 6.3).
type Signature struct {
	Name, Reason, Location string
	At                     time.Time
	Size                   int // bytes kept free for the CMS
}

var linkArray = regexp.MustCompile(`(?s)/Annots \[(<</Type /Annot .*?>>)\]\n`)

const digits10 = "          "

// Sign appends an invisible signature field whose CMS sign makes of the digest of
// all bytes but its own.
func Sign(base []byte, s Signature, sign func(digest [32]byte) ([]byte, error)) ([]byte, error) {
	f, err := Read(base)
	if err != nil {
		return nil, err
	}
	root, err := f.Object(f.root)
	if err != nil {
		return nil, err
	}
	page, err := f.Object(pageNumber)
	if err != nil {
		return nil, err
	}
	if bytes.Contains(root.Dict, []byte("/AcroForm")) {
		return nil, errors.New("signing a PDF: it has a form already")
	}
	inner, ok := bytes.CutSuffix(bytes.TrimSpace(root.Dict), []byte(">>"))
	if !ok {
		return nil, errors.New("signing a PDF: its catalog is malformed")
	}
	field, value := f.size, f.size+1
	m := linkArray.FindSubmatch(page.Dict)
	if m == nil || bytes.Count(m[1], []byte("/Type /Annot ")) != 1 {
		return nil, errors.New("signing a PDF: its first page has not exactly one link")
	}
	// Annots holds references (ISO 32000-1, table 30); fpdf wrote the link in place.
	link := f.size + 2
	annots := bytes.Replace(page.Dict, m[0], fmt.Appendf(nil, "/Annots [%d 0 R %d 0 R]\n", field, link), 1)
	var dict bytes.Buffer
	fmt.Fprintf(&dict, "<</Type /Sig /Filter /Adobe.PPKLite /SubFilter /ETSI.CAdES.detached\n/M (D:%sZ)\n/Name %s\n/Reason %s\n/Location %s\n",
		s.At.UTC().Format("20060102150405"), text(s.Name), text(s.Reason), text(s.Location))
	fmt.Fprintf(&dict, "/ByteRange [0 %s %s %s]\n/Contents <%s>>>", digits10, digits10, digits10, bytes.Repeat([]byte("0"), 2*s.Size))
	out := f.Append(map[int]Object{
		f.root:     {Dict: fmt.Appendf(nil, "%s/AcroForm <</Fields [%d 0 R] /SigFlags 3>>\n>>", inner, field)},
		pageNumber: {Dict: annots},
		// F 132: printed and locked (ISO 32000-1, 12.5.3).
		field: {Dict: fmt.Appendf(nil, "<</Type /Annot /Subtype /Widget /FT /Sig /T (Sigillo) /Rect [0 0 0 0] /F 132 /P %d 0 R /V %d 0 R>>", pageNumber, value)},
		link:  {Dict: m[1]},
		value: {Dict: dict.Bytes()},
	})
	at := len(base) + bytes.Index(out[len(base):], []byte("/Contents <0"))
	from := at + len("/Contents ")
	to := from + 2*s.Size + 2
	ranges := fmt.Appendf(nil, "/ByteRange [0 %-10d %-10d %-10d]", from, to, len(out)-to)
	copy(out[at-1-len(ranges):], ranges)
	h := sha256.New()
	h.Write(out[:from])
	h.Write(out[to:])
	cms, err := sign([32]byte(h.Sum(nil)))
	if err != nil {
		return nil, fmt.Errorf("signing a PDF: %w", err)
	}
	if len(cms) > s.Size {
		return nil, fmt.Errorf("signing a PDF: the signature has %d bytes, %d were kept free", len(cms), s.Size)
	}
	hex.Encode(out[from+1:], cms)
	return out, nil
}

// text is a text string in UTF-16 (ISO 32000-1, 7.9.2.2), in hex so that nothing
// in it has to be escaped.
func text(s string) string {
	b := []byte{0xFE, 0xFF}
	for _, u := range utf16.Encode([]rune(s)) {
		b = append(b, byte(u>>8), byte(u))
	}
	return fmt.Sprintf("<%x>", b)
}
