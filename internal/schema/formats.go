package schema

import "strings"

// odd holds the values of characters in odd places of a codice fiscale (DM
// 23/12/1976, table of odd characters), for 0-9 and A-Z.
const odd = "\x01\x00\x05\x07\x09\x0d\x0f\x11\x13\x15" +
	"\x01\x00\x05\x07\x09\x0d\x0f\x11\x13\x15\x02\x04\x12\x14\x0b\x03\x06\x08\x0c\x0e\x10\x0a\x16\x19\x18\x17"

// TaxCodeValid says whether s is a codice fiscale: 16 characters with a legal
// month, day and check character, also one whose digits were replaced by letters
// to tell namesakes apart (omocodia, DM 23/12/1976 art. 6); or 11 digits with a
// check digit (provisional codes and organisations).
func TaxCodeValid(s string) bool {
	if len(s) == 11 {
		return vatCheck(s)
	}
	if len(s) != 16 {
		return false
	}
	sum := 0
	var plain [16]byte
	for i := range 16 {
		c := s[i]
		letter := c >= 'A' && c <= 'Z'
		digit := c >= '0' && c <= '9'
		switch i {
		case 6, 7, 9, 10, 12, 13, 14:
			if letter {
				at := strings.IndexByte("LMNPQRSTUV", c)
				if at < 0 {
					return false
				}
				plain[i] = byte('0' + at)
			} else if digit {
				plain[i] = c
			} else {
				return false
			}
		default:
			if !letter {
				return false
			}
			plain[i] = c
		}
		if i == 15 {
			break
		}
		v := int(c - '0')
		if letter {
			v = int(c - 'A')
		}
		if i%2 == 1 { // the second, fourth ... character: an even place
			sum += v
			continue
		}
		if letter {
			v += 10
		}
		sum += int(odd[v])
	}
	day := int(plain[9]-'0')*10 + int(plain[10]-'0')
	if day > 40 {
		day -= 40
	}
	if strings.IndexByte("ABCDEHLMPRST", plain[8]) < 0 || day < 1 || day > 31 {
		return false
	}
	return s[15] == byte('A'+sum%26)
}

// vatCheck is the check digit of the partita IVA and of 11-digit codes.
func vatCheck(s string) bool {
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

// IUVValid says whether s is a pagoPA notice number (18 digits that begin with
// 3) or its IUV (the 17 digits behind the 3): the last two digits are the first
// 16 of the notice number modulo 93 (SACI 3.2, aux digit 3).
func IUVValid(s string) bool {
	if len(s) == 17 {
		s = "3" + s
	}
	if len(s) != 18 || s[0] != '3' {
		return false
	}
	n := 0
	for i := range 16 {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
		n = n*10 + int(s[i]-'0')
	}
	check := n % 93
	return s[16] == byte('0'+check/10) && s[17] == byte('0'+check%10)
}
