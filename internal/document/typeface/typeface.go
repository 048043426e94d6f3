// Package typeface is Titillium Web for the documents that are laid out: with
// Latin's letters of all of Europe, so that everybody's name is printed whole.
package typeface

import (
	"bytes"
	_ "embed"

	"github.com/go-pdf/fpdf"
)

//go:embed titillium-web-regular.ttf
var regular []byte

//go:embed titillium-web-700.ttf
var bold []byte

// Name is the family's, for SetFont; it has the styles "" and "B".
const Name = "titillium"

// Add gives the family to a document.
func Add(p *fpdf.Fpdf) {
	// The document keeps what it is given; the fonts are the program's own.
	p.AddUTF8FontFromBytes(Name, "", bytes.Clone(regular))
	p.AddUTF8FontFromBytes(Name, "B", bytes.Clone(bold))
}
