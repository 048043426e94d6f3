package pagopa

import (
	"crypto/rand"
	"fmt"
	"math/big"
)

// auxDigit 3: the notice number is the creditor's own, under a segregation code
// (SACI 3.2, numero avviso).
const auxDigit = "3"

// checkDigits are the remainder modulo 93 of aux digit, segregation code and base
// (SACI 3.2, codice IUV).
func checkDigits(first16 string) string {
	n := 0
	for _, c := range first16 {
		n = (n*10 + int(c-'0')) % 93
	}
	return fmt.Sprintf("%02d", n)
}

// newIUV makes a number at random: 17 digits, two of segregation, 13 of base, two
// of check. Counting would tell whoever holds one notice the numbers of others.
func newIUV(segregation string) (string, error) {
	n, err := rand.Int(rand.Reader, big.NewInt(1e13))
	if err != nil {
		return "", fmt.Errorf("drawing a notice number: %w", err)
	}
	base := fmt.Sprintf("%s%013d", segregation, n)
	return base + checkDigits(auxDigit+base), nil
}

// iuvOf is the IUV of a notice number of ours, "" where it can't be one.
func iuvOf(notice, segregation string) string {
	if len(notice) != 18 || !digits(notice) || notice[:3] != auxDigit+segregation || notice[16:] != checkDigits(notice[:16]) {
		return ""
	}
	return notice[1:]
}

func digits(s string) bool {
	for _, c := range s {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != ""
}

// euros writes cents as the SOAP messages do (stAmount).
func euros(cents int) string { return fmt.Sprintf("%d.%02d", cents/100, cents%100) }
