// Package taxcode reads and makes codici fiscali (DM 23 December 1976).
package taxcode

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// odd holds the values of characters in odd places (table of odd characters), for
// 0-9 and A-Z.
const odd = "\x01\x00\x05\x07\x09\x0d\x0f\x11\x13\x15" +
	"\x01\x00\x05\x07\x09\x0d\x0f\x11\x13\x15\x02\x04\x12\x14\x0b\x03\x06\x08\x0c\x0e\x10\x0a\x16\x19\x18\x17"

const (
	months   = "ABCDEHLMPRST"
	omocodia = "LMNPQRSTUV" // for 0-9, to tell namesakes apart (art. 6)
)

// digits are the places that omocodia replaces, in its order: from the right.
var digits = [...]int{14, 13, 12, 10, 9, 7, 6}

// Valid says whether s is a codice fiscale: 16 characters with a legal month, day
// and check character, also one whose digits were replaced by letters; or 11
// digits with a check digit (provisional codes and organisations).
func Valid(s string) bool {
	if len(s) == 11 {
		return validNumber(s)
	}
	plain, ok := Plain(s)
	if !ok || s[15] != check(s) {
		return false
	}
	day := int(plain[9]-'0')*10 + int(plain[10]-'0')
	if day > 40 {
		day -= 40
	}
	return strings.IndexByte(months, plain[8]) >= 0 && day >= 1 && day <= 31
}

// Plain is a 16-character code with the digits that omocodia took away, its check
// character left as it is; false if the characters are of the wrong kind.
func Plain(s string) (string, bool) {
	if len(s) != 16 {
		return "", false
	}
	plain := []byte(s)
	for i, c := range plain {
		letter := c >= 'A' && c <= 'Z'
		switch i {
		case 6, 7, 9, 10, 12, 13, 14:
			if at := strings.IndexByte(omocodia, c); at >= 0 {
				plain[i] = byte('0' + at)
			} else if c < '0' || c > '9' {
				return "", false
			}
		default:
			if !letter {
				return "", false
			}
		}
	}
	return string(plain), true
}

// check is the control character of the first 15, which are letters and digits.
func check(s string) byte {
	sum := 0
	for i := range 15 {
		c := s[i]
		v := int(c - '0')
		if c >= 'A' {
			v = int(c - 'A')
		}
		if i%2 == 1 { // the second, fourth ... character: an even place
			sum += v
			continue
		}
		if c >= 'A' {
			v += 10
		}
		sum += int(odd[v])
	}
	return byte('A' + sum%26)
}

// validNumber holds the check digit of the partita IVA and of 11-digit codes.
func validNumber(s string) bool {
	sum := 0
	for i := range 11 {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
		d := int(s[i] - '0')
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}

// Person is what a code is made of.
type Person struct {
	Surname, Name string
	Female        bool
	Born          time.Time // the date alone counts
	Place         string    // Belfiore code of the municipality, or Z and three digits of the foreign state
}

// Of makes a person's code.
func Of(p Person) (string, error) {
	if len(p.Place) != 4 {
		return "", fmt.Errorf("making a codice fiscale: the place %q is no Belfiore code such as L736", p.Place)
	}
	day := p.Born.Day()
	if p.Female {
		day += 40
	}
	s := surname(p.Surname) + name(p.Name) + fmt.Sprintf("%02d%c%02d%s", p.Born.Year()%100, months[p.Born.Month()-1], day, p.Place)
	if _, ok := Plain(s + "A"); !ok {
		return "", fmt.Errorf("making a codice fiscale: %q can't be one's first 15 characters", s)
	}
	return s + string(check(s)), nil
}

// Omocode is the code with its n rightmost digits replaced by letters, 0 to 7, as
// the tax office gives it to the (n+1)th namesake.
func Omocode(s string, n int) string {
	b := []byte(s)
	for _, at := range digits[:min(max(n, 0), len(digits))] {
		if c := b[at]; c >= '0' && c <= '9' {
			b[at] = omocodia[c-'0']
		}
	}
	b[15] = check(string(b))
	return string(b)
}

// letters splits a name into its consonants and vowels, accents taken away.
func letters(s string) (consonants, vowels string) {
	for _, c := range norm.NFD.String(strings.ToUpper(s)) {
		switch {
		case !unicode.IsLetter(c) || c > 'Z':
		case strings.ContainsRune("AEIOU", c):
			vowels += string(c)
		default:
			consonants += string(c)
		}
	}
	return consonants, vowels
}

func surname(s string) string {
	c, v := letters(s)
	return (c + v + "XXX")[:3]
}

// name takes the first, third and fourth consonant where there are four.
func name(s string) string {
	c, v := letters(s)
	if len(c) >= 4 {
		return c[:1] + c[2:4]
	}
	return (c + v + "XXX")[:3]
}
